//! One transfer's way between the driver's buffer and the logical addresses the device is given.

use std::ops::Range;

use machine_bus::{Access, Board, FunctionAddress, PAGE_SIZE, PhysicalMemory};
use machine_nt::counters::counters;
use machine_nt::mode;

use super::buffer::{Buffer, Run};
use super::iova::Iova;
use super::registers::{FILL, Registers, reaches};
use super::verifier::Violation;

const PAGE: u64 = PAGE_SIZE as u64;

/// Written right before and right after a bounced buffer, where its pages have room.
const TAG: &[u8; 8] = b"DmaVrfy0";

/// What decides which pages a device reaches by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// Address bits of the device.
    pub width: u8,
    /// The device takes a list of ranges; otherwise a transfer is one range.
    pub scatter_gather: bool,
    /// Every page is bounced, as Driver Verifier does it.
    pub always_bounce: bool,
}

/// Bytes of one page of the buffer, and where the device finds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    buffer: u64,
    device: u64,
    length: u64,
}

impl Piece {
    fn bounced(&self) -> bool {
        self.buffer != self.device
    }
}

/// Pieces that form one range of logical addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    pieces: Vec<Piece>,
    logical: u64,
    length: u64,
    /// What the bounce pages hold for the device to read.
    sent: Vec<u8>,
}

/// A live transfer.
#[derive(Debug)]
pub struct Mapping {
    /// The first MDL of the chain.
    pub mdl: u64,
    /// First byte in the MDL chain.
    pub offset: u64,
    /// Bytes mapped.
    pub length: u64,
    /// From memory to the device.
    pub write: bool,
    /// Map registers used, one a page.
    pub registers: u32,
    /// The MDLs concerned and the virtual addresses within each.
    extents: Vec<(u64, Range<u64>)>,
    spans: Vec<Span>,
}

/// What mapping and unmapping need of the machine.
pub struct Machine<'a> {
    /// The board with its memory and its IOMMU, if it has one.
    pub board: &'a dyn Board,
    /// Free logical addresses, for a board with an IOMMU.
    pub iova: &'a mut Iova,
    /// The requester.
    pub function: FunctionAddress,
    /// Its physical device object.
    pub device: u64,
    /// Its address bits.
    pub width: u8,
}

impl Machine<'_> {
    fn memory(&self) -> &PhysicalMemory {
        self.board.memory()
    }
}

/// What is to be mapped.
pub struct Transfer<'a> {
    /// The MDL chain.
    pub buffer: &'a Buffer,
    /// First byte in the chain.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// From memory to the device.
    pub write: bool,
    /// At most this many ranges.
    pub elements: usize,
}

impl Mapping {
    /// Maps as much of a transfer as `elements` and the free map registers from index `used` on allow.
    pub fn new(
        machine: &mut Machine<'_>,
        reach: Reach,
        transfer: &Transfer<'_>,
        block: &Registers,
        used: u32,
    ) -> Self {
        let available = block.count.saturating_sub(used) as usize;
        let mut runs = transfer.buffer.runs(transfer.offset, transfer.length);
        runs.truncate(available);
        let remapped = machine.board.iommu().is_some();
        let pieces = place(
            &runs,
            reach,
            remapped,
            block.bounce.map(|page| page + u64::from(used) * PAGE),
        );
        let mut groups = group(&pieces, |a, b| {
            a.device + a.length == b.device
                || (remapped && !reach.scatter_gather && continues(a, b))
        });
        groups.truncate(transfer.elements);
        let spans: Vec<Span> = groups
            .into_iter()
            .map(|pieces| machine.enter(pieces, transfer.write))
            .collect();
        let length = spans.iter().map(|span| span.length).sum();
        let mut mapping = Self {
            offset: transfer.offset,
            length,
            write: transfer.write,
            registers: spans.iter().map(|span| span.pieces.len() as u32).sum(),
            extents: transfer.buffer.extents(transfer.offset, length),
            mdl: transfer.buffer.first().map_or(0, |part| part.mdl),
            spans,
        };
        mapping.prepare(machine.memory());
        counters().dma_transfers.increment();
        counters().dma_bytes.add(length);
        counters().dma_elements.add(mapping.spans.len() as u64);
        mapping
    }

    /// The ranges to program: logical address and length in bytes.
    pub fn elements(&self) -> impl ExactSizeIterator<Item = (u64, u64)> {
        self.spans.iter().map(|span| (span.logical, span.length))
    }

    /// The part of the buffer described by `other` that is mapped here too.
    pub fn overlap(&self, other: &[(u64, Range<u64>)]) -> Option<u64> {
        self.extents.iter().find_map(|(mdl, mine)| {
            let theirs = &other.iter().find(|(theirs, _)| theirs == mdl)?.1;
            let start = mine.start.max(theirs.start);
            (start < mine.end.min(theirs.end)).then_some(start)
        })
    }

