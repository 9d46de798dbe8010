//! A small registry in memory: keys by their full path, values as Windows types them. Names are compared without
//! regard to case.

use crate::entry::{borrow, enter_with};
use crate::io::names;
use crate::ob;
use crate::sched::PASSIVE_LEVEL;
use nt_sys::{
    ACCESS_MASK, HANDLE, KEY_VALUE_INFORMATION_CLASS, KEY_VALUE_PARTIAL_INFORMATION, NTSTATUS,
    OBJECT_ATTRIBUTES, PHANDLE, POBJECT_ATTRIBUTES, PULONG, PUNICODE_STRING,
    STATUS_BUFFER_OVERFLOW, STATUS_BUFFER_TOO_SMALL, STATUS_INVALID_HANDLE,
    STATUS_INVALID_PARAMETER, STATUS_OBJECT_NAME_NOT_FOUND, STATUS_SUCCESS, ULONG,
};
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A value of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// REG_DWORD, REG_SZ, ...
    pub kind: u32,
    /// The bytes as a driver reads them.
    pub data: Vec<u8>,
}

impl Value {
    /// A REG_DWORD.
    pub fn dword(value: u32) -> Self {
        Self {
            kind: nt_sys::REG_DWORD,
            data: value.to_le_bytes().to_vec(),
        }
    }

    /// A REG_SZ, with its NUL.
    pub fn string(value: &str) -> Self {
        Self {
            kind: nt_sys::REG_SZ,
            data: value
                .encode_utf16()
                .chain([0])
                .flat_map(u16::to_le_bytes)
                .collect(),
        }
    }
}

/// Values of a key by their name, upper case.
type Key = BTreeMap<String, Value>;

static KEYS: Mutex<BTreeMap<String, Key>> = Mutex::new(BTreeMap::new());

fn keys() -> MutexGuard<'static, BTreeMap<String, Key>> {
    KEYS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn normal(path: &str) -> String {
    path.trim_end_matches('\\').to_uppercase()
}

/// Path of the key of a service.
pub fn service_path(service: &str) -> String {
    format!(r"\Registry\Machine\System\CurrentControlSet\Services\{service}")
}

/// Creates a key; those above it exist by implication.
pub fn create_key(path: &str) {
    keys().entry(normal(path)).or_default();
}

/// Sets a value, creating the key.
pub fn set_value(path: &str, name: &str, value: Value) {
    keys()
        .entry(normal(path))
        .or_default()
        .insert(name.to_uppercase(), value);
}

/// A value, if there is one.
pub fn value(path: &str, name: &str) -> Option<Value> {
    keys()
        .get(&normal(path))?
        .get(&name.to_uppercase())
        .cloned()
}

/// Whether there is such a key.
pub fn exists(path: &str) -> bool {
    let path = normal(path);
    let below = format!("{path}\\");
    keys()
        .keys()
        .any(|key| *key == path || key.starts_with(&below))
}

/// Opens a key: a handle that ZwClose closes.
pub fn open(path: &str) -> Result<HANDLE, NTSTATUS> {
    if !exists(path) {
        return Err(STATUS_OBJECT_NAME_NOT_FOUND);
    }
    let object = ob::create(ob::Kind::Key, size_of::<*mut String>(), |object| {
        // SAFETY: the body of a key is the box made below.
        let path = unsafe { object.cast::<*mut String>().read() };
        // SAFETY: as above; the key is gone.
        drop(unsafe { Box::from_raw(path) });
    });
    let path = Box::into_raw(Box::new(normal(path)));
    // SAFETY: the body of the object has room for a pointer.
    unsafe { object.cast::<*mut String>().write(path) };
    Ok(ob::open_handle(object))
}

/// The path of an open key.
pub fn path_of(key: HANDLE) -> Result<String, NTSTATUS> {
    let object = ob::handle_object(key).ok_or(STATUS_INVALID_HANDLE)?;
    // SAFETY: an open handle names a live object.
    if unsafe { ob::kind(object) } != ob::Kind::Key {
        return Err(STATUS_INVALID_HANDLE);
    }
    // SAFETY: the body of a key.
    let path = unsafe { object.cast::<*const String>().read() };
    // SAFETY: it lives as long as the key.
    Ok(unsafe { &*path }.clone())
}

