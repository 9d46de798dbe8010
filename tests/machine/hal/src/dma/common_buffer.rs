//! Common buffers: memory that driver and device share for as long as it exists.

use std::ffi::c_void;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use machine_bus::{Access, PAGE_SIZE};
use machine_nt::sched::{self, Point};
use machine_nt::{counters, exports, trace};
use machine_pe::trap;

use super::registers::{FILL, first_difference};
use super::verifier::Violation;
use super::{memory_must, must, with};

const PAGE: u64 = PAGE_SIZE as u64;

/// Below this, memory is left to firmware and the legacy devices.
const LOWEST: u64 = 1 << 20;

/// A common buffer. Its pages lie between two guard pages, which like the rest of its last page hold [`FILL`].
#[derive(Debug)]
pub struct CommonBuffer {
    /// Physical address of the guard page before.
    base: u64,
    length: u64,
    logical: u64,
    remapped: bool,
    watched: bool,
}

impl CommonBuffer {
    fn start(&self) -> u64 {
        self.base + PAGE
    }

    fn pages(&self) -> u64 {
        self.length.div_ceil(PAGE)
    }
}

/// Physical addresses a buffer may have.
fn within(width: u8, ranges: &[Range<u64>; 2], bounds: &Range<u64>) -> Range<u64> {
    let reach = if width >= 64 { u64::MAX } else { 1 << width };
    let end = ranges[1].end.max(ranges[0].end).min(reach).min(bounds.end);
    // A device of more than 32 bits gets its buffer above 4 GiB: an address cut to 32 bits is then always wrong.
    let wide = !ranges[1].is_empty() && end > ranges[1].start && bounds.start <= ranges[1].start;
    let start = if wide {
        ranges[1].start
    } else {
        bounds.start.max(LOWEST)
    };
    start..if wide { end } else { end.min(ranges[0].end) }
}

/// Allocates `length` bytes for an adapter, at physical addresses in `bounds`: virtual and logical address, or `None`
/// if there is no such memory.
pub fn allocate(
    routine: &'static str,
    adapter: u64,
    length: u32,
    bounds: Range<u64>,
) -> Option<(NonNull<u8>, u64)> {
    if length == 0 {
        return None;
    }
    with(|dma| {
        let memory = dma.board.memory().clone();
        let watched = dma.config.watch_common_buffers;
        let (adapter, machine) = dma.parts(routine, adapter);
        let length = u64::from(length);
        let pages = length.div_ceil(PAGE);
        let range = within(adapter.description.width, &memory.ranges(), &bounds);
        let base = memory
            .allocate_run(pages as usize + 2, range, PAGE, None)
            .ok()?;
        memory_must(memory.fill(base, ((pages + 2) * PAGE) as usize, FILL));
        let list: Vec<u64> = (1..=pages).map(|page| base + page * PAGE).collect();
        let address = memory_must(memory.map(&list));
        let mut buffer = CommonBuffer {
            base,
            length,
            logical: base + PAGE,
            remapped: false,
            watched,
        };
        if let Some(iommu) = machine.board.iommu() {
            buffer.logical = machine.iova.allocate(length, machine.width)?;
            buffer.remapped = true;
            must(iommu.map(
                machine.function,
                buffer.logical,
                buffer.start(),
                length,
                Access::ReadWrite,
            ));
        }
        let logical = buffer.logical;
        if watched {
            watch(address, pages * PAGE, logical);
        }
        adapter
            .common_buffers
            .insert(address.as_ptr() as u64, buffer);
        Some((address, logical))
    })
}

/// Makes every access to a common buffer a switch point.
fn watch(address: NonNull<u8>, length: u64, logical: u64) {
    let watcher = move |offset, write| {
        let what = match write {
            true => "common buffer write",
            false => "common buffer read",
        };
        trace::record(what, logical + offset);
        counters().common_buffer_accesses.increment();
        sched::switch_point(Point::Memory);
    };
    // SAFETY: the mapping made for this buffer, which is given back to be unmapped only.
    let watched = unsafe { trap::watch(address, length as usize, Arc::new(watcher)) };
    watched.unwrap_or_else(|error| crate::stop_internal(error));
}

/// memset as drivers call it: a common buffer is accessed once, however long it is. Any IRQL.
///
/// # Safety
/// There are `count` bytes.
pub unsafe extern "win64" fn memset(
    destination: *mut c_void,
    value: i32,
    count: usize,
) -> *mut c_void {
    trap::bulk(destination.cast(), true, || {
        // SAFETY: by the caller's promise.
        unsafe { exports::memset(destination, value, count) }
    })
}

/// Frees a common buffer, which must be named as it was allocated.
pub fn free(routine: &'static str, adapter: u64, length: u32, logical: u64, address: u64) {
    with(|dma| {
        let memory = dma.board.memory().clone();
        let (adapter, machine) = dma.parts(routine, adapter);
        let buffer = adapter
            .common_buffers
            .remove(&address)
            .filter(|buffer| buffer.logical == logical && buffer.length == u64::from(length));
        let Some(buffer) = buffer else {
            Violation::CommonBufferFreedTwice { address }.raise()
        };
        if let (true, Some(iommu)) = (buffer.remapped, machine.board.iommu()) {
            must(iommu.unmap(machine.function, buffer.logical, buffer.length));
            machine.iova.free(buffer.logical);
        }
        let end = buffer.start() + buffer.length;
        let last = buffer.start() + (buffer.pages() + 1) * PAGE;
        for (padding, after) in [(buffer.base..buffer.start(), false), (end..last, true)] {
            if let Some(offset) = first_difference(
                &memory,
                padding.start,
                (padding.end - padding.start) as usize,
            ) {
                let (start, address) = (buffer.start(), padding.start + offset);
                Violation::PaddingModified {
                    after,
                    start,
                    address,
                }
                .raise();
            }
        }
        if let Some(address) = NonNull::new(address as *mut u8) {
            if buffer.watched
                && let Err(error) = trap::unwatch(address)
            {
                crate::stop_internal(error);
            }
            memory_must(memory.unmap(address));
        }
        let pages: Vec<u64> = (0..buffer.pages() + 2)
            .map(|page| buffer.base + page * PAGE)
            .collect();
        memory_must(memory.free(&pages));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAM: [Range<u64>; 2] = [0..2 << 30, 4 << 30..8 << 30];

    #[test]
    fn a_buffer_lies_where_the_device_reaches_it() {
        let all = 0..u64::MAX;
        assert_eq!(within(28, &RAM, &all), LOWEST..1 << 28);
        assert_eq!(within(32, &RAM, &all), LOWEST..2 << 30);
        assert_eq!(within(64, &RAM, &all), 4 << 30..8 << 30);
        assert_eq!(within(64, &RAM, &(0..1 << 24)), LOWEST..1 << 24);
        assert_eq!(within(64, &[0..2 << 30, 0..0], &all), LOWEST..2 << 30);
    }
}
