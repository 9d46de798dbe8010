//! IO_INTERRUPT_MESSAGE_INFO: what a driver gets that connects to all messages of its device.

use machine_bus::Board;
use machine_nt::exports::{ExAllocatePool2, ExFreePoolWithTag};
use nt_sys::{
    _KINTERRUPT_MODE, _KINTERRUPT_POLARITY, IO_INTERRUPT_MESSAGE_INFO,
    IO_INTERRUPT_MESSAGE_INFO_ENTRY, KAFFINITY, KIRQL, PIO_INTERRUPT_MESSAGE_INFO, PKINTERRUPT,
    POOL_FLAG_NON_PAGED,
};

use super::vector::Vector;
use crate::large_integer;

const POOL_TAG: u32 = u32::from_le_bytes(*b"HalM");
const HEAD: usize = std::mem::offset_of!(IO_INTERRUPT_MESSAGE_INFO, MessageInfo);

/// Builds the table of these messages in pool. At PASSIVE_LEVEL.
pub fn build(
    board: &dyn Board,
    messages: &[Vector],
    objects: &[PKINTERRUPT],
    irql: KIRQL,
    processors: KAFFINITY,
) -> PIO_INTERRUPT_MESSAGE_INFO {
    let size = HEAD + messages.len() * size_of::<IO_INTERRUPT_MESSAGE_INFO_ENTRY>();
    // SAFETY: nonpaged pool may be allocated at PASSIVE_LEVEL.
    let block = unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED, size as u64, POOL_TAG) };
    let table: PIO_INTERRUPT_MESSAGE_INFO = block.cast();
    if table.is_null() {
        crate::stop_internal("no pool for a message table");
    }
    // SAFETY: the head is inside the block just allocated, which is zeroed and nobody else's yet.
    let head = unsafe { &mut *table };
    head.UnifiedIrql = irql;
    head.MessageCount = messages.len() as u32;
    for (index, (vector, object)) in messages.iter().zip(objects).enumerate() {
        let message = board.message_target(vector.number);
        let entry = IO_INTERRUPT_MESSAGE_INFO_ENTRY {
            MessageAddress: large_integer(message.address as i64),
            TargetProcessorSet: processors,
            InterruptObject: *object,
            MessageData: message.data.into(),
            Vector: vector.number.into(),
            Irql: vector.irql(),
            Mode: _KINTERRUPT_MODE::Latched,
            Polarity: _KINTERRUPT_POLARITY::InterruptPolarityUnknown,
        };
        // SAFETY: the block has room for an entry a message.
        unsafe { entry_at(table, index).write(entry) };
    }
    table
}

/// The interrupt objects of a table.
///
/// # Safety
/// `table` comes from [`build`].
pub unsafe fn objects(table: PIO_INTERRUPT_MESSAGE_INFO) -> Vec<PKINTERRUPT> {
    // SAFETY: the caller vouches for the table.
    let count = unsafe { (*table).MessageCount } as usize;
    // SAFETY: as above.
    (0..count)
        .map(|index| unsafe { (*entry_at(table, index)).InterruptObject })
        .collect()
}

/// Frees a table.
///
/// # Safety
/// `table` comes from [`build`] and is not used any more.
pub unsafe fn free(table: PIO_INTERRUPT_MESSAGE_INFO) {
    // SAFETY: the caller vouches for the table.
    unsafe { ExFreePoolWithTag(table.cast(), POOL_TAG) };
}

/// Where a message's entry is.
fn entry_at(
    table: PIO_INTERRUPT_MESSAGE_INFO,
    index: usize,
) -> *mut IO_INTERRUPT_MESSAGE_INFO_ENTRY {
    table
        .wrapping_byte_add(HEAD)
        .cast::<IO_INTERRUPT_MESSAGE_INFO_ENTRY>()
        .wrapping_add(index)
}
