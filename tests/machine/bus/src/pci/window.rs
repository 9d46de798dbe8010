//! Addresses for memory BARs.

use std::ops::Range;

/// The part of a board's register window that is not yet given away.
#[derive(Clone, Debug)]
pub struct RegisterWindow {
    free: Range<u64>,
}

impl RegisterWindow {
    /// All of `window`.
    pub fn new(window: Range<u64>) -> Self {
        Self { free: window }
    }

    /// Takes `size` bytes, a power of two, aligned to their size; `None` if they do not fit.
    pub fn take(&mut self, size: u64) -> Option<u64> {
        let start = self.free.start.checked_next_multiple_of(size)?;
        let end = start
            .checked_add(size)
            .filter(|&end| end <= self.free.end)?;
        self.free.start = end;
        Some(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_aligned_and_run_out() {
        let mut window = RegisterWindow::new(0x1000..0x4000);
        assert_eq!(window.take(0x10), Some(0x1000));
        assert_eq!(window.take(0x1000), Some(0x2000));
        assert_eq!(window.take(0x2000), None);
        assert_eq!(window.take(0x1000), Some(0x3000));
        assert_eq!(window.take(1), None);
    }
}
