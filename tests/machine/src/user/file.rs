//! Handles of devices, and requests on them.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::time::Duration;

use nt_sys::*;

use super::calls::{self, Operation};
use super::memory::UserBuffer;
use super::object::FileObject;
use super::request::{Ended, Issued, Memory};
use super::security::Access;
use super::status::Win32Error;

/// A handle of a device, opened for overlapped I/O. Dropped, it is closed: IRP_MJ_CLEANUP, and IRP_MJ_CLOSE once the
/// last request has come back.
pub struct File(Rc<Handle>);

/// An entry of a process's handle table.
pub(super) struct Handle {
    opened: Rc<Opened>,
    access: Access,
    closed: Cell<bool>,
}

/// What handles stand for: a file object, and what the I/O manager knows of it.
struct Opened {
    object: FileObject,
    /// Handles that have not been closed.
    handles: Cell<usize>,
    /// Requests under way, whichever handle they were made by.
    requests: RefCell<Vec<Weak<Pin<Box<Issued>>>>>,
}

/// A request that may still be under way. Dropped, it is cancelled and waited for.
pub struct Overlapped {
    state: State,
    buffer: UserBuffer,
}

enum State {
    /// The driver has, or had, it.
    Issued(Rc<Pin<Box<Issued>>>),
    /// It never came to the driver.
    Refused(NTSTATUS),
}

/// How a request ended.
#[derive(Debug)]
pub struct Completion {
    /// Bytes transferred, or the error.
    pub result: Result<usize, Win32Error>,
    /// The status and information the driver completed it with.
    pub status: NTSTATUS,
    /// The memory, the caller's again.
    pub buffer: UserBuffer,
}

impl File {
    /// IRP_MJ_CREATE.
    ///
    /// # Safety
    /// `device` is a device object.
    pub(super) unsafe fn open(
        device: PDEVICE_OBJECT,
        name: &str,
        access: Access,
    ) -> Result<Self, Win32Error> {
        // SAFETY: by the caller's promise.
        let object = unsafe { FileObject::new(device, name, access) };
        calls::create(&object, access).map_err(Win32Error::from_status)?;
        let opened = Rc::new(Opened {
            object,
            handles: Cell::new(0),
            requests: RefCell::new(Vec::new()),
        });
        Ok(Self(Handle::new(opened, access)))
    }

    /// Another handle of the same file object.
    pub(super) fn duplicate(&self) -> Result<Self, Win32Error> {
        if self.0.closed.get() {
            return Err(Win32Error::INVALID_HANDLE);
        }
        Ok(Self(Handle::new(Rc::clone(&self.0.opened), self.0.access)))
    }

    pub(super) fn handle(&self) -> &Rc<Handle> {
        &self.0
    }

    /// ReadFile into the bytes `range` of `buffer`, from `offset`. The offset is signed in Windows.
    ///
    /// # Panics
    /// If `range` does not lie in the buffer.
    pub fn read(&self, offset: u64, buffer: UserBuffer, range: Range<usize>) -> Overlapped {
        let memory = part(&buffer, range);
        let operation = Operation::Read(offset.cast_signed(), memory);
        self.0.start(self.0.access.reads(), operation, buffer)
    }

    /// WriteFile from the bytes `range` of `buffer`, to `offset`.
    ///
    /// # Panics
    /// If `range` does not lie in the buffer.
    pub fn write(&self, offset: u64, buffer: UserBuffer, range: Range<usize>) -> Overlapped {
        let memory = part(&buffer, range);
        let operation = Operation::Write(offset.cast_signed(), memory);
        self.0.start(self.0.access.writes(), operation, buffer)
    }

    /// DeviceIoControl; input and output are parts of one buffer.
    ///
    /// # Panics
    /// If a range does not lie in the buffer.
    pub fn control(
        &self,
        code: u32,
        buffer: UserBuffer,
        input: Range<usize>,
        output: Range<usize>,
    ) -> Overlapped {
        let (reads, writes) = (code >> 14 & 1 != 0, code >> 15 & 1 != 0);
        let allowed = (!reads || self.0.access.reads()) && (!writes || self.0.access.writes());
        let operation = Operation::Control {
            code,
            input: part(&buffer, input),
            output: part(&buffer, output),
        };
        self.0.start(allowed, operation, buffer)
    }

