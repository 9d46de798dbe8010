//! One ring card: how it is set up, started, powered and stopped.

use core::num::NonZeroUsize;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use abi::card::Direction;
use abi::card::register::Moderation;
use kmdf::bus::{BusInterface, ResetInterface};
use kmdf::device::{DeviceEvents, RequestKind};
use kmdf::dma::{Enabler, EnablerConfig, PowerEvents, Profile, Shape};
use kmdf::driver::Driver;
use kmdf::interrupt::Signal;
use kmdf::log::{self, LogFailure};
use kmdf::queue::{Dispatch, QueueConfig};
use kmdf::registers::Value;
use kmdf::resources::ResourceList;
use kmdf::rundown::Rundown;
use kmdf::{Device, DeviceGone, DeviceInit, NtStatus, Queue, Result, Timer, WorkItem, thread};

use super::engine::Engine;
use super::interrupts::Interrupts;
use super::registers::Registers;
use super::{MAXIMUM_ELEMENTS, MAXIMUM_TRANSFER, SLOTS};
use crate::device::{ACCESS, interface, prepare};
use crate::hw::Fault;
use crate::statistics::Counters;
use crate::{ioctl, watch};

/// What the card's DMA can do.
pub(super) const DMA: EnablerConfig =
    EnablerConfig::new(Profile::ScatterGather64Duplex, MAXIMUM_TRANSFER)
        .with_elements(MAXIMUM_ELEMENTS);

/// A ring card, the context of its device object.
pub(crate) struct RingCard {
    pub(super) device: Device<Self>,
    pub(super) to_card: Engine,
    pub(super) from_card: Engine,
    /// The hardware, between `EvtDevicePrepareHardware` and `EvtDeviceReleaseHardware`.
    pub(super) started: Rundown<Started>,
    pub(super) enabler: Enabler,
    /// How requests are split into transfers.
    pub(super) shape: Shape,
    pub(super) interrupts: Interrupts,
    /// Looks after time limits while transfers are in flight.
    pub(super) watchdog: Timer,
    /// The timer is running, or will be started.
    pub(super) watched: AtomicBool,
    /// How long a transfer may take, in milliseconds.
    pub(super) limit: u32,
    /// Brings a channel or the card back into order.
    pub(super) recovery: WorkItem,
    /// What the recovery has to do, and whether somebody is at it.
    pub(super) orders: AtomicU32,
    pub(super) recovering: AtomicBool,
    /// Set once, when a reset does not end: the card is never let back onto the bus.
    pub(super) failed: AtomicBool,
    /// Writes and reads.
    pub(super) writes: Queue,
    pub(super) reads: Queue,
    /// Control requests whose handlers wait.
    pub(crate) resets: Queue,
    pub(crate) counters: Counters,
    /// Interrupt moderation of both channels: the word of a [`Moderation`].
    pub(super) moderation: AtomicU32,
}

/// What a card has while it is started.
pub(crate) struct Started {
    pub(super) registers: Registers,
    pub(super) bus: BusInterface,
    /// How the bus resets the card, if it can.
    bus_reset: Option<ResetInterface>,
    pub(super) signal: Signal,
}

impl Started {
    /// Resets the card, by its own register; if that does not bring it back, by the bus, in which case the card is not a
    /// master afterwards. PASSIVE_LEVEL.
    pub(super) fn reset(&self) -> Result<(), Fault> {
        let outcome = self.registers.reset();
        match (&self.bus_reset, outcome) {
            (Some(bus), Err(fault @ (Fault::Busy | Fault::Contradiction))) => {
                log::failure(c"resetting the card by its register", fault.status());
                // Whatever it goes on with, it reaches no memory any more; nor does it when the bus has put back what
                // was in configuration space.
                self.bus.set_bus_master(false)?;
                match bus.reset().or_log(c"resetting the card by its bus") {
                    Ok(()) => self.registers.reset(),
                    Err(_) => outcome,
                }
            }
            _ => outcome,
        }
    }
}

kmdf::context_type!(RingCard);

impl RingCard {
    /// Sets up a card for a device that has been found: everything that lasts until it is removed. PASSIVE_LEVEL.
    pub(crate) fn add(driver: Driver, mut init: DeviceInit) -> Result<()> {
        init.use_direct_io();
        init.restrict_access(ACCESS).or_log(c"restricting access")?;
        let device = init.create::<Self>().or_log(c"creating the device")?;
        device.set_alignment_requirement(0);
        let enabler = Enabler::create(&device, &DMA).or_log(c"creating the DMA enabler")?;
        let shape = shape(driver);
        let to_card = Engine::create(Direction::ToCard, &enabler, shape)
            .or_log(c"creating the channel to the card")?;
        let from_card = Engine::create(Direction::FromCard, &enabler, shape)
            .or_log(c"creating the channel from the card")?;
        let writes =
            add_transfers(&device, RequestKind::Write).or_log(c"creating the queue of writes")?;
        let reads =
            add_transfers(&device, RequestKind::Read).or_log(c"creating the queue of reads")?;
        let resets =
            ioctl::add_queues(&device).or_log(c"creating the queues of control requests")?;
        let interrupts = Interrupts::create(&device).or_log(c"creating the interrupts")?;
        let watchdog = Timer::create(&device).or_log(c"creating the timer")?;
        let recovery = WorkItem::create(&device).or_log(c"creating the work item")?;
        device.set_context(Self {
            device,
            to_card,
            from_card,
            started: Rundown::new(),
            enabler,
            shape,
            interrupts,
            watchdog,
            watched: AtomicBool::new(false),
            limit: watch::limit(driver.parameter(watch::LIMIT_NAME)),
            recovery,
            orders: AtomicU32::new(0),
            recovering: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            writes,
            reads,
            resets,
            counters: Counters::default(),
            moderation: AtomicU32::new(moderation(driver).into_word()),
        })?;
        device
            .create_interface(interface())
            .or_log(c"creating the device interface")
    }

