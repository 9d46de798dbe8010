//! Generated code.

use std::ptr::NonNull;

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

use crate::{PAGE_SIZE, SystemError};

/// A page of code that stays as it is for the life of the value.
#[derive(Debug)]
pub(crate) struct CodePage(NonNull<u8>);

// SAFETY: the page is never written again.
unsafe impl Send for CodePage {}
// SAFETY: as above.
unsafe impl Sync for CodePage {}

impl CodePage {
    /// Maps `code`, at most a page of it, executable and not writable.
    pub(crate) fn new(code: &[u8]) -> Result<Self, SystemError> {
        assert!(
            code.len() <= PAGE_SIZE,
            "code of {} bytes for one page",
            code.len()
        );
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let page = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                PAGE_SIZE,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }
        .map_err(SystemError::of("map a page for code"))?;
        let page = Self(NonNull::new(page.cast()).expect("a mapping is never at address zero"));
        // SAFETY: the page is writable, has room for the code, and is nobody else's.
        unsafe { std::ptr::copy_nonoverlapping(code.as_ptr(), page.0.as_ptr(), code.len()) };
        // SAFETY: the page made above.
        unsafe {
            mprotect(
                page.0.as_ptr().cast(),
                PAGE_SIZE,
                MprotectFlags::READ | MprotectFlags::EXEC,
            )
        }
        .map_err(SystemError::of("make a page executable"))?;
        Ok(page)
    }

    /// Where the code starts.
    pub(crate) fn address(&self) -> NonNull<u8> {
        self.0
    }
}

impl Drop for CodePage {
    fn drop(&mut self) {
        // SAFETY: the page made in `new`, which no caller runs any more.
        let result = unsafe { munmap(self.0.as_ptr().cast(), PAGE_SIZE) };
        debug_assert_eq!(result, Ok(()));
    }
}
