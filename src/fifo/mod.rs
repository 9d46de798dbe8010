//! A FIFO peripheral: a device without a DMA engine of its own, whose data a system DMA controller moves (docs/fifo.md).
//!
//! Reads take what the receive FIFO gets, writes put into the transmit FIFO; the two directions have a queue, a [`Lane`]
//! and, on the duplex variant, a channel of the controller each, and work at the same time. File offsets mean nothing.
//!
//! | file | role |
//! |---|---|
//! | `mod` | one device: how it is set up, started, powered and stopped |
//! | `registers` | the device's registers |
//! | `lane` | one direction: what has been heard of its transfer |
//! | `transfer` | the way of a request to the controller |
//! | `end` | how a transfer ends: finished, failed, stopped, too late |
//! | `reset` | a fresh start on request |
//! | `stream` | looped transfers over common buffers |
//! | `control` | control requests |

mod control;
mod end;
mod lane;
mod registers;
mod reset;
mod stream;
mod transfer;

use kmdf::device::{DeviceEvents, RequestKind};
use kmdf::dma::{Connection, Connections, Direction, PowerEvents, SystemEnabler};
use kmdf::driver::Driver;
use kmdf::log::LogFailure;
use kmdf::queue::{Dispatch, QueueConfig};
use kmdf::request::RequestKey;
use kmdf::resources::{Resource, ResourceList};
use kmdf::rundown::Rundown;
use kmdf::wait_lock::WaitLock;
use kmdf::{Device, DeviceInit, Interrupt, NtStatus, Queue, Result, Timer, WorkItem, thread};

use crate::device::{ACCESS, interface};
use crate::mode::{self, Side};
use crate::statistics::Counters;
use crate::{ioctl, watch};

use lane::{InFlight, Lane};
use registers::Registers;
use stream::{Playing, Stream};

/// Bytes of one access of the controller to the device: buffers and lengths are multiples of it.
pub(crate) const WIDTH: u32 = 4;

/// Bytes that a transfer may have: what the framework makes of it depends on the controller.
const MAXIMUM_TRANSFER: usize = 1 << 16;

/// Bytes that a read or a write may have.
pub(crate) const MAXIMUM_REQUEST: usize = 1 << 20;

/// A FIFO peripheral, the context of its device object.
pub(crate) struct Port {
    device: Device<Self>,
    /// What there is between `EvtDevicePrepareHardware` and `EvtDeviceReleaseHardware`.
    started: Rundown<Started>,
    interrupt: Interrupt,
    /// Time limits of the transfers that read and write.
    read_limit: Timer,
    write_limit: Timer,
    /// How long that is, in milliseconds.
    limit: u32,
    /// Reads, and writes.
    transfers: [Queue; 2],
    /// Control requests whose handlers wait.
    waiting: Queue,
    /// What is streamed; held while it begins or ends.
    streaming: WaitLock<Option<Playing>>,
    /// Ends a stream that has failed.
    broken: WorkItem,
    counters: Counters,
}

/// What a port has while it is started. The enabler lives no longer: the framework gives back a controller's channels
/// only with it.
struct Started {
    registers: Registers,
    read: Lane,
    write: Lane,
    enabler: SystemEnabler,
    /// For looped transfers: only if each direction has a channel.
    stream: Option<Stream>,
    /// Whether the device interrupts at the end of a transfer; the controller tells in any case.
    interrupts: bool,
    /// Transfers that can be in flight at once.
    directions: u32,
}

kmdf::context_type!(Port);

impl Started {
    const fn lane(&self, direction: Direction) -> &Lane {
        match direction {
            Direction::FromDevice => &self.read,
            Direction::ToDevice => &self.write,
        }
    }

    /// What has map registers, and if there are two channels of the controller one of them, of its own.
    fn sides(&self) -> [Side<'_, InFlight>; 2] {
        [Direction::FromDevice, Direction::ToDevice]
            .map(|direction| (direction, &*self.lane(direction).channel))
    }

    /// Whether requests have the controller's channels for themselves.
    fn has_reserved(&self) -> bool {
        self.sides()
            .iter()
            .any(|(_, channel)| channel.map_registers() != 0)
    }

    /// Which way the request moves that a channel works on.
    fn direction_of(&self, request: RequestKey) -> Option<Direction> {
        [Direction::FromDevice, Direction::ToDevice]
            .into_iter()
            .find(|&direction| self.lane(direction).channel.has(request))
    }
}

impl Port {
    /// Sets up a device that has been found: everything that lasts until it is removed. PASSIVE_LEVEL.
    pub(crate) fn add(driver: Driver, mut init: DeviceInit) -> Result<()> {
        init.use_direct_io();
        init.restrict_access(ACCESS).or_log(c"restricting access")?;
        init.listen_to_files::<Self>();
        let device = init.create::<Self>().or_log(c"creating the device")?;
        device.set_alignment_requirement(WIDTH - 1);
        let transfers = add_transfers(&device).or_log(c"creating the queues of transfers")?;
        let waiting =
            ioctl::add_queues(&device).or_log(c"creating the queues of control requests")?;
        let interrupt = Interrupt::create(&device).or_log(c"creating the interrupt")?;
        let read_limit = Timer::create(&device).or_log(c"creating a timer")?;
        let write_limit = Timer::create(&device).or_log(c"creating a timer")?;
        device.set_context(Self {
            device,
            started: Rundown::new(),
            interrupt,
            read_limit,
            write_limit,
            limit: watch::limit(driver.parameter(watch::LIMIT_NAME)),
            transfers,
            waiting,
            streaming: WaitLock::create(&device, None).or_log(c"creating a lock")?,
            broken: WorkItem::create(&device).or_log(c"creating the work item")?,
            counters: Counters::default(),
        })?;
        device
            .create_interface(interface())
            .or_log(c"creating the device interface")
    }