    /// Ends the transfer: checks what surrounds its bounce pages, copies the first `flushed` bytes back if the device
    /// wrote, and takes the logical addresses away.
    pub fn end(self, machine: &mut Machine<'_>, flushed: u64) {
        let mut left = flushed;
        for span in &self.spans {
            span.check(machine.memory());
            span.check_sent(machine);
            for piece in span.pieces.iter().filter(|piece| piece.bounced()) {
                let length = left.min(piece.length);
                if !self.write {
                    copy(machine.memory(), piece.device, piece.buffer, length);
                }
                left -= length;
            }
            machine.leave(span);
            span.wipe(machine.memory());
        }
    }

    /// Copies to the bounce pages what the device shall read, and tags their surroundings.
    fn prepare(&mut self, memory: &PhysicalMemory) {
        for span in &mut self.spans {
            span.tag(memory);
            if self.write {
                for piece in span.pieces.iter().filter(|piece| piece.bounced()) {
                    let bytes = copy(memory, piece.buffer, piece.device, piece.length);
                    span.sent.extend(bytes);
                }
            }
        }
    }
}

impl Span {
    /// The bounced bytes' physical range. Pieces are bounced all or none wherever a span has more than one page
    /// that differs, and bounce pages follow each other, so this is one range.
    fn bounced(&self) -> Option<Range<u64>> {
        let mut bounced = self.pieces.iter().filter(|piece| piece.bounced());
        let first = bounced.next()?;
        let last = bounced.next_back().unwrap_or(first);
        Some(first.device..last.device + last.length)
    }

    /// As [`Span::bounced`], where its surroundings are guarded.
    fn guarded(&self) -> Option<Range<u64>> {
        if mode::is_free_running() {
            return None;
        }
        self.bounced()
    }

    /// Where the tags are: before and after the data, each if the page has room.
    fn tags(data: &Range<u64>) -> [Option<u64>; 2] {
        let room = TAG.len() as u64;
        let before = (data.start % PAGE >= room).then(|| data.start - room);
        let after = (data.end.next_multiple_of(PAGE) - data.end >= room).then_some(data.end);
        [before, after]
    }

    fn tag(&self, memory: &PhysicalMemory) {
        let Some(data) = self.guarded() else { return };
        for tag in Self::tags(&data).into_iter().flatten() {
            super::memory_must(memory.write(tag, TAG));
        }
    }

    /// Stops if the tags, or the padding up to and including the neighbouring pages' near ends, were written.
    fn check(&self, memory: &PhysicalMemory) {
        let Some(data) = self.guarded() else { return };
        let [before, after] = Self::tags(&data);
        for (tag, is_after) in [(before, false), (after, true)] {
            let mut found = *TAG;
            let Some(tag) = tag else { continue };
            super::memory_must(memory.read(tag, &mut found));
            if found != *TAG {
                Violation::TagModified {
                    after: is_after,
                    length: data.end - data.start,
                    start: data.start,
                }
                .raise();
            }
        }
        let first = data.start - data.start % PAGE;
        let last = data.end.next_multiple_of(PAGE);
        let room = TAG.len() as u64;
        let padding = [
            first..before.unwrap_or(data.start),
            after.map_or(data.end, |tag| tag + room)..last,
        ];
        for (range, is_after) in padding.into_iter().zip([false, true]) {
            let length = (range.end - range.start) as usize;
            if let Some(offset) = super::registers::first_difference(memory, range.start, length) {
                let address = range.start + offset;
                Violation::PaddingModified {
                    after: is_after,
                    start: data.start,
                    address,
                }
                .raise();
            }
        }
    }

    /// Stops if the device wrote into bounce pages that were mapped for it to read.
    fn check_sent(&self, machine: &Machine<'_>) {
        let Some(data) = self.bounced().filter(|_| !self.sent.is_empty()) else {
            return;
        };
        let mut found = vec![0; self.sent.len()];
        super::memory_must(machine.memory().read(data.start, &mut found));
        let difference = found.iter().zip(&self.sent).position(|(a, b)| a != b);
        if let Some(offset) = difference {
            Violation::SourceModified {
                device: machine.device,
                address: data.start + offset as u64,
            }
            .raise();
        }
    }

    fn wipe(&self, memory: &PhysicalMemory) {
        let Some(data) = self.guarded() else { return };
        let first = data.start - data.start % PAGE;
        let length = data.end.next_multiple_of(PAGE) - first;
        super::memory_must(memory.fill(first, length as usize, FILL));
    }
}

impl Machine<'_> {
    /// Gives pieces their logical addresses.
    fn enter(&mut self, pieces: Vec<Piece>, write: bool) -> Span {
        let length = pieces.iter().map(|piece| piece.length).sum();
        let first = pieces[0].device;
        let logical = match self.board.iommu() {
            None => first,
            Some(iommu) => {
                let access = if write { Access::Read } else { Access::Write };
                let Some(page) = self.iova.allocate(first % PAGE + length, self.width) else {
                    super::stop_internal("no logical addresses are left")
                };
                let start = page + first % PAGE;
                let mut logical = start;
                for piece in &pieces {
                    super::must(iommu.map(
                        self.function,
                        logical,
                        piece.device,
                        piece.length,
                        access,
                    ));
                    logical += piece.length;
                }
                start
            }
        };
        Span {
            pieces,
            logical,
            length,
            sent: Vec::new(),
        }
    }

    fn leave(&mut self, span: &Span) {
        let Some(iommu) = self.board.iommu() else {
            return;
        };
        let mut logical = span.logical;
        for piece in &span.pieces {
            super::must(iommu.unmap(self.function, logical, piece.length));
            logical += piece.length;
        }
        self.iova.free(span.logical);
    }
}

