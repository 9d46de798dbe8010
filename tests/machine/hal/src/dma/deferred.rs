//! DPCs of the HAL's own.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::Once;

use machine_nt::exports::{KeInitializeDpc, KeInsertQueueDpc};
use nt_sys::{KDPC, PKDPC, PVOID};

type Routine = unsafe extern "win64" fn(PKDPC, PVOID, PVOID, PVOID);

/// A DPC that lives as long as the machine.
pub struct Dpc {
    object: UnsafeCell<MaybeUninit<KDPC>>,
    initialized: Once,
    routine: Routine,
}

// SAFETY: the kernel synchronises its use of the DPC.
unsafe impl Sync for Dpc {}

impl Dpc {
    /// A DPC that calls `routine`.
    pub const fn new(routine: Routine) -> Self {
        Self {
            object: UnsafeCell::new(MaybeUninit::uninit()),
            initialized: Once::new(),
            routine,
        }
    }

    /// Queues it; one that is queued already stays queued once. At any IRQL.
    pub fn queue(&'static self) {
        let dpc = self.object.get().cast::<KDPC>();
        self.initialized.call_once(|| {
            // SAFETY: the storage is static, and this is its only initialisation.
            unsafe { KeInitializeDpc(dpc, Some(self.routine), std::ptr::null_mut()) };
        });
        // SAFETY: the DPC is initialised.
        unsafe { KeInsertQueueDpc(dpc, std::ptr::null_mut(), std::ptr::null_mut()) };
    }
}

/// Grants that come later: with [`crate::Config::defer_grants`], queued requests are served by this.
static GRANTS: Dpc = Dpc::new(serve);

/// Queues the DPC that serves what waits.
pub fn schedule() {
    GRANTS.queue();
}

unsafe extern "win64" fn serve(_dpc: PKDPC, _context: PVOID, _first: PVOID, _second: PVOID) {
    super::queue::pump();
}
