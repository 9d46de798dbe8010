//! Threads: their objects, how they begin and end, and what a driver asks about processors.

use super::object::{Header, kind};
use super::wait::{signal, wait};
use crate::bugcheck::{self, Stop, code, stop_machine};
use crate::entry::{borrow, enter, enter_with, routine};
use crate::ke::stack::driver_call;
use crate::ob;
use crate::sched::{self, HIGH_LEVEL, Kind, PASSIVE_LEVEL, State, ThreadId, with};
use nt_sys::{
    HANDLE, KPRIORITY, NTSTATUS, PCLIENT_ID, PEPROCESS, PHANDLE, PKSTART_ROUTINE, PKTHREAD,
    POBJECT_ATTRIBUTES, PPROCESSOR_NUMBER, PROCESSOR_NUMBER, STATUS_INVALID_PARAMETER,
    STATUS_SUCCESS, ULONG, USHORT,
};
use std::ffi::c_void;

/// The body of a thread object: KTHREAD, whose layout drivers do not know.
#[repr(C)]
struct Body {
    header: Header,
    id: ThreadId,
    exit_status: NTSTATUS,
}

/// Process of kernel code, by its Windows number.
const SYSTEM_PROCESS: usize = 4;
const ALL_PROCESSOR_GROUPS: USHORT = 0xFFFF;

/// A thread that can be waited for; it keeps a reference on the thread object.
#[derive(Debug)]
pub struct JoinHandle {
    object: *mut c_void,
    id: ThreadId,
}

impl JoinHandle {
    /// Waits until the thread has ended. IRQL <= APC_LEVEL.
    pub fn join(self) {
        wait(&[self.object.addr()], false, None);
    }

    /// Whether the thread has ended.
    pub fn is_finished(&self) -> bool {
        with(|k| k.thread(self.id).state == State::Terminated)
    }

    /// The number of the thread.
    pub fn id(&self) -> ThreadId {
        self.id
    }

    /// Its KTHREAD.
    pub fn object(&self) -> PKTHREAD {
        self.object.cast()
    }
}

impl Drop for JoinHandle {
    fn drop(&mut self) {
        // SAFETY: the handle owns this reference.
        unsafe { ob::dereference(self.object) };
    }
}

/// Starts a thread of the machine. Any IRQL.
pub fn spawn(name: &str, kind: Kind, f: impl FnOnce() + 'static) -> JoinHandle {
    let (object, id) = create(name, kind, f);
    // SAFETY: the thread itself owns the first reference until it has ended, which it has not.
    unsafe { ob::reference(object) };
    JoinHandle { object, id }
}

/// Creates the object and the thread; the thread owns the reference.
pub(crate) fn create(
    name: &str,
    kind: Kind,
    f: impl FnOnce() + 'static,
) -> (*mut c_void, ThreadId) {
    let id = sched::start_thread(name, kind, f);
    (add_object(id), id)
}

/// Gives a thread its object, of which it owns the reference.
pub(crate) fn add_object(id: ThreadId) -> *mut c_void {
    let object = ob::create(ob::Kind::Thread, size_of::<Body>(), |_| {});
    // SAFETY: the body is that of a thread object, just made.
    let body = unsafe { borrow(object.cast::<Body>(), "PsCreateSystemThread") };
    body.header.initialize(kind::THREAD, size_of::<Body>(), 0);
    body.id = id;
    with(|k| k.thread(id).object = object.expose_provenance());
    object
}

/// The current thread is at its end: signals its object and leaves the processor. The caller then never runs again.
pub(crate) fn terminate(status: NTSTATUS) {
    let irql = sched::irql();
    let (mutexes, regions, object) = with(|k| {
        let thread = k.current_thread();
        (thread.mutexes, thread.critical_regions, thread.object)
    });
    if irql != PASSIVE_LEVEL {
        let explanation = format!("a thread ends at IRQL {irql}");
        bugcheck::stop(
            code::IRQL_UNEXPECTED_VALUE,
            [irql.into(), 0, 0, 0],
            explanation,
        );
    }
    if mutexes > 0 {
        let parameters = [object as u64, mutexes.into(), 0, 0];
        bugcheck::stop(
            code::SYSTEM_EXIT_OWNED_MUTEX,
            parameters,
            "a thread ends that owns a mutex",
        );
    }
    if regions > 0 {
        let parameters = [0, regions.into(), 0, 0];
        let explanation = "a thread ends inside a critical region";
        bugcheck::stop(
            code::KERNEL_APC_PENDING_DURING_EXIT,
            parameters,
            explanation,
        );
    }
    let body: *mut Body = std::ptr::with_exposed_provenance_mut(object);
    // SAFETY: the thread owns a reference on its object until below.
    let body = unsafe { borrow(body, "PsTerminateSystemThread") };
    body.exit_status = status;
    body.header.signal_state = 1;
    with(|k| {
        signal(k, object);
        k.leave(State::Terminated);
    });
    // SAFETY: the reference of the thread itself.
    unsafe { ob::dereference(std::ptr::with_exposed_provenance_mut(object)) };
}

