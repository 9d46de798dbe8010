//! The kernel stack: Windows gives a thread 24 KiB, and what callbacks nest in each other takes of it together.

use std::hint::black_box;

use harness::{Suite, bug_check};
use machine::ddi;
use machine::nt_sys::*;

use crate::recorder::{self, Plan, device, interrupt};

/// UNEXPECTED_KERNEL_MODE_TRAP with a double fault, as a stack that is used up ends.
const TRAP: u32 = 0x7F;
const DOUBLE_FAULT: u64 = 8;

pub fn tests(suite: Suite) -> Suite {
    suite
        .passes("a_callback_may_use_16_kib_of_stack", || {
            read_with(|_, request| unsafe { using::<16>(|| complete(request)) });
        })
        .stops(
            "a_callback_that_uses_more_than_the_kernel_stack_stops",
            bug_check(TRAP).p1(DOUBLE_FAULT),
            || read_with(|_, request| unsafe { using::<25>(|| complete(request)) }),
        )
        .stops(
            "callbacks_within_callbacks_share_the_kernel_stack",
            bug_check(TRAP).p1(DOUBLE_FAULT),
            || read_with(|_, request| unsafe { using::<14>(|| synchronize(request)) }),
        )
        .passes("the_machine_takes_nothing_of_it", || {
            read_with(|_, request| unsafe { using::<4>(|| synchronize(request)) });
        })
}

/// Calls back at DIRQL, where 14 KiB more are used.
unsafe fn synchronize(request: WDFREQUEST) {
    unsafe extern "win64" fn synchronized(
        interrupt: WDFINTERRUPT,
        _context: WDFCONTEXT,
    ) -> BOOLEAN {
        using::<14>(|| assert_eq!(ddi!(WdfInterruptGetDevice(interrupt)), device()));
        1
    }
    let context = std::ptr::null_mut();
    ddi!(WdfInterruptSynchronize(
        interrupt(),
        Some(synchronized),
        context
    ));
    complete(request);
}

/// Has the driver serve two reads by `read`.
fn read_with(read: unsafe fn(WDFQUEUE, WDFREQUEST)) {
    let plan = Plan {
        read,
        ..Plan::default()
    };
    recorder::opened(plan, |_, device| {
        for request in [device.read(1), device.read(2)] {
            request.wait().result.expect("served");
        }
    });
}

unsafe fn complete(request: WDFREQUEST) {
    ddi!(WdfRequestComplete(request, STATUS_SUCCESS));
}

/// Calls `f` with so many KiB of stack in use.
#[inline(never)]
unsafe fn using<const KIB: usize>(f: impl FnOnce()) {
    let used = [[1u8; 1024]; KIB];
    black_box(&used);
    f();
    black_box(&used);
}
