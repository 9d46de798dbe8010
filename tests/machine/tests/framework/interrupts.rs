//! Interrupts: where the service routine runs, what keeps it out, how often the DPC runs.

use std::ptr;

use harness::{Suite, machine_stop};
use machine::ddi;
use machine::nt_sys::*;
use machine::{Config, Interrupts};
use machine_nt::exports::{
    KeDelayExecutionThread, KeGetCurrentIrql, KeLowerIrql, KeStallExecutionProcessor, KfRaiseIrql,
};

use crate::recorder::{
    self, ACKNOWLEDGE, Plan, RAISE, STATUS, interrupt, record, recorded, register, set_register,
};

pub fn tests(suite: Suite) -> Suite {
    suite
        .passes(
            "the_service_routine_runs_at_the_devices_irql",
            the_service_routine_runs_at_the_devices_irql,
        )
        .passes(
            "the_service_routine_waits_for_the_interrupt_lock",
            the_service_routine_waits_for_the_interrupt_lock,
        )
        .passes(
            "one_dpc_serves_several_interrupts",
            one_dpc_serves_several_interrupts,
        )
        .passes(
            "a_dpc_is_queued_again_after_it_ran",
            a_dpc_is_queued_again_after_it_ran,
        )
        .passes(
            "synchronized_calls_run_at_the_devices_irql",
            synchronized_calls_run_at_the_devices_irql,
        )
        .passes(
            "a_sleeping_device_has_no_interrupts",
            a_sleeping_device_has_no_interrupts,
        )
        .passes(
            "interrupts_come_through_while_enablers_are_called",
            interrupts_come_through_while_enablers_are_called,
        )
        .passes(
            "enable_and_disable_run_at_the_devices_irql",
            enable_and_disable_run_at_the_devices_irql,
        )
        .stops(
            "a_line_that_nobody_claims_is_a_storm",
            machine_stop("interrupt storm"),
            a_line_that_nobody_claims_is_a_storm,
        )
}

fn one_processor(config: &mut Config) {
    config.processors = 1;
}

/// Lets what was asked for happen: on all processors, where the IRQL allows to wait for them.
unsafe fn let_pass() {
    if KeGetCurrentIrql() > PASSIVE_LEVEL as KIRQL {
        KeStallExecutionProcessor(50);
    } else {
        let mut millisecond = LARGE_INTEGER { QuadPart: -10_000 };
        KeDelayExecutionThread(_MODE::KernelMode as KPROCESSOR_MODE, 0, &mut millisecond);
    }
}

unsafe fn devices_irql() -> KIRQL {
    let mut info = WDF_INTERRUPT_INFO {
        Size: size_of::<WDF_INTERRUPT_INFO>() as ULONG,
        ..Default::default()
    };
    ddi!(WdfInterruptGetInfo(interrupt(), &mut info));
    info.Irql
}

unsafe extern "win64" fn isr_with_irql(_interrupt: WDFINTERRUPT, _message: ULONG) -> BOOLEAN {
    let status = register(STATUS);
    set_register(ACKNOWLEDGE, status);
    record(format!("isr at {}", KeGetCurrentIrql()));
    1
}

unsafe extern "win64" fn isr_that_claims_nothing(
    _interrupt: WDFINTERRUPT,
    _message: ULONG,
) -> BOOLEAN {
    0
}

fn the_service_routine_runs_at_the_devices_irql() {
    let plan = Plan {
        isr: isr_with_irql,
        ..Plan::default()
    };
    recorder::opened(plan, |_, _| unsafe {
        let irql = devices_irql();
        assert!(irql > DISPATCH_LEVEL as KIRQL, "{irql}");
        set_register(RAISE, 1);
        let_pass();
        assert_eq!(recorded(), [format!("isr at {irql}")]);
    });
}

/// Two processors, so that raising the IRQL alone keeps nothing out.
fn the_service_routine_waits_for_the_interrupt_lock() {
    let plan = Plan {
        isr: isr_with_irql,
        ..Plan::default()
    };
    recorder::opened(plan, |_, _| unsafe {
        let irql = devices_irql();
        ddi!(WdfInterruptAcquireLock(interrupt()));
        assert_eq!(KeGetCurrentIrql(), irql);
        set_register(RAISE, 1);
        let_pass();
        record("unlocked");
        ddi!(WdfInterruptReleaseLock(interrupt()));
        let_pass();
        assert_eq!(
            recorded(),
            ["unlocked".to_owned(), format!("isr at {irql}")]
        );
    });
}

