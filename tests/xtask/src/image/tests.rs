//! One image that passes, and one broken in each way.

use object::{LittleEndian as LE, U32, pe, write::pe as write};

use super::*;

/// What an image is made of.
struct Recipe {
    machine: pe::Machine,
    subsystem: pe::Subsystem,
    characteristics: pe::DllFlags,
    code: pe::SectionFlags,
    code_name: [u8; 8],
    alignment: u32,
    library: &'static str,
    routine: &'static str,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            machine: pe::IMAGE_FILE_MACHINE_AMD64,
            subsystem: pe::IMAGE_SUBSYSTEM_NATIVE,
            characteristics: pe::IMAGE_DLLCHARACTERISTICS_NX_COMPAT
                | pe::IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE
                | pe::IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY,
            code: pe::IMAGE_SCN_CNT_CODE | pe::IMAGE_SCN_MEM_EXECUTE | pe::IMAGE_SCN_MEM_READ,
            code_name: *b".text\0\0\0",
            alignment: 4096,
            library: "NTOSKRNL.exe",
            routine: "Routine",
        }
    }
}

const BASE: u64 = 0x1_8000_0000;
/// The map of an image whose code, and so its entry point, lies in its first page.
const MAP: &str = "\
 0001:00000000       DriverEntry                0000000180000800     driver.o
 0001:00000000       FxDriverEntry              0000000180001000     entry.obj
";

impl Recipe {
    /// The image, with the right checksum.
    fn image(&self) -> Vec<u8> {
        const CODE: [u8; 1] = [0xC3];
        let mut bytes = Vec::new();
        let mut writer = write::Writer::new(true, self.alignment, 0x200, &mut bytes);
        writer.reserve_dos_header_and_stub();
        writer.reserve_nt_headers(2);
        writer.reserve_section_headers(2);
        let code = writer.reserve_section(self.code_name, self.code, 1, 1);
        let imports = imports(self.library, self.routine, writer.virtual_len());
        let data = writer.reserve_idata_section(imports.len() as u32);

        writer.write_dos_header_and_stub().expect("it fits");
        writer.write_nt_headers(write::NtHeaders {
            machine: self.machine,
            time_date_stamp: 0,
            characteristics: pe::IMAGE_FILE_EXECUTABLE_IMAGE,
            major_linker_version: 0,
            minor_linker_version: 0,
            address_of_entry_point: code.virtual_address,
            image_base: BASE,
            major_operating_system_version: 10,
            minor_operating_system_version: 0,
            major_image_version: 0,
            minor_image_version: 0,
            major_subsystem_version: 10,
            minor_subsystem_version: 0,
            subsystem: self.subsystem,
            dll_characteristics: self.characteristics,
            size_of_stack_reserve: 0,
            size_of_stack_commit: 0,
            size_of_heap_reserve: 0,
            size_of_heap_commit: 0,
        });
        writer.write_section_headers();
        writer.write_section(code.file_offset, &CODE);
        writer.write_section(data.file_offset, &imports);
        set_checksum(&mut bytes);
        bytes
    }

    fn faults(&self) -> Vec<Fault> {
        faults(&self.image(), MAP)
    }
}

/// An import table at `address`: one name, `routine`, from `library`.
fn imports(library: &str, routine: &str, address: u32) -> Vec<u8> {
    let descriptors = 2 * size_of::<pe::ImageImportDescriptor>() as u32;
    let thunks = 2 * size_of::<u64>() as u32;
    let lookup = address + descriptors;
    let addresses = lookup + thunks;
    let hint = addresses + thunks;
    let name = hint + 2 + routine.len() as u32 + 1;
    let descriptor = pe::ImageImportDescriptor {
        original_first_thunk: U32::new(LE, lookup),
        time_date_stamp: U32::new(LE, 0),
        forwarder_chain: U32::new(LE, 0),
        name: U32::new(LE, name),
        first_thunk: U32::new(LE, addresses),
    };
    let mut table = object::pod::bytes_of(&descriptor).to_vec();
    table.resize(descriptors as usize, 0);
    for _ in 0..2 {
        table.extend(u64::from(hint).to_le_bytes());
        table.extend(0_u64.to_le_bytes());
    }
    table.extend(b"\0\0");
    table.extend(routine.as_bytes());
    table.push(0);
    table.extend(library.as_bytes());
    table.push(0);
    table
}

fn set_checksum(bytes: &mut [u8]) {
    let at = checksum_at(bytes);
    let sum = checksum(bytes, at);
    bytes[at..at + 4].copy_from_slice(&sum.to_le_bytes());
}

fn checksum_at(bytes: &[u8]) -> usize {
    let image = PeFile64::parse(bytes).expect("it is an image");
    Image { image, bytes }.checksum_offset()
}

fn faults(bytes: &[u8], map: &str) -> Vec<Fault> {
    check(bytes, map, Machine::Amd64, Kind::Shipped).map_or_else(|faults| faults.0, |()| vec![])
}

#[test]
fn a_driver_passes() {
    assert_eq!(Recipe::default().faults(), []);
}

#[test]
fn another_processor() {
    let recipe = Recipe {
        machine: pe::IMAGE_FILE_MACHINE_ARM64,
        ..Recipe::default()
    };
    let (found, wanted) = (0xAA64, 0x8664);
    assert_eq!(recipe.faults(), [Fault::Machine { found, wanted }]);
    let checked = check(&recipe.image(), MAP, Machine::Arm64, Kind::Shipped);
    assert_eq!(checked, Ok(()));
}

