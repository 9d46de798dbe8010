//! A driver's image in memory.
//!
//! The image is laid out, relocated and bound in an ordinary buffer, where every access is checked, and only then
//! copied to its address and protected section by section.

mod checksum;
mod imports;
mod layout;
#[cfg(test)]
mod tests;

use std::ffi::c_void;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use thiserror::Error;

use crate::SystemError;
use crate::code::CodePage;
pub use imports::Import;
use layout::Layout;

/// Why Windows would not load an image, or why the machine cannot.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A header, a directory or a section does not lie where it says.
    #[error("malformed image: {0}")]
    Malformed(String),
    /// For another processor.
    #[error("machine type {0:#06x} is not AMD64")]
    WrongMachine(u16),
    /// A program or a library, not a driver.
    #[error("subsystem {0} is not NATIVE")]
    WrongSubsystem(u16),
    /// The checksum of the optional header, which Windows verifies for every driver.
    #[error("checksum {stored:#x} in the header, {computed:#x} of the file")]
    BadChecksum {
        /// In the header; 0 if the linker was not asked for one.
        stored: u32,
        /// Of the file.
        computed: u32,
    },
    /// Sections that share pages cannot be protected each in its own way.
    #[error("sections are aligned to {0:#x} bytes, not to pages")]
    SectionAlignment(u32),
    /// What Windows refuses with memory integrity on.
    #[error("section {0} is writable and executable")]
    WritableAndExecutable(String),
    /// The entry point is not in an executable section.
    #[error("the entry point at {0:#x} is not in an executable section")]
    Entry(u32),
    /// The image can only run at its preferred address.
    #[error("the image has no relocations")]
    NoRelocations,
    /// A relocation other than DIR64.
    #[error("relocation of type {kind} at {address:#x}")]
    RelocationType {
        /// The type.
        kind: u16,
        /// The address in the image.
        address: u32,
    },
    /// A relocation outside the image.
    #[error("relocation at {0:#x}, outside the image")]
    RelocationRange(u32),
    /// An import without a name.
    #[error("import {ordinal} of {dll} is by ordinal")]
    ImportByOrdinal {
        /// The exporting module.
        dll: String,
        /// The ordinal.
        ordinal: u16,
    },
    /// A directory that a driver does not have.
    #[error("the image has {0}, which a driver cannot have")]
    Unsupported(&'static str),
    /// An operating system call failed.
    #[error(transparent)]
    System(#[from] SystemError),
}

/// A section of a loaded image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name, as in the image.
    pub name: String,
    /// The addresses it occupies.
    pub addresses: Range<usize>,
    /// The image may write to it.
    pub writable: bool,
    /// The image may run it.
    pub executable: bool,
}

/// A driver's entry point: `DriverEntry` with its driver object and its registry path; it returns an `NTSTATUS`.
pub type EntryPoint = unsafe extern "win64" fn(*mut c_void, *mut c_void) -> i32;

/// A loaded image. Dropping it unmaps its code and data.
#[derive(Debug)]
pub struct Image {
    name: String,
    mapping: Mapping,
    entry: usize,
    sections: Vec<Section>,
    imports: Vec<Import>,
    /// What the imports that were not resolved are bound to.
    _thunks: Vec<CodePage>,
}

impl Image {
    /// Loads the image in `path`. `resolve` returns the address of what a module exports under a name, in the
    /// order `(module, name)`, the module as the image spells it.
    ///
    /// An import that is not resolved does not fail the load: when the image calls it, the machine stops with its
    /// name ([`crate::set_stop_hook`]). [`Image::imports`] tells which they are.
    pub fn load(
        path: &Path,
        resolve: impl FnMut(&str, &str) -> Option<usize>,
    ) -> Result<Self, LoadError> {
        let bytes = std::fs::read(path).map_err(|source| LoadError::Read {
            path: path.to_owned(),
            source,
        })?;
        let name = path
            .file_name()
            .unwrap_or(path.as_os_str())
            .to_string_lossy()
            .into_owned();
        Self::from_bytes(name, &bytes, resolve)
    }

