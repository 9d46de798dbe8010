//! A small image, whole and broken in every way that is refused.

use super::checksum::checksum;
use super::{Image, Import, LoadError};
use crate::own_process::{in_own_process, stopped};

const NT: usize = 0x80;
const OPTIONAL: usize = NT + 24;
const SECTIONS: usize = OPTIONAL + 240;
const CHECKSUM: usize = OPTIONAL + 64;
const PREFERRED: u64 = 0x1_4000_0000;

/// Where the sections are in the file; in memory they are at 0x1000, 0x2000, 0x3000 and 0x4000.
const TEXT: usize = 0x400;
const RDATA: usize = 0x600;
const DATA: usize = 0x800;
const RELOC: usize = 0xa00;
const END: usize = 0xc00;

/// An image whose entry point passes 21, found through a relocated pointer, to `ntoskrnl.exe!Twice`.
fn image() -> Vec<u8> {
    let mut file = vec![0; END];
    let mut put =
        |offset: usize, bytes: &[u8]| file[offset..offset + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &(NT as u32).to_le_bytes());
    put(NT, b"PE\0\0");
    put(NT + 4, &0x8664u16.to_le_bytes());
    put(NT + 6, &4u16.to_le_bytes());
    put(NT + 20, &240u16.to_le_bytes());
    put(NT + 22, &0x22u16.to_le_bytes());
    put(OPTIONAL, &0x20bu16.to_le_bytes());
    put(OPTIONAL + 16, &0x1000u32.to_le_bytes());
    put(OPTIONAL + 24, &PREFERRED.to_le_bytes());
    put(OPTIONAL + 32, &0x1000u32.to_le_bytes());
    put(OPTIONAL + 36, &0x200u32.to_le_bytes());
    put(OPTIONAL + 56, &0x5000u32.to_le_bytes());
    put(OPTIONAL + 60, &0x400u32.to_le_bytes());
    put(OPTIONAL + 68, &1u16.to_le_bytes());
    put(OPTIONAL + 108, &16u32.to_le_bytes());
    put(OPTIONAL + 112 + 8, &0x2000u32.to_le_bytes());
    put(OPTIONAL + 112 + 12, &40u32.to_le_bytes());
    put(OPTIONAL + 112 + 40, &0x4000u32.to_le_bytes());
    put(OPTIONAL + 112 + 44, &12u32.to_le_bytes());
    let sections: [(&[u8], usize, u32); 4] = [
        (b".text", TEXT, 0x6000_0020),
        (b".rdata", RDATA, 0x4000_0040),
        (b".data", DATA, 0xc000_0040),
        (b".reloc", RELOC, 0x4200_0040),
    ];
    for (index, (name, start, flags)) in sections.into_iter().enumerate() {
        let header = SECTIONS + 40 * index;
        put(header, name);
        put(header + 8, &0x100u32.to_le_bytes());
        put(header + 12, &(0x1000 * (index as u32 + 1)).to_le_bytes());
        put(header + 16, &0x200u32.to_le_bytes());
        put(header + 20, &(start as u32).to_le_bytes());
        put(header + 36, &flags.to_le_bytes());
    }
    put(
        TEXT,
        &[
            0x48, 0x83, 0xec, 0x28, // sub rsp, 0x28
            0x48, 0x8b, 0x0d, 0xf5, 0x1f, 0x00, 0x00, // mov rcx, [0x3000]
            0x8b, 0x09, // mov ecx, [rcx]
            0xff, 0x15, 0x4d, 0x10, 0x00, 0x00, // call [0x2060]
            0x48, 0x83, 0xc4, 0x28, // add rsp, 0x28
            0xc3, // ret
        ],
    );
    // One module with two imports.
    put(RDATA, &0x2040u32.to_le_bytes());
    put(RDATA + 12, &0x20b0u32.to_le_bytes());
    put(RDATA + 16, &0x2060u32.to_le_bytes());
    put(RDATA + 0x40, &0x2080u64.to_le_bytes());
    put(RDATA + 0x48, &0x2090u64.to_le_bytes());
    put(RDATA + 0x82, b"Twice");
    put(RDATA + 0x92, b"Thrice");
    put(RDATA + 0xb0, b"ntoskrnl.exe");
    put(DATA, &(PREFERRED + 0x3008).to_le_bytes());
    put(DATA + 8, &21u32.to_le_bytes());
    // A DIR64 relocation of the pointer, and padding.
    put(RELOC, &0x3000u32.to_le_bytes());
    put(RELOC + 4, &12u32.to_le_bytes());
    put(RELOC + 8, &0xa000u16.to_le_bytes());
    seal(file)
}

