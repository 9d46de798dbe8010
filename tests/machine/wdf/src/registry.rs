//! WDFKEY (`fxregkey.cpp`).

use std::sync::Arc;

use machine_nt::exports::{
    IoOpenDeviceRegistryKey, ZwClose, ZwOpenKey, ZwQueryValueKey, ZwSetValueKey,
};

use crate::flat::*;
use crate::globals::DriverGlobals;
use crate::lock::Ptr;
use crate::object::attributes::Rules;
use crate::object::{self, Attributes, Header, Kind, Object, Parent, Typed, handle};
use crate::verifier;
use crate::wdm::{self, status_of};
use std::ffi::c_void;

/// An open registry key.
pub(crate) struct Key {
    header: Header,
    key: Ptr<c_void>,
}

impl Object for Key {
    fn header(&self) -> &Header {
        &self.header
    }

    fn dispose(&self) {
        // SAFETY: opened by the framework, closed once.
        unsafe { ZwClose(self.key.0.cast()) };
    }
}

impl Typed for Key {
    const KIND: Kind = Kind::Key;
}

impl Key {
    /// Gives an open key a handle of the framework's.
    ///
    /// # Errors
    /// Those of a new object; the key is closed then.
    pub(crate) fn publish(
        globals: &'static DriverGlobals,
        key: HANDLE,
        attributes: Option<&Attributes>,
        parent: Parent,
    ) -> Result<usize, NTSTATUS> {
        let header = Header::new(Kind::Key, globals);
        header.mark_passive_dispose();
        let object = Arc::new(Self {
            header,
            key: Ptr(key.cast()),
        });
        object::commit(&object, attributes, parent).inspect_err(|_| object.dispose())
    }
}

/// Opens a key by its full path. `PASSIVE_LEVEL`.
///
/// # Errors
/// Those of `ZwOpenKey`.
pub(crate) fn open_path(path: &[u16], access: ACCESS_MASK) -> Result<HANDLE, NTSTATUS> {
    open(std::ptr::null_mut(), path, access)
}

fn open(root: HANDLE, path: &[u16], access: ACCESS_MASK) -> Result<HANDLE, NTSTATUS> {
    let mut name = wdm::unicode(path);
    // SAFETY: all-zero bytes are a valid value of this plain structure.
    let mut attributes: OBJECT_ATTRIBUTES = unsafe { std::mem::zeroed() };
    attributes.Length = size_of::<OBJECT_ATTRIBUTES>() as _;
    attributes.RootDirectory = root;
    attributes.ObjectName = &raw mut name;
    attributes.Attributes = OBJ_KERNEL_HANDLE | OBJ_CASE_INSENSITIVE;
    let mut key: HANDLE = std::ptr::null_mut();
    // SAFETY: the attributes and the name live until the call returns.
    wdm::check(unsafe { ZwOpenKey(&raw mut key, access, &raw mut attributes) })?;
    Ok(key)
}

/// A value's type and bytes.
///
/// # Errors
/// Those of `ZwQueryValueKey`.
fn query(key: HANDLE, name: &UNICODE_STRING) -> Result<(u32, Vec<u8>), NTSTATUS> {
    let header = std::mem::offset_of!(KEY_VALUE_PARTIAL_INFORMATION, Data);
    // Eight-byte words, so that the structure is aligned.
    let mut buffer = vec![0_u64; 32];
    loop {
        let (mut needed, size) = (0, buffer.len() * 8);
        let name = std::ptr::from_ref(name).cast_mut();
        // SAFETY: the buffer has `size` bytes.
        let status = unsafe {
            ZwQueryValueKey(
                key,
                name,
                KeyValuePartialInformation,
                buffer.as_mut_ptr().cast(),
                size as _,
                &raw mut needed,
            )
        };
        if status == STATUS_BUFFER_OVERFLOW || status == STATUS_BUFFER_TOO_SMALL {
            buffer.resize((needed as usize).div_ceil(8), 0);
            continue;
        }
        wdm::check(status)?;
        let information = buffer.as_ptr().cast::<KEY_VALUE_PARTIAL_INFORMATION>();
        // SAFETY: the kernel filled the structure.
        let filled = unsafe { &*information };
        let (kind, length) = (filled.Type, filled.DataLength as usize);
        let data = buffer.as_ptr().cast::<u8>().wrapping_add(header);
        // SAFETY: the data follows the header.
        let data = unsafe { std::slice::from_raw_parts(data, length) };
        return Ok((kind, data.to_vec()));
    }
}

/// A DWORD value of a key named by its path; None if there is none.
pub(crate) fn read_dword(path: &[u16], name: &str) -> Option<u32> {
    let key = open_path(path, KEY_READ).ok()?;
    let text = wdm::utf16(name);
    let value = query(key, &wdm::unicode(&text)).ok();
    // SAFETY: opened above.
    unsafe { ZwClose(key) };
    match value {
        Some((REG_DWORD, data)) => data.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)),
        _ => None,
    }
}

