//! Time that has passed.

use wdk_sys::ntddk::KeQueryUnbiasedInterruptTime;

/// A moment since the system was started, not counting the time it was asleep; as exact as the clock interrupt, which
/// the system's timers go by too.
#[derive(Debug, Clone, Copy)]
pub struct Moment(u64);

impl Moment {
    /// This moment. Any IRQL.
    #[must_use]
    pub fn now() -> Self {
        // SAFETY: callable at any time.
        Self(unsafe { KeQueryUnbiasedInterruptTime() })
    }

    /// The later of two moments.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self(self.0.max(other.0))
    }

    /// Milliseconds from this moment until now, rounded down. Any IRQL.
    #[must_use]
    pub fn elapsed_ms(self) -> u64 {
        // In units of 100 ns.
        Self::now().0.saturating_sub(self.0) / 10_000
    }
}
