//! An image as it lies in memory, not yet at its address.

use object::LittleEndian as LE;
use object::pe::{self, ImageNtHeaders64};
use object::read::pe::{ImageNtHeaders, ImageOptionalHeader, RelocationBlockIterator};

use super::checksum::checksum;
use super::{LoadError, Section};
use crate::PAGE_SIZE;

/// No driver is larger, and no size beyond it is believed.
const LARGEST: u32 = 256 << 20;

pub(super) struct Layout {
    /// Headers and sections at their places, gaps filled with zeroes.
    pub(super) image: Vec<u8>,
    /// With addresses relative to the image.
    pub(super) sections: Vec<Section>,
    /// The entry point, relative to the image.
    pub(super) entry: u32,
    /// Where the import directory is, if there is one.
    pub(super) imports: Option<u32>,
    preferred: u64,
    relocations: Option<(u32, u32)>,
}

impl From<object::read::Error> for LoadError {
    fn from(error: object::read::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl Layout {
    /// Checks a file's headers and lays its sections out.
    pub(super) fn new(file: &[u8]) -> Result<Self, LoadError> {
        let dos = pe::ImageDosHeader::parse(file)?;
        let start = u64::from(dos.nt_headers_offset());
        let mut end = start;
        let (headers, directories) = ImageNtHeaders64::parse(file, &mut end)?;
        let table = headers.sections(file, end)?;
        let (file_header, optional) = (headers.file_header(), headers.optional_header());

        let machine = file_header.machine.get(LE);
        if machine != pe::IMAGE_FILE_MACHINE_AMD64 {
            return Err(LoadError::WrongMachine(machine.0));
        }
        let subsystem = optional.subsystem();
        if subsystem != pe::IMAGE_SUBSYSTEM_NATIVE {
            return Err(LoadError::WrongSubsystem(subsystem.0));
        }
        let stored = optional.check_sum();
        let computed = checksum(file, start as usize + CHECKSUM_FIELD);
        if stored != computed {
            return Err(LoadError::BadChecksum { stored, computed });
        }
        let alignment = optional.section_alignment();
        if alignment == 0 || !(alignment as usize).is_multiple_of(PAGE_SIZE) {
            return Err(LoadError::SectionAlignment(alignment));
        }
        for (index, name) in [
            (pe::IMAGE_DIRECTORY_ENTRY_TLS, "thread-local storage"),
            (
                pe::IMAGE_DIRECTORY_ENTRY_DELAY_IMPORT,
                "delay-loaded imports",
            ),
        ] {
            if directories
                .get(index)
                .is_some_and(|directory| directory.virtual_address.get(LE) != 0)
            {
                return Err(LoadError::Unsupported(name));
            }
        }

        let size = optional.size_of_image();
        if size == 0 || size > LARGEST {
            return Err(LoadError::Malformed(format!("an image of {size:#x} bytes")));
        }
        let mut image = vec![0; (size as usize).next_multiple_of(PAGE_SIZE)];
        let header_size = optional.size_of_headers() as usize;
        let header_bytes = file
            .get(..header_size)
            .ok_or_else(|| LoadError::Malformed("headers beyond the file".into()))?;
        image
            .get_mut(..header_size)
            .ok_or_else(|| LoadError::Malformed("headers beyond the image".into()))?
            .copy_from_slice(header_bytes);

        let mut sections = vec![];
        let mut free = header_size.next_multiple_of(PAGE_SIZE);
        for header in table.iter() {
            let section = place(header, file, &mut image, free)?;
            free = section.addresses.end;
            sections.push(section);
        }

        let entry = optional.address_of_entry_point();
        if !sections
            .iter()
            .any(|section| section.executable && section.addresses.contains(&(entry as usize)))
        {
            return Err(LoadError::Entry(entry));
        }
        let directory = |index| {
            directories
                .get(index)
                .map(|d| d.address_range())
                .filter(|&(address, _)| address != 0)
        };
        Ok(Self {
            image,
            sections,
            entry,
            imports: directory(pe::IMAGE_DIRECTORY_ENTRY_IMPORT).map(|(address, _)| address),
            preferred: optional.image_base(),
            relocations: directory(pe::IMAGE_DIRECTORY_ENTRY_BASERELOC),
        })
    }

    /// Changes all addresses in the image as is right for an image at `base`.
    pub(super) fn relocate(&mut self, base: u64) -> Result<(), LoadError> {
        let (address, size) = self.relocations.ok_or(LoadError::NoRelocations)?;
        let table = range(&self.image, address, size as usize)
            .ok_or_else(|| LoadError::Malformed("relocations beyond the image".into()))?
            .to_vec();
        let moved = base.wrapping_sub(self.preferred);
        let mut blocks = RelocationBlockIterator::new(&table);
        while let Some(block) = blocks.next()? {
            for relocation in block {
                let address = relocation.virtual_address;
                match relocation.typ {
                    pe::IMAGE_REL_BASED_ABSOLUTE => {}
                    pe::IMAGE_REL_BASED_DIR64 => {
                        let value = self
                            .read(address)
                            .ok_or(LoadError::RelocationRange(address))?;
                        self.write(address, value.wrapping_add(moved));
                    }
                    pe::BaseRelocationType(kind) => {
                        return Err(LoadError::RelocationType { kind, address });
                    }
                }
            }
        }
        Ok(())
    }

    /// Eight bytes of the image.
    pub(super) fn read(&self, address: u32) -> Option<u64> {
        let bytes = range(&self.image, address, 8)?;
        Some(u64::from_le_bytes(bytes.try_into().expect("eight bytes")))
    }

    /// Changes eight bytes of the image that can be read.
    pub(super) fn write(&mut self, address: u32, value: u64) {
        self.image[address as usize..][..8].copy_from_slice(&value.to_le_bytes());
    }
}

/// The checksum's place after the start of the NT headers.
const CHECKSUM_FIELD: usize = 4 + size_of::<pe::ImageFileHeader>() + 64;

/// Copies a section to its place, which must not begin before `free`.
fn place(
    header: &pe::ImageSectionHeader,
    file: &[u8],
    image: &mut [u8],
    free: usize,
) -> Result<Section, LoadError> {
    let name = String::from_utf8_lossy(header.raw_name()).into_owned();
    let start = header.virtual_address.get(LE) as usize;
    let stored = header.size_of_raw_data.get(LE) as usize;
    // A linker that knows only one size leaves the other at zero.
    let size = match header.virtual_size.get(LE) as usize {
        0 => stored,
        size => size,
    };
    let addresses = start..(start + size).next_multiple_of(PAGE_SIZE);
    if start < free || !start.is_multiple_of(PAGE_SIZE) || addresses.end > image.len() {
        return Err(LoadError::Malformed(format!(
            "section {name} is not after the one before it, or outside the image"
        )));
    }
    let bytes = header.pe_data(file)?;
    let bytes = &bytes[..bytes.len().min(size)];
    image[start..][..bytes.len()].copy_from_slice(bytes);

    let flags = header.characteristics.get(LE);
    let writable = flags.contains(pe::IMAGE_SCN_MEM_WRITE);
    let executable = flags.contains(pe::IMAGE_SCN_MEM_EXECUTE);
    if writable && executable {
        return Err(LoadError::WritableAndExecutable(name));
    }
    Ok(Section {
        name,
        addresses,
        writable,
        executable,
    })
}

fn range(image: &[u8], address: u32, length: usize) -> Option<&[u8]> {
    image.get(address as usize..)?.get(..length)
}
