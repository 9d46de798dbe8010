//! Waiting for dispatcher objects.

use super::object::{self, Header, kind};
use crate::entry::{enter, verifier};
use crate::sched::time::{Deadline, Ticket};
use crate::sched::{self, APC_LEVEL, DISPATCH_LEVEL, Kernel, State, ThreadId, with};
use nt_sys::{
    BOOLEAN, KPROCESSOR_MODE, KWAIT_REASON, LARGE_INTEGER, NTSTATUS, PKWAIT_BLOCK, PLARGE_INTEGER,
    STATUS_SUCCESS, STATUS_TIMEOUT, ULONG, WAIT_TYPE,
};
use std::ffi::c_void;
use std::fmt;

const WAIT_ALL: WAIT_TYPE = nt_sys::_WAIT_TYPE::WaitAll;
const MAXIMUM_WAIT_OBJECTS: usize = 64;
const THREAD_WAIT_OBJECTS: usize = 3;

/// What a thread waits for.
#[derive(Debug)]
pub(crate) struct Wait {
    /// Addresses of the dispatcher objects.
    objects: Vec<usize>,
    /// All of them, or any.
    all: bool,
    timeout: Option<Ticket>,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (how, timeout) = (if self.all { "all" } else { "any" }, self.timeout);
        match self.objects.as_slice() {
            [] => f.write_str("time to pass")?,
            [object] => write_object(f, *object)?,
            objects => {
                write!(f, "{how} of")?;
                for &object in objects {
                    f.write_str(" [")?;
                    write_object(f, object)?;
                    f.write_str("]")?;
                }
            }
        }
        match timeout {
            Some(ticket) => write!(f, ", until {} us", ticket.due() / 1000),
            None => Ok(()),
        }
    }
}

fn write_object(f: &mut fmt::Formatter<'_>, address: usize) -> fmt::Result {
    // SAFETY: an object that a thread waits for is live.
    let header = unsafe { object::header(address) };
    write!(f, "{} {address:#x}", header.kind_name())
}

/// Whether a wait of `thread` for the object would be satisfied.
fn is_signaled(k: &mut Kernel, address: usize, thread: ThreadId) -> bool {
    // SAFETY: the caller waits for the object, so it is live.
    let header: &Header = unsafe { object::header(address) };
    if header.kind == kind::MUTANT && header.signal_state <= 0 {
        // SAFETY: as above, and the kind says that it is a mutex.
        let mutant = unsafe { object::mutant(address) };
        return mutant.owner.addr() == k.thread(thread).object;
    }
    header.signal_state > 0
}

/// What a satisfied wait does to the object.
fn consume(k: &mut Kernel, address: usize, thread: ThreadId) {
    // SAFETY: the caller waits for the object, so it is live.
    let header = unsafe { object::header(address) };
    match header.kind {
        kind::SYNCHRONIZATION_EVENT | kind::SYNCHRONIZATION_TIMER => header.signal_state = 0,
        kind::SEMAPHORE => header.signal_state -= 1,
        kind::MUTANT => {
            header.signal_state -= 1;
            if header.signal_state == 0 {
                let owner = k.thread(thread);
                owner.mutexes += 1;
                owner.critical_regions += 1;
                // SAFETY: live, and the kind says that it is a mutex; `header` is not used any more.
                let mutant = unsafe { object::mutant(address) };
                mutant.owner = std::ptr::with_exposed_provenance_mut(owner.object);
            }
        }
        _ => {}
    }
}

/// Satisfies a wait if it can be: the status to return.
fn try_satisfy(k: &mut Kernel, thread: ThreadId, objects: &[usize], all: bool) -> Option<NTSTATUS> {
    if all {
        if !objects.iter().all(|&object| is_signaled(k, object, thread)) {
            return None;
        }
        for &object in objects {
            consume(k, object, thread);
        }
        return Some(STATUS_SUCCESS);
    }
    let index = objects
        .iter()
        .position(|&object| is_signaled(k, object, thread))?;
    consume(k, objects[index], thread);
    Some(index as NTSTATUS)
}

