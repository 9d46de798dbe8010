//! What can go wrong with guest RAM.

use thiserror::Error;

/// Why memory cannot be had, reached or given back.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The size of [`super::MemoryConfig`] is not one a machine can have.
    #[error("{total:#x} bytes of guest RAM: it must be a multiple of 1 MiB and at least 2 MiB")]
    BadSize {
        /// The size asked for.
        total: u64,
    },
    /// There is no RAM at this address, or it ends before the range does.
    #[error("{length:#x} bytes at physical address {physical:#x} are not RAM")]
    NotRam {
        /// First physical address.
        physical: u64,
        /// Length in bytes.
        length: usize,
    },
    /// Not enough free pages of this kind.
    #[error("no {pages} free pages")]
    Exhausted {
        /// How many were asked for.
        pages: usize,
    },
    /// The address does not start a page.
    #[error("physical address {physical:#x} is not the start of a page")]
    Unaligned {
        /// The address.
        physical: u64,
    },
    /// A page is freed that is not allocated.
    #[error("the page at {physical:#x} is not allocated")]
    NotAllocated {
        /// The page's physical address.
        physical: u64,
    },
    /// A page was written after it was freed: a device or the driver still had its address.
    #[error("physical address {physical:#x} was written after its page was freed")]
    WrittenAfterFree {
        /// First address that changed.
        physical: u64,
    },
    /// No mapping starts at this address.
    #[error("nothing is mapped at {address:#x}")]
    NotMapped {
        /// The virtual address.
        address: usize,
    },
    /// An operating system call failed. `ENOMEM` from mapping pages is the kernel's limit of mappings a process.
    #[error("cannot {action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

impl MemoryError {
    pub(super) fn system(action: &'static str) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |errno| Self::System {
            action,
            source: errno.into(),
        }
    }
}
