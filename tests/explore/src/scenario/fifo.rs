//! The FIFO peripheral: what is written comes back, and a system DMA controller moves it.

use std::rc::Rc;

use abi::ioctl::{STREAM_EXCHANGE, STREAM_POSITION, STREAM_START, STREAM_STOP};
use abi::stream::{PERIOD, StreamState};
use machine::nt_sys::{
    NTSTATUS, STATUS_CANCELLED, STATUS_DELETE_PENDING, STATUS_DEVICE_DOES_NOT_EXIST,
    STATUS_DEVICE_REMOVED, STATUS_INVALID_DEVICE_STATE, STATUS_IO_DEVICE_ERROR, STATUS_IO_TIMEOUT,
    STATUS_SUCCESS,
};
use machine::user::Thread;
use machine::{Config, Device, FifoFault, Way};

use super::lane::{Allowed, Handle, SUCCESS_ONLY};
use super::power::sleep_and_wake;
use super::wire::{Pending, Wire};
use super::{Dice, Driver, Load, Pauses, Profile, Scenario, Setting, limit};

pub(super) const PROFILE: Profile = profile(
    &[
        BOTH_WAYS,
        CANCEL_IO,
        CLOSE_HANDLE,
        SUSPEND,
        REBALANCE,
        SURPRISE_REMOVAL,
        RESETS,
        FAULTS,
        STREAM,
        MIX,
    ],
    |config| configure(config, Device::Fifo),
);

pub(super) const NO_INTERRUPT: Profile = Profile {
    configure: |config| configure(config, Device::FifoWithoutInterrupt),
    ..PROFILE
};

/// One channel for both directions: no streams, and a read can keep the write waiting that it waits for.
pub(super) const SIMPLEX: Profile = profile(
    &[
        CANCEL_IO,
        CLOSE_HANDLE,
        SUSPEND,
        REBALANCE,
        SURPRISE_REMOVAL,
        RESETS,
        FAULTS,
        MIX,
    ],
    |config| configure(config, Device::FifoSimplex),
);

const fn profile(scenarios: &'static [Scenario], configure: fn(&mut Config)) -> Profile {
    Profile {
        scenarios,
        planted: &[],
        configure,
        memory: 0,
        loses_power: true,
        load: |dice| Load {
            requests: 1 + dice.below(3) as usize,
            rounds: 1 + dice.below(3),
        },
        pauses: Pauses {
            longest: 1_000_000,
            around: 2_000,
        },
    }
}

/// Milliseconds that a transfer may take: a read for which there is no data waits so long.
const LIMIT: u32 = 10;

fn configure(config: &mut Config, device: Device) {
    config.device = device;
    config.hal.map_registers = 64;
    limit(config, LIMIT);
}

/// Of requests that may wait for each other, or for data that does not come any more.
const CUT: Allowed = Allowed::with(&[STATUS_CANCELLED, STATUS_IO_TIMEOUT]);

