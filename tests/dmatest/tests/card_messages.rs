//! The real driver and the ring card's messages: each is about one channel, unless there are too few of them.
//!
//! `DMACARD_SYS` names the image; `cargo xtask test` builds it and sets the variable.

mod support;

use std::process::ExitCode;
use std::time::Duration;

use dmatest::machine_device::MachineDevice;
use dmatest::{Device, Direction};
use harness::Suite;
use machine::inf::RegistryData;
use machine::user::Overlapped;
use machine::{CardFault as Fault, Config, Machine};

use support::{CARDS, System, in_order, result};

fn main() -> ExitCode {
    let [messages, line, ..] = CARDS;
    let one = messages.configured(|config| grant(config, 1));
    let two = messages.configured(|config| grant(config, 2));
    let shared = [("one_message", one), ("two_messages", two), ("line", line)];
    let suite = Suite::new()
        .limit(Duration::from_secs(60))
        .passes("each_channel_is_drained_by_its_own_message", move || {
            with_a_lost_interrupt(messages, |_, lost| {
                assert!(!lost.has_ended(), "the other channel's message found it");
            });
        })
        .passes(
            "no_completion_waits_for_the_timer::three_messages",
            move || {
                no_completion_waits(messages);
            },
        );
    shared
        .into_iter()
        .fold(suite, |suite, (name, system)| {
            suite
                .passes(
                    format!("a_shared_interrupt_drains_both_channels::{name}"),
                    move || {
                        with_a_lost_interrupt(system, |machine, lost| {
                            machine.sleep(A_WHILE);
                            assert!(lost.has_ended(), "its channel was not looked at");
                        });
                    },
                )
                .passes(
                    format!("no_completion_waits_for_the_timer::{name}"),
                    move || no_completion_waits(system),
                )
        })
        .main()
}

/// Bytes of the requests: several pages.
const LENGTH: usize = 20_000;

/// Much longer than a transfer takes, and much shorter than it takes the driver's timer to come.
const A_WHILE: Duration = Duration::from_millis(1);

/// The INF grants so many messages.
fn grant(config: &mut Config, messages: u32) {
    for value in &mut config.inf.hardware {
        if value.name == "MessageNumberLimit" {
            value.data = RegistryData::Dword(messages);
        }
    }
}

fn begin(device: &MachineDevice, direction: Direction) -> Overlapped {
    let buffer = device.buffer(LENGTH).expect("memory");
    device.start(direction, 0, buffer, 0..LENGTH)
}

/// A transfer is over, but its interrupt does not come; one in the other direction is carried out. `judge` sees the
/// first when the second has ended. The timer finds it in any case.
fn with_a_lost_interrupt(system: System, judge: fn(&Machine, &Overlapped)) {
    system.run(move |machine, device| {
        for (first, second) in [
            (Direction::Read, Direction::Write),
            (Direction::Write, Direction::Read),
        ] {
            let faults = machine.card_faults().expect("the device is the card");
            faults.arm(Fault::DropInterrupt);
            let lost = begin(device, first);
            machine.sleep(A_WHILE);
            assert!(!lost.has_ended());
            assert_eq!(faults.struck().last(), Some(&Fault::DropInterrupt));
            assert_eq!(result(begin(device, second)), Ok(LENGTH));
            judge(machine, &lost);
            assert_eq!(result(lost), Ok(LENGTH));
        }
        assert_eq!(in_order(device).failed, 0);
    });
}

/// Every completion is found by its interrupt, of which each direction has one.
fn no_completion_waits(system: System) {
    system.run(|machine, device| {
        for direction in [Direction::Read, Direction::Write, Direction::Read] {
            let request = begin(device, direction);
            machine.sleep(A_WHILE);
            assert!(request.has_ended(), "{direction:?}: no interrupt found it");
        }
        assert_eq!(in_order(device).failed, 0);
    });
}
