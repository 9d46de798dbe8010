//! What an MDL chain describes, read once and then used without touching the driver's memory again.

use std::ops::Range;

use machine_bus::PAGE_SIZE;
use nt_sys::{
    MDL, MDL_IO_SPACE, MDL_PAGES_LOCKED, MDL_PARTIAL, MDL_SOURCE_IS_NONPAGED_POOL, PFN_NUMBER, PMDL,
};

use super::verifier::Violation;

const PAGE: u64 = PAGE_SIZE as u64;

/// Flags of which one says that the pages stay where they are.
const LOCKED: u32 = MDL_PAGES_LOCKED | MDL_SOURCE_IS_NONPAGED_POOL | MDL_PARTIAL | MDL_IO_SPACE;

/// One MDL.
#[derive(Debug, Clone)]
pub struct Part {
    /// Address of the MDL itself.
    pub mdl: u64,
    /// Virtual address of the first byte, as `MmGetMdlVirtualAddress` gives it.
    pub address: u64,
    /// Length in bytes.
    pub length: u64,
    flags: u32,
    pages: Vec<u64>,
}

/// An MDL and those linked behind it.
#[derive(Debug, Clone)]
pub struct Buffer {
    parts: Vec<Part>,
}

/// Bytes within one page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Physical address of the first byte.
    pub physical: u64,
    /// Length in bytes, at most up to the end of the page.
    pub length: u64,
}

impl Run {
    /// Physical address of the byte after the last.
    pub fn end(&self) -> u64 {
        self.physical + self.length
    }
}

impl Buffer {
    /// Reads the chain that begins at `mdl`.
    ///
    /// # Safety
    /// `mdl` is NULL or points to a chain of MDLs with their page arrays, none of which changes during the call.
    pub unsafe fn read(mdl: PMDL) -> Self {
        let mut parts = Vec::new();
        let mut next = mdl;
        while !next.is_null() {
            // SAFETY: the caller vouches for every MDL of the chain.
            let header: MDL = unsafe { next.read() };
            // SAFETY: the page array follows the MDL, and its length follows from the header.
            let pages = unsafe { pages(next, &header) };
            parts.push(Part {
                mdl: next as u64,
                address: header.StartVa as u64 + u64::from(header.ByteOffset),
                length: u64::from(header.ByteCount),
                flags: header.MdlFlags as u16 as u32,
                pages,
            });
            next = header.Next;
        }
        Self { parts }
    }

    /// The first MDL; `None` for an empty chain.
    pub fn first(&self) -> Option<&Part> {
        self.parts.first()
    }

    /// Bytes that the chain describes.
    pub fn length(&self) -> u64 {
        self.parts.iter().map(|part| part.length).sum()
    }

    /// The byte `offset` of the chain: which MDL it is in, and its virtual address there.
    pub fn locate(&self, mut offset: u64) -> Option<(&Part, u64)> {
        for part in &self.parts {
            if offset < part.length {
                return Some((part, part.address + offset));
            }
            offset -= part.length;
        }
        None
    }

    /// The bytes from `offset` on, cut at page boundaries; all that the chain has if that is less than `length`.
    pub fn runs(&self, mut offset: u64, mut length: u64) -> Vec<Run> {
        let mut runs = Vec::new();
        for part in &self.parts {
            while offset < part.length && length > 0 {
                let position = part.address % PAGE + offset;
                let Some(frame) = part.pages.get((position / PAGE) as usize) else {
                    break;
                };
                let taken = (PAGE - position % PAGE)
                    .min(part.length - offset)
                    .min(length);
                runs.push(Run {
                    physical: frame * PAGE + position % PAGE,
                    length: taken,
                });
                offset += taken;
                length -= taken;
            }
            offset = offset.saturating_sub(part.length);
            if length == 0 {
                break;
            }
        }
        runs
    }

    /// Pages that the bytes from `offset` on touch, MDL by MDL.
    pub fn span(&self, offset: u64, length: u64) -> u32 {
        self.runs(offset, length).len() as u32
    }

    /// Which virtual addresses of which MDLs the bytes from `offset` on are.
    pub fn extents(&self, offset: u64, length: u64) -> Vec<(u64, Range<u64>)> {
        let end = offset + length;
        let mut start = 0;
        let mut extents = Vec::new();
        for part in &self.parts {
            let (from, to) = (offset.max(start), end.min(start + part.length));
            if from < to {
                extents.push((
                    part.mdl,
                    part.address + (from - start)..part.address + (to - start),
                ));
            }
            start += part.length;
        }
        extents
    }

    /// Checks what every mapping requires of its buffer.
    pub fn verify(&self, routine: &'static str, offset: u64, length: u64) {
        if length == 0 {
            Violation::ZeroLength { routine }.raise();
        }
        let available = self.length().saturating_sub(offset);
        if length > available {
            Violation::BufferTooShort {
                routine,
                missing: length - available,
            }
            .raise();
        }
        let touched = self.extents(offset, length);
        for part in self
            .parts
            .iter()
            .filter(|part| touched.iter().any(|(mdl, _)| *mdl == part.mdl))
        {
            if part.flags & LOCKED == 0 {
                Violation::BufferNotLocked {
                    routine,
                    mdl: part.mdl,
                }
                .raise();
            }
            if part.pages.contains(&0) {
                Violation::BufferNotMapped {
                    routine,
                    mdl: part.mdl,
                }
                .raise();
            }
        }
    }
}

/// The page frame numbers behind an MDL's header.
///
/// # Safety
/// `mdl` points to an MDL with this header and its whole page array.
unsafe fn pages(mdl: PMDL, header: &MDL) -> Vec<u64> {
    let span = (u64::from(header.ByteOffset) + u64::from(header.ByteCount)).div_ceil(PAGE) as usize;
    // SAFETY: one past the header is where the page array begins.
    let first = unsafe { mdl.add(1) }.cast::<PFN_NUMBER>();
    // SAFETY: the array has an entry for each page the buffer spans.
    unsafe { std::slice::from_raw_parts(first, span) }.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(address: u64, length: u64, pages: &[u64]) -> Part {
        Part {
            mdl: 0x10,
            address,
            length,
            flags: LOCKED,
            pages: pages.to_vec(),
        }
    }

    fn chain() -> Buffer {
        Buffer {
            parts: vec![part(0x1F00, 0x1200, &[7, 3, 9]), part(0x8010, 0x20, &[5])],
        }
    }

    #[test]
    fn runs_end_at_pages_and_mdls() {
        let run = |physical, length| Run { physical, length };
        assert_eq!(
            chain().runs(0, 0x1220),
            [
                run(0x7F00, 0x100),
                run(0x3000, 0x1000),
                run(0x9000, 0x100),
                run(0x5010, 0x20)
            ]
        );
        assert_eq!(chain().runs(0x180, 0x10), [run(0x3080, 0x10)]);
        assert_eq!(chain().runs(0x1200, 0x100), [run(0x5010, 0x20)]);
        assert_eq!(chain().span(0x1100, 0x110), 2);
    }

    #[test]
    fn bytes_are_located_in_their_mdl() {
        let chain = chain();
        assert_eq!(
            chain.locate(0x1210).map(|(_, address)| address),
            Some(0x8020)
        );
        assert!(chain.locate(0x1220).is_none());
        assert_eq!(chain.length(), 0x1220);
        assert_eq!(
            chain.extents(0x11F0, 0x18),
            [(0x10, 0x30F0..0x3100), (0x10, 0x8010..0x8018)]
        );
    }
}
