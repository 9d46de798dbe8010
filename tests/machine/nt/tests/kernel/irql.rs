//! Raising and lowering, and routines called too high.

use crate::machine;
use harness::{Suite, bug_check};
use machine_nt::exports::*;
use machine_nt::sched;

pub fn tests(suite: Suite) -> Suite {
    suite
        .passes("irql::raise_and_lower", || {
            machine(|| unsafe {
                assert_eq!(KfRaiseIrql(5), 0);
                assert_eq!(KeGetCurrentIrql(), 5);
                KeLowerIrql(2);
                assert_eq!(KfRaiseIrql(2), 2);
                KeLowerIrql(0);
                assert_eq!(sched::irql(), 0);
            });
        })
        .stops(
            "irql::raise_to_lower",
            bug_check(0xC4).p1(0x30).p2(5).p3(2),
            || {
                machine(|| unsafe {
                    KfRaiseIrql(5);
                    KfRaiseIrql(2);
                });
            },
        )
        .stops(
            "irql::lower_to_higher",
            bug_check(0xC4).p1(0x31).p2(0).p3(2),
            || {
                machine(|| unsafe { KeLowerIrql(2) });
            },
        )
        .stops(
            "irql::routine_called_too_high",
            bug_check(0xC4).p1(0xE5).p2(2).p3(0),
            || {
                machine(|| unsafe {
                    KfRaiseIrql(2);
                    let mut handle = std::ptr::null_mut();
                    ZwOpenKey(&mut handle, 0, crate::object());
                });
            },
        )
        .stops(
            "irql::interrupt_routine_changes_it",
            bug_check(0xC4).p1(0x111).p3(8).p4(9),
            || {
                machine(|| {
                    let interrupt = sched::Interrupt {
                        irql: 8,
                        vector: 1,
                        service: std::sync::Arc::new(|| unsafe {
                            KfRaiseIrql(9);
                        }),
                    };
                    sched::request_interrupt(0, interrupt.clone());
                    sched::request_interrupt(1, interrupt);
                    loop {
                        sched::switch_point(sched::Point::Yield);
                    }
                });
            },
        )
}
