//! A value that is there for a while, and gone only when nobody uses it any more.
//!
//! A device's hardware is there between `EvtDevicePrepareHardware` and `EvtDeviceReleaseHardware`. The framework calls
//! no callback that needs it at any other time; [`Rundown`] makes that hold by construction, so that no register
//! mapping can be used after it has been undone, whatever the driver does.

use core::ops::Deref;

use crate::sync::{AtomicUsize, Cell, Ordering};

/// The value is not there: new users are turned away.
const CLOSED: usize = 1;
/// One user. The count lies above the flag.
const USER: usize = 2;

/// A value that can be [used](Self::enter) while it is [there](Self::open), and [taken away](Self::close).
#[derive(Debug)]
pub struct Rundown<T> {
    /// Users, and whether new ones are turned away.
    state: AtomicUsize,
    /// `Some` unless closed. Written only by the one who has closed it, when no users are left.
    value: Cell<Option<T>>,
}

/// The value of a [`Rundown`], which stays there until this is dropped.
#[derive(Debug)]
pub struct Entered<'a, T> {
    rundown: &'a Rundown<T>,
    value: &'a T,
}

// SAFETY: users share the value, and opening and closing move it between threads.
unsafe impl<T: Send + Sync> Sync for Rundown<T> {}

impl<T> Rundown<T> {
    /// Without a value.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: AtomicUsize::new(CLOSED),
            value: Cell::new(None),
        }
    }

    /// The value, if it is there. May be called at any IRQL.
    pub fn enter(&self) -> Option<Entered<'_, T>> {
        self.state
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |state| {
                (state & CLOSED == 0).then(|| state.wrapping_add(USER))
            })
            .ok()?;
        self.value.with(|value| {
            // SAFETY: it was open, so the value has been written; while this user counts nobody writes it.
            let value = unsafe { &*value };
            value.as_ref().map(|value| Entered {
                rundown: self,
                value,
            })
        })
    }

    /// Puts the value there.
    ///
    /// # Errors
    ///
    /// `value`, if there is one already.
    pub fn open(&self, value: T) -> Result<(), T> {
        if self
            .state
            .compare_exchange(CLOSED, CLOSED | USER, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            return Err(value);
        }
        self.value.with_mut(|place| {
            // SAFETY: closed and counted as the only user, so nobody else reaches the place.
            unsafe { place.write(Some(value)) };
        });
        self.state.store(0, Ordering::Release);
        Ok(())
    }

    /// Turns new users away, calls `wait` until the last one has left, and takes the value. `None` if there was none.
    ///
    /// `wait` is called at the IRQL of the caller and should let others run; a user must not close what it uses.
    pub fn close(&self, mut wait: impl FnMut()) -> Option<T> {
        // This caller counts as a user to the end, so that nobody opens meanwhile.
        self.state
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |state| {
                (state & CLOSED == 0).then(|| state.wrapping_add(USER) | CLOSED)
            })
            .ok()?;
        while self.state.load(Ordering::Acquire) != CLOSED | USER {
            wait();
        }
        let value = self.value.with_mut(|place| {
            // SAFETY: closed, and this caller is the only user left, so nobody else reaches the place.
            unsafe { place.replace(None) }
        });
        self.state.store(CLOSED, Ordering::Release);
        value
    }
}

impl<T> Default for Rundown<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Deref for Entered<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value
    }
}

impl<T> Drop for Entered<'_, T> {
    fn drop(&mut self) {
        self.rundown.state.fetch_sub(USER, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn nobody_is_there() {
        panic!("there is nobody to wait for");
    }

    #[test]
    fn there_between_open_and_close() {
        let rundown = Rundown::new();
        assert!(rundown.enter().is_none());
        assert_eq!(rundown.open(7), Ok(()));
        assert_eq!(rundown.enter().as_deref(), Some(&7));
        assert_eq!(rundown.close(nobody_is_there), Some(7));
        assert!(rundown.enter().is_none());
        assert_eq!(rundown.close(nobody_is_there), None);
        assert_eq!(rundown.open(8), Ok(()));
        assert_eq!(rundown.enter().as_deref(), Some(&8));
    }

    #[test]
    fn a_second_value_is_not_taken() {
        let rundown = Rundown::new();
        assert_eq!(rundown.open(7), Ok(()));
        assert_eq!(rundown.open(8), Err(8));
        assert_eq!(rundown.enter().as_deref(), Some(&7));
    }

    #[test]
    fn closing_waits_for_the_last_user() {
        let rundown = Rundown::new();
        assert_eq!(rundown.open(7), Ok(()));
        let mut users = std::vec![rundown.enter(), rundown.enter()];
        let mut waited = 0;
        let value = rundown.close(|| {
            waited += 1;
            assert!(rundown.enter().is_none());
            assert_eq!(rundown.open(9), Err(9));
            users.pop();
        });
        assert_eq!((value, waited), (Some(7), 2));
    }
}

/// Every order in which the atomics of two threads can meet.
#[cfg(all(test, loom))]
mod explored {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    #[test]
    fn nobody_holds_what_has_been_taken_away() {
        loom::model(|| {
            let rundown = Arc::new(Rundown::new());
            assert!(rundown.open(7).is_ok());
            let user = {
                let rundown = Arc::clone(&rundown);
                thread::spawn(move || rundown.enter().map(|value| *value))
            };
            assert_eq!(rundown.close(thread::yield_now), Some(7));
            let seen = user.join().expect("no panic");
            assert!(matches!(seen, None | Some(7)));
        });
    }
}
