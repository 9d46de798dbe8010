//! What an instrumented image calls where the plain one has an atomic instruction: LLVM's ThreadSanitizer pass makes
//! the calls. Each is noted in the trace and a switch point, at any IRQL, and then the operation is carried out.
//!
//! One operating-system thread runs everything, so the strongest memory order does for every one that is asked for.

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::SeqCst};

use crate::ke::stack;
use crate::sched::{self, Point};
use crate::{counters, trace};

/// The module that an instrumented image imports them from.
pub const MODULE: &str = "tsan.sys";

/// LLVM's number of a memory order.
type Order = i32;

/// The switch point in front of an operation on the memory at `address`.
fn point<T>(what: &'static str, address: *mut T) {
    let _inside = stack::enter(what);
    trace::record(what, address as u64);
    counters().atomics.increment();
    sched::switch_point(Point::Memory);
}

/// The operations on atomics of one width, each under the name that the pass gives it.
macro_rules! operations {
    ($module:ident, $atomic:ident, $int:ident, $prefix:literal) => {
        mod $module {
            use super::*;

            /// # Safety
            /// `address` points to a live atomic.
            unsafe fn at<'a>(name: &'static str, address: *mut $int) -> &'a $atomic {
                point(name, address);
                // SAFETY: by the caller's promise.
                unsafe { $atomic::from_ptr(address) }
            }

            unsafe extern "win64" fn load(address: *mut $int, _: Order) -> $int {
                // SAFETY: the driver's code has it from a reference to an atomic.
                unsafe { at(concat!($prefix, "load"), address) }.load(SeqCst)
            }

            unsafe extern "win64" fn store(address: *mut $int, value: $int, _: Order) {
                // SAFETY: as in `load`.
                unsafe { at(concat!($prefix, "store"), address) }.store(value, SeqCst);
            }

            operations!(@change $atomic, $int, $prefix, exchange, swap);
            operations!(@change $atomic, $int, $prefix, fetch_add, fetch_add);
            operations!(@change $atomic, $int, $prefix, fetch_sub, fetch_sub);
            operations!(@change $atomic, $int, $prefix, fetch_and, fetch_and);
            operations!(@change $atomic, $int, $prefix, fetch_or, fetch_or);
            operations!(@change $atomic, $int, $prefix, fetch_xor, fetch_xor);
            operations!(@change $atomic, $int, $prefix, fetch_nand, fetch_nand);

            /// Returns what was there, which is `expected` if it was exchanged.
            unsafe extern "win64" fn compare_exchange_val(
                address: *mut $int,
                expected: $int,
                new: $int,
                _: Order,
                _: Order,
            ) -> $int {
                // SAFETY: as in `load`.
                unsafe { at(concat!($prefix, "compare_exchange_val"), address) }
                    .compare_exchange(expected, new, SeqCst, SeqCst)
                    .unwrap_or_else(|found| found)
            }

            pub(super) fn exports() -> Vec<(&'static str, usize)> {
                operations!(@table $prefix,
                    load, store, exchange, fetch_add, fetch_sub, fetch_and, fetch_or, fetch_xor, fetch_nand,
                    compare_exchange_val)
            }
        }
    };
    (@change $atomic:ident, $int:ident, $prefix:literal, $name:ident, $method:ident) => {
        unsafe extern "win64" fn $name(address: *mut $int, value: $int, _: Order) -> $int {
            // SAFETY: as in `load`.
            unsafe { at(concat!($prefix, stringify!($name)), address) }.$method(value, SeqCst)
        }
    };
    (@table $prefix:literal, $($name:ident),*) => {
        vec![$((concat!($prefix, stringify!($name)), $name as *const () as usize)),*]
    };
}

operations!(bits8, AtomicU8, u8, "__tsan_atomic8_");
operations!(bits16, AtomicU16, u16, "__tsan_atomic16_");
operations!(bits32, AtomicU32, u32, "__tsan_atomic32_");
operations!(bits64, AtomicU64, u64, "__tsan_atomic64_");

/// A fence: nothing is accessed, and nothing is out of order that it could put in order.
extern "win64" fn fence(_: Order) {}

/// Name and address of everything that an instrumented image can import from [`MODULE`].
pub fn exports() -> Vec<(&'static str, usize)> {
    let fences = ["__tsan_atomic_thread_fence", "__tsan_atomic_signal_fence"]
        .map(|name| (name, fence as *const () as usize));
    [
        bits8::exports(),
        bits16::exports(),
        bits32::exports(),
        bits64::exports(),
    ]
    .into_iter()
    .flatten()
    .chain(fences)
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The function served under a name.
    fn served(name: &str) -> *const () {
        let export = exports().into_iter().find(|(export, _)| *export == name);
        let (_, address) = export.unwrap_or_else(|| panic!("{name} is not served"));
        std::ptr::with_exposed_provenance(address)
    }

    type Change = unsafe extern "win64" fn(*mut u16, u16, Order) -> u16;

    #[test]
    fn operations_do_what_their_names_say() {
        let mut value = 0b1100;
        let mut change = |name: &str, operand| {
            // SAFETY: what is served under these names has this type.
            let function = unsafe {
                std::mem::transmute::<*const (), Change>(served(&format!("__tsan_atomic16_{name}")))
            };
            // SAFETY: the value lives and is nobody else's.
            let before = unsafe { function(&raw mut value, operand, 5) };
            (before, value)
        };
        assert_eq!(change("fetch_add", 1), (0b1100, 0b1101));
        assert_eq!(change("fetch_sub", 2), (0b1101, 0b1011));
        assert_eq!(change("fetch_and", 0b0110), (0b1011, 0b0010));
        assert_eq!(change("fetch_or", 0b1000), (0b0010, 0b1010));
        assert_eq!(change("fetch_xor", 0b0011), (0b1010, 0b1001));
        assert_eq!(change("fetch_nand", 0b1000), (0b1001, !0b1000));
        assert_eq!(change("exchange", 7), (!0b1000, 7));
    }

    #[test]
    fn a_compare_exchange_returns_what_it_found() {
        type CompareExchange = unsafe extern "win64" fn(*mut u64, u64, u64, Order, Order) -> u64;
        // SAFETY: as above.
        let function = unsafe {
            std::mem::transmute::<*const (), CompareExchange>(served(
                "__tsan_atomic64_compare_exchange_val",
            ))
        };
        let mut value = 1 << 40;
        // SAFETY: as above.
        let found = unsafe { function(&raw mut value, 2, 3, 4, 2) };
        assert_eq!((found, value), (1 << 40, 1 << 40));
        // SAFETY: as above.
        let found = unsafe { function(&raw mut value, 1 << 40, 3, 4, 2) };
        assert_eq!((found, value), (1 << 40, 3));
    }

    /// The list of exports that the image is linked with.
    #[test]
    fn everything_that_can_be_imported_is_served() {
        let list = include_str!("../../../wdk/lib/tsan.def");
        let (head, names) = list.split_once("EXPORTS").expect("a list of exports");
        assert!(head.contains(&format!("LIBRARY {MODULE}\n")));
        let mut listed: Vec<&str> = names.split_whitespace().collect();
        let mut served: Vec<&str> = exports().into_iter().map(|(name, _)| name).collect();
        listed.sort_unstable();
        served.sort_unstable();
        assert_eq!(listed, served);
    }
}
