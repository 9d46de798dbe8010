//! Gates: what a driver calls through a table of functions, such as the framework's, passes a gate on its way, where the
//! call is counted and noted in the trace, the kernel stack is checked and a switch point is passed. The function behind
//! the gate gets its arguments as they are, on the stack too; until it returns, what is on the stack is not the driver's.

mod record;

use crate::bugcheck::{Stop, stop_machine};
use crate::ke::stack;
use crate::sched::{self, Point};
use crate::{Counter, counters};
use std::ptr;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{Acquire, Release};

/// Gates there are: more than KMDF 1.33 has functions.
const COUNT: usize = 480;

/// What a call is counted as, beyond being one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It takes a lock.
    Lock,
    /// It makes an object or other memory for the caller.
    Allocation,
    Other,
}

impl Kind {
    /// What a function of the framework does, by its name. Resources of a transaction are reserved, not made.
    fn of(name: &str) -> Self {
        if name.contains("AcquireLock")
            || name.ends_with("LockAcquire")
            || name.ends_with("Synchronize")
        {
            Self::Lock
        } else if name.contains("Create")
            || name.contains("Alloc") && !name.ends_with("AllocateResources")
        {
            Self::Allocation
        } else {
            Self::Other
        }
    }
}

struct Target {
    name: &'static str,
    address: usize,
    kind: Kind,
    calls: Counter,
}

/// What is behind each gate: set once at the start, read at every call.
static TARGETS: [AtomicPtr<Target>; COUNT] = [const { AtomicPtr::new(ptr::null_mut()) }; COUNT];

/// What is behind gate `index`.
fn target(index: usize) -> Option<&'static Target> {
    // SAFETY: null, or leaked by `guard` and not changed since.
    unsafe { TARGETS.get(index)?.load(Acquire).as_ref() }
}

/// How often each function behind a gate has been called: those that have been.
pub fn calls() -> Vec<(&'static str, u64)> {
    (0..COUNT)
        .filter_map(target)
        .map(|target| (target.name, target.calls.get()))
        .filter(|(_, calls)| *calls > 0)
        .collect()
}

/// Puts gate `index` in front of the function at `address`; the address of the gate. Any function of the Windows
/// convention with integer, pointer or floating-point arguments in any number.
pub fn guard(index: usize, name: &'static str, address: usize) -> usize {
    let target = Box::leak(Box::new(Target {
        name,
        address,
        kind: Kind::of(name),
        calls: Counter::default(),
    }));
    match TARGETS.get(index) {
        Some(place) => place.store(target, Release),
        None => stop_machine(Stop::Internal, format!("{name}: there is no gate {index}")),
    }
    gates()[index] as usize
}

/// All gates have been put up: what is behind them can be told to whoever records it.
pub fn complete() {
    record::offered((0..COUNT).filter_map(target).map(|target| target.name));
}

/// Called in front of every function behind a gate; returns its address. [`leave`] is called after the function.
extern "win64" fn pass(index: usize) -> usize {
    let Some(target) = target(index) else {
        stop_machine(Stop::Internal, format!("gate {index} leads nowhere"));
    };
    if target.calls.get() == 0 {
        record::called(target.name);
    }
    target.calls.increment();
    let counters = counters();
    counters.framework_calls.increment();
    match target.kind {
        Kind::Lock => counters.driver_locks.increment(),
        Kind::Allocation => counters.driver_allocations.increment(),
        Kind::Other => {}
    }
    // Until `leave`.
    std::mem::forget(stack::enter(target.name));
    crate::trace::record(target.name, 0);
    sched::switch_point(Point::Routine);
    target.address
}

/// Called after every function behind a gate.
extern "win64" fn leave() {
    stack::leave();
}

/// Arguments that are passed on the stack, at most: more than any function of KMDF has.
const STACK_ARGUMENTS: usize = 12;

/// Passes the gate whose index is in EAX, calls the function with the arguments it was called with, and leaves the gate.
#[unsafe(naked)]
unsafe extern "win64" fn go_through() {
    core::arch::naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "push rcx",
        "push rdx",
        "push r8",
        "push r9",
        "sub rsp, 96",
        "movaps [rsp + 32], xmm0",
        "movaps [rsp + 48], xmm1",
        "movaps [rsp + 64], xmm2",
        "movaps [rsp + 80], xmm3",
        "mov ecx, eax",
        "call {pass}",
        "movaps xmm0, [rsp + 32]",
        "movaps xmm1, [rsp + 48]",
        "movaps xmm2, [rsp + 64]",
        "movaps xmm3, [rsp + 80]",
        "mov rcx, [rbp - 8]",
        "mov rdx, [rbp - 16]",
        "mov r8, [rbp - 24]",
        "mov r9, [rbp - 32]",
        "sub rsp, {frame}",
        "mov r10d, {arguments}",
        "2:",
        "mov r11, [rbp + 8 * r10 + 40]",
        "mov [rsp + 8 * r10 + 24], r11",
        "dec r10d",
        "jnz 2b",
        "call rax",
        "mov [rbp - 8], rax",
        "movups [rbp - 32], xmm0",
        "call {leave}",
        "movups xmm0, [rbp - 32]",
        "mov rax, [rbp - 8]",
        "mov rsp, rbp",
        "pop rbp",
        "ret",
        pass = sym pass,
        leave = sym leave,
        arguments = const STACK_ARGUMENTS,
        frame = const 32 + 8 * STACK_ARGUMENTS,
    )
}

