//! What is run under many schedules.

mod cancel;
mod lane;
mod planted;
mod power;
mod traffic;
mod trouble;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use abi::guid::DEVICE_INTERFACE;
use dmatest::machine_device::MachineDevice;
use dmatest::query_statistics;
use machine::nt_sys::GUID;
use machine::testdriver::TestDriver;
use machine::user::{Access, Token, relinquish, sleep};
use machine::{Config, Draw, Machine, next_device_event};

use crate::account;
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

/// Every scenario of the project's driver.
pub const ALL: &[Scenario] = &[
    traffic::TWO_PROCESSORS,
    cancel::CANCEL_IO,
    cancel::CLOSE_HANDLE,
    cancel::PROCESS_EXIT,
    power::SUSPEND,
    power::REBALANCE,
    power::SURPRISE_REMOVAL,
    trouble::HANG,
    trouble::SLOW,
    trouble::STUCK,
    trouble::INTERRUPTS,
    trouble::UNPLUG,
    trouble::RESETS,
    trouble::MIX,
];

/// A driver with a known race, and the same without it: to see that a race is found, and that nothing is found where
/// there is none.
pub const PLANTED: &[Scenario] = &[planted::RACE, planted::SOUND];

/// The scenario called `name`.
pub fn find(name: &str) -> Option<&'static Scenario> {
    let mut known = ALL.iter().chain(PLANTED);
    known.find(|scenario| scenario.name == name)
}

/// Bytes of edu's memory.
const MEMORY: usize = abi::edu::USABLE as usize;

/// Longest pause of a thread: as long as a request with all its transfers.
const LONGEST_PAUSE: u64 = 500_000_000;

/// What a scenario has to work with.
pub struct Setting<'m> {
    /// The machine.
    pub machine: &'m Machine,
    draw: RefCell<Draw>,
}

impl<'m> Setting<'m> {
    /// The setting of `seed`.
    pub fn new(machine: &'m Machine, seed: u64) -> Self {
        Self {
            machine,
            // Not the numbers that the schedule is made of.
            draw: RefCell::new(Draw::new(seed ^ 0x5ca1_ab1e_0000_0000)),
        }
    }

    /// Random numbers of one thread's own.
    pub fn fork_draw(&self) -> Draw {
        Draw::new(self.draw.borrow_mut().number())
    }

    /// A number below `bound`.
    pub fn below(&self, bound: u64) -> u64 {
        self.draw.borrow_mut().below(bound)
    }

    /// A number up to `longest`, of any magnitude.
    pub fn magnitude(&self, longest: u64) -> u64 {
        self.draw.borrow_mut().magnitude(longest)
    }

    /// Lets a moment pass.
    pub fn pause(&self) {
        pause(&mut self.draw.borrow_mut());
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
            let pending = lane.read_all(&handle, &mut self.draw.borrow_mut());
            lane.settle(pending, lane::SUCCESS_ONLY);
        }
        drop(handle);
        self.check_statistics();
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

/// Lets a moment pass: none, a few turns of others, any time, or until about when the device does something next, since
/// that is where races are.
fn pause(draw: &mut Draw) {
    /// Around the device's next event, ns.
    const AROUND: u64 = 8_000;
    match draw.below(5) {
        0 => {}
        1 => (0..draw.below(40)).for_each(|_| relinquish()),
        2 => sleep(Duration::from_nanos(draw.magnitude(LONGEST_PAUSE))),
        _ => {
            let event = next_device_event().unwrap_or(0);
            let early = draw.below(AROUND);
            let late = draw.below(AROUND);
            sleep(Duration::from_nanos((event + late).saturating_sub(early)));
        }
    }
}
