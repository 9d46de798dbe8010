//! Arithmetic over MDL chains (`_ComputeNextTransferAddress`, `_CalculateRequiredMapRegisters`).
//!
//! Lengths are 32 bits wide and wrap, as in the published source: that is why transactions near 4 GiB fail.

use crate::flat::*;
use crate::wdm::Mdl;
use nt_sys::inline::ADDRESS_AND_SIZE_TO_SPAN_PAGES;

/// Bytes of a page.
pub(super) const PAGE: usize = 4096;

/// `ADDRESS_AND_SIZE_TO_SPAN_PAGES`, as wide as the framework counts.
pub(super) fn span_pages(address: usize, size: usize) -> u32 {
    ADDRESS_AND_SIZE_TO_SPAN_PAGES(address, size) as u32
}

/// Where the transfer after `transferred` more bytes begins.
pub(super) fn advance(mut mdl: Mdl, offset: usize, transferred: usize) -> (Mdl, usize) {
    let first = mdl.byte_count() - offset;
    if transferred < first {
        return (mdl, offset + transferred);
    }
    let mut left = transferred - first;
    mdl = mdl.next();
    while !mdl.is_null() && left >= mdl.byte_count() {
        left -= mdl.byte_count();
        mdl = mdl.next();
    }
    (mdl, left)
}

/// What a transfer needs, and what of it fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Pages it spans.
    pub(super) registers: u32,
    /// The longest prefix of whole MDLs, or all of it, that the available map registers hold.
    pub(super) possible: u32,
}

/// The pages that `length` bytes from `offset` of the chain span.
///
/// # Errors
/// `STATUS_BUFFER_TOO_SMALL` if the chain is too short.
pub(super) fn required_registers(
    mdl: Mdl,
    offset: usize,
    length: u32,
    available: u32,
) -> Result<Span, NTSTATUS> {
    let page = PAGE as u32;
    let mut mdl = mdl;
    let mut covered = (mdl.byte_count() as u32).wrapping_sub(offset as u32);
    let mut own = covered;
    let mut page_offset = ((mdl.virtual_address() + offset) % PAGE) as u32;
    let (mut registers, mut possible) = (0_u32, 0_u32);
    while covered < length && !mdl.next().is_null() {
        registers += page_offset.wrapping_add(own).wrapping_add(page - 1) / page;
        if registers <= available {
            possible = covered;
        }
        mdl = mdl.next();
        page_offset = mdl.byte_offset() as u32;
        own = mdl.byte_count() as u32;
        covered = covered.wrapping_add(own);
    }
    if covered.wrapping_add(page) < length.wrapping_add(page_offset) {
        return Err(STATUS_BUFFER_TOO_SMALL);
    }
    let last = length.wrapping_add(own).wrapping_sub(covered);
    registers += page_offset.wrapping_add(last).wrapping_add(page - 1) / page;
    if registers <= available {
        possible = possible.wrapping_add(last);
    }
    Ok(Span {
        registers,
        possible,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chain of MDLs over (address, length) pieces; only the fields that geometry reads are filled.
    fn chain(pieces: &[(usize, usize)]) -> Vec<MDL> {
        let mut mdls: Vec<MDL> = pieces
            .iter()
            .map(|&(address, length)| {
                // SAFETY: all-zero bytes are a valid value of this plain structure.
                let mut mdl: MDL = unsafe { std::mem::zeroed() };
                mdl.StartVa = (address / PAGE * PAGE) as _;
                mdl.ByteOffset = (address % PAGE) as _;
                mdl.ByteCount = length as _;
                mdl
            })
            .collect();
        for index in 1..mdls.len() {
            mdls[index - 1].Next = &raw mut mdls[index];
        }
        mdls
    }

    fn head(mdls: &mut [MDL]) -> Mdl {
        // SAFETY: the chain lives in the test.
        unsafe { Mdl::new(&raw mut mdls[0]) }
    }

    #[test]
    fn an_unaligned_buffer_spans_one_page_more() {
        assert_eq!(span_pages(0x1000, 0x1000), 1);
        assert_eq!(span_pages(0x1001, 0x1000), 2);
        assert_eq!(span_pages(0xFFF, 2), 2);
        assert_eq!(span_pages(0, 0), 0);
    }

    #[test]
    fn a_transfer_goes_on_in_the_next_mdl() {
        let mut mdls = chain(&[(0x1000, 100), (0x5000, 200)]);
        let first = head(&mut mdls);
        assert!(advance(first, 10, 20) == (first, 30));
        let (mdl, offset) = advance(first, 10, 90);
        assert!(mdl == first.next() && offset == 0);
        let (mdl, offset) = advance(first, 0, 150);
        assert!(mdl == first.next() && offset == 50);
    }

    #[test]
    fn map_registers_count_pages_of_each_mdl() {
        let mut mdls = chain(&[(0x1800, 0x1000), (0x9000, 0x2000)]);
        let first = head(&mut mdls);
        assert_eq!(
            required_registers(first, 0, 0x800, 8),
            Ok(Span {
                registers: 1,
                possible: 0x800
            })
        );
        assert_eq!(
            required_registers(first, 0, 0x3000, 8),
            Ok(Span {
                registers: 4,
                possible: 0x3000
            })
        );
        assert_eq!(
            required_registers(first, 0x800, 0x800, 8),
            Ok(Span {
                registers: 1,
                possible: 0x800
            })
        );
    }

    #[test]
    fn too_few_map_registers_allow_whole_mdls_only() {
        let mut mdls = chain(&[(0x1000, 0x1000), (0x9000, 0x2000)]);
        let first = head(&mut mdls);
        assert_eq!(
            required_registers(first, 0, 0x3000, 2),
            Ok(Span {
                registers: 3,
                possible: 0x1000
            })
        );
        assert_eq!(
            required_registers(first, 0, 0x3000, 0),
            Ok(Span {
                registers: 3,
                possible: 0
            })
        );
    }

    #[test]
    fn a_chain_that_is_a_page_too_short_is_refused() {
        let mut mdls = chain(&[(0x1000, 0x1000)]);
        let first = head(&mut mdls);
        assert_eq!(
            required_registers(first, 0, 0x2001, 8),
            Err(STATUS_BUFFER_TOO_SMALL)
        );
        // Less than a page of slack passes: the published source does not notice.
        assert!(required_registers(first, 0, 0x1800, 8).is_ok());
    }
}
