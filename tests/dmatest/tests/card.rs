//! The real driver and the ring card: what is only so with a card that does many transfers at a time.
//!
//! `DMACARD_SYS` names the image; `cargo xtask test` builds it and sets the variable.

mod support;

use std::collections::VecDeque;
use std::process::ExitCode;
use std::time::Duration;

use dmatest::demo::DemoOptions;
use dmatest::machine_device::MachineDevice;
use dmatest::{Device, Direction, demo, query_info, query_statistics};
use harness::Suite;
use machine::{Device as Board, Interrupts, Phase};

use support::{CARDS, System, open, parameter, round_trip, verify_all};

/// A test, to be run in each system.
type Test = (&'static str, fn(System));

macro_rules! tests {
    ($($test:ident)*) => { [$((stringify!($test), $test)),*] };
}

const EVERYWHERE: [Test; 10] = tests! {
    every_transfer_is_split_where_the_documentation_says
    interrupts_are_gathered_on_request
    interrupts_are_gathered_as_the_registry_says
    it_says_what_it_is
    every_check_of_verify_holds
    a_large_file_comes_back
    requests_in_flight_ring_hardly_ever
    one_at_a_time_takes_one_doorbell_and_one_interrupt
    a_request_takes_twelve_calls_of_the_framework
    many_at_a_time_share_doorbells_and_interrupts
};

/// With a card whose server is a process of its own.
const SERVED: [Test; 2] = tests! {
    a_killed_server_is_a_card_pulled_out
    a_server_that_does_not_answer_is_a_card_pulled_out
};

fn main() -> ExitCode {
    CARDS
        .into_iter()
        .flat_map(|system| {
            EVERYWHERE.map(|(name, test)| (format!("{}::{name}", system.name), system, test))
        })
        .chain(
            CARDS
                .into_iter()
                .filter(|system| system.board == Board::CardVfioUser)
                .flat_map(|system| {
                    SERVED.map(|(name, test)| (format!("{}::{name}", system.name), system, test))
                }),
        )
        .fold(
            Suite::new().limit(Duration::from_secs(120)),
            |suite, (name, system, test)| suite.passes(name, move || test(system)),
        )
        .main()
}

/// A mebibyte is one transfer, from wherever in a page it starts; a byte more is two.
fn every_transfer_is_split_where_the_documentation_says(system: System) {
    system.run(|_, device| {
        let limit = query_info(device).expect("GET_INFO").maximum_transfer as usize;
        assert_eq!(limit, 1 << 20);
        let transfers = || query_statistics(device).expect("GET_STATISTICS").transfers;
        for (length, shift, expected) in [(limit, 0, 1), (limit, 4095, 1), (limit + 1, 1, 2)] {
            let before = transfers();
            round_trip(device, 3, length, shift);
            assert_eq!(transfers() - before, 2 * expected);
        }
    });
}

/// Has completions gathered into interrupts.
fn moderate(device: &MachineDevice, count: u16, microseconds: u16) {
    let [count, time] = [count, microseconds].map(u16::to_le_bytes);
    let input = [count[0], count[1], time[0], time[1]];
    device
        .control(abi::ioctl::SET_MODERATION, &input, &mut [])
        .expect("SET_MODERATION");
}

/// How many interrupts 32 writes at a time take.
fn interrupts_of_many(device: &MachineDevice) -> u64 {
    counted(|| write(device, 32, 65_536)).2
}

fn interrupts_are_gathered_on_request(system: System) {
    system.run(move |_, device| {
        moderate(device, 1, 0);
        let each = interrupts_of_many(device);
        moderate(device, 16, 4000);
        let gathered = interrupts_of_many(device);
        // A server takes its own time, and gathers by being slow.
        if system.board == Board::Card {
            assert!(2 * gathered < each, "{gathered} after {each}");
        }
        let short = device.control(abi::ioctl::SET_MODERATION, &[0; 3], &mut []);
        assert_eq!(short, Err(dmatest::Win32Error::INSUFFICIENT_BUFFER));
    });
}

fn interrupts_are_gathered_as_the_registry_says(system: System) {
    system
        .configured(|config| {
            parameter(config, "ModerationCount", 16);
            parameter(config, "ModerationTime", 4000);
        })
        .run(move |_, device| {
            let gathered = interrupts_of_many(device);
            // A server's 4 ms are the host's, which may pass between any two requests.
            let most = match system.board {
                Board::CardVfioUser => 32,
                _ => 4,
            };
            assert!(gathered <= most, "{gathered} interrupts");
        });
}

fn it_says_what_it_is(system: System) {
    system.run(|_, device| {
        let info = query_info(device).expect("GET_INFO");
        assert_eq!(info.device_kind, abi::info::DeviceKind::Card as u32);
        assert_eq!(info.memory_size, abi::card::MEMORY_DEFAULT);
        assert_eq!(info.hardware_identity, abi::card::IDENTITY);
        assert_eq!((info.dma_version, info.address_bits), (3, 64));
        assert_eq!(info.transfers_in_flight, 64);
    });
}

fn every_check_of_verify_holds(system: System) {
    system.run(|_, device| verify_all(device));
}

/// More than the card moves in one transfer, in both directions at the same time.
fn a_large_file_comes_back(system: System) {
    system.run(|machine, device| {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let contents: Vec<u8> = (0..5_000_001_u32)
            .map(|i| (i.wrapping_mul(i) >> 7) as u8)
            .collect();
        std::fs::write(&file, &contents).expect("written");
        let options = DemoOptions {
            file: file.path().to_owned(),
            json: false,
        };
        let report = demo::measure(machine, device, &options).expect("copied");
        assert!(report.verified);
        let after = query_statistics(device).expect("GET_STATISTICS");
        assert_eq!((after.hardware_errors, after.failed), (0, 0));
        assert_eq!(
            (after.bytes_read, after.bytes_written),
            (5_000_001, 5_000_001)
        );
        assert_eq!(report.requests, after.completed);
        // A descriptor for each range of addresses; no two pages of the buffers need lie beside each other.
        assert_eq!(report.descriptors, after.descriptors);
        assert_eq!(report.descriptors, report.elements);
        assert!(report.elements > report.transfers, "{report:?}");
    });
}

/// Register reads and writes, interrupts and what else the machine counts, during `work`.
fn counted(work: impl FnOnce()) -> (u64, u64, u64) {
    let counters = machine::counters();
    let now = || {
        (
            counters.mmio_reads.get(),
            counters.mmio_writes.get(),
            counters.interrupts.get(),
        )
    };
    let before = now();
    work();
    let after = now();
    (after.0 - before.0, after.1 - before.1, after.2 - before.2)
}

fn write(device: &MachineDevice, count: u64, length: usize) {
    let requests: Vec<_> = (0..count)
        .map(|index| {
            let buffer = device.buffer(length).expect("memory");
            device.start(Direction::Write, index * 4096, buffer, 0..length)
        })
        .collect();
    for request in requests {
        assert_eq!(request.wait().result, Ok(length));
    }
}

/// A channel that is busy looks for descriptors by itself.
fn requests_in_flight_ring_hardly_ever(system: System) {
    system.run(move |_, device| {
        round_trip(device, 0, 4096, 0);
        let (reads, writes, interrupts) = counted(|| write(device, 64, 65_536));
        match system.interrupts {
            Interrupts::Message => assert_eq!(reads, 0),
            Interrupts::Line => assert!(reads <= interrupts, "{reads} reads, {interrupts}"),
        }
        // A card with a clock of its own looks for as long as it looks, however slow we are.
        let most = match system.board {
            Board::CardVfioUser => 64,
            _ => 6,
        };
        assert!(writes <= most, "{writes} doorbells");
    });
}

/// Keeps 32 writes of 4 KiB under way, until so many have ended.
fn keep_writing(device: &MachineDevice, count: u64) {
    let mut started = 0;
    let mut under_way = VecDeque::new();
    let mut buffers: Vec<_> = (0..32)
        .map(|_| device.buffer(4096).expect("memory"))
        .collect();
    loop {
        while started < count
            && let Some(buffer) = buffers.pop()
        {
            let offset = started % 1024 * 4096;
            under_way.push_back(device.start(Direction::Write, offset, buffer, 0..4096));
            started += 1;
        }
        let Some(oldest) = under_way.pop_front() else {
            return;
        };
        let done = oldest.wait();
        assert_eq!(done.result, Ok(4096));
        buffers.push(done.buffer);
    }
}

/// The driver finds out by itself that there are many.
fn many_at_a_time_share_doorbells_and_interrupts(system: System) {
    const REQUESTS: u64 = 1000;

    system.run(move |_, device| {
        keep_writing(device, 500);
        let machine = machine::counters();
        let rare = || {
            [
                machine.framework_calls.get(),
                machine.driver_allocations.get(),
            ]
        };
        let before = rare();
        let (reads, writes, interrupts) = counted(|| keep_writing(device, REQUESTS));
        let [calls, allocations] = [0, 1].map(|index| rare()[index] - before[index]);
        assert_eq!(allocations, 0);
        assert!(calls <= 12 * REQUESTS, "{calls} calls");
        if system.interrupts == Interrupts::Message {
            assert_eq!(reads, 0);
        }
        // How much a card with a clock of its own gathers depends on the host.
        if system.board == Board::Card {
            assert!(10 * writes <= REQUESTS, "{writes} register writes");
            assert!(10 * interrupts <= REQUESTS, "{interrupts} interrupts");
        }
    });
}

/// What one request at a time takes: one doorbell, one interrupt, and no register read with messages.
fn one_at_a_time_takes_one_doorbell_and_one_interrupt(system: System) {
    system.run(move |machine, device| {
        round_trip(device, 0, 4096, 0);
        machine.sleep(Duration::from_millis(1));
        for _ in 0..10 {
            let (reads, writes, interrupts) = counted(|| {
                write(device, 1, 4096);
                machine.sleep(Duration::from_millis(1));
            });
            let line = u64::from(system.interrupts == Interrupts::Line);
            assert_eq!((reads, interrupts), (line, 1));
            match system.board {
                // A card with a clock of its own may still look for descriptors.
                Board::CardVfioUser => assert!(writes <= 1, "{writes} doorbells"),
                _ => assert_eq!(writes, 1),
            }
        }
    });
}

/// With an interrupt of its own; three of them are the interrupt's.
fn a_request_takes_twelve_calls_of_the_framework(system: System) {
    system.run(|machine, device| {
        // The first request starts the timer of the time limit.
        round_trip(device, 0, 4096, 0);
        let calls = &machine::counters().framework_calls;
        for direction in [Direction::Write, Direction::Read] {
            for _ in 0..10 {
                let before = calls.get();
                let buffer = device.buffer(4096).expect("memory");
                let request = device.start(direction, 0, buffer, 0..4096);
                assert_eq!(request.wait().result, Ok(4096));
                machine.sleep(Duration::from_millis(1));
                assert_eq!(calls.get() - before, 12);
            }
        }
    });
}

fn a_killed_server_is_a_card_pulled_out(system: System) {
    a_signal_to_the_server_pulls_the_card_out(system, libc::SIGKILL);
}

fn a_server_that_does_not_answer_is_a_card_pulled_out(system: System) {
    let system = system.configured(|config| config.card.patience = Duration::from_secs(1));
    a_signal_to_the_server_pulls_the_card_out(system, libc::SIGSTOP);
}

/// With transfers under way: every request ends, and the driver goes with nothing left behind.
fn a_signal_to_the_server_pulls_the_card_out(system: System, signal: libc::c_int) {
    const LENGTH: usize = 8 << 20;

    system.run_machine(move |machine| {
        machine.start().expect("started");
        let device = open(machine);
        round_trip(&device, 0, 4096, 0);
        let reads: Vec<_> = (0..8)
            .map(|_| {
                let buffer = device.buffer(LENGTH).expect("memory");
                device.start(Direction::Read, 0, buffer, 0..LENGTH)
            })
            .collect();
        let server = machine.server_process().expect("it was started");
        let server = i32::try_from(server).expect("a process");
        // SAFETY: a signal to a child that has not been waited for.
        assert_eq!(unsafe { libc::kill(server, signal) }, 0);
        let results: Vec<_> = reads.into_iter().map(|read| read.wait().result).collect();
        assert!(
            results.iter().any(Result::is_err),
            "all were done: {results:?}"
        );
        machine.settle();
        assert_eq!(machine.phase(), Some(Phase::SurpriseRemoved));
        drop(device);
        machine.finish_removals();
    });
}
