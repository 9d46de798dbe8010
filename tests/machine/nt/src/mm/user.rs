//! Which addresses are a user's. The user layer registers its buffers; everything else is the kernel's.

use super::mdl;
use crate::bugcheck::{self, code};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Ranges by their start: their end.
static RANGES: Mutex<BTreeMap<usize, usize>> = Mutex::new(BTreeMap::new());

fn ranges() -> MutexGuard<'static, BTreeMap<usize, usize>> {
    RANGES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Declares memory (pages of guest RAM, mapped) to be a user's.
pub fn register_user_range(range: Range<usize>) {
    ranges().insert(range.start, range.end);
}

/// The user gives the memory up. Bug check 0x76 if a driver still has pages of it locked.
pub fn unregister_user_range(range: Range<usize>) {
    let locked = mdl::locked_in(&range);
    if let Some(mdl) = locked {
        let explanation =
            format!("user memory {range:#x?} goes while MDL {mdl:#x} has pages of it locked");
        bugcheck::stop(
            code::PROCESS_HAS_LOCKED_PAGES,
            [0, 0, 1, mdl as u64],
            explanation,
        );
    }
    ranges().remove(&range.start);
}

/// Whether every byte of the range is a user's.
pub fn is_user(range: &Range<usize>) -> bool {
    let ranges = ranges();
    let around = ranges.range(..=range.start).next_back();
    around.is_some_and(|(_, &end)| range.end <= end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_ranges_only() {
        register_user_range(0x1000..0x3000);
        assert!(is_user(&(0x1000..0x3000)));
        assert!(is_user(&(0x2FFF..0x3000)));
        assert!(!is_user(&(0x2FFF..0x3001)));
        assert!(!is_user(&(0xFFF..0x2000)));
        unregister_user_range(0x1000..0x3000);
        assert!(!is_user(&(0x1000..0x1001)));
    }
}
