//! WDFTIMER (`fxtimer.cpp`, `fxtimerapi.cpp`).

use std::cell::UnsafeCell;
use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use machine_nt::exports::{
    KeCancelTimer, KeFlushQueuedDpcs, KeGetCurrentThread, KeInitializeDpc, KeInitializeTimerEx,
    KeSetCoalescableTimer,
};
use machine_nt::ke::stack::machine_code;

use super::{attributes, callback_lock, parent_of};
use crate::flat::*;
use crate::globals::DriverGlobals;
use crate::lock::{CallbackLock, Record, serialized};
use crate::object::attributes::Rules;
use crate::object::{self, Header, Kind, Object, Parent, Typed, handle};
use crate::verifier;
use crate::worker::Worker;

/// Size of `WDF_TIMER_CONFIG` up to version 1.7 and up to version 1.11.
const CONFIG_V1_7: usize = offset_of!(WDF_TIMER_CONFIG, TolerableDelay);
const CONFIG_V1_11: usize = offset_of!(WDF_TIMER_CONFIG, UseHighResolutionTimer);

#[derive(Default)]
struct State {
    running_down: bool,
    /// A thread waits in [`Timer::stop`].
    stopping: bool,
    /// It must try again: the timer was started meanwhile.
    stop_again: bool,
    start_aborted: bool,
}

/// A timer of the driver.
pub(crate) struct Timer {
    header: Header,
    timer: UnsafeCell<KTIMER>,
    dpc: UnsafeCell<KDPC>,
    period: u32,
    tolerable_delay: u32,
    callback: PFN_WDF_TIMER,
    lock: Option<Arc<CallbackLock>>,
    /// What a timer with callbacks at `PASSIVE_LEVEL` runs on.
    worker: Option<Worker>,
    work_queued: AtomicBool,
    state: Record<State>,
    thread: AtomicPtr<_KTHREAD>,
}

// SAFETY: the kernel serialises access to the timer and DPC objects.
unsafe impl Send for Timer {}
// SAFETY: as above.
unsafe impl Sync for Timer {}

impl Object for Timer {
    fn header(&self) -> &Header {
        &self.header
    }

    fn dispose(&self) {
        self.state.with(|state| state.running_down = true);
        self.stop(true);
    }
}

impl Typed for Timer {
    const KIND: Kind = Kind::Timer;
}

impl Timer {
    fn is_own_thread(&self) -> bool {
        // SAFETY: callable at any IRQL.
        let thread = unsafe { KeGetCurrentThread() };
        self.thread.load(Ordering::SeqCst) == thread
    }

    /// Starts it; true if it was running already.
    fn start(&self, due: i64) -> bool {
        let (start, refused) = self.state.with(|state| {
            state.start_aborted |= state.stopping && !state.running_down;
            (!state.running_down && !state.stopping, state.running_down)
        });
        if refused {
            verifier::break_point(self.header.globals());
        }
        if !start {
            return false;
        }
        let due = LARGE_INTEGER { QuadPart: due };
        let (timer, dpc) = (self.timer.get(), self.dpc.get());
        // SAFETY: initialised in `create`.
        let was_set =
            unsafe { KeSetCoalescableTimer(timer, due, self.period, self.tolerable_delay, dpc) };
        self.state.with(|state| state.stop_again |= state.stopping);
        was_set != 0
    }

    /// Stops it, and waits for its callback if told to; true if it was running.
    fn stop(&self, wait: bool) -> bool {
        if !wait {
            // SAFETY: initialised in `create`.
            return unsafe { KeCancelTimer(self.timer.get()) } != 0;
        }
        if self.is_own_thread() {
            verifier::break_point(self.header.globals());
            return false;
        }
        self.state.with(|state| {
            state.start_aborted = false;
            state.stopping = true;
        });
        loop {
            self.state.with(|state| state.stop_again = false);
            // SAFETY: initialised in `create`.
            let stopped = unsafe { KeCancelTimer(self.timer.get()) } != 0;
            // SAFETY: whoever waits is at PASSIVE_LEVEL.
            unsafe { KeFlushQueuedDpcs() };
            if let Some(worker) = &self.worker {
                worker.wait_until_idle();
            }
            let result = self.state.with(|state| {
                if !stopped && state.stop_again {
                    return None;
                }
                state.stopping = false;
                Some(stopped || std::mem::take(&mut state.start_aborted))
            });
            if let Some(result) = result {
                return result;
            }
        }
    }

