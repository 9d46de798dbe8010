//! Machines for the system tests.

#![allow(dead_code, reason = "no test uses all of it")]

pub mod modes;

use std::path::PathBuf;

use abi::guid::DEVICE_INTERFACE;
use abi::ioctl::RESET;
use abi::statistics::Statistics;
use dmatest::machine_device::MachineDevice;
use dmatest::pattern::{Pattern, difference};
use dmatest::{Device, Direction, query_info, query_statistics, verify};
use machine::inf::{RegistryData, RegistryValue};
use machine::nt_sys::GUID;
use machine::trace;
use machine::user::{Overlapped, Token, Win32Error};
use machine::{CardServer, Config, Device as Board, DriverSource, Interrupts, Machine, Mode};

/// Bytes of edu's memory that every QEMU can move.
pub const WINDOW: u64 = abi::edu::USABLE as u64;

/// The interface class of the driver.
pub fn interface() -> GUID {
    GUID::from_u128(DEVICE_INTERFACE.to_u128())
}

/// An image of the driver: the plain one, or the one whose atomic operations are switch points.
#[derive(Clone, Copy)]
pub enum Image {
    Plain,
    Instrumented,
}

impl Image {
    fn path(self) -> PathBuf {
        let variable = match self {
            Self::Plain => "DMACARD_SYS",
            Self::Instrumented => "DMACARD_SYS_INSTRUMENTED",
        };
        std::env::var_os(variable).map_or_else(
            || panic!("{variable} names an image of the driver: run `cargo xtask test`"),
            PathBuf::from,
        )
    }
}

/// A machine to test in.
#[derive(Clone, Copy)]
pub struct System {
    pub name: &'static str,
    pub board: Board,
    pub interrupts: Interrupts,
    configure: fn(&mut Config),
    seed: u64,
    image: Image,
    mode: Mode,
}

/// Every board and every way it can interrupt; and the twin once more, with the image that has more switch points.
pub const SYSTEMS: [System; 5] = [
    System::new("edu_msi", Board::Edu, Interrupts::Message),
    System::new("edu_line", Board::Edu, Interrupts::Line),
    System::new("twin_msi", Board::EduTwin, Interrupts::Message),
    System::new("twin_line", Board::EduTwin, Interrupts::Line),
    System::new("instrumented", Board::EduTwin, Interrupts::Message).instrumented(),
];

/// The FIFO peripheral: with an interrupt, without, and with one channel for both directions.
pub const FIFOS: [System; 4] = [
    System::new("fifo", Board::Fifo, Interrupts::Line),
    System::new(
        "no_interrupt",
        Board::FifoWithoutInterrupt,
        Interrupts::Line,
    ),
    System::new("simplex", Board::FifoSimplex, Interrupts::Line),
    System::new("instrumented", Board::Fifo, Interrupts::Line).instrumented(),
];

/// The FIFO peripheral on a machine without a DMA controller for it.
pub const UNWIRED: System = System::new("unwired", Board::FifoUnwired, Interrupts::Line);

/// The twin on a thread of its own, in real time: how fast anything goes is up to the host.
pub const FREE: [System; 2] = [
    System::new("free_msi", Board::EduTwin, Interrupts::Message).free_running(),
    System::new("free_line", Board::EduTwin, Interrupts::Line).free_running(),
];

/// The ring card, in this process and in a server over vfio-user.
pub const CARDS: [System; 4] = [
    System::new("card_msi", Board::Card, Interrupts::Message),
    System::new("card_line", Board::Card, Interrupts::Line),
    System::new("served_msi", Board::CardVfioUser, Interrupts::Message),
    System::new("served_line", Board::CardVfioUser, Interrupts::Line),
];

/// The ring card in real time.
pub const FREE_CARDS: [System; 2] = [
    System::new("free_card_msi", Board::Card, Interrupts::Message).free_running(),
    System::new("free_card_line", Board::Card, Interrupts::Line).free_running(),
];

impl System {
    const fn new(name: &'static str, board: Board, interrupts: Interrupts) -> Self {
        Self {
            name,
            board,
            interrupts,
            configure: |_| {},
            seed: 1,
            image: Image::Plain,
            mode: Mode::Deterministic,
        }
    }

    /// The same with the instrumented image.
    const fn instrumented(self) -> Self {
        Self {
            image: Image::Instrumented,
            ..self
        }
    }

    /// The same in real time.
    const fn free_running(self) -> Self {
        Self {
            mode: Mode::FreeRunning,
            ..self
        }
    }

