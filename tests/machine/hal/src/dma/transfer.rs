//! Mapping and flushing through map registers: MapTransfer, MapTransferEx, FlushAdapterBuffers and
//! FlushAdapterBuffersEx.

use super::adapter::Adapter;
use super::buffer::Buffer;
use super::mapping::{Mapping, Transfer};
use super::verifier::Violation;
use super::with;

/// Bytes to map or flush.
pub struct Range<'a> {
    /// The MDL chain.
    pub buffer: &'a Buffer,
    /// First byte in the chain.
    pub offset: u64,
    /// How many.
    pub length: u64,
    /// From memory to the device.
    pub write: bool,
}

/// Maps a range through the map registers `handle`, into at most `elements` ranges of logical addresses, and returns
/// these (address and length). Fewer bytes may be mapped than were asked for.
///
/// With `again`, the transfer may follow others through the same map registers that have not been flushed, and must be
/// mapped as far as an element goes (MapTransfer); otherwise there must be none (MapTransferEx).
pub fn map(
    routine: &'static str,
    adapter: u64,
    handle: u64,
    range: &Range<'_>,
    elements: usize,
    again: bool,
) -> Vec<(u64, u64)> {
    with(|dma| {
        let always_bounce = dma.config.always_bounce;
        let (adapter, mut machine) = dma.parts(routine, adapter);
        range.buffer.verify(routine, range.offset, range.length);
        let reach = adapter.reach(always_bounce);
        let allocation = adapter.allocation(routine, handle);
        if !again && !allocation.mappings.is_empty() {
            let maximum = u64::from(allocation.registers.count) * machine_bus::PAGE_SIZE as u64;
            Violation::NotFlushed {
                routine,
                mapped: allocation.mapped(),
                maximum,
            }
            .raise();
        }
        let available = allocation.registers.count.saturating_sub(allocation.used);
        let needed = range.buffer.span(range.offset, range.length);
        let short = if again && !reach.scatter_gather {
            needed > available
        } else {
            available == 0
        };
        if short {
            Violation::OutOfMapRegisters {
                routine,
                needed: needed.into(),
                available: available.into(),
            }
            .raise();
        }
        let (registers, used) = (allocation.registers.clone(), allocation.used);
        let transfer = Transfer {
            buffer: range.buffer,
            offset: range.offset,
            length: range.length,
            write: range.write,
            elements,
        };
        verify_not_mapped(routine, adapter, &transfer);
        let mapping = Mapping::new(&mut machine, reach, &transfer, &registers, used);
        let result = mapping.elements().collect();
        let allocation = adapter.allocation(routine, handle);
        allocation.used += mapping.registers;
        allocation.mappings.push(mapping);
        result
    })
}

/// Stops if another live transfer of the adapter uses some of the same bytes.
pub fn verify_not_mapped(routine: &'static str, adapter: &Adapter, transfer: &Transfer<'_>) {
    let extents = transfer.buffer.extents(transfer.offset, transfer.length);
    if let Some(mapped) = adapter.overlap(&extents) {
        let (start, end) = extents
            .first()
            .map_or((0, 0), |(_, range)| (range.start, range.end));
        Violation::AlreadyMapped {
            routine,
            start,
            end,
            mapped,
        }
        .raise();
    }
}

/// Ends what is mapped through the map registers `handle`, copying the first `range.length` bytes back.
pub fn flush(routine: &'static str, adapter: u64, handle: u64, range: &Range<'_>) {
    with(|dma| {
        let (adapter, mut machine) = dma.parts(routine, adapter);
        let allocation = adapter.allocation(routine, handle);
        let mdl = range.buffer.first().map_or(0, |part| part.mdl);
        let matches = allocation.mappings.first().is_some_and(|mapping| {
            mapping.offset == range.offset && mapping.write == range.write && mapping.mdl == mdl
        });
        if !matches {
            let address = range
                .buffer
                .locate(range.offset)
                .map_or(0, |(_, address)| address);
            Violation::FlushedOther {
                routine,
                base: handle,
                address,
                mdl,
            }
            .raise();
        }
        let mapped = allocation.mapped();
        if range.length > mapped {
            Violation::FlushedTooMuch {
                routine,
                mapped,
                requested: range.length,
            }
            .raise();
        }
        allocation.used = 0;
        let mut left = range.length;
        for mapping in std::mem::take(&mut allocation.mappings) {
            let part = left.min(mapping.length);
            left -= part;
            mapping.end(&mut machine, part);
        }
        let registers = allocation.registers.clone();
        dma.pool.check_guards(&registers);
    });
}