/// The gate with this index.
#[unsafe(naked)]
unsafe extern "win64" fn gate<const INDEX: usize>() {
    core::arch::naked_asm!(
        "mov eax, {index}",
        "jmp {go_through}",
        index = const INDEX,
        go_through = sym go_through,
    )
}

/// The addresses of the gates, eight from each of the given indices on.
macro_rules! eights {
    ($($start:literal)*) => {
        [$(
            gate::<{ $start }> as *const (),
            gate::<{ $start + 1 }> as *const (),
            gate::<{ $start + 2 }> as *const (),
            gate::<{ $start + 3 }> as *const (),
            gate::<{ $start + 4 }> as *const (),
            gate::<{ $start + 5 }> as *const (),
            gate::<{ $start + 6 }> as *const (),
            gate::<{ $start + 7 }> as *const (),
        )*]
    };
}

fn gates() -> [*const (); COUNT] {
    eights!(0 8 16 24 32 40 48 56 64 72 80 88 96 104 112 120 128 136 144 152 160 168 176 184
        192 200 208 216 224 232 240 248 256 264 272 280 288 296 304 312 320 328 336 344 352 360 368 376
        384 392 400 408 416 424 432 440 448 456 464 472)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_and_allocations_are_told_by_their_names() {
        let locks = [
            "WdfSpinLockAcquire",
            "WdfWaitLockAcquire",
            "WdfObjectAcquireLock",
            "WdfInterruptAcquireLock",
            "WdfInterruptTryToAcquireLock",
            "WdfInterruptSynchronize",
        ];
        let allocations = [
            "WdfDmaTransactionCreate",
            "WdfMemoryCreatePreallocated",
            "WdfObjectAllocateContext",
            "WdfDeviceAllocAndQueryProperty",
        ];
        let others = [
            "WdfSpinLockRelease",
            "WdfObjectReleaseLock",
            "WdfDmaTransactionExecute",
        ];
        assert!(locks.into_iter().all(|name| Kind::of(name) == Kind::Lock));
        assert!(
            allocations
                .into_iter()
                .all(|name| Kind::of(name) == Kind::Allocation)
        );
        assert!(others.into_iter().all(|name| Kind::of(name) == Kind::Other));
    }

    type Function = unsafe extern "win64" fn(u64, f64, u64, u64, u64, u64) -> u64;

    extern "win64" fn digits(a: u64, b: f64, c: u64, d: u64, e: u64, f: u64) -> u64 {
        [a, b as u64, c, d, e, f]
            .iter()
            .fold(0, |number, digit| 10 * number + digit)
    }

    type Many = unsafe extern "win64" fn(u64, u64, u64, u64, u64, u64, u64, u64) -> f64;

    extern "win64" fn sum(a: u64, b: u64, c: u64, d: u64, e: u64, f: u64, g: u64, h: u64) -> f64 {
        (a + b + c + d + e + f + g + h) as f64
    }

    #[test]
    fn arguments_on_the_stack_and_a_result_that_is_no_integer_pass() {
        let gate = guard(8, "sum", sum as *const () as usize);
        let pointer: *const () = std::ptr::with_exposed_provenance(gate);
        // SAFETY: the gate leads to a function of this type.
        let function = unsafe { std::mem::transmute::<*const (), Many>(pointer) };
        // SAFETY: it wants nothing but numbers.
        let result = unsafe { function(1, 2, 3, 4, 5, 6, 7, 8) };
        assert_eq!(result, 36.0);
    }

    #[test]
    fn arguments_and_result_pass() {
        let first = guard(7, "digits", digits as *const () as usize);
        let second = guard(479, "digits", digits as *const () as usize);
        assert_ne!(first, second);
        for gate in [first, second] {
            let pointer: *const () = std::ptr::with_exposed_provenance(gate);
            // SAFETY: the gate leads to a function of this type.
            let function = unsafe { std::mem::transmute::<*const (), Function>(pointer) };
            // SAFETY: it wants nothing but numbers.
            let result = unsafe { function(1, 2.0, 3, 4, 5, 6) };
            assert_eq!(result, 123_456);
        }
        let counted = calls().into_iter().filter(|(name, _)| *name == "digits");
        assert_eq!(counted.map(|(_, calls)| calls).collect::<Vec<_>>(), [1, 1]);
    }
}