/// PsCreateSystemThread. IRQL = PASSIVE_LEVEL.
///
/// # Safety
/// `handle` is valid; `start` may be called with `context`.
pub unsafe extern "win64" fn PsCreateSystemThread(
    handle: PHANDLE,
    _access: ULONG,
    _attributes: POBJECT_ATTRIBUTES,
    _process: HANDLE,
    client: PCLIENT_ID,
    start: PKSTART_ROUTINE,
    context: *mut c_void,
) -> NTSTATUS {
    let _inside = enter("PsCreateSystemThread", PASSIVE_LEVEL);
    let start = routine(start, "PsCreateSystemThread");
    let context = context.expose_provenance();
    let thread = spawn("driver thread", Kind::System, move || {
        let context = std::ptr::with_exposed_provenance_mut(context);
        driver_call(|| {
            // SAFETY: by the promise of whoever created the thread.
            unsafe { start(context) }
        });
    });
    // SAFETY: by the caller's promise.
    if let Some(client) = unsafe { client.as_mut() } {
        client.UniqueProcess = std::ptr::without_provenance_mut(SYSTEM_PROCESS);
        client.UniqueThread = thread_id(thread.id);
    }
    // SAFETY: the handle owns this reference.
    unsafe { ob::reference(thread.object) };
    // SAFETY: by the caller's promise.
    *unsafe { borrow(handle, "PsCreateSystemThread") } = ob::open_handle(thread.object);
    STATUS_SUCCESS
}

fn thread_id(id: ThreadId) -> HANDLE {
    std::ptr::without_provenance_mut(4 * (id.0 as usize + 2))
}

/// PsTerminateSystemThread. IRQL = PASSIVE_LEVEL. Does not return.
///
/// # Safety
/// Called on a system thread; what is on its stack is not cleaned up.
pub unsafe extern "win64" fn PsTerminateSystemThread(status: NTSTATUS) -> NTSTATUS {
    let _inside = enter("PsTerminateSystemThread", PASSIVE_LEVEL);
    if with(|k| k.current_thread().kind != Kind::System) {
        return STATUS_INVALID_PARAMETER;
    }
    terminate(status);
    sched::abandon_current()
}

/// PsGetCurrentThreadId. Any IRQL.
///
/// # Safety
/// None.
pub unsafe extern "win64" fn PsGetCurrentThreadId() -> HANDLE {
    thread_id(sched::current_thread())
}

/// PsGetCurrentProcessId. Any IRQL. 4 on system threads.
///
/// # Safety
/// None.
pub unsafe extern "win64" fn PsGetCurrentProcessId() -> HANDLE {
    let user = with(|k| k.current_thread().kind == Kind::User);
    std::ptr::without_provenance_mut(if user {
        2 * SYSTEM_PROCESS
    } else {
        SYSTEM_PROCESS
    })
}

/// IoGetCurrentProcess. Any IRQL. A process is known by its number alone; nothing is behind the pointer.
///
/// # Safety
/// None.
pub unsafe extern "win64" fn IoGetCurrentProcess() -> PEPROCESS {
    // SAFETY: nothing is asked of the caller.
    unsafe { PsGetCurrentProcessId() }.cast()
}

/// PsGetProcessId. Any IRQL.
///
/// # Safety
/// `process` is from [`IoGetCurrentProcess`].
pub unsafe extern "win64" fn PsGetProcessId(process: PEPROCESS) -> HANDLE {
    process.cast()
}

/// KeGetCurrentThread. Any IRQL.
///
/// # Safety
/// None.
pub unsafe extern "win64" fn KeGetCurrentThread() -> PKTHREAD {
    std::ptr::with_exposed_provenance_mut(with(|k| k.current_thread().object))
}

