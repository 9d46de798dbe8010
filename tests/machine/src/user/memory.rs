//! Memory of user processes: whole pages, scattered over guest RAM, most of them above 4 GiB.

use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use machine_bus::{MemoryError, PAGE_SIZE, PhysicalMemory, Zone};
use machine_nt::bugcheck::{self, Stop};
use machine_nt::mm;

/// Most pages that user buffers may have at a time: each is a mapping of its own, and the host's kernel allows a
/// process 65,530 of these.
const MAXIMUM_PAGES: usize = 24 * 1024;

/// Where user buffers come from.
#[derive(Debug)]
pub(crate) struct Pool {
    memory: Arc<PhysicalMemory>,
    pages: AtomicUsize,
}

impl Pool {
    pub(crate) fn new(memory: Arc<PhysicalMemory>) -> Arc<Self> {
        Arc::new(Self {
            memory,
            pages: AtomicUsize::new(0),
        })
    }

    /// A pool of the same memory.
    pub(crate) fn another(&self) -> Arc<Self> {
        Self::new(Arc::clone(&self.memory))
    }

    /// Pages in use.
    pub(crate) fn in_use(&self) -> usize {
        self.pages.load(Ordering::Relaxed)
    }

    /// A buffer of `length` bytes that starts a page; its contents are not defined.
    pub(crate) fn buffer(self: &Arc<Self>, length: usize) -> Result<UserBuffer, MemoryError> {
        let count = length.div_ceil(PAGE_SIZE).max(1);
        if self.in_use() + count > MAXIMUM_PAGES {
            return Err(MemoryError::Exhausted { pages: count });
        }
        let pages = self.memory.allocate(Zone::High, count)?;
        let address = match self.memory.map(&pages) {
            Ok(address) => address,
            Err(error) => {
                self.memory.free(&pages)?;
                return Err(error);
            }
        };
        self.pages.fetch_add(count, Ordering::Relaxed);
        let buffer = UserBuffer {
            pool: Arc::clone(self),
            pages,
            address,
            length,
        };
        mm::register_user_range(buffer.range());
        Ok(buffer)
    }
}

/// Memory a process can use for its requests.
///
/// While a request is under way its buffer belongs to the request, so the references handed out here are exclusive.
#[derive(Debug)]
pub struct UserBuffer {
    pool: Arc<Pool>,
    pages: Vec<u64>,
    address: NonNull<u8>,
    length: usize,
}

impl UserBuffer {
    /// Its virtual address.
    #[must_use]
    pub fn address(&self) -> NonNull<u8> {
        self.address
    }

    /// Physical addresses of its pages.
    #[must_use]
    pub fn pages(&self) -> &[u64] {
        &self.pages
    }

    /// Virtual addresses of its pages.
    fn range(&self) -> Range<usize> {
        let start = self.address.as_ptr().addr();
        start..start + self.pages.len() * PAGE_SIZE
    }
}

impl Deref for UserBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the pages are mapped there for as long as the value lives, every byte of guest RAM has a value, and
        // no device or driver writes them while the buffer is not part of a request.
        unsafe { slice::from_raw_parts(self.address.as_ptr(), self.length) }
    }
}

impl DerefMut for UserBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; nobody else has a reference.
        unsafe { slice::from_raw_parts_mut(self.address.as_ptr(), self.length) }
    }
}

impl Drop for UserBuffer {
    fn drop(&mut self) {
        mm::unregister_user_range(self.range());
        let memory = &self.pool.memory;
        let released = memory
            .unmap(self.address)
            .and_then(|()| memory.free(&self.pages));
        if let Err(error) = released {
            bugcheck::stop_machine(
                Stop::Internal,
                format!("a user buffer cannot be released: {error}"),
            );
        }
        self.pool
            .pages
            .fetch_sub(self.pages.len(), Ordering::Relaxed);
    }
}