const BOTH_WAYS: Scenario = Scenario {
    name: "both-ways",
    about: "reads and writes of as many bytes at once, on two processors",
    driver: Driver::Project,
    configure: |_| {},
    run: |setting| {
        let wire = Wire::new(true);
        let handle = setting.open();
        let lengths: Vec<usize> = (0..1 + setting.below(4))
            .map(|_| 4 * (1 + setting.below(600) as usize))
            .collect();
        let threads: Vec<Thread> = [true, false]
            .into_iter()
            .map(|reads| {
                let (wire, handle, lengths) = (Rc::clone(&wire), handle.clone(), lengths.clone());
                let mut dice = setting.dice();
                Thread::spawn(if reads { "reads" } else { "writes" }, move || {
                    for length in lengths {
                        if dice.below(2) == 0 {
                            dice.pause();
                        }
                        let pending = wire.start(&handle, &mut dice, reads, length);
                        wire.settle(pending, SUCCESS_ONLY);
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(Thread::join);
        drop(handle);
        finish(setting, &wire);
    },
};

const CANCEL_IO: Scenario = Scenario {
    name: "cancel-io",
    about: "CancelIoEx for one request or all, by the threads that wait for them",
    driver: Driver::Project,
    configure: |_| {},
    run: |setting| {
        let traffic = Traffic::start(setting, &setting.open(), CUT, cancel_some);
        let wire = traffic.join();
        finish(setting, &wire);
    },
};

const CLOSE_HANDLE: Scenario = Scenario {
    name: "close-handle",
    about: "CloseHandle, or the end of a process, with requests under way",
    driver: Driver::Project,
    configure: |_| {},
    run: |setting| {
        let wire = Wire::new(false);
        let Handle { file, process } = setting.open();
        let handle = Handle {
            file: Rc::clone(&file),
            process: Rc::clone(&process),
        };
        let mut dice = setting.dice();
        let pending = start_some(&wire, &handle, &mut dice);
        setting.pause();
        drop(handle);
        drop(file);
        if setting.below(2) == 0 {
            process.exit();
        }
        for pending in pending {
            wire.settle(pending, CUT);
        }
        finish(setting, &wire);
    },
};

const SUSPEND: Scenario = Scenario {
    name: "suspend",
    about: "the system sleeps and wakes up with requests under way",
    driver: Driver::Project,
    configure: |_| {},
    run: |setting| {
        let traffic = Traffic::start(setting, &setting.open(), CUT, |_, _, _| {});
        for _ in 0..1 + setting.below(2) {
            sleep_and_wake(setting);
        }
        let wire = traffic.join();
        finish(setting, &wire);
    },
};

const REBALANCE: Scenario = Scenario {
    name: "rebalance",
    about: "the device is stopped for other resources with requests under way",
    driver: Driver::Project,
    configure: |_| {},
    run: |setting| {
        let traffic = Traffic::start(setting, &setting.open(), CUT, |_, _, _| {});
        for _ in 0..1 + setting.below(2) {
            setting.pause();
            setting.machine.rebalance().expect("rebalanced");
        }
        let wire = traffic.join();
        finish(setting, &wire);
    },
};

const SURPRISE_REMOVAL: Scenario = Scenario {
    name: "surprise-removal",
    about: "the device is pulled out with requests under way",
    driver: Driver::Project,
    configure: |_| {},
    run: |setting| {
        const PULLED: Allowed = Allowed::with(&[
            STATUS_DEVICE_REMOVED,
            STATUS_CANCELLED,
            STATUS_INVALID_DEVICE_STATE,
            STATUS_DELETE_PENDING,
            STATUS_DEVICE_DOES_NOT_EXIST,
            STATUS_IO_DEVICE_ERROR,
            STATUS_IO_TIMEOUT,
        ]);
        let handle = setting.open();
        let traffic = Traffic::start(setting, &handle, PULLED, |_, _, _| {});
        setting.pause();
        setting.machine.surprise_remove().expect("pulled out");
        traffic.join();
        drop(handle);
        setting.machine.finish_removals();
    },
};

const RESETS: Scenario = Scenario {
    name: "reset",
    about: "resets with requests under way, some of them cancelled",
    driver: Driver::Project,
    configure: |_| {},
    run: |setting| {
        let handle = setting.open();
        let traffic = Traffic::start(setting, &handle, CUT, cancel_some);
        for _ in 0..1 + setting.below(2) {
            setting.pause();
            setting.reset();
        }
        let wire = traffic.join();
        drop(handle);
        finish(setting, &wire);
    },
};

const FAULTS: Scenario = Scenario {
    name: "faults",
    about: "bus errors, a device that is done too early, channels that stop late",
    driver: Driver::Project,
    configure: |_| {},
    run: |setting| {
        const FAILED: Allowed =
            Allowed::with(&[STATUS_CANCELLED, STATUS_IO_TIMEOUT, STATUS_IO_DEVICE_ERROR]);
        let faults = setting.machine.fifo_faults().expect("the device is a FIFO");
        for _ in 0..1 + setting.below(2) {
            let way = [Way::Transmit, Way::Receive][setting.below(2) as usize];
            faults.arm(match setting.below(3) {
                0 => FifoFault::BusError(way, setting.magnitude(4000) as u32),
                1 => FifoFault::EarlyDone(way),
                _ => FifoFault::SlowStop(setting.magnitude(2_000_000)),
            });
        }
        let traffic = Traffic::start(setting, &setting.open(), FAILED, cancel_some);
        let wire = traffic.join();
        faults.disarm();
        finish(setting, &wire);
    },
};

const STREAM: Scenario = Scenario {
    name: "stream",
    about: "streams that are started, served and stopped against each other, cancelled and put to sleep",
    driver: Driver::Project,
    configure: |_| {},
    run: |setting| {
        let threads: Vec<Thread> = (0..2)
            .map(|number| {
                let handle = setting.open();
                let mut dice = setting.dice();
                Thread::spawn(&format!("stream {number}"), move || {
                    for _ in 0..2 + dice.below(6) {
                        stream_request(&handle, &mut dice);
                    }
                })
            })
            .collect();
        let traffic = Traffic::start(setting, &setting.open(), CUT, cancel_some);
        for _ in 0..setting.below(3) {
            match setting.below(3) {
                0 => sleep_and_wake(setting),
                1 => setting.machine.rebalance().expect("rebalanced"),
                _ => setting.reset(),
            }
        }
        threads.into_iter().for_each(Thread::join);
        let wire = traffic.join();
        finish(setting, &wire);
    },
};

const MIX: Scenario = Scenario {
    name: "mix",
    about: "cancelling, resets, sleep and rebalance in any order",
    driver: Driver::Project,
    configure: |_| {},
    run: |setting| {
        let handle = setting.open();
        let traffic = Traffic::start(setting, &handle, CUT, cancel_some);
        for _ in 0..1 + setting.below(3) {
            match setting.below(4) {
                0 => sleep_and_wake(setting),
                1 => setting.machine.rebalance().expect("rebalanced"),
                2 => setting.reset(),
                _ => setting.pause(),
            }
        }
        let wire = traffic.join();
        drop(handle);
        finish(setting, &wire);
    },
};

/// Two threads with requests, of which the one reads and the other writes.
struct Traffic {
    threads: Vec<Thread>,
    wire: Rc<Wire>,
}

impl Traffic {
    fn start(
        setting: &Setting<'_>,
        handle: &Handle,
        allowed: Allowed,
        meanwhile: fn(&Handle, &[Pending], &mut Dice),
    ) -> Self {
        let Load { requests, rounds } = (setting.profile.load)(&mut setting.dice.borrow_mut());
        let wire = Wire::new(false);
        let threads = [true, false]
            .into_iter()
            .map(|reads| {
                let (wire, handle) = (Rc::clone(&wire), handle.clone());
                let mut dice = setting.dice();
                Thread::spawn(if reads { "reads" } else { "writes" }, move || {
                    for _ in 0..rounds {
                        let pending: Vec<Pending> = (0..requests)
                            .map(|_| start_one(&wire, &handle, &mut dice, reads))
                            .collect();
                        meanwhile(&handle, &pending, &mut dice);
                        for pending in pending {
                            wire.settle(pending, allowed);
                        }
                    }
                })
            })
            .collect();
        Self { threads, wire }
    }

    fn join(self) -> Rc<Wire> {
        self.threads.into_iter().for_each(Thread::join);
        self.wire
    }
}

fn start_one(wire: &Wire, handle: &Handle, dice: &mut Dice, reads: bool) -> Pending {
    let length = 4 * (1 + dice.magnitude(600) as usize);
    wire.start(handle, dice, reads, length)
}

fn start_some(wire: &Wire, handle: &Handle, dice: &mut Dice) -> Vec<Pending> {
    let mut reads = dice.below(2) == 0;
    (0..4)
        .map(|_| {
            reads = !reads;
            start_one(wire, handle, dice, reads)
        })
        .collect()
}

fn cancel_some(handle: &Handle, pending: &[Pending], dice: &mut Dice) {
    for _ in 0..1 + dice.below(2) {
        dice.pause();
        // Nothing to cancel is no error: it may be over.
        let _ = match dice.below(3) {
            0 => handle.file.cancel_all(),
            _ => {
                let index = dice.below(pending.len() as u64) as usize;
                pending[index].overlapped.cancel()
            }
        };
    }
}

/// Asks for something about streams; it may be given up.
fn stream_request(handle: &Handle, dice: &mut Dice) {
    const ALLOWED: [NTSTATUS; 4] = [
        STATUS_SUCCESS,
        STATUS_INVALID_DEVICE_STATE,
        STATUS_CANCELLED,
        STATUS_IO_TIMEOUT,
    ];
    /// Of the line, in nanoseconds: a period takes 256 times as long.
    const LINE_PERIOD: u32 = 1000;
    let (code, input, output) = match dice.below(6) {
        0 | 1 => (STREAM_START, 4, 0),
        2 => (STREAM_STOP, 0, 0),
        3 => (STREAM_POSITION, 0, StreamState::SIZE),
        _ => (STREAM_EXCHANGE, PERIOD, StreamState::SIZE + PERIOD),
    };
    let mut buffer = handle
        .process
        .buffer((input + output).max(1))
        .expect("memory for a request");
    if code == STREAM_START {
        buffer[..input].copy_from_slice(&LINE_PERIOD.to_le_bytes());
    }
    let request = handle
        .file
        .control(code, buffer, 0..input, input..input + output);
    dice.pause();
    if dice.below(4) == 0 {
        // It may be over.
        let _ = request.cancel();
    }
    let status = request.wait().status;
    assert!(
        ALLOWED.contains(&status),
        "control code {code:#x} ended with status {status:#010x}"
    );
}

/// Checks at the end that the device does what it should, and that the driver has counted what has happened.
fn finish(setting: &Setting<'_>, wire: &Rc<Wire>) {
    setting.reset();
    let handle = setting.open();
    let exact = wire.afresh();
    let mut dice = setting.dice();
    for _ in 0..2 {
        let length = 4 * (1 + dice.below(64) as usize);
        let written = exact.start(&handle, &mut dice, false, length);
        exact.settle(written, SUCCESS_ONLY);
        let read = exact.start(&handle, &mut dice, true, length);
        exact.settle(read, SUCCESS_ONLY);
    }
    drop(handle);
    setting.check_statistics();
}
