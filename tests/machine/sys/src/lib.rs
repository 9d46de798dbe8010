//! Windows kernel and KMDF types, generated from the headers the driver is built with.
//!
//! Names, layouts and prototypes are those of Windows x64: `IRP`, `DMA_OPERATIONS`, `WDF_DMA_ENABLER_CONFIG`,
//! `PFN_WDFDMAENABLERCREATE`, ... Functions follow the `"win64"` convention. As in `wdk-sys`, an enumeration is a module
//! of constants named after its tag (`_WDF_DMA_PROFILE::WdfDmaProfilePacket`, of type `_WDF_DMA_PROFILE::Type`) with an
//! alias for the type (`WDF_DMA_PROFILE`).
//!
//! The declared kernel routines (`nt_sys::KeSetEvent`) have no definition here: they exist so that an implementation's
//! type can be checked against them.

pub mod ctypes;
pub mod inline;
#[cfg(test)]
mod tests;

#[allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unsafe_op_in_unsafe_fn,
    unnecessary_transmutes,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block
)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
    include!(concat!(env!("OUT_DIR"), "/constants.rs"));
}

pub use bindings::*;

static DDI_NAMES: [(&str, usize); WDF_FUNCTION_COUNT] =
    include!(concat!(env!("OUT_DIR"), "/ddi_names.rs"));

/// Entries of the function table of KMDF 1.33.
pub const WDF_FUNCTION_COUNT: usize = _WDFFUNCENUM::WdfFunctionTableNumEntries as usize;

/// The name and index of every entry of the framework's function table, in table order.
pub fn ddi_names() -> &'static [(&'static str, usize)] {
    &DDI_NAMES
}

/// Whether `status` is a success or informational code (`NT_SUCCESS`).
#[must_use]
pub const fn nt_success(status: NTSTATUS) -> bool {
    status >= 0
}

impl GUID {
    /// The GUID of the 128-bit number that its usual notation spells, as in
    /// `GUID::from_u128(0x49215dff_f5ac_4901_8588_ab3d540f6021)`.
    #[must_use]
    pub const fn from_u128(value: u128) -> Self {
        Self {
            Data1: (value >> 96) as u32,
            Data2: (value >> 80) as u16,
            Data3: (value >> 64) as u16,
            Data4: (value as u64).to_be_bytes(),
        }
    }
}

/// The structure whose field a pointer points to (`CONTAINING_RECORD`).
///
/// Takes a pointer to the field, the structure's type and the field's name; must be used where the pointer is known to
/// point to that field of such a structure.
#[macro_export]
macro_rules! containing_record {
    ($pointer:expr, $type:ty, $($field:tt)+) => {
        $pointer.cast::<u8>().wrapping_sub(::core::mem::offset_of!($type, $($field)+)).cast::<$type>()
    };
}
