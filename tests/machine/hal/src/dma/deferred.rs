//! Grants that come later: with [`crate::Config::defer_grants`], queued requests are served by a DPC.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::Once;

use machine_nt::exports::{KeInitializeDpc, KeInsertQueueDpc};
use nt_sys::{KDPC, PKDPC, PVOID};

struct Dpc(UnsafeCell<MaybeUninit<KDPC>>);

// SAFETY: the kernel synchronises its use of the DPC.
unsafe impl Sync for Dpc {}

static DPC: Dpc = Dpc(UnsafeCell::new(MaybeUninit::uninit()));
static INITIALIZED: Once = Once::new();

/// Queues the DPC that serves what waits.
pub fn schedule() {
    let dpc = DPC.0.get().cast::<KDPC>();
    INITIALIZED.call_once(|| {
        // SAFETY: the storage is static, and this is its only initialisation.
        unsafe { KeInitializeDpc(dpc, Some(serve), std::ptr::null_mut()) };
    });
    // SAFETY: the DPC is initialised; a DPC that is already queued stays queued once.
    unsafe { KeInsertQueueDpc(dpc, std::ptr::null_mut(), std::ptr::null_mut()) };
}

unsafe extern "win64" fn serve(_dpc: PKDPC, _context: PVOID, _first: PVOID, _second: PVOID) {
    super::queue::pump();
}
