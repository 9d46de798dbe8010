//! Interrupts: the service routine at the device's IRQL, and the deferred call after it.

use wdk_sys::{BOOLEAN, ULONG, WDF_INTERRUPT_CONFIG, WDF_INTERRUPT_INFO, WDFINTERRUPT, WDFOBJECT};

use crate::context::{self, Home};
use crate::device::{self, Device, DeviceEvents};
use crate::versioned::size;
use crate::{NtStatus, Result, ddi};

/// What a device does when it interrupts.
pub trait InterruptEvents: DeviceEvents {
    /// `EvtInterruptIsr`: finds out whether the device interrupts, and makes it stop. At the device's IRQL, so nothing
    /// but registers and atomics may be touched. `message` counts from 0, and is 0 for an interrupt line.
    ///
    /// The framework never runs it twice at a time for one interrupt.
    fn service(&self, message: u32) -> Served;

    /// `EvtInterruptDpc`: does what the interrupt asks for. DISPATCH_LEVEL.
    ///
    /// One call may stand for several interrupts, and two calls may overlap on two processors.
    fn deferred(&self, interrupt: InterruptKey);
}

/// Which of a device's interrupts: what can be compared, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterruptKey {
    raw: WDFINTERRUPT,
}

/// What an interrupt service routine found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// Nothing: on a shared line, the interrupt is another device's.
    NotOurs,
    /// The device's interrupt, and nothing is left to do.
    Done,
    /// The device's interrupt, and the deferred call has to follow.
    Defer,
}

/// How a device interrupts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// By a line that other devices may share.
    Line,
    /// By a message of its own (MSI or MSI-X).
    Message,
}

/// An interrupt. The framework deletes it with its device.
#[derive(Debug)]
pub struct Interrupt {
    raw: WDFINTERRUPT,
}

// SAFETY: the framework serialises what needs it; the handle belongs to no thread.
unsafe impl Send for Interrupt {}

// SAFETY: the functions called through a shared handle may be called by several threads at once.
unsafe impl Sync for Interrupt {}

impl Interrupt {
    /// Makes an interrupt object; the framework gives it the device's next interrupt resource when the device starts,
    /// and connects it whenever the device is in its working state. PASSIVE_LEVEL.
    ///
    /// # Errors
    ///
    /// What `WdfInterruptCreate` returns.
    pub fn create<T: InterruptEvents>(device: &Device<T>) -> Result<Self> {
        let mut config = config::<T>();
        // SAFETY: the device is valid.
        let home = unsafe { Home::of::<T>(device.raw().cast()) }?;
        let mut attributes = context::attributes::<Home>();
        let mut interrupt = core::ptr::null_mut();
        // SAFETY: the device is valid, and the others live across the call.
        let status = unsafe {
            ddi::WdfInterruptCreate(
                device.raw(),
                &raw mut config,
                &raw mut attributes,
                &raw mut interrupt,
            )
        };
        NtStatus::from_code(status).ok()?;
        // SAFETY: the interrupt has just been made, with room for this.
        unsafe { context::set(interrupt.cast(), home) }?;
        Ok(Self { raw: interrupt })
    }

    /// Which one it is.
    #[must_use]
    pub const fn key(&self) -> InterruptKey {
        InterruptKey { raw: self.raw }
    }

    /// Has the deferred call run, as after an interrupt. IRQL <= DIRQL.
    pub fn queue_deferred(&self) {
        // SAFETY: the interrupt is valid. The result says whether the call was queued already, which is as good.
        unsafe { ddi::WdfInterruptQueueDpcForIsr(self.raw) };
    }

    /// How the device interrupts; known once its resources are, so from `EvtDevicePrepareHardware` on.
    /// IRQL <= DISPATCH_LEVEL.
    #[must_use]
    pub fn signal(&self) -> Signal {
        let mut info = WDF_INTERRUPT_INFO {
            Size: size::<WDF_INTERRUPT_INFO>(),
            ..WDF_INTERRUPT_INFO::default()
        };
        // SAFETY: the interrupt is valid, and the structure has its size set.
        unsafe { ddi::WdfInterruptGetInfo(self.raw, &raw mut info) };
        if info.MessageSignaled == 0 {
            Signal::Line
        } else {
            Signal::Message
        }
    }
}

/// As `WDF_INTERRUPT_CONFIG_INIT` sets it; the values left at zero mean the framework's defaults.
fn config<T: InterruptEvents>() -> WDF_INTERRUPT_CONFIG {
    WDF_INTERRUPT_CONFIG {
        Size: size::<WDF_INTERRUPT_CONFIG>(),
        ShareVector: wdk_sys::_WDF_TRI_STATE::WdfUseDefault,
        ReportInactiveOnPowerDown: wdk_sys::_WDF_TRI_STATE::WdfUseDefault,
        EvtInterruptIsr: Some(isr::<T>),
        EvtInterruptDpc: Some(dpc::<T>),
        ..WDF_INTERRUPT_CONFIG::default()
    }
}

unsafe extern "C" fn isr<T: InterruptEvents>(interrupt: WDFINTERRUPT, message: ULONG) -> BOOLEAN {
    // SAFETY: the interrupt is valid during its callback, and the device outlives it.
    let Some(context) = (unsafe { context::of_device::<T>(interrupt.cast()) }) else {
        return 0;
    };
    let served = context.service(message);
    if served == Served::Defer {
        // SAFETY: the interrupt is valid during its callback.
        unsafe { ddi::WdfInterruptQueueDpcForIsr(interrupt) };
    }
    BOOLEAN::from(served != Served::NotOurs)
}

unsafe extern "C" fn dpc<T: InterruptEvents>(interrupt: WDFINTERRUPT, device: WDFOBJECT) {
    // SAFETY: the associated object is the interrupt's device, and valid during the callback.
    if let Some(context) = unsafe { device::context::<T>(device.cast()) } {
        context.deferred(InterruptKey { raw: interrupt });
    }
}