/// The path that object attributes name.
///
/// # Safety
/// `attributes` is valid.
unsafe fn path(attributes: POBJECT_ATTRIBUTES, routine: &'static str) -> Result<String, NTSTATUS> {
    // SAFETY: by the caller's promise.
    let attributes: &OBJECT_ATTRIBUTES = unsafe { borrow(attributes, routine) };
    // SAFETY: by the caller's promise.
    let name = unsafe { names::read(attributes.ObjectName) }.unwrap_or_default();
    match attributes.RootDirectory {
        root if root.is_null() => Ok(name),
        root => Ok(format!(r"{}\{name}", path_of(root)?)),
    }
}

fn answer(result: Result<HANDLE, NTSTATUS>, key: &mut HANDLE) -> NTSTATUS {
    match result {
        Ok(handle) => {
            *key = handle;
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

/// ZwOpenKey. IRQL = PASSIVE_LEVEL.
///
/// # Safety
/// `key` and `attributes` are valid.
pub unsafe extern "win64" fn ZwOpenKey(
    key: PHANDLE,
    _access: ACCESS_MASK,
    attributes: POBJECT_ATTRIBUTES,
) -> NTSTATUS {
    let _inside = enter_with("ZwOpenKey", PASSIVE_LEVEL, 0);
    // SAFETY: by the caller's promise.
    let opened = unsafe { path(attributes, "ZwOpenKey") }.and_then(|path| open(&path));
    // SAFETY: by the caller's promise.
    answer(opened, unsafe { borrow(key, "ZwOpenKey") })
}

/// ZwCreateKey. IRQL = PASSIVE_LEVEL.
///
/// # Safety
/// `key` and `attributes` are valid; `disposition` is NULL or valid.
pub unsafe extern "win64" fn ZwCreateKey(
    key: PHANDLE,
    _access: ACCESS_MASK,
    attributes: POBJECT_ATTRIBUTES,
    _title: ULONG,
    _class: PUNICODE_STRING,
    _options: ULONG,
    disposition: PULONG,
) -> NTSTATUS {
    let _inside = enter_with("ZwCreateKey", PASSIVE_LEVEL, 0);
    // SAFETY: by the caller's promise.
    let path = match unsafe { path(attributes, "ZwCreateKey") } {
        Ok(path) => path,
        Err(status) => return status,
    };
    let existed = exists(&path);
    create_key(&path);
    // SAFETY: by the caller's promise.
    if let Some(disposition) = unsafe { disposition.as_mut() } {
        *disposition = if existed {
            nt_sys::REG_OPENED_EXISTING_KEY
        } else {
            nt_sys::REG_CREATED_NEW_KEY
        } as ULONG;
    }
    // SAFETY: by the caller's promise.
    answer(open(&path), unsafe { borrow(key, "ZwCreateKey") })
}

/// ZwDeleteKey. IRQL = PASSIVE_LEVEL.
///
/// # Safety
/// None.
pub unsafe extern "win64" fn ZwDeleteKey(key: HANDLE) -> NTSTATUS {
    let _inside = enter_with("ZwDeleteKey", PASSIVE_LEVEL, key.addr());
    match path_of(key) {
        Ok(path) => {
            keys().remove(&path);
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

/// ZwQueryValueKey. IRQL = PASSIVE_LEVEL. KeyValuePartialInformation.
///
/// # Safety
/// As for the Windows routine.
pub unsafe extern "win64" fn ZwQueryValueKey(
    key: HANDLE,
    name: PUNICODE_STRING,
    class: KEY_VALUE_INFORMATION_CLASS,
    information: *mut c_void,
    length: ULONG,
    result_length: PULONG,
) -> NTSTATUS {
    let _inside = enter_with("ZwQueryValueKey", PASSIVE_LEVEL, key.addr());
    if class != nt_sys::_KEY_VALUE_INFORMATION_CLASS::KeyValuePartialInformation {
        let text = format!("ZwQueryValueKey with information class {class}");
        crate::bugcheck::stop_machine(crate::bugcheck::Stop::Unimplemented, text);
    }
    let path = match path_of(key) {
        Ok(path) => path,
        Err(status) => return status,
    };
    // SAFETY: by the caller's promise.
    let name = unsafe { names::read(name) }.unwrap_or_default();
    let Some(value) = value(&path, &name) else {
        return STATUS_OBJECT_NAME_NOT_FOUND;
    };
    let header = std::mem::offset_of!(KEY_VALUE_PARTIAL_INFORMATION, Data);
    let needed = header + value.data.len();
    // SAFETY: by the caller's promise.
    *unsafe { borrow(result_length, "ZwQueryValueKey") } = needed as ULONG;
    let length = length as usize;
    if length < header {
        return STATUS_BUFFER_TOO_SMALL;
    }
    let head = [0, value.kind, value.data.len() as u32]
        .map(u32::to_le_bytes)
        .concat();
    let bytes = [head, value.data].concat();
    let copied = bytes.len().min(length);
    // SAFETY: by the caller's promise there are `length` bytes.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), information.cast(), copied) };
    if needed > length {
        STATUS_BUFFER_OVERFLOW
    } else {
        STATUS_SUCCESS
    }
}

/// ZwSetValueKey. IRQL = PASSIVE_LEVEL.
///
/// # Safety
/// As for the Windows routine.
pub unsafe extern "win64" fn ZwSetValueKey(
    key: HANDLE,
    name: PUNICODE_STRING,
    _title: ULONG,
    kind: ULONG,
    data: *mut c_void,
    size: ULONG,
) -> NTSTATUS {
    let _inside = enter_with("ZwSetValueKey", PASSIVE_LEVEL, key.addr());
    let path = match path_of(key) {
        Ok(path) => path,
        Err(status) => return status,
    };
    if data.is_null() && size != 0 {
        return STATUS_INVALID_PARAMETER;
    }
    let mut bytes = vec![0; size as usize];
    // SAFETY: by the caller's promise there are `size` bytes.
    unsafe { std::ptr::copy_nonoverlapping(data.cast::<u8>(), bytes.as_mut_ptr(), bytes.len()) };
    // SAFETY: by the caller's promise.
    let name = unsafe { names::read(name) }.unwrap_or_default();
    set_value(&path, &name, Value { kind, data: bytes });
    STATUS_SUCCESS
}

/// ZwDeleteValueKey. IRQL = PASSIVE_LEVEL.
///
/// # Safety
/// As for the Windows routine.
pub unsafe extern "win64" fn ZwDeleteValueKey(key: HANDLE, name: PUNICODE_STRING) -> NTSTATUS {
    let _inside = enter_with("ZwDeleteValueKey", PASSIVE_LEVEL, key.addr());
    // SAFETY: by the caller's promise.
    let name = unsafe { names::read(name) }.unwrap_or_default();
    let removed = path_of(key).map(|path| {
        let mut keys = keys();
        keys.get_mut(&path)
            .and_then(|key| key.remove(&name.to_uppercase()))
    });
    match removed {
        Ok(Some(_)) => STATUS_SUCCESS,
        Ok(None) => STATUS_OBJECT_NAME_NOT_FOUND,
        Err(status) => status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values() {
        let path = service_path("test");
        assert!(!exists(&path));
        set_value(&format!(r"{path}\Parameters"), "Limit", Value::dword(7));
        assert!(exists(&path));
        assert_eq!(
            value(&format!(r"{}\PARAMETERS\", path), "limit"),
            Some(Value::dword(7))
        );
        assert_eq!(
            open(&format!(r"{path}\Nothing")),
            Err(STATUS_OBJECT_NAME_NOT_FOUND)
        );
        let key = open(&path).unwrap();
        assert_eq!(path_of(key).unwrap(), normal(&path));
        assert_eq!(ob::close_handle(key), STATUS_SUCCESS);
        assert_eq!(path_of(key), Err(STATUS_INVALID_HANDLE));
    }

    #[test]
    fn strings_end_with_nul() {
        assert_eq!(Value::string("a").data, [b'a', 0, 0, 0]);
    }
}
