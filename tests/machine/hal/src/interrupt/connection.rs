//! A connected interrupt: the object a driver gets, its service routine, and when that runs.

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use machine_nt::ke::interrupt::InterruptObject;
use machine_nt::ke::stack::driver_call;
use machine_nt::sched::{self, Point};
use nt_sys::{BOOLEAN, KAFFINITY, KIRQL, KSPIN_LOCK, PKINTERRUPT, PKSPIN_LOCK, PVOID, ULONG};

use super::vector::Vector;

/// A service routine.
#[derive(Clone, Copy)]
pub enum Routine {
    /// Of one vector.
    Line(unsafe extern "win64" fn(PKINTERRUPT, PVOID) -> BOOLEAN),
    /// Of all messages of a device, with the number of this one.
    Message(
        unsafe extern "win64" fn(PKINTERRUPT, PVOID, ULONG) -> BOOLEAN,
        u32,
    ),
}

/// How a driver wants its routine called.
#[derive(Clone, Copy)]
pub struct Wanted {
    /// Its lock; NULL for one that belongs to the interrupt.
    pub spin_lock: PKSPIN_LOCK,
    /// IRQL at which the routine runs, if higher than that of the vector.
    pub synchronize_irql: KIRQL,
    /// What the routine is passed.
    pub context: PVOID,
    /// Processors it may run on.
    pub processors: KAFFINITY,
    /// Nobody else may connect to the vector.
    pub exclusive: bool,
}

/// A connected interrupt.
pub struct Connection {
    /// The vector.
    pub vector: Vector,
    /// Nobody else may connect to the vector.
    pub exclusive: bool,
    object: Box<InterruptObject>,
    /// The lock of an interrupt for which the driver brought none.
    _lock: Box<UnsafeCell<KSPIN_LOCK>>,
    routine: Routine,
    context: PVOID,
    processors: KAFFINITY,
    active: AtomicBool,
    running: AtomicU32,
}

// SAFETY: the context is the driver's and only handed back to its routine.
unsafe impl Send for Connection {}
// SAFETY: as above; the lock is only used by the kernel's spin lock routines, everything else is immutable or atomic.
unsafe impl Sync for Connection {}

impl Connection {
    /// A connection of `routine` to `vector`.
    pub fn new(vector: Vector, routine: Routine, wanted: &Wanted) -> Arc<Self> {
        let lock = Box::new(UnsafeCell::new(0));
        let address = if wanted.spin_lock.is_null() {
            lock.get()
        } else {
            wanted.spin_lock
        };
        Arc::new(Self {
            vector,
            exclusive: wanted.exclusive,
            object: Box::new(InterruptObject::new(
                address,
                wanted.synchronize_irql.max(vector.irql()),
            )),
            _lock: lock,
            routine,
            context: wanted.context,
            processors: wanted.processors,
            active: AtomicBool::new(true),
            running: AtomicU32::new(0),
        })
    }

    /// What the driver knows it by.
    pub fn address(&self) -> PKINTERRUPT {
        std::ptr::from_ref(&*self.object).cast_mut().cast()
    }

    /// The processor at which the interrupt is delivered this time: one of those the driver allows.
    pub fn processor(&self) -> usize {
        sched::route(self.processors)
    }

    /// Whether the driver wants it, which is so until it reports the interrupt inactive.
    pub fn is_active(&self) -> bool {
        self.active.load(SeqCst)
    }

    /// Sets whether the driver wants it.
    pub fn set_active(&self, active: bool) {
        self.active.store(active, SeqCst);
    }

    /// Calls the service routine at its IRQL with its lock held; whether it claimed the interrupt.
    pub fn serve(&self) -> bool {
        self.running.fetch_add(1, SeqCst);
        let claimed = self.object.synchronized(|| driver_call(|| self.call()));
        self.running.fetch_sub(1, SeqCst);
        claimed != 0
    }

    fn call(&self) -> BOOLEAN {
        let interrupt = self.address();
        match self.routine {
            // SAFETY: the driver connected this routine for exactly this call.
            Routine::Line(routine) => unsafe { routine(interrupt, self.context) },
            // SAFETY: as above.
            Routine::Message(routine, message) => unsafe {
                routine(interrupt, self.context, message)
            },
        }
    }

    /// Waits until the routine runs on no processor. For a connection that is no longer delivered to.
    pub fn wait(&self) {
        while self.running.load(SeqCst) > 0 {
            sched::switch_point(Point::Yield);
        }
    }
}