    /// Both channels.
    pub(super) const fn engines(&self) -> [&Engine; 2] {
        [&self.to_card, &self.from_card]
    }

    /// How completions are gathered into interrupts.
    pub(super) fn moderation(&self) -> Moderation {
        Moderation::from_word(self.moderation.load(Ordering::Acquire))
    }

    /// Looks after both channels. IRQL <= DISPATCH_LEVEL.
    pub(super) fn look(&self) {
        for engine in self.engines() {
            engine.look(self);
        }
    }
}

/// What the registry says about interrupt moderation; without it, the driver finds out what is best.
fn moderation(driver: Driver) -> Moderation {
    let value = |name| {
        let value = driver.parameter(name).unwrap_or(0);
        u16::try_from(value).unwrap_or(u16::MAX)
    };
    Moderation::new(
        value(kmdf::wide!("ModerationCount")),
        value(kmdf::wide!("ModerationTime")),
    )
}

/// What the registry says about how requests are split into transfers.
fn shape(driver: Driver) -> Shape {
    let value = |name| driver.parameter(name).unwrap_or(0);
    if value(kmdf::wide!("SingleTransfers")) != 0 {
        return Shape::Whole;
    }
    let most = NonZeroUsize::new(value(kmdf::wide!("TransferLength")) as usize);
    most.map_or(Shape::AsGranted, Shape::AtMost)
}

/// A direction's queue hands out as many requests as its channel has slots.
fn add_transfers(device: &Device<RingCard>, kind: RequestKind) -> Result<Queue> {
    let config = QueueConfig::new(Dispatch::Parallel)
        .at_most(SLOTS)
        .transfers();
    let queue = Queue::create(device, config)?;
    device.dispatch(kind, &queue)?;
    Ok(queue)
}

impl DeviceEvents for RingCard {
    fn prepare_hardware(&self, resources: ResourceList<'_>) -> Result<()> {
        prepare(&self.started, resources, |resources| {
            Ok(Started {
                registers: Registers::map(resources).or_log(c"mapping the hardware")?,
                bus: BusInterface::query(&self.device).or_log(c"asking for the bus interface")?,
                bus_reset: ResetInterface::query(&self.device),
                signal: self.interrupts.assigned(),
            })
        })
    }

    fn release_hardware(&self) {
        // Unmaps the registers. Nobody uses them now; if somebody did, this would wait.
        drop(self.started.close(thread::pause));
    }

    /// The card has forgotten everything, or remembers what another driver told it: both end here.
    fn d0_entry(&self) -> Result<()> {
        let started = self.started.enter().ok_or(NtStatus::DEVICE_NOT_READY)?;
        started
            .reset()
            .map_err(Fault::status)
            .or_log(c"resetting the card")
    }

    /// The queues have stopped, so nothing is in flight, and the channels were stopped when DMA was.
    fn d0_exit(&self) -> Result<()> {
        for engine in self.engines() {
            if !engine.is_empty() {
                log::failure(c"powering down", NtStatus::INVALID_DEVICE_STATE);
            }
        }
        Ok(())
    }
}

/// Between `EvtDeviceD0Entry` and `EvtDeviceD0Exit`.
impl PowerEvents for RingCard {
    /// No transfer is left from before.
    fn fill(&self) -> Result<()> {
        for engine in self.engines() {
            engine.shut(self, NtStatus::DEVICE_NOT_READY);
        }
        Ok(())
    }

    /// The card gets on the bus, unless it must never again, and its channels are started.
    fn enable(&self) -> Result<()> {
        if self.failed.load(Ordering::Acquire) {
            return Err(NtStatus::IO_DEVICE_ERROR);
        }
        let started = self.started.enter().ok_or(NtStatus::DEVICE_NOT_READY)?;
        self.open(&started, NtStatus::DEVICE_NOT_READY)
            .map_err(Fault::status)
            .or_log(c"enabling bus mastering")
    }

    /// Nothing runs by itself: transfers start the timer.
    fn start_self_managed(&self) -> Result<()> {
        Ok(())
    }

    /// No transfer is left to be limited, nor anything to be brought into order.
    fn stop_self_managed(&self) -> Result<()> {
        self.watchdog.stop_and_wait();
        self.watched.store(false, Ordering::Release);
        self.recovery.flush();
        Ok(())
    }

    /// The channels stop, and the card leaves the bus. It may be gone altogether, or not be started at all.
    fn disable(&self) -> Result<()> {
        for engine in self.engines() {
            engine.close();
        }
        if let Some(started) = self.started.enter() {
            started.registers.enable_interrupts(false);
            for engine in self.engines() {
                match started.registers.stop(engine.direction) {
                    Ok(()) | Err(Fault::Gone) => {}
                    Err(fault) => log::failure(c"stopping a channel", fault.status()),
                }
            }
            match started.bus.set_bus_master(false) {
                Ok(()) | Err(DeviceGone) => {}
            }
        }
        for engine in self.engines() {
            engine.shut(self, NtStatus::DEVICE_NOT_READY);
        }
        Ok(())
    }

    /// The service routine has nothing left to acknowledge: causes are disabled.
    fn flush(&self) -> Result<()> {
        Ok(())
    }
}
