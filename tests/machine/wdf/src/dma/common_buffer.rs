//! WDFCOMMONBUFFER (`fxcommonbuffer.cpp`, `fxcommonbufferapi.cpp`).

use std::sync::Arc;

use super::adapter::CommonMemory;
use super::enabler::DmaEnabler;
use super::geometry::PAGE;
use crate::flat::*;
use crate::globals::DriverGlobals;
use crate::lock::Record;
use crate::object::attributes::Rules;
use crate::object::{self, Attributes, Header, Kind, Object, Parent, Typed, handle};
use crate::{trace, verifier};

/// Memory that device and processor share.
pub(crate) struct CommonBuffer {
    header: Header,
    enabler: Arc<DmaEnabler>,
    length: usize,
    raw_length: u32,
    raw: Record<Option<CommonMemory>>,
    address: usize,
    logical: i64,
}

// SAFETY: the addresses are those of memory made for sharing; only the owner frees it.
unsafe impl Send for CommonBuffer {}
// SAFETY: as above.
unsafe impl Sync for CommonBuffer {}

impl Object for CommonBuffer {
    fn header(&self) -> &Header {
        &self.header
    }

    fn dispose(&self) {
        if let (Some(memory), Some(adapter)) =
            (self.raw.with(Option::take), self.enabler.adapter(false))
        {
            adapter.free_common(memory, self.raw_length);
        }
    }

    fn dump(&self) -> Vec<String> {
        vec![format!(
            "address {:#x}, logical {:#x}, length {:#x}",
            self.address, self.logical, self.length
        )]
    }
}

impl Typed for CommonBuffer {
    const KIND: Kind = Kind::CommonBuffer;
}

/// What must be allocated so that `length` bytes can be aligned to `mask`: within a page nothing more.
fn raw_length(length: usize, mask: u32) -> Option<u32> {
    let extra = if (mask as usize) < PAGE {
        0
    } else {
        mask as usize
    };
    u32::try_from(length.checked_add(extra)?).ok()
}

/// How far the aligned logical address is from the raw one: only that one is aligned, beyond a page.
fn shift(logical: i64, mask: u32) -> i64 {
    if (mask as usize) < PAGE {
        return 0;
    }
    let mask = i64::from(mask);
    ((logical + mask) & !mask) - logical
}

fn create(
    enabler: &Arc<DmaEnabler>,
    length: usize,
    mask: u32,
    attributes: Option<&Attributes>,
) -> Result<WDFCOMMONBUFFER, NTSTATUS> {
    let globals = enabler.globals();
    if length == 0 {
        return Err(STATUS_INVALID_PARAMETER);
    }
    let Some(adapter) = enabler.adapter(false) else {
        verifier::access_violation(
            globals,
            "the enabler has no adapter: its system profile is not configured",
        )
    };
    let raw_length = raw_length(length, mask).ok_or(STATUS_INSUFFICIENT_RESOURCES)?;
    let memory = adapter
        .allocate_common(raw_length)
        .ok_or(STATUS_INSUFFICIENT_RESOURCES)
        .inspect_err(|_| {
            trace::error(
                globals,
                &format!("the HAL has no common buffer of {raw_length:#x} bytes"),
            );
        })?;
    let shift = shift(memory.logical, mask);
    let buffer = Arc::new(CommonBuffer {
        header: Header::new(Kind::CommonBuffer, globals),
        enabler: enabler.clone(),
        length,
        raw_length,
        raw: Record::new(Some(memory)),
        address: (memory.address as usize).wrapping_add_signed(shift as isize),
        logical: memory.logical + shift,
    });
    match object::commit(&buffer, attributes, Parent::Object(enabler.clone())) {
        Ok(value) => Ok(value as WDFCOMMONBUFFER),
        Err(status) => {
            buffer.dispose();
            Err(status)
        }
    }
}

