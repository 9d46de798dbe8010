//! Map registers that another device has.

use super::queue::pump;
use super::registers::Registers;
use super::with;

/// Map registers that nobody gets until this is dropped: then those who wait for them are served.
#[derive(Debug)]
pub struct Occupied(Option<Registers>);

/// Takes all map registers that are free, as other devices of the machine would that are busy.
#[must_use]
pub fn occupy() -> Occupied {
    Occupied(with(|dma| {
        let free = dma.pool.free();
        // Those that need no pages are only counted.
        dma.pool.allocate(free, None)
    }))
}

impl Occupied {
    /// How many map registers.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.0.as_ref().map_or(0, |registers| registers.count)
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        if let Some(registers) = self.0.take() {
            with(|dma| dma.pool.release(&registers));
            pump();
        }
    }
}