    fn expired(self: &Arc<Self>) {
        let Some(worker) = &self.worker else {
            return self.call();
        };
        if !self.work_queued.swap(true, Ordering::SeqCst) {
            let timer = self.clone();
            worker.run(move || {
                timer.work_queued.store(false, Ordering::SeqCst);
                timer.call();
            });
        }
    }

    fn call(&self) {
        let Some(callback) = self.callback else {
            return;
        };
        // SAFETY: callable at any IRQL.
        let thread = unsafe { KeGetCurrentThread() };
        self.thread.store(thread, Ordering::SeqCst);
        let value = self.header.handle() as WDFTIMER;
        // SAFETY: the driver registered the callback.
        serialized(self.lock.as_deref(), || unsafe { callback(value) });
        self.thread.store(std::ptr::null_mut(), Ordering::SeqCst);
    }
}

unsafe extern "win64" fn deferred(_dpc: PKDPC, context: PVOID, _first: PVOID, _second: PVOID) {
    let _inside = machine_code();
    let timer: *const Timer = context.cast();
    // SAFETY: bound to an object that is counted and outlives its DPC.
    unsafe { Arc::increment_strong_count(timer) };
    // SAFETY: the count just taken.
    let timer = unsafe { Arc::from_raw(timer) };
    timer.expired();
}

/// The configuration with what older versions leave out, checked.
///
/// # Safety
/// `config` points to a structure of the size it states.
unsafe fn checked(config: PWDF_TIMER_CONFIG) -> Result<WDF_TIMER_CONFIG, NTSTATUS> {
    // SAFETY: the size is the structure's first field.
    let size = unsafe { (*config).Size } as usize;
    if ![CONFIG_V1_7, CONFIG_V1_11, size_of::<WDF_TIMER_CONFIG>()].contains(&size) {
        return Err(STATUS_INFO_LENGTH_MISMATCH);
    }
    // SAFETY: all-zero bytes are a valid value of this plain structure.
    let mut whole: WDF_TIMER_CONFIG = unsafe { std::mem::zeroed() };
    let target = (&raw mut whole).cast::<u8>();
    // SAFETY: the caller's promise; no size is larger than the structure.
    unsafe { config.cast::<u8>().copy_to_nonoverlapping(target, size) };
    if whole.Period > i32::MAX as u32 {
        return Err(STATUS_INVALID_PARAMETER);
    }
    if whole.TolerableDelay > 0 && whole.UseHighResolutionTimer != 0 {
        return Err(STATUS_INVALID_PARAMETER);
    }
    Ok(whole)
}

fn create(
    globals: &'static DriverGlobals,
    config: PWDF_TIMER_CONFIG,
    given: PWDF_OBJECT_ATTRIBUTES,
) -> Result<usize, NTSTATUS> {
    // SAFETY: null or the driver's structure.
    let (attributes, parent) = unsafe { attributes(globals, given, Rules::TIMER) }?;
    // SAFETY: the driver's structure.
    let config = unsafe { checked(config) }?;
    let passive = attributes.execution_level() == WdfExecutionLevelPassive;
    if config.Period > 0 && passive {
        return Err(STATUS_NOT_SUPPORTED);
    }
    let device = object::search_for_device(&parent).ok_or(STATUS_INVALID_DEVICE_REQUEST)?;
    let lock = callback_lock(&parent, config.AutomaticSerialization != 0, passive)?;
    let worker = match passive {
        true => Some(
            Worker::new(device.function_object().cast()).ok_or(STATUS_INSUFFICIENT_RESOURCES)?,
        ),
        false => None,
    };
    let timer = Arc::new(Timer {
        header: Header::new(Kind::Timer, globals),
        // SAFETY: all-zero bytes are a valid value of this plain structure, initialised below.
        timer: UnsafeCell::new(unsafe { std::mem::zeroed() }),
        // SAFETY: as above.
        dpc: UnsafeCell::new(unsafe { std::mem::zeroed() }),
        period: config.Period,
        tolerable_delay: config.TolerableDelay,
        callback: config.EvtTimerFunc,
        lock,
        worker,
        work_queued: AtomicBool::new(false),
        state: Record::default(),
        thread: AtomicPtr::default(),
    });
    timer.header.mark_passive_dispose();
    // SAFETY: the object stays where it is and disposal stops the timer.
    unsafe { KeInitializeTimerEx(timer.timer.get(), NotificationTimer) };
    let context = Arc::as_ptr(&timer).cast_mut().cast();
    // SAFETY: as above.
    unsafe { KeInitializeDpc(timer.dpc.get(), Some(deferred), context) };
    object::commit(&timer, Some(&attributes), Parent::Object(parent))
}