    /// CancelIoEx for every request of this handle's file object that is under way, those made by a duplicate included.
    ///
    /// # Errors
    /// [`Win32Error::NOT_FOUND`] if there is none.
    pub fn cancel_all(&self) -> Result<(), Win32Error> {
        self.0.cancel_all()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Handle {
    fn new(opened: Rc<Opened>, access: Access) -> Rc<Self> {
        opened.handles.update(|handles| handles + 1);
        Rc::new(Self {
            opened,
            access,
            closed: Cell::new(false),
        })
    }

    pub(super) fn cancel_all(&self) -> Result<(), Win32Error> {
        if cancel(&self.opened.under_way()) {
            Ok(())
        } else {
            Err(Win32Error::NOT_FOUND)
        }
    }

    pub(super) fn wait_all(&self) {
        wait(&self.opened.under_way());
    }

    /// Cancels the requests of the current thread, and waits for them.
    pub(super) fn end_thread(&self) {
        let mut issued = self.opened.under_way();
        issued.retain(|issued| issued.is_of_current_thread());
        cancel(&issued);
        wait(&issued);
    }

    /// CloseHandle: the driver hears of the last handle.
    pub(super) fn close(&self) {
        if self.closed.replace(true) {
            return;
        }
        let left = self.opened.handles.get() - 1;
        self.opened.handles.set(left);
        if left == 0 {
            calls::cleanup(&self.opened.object);
        }
    }

    fn start(&self, allowed: bool, operation: Operation, buffer: UserBuffer) -> Overlapped {
        let started = if self.closed.get() {
            Err(STATUS_INVALID_HANDLE)
        } else if allowed {
            let list = |issued: &Rc<_>| self.opened.add(issued);
            calls::start(&self.opened.object, operation, list)
        } else {
            Err(STATUS_ACCESS_DENIED)
        };
        let state = match started {
            Ok(issued) => State::Issued(issued),
            Err(status) => State::Refused(status),
        };
        Overlapped { state, buffer }
    }
}

impl Opened {
    fn add(&self, issued: &Rc<Pin<Box<Issued>>>) {
        let mut requests = self.requests.borrow_mut();
        requests.retain(|request| request.strong_count() > 0);
        requests.push(Rc::downgrade(issued));
    }

    fn under_way(&self) -> Vec<Rc<Pin<Box<Issued>>>> {
        let requests = self.requests.borrow();
        requests
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|issued| !issued.has_ended())
            .collect()
    }
}

/// Whether there was any to cancel.
fn cancel(requests: &[Rc<Pin<Box<Issued>>>]) -> bool {
    requests.iter().for_each(|issued| {
        issued.cancel();
    });
    !requests.is_empty()
}

fn wait(requests: &[Rc<Pin<Box<Issued>>>]) {
    for issued in requests {
        issued.wait();
    }
}

impl Overlapped {
    /// HasOverlappedIoCompleted.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        match &self.state {
            State::Issued(issued) => issued.has_ended(),
            State::Refused(_) => true,
        }
    }

    /// CancelIoEx for this request.
    ///
    /// # Errors
    /// [`Win32Error::NOT_FOUND`] if it has ended.
    pub fn cancel(&self) -> Result<(), Win32Error> {
        match &self.state {
            State::Issued(issued) if !issued.has_ended() => {
                issued.cancel();
                Ok(())
            }
            _ => Err(Win32Error::NOT_FOUND),
        }
    }

    /// WaitForSingleObject on the request's event: whether the request ends within `limit` of virtual time.
    #[must_use]
    pub fn wait_for(&self, limit: Duration) -> bool {
        match &self.state {
            State::Issued(issued) => issued.wait_for(limit),
            State::Refused(_) => true,
        }
    }

    /// GetOverlappedResult, with waiting.
    #[must_use]
    pub fn wait(self) -> Completion {
        let Self { state, buffer } = self;
        let ended = match state {
            State::Issued(issued) => issued.wait(),
            State::Refused(status) => Ended {
                status,
                information: 0,
            },
        };
        let result = if nt_success(ended.status) {
            Ok(ended.information)
        } else {
            Err(Win32Error::from_status(ended.status))
        };
        Completion {
            result,
            status: ended.status,
            buffer,
        }
    }

    fn event(&self) -> Option<*mut std::ffi::c_void> {
        match &self.state {
            State::Issued(issued) => Some(issued.event()),
            State::Refused(_) => None,
        }
    }
}

/// WaitForMultipleObjects for any: the index of a request that has ended.
///
/// # Panics
/// If there are no requests, or more than the 64 that Windows can wait for.
#[must_use]
pub fn wait_any(requests: &[&Overlapped]) -> usize {
    assert!((1..=64).contains(&requests.len()), "1 to 64 requests");
    if let Some(index) = requests.iter().position(|request| request.has_ended()) {
        return index;
    }
    let events: Vec<_> = requests
        .iter()
        .filter_map(|request| request.event())
        .collect();
    calls::wait_any(&events)
}

fn part(buffer: &UserBuffer, range: Range<usize>) -> Memory {
    let length = buffer[range.clone()].len();
    Memory {
        address: buffer.address().as_ptr().wrapping_add(range.start),
        length,
    }
}
