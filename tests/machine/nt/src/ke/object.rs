//! Dispatcher objects: what a thread can wait for, laid out as a driver sees it.

use nt_sys::{DISPATCHER_HEADER, PKTHREAD};
use std::ffi::c_void;

/// `DISPATCHER_HEADER.Type`: the kinds of objects, by their Windows values.
pub(crate) mod kind {
    pub(crate) const NOTIFICATION_EVENT: u8 = 0;
    pub(crate) const SYNCHRONIZATION_EVENT: u8 = 1;
    pub(crate) const MUTANT: u8 = 2;
    pub(crate) const SEMAPHORE: u8 = 5;
    pub(crate) const THREAD: u8 = 6;
    pub(crate) const NOTIFICATION_TIMER: u8 = 8;
    pub(crate) const SYNCHRONIZATION_TIMER: u8 = 9;
}

/// DISPATCHER_HEADER, without its unions.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) kind: u8,
    pub(crate) signalling: u8,
    /// In 4-byte units, as Windows has it.
    pub(crate) size: u8,
    pub(crate) reserved: u8,
    pub(crate) signal_state: i32,
    /// Initialised to itself as in Windows; the waiters are kept by the scheduler.
    pub(crate) wait_list: [usize; 2],
}

const _: () = assert!(size_of::<Header>() == size_of::<DISPATCHER_HEADER>());
const _: () = assert!(align_of::<Header>() == align_of::<DISPATCHER_HEADER>());

/// KMUTANT, without its unions.
#[repr(C)]
pub(crate) struct Mutant {
    pub(crate) header: Header,
    pub(crate) list: [usize; 2],
    pub(crate) owner: PKTHREAD,
    pub(crate) flags: u8,
    pub(crate) apc_disable: u8,
}

const _: () = assert!(size_of::<Mutant>() == size_of::<nt_sys::KMUTANT>());

impl Header {
    /// Writes a fresh header of an object of `size` bytes.
    pub(crate) fn initialize(&mut self, kind: u8, size: usize, signal_state: i32) {
        let list = (&raw const self.wait_list).addr();
        *self = Self {
            kind,
            signalling: 0,
            size: (size / 4) as u8,
            reserved: 0,
            signal_state,
            wait_list: [list; 2],
        };
    }

    /// The name of the kind, for dumps.
    pub(crate) fn kind_name(&self) -> &'static str {
        match self.kind {
            kind::NOTIFICATION_EVENT => "notification event",
            kind::SYNCHRONIZATION_EVENT => "synchronization event",
            kind::MUTANT => "mutex",
            kind::SEMAPHORE => "semaphore",
            kind::THREAD => "thread",
            kind::NOTIFICATION_TIMER => "notification timer",
            kind::SYNCHRONIZATION_TIMER => "synchronization timer",
            _ => "object of unknown kind",
        }
    }

    pub(crate) fn is_known(&self) -> bool {
        self.kind_name() != "object of unknown kind"
    }
}

/// The header of a dispatcher object at `address`.
///
/// # Safety
/// A live dispatcher object is at `address`; the borrow ends before the next switch point.
pub(crate) unsafe fn header<'a>(address: usize) -> &'a mut Header {
    // SAFETY: by the caller's promise.
    unsafe { &mut *(address as *mut Header) }
}

/// The mutex at `address`.
///
/// # Safety
/// As [`header`], for a KMUTANT.
pub(crate) unsafe fn mutant<'a>(address: usize) -> &'a mut Mutant {
    // SAFETY: by the caller's promise.
    unsafe { &mut *(address as *mut Mutant) }
}

/// The address of an object passed to a routine.
pub(crate) fn address_of<T>(object: *mut T) -> usize {
    object.cast::<c_void>().addr()
}