/// An object may have become signaled: lets those go on that waited for it, in the order in which they began to.
pub(crate) fn signal(k: &mut Kernel, address: usize) {
    let waiters: Vec<ThreadId> = k.waiters.clone();
    for thread in waiters {
        let Some(wait) = k.thread(thread).wait.take() else {
            continue;
        };
        let concerned = wait.objects.contains(&address);
        match concerned
            .then(|| try_satisfy(k, thread, &wait.objects, wait.all))
            .flatten()
        {
            Some(status) => end_wait(k, thread, &wait, status),
            None => k.thread(thread).wait = Some(wait),
        }
    }
}

fn end_wait(k: &mut Kernel, thread: ThreadId, wait: &Wait, status: NTSTATUS) {
    if let Some(ticket) = wait.timeout {
        k.clock.cancel(ticket);
    }
    k.waiters.retain(|&waiter| waiter != thread);
    k.thread(thread).wait_status = status;
    k.make_ready(thread);
}

/// The timeout of a wait has passed.
pub(crate) fn time_out(k: &mut Kernel, thread: ThreadId) {
    if let Some(wait) = k.thread(thread).wait.take() {
        let status = if wait.objects.is_empty() {
            STATUS_SUCCESS
        } else {
            STATUS_TIMEOUT
        };
        end_wait(k, thread, &wait, status);
    }
}

/// Waits on the current thread. `timeout` is the virtual time (ns) to wait until; one that has passed does not wait.
/// IRQL: below DISPATCH_LEVEL unless it cannot wait; the caller has checked.
pub(crate) fn wait(objects: &[usize], all: bool, timeout: Option<u64>) -> NTSTATUS {
    let done = with(|k| {
        let thread = k.here().current;
        if !objects.is_empty()
            && let Some(status) = try_satisfy(k, thread, objects, all)
        {
            return Some(status);
        }
        if timeout.is_some_and(|due| due <= k.clock.now()) {
            return Some(if objects.is_empty() {
                STATUS_SUCCESS
            } else {
                STATUS_TIMEOUT
            });
        }
        let timeout = timeout.map(|due| k.clock.schedule(due, Deadline::Wait(thread)));
        k.thread(thread).wait = Some(Wait {
            objects: objects.to_vec(),
            all,
            timeout,
        });
        k.waiters.push(thread);
        k.leave(State::Waiting);
        None
    });
    done.unwrap_or_else(|| {
        sched::switch_away();
        with(|k| k.current_thread().wait_status)
    })
}

/// The virtual time (ns) that a Windows timeout means: negative is relative, otherwise system time, in 100 ns.
pub(crate) fn due_time(timeout: i64) -> u64 {
    let now = sched::now();
    if timeout <= 0 {
        now.saturating_add(timeout.unsigned_abs().saturating_mul(100))
    } else {
        super::timer::virtual_time(timeout)
    }
}

/// Reads a timeout passed by pointer; NULL is none.
///
/// # Safety
/// `timeout` is NULL or points to a LARGE_INTEGER.
unsafe fn read_timeout(timeout: PLARGE_INTEGER) -> Option<i64> {
    // SAFETY: by the caller's promise.
    let value: Option<&LARGE_INTEGER> = unsafe { timeout.as_ref() };
    // SAFETY: every bit pattern is a number, and the union is fully initialised whichever member was written.
    value.map(|value| unsafe { value.QuadPart })
}

/// The IRQL at which one may wait: below DISPATCH_LEVEL, or at DISPATCH_LEVEL with a timeout of zero.
/// Bug check 0xC4, as Driver Verifier: 0x120 above DISPATCH_LEVEL, 0x121 for several objects, 0x122 for one.
fn check_irql(irql: u8, object: usize, timeout: Option<i64>, several: bool) {
    let explanation = match (irql, timeout) {
        (0..DISPATCH_LEVEL, _) | (DISPATCH_LEVEL, Some(0)) => return,
        (DISPATCH_LEVEL, None) => "waits at DISPATCH_LEVEL without a limit",
        (DISPATCH_LEVEL, Some(_)) => "waits at DISPATCH_LEVEL with a timeout other than zero",
        _ => "waits above DISPATCH_LEVEL",
    };
    let violation = match (irql > DISPATCH_LEVEL, several) {
        (true, _) => 0x120,
        (false, true) => 0x121,
        (false, false) => 0x122,
    };
    let timeout = timeout.unwrap_or(0) as u64;
    verifier(
        [violation, irql.into(), object as u64, timeout],
        explanation,
    );
}