    pub fn seeded(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    pub fn configured(self, configure: fn(&mut Config)) -> Self {
        Self { configure, ..self }
    }

    /// Runs `test` in a machine whose device has not been started; then the driver is unloaded, with all checks.
    pub fn run_machine(self, test: impl FnOnce(&Machine) + 'static) {
        self.run_machine_with(|_| {}, test);
    }

    /// The same with a configuration that the test knows.
    pub fn run_machine_with(
        self,
        configure: impl FnOnce(&mut Config),
        test: impl FnOnce(&Machine) + 'static,
    ) {
        let mut config = Config::new(DriverSource::Image(self.image.path()));
        config.device = self.board;
        if self.board == Board::CardVfioUser {
            config.card_server = CardServer::Start(harness::built("card-vfio-user"));
        }
        config.interrupts = self.interrupts;
        config.seed = self.seed;
        if self.mode == Mode::FreeRunning {
            config = config.free_running();
        }
        (self.configure)(&mut config);
        configure(&mut config);
        machine::run(config, move |machine| {
            test(machine);
            machine.shut_down();
        })
        .expect("a machine");
    }

    /// Runs `test` with the started device, opened by an administrator.
    pub fn run(self, test: impl FnOnce(&Machine, &MachineDevice) + 'static) {
        self.run_machine(move |machine| {
            machine.start().expect("started");
            let device = open(machine);
            test(machine, &device);
        });
    }
}

/// Sets a value of the driver's parameters.
pub fn parameter(config: &mut Config, name: &str, value: u32) {
    config.registry.push(RegistryValue {
        subkey: "Parameters".to_owned(),
        name: name.to_owned(),
        data: RegistryData::Dword(value),
    });
}

/// Opens the device as an administrator.
pub fn open(machine: &Machine) -> MachineDevice {
    MachineDevice::open(machine, Token::Administrator).expect("opened")
}

/// Every check of `dmatest verify`.
pub fn verify_all(device: &MachineDevice) {
    let info = query_info(device).expect("GET_INFO");
    let verdict = verify::verify(device, &info, 1, |outcome| println!("{outcome:?}"));
    verdict.expect("every check");
}

/// Writes `length` bytes at `offset` from a buffer that starts `shift` bytes into a page, and reads them back.
pub fn round_trip(device: &MachineDevice, offset: u64, length: usize, shift: usize) {
    let range = shift..shift + length;
    let mut out = device.buffer(range.end).expect("memory");
    Pattern::Random(offset ^ length as u64).fill(0, &mut out);
    let written = device.start(Direction::Write, offset, out, range.clone());
    let out = device
        .wait(written)
        .whole(Direction::Write, offset, length)
        .expect("written");
    let mut back = device.buffer(range.end).expect("memory");
    back.fill(0);
    let read = device.start(Direction::Read, offset, back, range.clone());
    let back = device
        .wait(read)
        .whole(Direction::Read, offset, length)
        .expect("read");
    assert_eq!(difference(&out[range.clone()], &back[range]), None);
}

/// Writes and reads at the same time, over the loop of a FIFO, from and to buffers that begin `shift` bytes into a page.
pub fn loop_round_trip(device: &MachineDevice, length: usize, shift: usize) {
    let range = shift..shift + length;
    let mut out = device.buffer(range.end).expect("memory");
    Pattern::Random(length as u64 + 1).fill(0, &mut out);
    let mut back = device.buffer(range.end).expect("memory");
    back.fill(0);
    let written = device.start(Direction::Write, 0, out, range.clone());
    let read = device.start(Direction::Read, 0, back, range.clone());
    let out = device.wait(written).whole(Direction::Write, 0, length);
    let back = device.wait(read).whole(Direction::Read, 0, length);
    let (out, back) = (out.expect("written"), back.expect("read"));
    assert_eq!(difference(&out[range.clone()], &back[range]), None);
}

/// Reads under way.
pub struct Requests(Vec<Overlapped>);

impl Requests {
    /// Starts several, each of more than one transfer.
    pub fn start(device: &MachineDevice) -> Self {
        let start = |_| {
            let buffer = device.buffer(3000).expect("memory");
            device.start(Direction::Read, 0, buffer, 0..3000)
        };
        Self((0..5).map(start).collect())
    }

    /// Waits for all of them; each must have been carried out.
    pub fn wait_done(self) {
        for request in self.0 {
            assert_eq!(request.wait().result, Ok(3000));
        }
    }

    /// Waits for all of them; how each ended.
    pub fn results(self) -> Vec<Result<usize, Win32Error>> {
        let wait = |request: Overlapped| request.wait().result;
        self.0.into_iter().map(wait).collect()
    }

    /// Waits for all of them, after the device was pulled out: the first may be done, one was in the engine and finds
    /// the device removed, the others are cancelled where they wait.
    pub fn wait_removed(self) {
        let done = Ok(3000);
        let removed = Err(Win32Error(dmatest::Win32Error::DEVICE_REMOVED.0));
        let cancelled = Err(Win32Error::OPERATION_ABORTED);
        let results = self.results();
        let rest = results.iter().skip_while(|result| **result == done);
        let rest: Vec<_> = rest.skip_while(|result| **result == removed).collect();
        assert!(!rest.is_empty(), "{results:?}");
        assert!(
            rest.into_iter().all(|result| *result == cancelled),
            "{results:?}"
        );
    }
}

/// How a request ends.
pub fn result(request: Overlapped) -> Result<usize, Win32Error> {
    request.wait().result
}

/// What has happened since the last call, of it what `wanted` says. Nothing may have been forgotten: the trace keeps the last
/// events only.
pub fn happened(wanted: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let recorded = trace::summary().expect("kept since the last reset").events;
    let events = trace::events();
    assert_eq!(events.len() as u64, recorded, "too much has happened");
    trace::reset();
    let names = events.into_iter().map(|event| event.what);
    names.filter(|what| wanted(what)).collect()
}

/// What the driver has counted.
pub fn statistics(device: &MachineDevice) -> Statistics {
    query_statistics(device).expect("GET_STATISTICS")
}

/// Asks for a reset.
pub fn reset(device: &MachineDevice) -> Result<usize, Win32Error> {
    device
        .control(RESET, &[], &mut [])
        .map_err(|error| Win32Error(error.0))
}

/// Nothing is in flight, and the device works: every request has been counted once.
pub fn in_order(device: &MachineDevice) -> Statistics {
    round_trip(device, 7, 3000, 5);
    let counted = statistics(device);
    assert_eq!(
        counted.requests,
        counted.completed + counted.cancelled + counted.failed,
        "{counted:?}"
    );
    counted
}
