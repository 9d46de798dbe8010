//! The real driver in the machine: dmacard.sys against QEMU's edu, edu's twin, and the card.
//!
//! `DMACARD_SYS` names the image; `cargo xtask test` builds it and sets the variable.

mod support;

use std::process::ExitCode;
use std::time::Duration;

use abi::info::{DeviceKind, InterruptKind};
use dmatest::demo::DemoOptions;
use dmatest::{demo, query_info, query_statistics};
use harness::Suite;
use machine::user::{Access, Token};
use machine::{Config, Interrupts};

use support::{
    CARDS, FREE, FREE_CARDS, Requests, SYSTEMS, System, WINDOW, open, round_trip, verify_all,
};

/// A test, to be run in each system.
type Test = (&'static str, fn(System));

/// What holds on every board.
const EVERYWHERE: [Test; 15] = [
    ("info", info),
    ("verify", verify_everything),
    ("demo", demo_adds_up),
    ("requests_are_split", requests_are_split),
    (
        "buffers_beyond_reach_are_bounced",
        buffers_beyond_reach_are_bounced,
    ),
    ("ordinary_users_are_kept_out", ordinary_users_are_kept_out),
    (
        "closing_with_requests_pending",
        closing_with_requests_pending,
    ),
    ("restart", restart),
    ("no_memory_when_added", no_memory_when_added),
    ("rebalance", rebalance),
    ("suspend_and_resume", suspend_and_resume),
    (
        "suspend_with_requests_under_way",
        suspend_with_requests_under_way,
    ),
    (
        "rebalance_with_requests_under_way",
        rebalance_with_requests_under_way,
    ),
    (
        "pulled_out_with_requests_under_way",
        pulled_out_with_requests_under_way,
    ),
    ("remove_and_unload", remove_and_unload),
];

/// What is about edu: its window, its limits, and one request at a time.
const ABOUT_EDU: [&str; 5] = [
    "info",
    "demo",
    "requests_are_split",
    "buffers_beyond_reach_are_bounced",
    "pulled_out_with_requests_under_way",
];

/// What counts on a transfer lasting longer than what the test does meanwhile: not so in real time.
const NEEDS_SLOW_TRANSFERS: &str = "pulled_out_with_requests_under_way";

/// What a test changes in the configuration it is given.
type Change = fn(&mut Config);

/// Machines that Windows could be as well; everything must hold there too.
const VARIATIONS: [(&str, Change); 7] = [
    ("one_processor", |config| config.processors = 1),
    ("four_processors", |config| config.processors = 4),
    ("without_verifiers", |config| {
        config.framework_verifier = false;
        config.hal.verifier = false;
    }),
    ("everything_bounced", |config| {
        config.hal.always_bounce = true
    }),
    ("resources_granted_late", |config| {
        config.hal.defer_grants = true
    }),
    ("few_map_registers", |config| config.hal.map_registers = 2),
    ("all_memory_low", |config| config.memory = 1 << 30),
];

/// Seeds of machines beyond the one that all other tests use.
const SEEDS: std::ops::Range<u64> = 2..10;

fn main() -> ExitCode {
    let everywhere = SYSTEMS.into_iter().flat_map(|system| {
        EVERYWHERE.map(|(name, test)| (format!("{}::{name}", system.name), system, test))
    });
    let free = FREE.into_iter().flat_map(|system| {
        let indifferent = EVERYWHERE
            .into_iter()
            .filter(|(name, _)| *name != NEEDS_SLOW_TRANSFERS);
        indifferent.map(move |(name, test)| (format!("{}::{name}", system.name), system, test))
    });
    let cards = CARDS.into_iter().chain(FREE_CARDS).flat_map(|system| {
        let others = EVERYWHERE
            .into_iter()
            .filter(|(name, _)| !ABOUT_EDU.contains(name));
        others.map(move |(name, test)| (format!("{}::{name}", system.name), system, test))
    });
    let variations = [("variation", SYSTEMS[2]), ("card_variation", CARDS[0])]
        .into_iter()
        .flat_map(|(group, system)| {
            VARIATIONS.map(|(name, configure)| {
                let test: fn(System) = verify_everything;
                (
                    format!("{group}::{name}"),
                    system.configured(configure),
                    test,
                )
            })
        });
    let seeds = SEEDS.map(|seed| {
        let system = SYSTEMS[2 + seed as usize % 2].seeded(seed);
        let test: fn(System) = verify_everything;
        (format!("seed::{seed}"), system, test)
    });
    let atomics = [
        ("plain", SYSTEMS[2], plain_atomics as fn(System)),
        ("instrumented", SYSTEMS[4], instrumented_atomics),
    ]
    .map(|(name, system, test)| (format!("atomics::{name}"), system, test));
    everywhere
        .chain(free)
        .chain(atomics)
        .chain(cards)
        .chain(variations)
        .chain(seeds)
        .fold(
            Suite::new().limit(Duration::from_secs(120)),
            |suite, (name, system, test)| suite.passes(name, move || test(system)),
        )
        .main()
}

fn info(system: System) {
    system.run(move |_, device| {
        let info = query_info(device).expect("GET_INFO");
        assert_eq!(info.device_kind, DeviceKind::Edu as u32);
        assert_eq!(info.memory_size, WINDOW);
        assert_eq!(info.hardware_identity, abi::edu::IDENTITY);
        assert_eq!((info.dma_version, info.address_bits), (3, 28));
        let interrupt = match system.interrupts {
            Interrupts::Message => InterruptKind::Message,
            Interrupts::Line => InterruptKind::Line,
        };
        assert_eq!(info.interrupt_kind, interrupt as u32);
    });
}

fn verify_everything(system: System) {
    system.run(|_, device| verify_all(device));
}

/// What the demo prints is what the driver has counted.
fn demo_adds_up(system: System) {
    system.run(|machine, device| {
        let before = query_statistics(device).expect("GET_STATISTICS");
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(&file, vec![0x5a; 50_000]).expect("written");
        let options = DemoOptions {
            file: file.path().to_owned(),
            json: false,
        };
        let report = demo::measure(machine, device, &options).expect("copied");
        let after = query_statistics(device).expect("GET_STATISTICS");
        assert!(report.verified);
        assert_eq!(report.bytes, 50_000);
        assert_eq!(report.requests, 2 * 50_000_u64.div_ceil(WINDOW));
        assert_eq!(report.requests, after.completed - before.completed);
        assert_eq!(report.transfers, after.transfers - before.transfers);
        assert_eq!(after.bytes_read - before.bytes_read, 50_000);
        assert_eq!(after.bytes_written - before.bytes_written, 50_000);
        assert!(report.mmio_writes >= 4 * report.transfers, "{report:?}");
        assert_eq!(after.hardware_errors, 0);
        // One range of addresses at a time, which the driver writes into registers.
        assert_eq!((report.elements, report.descriptors), (report.transfers, 0));
    });
}

/// One request becomes as many transfers as the device's limit makes necessary.
fn requests_are_split(system: System) {
    system.run(|_, device| {
        let info = query_info(device).expect("GET_INFO");
        let before = query_statistics(device).expect("GET_STATISTICS").transfers;
        round_trip(device, 0, WINDOW as usize, 0);
        let transfers = query_statistics(device).expect("GET_STATISTICS").transfers - before;
        let needed = WINDOW.div_ceil(info.maximum_transfer.into());
        assert!(needed > 1, "the limit is smaller than the window");
        assert!(transfers >= 2 * needed, "{transfers} transfers");
    });
}

/// User buffers lie where 28 bits do not reach: everything goes through bounce pages.
fn buffers_beyond_reach_are_bounced(system: System) {
    system.run(|_, device| {
        let before = machine::counters().bounced_bytes.get();
        round_trip(device, 5, 2000, 17);
        let bounced = machine::counters().bounced_bytes.get() - before;
        assert_eq!(bounced, 4000, "2000 bytes each way");
    });
}

fn ordinary_users_are_kept_out(system: System) {
    system.run(|machine, _| {
        let process = machine.process(Token::User);
        let [path] = &process.interfaces(&support::interface())[..] else {
            panic!("one interface");
        };
        for access in [Access::READ_WRITE, Access::READ, Access::NONE] {
            let refused = process.open(path, access).err();
            assert_eq!(refused, Some(machine::user::Win32Error::ACCESS_DENIED));
        }
    });
}

/// CloseHandle with requests under way: each ends, cancelled or done, and the next process finds the device in order.
fn closing_with_requests_pending(system: System) {
    system.run(|machine, device| {
        let process = machine.process(Token::Administrator);
        let path = process.interfaces(&support::interface()).remove(0);
        let file = process.open(&path, Access::READ_WRITE).expect("opened");
        let requests: Vec<_> = (0..6)
            .map(|_| {
                let buffer = process.buffer(4096).expect("memory");
                file.read(0, buffer, 0..1000)
            })
            .collect();
        drop(file);
        for request in requests {
            match request.wait().result {
                Ok(length) => assert_eq!(length, 1000),
                Err(error) => assert_eq!(error, machine::user::Win32Error::OPERATION_ABORTED),
            }
        }
        round_trip(device, 0, 100, 0);
    });
}

/// The device is removed and found again by the same driver.
fn restart(system: System) {
    system.run_machine(|machine| {
        for _ in 0..3 {
            machine.start().expect("started");
            let device = open(machine);
            round_trip(&device, 1, 3000, 9);
            drop(device);
            machine.remove().expect("removed");
        }
    });
}

/// The driver gets no memory when the device is added: the device does not start, nothing is left behind, and the next
/// start, with memory, is as good as any.
fn no_memory_when_added(system: System) {
    system.run_machine(|machine| {
        machine::fail_allocation(Some(1));
        let refused = machine.start().expect_err("no memory").to_string();
        assert!(refused.contains("0xc000009a"), "{refused}");
        machine::fail_allocation(None);
        machine.start().expect("started");
        let device = open(machine);
        round_trip(&device, 1, 3000, 9);
        drop(device);
        machine.remove().expect("removed");
    });
}

/// Resources are taken away and given back, ten times, without the device being closed.
fn rebalance(system: System) {
    system.run(|machine, device| {
        for round in 0..10 {
            machine.rebalance().expect("rebalanced");
            round_trip(device, round, 1500, 3);
        }
    });
}

fn suspend_and_resume(system: System) {
    system.run(|machine, device| {
        for round in 0..3 {
            machine.suspend().expect("asleep");
            machine.resume().expect("awake");
            round_trip(device, round, 1500, 3);
        }
    });
}

/// After removal nothing opens, and after unload nothing is left of the driver: the machine checks for leaks.
fn remove_and_unload(system: System) {
    system.run_machine(|machine| {
        machine.start().expect("started");
        let device = open(machine);
        let path = device.process().interfaces(&support::interface()).remove(0);
        drop(device);
        machine.remove().expect("removed");
        let process = machine.process(Token::Administrator);
        assert!(process.interfaces(&support::interface()).is_empty());
        assert_eq!(
            process.open(&path, Access::READ).err(),
            Some(machine::user::Win32Error::FILE_NOT_FOUND)
        );
    });
}

/// A sleeping system keeps requests: the one in the engine is waited for, the others go on after waking up.
fn suspend_with_requests_under_way(system: System) {
    system.run(|machine, device| {
        let requests = Requests::start(device);
        machine.suspend().expect("asleep");
        machine.resume().expect("awake");
        requests.wait_done();
    });
}

/// The same when the device is stopped for other resources.
fn rebalance_with_requests_under_way(system: System) {
    system.run(|machine, device| {
        let requests = Requests::start(device);
        machine.rebalance().expect("rebalanced");
        requests.wait_done();
    });
}

/// Pulled out, every request ends, and the driver goes once the handle is closed.
fn pulled_out_with_requests_under_way(system: System) {
    system.run_machine(|machine| {
        machine.start().expect("started");
        let device = open(machine);
        let requests = Requests::start(&device);
        machine.surprise_remove().expect("pulled out");
        requests.wait_removed();
        drop(device);
        machine.finish_removals();
    });
}

/// Nothing tells of the plain image's atomic operations.
fn plain_atomics(system: System) {
    system.run(|_, device| {
        round_trip(device, 0, 2000, 0);
        assert_eq!(machine::counters().atomics.get(), 0);
    });
}

/// Each atomic operation of the instrumented image is a switch point: a request takes several.
fn instrumented_atomics(system: System) {
    system.run(|_, device| {
        let counters = machine::counters();
        let count = || (counters.atomics.get(), counters.switch_points.get());
        let (atomics, points) = count();
        round_trip(device, 0, 2000, 0);
        let (atomics, points) = (count().0 - atomics, count().1 - points);
        assert!(atomics >= 2 * 5, "{atomics} atomic operations");
        assert!(points > atomics, "{points} switch points");
    });
}
