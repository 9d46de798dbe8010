//! What the framework keeps for each driver that is bound to it (`FX_DRIVER_GLOBALS`).

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use crate::flat::*;

use crate::driver::Driver;
use crate::lock::{Ptr, Record};
use crate::registry;
use crate::worker::Worker;

/// Default of `DbgWaitForSignalTimeoutInSec`.
const WAIT_FOR_SIGNAL_SECONDS: u32 = 60;

/// The globals of one driver. The first part is what the driver itself sees.
#[repr(C)]
pub(crate) struct DriverGlobals {
    public: WDF_DRIVER_GLOBALS,
    name: OnceLock<String>,
    driver_object: Ptr<DRIVER_OBJECT>,
    minor_version: u32,
    driver: Record<Option<Arc<Driver>>>,
    worker: OnceLock<Worker>,
    verifier_on: AtomicBool,
    break_on_error: AtomicBool,
    debugger_expected: AtomicBool,
    verify_down_level: AtomicBool,
    wait_seconds: AtomicU32,
}

// SAFETY: the public part is written once, before the driver runs; all else is made for sharing.
unsafe impl Sync for DriverGlobals {}
// SAFETY: as above.
unsafe impl Send for DriverGlobals {}

impl DriverGlobals {
    /// Globals for the driver of `driver_object`, bound to version 1.`minor_version`.
    ///
    /// They live on after the driver is unbound: a stale pointer to them must not become a memory error.
    pub(crate) fn allocate(
        driver_object: *mut DRIVER_OBJECT,
        service: &str,
        minor_version: u32,
    ) -> &'static Self {
        // SAFETY: all-zero bytes are a valid value of this plain structure.
        let mut public: WDF_DRIVER_GLOBALS = unsafe { std::mem::zeroed() };
        for (to, from) in public.DriverName.iter_mut().zip(service.bytes()).take(31) {
            *to = from as _;
        }
        let tag = service.bytes().chain(*b"    ").take(4).enumerate();
        public.DriverTag =
            tag.fold(0, |tag, (index, byte)| tag | u32::from(byte) << (8 * index)) as _;
        public.DisplaceDriverUnload = 1;
        Box::leak(Box::new(Self {
            public,
            name: OnceLock::from(service.to_owned()),
            driver_object: Ptr(driver_object),
            minor_version,
            driver: Record::new(None),
            worker: OnceLock::new(),
            verifier_on: AtomicBool::new(false),
            break_on_error: AtomicBool::new(false),
            debugger_expected: AtomicBool::new(false),
            verify_down_level: AtomicBool::new(false),
            wait_seconds: AtomicU32::new(WAIT_FOR_SIGNAL_SECONDS),
        }))
    }

    /// The globals behind the first parameter of every DDI.
    pub(crate) fn from_ddi(globals: PWDF_DRIVER_GLOBALS) -> &'static Self {
        // SAFETY: the pointer came from `public`, the first field of leaked globals; the driver has no other.
        unsafe { &*globals.cast::<Self>() }
    }

    /// What the driver gets as its globals.
    pub(crate) fn public(&'static self) -> PWDF_DRIVER_GLOBALS {
        std::ptr::from_ref(self).cast_mut().cast()
    }

    /// Reads the driver's `Parameters\Wdf` key (`FxRegistrySettingsInitialize`): `VerifierOn`, `DbgBreakOnError`, ...
    pub(crate) fn read_settings(&self, service_key: &[u16]) {
        let key: Vec<u16> = service_key
            .iter()
            .copied()
            .chain(r"\Parameters\Wdf".encode_utf16())
            .collect();
        let read = |name: &str| registry::read_dword(&key, name);
        let on = read("VerifierOn").is_some_and(|value| value != 0);
        self.verifier_on.store(on, Ordering::Relaxed);
        let wanted = read("DbgBreakOnError").map(|value| value != 0);
        self.break_on_error
            .store(wanted.unwrap_or(on), Ordering::Relaxed);
        self.debugger_expected
            .store(wanted == Some(true), Ordering::Relaxed);
        self.verify_down_level.store(
            read("VerifyDownLevel").is_some_and(|value| value != 0),
            Ordering::Relaxed,
        );
        if let Some(seconds) = read("DbgWaitForSignalTimeoutInSec") {
            self.wait_seconds.store(seconds, Ordering::Relaxed);
        }
    }

    /// The driver's service name.
    pub(crate) fn driver_name(&self) -> &str {
        self.name.get().map_or("", String::as_str)
    }

    /// The driver's pool tag.
    pub(crate) fn tag(&self) -> u32 {
        self.public.DriverTag
    }

    /// The driver object.
    pub(crate) fn driver_object(&self) -> *mut DRIVER_OBJECT {
        self.driver_object.0
    }

    /// Whether the KMDF verifier is on for the driver.
    pub(crate) fn verifier_on(&self) -> bool {
        self.verifier_on.load(Ordering::Relaxed)
    }

    /// Whether a verifier break would reach a debugger.
    pub(crate) fn break_on_error(&self) -> bool {
        self.break_on_error.load(Ordering::Relaxed)
    }

    /// Whether somebody asked for these breaks, and not the verifier by itself.
    pub(crate) fn debugger_expected(&self) -> bool {
        self.debugger_expected.load(Ordering::Relaxed)
    }

    /// Whether the driver was built for KMDF 1.`minor` or later.
    pub(crate) fn is_at_least(&self, minor: u32) -> bool {
        self.minor_version >= minor
    }

    /// Whether a check that came with KMDF 1.`minor` is made (`IsVerificationEnabled` with `OkForDownLevel`).
    pub(crate) fn verifies_since(&self, minor: u32) -> bool {
        self.verifier_on()
            && (self.is_at_least(minor) || self.verify_down_level.load(Ordering::Relaxed))
    }

    /// Seconds until a wait of the framework's own is reported.
    pub(crate) fn wait_seconds(&self) -> u32 {
        self.wait_seconds.load(Ordering::Relaxed)
    }

    /// The WDFDRIVER, once created.
    pub(crate) fn driver(&self) -> Option<Arc<Driver>> {
        self.driver.with(|driver| driver.clone())
    }

    /// Remembers the WDFDRIVER; `None` forgets it.
    pub(crate) fn set_driver(&self, driver: Option<Arc<Driver>>) {
        // The old one is dropped outside of the record.
        drop(self.driver.with(|old| std::mem::replace(old, driver)));
    }

    /// Where the driver's deferred disposals run.
    pub(crate) fn passive_worker(&self) -> &Worker {
        self.worker.get_or_init(|| {
            Worker::new(self.driver_object.0.cast())
                .expect("the framework has no memory for a driver's work item")
        })
    }
}
