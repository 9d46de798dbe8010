//! Binds an image's imports.

use std::sync::{Mutex, PoisonError};

use object::LittleEndian as LE;
use object::pe::ImageNtHeaders64;
use object::read::pe::{self, ImportTable};

use super::LoadError;
use super::layout::Layout;
use crate::PAGE_SIZE;
use crate::code::CodePage;
use crate::stop::stop;

/// Something an image imports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The exporting module, as the image spells it.
    pub dll: String,
    /// The exported name.
    pub name: String,
    /// Whether it is bound to what was asked for, and not to a stop.
    pub resolved: bool,
}

/// The names of imports that were not resolved, by the number their stops pass on.
static UNRESOLVED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Writes the address of each import into its slot of the image.
pub(super) fn bind(
    layout: &mut Layout,
    mut resolve: impl FnMut(&str, &str) -> Option<usize>,
) -> Result<(Vec<Import>, Vec<CodePage>), LoadError> {
    let mut imports = Vec::new();
    let mut stops = Vec::new();
    for (slot, dll, name) in slots(layout)? {
        if layout.read(slot).is_none() {
            return Err(LoadError::Malformed(format!(
                "the slot of import {dll}!{name} is outside the image"
            )));
        }
        let address = resolve(&dll, &name);
        match address {
            Some(address) => layout.write(slot, address as u64),
            None => stops.push((slot, format!("{dll}!{name}"))),
        }
        imports.push(Import {
            dll,
            name,
            resolved: address.is_some(),
        });
    }
    let mut pages = Vec::new();
    for stops in stops.chunks(PAGE_SIZE / STOP_SIZE) {
        let code: Vec<u8> = stops.iter().flat_map(|(_, name)| stop_code(name)).collect();
        let page = CodePage::new(&code)?;
        for (index, (slot, _)) in stops.iter().enumerate() {
            layout.write(
                *slot,
                page.address().as_ptr() as u64 + (index * STOP_SIZE) as u64,
            );
        }
        pages.push(page);
    }
    Ok((imports, pages))
}

/// Each import with the address of its slot.
fn slots(layout: &Layout) -> Result<Vec<(u32, String, String)>, LoadError> {
    let mut slots = Vec::new();
    let Some(directory) = layout.imports else {
        return Ok(slots);
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let table = ImportTable::new(&layout.image, 0, directory);
    let mut descriptors = table.descriptors()?;
    while let Some(descriptor) = descriptors.next()? {
        let dll = text(table.name(descriptor.name.get(LE))?);
        let first = descriptor.first_thunk.get(LE);
        let names = match descriptor.original_first_thunk.get(LE) {
            0 => first,
            names => names,
        };
        let mut thunks = table.thunks(names)?;
        let mut slot = first;
        while let Some(thunk) = thunks.next::<ImageNtHeaders64>()? {
            match table.import::<ImageNtHeaders64>(thunk)? {
                pe::Import::Name(_, name) => slots.push((slot, dll.clone(), text(name))),
                pe::Import::Ordinal(ordinal) => {
                    return Err(LoadError::ImportByOrdinal { dll, ordinal });
                }
            }
            slot = slot.wrapping_add(8);
        }
    }
    Ok(slots)
}

/// Bytes of a function that stops the machine.
const STOP_SIZE: usize = 17;

/// A function that stops the machine because `name` was called.
fn stop_code(name: &str) -> [u8; STOP_SIZE] {
    let mut names = UNRESOLVED.lock().unwrap_or_else(PoisonError::into_inner);
    let number = names.len() as u32;
    names.push(name.to_owned());

    let mut code = [0; STOP_SIZE];
    // mov ecx, number
    code[0] = 0xb9;
    code[1..5].copy_from_slice(&number.to_le_bytes());
    // mov rax, unresolved
    code[5..7].copy_from_slice(&[0x48, 0xb8]);
    code[7..15].copy_from_slice(&(unresolved as *const () as u64).to_le_bytes());
    // jmp rax
    code[15..17].copy_from_slice(&[0xff, 0xe0]);
    code
}

extern "win64" fn unresolved(number: u32) -> ! {
    let names = UNRESOLVED.lock().unwrap_or_else(PoisonError::into_inner);
    let name = names[number as usize].clone();
    drop(names);
    stop(&format!(
        "{name} was called, which the machine does not implement"
    ))
}