    /// Loads the image that a file with these contents holds.
    pub fn from_bytes(
        name: String,
        file: &[u8],
        resolve: impl FnMut(&str, &str) -> Option<usize>,
    ) -> Result<Self, LoadError> {
        let mut layout = Layout::new(file)?;
        let mapping = Mapping::reserve(layout.image.len())?;
        let base = mapping.base.as_ptr() as usize;
        layout.relocate(base as u64)?;
        let (imports, thunks) = imports::bind(&mut layout, resolve)?;
        mapping.fill(&layout.image)?;
        let sections: Vec<Section> = layout
            .sections
            .into_iter()
            .map(|section| Section {
                addresses: base + section.addresses.start..base + section.addresses.end,
                ..section
            })
            .collect();
        for section in &sections {
            mapping.protect(section)?;
        }
        Ok(Self {
            name,
            mapping,
            entry: base + layout.entry as usize,
            sections,
            imports,
            _thunks: thunks,
        })
    }

    /// The file's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The addresses the image occupies.
    pub fn addresses(&self) -> Range<usize> {
        let base = self.mapping.base.as_ptr() as usize;
        base..base + self.mapping.length
    }

    /// The sections, in ascending order.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The imports, in the order of the image.
    pub fn imports(&self) -> &[Import] {
        &self.imports
    }

    /// The entry point. It may be called as long as the image is loaded, and the machine serves its imports.
    pub fn entry_point(&self) -> EntryPoint {
        // SAFETY: an address in an executable section; its type is what the NATIVE subsystem says.
        unsafe { std::mem::transmute::<usize, EntryPoint>(self.entry) }
    }

    /// Names an address of the image, as a debugger does: `dmacard.sys+0x1234 (.text)`.
    pub fn locate(&self, address: usize) -> Option<String> {
        let range = self.addresses();
        if !range.contains(&address) {
            return None;
        }
        let section = self
            .sections
            .iter()
            .find(|section| section.addresses.contains(&address));
        let section = section.map_or("headers", |section| &section.name);
        Some(format!(
            "{}+{:#x} ({section})",
            self.name,
            address - range.start
        ))
    }
}

/// Address space for an image.
#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    length: usize,
}

// SAFETY: the address space belongs to this value alone.
unsafe impl Send for Mapping {}
// SAFETY: as above; what the image does with its data is its own business.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn reserve(length: usize) -> Result<Self, SystemError> {
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let base = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }
        .map_err(SystemError::of("reserve address space for the image"))?;
        Ok(Self {
            base: NonNull::new(base.cast()).expect("a mapping is never at address zero"),
            length,
        })
    }

    /// Copies an image of this length in, and makes all of it readable only.
    fn fill(&self, image: &[u8]) -> Result<(), SystemError> {
        assert_eq!(image.len(), self.length);
        // SAFETY: the reservation is writable, as long as the image, and not yet known to anyone.
        unsafe { std::ptr::copy_nonoverlapping(image.as_ptr(), self.base.as_ptr(), image.len()) };
        self.set_access(0..self.length, MprotectFlags::READ)
    }

    fn protect(&self, section: &Section) -> Result<(), SystemError> {
        let mut flags = MprotectFlags::READ;
        flags.set(MprotectFlags::WRITE, section.writable);
        flags.set(MprotectFlags::EXEC, section.executable);
        let base = self.base.as_ptr() as usize;
        self.set_access(
            section.addresses.start - base..section.addresses.end - base,
            flags,
        )
    }

    /// Sets what may be done with whole pages of the image.
    fn set_access(&self, range: Range<usize>, flags: MprotectFlags) -> Result<(), SystemError> {
        let start = self.base.as_ptr().wrapping_add(range.start);
        // SAFETY: pages of this reservation, which nobody uses yet.
        unsafe { mprotect(start.cast(), range.len(), flags) }
            .map_err(SystemError::of("protect the image"))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the reservation made in `reserve`.
        let result = unsafe { munmap(self.base.as_ptr().cast(), self.length) };
        debug_assert_eq!(result, Ok(()));
    }
}