/// Sets the checksum.
fn seal(mut file: Vec<u8>) -> Vec<u8> {
    let sum = checksum(&file, CHECKSUM);
    file[CHECKSUM..CHECKSUM + 4].copy_from_slice(&sum.to_le_bytes());
    file
}

extern "win64" fn twice(value: u32) -> u32 {
    2 * value
}

fn resolve(dll: &str, name: &str) -> Option<usize> {
    assert_eq!(dll, "ntoskrnl.exe");
    (name == "Twice").then_some(twice as *const () as usize)
}

fn load(file: &[u8]) -> Result<Image, LoadError> {
    Image::from_bytes("small.sys".to_owned(), file, resolve)
}

/// The error of an image with some bytes changed, and its checksum right.
fn broken(offset: usize, bytes: &[u8]) -> LoadError {
    let mut file = image();
    file[offset..offset + bytes.len()].copy_from_slice(bytes);
    load(&seal(file)).expect_err("refused")
}

#[test]
fn an_image_is_relocated_bound_and_run() {
    let image = load(&image()).unwrap();
    // SAFETY: the entry point above takes no arguments.
    let result = unsafe { image.entry_point()(std::ptr::null_mut(), std::ptr::null_mut()) };
    assert_eq!(result, 42);

    let import = |name: &str, resolved| Import {
        dll: "ntoskrnl.exe".into(),
        name: name.into(),
        resolved,
    };
    assert_eq!(
        image.imports(),
        [import("Twice", true), import("Thrice", false)]
    );
    let base = image.addresses().start;
    assert_eq!(image.addresses(), base..base + 0x5000);
    assert_eq!(
        image.locate(base + 0x1004).as_deref(),
        Some("small.sys+0x1004 (.text)")
    );
    assert_eq!(
        image.locate(base + 4).as_deref(),
        Some("small.sys+0x4 (headers)")
    );
    assert_eq!(image.locate(base + 0x5000), None);
}

#[test]
fn each_section_has_its_own_protection() {
    let image = load(&image()).unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let protection = |address: usize| {
        maps.lines()
            .filter_map(|line| {
                let (range, rest) = line.split_once(' ')?;
                let (start, end) = range.split_once('-')?;
                let start = usize::from_str_radix(start, 16).ok()?;
                let end = usize::from_str_radix(end, 16).ok()?;
                (start..end)
                    .contains(&address)
                    .then(|| rest[..3].to_owned())
            })
            .next()
            .unwrap()
    };
    let base = image.addresses().start;
    assert_eq!(
        [0, 0x1000, 0x2000, 0x3000, 0x4000].map(|offset| protection(base + offset)),
        ["r--", "r-x", "r--", "rw-", "r--"]
    );
    assert_eq!(
        image
            .sections()
            .iter()
            .filter(|section| section.writable)
            .count(),
        1
    );
}

