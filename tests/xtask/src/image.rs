//! What a kernel's loader looks at before it maps a driver, checked on the finished image.

use std::{fmt, mem::offset_of};

use object::{
    Import, LittleEndian as LE, NameOrOrdinal, Object, pe,
    read::pe::{ImageNtHeaders, ImageOptionalHeader, PeFile64},
};
use thiserror::Error;

/// The images that a KMDF driver may import from.
const IMPORTABLE: [&str; 2] = ["ntoskrnl.exe", "WDFLDR.SYS"];
/// What an instrumented image imports from besides: no module of Windows, but what the machine serves.
const INSTRUMENTATION: &str = "tsan.sys";
/// The routine that every KMDF driver starts with.
const ENTRY: &str = "FxDriverEntry";

/// What the panic handler calls.
const BUG_CHECK: &str = "KeBugCheckEx";

/// The processor an image is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// x86-64.
    Amd64,
    /// ARM64.
    Arm64,
}

impl Machine {
    fn number(self) -> pe::Machine {
        match self {
            Self::Amd64 => pe::IMAGE_FILE_MACHINE_AMD64,
            Self::Arm64 => pe::IMAGE_FILE_MACHINE_ARM64,
        }
    }
}

/// What an image is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Windows, and the machine.
    Shipped,
    /// The machine alone: atomic operations call out.
    Instrumented,
}

/// A reason why Windows would not load an image, or not with memory integrity on.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// Not a 64-bit PE image, or cut off.
    #[error("not a PE32+ image: {0}")]
    Format(String),
    /// For another processor.
    #[error("built for machine {found:#06x}, not {wanted:#06x}")]
    Machine {
        /// In the file header.
        found: u16,
        /// What was to be built.
        wanted: u16,
    },
    /// Not a kernel image.
    #[error("subsystem {0}, not 1 (native)")]
    Subsystem(u16),
    /// Does not start where the framework is bound.
    #[error("the entry point {entry:#x} is not {ENTRY}")]
    Entry {
        /// The address in the optional header.
        entry: u64,
    },
    /// Imports from something that is not there when a driver is loaded.
    #[error("imports {name} from {library}")]
    Import {
        /// The image imported from.
        library: String,
        /// The first name imported from it.
        name: String,
    },
    /// Built to call out at atomic operations, and does not.
    #[error("imports nothing from {INSTRUMENTATION}")]
    NotInstrumented,
    /// A characteristic that is not set.
    #[error("{0} is not set")]
    Characteristic(&'static str),
    /// A section that could be written and executed: refused under memory integrity.
    #[error("section {0} is writable and executable")]
    WritableCode(String),
    /// A section that Windows may page out by its name: a driver's interrupt and power callbacks must not be.
    #[error("section {0} is pageable")]
    Pageable(String),
    /// Sections that pages cannot be protected by.
    #[error("sections are aligned to {0:#x}, not to pages")]
    Alignment(u32),
    /// No checksum, or the wrong one.
    #[error("the checksum is {found:#x}, not {right:#x}")]
    CheckSum {
        /// In the optional header.
        found: u32,
        /// That of the file.
        right: u32,
    },
}

/// All that is wrong with an image.
#[derive(Debug, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<String> = self.0.iter().map(Fault::to_string).collect();
        f.write_str(&faults.join("; "))
    }
}

impl std::error::Error for Faults {}

/// Checks the image `bytes`, whose linker map is `map`: the entry point's name is in no other place.
///
/// # Errors
/// Every [`Fault`] found.
pub fn check(bytes: &[u8], map: &str, machine: Machine, kind: Kind) -> Result<(), Faults> {
    let faults = match PeFile64::parse(bytes) {
        Ok(image) => Image { image, bytes }.faults(map, machine, kind),
        Err(error) => vec![Fault::Format(error.to_string())],
    };
    if faults.is_empty() {
        Ok(())
    } else {
        Err(Faults(faults))
    }
}

/// Whether the image `bytes` contains code that can panic: then it contains the panic handler as well, and nothing but
/// that handler stops the system with [`BUG_CHECK`].
///
/// # Errors
/// [`Fault::Format`].
pub fn can_panic(bytes: &[u8]) -> Result<bool, Fault> {
    let imports = PeFile64::parse(bytes)
        .and_then(|image| image.imports()?.collect::<object::Result<Vec<_>>>())
        .map_err(|error| Fault::Format(error.to_string()))?;
    let is_bug_check = |import: &Import<'_>| match import.name() {
        NameOrOrdinal::Name(name) => name == BUG_CHECK.as_bytes(),
        NameOrOrdinal::Ordinal(_) => false,
    };
    Ok(imports.iter().any(is_bug_check))
}

struct Image<'a> {
    image: PeFile64<'a>,
    bytes: &'a [u8],
}