/// KeSetPriorityThread. IRQL <= DISPATCH_LEVEL. The schedule of the machine does not know priorities: a schedule that
/// is wrong only with the priorities given is still a schedule that a driver must bear.
///
/// # Safety
/// `thread` is a thread.
pub unsafe extern "win64" fn KeSetPriorityThread(
    thread: PKTHREAD,
    priority: KPRIORITY,
) -> KPRIORITY {
    let _inside = enter_with("KeSetPriorityThread", sched::DISPATCH_LEVEL, thread.addr());
    // SAFETY: by the caller's promise.
    let body = unsafe { borrow(thread.cast::<Body>(), "KeSetPriorityThread") };
    let id = body.id;
    with(|k| std::mem::replace(&mut k.thread(id).priority, priority))
}

/// KeGetCurrentProcessorNumberEx. Any IRQL.
///
/// # Safety
/// `number` is NULL or valid.
pub unsafe extern "win64" fn KeGetCurrentProcessorNumberEx(number: PPROCESSOR_NUMBER) -> ULONG {
    let _inside = enter("KeGetCurrentProcessorNumberEx", HIGH_LEVEL);
    let current = sched::current_processor();
    // SAFETY: by the caller's promise.
    if let Some(number) = unsafe { number.as_mut() } {
        *number = processor_number(current);
    }
    current as ULONG
}

fn processor_number(index: usize) -> PROCESSOR_NUMBER {
    PROCESSOR_NUMBER {
        Group: 0,
        Number: index as u8,
        Reserved: 0,
    }
}

/// KeQueryActiveProcessorCountEx. Any IRQL. There is one group.
///
/// # Safety
/// None.
pub unsafe extern "win64" fn KeQueryActiveProcessorCountEx(group: USHORT) -> ULONG {
    let _inside = enter("KeQueryActiveProcessorCountEx", HIGH_LEVEL);
    match group {
        0 | ALL_PROCESSOR_GROUPS => sched::processor_count() as ULONG,
        _ => 0,
    }
}

/// KeQueryMaximumProcessorCountEx. Any IRQL.
///
/// # Safety
/// None.
pub unsafe extern "win64" fn KeQueryMaximumProcessorCountEx(group: USHORT) -> ULONG {
    // SAFETY: nothing is asked of the caller.
    unsafe { KeQueryActiveProcessorCountEx(group) }
}

/// KeGetProcessorIndexFromNumber. Any IRQL. INVALID_PROCESSOR_INDEX for a processor that is not there.
///
/// # Safety
/// `number` is valid.
pub unsafe extern "win64" fn KeGetProcessorIndexFromNumber(number: PPROCESSOR_NUMBER) -> ULONG {
    let _inside = enter("KeGetProcessorIndexFromNumber", HIGH_LEVEL);
    // SAFETY: by the caller's promise.
    let number = unsafe { borrow(number, "KeGetProcessorIndexFromNumber") };
    let known = number.Group == 0 && usize::from(number.Number) < sched::processor_count();
    if known {
        number.Number.into()
    } else {
        ULONG::MAX
    }
}

/// KeGetProcessorNumberFromIndex. Any IRQL.
///
/// # Safety
/// `number` is valid.
pub unsafe extern "win64" fn KeGetProcessorNumberFromIndex(
    index: ULONG,
    number: PPROCESSOR_NUMBER,
) -> NTSTATUS {
    let _inside = enter("KeGetProcessorNumberFromIndex", HIGH_LEVEL);
    if index as usize >= sched::processor_count() {
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: by the caller's promise.
    *unsafe { borrow(number, "KeGetProcessorNumberFromIndex") } = processor_number(index as usize);
    STATUS_SUCCESS
}

/// KeBugCheckEx. Any IRQL.
///
/// # Safety
/// None.
pub unsafe extern "win64" fn KeBugCheckEx(code: ULONG, p1: u64, p2: u64, p3: u64, p4: u64) -> ! {
    bugcheck::stop(
        code,
        [p1, p2, p3, p4],
        "a driver, or the framework, has called KeBugCheckEx",
    )
}

/// DbgBreakPoint: there is no debugger.
///
/// # Safety
/// None.
pub unsafe extern "win64" fn DbgBreakPoint() {
    stop_machine(Stop::Breakpoint, "DbgBreakPoint was called")
}