#[test]
fn what_windows_refuses_is_refused() {
    assert!(matches!(load(b"MZ"), Err(LoadError::Malformed(_))));
    assert!(matches!(
        load(&image()[..SECTIONS]),
        Err(LoadError::Malformed(_))
    ));
    assert!(matches!(
        broken(NT + 4, &0x14cu16.to_le_bytes()),
        LoadError::WrongMachine(0x14c)
    ));
    assert!(matches!(
        broken(OPTIONAL, &0x10bu16.to_le_bytes()),
        LoadError::Malformed(_)
    ));
    assert!(matches!(
        broken(OPTIONAL + 68, &3u16.to_le_bytes()),
        LoadError::WrongSubsystem(3)
    ));
    assert!(matches!(
        broken(OPTIONAL + 32, &0x200u32.to_le_bytes()),
        LoadError::SectionAlignment(0x200)
    ));
    assert!(matches!(
        broken(OPTIONAL + 16, &0x3000u32.to_le_bytes()),
        LoadError::Entry(0x3000)
    ));
    assert!(matches!(
        broken(OPTIONAL + 56, &0u32.to_le_bytes()),
        LoadError::Malformed(_)
    ));
    assert!(matches!(
        broken(OPTIONAL + 56, &0x4000u32.to_le_bytes()),
        LoadError::Malformed(_)
    ));
    assert!(matches!(
        broken(OPTIONAL + 112 + 72, &[1]),
        LoadError::Unsupported("thread-local storage")
    ));
    // .text made writable, moved under the headers, and beyond the file.
    assert!(
        matches!(broken(SECTIONS + 36, &0xe000_0020u32.to_le_bytes()), LoadError::WritableAndExecutable(name) if name == ".text")
    );
    assert!(matches!(
        broken(SECTIONS + 12, &0u32.to_le_bytes()),
        LoadError::Malformed(_)
    ));
    assert!(matches!(
        broken(SECTIONS + 20, &(END as u32).to_le_bytes()),
        LoadError::Malformed(_)
    ));
}

#[test]
fn a_wrong_or_missing_checksum_is_refused() {
    let mut file = image();
    file[TEXT] ^= 1;
    assert!(matches!(load(&file), Err(LoadError::BadChecksum { .. })));
    file[TEXT] ^= 1;
    file[CHECKSUM..CHECKSUM + 4].fill(0);
    assert!(matches!(
        load(&file),
        Err(LoadError::BadChecksum { stored: 0, .. })
    ));
}

#[test]
fn relocations_stay_inside_the_image() {
    assert!(matches!(
        broken(RELOC, &0x5000u32.to_le_bytes()),
        LoadError::RelocationRange(0x5000)
    ));
    // At the last bytes of the image: the relocation's place is whole, and a byte further it is not.
    assert!(matches!(
        broken(RELOC, &0x4ff9u32.to_le_bytes()),
        LoadError::RelocationRange(0x4ff9)
    ));
    assert!(matches!(
        broken(RELOC + 8, &0x3000u16.to_le_bytes()),
        LoadError::RelocationType {
            kind: 3,
            address: 0x3000
        }
    ));
    assert!(matches!(
        broken(RELOC + 4, &4u32.to_le_bytes()),
        LoadError::Malformed(_)
    ));
    assert!(matches!(
        broken(OPTIONAL + 112 + 40, &0x9000u32.to_le_bytes()),
        LoadError::Malformed(_)
    ));
    assert!(matches!(
        broken(OPTIONAL + 112 + 40, &0u32.to_le_bytes()),
        LoadError::NoRelocations
    ));
}

#[test]
fn imports_stay_inside_the_image() {
    assert!(matches!(
        broken(OPTIONAL + 112 + 8, &0x9000u32.to_le_bytes()),
        LoadError::Malformed(_)
    ));
    assert!(matches!(
        broken(RDATA + 12, &0x9000u32.to_le_bytes()),
        LoadError::Malformed(_)
    ));
    assert!(matches!(
        broken(RDATA + 16, &0x4fffu32.to_le_bytes()),
        LoadError::Malformed(_)
    ));
    assert!(matches!(
        broken(RDATA + 0x40, &0x9000u64.to_le_bytes()),
        LoadError::Malformed(_)
    ));
    assert!(matches!(
        broken(RDATA + 0x40, &0x8000_0000_0000_0007u64.to_le_bytes()),
        LoadError::ImportByOrdinal { ordinal: 7, .. }
    ));
}

#[test]
fn calling_what_is_not_there_stops_with_its_name() {
    if in_own_process() {
        crate::set_stop_hook(|text| {
            eprintln!("{text}");
            std::process::exit(9)
        });
        let image = Image::from_bytes("small.sys".to_owned(), &image(), |_, _| None).unwrap();
        // SAFETY: never returns.
        unsafe { image.entry_point()(std::ptr::null_mut(), std::ptr::null_mut()) };
    }
    assert_eq!(
        stopped("image::tests::calling_what_is_not_there_stops_with_its_name").trim_end(),
        "ntoskrnl.exe!Twice was called, which the machine does not implement"
    );
}
