//! The part of the object namespace that drivers and programs use: named devices and symbolic links. Names are compared
//! without regard to case.

use crate::ob;
use nt_sys::{
    NTSTATUS, PDEVICE_OBJECT, PUNICODE_STRING, STATUS_OBJECT_NAME_COLLISION,
    STATUS_OBJECT_NAME_NOT_FOUND,
};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
enum Entry {
    /// Address of the device object.
    Device(usize),
    Link(String),
}

static NAMES: Mutex<BTreeMap<String, Entry>> = Mutex::new(BTreeMap::new());

fn names() -> MutexGuard<'static, BTreeMap<String, Entry>> {
    NAMES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a name is looked up: `\??\`, `\DosDevices\` and `\\.\` are the same directory.
fn key(name: &str) -> String {
    let upper = name.to_uppercase();
    for prefix in [r"\??\", r"\DOSDEVICES\", r"\\.\", r"\\?\"] {
        if let Some(rest) = upper.strip_prefix(prefix) {
            return format!(r"\??\{rest}");
        }
    }
    upper
}

/// A counted string, without what cannot be Unicode.
///
/// # Safety
/// `string` is NULL or a valid UNICODE_STRING.
pub(crate) unsafe fn read(string: PUNICODE_STRING) -> Option<String> {
    // SAFETY: by the caller's promise.
    let string = unsafe { string.as_ref() }?;
    if string.Buffer.is_null() {
        return Some(String::new());
    }
    // SAFETY: by the caller's promise.
    let units =
        unsafe { std::slice::from_raw_parts(string.Buffer, usize::from(string.Length) / 2) };
    Some(String::from_utf16_lossy(units))
}

fn insert(name: &str, entry: Entry) -> Result<(), NTSTATUS> {
    let mut names = names();
    let key = key(name);
    if names.contains_key(&key) {
        return Err(STATUS_OBJECT_NAME_COLLISION);
    }
    names.insert(key, entry);
    Ok(())
}

/// Names a device object.
pub(crate) fn insert_device(name: &str, device: PDEVICE_OBJECT) -> Result<(), NTSTATUS> {
    insert(name, Entry::Device(device.expose_provenance()))
}

/// Makes a symbolic link.
pub(crate) fn insert_link(name: &str, target: &str) -> Result<(), NTSTATUS> {
    insert(name, Entry::Link(target.to_owned()))
}

/// Removes a symbolic link.
pub(crate) fn remove_link(name: &str) -> Result<(), NTSTATUS> {
    let mut names = names();
    match names.get(&key(name)) {
        Some(Entry::Link(_)) => {
            names.remove(&key(name));
            Ok(())
        }
        _ => Err(STATUS_OBJECT_NAME_NOT_FOUND),
    }
}

/// Removes the names of a device object.
pub(crate) fn remove_device(device: PDEVICE_OBJECT) {
    names()
        .retain(|_, entry| !matches!(entry, Entry::Device(address) if *address == device.addr()));
}

/// The name of a device object.
pub(crate) fn name_of(device: PDEVICE_OBJECT) -> Option<String> {
    let names = names();
    let mut found = names
        .iter()
        .filter(|(_, entry)| matches!(entry, Entry::Device(a) if *a == device.addr()));
    found.next().map(|(name, _)| name.clone())
}

/// Opens a device by its name or a symbolic link; the rest of the path behind it is the file name for the driver. The
/// device object is referenced.
pub fn open(path: &str) -> Option<(PDEVICE_OBJECT, String)> {
    let mut path = key(path);
    for _ in 0..8 {
        let names = names();
        let (name, rest) = prefixes(&path).find(|(name, _)| names.contains_key(*name))?;
        match names.get(name)? {
            Entry::Link(target) => path = format!("{}{rest}", key(target)),
            Entry::Device(address) => {
                let device: PDEVICE_OBJECT = std::ptr::with_exposed_provenance_mut(*address);
                // SAFETY: a device object loses its name before it is deleted.
                unsafe { ob::reference(device.cast()) };
                return Some((device, rest.to_owned()));
            }
        }
    }
    None
}

/// Every way to split the path in front of a backslash, the longest name first.
fn prefixes(path: &str) -> impl Iterator<Item = (&str, &str)> {
    let ends = path
        .match_indices('\\')
        .map(|(at, _)| at)
        .filter(|&at| at > 0);
    let mut splits: Vec<_> = ends.map(|at| path.split_at(at)).collect();
    splits.push((path, ""));
    splits.into_iter().rev()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_directory_under_many_names() {
        assert_eq!(key(r"\DosDevices\Card0"), key(r"\\.\card0"));
        assert_eq!(key(r"\??\Card0"), key(r"\\?\CARD0"));
        assert_ne!(key(r"\Device\Card0"), key(r"\??\Card0"));
    }

    #[test]
    fn the_longest_name_is_tried_first() {
        let splits: Vec<_> = prefixes(r"\A\B\C").collect();
        assert_eq!(
            splits,
            [(r"\A\B\C", ""), (r"\A\B", r"\C"), (r"\A", r"\B\C")]
        );
    }

    #[test]
    fn links() {
        insert_link(r"\??\Link", r"\Device\Nothing").unwrap();
        assert_eq!(
            insert_link(r"\DosDevices\LINK", "x"),
            Err(STATUS_OBJECT_NAME_COLLISION)
        );
        assert!(open(r"\\.\Link").is_none());
        remove_link(r"\\.\Link").unwrap();
        assert_eq!(remove_link(r"\\.\Link"), Err(STATUS_OBJECT_NAME_NOT_FOUND));
    }
}