/// At DISPATCH_LEVEL interrupts come through and DPCs do not.
fn one_dpc_serves_several_interrupts() {
    recorder::opened_in(Plan::default(), one_processor, |_, _| unsafe {
        let before = KfRaiseIrql(DISPATCH_LEVEL as KIRQL);
        for cause in [1, 2, 4] {
            set_register(RAISE, cause);
            let_pass();
        }
        record("lowered");
        KeLowerIrql(before);
        assert_eq!(
            recorded(),
            [
                "isr 0x1 queued 1",
                "isr 0x2 queued 0",
                "isr 0x4 queued 0",
                "lowered",
                "dpc at 2",
            ]
        );
    });
}

fn a_dpc_is_queued_again_after_it_ran() {
    recorder::opened_in(Plan::default(), one_processor, |_, _| unsafe {
        for _ in 0..2 {
            set_register(RAISE, 1);
            let_pass();
            assert_eq!(recorded(), ["isr 0x1 queued 1", "dpc at 2"]);
        }
    });
}

unsafe extern "win64" fn synchronized(_interrupt: WDFINTERRUPT, context: WDFCONTEXT) -> BOOLEAN {
    record(format!("synchronized at {}", KeGetCurrentIrql()));
    BOOLEAN::from(!context.is_null())
}

fn synchronized_calls_run_at_the_devices_irql() {
    recorder::opened(Plan::default(), |_, _| unsafe {
        let mut something = 0_u8;
        let context: WDFCONTEXT = (&raw mut something).cast();
        for (context, answer) in [(ptr::null_mut(), 0), (context, 1)] {
            let returned = ddi!(WdfInterruptSynchronize(
                interrupt(),
                Some(synchronized),
                context
            ));
            assert_eq!(returned, answer);
            assert_eq!(recorded(), [format!("synchronized at {}", devices_irql())]);
        }
        assert_eq!(KeGetCurrentIrql(), PASSIVE_LEVEL as KIRQL);
    });
}

fn a_sleeping_device_has_no_interrupts() {
    recorder::opened(Plan::default(), |machine, _| unsafe {
        machine.suspend().expect("asleep");
        recorded();
        assert!(ddi!(WdfInterruptWdmGetInterrupt(interrupt())).is_null());
        machine.resume().expect("awake");
        assert!(!ddi!(WdfInterruptWdmGetInterrupt(interrupt())).is_null());
        recorded();
        set_register(RAISE, 1);
        let_pass();
        assert!(recorded().contains(&"dpc at 2".to_owned()));
    });
}

/// Interrupts are enabled before the first callback of an enabler and disabled after the last.
fn interrupts_come_through_while_enablers_are_called() {
    let raise = |name: &str| unsafe {
        if name.ends_with(" 0") {
            set_register(RAISE, 1);
            let_pass();
        }
    };
    let plan = Plan {
        enablers: 1,
        isr: isr_with_irql,
        before: raise,
        ..Plan::default()
    };
    recorder::opened(plan, |machine, _| {
        let seen = |callbacks: [&str; 3]| {
            let isr = unsafe { format!("isr at {}", devices_irql()) };
            let calls = recorded();
            for callback in callbacks {
                let at = calls.iter().position(|call| call == callback);
                assert_eq!(calls[at.expect(callback) - 1], isr, "{calls:?}");
            }
        };
        machine.suspend().expect("asleep");
        seen(["Stop 0", "Disable 0", "Flush 0"]);
        machine.resume().expect("awake");
        seen(["Fill 0", "Enable 0", "Start 0"]);
    });
}

fn enable_and_disable_run_at_the_devices_irql() {
    let plan = Plan {
        enablers: 1,
        before: |name| unsafe { record(format!("{} {name}", KeGetCurrentIrql())) },
        ..Plan::default()
    };
    recorder::opened(plan, |machine, _| {
        let irql = unsafe { devices_irql() };
        machine.suspend().expect("asleep");
        machine.resume().expect("awake");
        let calls = recorded();
        for pair in calls.chunks(2) {
            let at = if pair[1].starts_with("Interrupt") {
                irql
            } else {
                PASSIVE_LEVEL as KIRQL
            };
            assert_eq!(pair[0], format!("{at} {}", pair[1]));
        }
        assert!(calls.contains(&"InterruptEnable".to_owned()));
        assert!(calls.contains(&"InterruptDisable".to_owned()));
    });
}

/// One processor, which then does nothing else; with two, the other one could still disconnect the interrupt.
fn a_line_that_nobody_claims_is_a_storm() {
    let plan = Plan {
        isr: isr_that_claims_nothing,
        ..Plan::default()
    };
    let line = |config: &mut Config| {
        config.interrupts = Interrupts::Line;
        config.processors = 1;
    };
    recorder::opened_in(plan, line, |_, _| unsafe {
        set_register(RAISE, 1);
        let_pass();
    });
}