/// Decides for each run whether the device reaches it or a bounce page stands in, the pages beginning at `bounce`.
fn place(runs: &[Run], reach: Reach, remapped: bool, bounce: Option<u64>) -> Vec<Piece> {
    let direct = |run: &Run| !reach.always_bounce && reaches(reach.width, run.end() - 1);
    let mut pieces: Vec<Piece> = runs
        .iter()
        .map(|run| Piece {
            buffer: run.physical,
            device: run.physical,
            length: run.length,
        })
        .collect();
    let groups: Vec<Range<usize>> = if reach.scatter_gather {
        (0..pieces.len()).map(|index| index..index + 1).collect()
    } else {
        ranges(&pieces, continues)
    };
    for group in groups {
        let adjacent = pieces[group.clone()]
            .windows(2)
            .all(|pair| pair[0].buffer + pair[0].length == pair[1].buffer);
        if runs[group.clone()].iter().all(direct) && (reach.scatter_gather || remapped || adjacent)
        {
            continue;
        }
        let Some(bounce) = bounce else {
            super::stop_internal("a page must be bounced, and its map registers have no pages")
        };
        for index in group {
            pieces[index].device = bounce + index as u64 * PAGE + pieces[index].buffer % PAGE;
        }
    }
    pieces
}

/// Whether `b` follows `a` without a gap when pages are put side by side.
fn continues(a: &Piece, b: &Piece) -> bool {
    (a.buffer + a.length).is_multiple_of(PAGE) && b.buffer.is_multiple_of(PAGE)
}

/// Index ranges of neighbours that belong `together`.
fn ranges(pieces: &[Piece], together: impl Fn(&Piece, &Piece) -> bool) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for index in 0..pieces.len() {
        match ranges.last_mut() {
            Some(range) if together(&pieces[index - 1], &pieces[index]) => range.end = index + 1,
            _ => ranges.push(index..index + 1),
        }
    }
    ranges
}

fn group(pieces: &[Piece], together: impl Fn(&Piece, &Piece) -> bool) -> Vec<Vec<Piece>> {
    ranges(pieces, together)
        .into_iter()
        .map(|range| pieces[range].to_vec())
        .collect()
}

/// Copies and returns what was copied.
fn copy(memory: &PhysicalMemory, from: u64, to: u64, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; length as usize];
    super::memory_must(memory.read(from, &mut bytes));
    super::memory_must(memory.write(to, &bytes));
    counters().bounced_bytes.add(length);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: Reach = Reach {
        width: 28,
        scatter_gather: false,
        always_bounce: false,
    };

    fn run(physical: u64, length: u64) -> Run {
        Run { physical, length }
    }

    fn devices(runs: &[Run], reach: Reach, remapped: bool) -> Vec<u64> {
        place(runs, reach, remapped, Some(0x10_0000))
            .iter()
            .map(|piece| piece.device)
            .collect()
    }

    #[test]
    fn a_packet_device_reaches_adjacent_low_pages() {
        assert_eq!(
            devices(&[run(0x1F00, 0x100), run(0x2000, 0x20)], PACKET, false),
            [0x1F00, 0x2000]
        );
    }

    #[test]
    fn a_packet_that_is_scattered_is_bounced_as_a_whole() {
        let runs = [run(0x1F00, 0x100), run(0x5000, 0x20)];
        assert_eq!(devices(&runs, PACKET, false), [0x10_0F00, 0x10_1000]);
        assert_eq!(devices(&runs, PACKET, true), [0x1F00, 0x5000]);
        let high = [run(0x1F00, 0x100), run(1 << 32, 0x20)];
        assert_eq!(devices(&high, PACKET, true), [0x10_0F00, 0x10_1000]);
    }

    #[test]
    fn a_list_is_bounced_page_by_page() {
        let reach = Reach {
            scatter_gather: true,
            ..PACKET
        };
        let runs = [run(0x1F00, 0x100), run(1 << 32, 0x1000), run(0x7000, 0x20)];
        assert_eq!(devices(&runs, reach, false), [0x1F00, 0x10_1000, 0x7000]);
        let always = Reach {
            always_bounce: true,
            ..reach
        };
        assert_eq!(
            devices(&runs, always, false),
            [0x10_0F00, 0x10_1000, 0x10_2000]
        );
    }

    #[test]
    fn a_gap_between_mdls_ends_a_packet() {
        let runs = [run(0x1F00, 0x80), run(0x1F80, 0x80), run(0x6010, 0x20)];
        let pieces = place(&runs, PACKET, false, Some(0x10_0000));
        assert_eq!(ranges(&pieces, continues), [0..1, 1..2, 2..3]);
    }
}