/// Object addresses that are dispatcher objects; anything else was never initialised.
fn check_object(address: usize, routine: &'static str) {
    let known = address != 0 && {
        // SAFETY: the caller of the routine passed it as a dispatcher object.
        let header = unsafe { object::header(address) };
        header.is_known()
    };
    if !known {
        let explanation =
            format!("{routine}: {address:#x} is not an initialised dispatcher object");
        verifier([0xE1, address as u64, 0, 0], explanation);
    }
}

/// KeWaitForSingleObject. IRQL <= APC_LEVEL; DISPATCH_LEVEL with a timeout of zero.
///
/// # Safety
/// `object` is a dispatcher object; `timeout` is NULL or valid.
pub unsafe extern "win64" fn KeWaitForSingleObject(
    object: *mut c_void,
    _reason: KWAIT_REASON,
    _mode: KPROCESSOR_MODE,
    _alertable: BOOLEAN,
    timeout: PLARGE_INTEGER,
) -> NTSTATUS {
    let address = object::address_of(object);
    // SAFETY: by the caller's promise.
    let timeout = unsafe { read_timeout(timeout) };
    check_irql(sched::irql(), address, timeout, false);
    let _inside = enter("KeWaitForSingleObject", DISPATCH_LEVEL);
    check_object(address, "KeWaitForSingleObject");
    wait(&[address], false, timeout.map(due_time))
}

/// KeWaitForMultipleObjects. IRQL as [`KeWaitForSingleObject`].
///
/// # Safety
/// `objects` points to `count` dispatcher objects; `timeout` is NULL or valid.
pub unsafe extern "win64" fn KeWaitForMultipleObjects(
    count: ULONG,
    objects: *mut *mut c_void,
    wait_type: WAIT_TYPE,
    _reason: KWAIT_REASON,
    _mode: KPROCESSOR_MODE,
    _alertable: BOOLEAN,
    timeout: PLARGE_INTEGER,
    blocks: PKWAIT_BLOCK,
) -> NTSTATUS {
    let count = count as usize;
    // SAFETY: by the caller's promise.
    let objects = unsafe { std::slice::from_raw_parts(objects, count) };
    // SAFETY: by the caller's promise.
    let timeout = unsafe { read_timeout(timeout) };
    let first = objects.first().copied().map_or(0, object::address_of);
    check_irql(sched::irql(), first, timeout, true);
    let _inside = enter("KeWaitForMultipleObjects", DISPATCH_LEVEL);
    if count > MAXIMUM_WAIT_OBJECTS || (blocks.is_null() && count > THREAD_WAIT_OBJECTS) {
        let code = crate::bugcheck::code::MAXIMUM_WAIT_OBJECTS_EXCEEDED;
        let explanation =
            format!("KeWaitForMultipleObjects: {count} objects, wait blocks at {blocks:p}");
        crate::bugcheck::stop(code, [0; 4], explanation);
    }
    let addresses: Vec<usize> = objects.iter().copied().map(object::address_of).collect();
    for &address in &addresses {
        check_object(address, "KeWaitForMultipleObjects");
    }
    wait(&addresses, wait_type == WAIT_ALL, timeout.map(due_time))
}

/// KeDelayExecutionThread. IRQL <= APC_LEVEL.
///
/// # Safety
/// `interval` is valid.
pub unsafe extern "win64" fn KeDelayExecutionThread(
    _mode: KPROCESSOR_MODE,
    _alertable: BOOLEAN,
    interval: PLARGE_INTEGER,
) -> NTSTATUS {
    let _inside = enter("KeDelayExecutionThread", APC_LEVEL);
    // SAFETY: by the caller's promise.
    let interval = unsafe { read_timeout(interval) };
    wait(&[], false, Some(due_time(interval.unwrap_or(0))))
}