impl Image<'_> {
    fn faults(&self, map: &str, machine: Machine, kind: Kind) -> Vec<Fault> {
        let checks = [
            self.machine(machine),
            self.subsystem(),
            self.entry(map),
            self.imports(kind),
            self.characteristics(),
            self.sections(),
            self.checksum(),
        ];
        checks.into_iter().flatten().collect()
    }

    fn machine(&self, wanted: Machine) -> Vec<Fault> {
        let found = self.image.nt_headers().file_header().machine.get(LE);
        if found == wanted.number() {
            return vec![];
        }
        vec![Fault::Machine {
            found: found.0,
            wanted: wanted.number().0,
        }]
    }

    fn subsystem(&self) -> Vec<Fault> {
        match self.optional_header().subsystem() {
            pe::IMAGE_SUBSYSTEM_NATIVE => vec![],
            other => vec![Fault::Subsystem(other.0)],
        }
    }

    /// The map lists a symbol as `section:offset name address object`; the address includes the image's base.
    fn entry(&self, map: &str) -> Vec<Fault> {
        let header = self.optional_header();
        let entry = header.image_base() + u64::from(header.address_of_entry_point());
        let is_entry = |line: &str| {
            let mut words = line.split_whitespace().skip(1);
            let name = words.next();
            let address = words.next().map(|word| u64::from_str_radix(word, 16));
            name == Some(ENTRY) && address == Some(Ok(entry))
        };
        if map.lines().any(is_entry) {
            return vec![];
        }
        vec![Fault::Entry { entry }]
    }

    fn imports(&self, kind: Kind) -> Vec<Fault> {
        let imports = self.image.imports().and_then(Iterator::collect);
        let imports: Vec<Import<'_>> = match imports {
            Ok(imports) => imports,
            Err(error) => return vec![Fault::Format(error.to_string())],
        };
        let is_from = |import: &Import<'_>, library: &str| {
            import.library().eq_ignore_ascii_case(library.as_bytes())
        };
        let (calls, others): (Vec<_>, Vec<_>) = imports
            .into_iter()
            .partition(|import| kind == Kind::Instrumented && is_from(import, INSTRUMENTATION));
        let missing = kind == Kind::Instrumented && calls.is_empty();
        others
            .iter()
            .filter(|import| !IMPORTABLE.iter().any(|library| is_from(import, library)))
            .map(|import| Fault::Import {
                library: text(import.library()),
                name: match import.name() {
                    NameOrOrdinal::Name(name) => text(name),
                    NameOrOrdinal::Ordinal(ordinal) => format!("#{ordinal}"),
                },
            })
            .chain(missing.then_some(Fault::NotInstrumented))
            .collect()
    }

    fn characteristics(&self) -> Vec<Fault> {
        let set = self.optional_header().dll_characteristics();
        [
            (pe::IMAGE_DLLCHARACTERISTICS_NX_COMPAT, "NX_COMPAT"),
            (pe::IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE, "DYNAMIC_BASE"),
            (
                pe::IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY,
                "FORCE_INTEGRITY",
            ),
        ]
        .into_iter()
        .filter(|(wanted, _)| !set.contains(*wanted))
        .map(|(_, name)| Fault::Characteristic(name))
        .collect()
    }

    fn sections(&self) -> Vec<Fault> {
        const PAGE: u32 = 4096;
        let alignment = self.optional_header().section_alignment();
        let unaligned = (!alignment.is_multiple_of(PAGE)).then_some(Fault::Alignment(alignment));
        let table = self.image.section_table();
        let writable_code = table.iter().filter(|section| {
            let is = section.characteristics.get(LE);
            is.contains(pe::IMAGE_SCN_MEM_WRITE) && is.contains(pe::IMAGE_SCN_MEM_EXECUTE)
        });
        let pageable = table
            .iter()
            .filter(|section| section.raw_name().starts_with(b"PAGE"));
        unaligned
            .into_iter()
            .chain(writable_code.map(|section| Fault::WritableCode(text(section.raw_name()))))
            .chain(pageable.map(|section| Fault::Pageable(text(section.raw_name()))))
            .collect()
    }

    fn checksum(&self) -> Vec<Fault> {
        let found = self.optional_header().check_sum();
        let right = checksum(self.bytes, self.checksum_offset());
        if found == right {
            return vec![];
        }
        vec![Fault::CheckSum { found, right }]
    }

    fn optional_header(&self) -> &pe::ImageOptionalHeader64 {
        self.image.nt_headers().optional_header()
    }

    /// Where the checksum is in the file.
    fn checksum_offset(&self) -> usize {
        let headers = self.image.dos_header().nt_headers_offset() as usize;
        headers
            + offset_of!(pe::ImageNtHeaders64, optional_header)
            + offset_of!(pe::ImageOptionalHeader64, check_sum)
    }
}

/// The sum that CheckSumMappedFile makes: of all 16-bit words but those of the checksum at `at`, carries added back,
/// plus the length.
fn checksum(bytes: &[u8], at: usize) -> u32 {
    let mut sum: u32 = 0;
    for (index, word) in bytes.chunks(2).enumerate() {
        if (at..at + 4).contains(&(index * 2)) {
            continue;
        }
        sum += u32::from(word[0]) | u32::from(word.get(1).copied().unwrap_or(0)) << 8;
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    sum + bytes.len() as u32
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .trim_end_matches('\0')
        .to_owned()
}

#[cfg(test)]
mod tests;
