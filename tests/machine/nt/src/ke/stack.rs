//! How much kernel stack driver code uses.
//!
//! Windows gives a thread 24 KiB. Frames of the machine are larger than those of the kernel they stand for, so only the
//! frames of driver code are counted: from where the machine called the driver to where the driver calls the machine,
//! summed over nested calls.

use crate::bugcheck;
use crate::mode;
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

/// What is known of the stack that runs now.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Account {
    /// Stack pointer where driver code was entered; 0 while none is on the stack.
    base: usize,
    /// Bytes used by driver code in outer calls.
    carried: usize,
    /// Bytes used by driver code when it last called the machine.
    used: usize,
    /// Depth of machine routines above the innermost driver code.
    nesting: u32,
}

thread_local! {
    static ACCOUNT: Cell<Account> = const { Cell::new(Account { base: 0, carried: 0, used: 0, nesting: 0 }) };
}

/// Sets the limit for driver code, bytes.
pub(crate) fn set_limit(bytes: usize) {
    LIMIT.store(bytes, Relaxed);
}

/// Takes the account away for another fiber; give it back with [`restore`].
pub(crate) fn save() -> Account {
    ACCOUNT.take()
}

/// Gives the account back to the fiber that goes on.
pub(crate) fn restore(account: Account) {
    ACCOUNT.set(account);
}

/// An address in the caller's frame, or close to it.
#[inline(never)]
fn stack_pointer() -> usize {
    let marker = 0u8;
    std::ptr::from_ref(std::hint::black_box(&marker)).addr()
}

/// Calls driver code: every call of a routine of a driver goes through here.
pub fn driver_call<R>(f: impl FnOnce() -> R) -> R {
    call_with(ACCOUNT.get().used, f)
}

/// Calls driver code on a stack of its own, as interrupt service routines and DPCs have it.
pub fn driver_call_on_own_stack<R>(f: impl FnOnce() -> R) -> R {
    call_with(0, f)
}

fn call_with<R>(carried: usize, f: impl FnOnce() -> R) -> R {
    if mode::is_free_running() {
        return f();
    }
    let outer = ACCOUNT.replace(Account {
        base: stack_pointer(),
        carried,
        used: carried,
        nesting: 0,
    });
    let result = f();
    ACCOUNT.set(outer);
    result
}

/// While it lives, the machine runs on behalf of the driver code below.
#[derive(Debug)]
pub struct Inside(());

/// Notes that a routine of the machine was entered and checks the stack used by the driver that called it.
pub(crate) fn enter(routine: &'static str) -> Inside {
    if mode::is_free_running() {
        return Inside(());
    }
    let mut account = ACCOUNT.get();
    if account.nesting == 0 && account.base != 0 {
        account.used = account.carried + account.base.saturating_sub(stack_pointer());
        check(account.used, routine);
    }
    ACCOUNT.set(account);
    machine_code()
}

/// Enters a routine of a layer above the kernel that the kernel calls as it calls a driver's. Its frames are the
/// machine's: only what it calls by [`driver_call`] is driver code again. Keep the result until the routine returns.
pub fn machine_code() -> Inside {
    let mut account = ACCOUNT.get();
    account.nesting += 1;
    ACCOUNT.set(account);
    Inside(())
}

/// Checks a stack pointer reported by `__chkstk`: what the driver is about to use.
pub(crate) fn check_pointer(lowest: usize) {
    let account = ACCOUNT.get();
    if account.base != 0 && account.nesting == 0 {
        check(
            account.carried + account.base.saturating_sub(lowest),
            "__chkstk",
        );
    }
}

/// Whether the innermost code on the stack that runs is a driver's.
pub(crate) fn in_driver() -> bool {
    let account = ACCOUNT.get();
    account.base != 0 && account.nesting == 0
}

fn check(used: usize, routine: &'static str) {
    let limit = LIMIT.load(Relaxed);
    if used > limit {
        let explanation = format!(
            "driver code uses {used} bytes of kernel stack at {routine}; {limit} are there"
        );
        let double_fault = 8;
        bugcheck::stop(
            bugcheck::code::UNEXPECTED_KERNEL_MODE_TRAP,
            [double_fault, used as u64, limit as u64, 0],
            explanation,
        );
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        leave();
    }
}

/// Ends what a forgotten [`Inside`] began.
pub(crate) fn leave() {
    let mut account = ACCOUNT.get();
    account.nesting = account.nesting.saturating_sub(1);
    ACCOUNT.set(account);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As when a driver calls the framework, which calls the kernel, and the driver again.
    #[test]
    fn frames_between_the_kernel_and_the_driver_are_not_counted() {
        #[inline(never)]
        fn framework<R>(f: impl FnOnce() -> R) -> R {
            let frame = [1u8; 32 << 10];
            std::hint::black_box(&frame);
            f()
        }
        let used = driver_call(|| {
            let _gate = enter("a DDI");
            framework(|| {
                drop(enter("a kernel routine"));
                driver_call(deep)
            })
        });
        assert!((4096..16 << 10).contains(&used), "{used}");
        let used = driver_call(|| {
            let _called_as_a_driver = machine_code();
            framework(|| driver_call(deep))
        });
        assert!((4096..16 << 10).contains(&used), "{used}");
    }

    #[inline(never)]
    fn deep() -> usize {
        let big = [1u8; 4096];
        std::hint::black_box(&big);
        let inside = enter("test");
        drop(inside);
        ACCOUNT.get().used
    }

    #[test]
    fn nested_calls_add_up() {
        let (outer, inner) = driver_call(|| {
            let _inside = enter("outer");
            let outer = ACCOUNT.get().used;
            (outer, driver_call(deep))
        });
        assert!(inner >= outer + 4096 && inner < 16 << 10, "{outer} {inner}");
        assert_eq!(ACCOUNT.get().base, 0);
    }
}