/// Creates a timer. IRQL <= `DISPATCH_LEVEL`.
///
/// Errors: those of the attributes (a parent is required), `STATUS_INFO_LENGTH_MISMATCH`, `STATUS_INVALID_PARAMETER` (the
/// period; both a tolerable delay and high resolution), `STATUS_NOT_SUPPORTED` (periodic at `PASSIVE_LEVEL`),
/// `STATUS_INVALID_DEVICE_REQUEST` (no device above), `STATUS_WDF_INCOMPATIBLE_EXECUTION_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfTimerCreate(
    globals: PWDF_DRIVER_GLOBALS,
    config: PWDF_TIMER_CONFIG,
    given: PWDF_OBJECT_ATTRIBUTES,
    place: *mut WDFTIMER,
) -> NTSTATUS {
    let globals = DriverGlobals::from_ddi(globals);
    verifier::not_null(globals, config, "Config");
    verifier::not_null(globals, place, "Timer");
    match create(globals, config, given) {
        Ok(value) => {
            // SAFETY: checked not to be null.
            unsafe { place.write(value as WDFTIMER) };
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

/// Starts a timer; true if it was running already. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfTimerStart(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFTIMER,
    due: LONGLONG,
) -> BOOLEAN {
    let timer: Arc<Timer> = handle::get(DriverGlobals::from_ddi(globals), value as usize);
    BOOLEAN::from(timer.start(due))
}

/// Stops a timer; true if it was running. IRQL <= `DISPATCH_LEVEL`; `PASSIVE_LEVEL` with `wait`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfTimerStop(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFTIMER,
    wait: BOOLEAN,
) -> BOOLEAN {
    let globals = DriverGlobals::from_ddi(globals);
    let timer: Arc<Timer> = handle::get(globals, value as usize);
    if wait != 0 && verifier::check_irql(globals, PASSIVE_LEVEL).is_err() {
        return FALSE as BOOLEAN;
    }
    BOOLEAN::from(timer.stop(wait != 0))
}

/// The parent. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfTimerGetParentObject(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFTIMER,
) -> WDFOBJECT {
    parent_of(&*handle::get::<Timer>(
        DriverGlobals::from_ddi(globals),
        value as usize,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(size: usize) -> WDF_TIMER_CONFIG {
        // SAFETY: all-zero bytes are a valid value of this plain structure.
        let mut config: WDF_TIMER_CONFIG = unsafe { std::mem::zeroed() };
        config.Size = size as ULONG;
        config.TolerableDelay = 5;
        config
    }

    fn check(mut config: WDF_TIMER_CONFIG) -> Result<u32, NTSTATUS> {
        // SAFETY: a whole structure is there.
        unsafe { checked(&raw mut config) }.map(|config| config.TolerableDelay)
    }

    #[test]
    fn older_configurations_leave_the_delay_out() {
        assert_eq!(check(config(CONFIG_V1_7)), Ok(0));
        assert_eq!(check(config(CONFIG_V1_11)), Ok(5));
        assert_eq!(check(config(7)), Err(STATUS_INFO_LENGTH_MISMATCH));
    }

    #[test]
    fn a_delay_and_high_resolution_exclude_each_other() {
        let mut both = config(size_of::<WDF_TIMER_CONFIG>());
        both.UseHighResolutionTimer = 1;
        assert_eq!(check(both), Err(STATUS_INVALID_PARAMETER));
    }
}
