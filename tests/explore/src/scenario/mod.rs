//! What is run under many schedules.

mod cancel;
mod card;
mod dice;
mod edu;
mod fifo;
mod lane;
mod lies;
mod modes;
mod planted;
mod power;
mod traffic;
mod wire;

use std::cell::RefCell;
use std::rc::Rc;

use abi::guid::DEVICE_INTERFACE;
use abi::ioctl::RESET;
use dmatest::machine_device::MachineDevice;
use dmatest::query_statistics;
use machine::inf::{RegistryData, RegistryValue};
use machine::nt_sys::{GUID, STATUS_SUCCESS};
use machine::testdriver::TestDriver;
use machine::user::{Access, Token};
use machine::{Config, Machine};

use crate::account;
use crate::cli::DeviceOption;
use dice::{Dice, Pauses};
use lane::{Handle, Lane};

/// Something that happens to a started device.
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What happens.
    pub about: &'static str,
    /// Whose device it is.
    pub driver: Driver,
    /// What it changes in the machine.
    pub configure: fn(&mut Config),
    /// Lets it happen, and checks what came of it. The device is started.
    pub run: fn(&Setting<'_>),
}

/// The driver of a scenario.
#[derive(Clone, Copy)]
pub enum Driver {
    /// The project's.
    Project,
    /// One in this program.
    Test(fn() -> TestDriver),
}

/// A device, and what can happen to it.
pub struct Profile {
    /// Every scenario of the project's driver.
    pub scenarios: &'static [Scenario],
    /// A driver with a known race, and the same without it: to see that a race is found, and that nothing is found where
    /// there is none.
    pub planted: &'static [Scenario],
    /// Puts the device into the machine.
    pub configure: fn(&mut Config),
    /// How much of its memory is used, in bytes.
    memory: usize,
    /// Whether that is lost with the power: it holds zeroes then.
    loses_power: bool,
    /// How requests are sent.
    load: fn(&mut Dice) -> Load,
    pauses: Pauses,
}

/// How a thread sends requests.
struct Load {
    /// How many at a time.
    requests: usize,
    /// How often.
    rounds: u64,
}

impl Profile {
    /// The one of a device.
    pub fn of(device: DeviceOption) -> &'static Self {
        match device {
            DeviceOption::EduTwin => &edu::PROFILE,
            DeviceOption::Card => &card::PROFILE,
            DeviceOption::Fifo => &fifo::PROFILE,
            DeviceOption::FifoNoInterrupt => &fifo::NO_INTERRUPT,
            DeviceOption::FifoSimplex => &fifo::SIMPLEX,
        }
    }

    /// The scenario called `name`.
    pub fn find(&self, name: &str) -> Option<&Scenario> {
        let mut known = self.scenarios.iter().chain(self.planted);
        known.find(|scenario| scenario.name == name)
    }

    /// `count` parts of the device's memory, all of it zero so far.
    fn lanes(&self, count: usize) -> Vec<Lane> {
        Lane::split(self.memory, count, self.loses_power)
    }
}

/// What a scenario has to work with.
pub struct Setting<'m> {
    /// The machine.
    pub machine: &'m Machine,
    profile: &'static Profile,
    dice: RefCell<Dice>,
}

impl<'m> Setting<'m> {
    /// The setting of `seed`.
    pub fn new(machine: &'m Machine, profile: &'static Profile, seed: u64) -> Self {
        Self {
            machine,
            profile,
            // Not the numbers that the schedule is made of.
            dice: RefCell::new(Dice::new(seed ^ 0x5ca1_ab1e_0000_0000, profile.pauses)),
        }
    }

    /// Random numbers of one thread's own.
    pub fn dice(&self) -> Dice {
        self.dice.borrow_mut().fork()
    }

    /// A number below `bound`.
    pub fn below(&self, bound: u64) -> u64 {
        self.dice.borrow_mut().below(bound)
    }

    /// A number up to `longest`, of any magnitude.
    pub fn magnitude(&self, longest: u64) -> u64 {
        self.dice.borrow_mut().magnitude(longest)
    }

    /// Lets a moment pass.
    pub fn pause(&self) {
        self.dice.borrow_mut().pause();
    }

    /// Opens the device in a process of its own.
    ///
    /// # Panics
    /// If that fails.
    pub fn open(&self) -> Handle {
        self.open_interface(&GUID::from_u128(DEVICE_INTERFACE.to_u128()))
    }

    fn open_interface(&self, interface: &GUID) -> Handle {
        let process = Rc::new(self.machine.process(Token::Administrator));
        let path = process
            .interfaces(interface)
            .into_iter()
            .next()
            .expect("the device has an interface");
        let file = process
            .open(&path, Access::READ_WRITE)
            .expect("the device opens");
        Handle {
            file: Rc::new(file),
            process,
        }
    }

    /// Checks at the end that the device does what it should, that its memory holds what it should, and that the
    /// driver has counted what has happened.
    ///
    /// # Panics
    /// If not so.
    pub fn check(&self, lanes: &mut [Lane]) {
        let handle = self.open();
        for lane in lanes {
            let pending = lane.read_all(&handle, &mut self.dice.borrow_mut());
            lane.settle(pending, lane::SUCCESS_ONLY);
        }
        drop(handle);
        self.check_statistics();
    }

    /// Asks for a reset, by a handle of its own, since what cancels all requests of a handle cancels a reset as well.
    ///
    /// # Panics
    /// If that fails.
    fn reset(&self) {
        let handle = self.open();
        let buffer = handle.process.buffer(1).expect("memory for a request");
        let completion = handle.file.control(RESET, buffer, 0..0, 0..0).wait();
        assert_eq!(completion.status, STATUS_SUCCESS, "reset");
    }

    /// Checks that the driver has counted what has happened.
    ///
    /// # Panics
    /// If not so.
    pub fn check_statistics(&self) {
        let device = MachineDevice::open(self.machine, Token::Administrator);
        let device = device.expect("the device opens");
        let statistics = query_statistics(&device).expect("GET_STATISTICS");
        let seen = account::requests();
        let ended = statistics.completed + statistics.cancelled + statistics.failed;
        assert_eq!(statistics.requests, ended, "{statistics:?}");
        assert_eq!(statistics.completed, seen.succeeded, "{statistics:?}");
        // What is cancelled while it waits never comes to the driver.
        assert!(statistics.cancelled <= seen.cancelled, "{statistics:?}");
        assert_eq!(statistics.failed, seen.failed, "{statistics:?}");
    }
}

/// Sets the driver's time limit for transfers, in milliseconds.
fn limit(config: &mut Config, milliseconds: u32) {
    config.registry.push(RegistryValue {
        subkey: "Parameters".to_owned(),
        name: "TransferTimeout".to_owned(),
        data: RegistryData::Dword(milliseconds),
    });
}
