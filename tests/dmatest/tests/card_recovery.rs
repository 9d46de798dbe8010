//! The real driver when the ring card is brought back into order, with more going on than the card itself.
//!
//! `DMACARD_SYS` names the image; `cargo xtask test` builds it and sets the variable.

mod support;

use std::process::ExitCode;
use std::time::Duration;

use abi::card::Direction::{FromCard, ToCard};
use dmatest::machine_device::MachineDevice;
use dmatest::{Device, Direction};
use harness::Suite;
use machine::user::Overlapped;
use machine::{CardFault as Fault, Config, Machine, counters};

use support::{CARDS, System, in_order, open, reset, result};

fn main() -> ExitCode {
    let [messages, ..] = CARDS;
    Suite::new()
        .limit(Duration::from_secs(120))
        .passes(
            "a_reset_with_requests_that_wait_for_map_registers",
            move || a_reset_with_requests_that_wait_for_map_registers(messages),
        )
        .passes("a_card_that_is_gone_is_left_alone", move || {
            a_card_that_is_gone_is_left_alone(messages);
        })
        .main()
}

const LENGTH: usize = 200;

fn begin(device: &MachineDevice, direction: Direction) -> Overlapped {
    let buffer = device.buffer(LENGTH).expect("memory");
    device.start(direction, 0, buffer, 0..LENGTH)
}

/// Every page is bounced, and there are map registers for few of the requests that the driver has at a time.
fn short_of_map_registers(config: &mut Config) {
    config.hal.always_bounce = true;
    config.hal.map_registers = 6;
    config.hal.map_register_grant = Some(4);
}

/// The end of each frees the map registers that the next one waits for, which comes to a channel that is closed: it must
/// not be ended within the end of the one before it.
fn a_reset_with_requests_that_wait_for_map_registers(system: System) {
    system
        .configured(short_of_map_registers)
        .run(|machine, device| {
            let faults = machine.card_faults().expect("the device is the card");
            for channel in [ToCard, FromCard] {
                faults.arm(Fault::Stick(channel));
            }
            let ways = [Direction::Write, Direction::Read];
            let requests: Vec<_> = (0..64)
                .map(|index| begin(device, ways[index % 2]))
                .collect();
            machine.sleep(Duration::from_millis(1));
            assert_eq!(reset(device), Ok(0));
            let results: Vec<_> = requests.into_iter().map(result).collect();
            // Those for which there are map registers only when their channel works again are carried out.
            let cancelled = results.iter().filter(|ended| ended.is_err()).count();
            assert!((6..64).contains(&cancelled), "{results:?}");
            assert_eq!(in_order(device).cancelled, cancelled as u64);
        });
}

/// What its rings hold from before is not taken for something new, which would have it reset in vain again and again.
fn a_card_that_is_gone_is_left_alone(system: System) {
    system.run_machine(|machine: &Machine| {
        machine.start().expect("started");
        let device = open(machine);
        assert_eq!(result(begin(&device, Direction::Write)), Ok(LENGTH));
        machine
            .card_faults()
            .expect("the device is the card")
            .set_link_down(true);
        for way in [Direction::Write, Direction::Read] {
            assert!(result(begin(&device, way)).is_err());
        }
        let before = counters().mmio_reads.get();
        machine.sleep(Duration::from_secs(1));
        let after = counters().mmio_reads.get();
        assert!(after - before < 10, "{} reads", after - before);
        machine.surprise_remove().expect("pulled out");
        drop(device);
        machine.finish_removals();
    });
}