/// Opens a key of a device. `PASSIVE_LEVEL`.
///
/// # Errors
/// Those of `IoOpenDeviceRegistryKey` and of a new object.
pub(crate) fn open_device_key(
    globals: &'static DriverGlobals,
    device: PDEVICE_OBJECT,
    kind: u32,
    access: u32,
    attributes: Option<&Attributes>,
) -> Result<usize, NTSTATUS> {
    let mut key: HANDLE = std::ptr::null_mut();
    // SAFETY: the bus's device object; the result goes to `key`.
    wdm::check(unsafe { IoOpenDeviceRegistryKey(device, kind, access, &raw mut key) })?;
    Key::publish(globals, key, attributes, Parent::Driver)
}

fn key(globals: PWDF_DRIVER_GLOBALS, value: WDFKEY) -> Arc<Key> {
    handle::get(DriverGlobals::from_ddi(globals), value as usize)
}

/// Opens a key below another, or by its full path. `PASSIVE_LEVEL`. Errors: those of the attributes, of `ZwOpenKey`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfRegistryOpenKey(
    globals: PWDF_DRIVER_GLOBALS,
    parent: WDFKEY,
    name: PCUNICODE_STRING,
    access: ACCESS_MASK,
    attributes: PWDF_OBJECT_ATTRIBUTES,
    place: *mut WDFKEY,
) -> NTSTATUS {
    let globals = DriverGlobals::from_ddi(globals);
    verifier::not_null(globals, name.cast_mut(), "KeyName");
    verifier::not_null(globals, place, "Key");
    let root = if parent.is_null() {
        std::ptr::null_mut()
    } else {
        handle::get::<Key>(globals, parent as usize).key.0.cast()
    };
    // SAFETY: the driver's string.
    let path = unsafe { wdm::wide(name) };
    // SAFETY: null or the driver's structure.
    let attributes = unsafe { Attributes::check(globals, attributes, Rules::PLAIN) };
    let opened = attributes.and_then(|attributes| {
        open(root, &path, access)
            .and_then(|key| Key::publish(globals, key, attributes.as_ref(), Parent::Driver))
    });
    match opened {
        Ok(value) => {
            // SAFETY: checked not to be null.
            unsafe { place.write(value as WDFKEY) };
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

/// Closes a key. `PASSIVE_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfRegistryClose(globals: PWDF_DRIVER_GLOBALS, value: WDFKEY) {
    object::delete(&key(globals, value));
}

/// The native handle of a key. `PASSIVE_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfRegistryWdmGetHandle(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFKEY,
) -> HANDLE {
    key(globals, value).key.0.cast()
}

/// A DWORD value. `PASSIVE_LEVEL`. Errors: `STATUS_OBJECT_TYPE_MISMATCH` for another type, those of `ZwQueryValueKey`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfRegistryQueryULong(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFKEY,
    name: PCUNICODE_STRING,
    place: PULONG,
) -> NTSTATUS {
    let key = key(globals, value);
    let globals = key.header.globals();
    verifier::not_null(globals, name.cast_mut(), "ValueName");
    verifier::not_null(globals, place, "Value");
    // SAFETY: checked not to be null; the driver's string.
    let found = query(key.key.0.cast(), unsafe { &*name });
    match found {
        Ok((REG_DWORD, data)) if data.len() == 4 => {
            let bytes = [data[0], data[1], data[2], data[3]];
            // SAFETY: checked not to be null.
            unsafe { place.write(u32::from_le_bytes(bytes)) };
            STATUS_SUCCESS
        }
        Ok(_) => STATUS_OBJECT_TYPE_MISMATCH,
        Err(status) => status,
    }
}

/// Any value. `PASSIVE_LEVEL`. Errors: `STATUS_BUFFER_OVERFLOW` if it does not fit, those of `ZwQueryValueKey`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfRegistryQueryValue(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFKEY,
    name: PCUNICODE_STRING,
    length: ULONG,
    buffer: PVOID,
    queried: PULONG,
    kind: PULONG,
) -> NTSTATUS {
    let key = key(globals, value);
    verifier::not_null(key.header.globals(), name.cast_mut(), "ValueName");
    // SAFETY: checked not to be null; the driver's string.
    let (found_kind, data) = match query(key.key.0.cast(), unsafe { &*name }) {
        Ok(found) => found,
        Err(status) => return status,
    };
    for (place, word) in [(queried, data.len() as u32), (kind, found_kind)] {
        if !place.is_null() {
            // SAFETY: the driver's variable.
            unsafe { place.write(word) };
        }
    }
    if buffer.is_null() || (length as usize) < data.len() {
        return STATUS_BUFFER_OVERFLOW;
    }
    // SAFETY: the driver's buffer has at least as many bytes.
    unsafe {
        buffer
            .cast::<u8>()
            .copy_from_nonoverlapping(data.as_ptr(), data.len())
    };
    STATUS_SUCCESS
}

/// Sets a DWORD value. `PASSIVE_LEVEL`. Errors: those of `ZwSetValueKey`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfRegistryAssignULong(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFKEY,
    name: PCUNICODE_STRING,
    word: ULONG,
) -> NTSTATUS {
    let key = key(globals, value);
    verifier::not_null(key.header.globals(), name.cast_mut(), "ValueName");
    let mut word = word;
    // SAFETY: the name is the driver's string, the data ours.
    let status = unsafe {
        ZwSetValueKey(
            key.key.0.cast(),
            name.cast_mut(),
            0,
            REG_DWORD,
            (&raw mut word).cast(),
            4,
        )
    };
    status_of(wdm::check(status))
}
