//! A process: who it is, the devices it sees, its memory.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use machine_bus::{MemoryError, PhysicalMemory};
use machine_nt::io::interface;
use machine_nt::ob;
use nt_sys::GUID;

use super::file::{File, Handle};
use super::memory::{Pool, UserBuffer};
use super::security::{Access, Descriptor, Token};
use super::status::Win32Error;
use super::thread::Thread;

/// A user-mode process.
pub struct Process {
    token: Token,
    /// The security descriptor of the devices the INF installs.
    descriptor: Descriptor,
    pool: Arc<Pool>,
    handles: RefCell<Vec<Weak<Handle>>>,
}

impl Process {
    pub(crate) fn new(token: Token, descriptor: Descriptor, memory: Arc<PhysicalMemory>) -> Self {
        Self {
            token,
            descriptor,
            pool: Pool::new(memory),
            handles: RefCell::new(Vec::new()),
        }
    }

    /// CM_Get_Device_Interface_List: paths of the enabled interfaces of this class.
    #[must_use]
    pub fn interfaces(&self, class: &GUID) -> Vec<String> {
        interface::enabled(class)
            .into_iter()
            .map(|link| link.replacen(r"\??\", r"\\?\", 1))
            .collect()
    }

    /// CreateFile on a device interface, for overlapped I/O.
    ///
    /// # Errors
    /// [`Win32Error::FILE_NOT_FOUND`] if there is no enabled interface of this path, [`Win32Error::ACCESS_DENIED`] if
    /// the security descriptor keeps this process out, else what the driver answered.
    pub fn open(&self, path: &str, access: Access) -> Result<File, Win32Error> {
        let link = path.replacen(r"\\?\", r"\??\", 1);
        let (device, name) = interface::open(&link).ok_or(Win32Error::FILE_NOT_FOUND)?;
        let opened = if self.descriptor.grants(self.token, access) {
            // SAFETY: the name stands for a device object, which is referenced.
            unsafe { File::open(device, &name, access) }
        } else {
            Err(Win32Error::ACCESS_DENIED)
        };
        // SAFETY: the reference that came with the name; the file object has one of its own.
        unsafe { ob::dereference(device.cast()) };
        let file = opened?;
        self.add(&file);
        Ok(file)
    }

    /// DuplicateHandle into the same process, with the same access. The driver does not hear of it.
    ///
    /// # Errors
    /// [`Win32Error::INVALID_HANDLE`] if the process has ended.
    pub fn duplicate(&self, file: &File) -> Result<File, Win32Error> {
        let duplicate = file.duplicate()?;
        self.add(&duplicate);
        Ok(duplicate)
    }

    fn add(&self, file: &File) {
        let mut handles = self.handles.borrow_mut();
        handles.retain(|handle| handle.strong_count() > 0);
        handles.push(Rc::downgrade(file.handle()));
    }

    /// CreateProcess: a process of the same user.
    #[must_use]
    pub fn create_process(&self) -> Self {
        Self {
            token: self.token,
            descriptor: self.descriptor.clone(),
            pool: self.pool.another(),
            handles: RefCell::new(Vec::new()),
        }
    }

    /// CreateThread. What a thread has under way when it ends is cancelled and waited for.
    pub fn spawn<T: 'static>(
        self: &Rc<Self>,
        name: &str,
        f: impl FnOnce() -> T + 'static,
    ) -> Thread<T> {
        let process = Rc::clone(self);
        Thread::spawn(name, move || {
            let value = f();
            process.end_thread();
            value
        })
    }

    fn end_thread(&self) {
        for handle in self.live_handles() {
            handle.end_thread();
        }
    }

    fn live_handles(&self) -> Vec<Rc<Handle>> {
        let handles = self.handles.borrow();
        handles.iter().filter_map(Weak::upgrade).collect()
    }

    /// Memory for requests, starting on a page.
    ///
    /// # Errors
    /// When the pool is used up.
    pub fn buffer(&self, length: usize) -> Result<UserBuffer, MemoryError> {
        self.pool.buffer(length)
    }

    /// The process ends: its requests are cancelled, and its handles closed once they have come back.
    pub fn exit(&self) {
        let handles = self.live_handles();
        self.handles.borrow_mut().clear();
        for handle in &handles {
            // Nothing to cancel is no error here.
            let _ = handle.cancel_all();
        }
        for handle in &handles {
            handle.wait_all();
            handle.close();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.exit();
    }
}