/// Common part of both creating DDIs.
///
/// # Safety
/// `attributes` is null or the driver's structure, `place` null or the driver's variable.
unsafe fn create_checked(
    enabler: &Arc<DmaEnabler>,
    length: usize,
    mask: u32,
    attributes: PWDF_OBJECT_ATTRIBUTES,
    place: *mut WDFCOMMONBUFFER,
) -> NTSTATUS {
    let globals = enabler.globals();
    verifier::not_null(globals, place, "CommonBufferHandle");
    // SAFETY: checked not to be null.
    unsafe { place.write(std::ptr::null_mut()) };
    if let Err(status) = verifier::check_irql(globals, PASSIVE_LEVEL) {
        return status;
    }
    // SAFETY: the caller's promise.
    let attributes = unsafe { Attributes::check(globals, attributes, Rules::NO_PARENT) };
    match attributes.and_then(|attributes| create(enabler, length, mask, attributes.as_ref())) {
        Ok(value) => {
            // SAFETY: checked not to be null.
            unsafe { place.write(value) };
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

/// Allocates a common buffer with the enabler's alignment; parent: the enabler. `PASSIVE_LEVEL`.
///
/// Errors: those of the attributes (no parent), `STATUS_INVALID_PARAMETER` (no length), `STATUS_INSUFFICIENT_RESOURCES`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfCommonBufferCreate(
    globals: PWDF_DRIVER_GLOBALS,
    enabler: WDFDMAENABLER,
    length: usize,
    attributes: PWDF_OBJECT_ATTRIBUTES,
    place: *mut WDFCOMMONBUFFER,
) -> NTSTATUS {
    let enabler: Arc<DmaEnabler> = handle::get(DriverGlobals::from_ddi(globals), enabler as usize);
    let mask = enabler.alignment();
    // SAFETY: the DDI's contract.
    unsafe { create_checked(&enabler, length, mask, attributes, place) }
}

/// Allocates a common buffer with an alignment mask of its own. `PASSIVE_LEVEL`. Errors: `STATUS_INFO_LENGTH_MISMATCH`, those of
/// [`WdfCommonBufferCreate`].
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfCommonBufferCreateWithConfig(
    globals: PWDF_DRIVER_GLOBALS,
    enabler: WDFDMAENABLER,
    length: usize,
    config: PWDF_COMMON_BUFFER_CONFIG,
    attributes: PWDF_OBJECT_ATTRIBUTES,
    place: *mut WDFCOMMONBUFFER,
) -> NTSTATUS {
    let enabler: Arc<DmaEnabler> = handle::get(DriverGlobals::from_ddi(globals), enabler as usize);
    verifier::not_null(enabler.globals(), config, "Config");
    // SAFETY: checked not to be null; the driver's structure.
    let config = unsafe { *config };
    if config.Size as usize != size_of::<WDF_COMMON_BUFFER_CONFIG>() {
        trace::error(
            enabler.globals(),
            "WDF_COMMON_BUFFER_CONFIG has a wrong size",
        );
        return STATUS_INFO_LENGTH_MISMATCH;
    }
    // SAFETY: the DDI's contract.
    unsafe {
        create_checked(
            &enabler,
            length,
            config.AlignmentRequirement,
            attributes,
            place,
        )
    }
}

fn buffer(globals: PWDF_DRIVER_GLOBALS, value: WDFCOMMONBUFFER) -> Arc<CommonBuffer> {
    handle::get(DriverGlobals::from_ddi(globals), value as usize)
}

/// Where the processor sees the buffer. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfCommonBufferGetAlignedVirtualAddress(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFCOMMONBUFFER,
) -> PVOID {
    buffer(globals, value).address as PVOID
}

/// Where the device sees the buffer. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfCommonBufferGetAlignedLogicalAddress(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFCOMMONBUFFER,
) -> PHYSICAL_ADDRESS {
    PHYSICAL_ADDRESS {
        QuadPart: buffer(globals, value).logical,
    }
}

/// The length asked for. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfCommonBufferGetLength(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFCOMMONBUFFER,
) -> usize {
    buffer(globals, value).length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alignment_within_a_page_costs_nothing() {
        assert_eq!(raw_length(100, 15), Some(100));
        assert_eq!(shift(0x1234_5000, 15), 0);
        assert_eq!(raw_length(100, 0xFFF), Some(100));
    }

    #[test]
    fn wider_alignment_moves_the_logical_address() {
        assert_eq!(raw_length(0x100, 0xFFFF), Some(0x1_00FF));
        assert_eq!(shift(0x1234_5000, 0xFFFF), 0xB000);
        assert_eq!(shift(0x1235_0000, 0xFFFF), 0);
        assert_eq!(raw_length(usize::MAX, 0xFFFF), None);
        assert_eq!(raw_length(0xFFFF_FFFF, 0xFFFF), None);
    }
}
