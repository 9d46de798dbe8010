//! The order of all calls when nothing fails: starting, sleeping, stopping, going.

use abi::card;
use harness::Suite;
use machine::{Config, Device};

use super::{INTO_D0, OUT_OF_D0, sequence, started, two_enablers};
use crate::recorder::{self, Plan, fail, recorded};

pub(super) fn tests(suite: Suite) -> Suite {
    suite
        .passes("start_calls_in_order", start_calls_in_order)
        .passes("sleep_and_wake_call_in_order", sleep_and_wake_call_in_order)
        .passes(
            "the_card_starts_and_loses_its_registers_when_it_sleeps",
            the_card_starts_and_loses_its_registers_when_it_sleeps,
        )
        .passes("rebalance_calls_in_order", rebalance_calls_in_order)
        .passes("removal_calls_in_order", removal_calls_in_order)
        .passes(
            "a_refused_query_stop_leaves_the_device_running",
            a_refused_query_stop_leaves_the_device_running,
        )
}

fn start_calls_in_order() {
    recorder::machine(
        two_enablers(),
        |_| {},
        |machine| {
            machine.start().expect("the device starts");
            let expected = sequence(&[&["PrepareHardware"], INTO_D0, &["SelfManagedIoInit"]]);
            assert_eq!(recorded(), expected);
            machine.shut_down();
        },
    );
}

fn sleep_and_wake_call_in_order() {
    started(|machine| {
        machine.suspend().expect("asleep");
        assert_eq!(
            recorded(),
            sequence(&[&["SelfManagedIoSuspend"], OUT_OF_D0])
        );
        machine.resume().expect("awake");
        assert_eq!(recorded(), sequence(&[INTO_D0, &["SelfManagedIoRestart"]]));
    });
}

/// The PCI bus driver puts what can do so into D3hot, and gives it its windows again.
fn the_card_starts_and_loses_its_registers_when_it_sleeps() {
    const IDENTIFICATION: usize = card::register::IDENTIFICATION.offset();
    const ENABLE: usize = card::register::INTERRUPT_ENABLE.offset();
    let with_card = |config: &mut Config| {
        config.device = Device::Card;
        config.inf.hardware_ids = vec![card::HARDWARE_ID.to_owned()];
    };
    recorder::machine(Plan::default(), with_card, |machine| {
        machine.start().expect("the card starts");
        // SAFETY: the driver has mapped the registers.
        let read = |offset| unsafe { recorder::register(offset) };
        assert_eq!(read(IDENTIFICATION), card::IDENTITY);
        // SAFETY: the same.
        unsafe { recorder::set_register(ENABLE, 3) };
        assert_eq!(read(ENABLE), 3);
        machine.suspend().expect("asleep");
        assert_eq!(read(IDENTIFICATION), u32::MAX);
        machine.resume().expect("awake");
        assert_eq!(read(IDENTIFICATION), card::IDENTITY);
        assert_eq!(read(ENABLE), 0);
        machine.shut_down();
    });
}

fn rebalance_calls_in_order() {
    started(|machine| {
        machine.rebalance().expect("started again");
        let expected = sequence(&[
            &["QueryStop", "SelfManagedIoSuspend"],
            OUT_OF_D0,
            &["ReleaseHardware", "PrepareHardware"],
            INTO_D0,
            &["SelfManagedIoRestart"],
        ]);
        assert_eq!(recorded(), expected);
    });
}

fn removal_calls_in_order() {
    started(|machine| {
        machine.remove().expect("removed");
        let expected = sequence(&[
            &["QueryRemove", "SelfManagedIoSuspend"],
            OUT_OF_D0,
            &[
                "ReleaseHardware",
                "SelfManagedIoFlush",
                "SelfManagedIoCleanup",
            ],
        ]);
        assert_eq!(recorded(), expected);
    });
}

fn a_refused_query_stop_leaves_the_device_running() {
    started(|machine| {
        fail("QueryStop");
        assert!(machine.rebalance().is_err());
        assert_eq!(recorded(), ["QueryStop"]);
        fail("");
        machine.rebalance().expect("started again");
    });
}