    const fn timer(&self, direction: Direction) -> &Timer {
        match direction {
            Direction::FromDevice => &self.read_limit,
            Direction::ToDevice => &self.write_limit,
        }
    }

    fn start(&self, resources: ResourceList<'_>) -> Result<Started> {
        let window = resources
            .memory()
            .next()
            .ok_or(NtStatus::DEVICE_CONFIGURATION_ERROR)
            .or_log(c"looking for the registers")?;
        let (connections, directions) =
            connections(resources).or_log(c"looking for connections to a DMA controller")?;
        let registers = Registers::map(window).or_log(c"mapping the registers")?;
        let enabler = SystemEnabler::create(&self.device, MAXIMUM_TRANSFER, window, connections)
            .or_log(c"creating the DMA enabler")?;
        let stream = match connections {
            Connections::Simplex(_) => None,
            Connections::Duplex { .. } => {
                let looped = connections.looped();
                let enabler = SystemEnabler::create(&self.device, stream::BUFFER, window, looped)
                    .or_log(c"creating the enabler of streams")?;
                Some(Stream::create(enabler).or_log(c"creating the buffers of streams")?)
            }
        };
        Ok(Started {
            stream,
            registers,
            read: Lane::new(enabler.create_channel().or_log(c"creating a transaction")?),
            write: Lane::new(enabler.create_channel().or_log(c"creating a transaction")?),
            enabler,
            interrupts: resources.iter().any(|one| one == Resource::Interrupt),
            directions,
        })
    }
}

/// Each direction has a queue, which hands out the next request when the one before it has been completed.
fn add_transfers(device: &Device<Port>) -> Result<[Queue; 2]> {
    let create = |kind| -> Result<Queue> {
        let queue = Queue::create(device, QueueConfig::new(Dispatch::Sequential).transfers())?;
        device.dispatch(kind, &queue)?;
        Ok(queue)
    };
    Ok([create(RequestKind::Read)?, create(RequestKind::Write)?])
}

/// The first connection transmits, and the second receives; a single one does both. None, as on a PC, is an error.
fn connections(resources: ResourceList<'_>) -> Result<(Connections, u32)> {
    let mut found = resources.dma();
    let (first, second, third) = (found.next(), found.next(), found.next());
    if [first, second]
        .into_iter()
        .flatten()
        .any(|one| one.width() != Some(WIDTH))
    {
        return Err(NtStatus::DEVICE_CONFIGURATION_ERROR);
    }
    match (first, second, third) {
        (Some(both), None, None) => Ok((Connections::Simplex(Connection::new(both)), 1)),
        (Some(transmit), Some(receive), None) => {
            let duplex = Connections::Duplex {
                read: Connection::new(receive),
                write: Connection::new(transmit),
            };
            Ok((duplex, 2))
        }
        _ => Err(NtStatus::DEVICE_CONFIGURATION_ERROR),
    }
}

impl DeviceEvents for Port {
    fn prepare_hardware(&self, resources: ResourceList<'_>) -> Result<()> {
        let started = self.start(resources)?;
        self.started
            .open(started)
            .map_err(|_| NtStatus::INVALID_DEVICE_STATE)
            .or_log(c"starting twice")
    }

    fn release_hardware(&self) {
        // The queues are stopped, so no request is left. What is reserved is the adapters', which go with the enabler.
        if let Some(started) = self.started.enter() {
            mode::undo(&started.sides());
        }
        // Deletes the enabler with its transactions, and unmaps the registers. Nobody uses them now; if somebody did, this
        // would wait.
        drop(self.started.close(thread::pause));
    }

    fn d0_entry(&self) -> Result<()> {
        let started = self.started.enter().ok_or(NtStatus::DEVICE_NOT_READY)?;
        started.registers.wake().or_log(c"powering up")
    }

    fn d0_exit(&self) -> Result<()> {
        Ok(())
    }
}

/// The device does no DMA on its own, so there is no bus mastering to be switched on or off; what it has instead are its
/// request lines.
impl PowerEvents for Port {
    fn fill(&self) -> Result<()> {
        Ok(())
    }

    /// From now on the device may ask for data.
    fn enable(&self) -> Result<()> {
        let started = self.started.enter().ok_or(NtStatus::DEVICE_NOT_READY)?;
        started.registers.connect(started.interrupts);
        Ok(())
    }

    fn start_self_managed(&self) -> Result<()> {
        Ok(())
    }

    /// A stream ends with the device's power. No transfer is left to be limited: the timers are stopped for good, and do not run later.
    fn stop_self_managed(&self) -> Result<()> {
        if let Some(started) = self.started.enter() {
            self.stop_stream(&started);
        }
        self.read_limit.stop_and_wait();
        self.write_limit.stop_and_wait();
        Ok(())
    }

    fn disable(&self) -> Result<()> {
        if let Some(started) = self.started.enter() {
            started.registers.disconnect();
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }
}
