//! Fibers: a stack with a suspended computation, on corosensei.
//!
//! Nothing ever unwinds through a suspended fiber: its stack may hold frames of driver code. A fiber that will not
//! go on is reset without unwinding, and its stack is used again.

use crate::ke::stack;
use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use std::cell::{Cell, RefCell};

type Body = Coroutine<(), (), (), DefaultStack>;

thread_local! {
    /// The yielder of the fiber that runs now; null on the stack of the run loop.
    static YIELDER: Cell<*const Yielder<(), ()>> = const { Cell::new(std::ptr::null()) };
    static FREE_STACKS: RefCell<Vec<DefaultStack>> = const { RefCell::new(Vec::new()) };
}

/// A computation with a stack of its own.
pub(super) struct Fiber(Option<Body>);

/// What a fiber did when it was resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Suspended,
    Finished,
}

impl Fiber {
    /// A fiber that will run `f` on a stack of `size` bytes when first resumed.
    pub(super) fn new(size: usize, f: impl FnOnce() + 'static) -> std::io::Result<Self> {
        let stack = match FREE_STACKS.with_borrow_mut(Vec::pop) {
            Some(stack) => stack,
            None => DefaultStack::new(size)?,
        };
        Ok(Self(Some(Coroutine::with_stack(
            stack,
            move |yielder, ()| {
                YIELDER.set(yielder);
                f();
            },
        ))))
    }

    /// Runs the fiber until it suspends or ends.
    pub(super) fn resume(&mut self) -> Outcome {
        let Some(body) = self.0.as_mut() else {
            return Outcome::Finished;
        };
        let outcome = body.resume(());
        YIELDER.set(std::ptr::null());
        match outcome {
            CoroutineResult::Yield(()) => Outcome::Suspended,
            CoroutineResult::Return(()) => Outcome::Finished,
        }
    }
}

impl Drop for Fiber {
    fn drop(&mut self) {
        let Some(mut body) = self.0.take() else {
            return;
        };
        if !body.done() {
            // SAFETY: what the suspended frames own is leaked; nothing outside refers to objects on that stack, since
            // the thread it belonged to has terminated or the machine has ended.
            unsafe { body.force_reset() };
        }
        let stack = body.into_stack();
        FREE_STACKS.with_borrow_mut(|free| free.push(stack));
    }
}

/// Whether the caller runs on a fiber (and not on the stack of the run loop).
pub(super) fn on_fiber() -> bool {
    !YIELDER.get().is_null()
}

/// Suspends the fiber that calls; returns when it is resumed.
pub(super) fn suspend() {
    let yielder = YIELDER.get();
    assert!(!yielder.is_null(), "suspend outside a fiber");
    let account = stack::save();
    // SAFETY: the yielder lives at the bottom of the stack that runs now.
    unsafe { &*yielder }.suspend(());
    stack::restore(account);
    YIELDER.set(yielder);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn interleaves() {
        let log = Rc::new(RefCell::new(Vec::new()));
        let mut fibers: Vec<Fiber> = (0..2)
            .map(|i| {
                let log = log.clone();
                Fiber::new(256 << 10, move || {
                    for step in 0..2 {
                        log.borrow_mut().push((i, step));
                        suspend();
                    }
                })
                .unwrap()
            })
            .collect();
        while fibers.iter_mut().any(|f| f.resume() == Outcome::Suspended) {
            fibers[1].resume();
        }
        assert_eq!(log.borrow().as_slice(), &[(0, 0), (1, 0), (0, 1), (1, 1)]);
    }

    #[test]
    fn a_suspended_fiber_can_be_dropped() {
        let mut fiber = Fiber::new(256 << 10, || {
            suspend();
            unreachable!();
        })
        .unwrap();
        assert_eq!(fiber.resume(), Outcome::Suspended);
        drop(fiber);
        assert!(!on_fiber());
    }
}
