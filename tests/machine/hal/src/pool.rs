//! Answers to PnP requests: values in paged pool, which whoever asked frees.

use machine_nt::exports::ExAllocatePool2;
use nt_sys::POOL_FLAG_PAGED;

const TAG: u32 = u32::from_le_bytes(*b"PpRq");

/// Copies values into paged pool: the address. At PASSIVE_LEVEL.
pub fn copy<T: Copy>(values: &[T]) -> u64 {
    // SAFETY: paged pool may be allocated at PASSIVE_LEVEL.
    let block = unsafe { ExAllocatePool2(POOL_FLAG_PAGED, size_of_val(values) as u64, TAG) };
    if block.is_null() {
        crate::stop_internal("no pool for the answer to a PnP request");
    }
    // SAFETY: the block is as large as the values.
    unsafe {
        block
            .cast::<T>()
            .copy_from_nonoverlapping(values.as_ptr(), values.len())
    };
    block as u64
}

/// A string as UTF-16 with its terminator.
pub fn terminated(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

/// Strings one after the other, with the terminator of the list.
pub fn list(texts: &[String]) -> Vec<u16> {
    texts
        .iter()
        .flat_map(|text| terminated(text))
        .chain([0])
        .collect()
}
