//! One card: how it is set up, started, powered and stopped.

use core::sync::atomic::AtomicBool;

use abi::guid::DEVICE_INTERFACE;
use kmdf::bus::BusInterface;
use kmdf::context::ContextType;
use kmdf::device::{DeviceEvents, RequestKind};
use kmdf::dma::{Channel, Direction, Enabler};
use kmdf::driver::Driver;
use kmdf::interrupt::Signal;
use kmdf::log::{self, LogFailure};
use kmdf::queue::{Dispatch, QueueConfig};
use kmdf::resources::{Resource, ResourceList};
use kmdf::rundown::Rundown;
use kmdf::unicode::WideStr;
use kmdf::{Device, DeviceInit, Interrupt, NtStatus, Queue, Result, Timer, thread};
use wdk_sys::GUID;

use crate::hw::edu::Edu;
use crate::hw::{Fault, Hardware};
use crate::mode::{self, Side};
use crate::statistics::Counters;
use crate::transfer::InFlight;
use crate::{ioctl, watch};

/// Nobody but the system and administrators may open a card: whoever reads and writes it directs its DMA.
pub(crate) const ACCESS: WideStr = kmdf::wide!("D:P(A;;GA;;;SY)(A;;GA;;;BA)");

/// A card, the context of its device object.
pub struct Card<H: Hardware> {
    pub(crate) device: Device<Self>,
    /// The request that is being carried out, and the one transaction.
    pub(crate) channel: Channel<InFlight<H>>,
    /// The hardware, between `EvtDevicePrepareHardware` and `EvtDeviceReleaseHardware`.
    pub(crate) started: Rundown<Started<H>>,
    /// What the card can do, as the system grants it.
    pub(crate) enabler: Enabler,
    pub(crate) interrupt: Interrupt,
    /// Expires when a transfer takes too long.
    pub(crate) watchdog: Timer,
    /// How long that is, in milliseconds.
    pub(crate) limit: u32,
    /// Set once, when the engine does not stop although it has been cut off from the bus: it is never let back.
    pub(crate) failed: AtomicBool,
    /// Reads and writes.
    pub(crate) transfers: Queue,
    /// Control requests whose handlers wait.
    pub(crate) waiting: Queue,
    pub(crate) counters: Counters,
}

/// What a card has while it is started.
pub(crate) struct Started<H> {
    pub(crate) hardware: H,
    pub(crate) bus: BusInterface,
    pub(crate) signal: Signal,
}

kmdf::context_type!(Card<Edu>);

impl<H: Hardware> Card<H>
where
    Self: ContextType,
{
    /// Sets up a card for a device that has been found: everything that lasts until it is removed. PASSIVE_LEVEL.
    ///
    /// This is the first of the four phases: the enabler tells the framework, once, what the card's DMA can do.
    pub(crate) fn add(driver: Driver, mut init: DeviceInit) -> Result<()> {
        init.use_direct_io();
        init.restrict_access(ACCESS).or_log(c"restricting access")?;
        let device = init.create::<Self>().or_log(c"creating the device")?;

        // The enabler samples the requirement when it is created.
        device.set_alignment_requirement(H::ALIGNMENT_MASK);
        let enabler = Enabler::create(&device, &H::DMA).or_log(c"creating the DMA enabler")?;
        let transaction = enabler
            .create_transaction()
            .or_log(c"creating the transaction")?;

        let transfers = add_transfers(&device).or_log(c"creating the queue of transfers")?;
        let waiting =
            ioctl::add_queues(&device).or_log(c"creating the queues of control requests")?;
        let interrupt = Interrupt::create(&device).or_log(c"creating the interrupt")?;
        let watchdog = Timer::create(&device).or_log(c"creating the timer")?;
        device.set_context(Self {
            device,
            channel: Channel::new(transaction),
            started: Rundown::new(),
            enabler,
            interrupt,
            watchdog,
            limit: watch::limit(driver.parameter(watch::LIMIT_NAME)),
            failed: AtomicBool::new(false),
            transfers,
            waiting,
            counters: Counters::default(),
        })?;
        device
            .create_interface(interface())
            .or_log(c"creating the device interface")
    }

    /// One engine and one adapter serve both directions.
    pub(crate) fn sides(&self) -> [Side<'_, InFlight<H>>; 1] {
        [(Direction::FromDevice, &self.channel)]
    }
}

/// Reads and writes share one queue, because they share one engine.
fn add_transfers<H: Hardware>(device: &Device<Card<H>>) -> Result<Queue>
where
    Card<H>: ContextType,
{
    let queue = Queue::create(device, QueueConfig::new(Dispatch::Sequential).transfers())?;
    device.dispatch(RequestKind::Read, &queue)?;
    device.dispatch(RequestKind::Write, &queue)?;
    Ok(queue)
}

impl<H: Hardware> DeviceEvents for Card<H>
where
    Self: ContextType,
{
    fn prepare_hardware(&self, resources: ResourceList<'_>) -> Result<()> {
        prepare(&self.started, resources, |resources| {
            Ok(Started {
                hardware: H::map(resources).or_log(c"mapping the hardware")?,
                bus: BusInterface::query(&self.device).or_log(c"asking for the bus interface")?,
                signal: self.interrupt.signal(),
            })
        })
    }

    fn release_hardware(&self) {
        // The queues are stopped, so no request is left. What is started again does not know what was asked for before.
        mode::undo(&self.sides());
        // Unmaps the registers. Nobody uses them now; if somebody did, this would wait.
        drop(self.started.close(thread::pause));
    }

    fn d0_entry(&self) -> Result<()> {
        let started = self.started.enter().ok_or(NtStatus::DEVICE_NOT_READY)?;
        started
            .hardware
            .wake()
            .map_err(Fault::status)
            .or_log(c"powering up")
    }

    fn d0_exit(&self) -> Result<()> {
        // The queues have stopped, so no request is left and the engine is idle. A card that is gone cannot be asked,
        // and one that is not idle is not made better by failing the transition: it is off the bus.
        if let Some(started) = self.started.enter() {
            match started.hardware.quiesce() {
                Ok(()) | Err(Fault::Gone) => {}
                Err(fault) => log::failure(c"powering down", fault.status()),
            }
        }
        Ok(())
    }
}

/// What `EvtDevicePrepareHardware` does for every card: makes what a started card has, and lets everybody use it.
/// PASSIVE_LEVEL.
pub(crate) fn prepare<S>(
    started: &Rundown<S>,
    resources: ResourceList<'_>,
    make: impl FnOnce(ResourceList<'_>) -> Result<S>,
) -> Result<()> {
    // The framework connects whatever interrupt it is given, and does not mind if there is none.
    if !resources.iter().any(|one| one == Resource::Interrupt) {
        return Err(NtStatus::DEVICE_CONFIGURATION_ERROR).or_log(c"looking for an interrupt");
    }
    started
        .open(make(resources)?)
        .map_err(|_| NtStatus::INVALID_DEVICE_STATE)
        .or_log(c"starting twice")
}

/// The device interface class, in the system's type.
pub(crate) const fn interface() -> GUID {
    GUID {
        Data1: DEVICE_INTERFACE.data1,
        Data2: DEVICE_INTERFACE.data2,
        Data3: DEVICE_INTERFACE.data3,
        Data4: DEVICE_INTERFACE.data4,
    }
}