#[test]
fn a_program() {
    let recipe = Recipe {
        subsystem: pe::IMAGE_SUBSYSTEM_WINDOWS_CUI,
        ..Recipe::default()
    };
    assert_eq!(recipe.faults(), [Fault::Subsystem(3)]);
}

#[test]
fn another_entry_point() {
    let map = MAP.replace("FxDriverEntry ", "GsDriverEntry ");
    let entry = BASE + 0x1000;
    assert_eq!(
        faults(&Recipe::default().image(), &map),
        [Fault::Entry { entry }]
    );
    let map = MAP.replace("0000000180001000", "0000000180001004");
    assert_eq!(
        faults(&Recipe::default().image(), &map),
        [Fault::Entry { entry }]
    );
}

#[test]
fn an_import_from_elsewhere() {
    let recipe = Recipe {
        library: "KERNEL32.dll",
        ..Recipe::default()
    };
    let (library, name) = ("KERNEL32.dll".to_owned(), "Routine".to_owned());
    assert_eq!(recipe.faults(), [Fault::Import { library, name }]);
}

#[test]
fn an_instrumented_image_is_one_that_calls_out_and_is_not_shipped() {
    let image = |library| {
        let recipe = Recipe {
            library,
            ..Recipe::default()
        };
        recipe.image()
    };
    let check = |library, kind| {
        let checked = check(&image(library), MAP, Machine::Amd64, kind);
        checked.map_err(|faults| faults.0)
    };
    let import = |library: &str| Fault::Import {
        library: library.to_owned(),
        name: "Routine".to_owned(),
    };
    assert_eq!(check("tsan.sys", Kind::Instrumented), Ok(()));
    assert_eq!(
        check("tsan.sys", Kind::Shipped),
        Err(vec![import("tsan.sys")])
    );
    assert_eq!(
        check("ntoskrnl.exe", Kind::Instrumented),
        Err(vec![Fault::NotInstrumented])
    );
    assert_eq!(
        check("KERNEL32.dll", Kind::Instrumented),
        Err(vec![import("KERNEL32.dll"), Fault::NotInstrumented])
    );
}

#[test]
fn a_panic_is_known_by_what_its_handler_calls() {
    let image = |routine| {
        let recipe = Recipe {
            routine,
            ..Recipe::default()
        };
        recipe.image()
    };
    assert_eq!(can_panic(&image("KeBugCheckEx")), Ok(true));
    assert_eq!(can_panic(&image("DbgPrint")), Ok(false));
    assert!(can_panic(b"MZ").is_err());
}

#[test]
fn characteristics_not_set() {
    let recipe = Recipe {
        characteristics: pe::IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY,
        ..Recipe::default()
    };
    let missing = ["NX_COMPAT", "DYNAMIC_BASE"].map(Fault::Characteristic);
    assert_eq!(recipe.faults(), missing);
    let recipe = Recipe {
        characteristics: pe::IMAGE_DLLCHARACTERISTICS_NX_COMPAT
            | pe::IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE,
        ..Recipe::default()
    };
    assert_eq!(recipe.faults(), [Fault::Characteristic("FORCE_INTEGRITY")]);
}

#[test]
fn writable_code() {
    let mut recipe = Recipe::default();
    recipe.code |= pe::IMAGE_SCN_MEM_WRITE;
    assert_eq!(recipe.faults(), [Fault::WritableCode(".text".to_owned())]);
}

#[test]
fn pageable_code() {
    let recipe = Recipe {
        code_name: *b"PAGEpowr",
        ..Recipe::default()
    };
    assert_eq!(recipe.faults(), [Fault::Pageable("PAGEpowr".to_owned())]);
}

#[test]
fn sections_smaller_than_pages() {
    let recipe = Recipe {
        alignment: 0x200,
        ..Recipe::default()
    };
    assert!(recipe.faults().contains(&Fault::Alignment(0x200)));
}

#[test]
fn no_checksum() {
    let mut bytes = Recipe::default().image();
    let at = checksum_at(&bytes);
    bytes[at..at + 4].fill(0);
    let right = checksum(&bytes, at);
    assert_eq!(faults(&bytes, MAP), [Fault::CheckSum { found: 0, right }]);
}

#[test]
fn a_changed_byte() {
    let mut bytes = Recipe::default().image();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert!(matches!(faults(&bytes, MAP)[..], [Fault::CheckSum { .. }]));
}

#[test]
fn the_checksum_is_that_of_windows() {
    // The words 0x8001 and 0x9002 carry once, the field at 4 is left out, the last byte stands alone; the length is 9.
    let bytes = [0x01, 0x80, 0x02, 0x90, 0xFF, 0xFF, 0xFF, 0xFF, 0x05];
    assert_eq!(checksum(&bytes, 4), 0x1003 + 1 + 5 + 9);
}

#[test]
fn not_an_image() {
    assert!(matches!(faults(b"MZ", MAP)[..], [Fault::Format(_)]));
    let image = Recipe::default().image();
    assert!(matches!(
        faults(&image[..0x100], MAP)[..],
        [Fault::Format(_)]
    ));
}
