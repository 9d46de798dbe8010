//! Atomics and cells: the processor's, or loom's where loom explores every order of their operations.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicUsize, Ordering};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicUsize, Ordering};

/// A cell whose owner is decided elsewhere, by an atomic.
#[cfg(not(loom))]
#[derive(Debug)]
pub(crate) struct Cell<T>(core::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> Cell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(core::cell::UnsafeCell::new(value))
    }

    /// Hands `use_value` the address of the value.
    pub(crate) fn with<R>(&self, use_value: impl FnOnce(*const T) -> R) -> R {
        use_value(self.0.get())
    }

    /// Hands `use_value` the address of the value, to change it.
    pub(crate) fn with_mut<R>(&self, use_value: impl FnOnce(*mut T) -> R) -> R {
        use_value(self.0.get())
    }
}

#[cfg(loom)]
pub(crate) use loom::cell::UnsafeCell as Cell;
