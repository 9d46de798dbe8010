//! The run-time library: counted strings, GUIDs, memory.

use crate::entry::{borrow, enter, verifier};
use crate::ex::pool;
use crate::io::{interface, names};
use crate::sched::{DISPATCH_LEVEL, PASSIVE_LEVEL};
use nt_sys::{
    BOOLEAN, GUID, LONG, NTSTATUS, PCUNICODE_STRING, PCWSTR, PUNICODE_STRING, SIZE_T,
    STATUS_BUFFER_TOO_SMALL, STATUS_INVALID_PARAMETER, STATUS_NO_MEMORY, STATUS_SUCCESS,
    UNICODE_STRING,
};
use std::cmp::Ordering;
use std::ffi::c_void;

/// The pool tag of strings that the library allocates.
const TAG: u32 = u32::from_le_bytes(*b"RtlS");

/// The units of a counted string.
///
/// # Safety
/// `string` is valid.
unsafe fn units<'a>(string: PCUNICODE_STRING, routine: &'static str) -> &'a [u16] {
    // SAFETY: by the caller's promise.
    let string: &UNICODE_STRING = unsafe { borrow(string.cast_mut(), routine) };
    if string.Buffer.is_null() {
        return &[];
    }
    // SAFETY: by the caller's promise.
    unsafe { std::slice::from_raw_parts(string.Buffer, usize::from(string.Length) / 2) }
}

/// RtlInitUnicodeString. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// `destination` is valid; `source` is NULL or a NUL-terminated string.
pub unsafe extern "win64" fn RtlInitUnicodeString(destination: PUNICODE_STRING, source: PCWSTR) {
    let _inside = enter("RtlInitUnicodeString", DISPATCH_LEVEL);
    let mut length = 0;
    if !source.is_null() {
        // SAFETY: no unit behind the NUL is read.
        while unsafe { source.wrapping_add(length).read() } != 0 {
            length += 1;
        }
    }
    let bytes = (2 * length).min(0xFFFC) as u16;
    // SAFETY: by the caller's promise.
    *unsafe { borrow(destination, "RtlInitUnicodeString") } = UNICODE_STRING {
        Length: bytes,
        MaximumLength: if source.is_null() { 0 } else { bytes + 2 },
        Buffer: source.cast_mut(),
    };
}

/// RtlCopyUnicodeString. IRQL <= DISPATCH_LEVEL. Copies as much as there is room for.
///
/// # Safety
/// Both are valid; `source` may be NULL.
pub unsafe extern "win64" fn RtlCopyUnicodeString(
    destination: PUNICODE_STRING,
    source: PCUNICODE_STRING,
) {
    let _inside = enter("RtlCopyUnicodeString", DISPATCH_LEVEL);
    let from = match source.is_null() {
        true => &[],
        // SAFETY: by the caller's promise.
        false => unsafe { units(source, "RtlCopyUnicodeString") },
    };
    // SAFETY: by the caller's promise.
    let into = unsafe { borrow(destination, "RtlCopyUnicodeString") };
    let count = from.len().min(usize::from(into.MaximumLength) / 2);
    into.Length = (2 * count) as u16;
    // SAFETY: the buffer has MaximumLength bytes.
    unsafe { std::ptr::copy(from.as_ptr(), into.Buffer, count) };
    if usize::from(into.MaximumLength) >= 2 * count + 2 {
        let end = into.Buffer.wrapping_add(count);
        // SAFETY: as above.
        unsafe { end.write(0) };
    }
}

/// RtlAppendUnicodeStringToString. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// Both are valid.
pub unsafe extern "win64" fn RtlAppendUnicodeStringToString(
    destination: PUNICODE_STRING,
    source: PCUNICODE_STRING,
) -> NTSTATUS {
    let _inside = enter("RtlAppendUnicodeStringToString", DISPATCH_LEVEL);
    // SAFETY: by the caller's promise.
    let from = unsafe { units(source, "RtlAppendUnicodeStringToString") };
    // SAFETY: by the caller's promise.
    let into = unsafe { borrow(destination, "RtlAppendUnicodeStringToString") };
    let (length, room) = (usize::from(into.Length), usize::from(into.MaximumLength));
    if length + 2 * from.len() > room {
        return STATUS_BUFFER_TOO_SMALL;
    }
    let end = into.Buffer.wrapping_byte_add(length);
    // SAFETY: there is room for it.
    unsafe { std::ptr::copy(from.as_ptr(), end, from.len()) };
    into.Length += (2 * from.len()) as u16;
    STATUS_SUCCESS
}

/// Compares as the run-time library does; without regard to case, by upper case.
fn compare(first: &[u16], second: &[u16], ignore_case: bool) -> Ordering {
    if !ignore_case {
        return first.cmp(second);
    }
    let upper = |units: &[u16]| {
        String::from_utf16_lossy(units)
            .to_uppercase()
            .encode_utf16()
            .collect::<Vec<_>>()
    };
    upper(first).cmp(&upper(second))
}

/// RtlCompareUnicodeString. IRQL = PASSIVE_LEVEL.
///
/// # Safety
/// Both are valid.
pub unsafe extern "win64" fn RtlCompareUnicodeString(
    first: PCUNICODE_STRING,
    second: PCUNICODE_STRING,
    ignore_case: BOOLEAN,
) -> LONG {
    let _inside = enter("RtlCompareUnicodeString", PASSIVE_LEVEL);
    // SAFETY: by the caller's promise.
    let first = unsafe { units(first, "RtlCompareUnicodeString") };
    // SAFETY: by the caller's promise.
    let second = unsafe { units(second, "RtlCompareUnicodeString") };
    compare(first, second, ignore_case != 0) as LONG
}

/// RtlEqualUnicodeString. IRQL = PASSIVE_LEVEL.
///
/// # Safety
/// Both are valid.
pub unsafe extern "win64" fn RtlEqualUnicodeString(
    first: PCUNICODE_STRING,
    second: PCUNICODE_STRING,
    ignore_case: BOOLEAN,
) -> BOOLEAN {
    let _inside = enter("RtlEqualUnicodeString", PASSIVE_LEVEL);
    // SAFETY: by the caller's promise.
    let first = unsafe { units(first, "RtlEqualUnicodeString") };
    // SAFETY: by the caller's promise.
    let second = unsafe { units(second, "RtlEqualUnicodeString") };
    BOOLEAN::from(compare(first, second, ignore_case != 0).is_eq())
}

/// RtlFreeUnicodeString. IRQL = PASSIVE_LEVEL.
///
/// # Safety
/// The string was allocated by a routine that says so.
pub unsafe extern "win64" fn RtlFreeUnicodeString(string: PUNICODE_STRING) {
    let _inside = enter("RtlFreeUnicodeString", PASSIVE_LEVEL);
    // SAFETY: by the caller's promise.
    let string = unsafe { borrow(string, "RtlFreeUnicodeString") };
    let buffer = std::mem::take(string).Buffer;
    if !buffer.is_null() {
        // SAFETY: by the caller's promise.
        unsafe { pool::free(buffer.cast()) };
    }
}

/// A NUL-terminated copy of `text` in pool memory, as a counted string that RtlFreeUnicodeString frees.
pub(crate) fn allocate_string(text: &[u16]) -> Option<UNICODE_STRING> {
    let terminated = [text, &[0]].concat();
    let bytes = 2 * terminated.len();
    let buffer: *mut u16 = pool::allocate(pool::Pool::Paged, bytes, TAG)?.cast();
    // SAFETY: a fresh block of this length.
    unsafe { std::ptr::copy_nonoverlapping(terminated.as_ptr(), buffer, terminated.len()) };
    Some(UNICODE_STRING {
        Length: (bytes - 2) as u16,
        MaximumLength: bytes as u16,
        Buffer: buffer,
    })
}

/// RtlStringFromGUID. IRQL = PASSIVE_LEVEL. The caller frees the string with RtlFreeUnicodeString.
///
/// # Safety
/// Both are valid.
pub unsafe extern "win64" fn RtlStringFromGUID(
    guid: *const GUID,
    string: PUNICODE_STRING,
) -> NTSTATUS {
    let _inside = enter("RtlStringFromGUID", PASSIVE_LEVEL);
    // SAFETY: by the caller's promise.
    let text = interface::guid_text(unsafe { borrow(guid.cast_mut(), "RtlStringFromGUID") })
        .to_uppercase();
    match allocate_string(&text.encode_utf16().collect::<Vec<_>>()) {
        Some(allocated) => {
            // SAFETY: by the caller's promise.
            *unsafe { borrow(string, "RtlStringFromGUID") } = allocated;
            STATUS_SUCCESS
        }
        None => STATUS_NO_MEMORY,
    }
}

/// RtlGUIDFromString. IRQL = PASSIVE_LEVEL.
///
/// # Safety
/// Both are valid.
pub unsafe extern "win64" fn RtlGUIDFromString(
    string: PCUNICODE_STRING,
    guid: *mut GUID,
) -> NTSTATUS {
    let _inside = enter("RtlGUIDFromString", PASSIVE_LEVEL);
    // SAFETY: by the caller's promise.
    let text = unsafe { names::read(string.cast_mut()) }.unwrap_or_default();
    let Some(parsed) = parse_guid(&text) else {
        return STATUS_INVALID_PARAMETER;
    };
    // SAFETY: by the caller's promise.
    *unsafe { borrow(guid, "RtlGUIDFromString") } = parsed;
    STATUS_SUCCESS
}

fn parse_guid(text: &str) -> Option<GUID> {
    let inner = text.strip_prefix('{')?.strip_suffix('}')?;
    let fields: Vec<&str> = inner.split('-').collect();
    let lengths: Vec<usize> = fields.iter().map(|field| field.len()).collect();
    if lengths != [8, 4, 4, 4, 12] {
        return None;
    }
    let tail = u64::from_str_radix(&fields[3..].concat(), 16).ok()?;
    Some(GUID {
        Data1: u32::from_str_radix(fields[0], 16).ok()?,
        Data2: u16::from_str_radix(fields[1], 16).ok()?,
        Data3: u16::from_str_radix(fields[2], 16).ok()?,
        Data4: tail.to_be_bytes(),
    })
}

/// RtlCompareMemory: the number of bytes that are equal. Any IRQL.
///
/// # Safety
/// There are `length` bytes at both.
pub unsafe extern "win64" fn RtlCompareMemory(
    first: *const c_void,
    second: *const c_void,
    length: SIZE_T,
) -> SIZE_T {
    let at = |start: *const c_void, index: u64| {
        // SAFETY: by the caller's promise.
        unsafe { start.cast::<u8>().wrapping_add(index as usize).read() }
    };
    (0..length)
        .take_while(|&index| at(first, index) == at(second, index))
        .count() as SIZE_T
}

/// memcpy. Any IRQL. Ranges that overlap are 0xC4, 0xF0.
///
/// # Safety
/// There are `count` bytes at both.
pub unsafe extern "win64" fn memcpy(
    destination: *mut c_void,
    source: *const c_void,
    count: usize,
) -> *mut c_void {
    let distance = destination.addr().abs_diff(source.addr());
    if distance != 0 && distance < count {
        let parameters = [
            0xF0,
            destination.addr() as u64,
            source.addr() as u64,
            count as u64,
        ];
        verifier(parameters, "memcpy with ranges that overlap");
    }
    // SAFETY: by the caller's promise.
    unsafe { std::ptr::copy(source.cast::<u8>(), destination.cast::<u8>(), count) };
    destination
}

/// memmove. Any IRQL.
///
/// # Safety
/// There are `count` bytes at both.
pub unsafe extern "win64" fn memmove(
    destination: *mut c_void,
    source: *const c_void,
    count: usize,
) -> *mut c_void {
    // SAFETY: by the caller's promise.
    unsafe { std::ptr::copy(source.cast::<u8>(), destination.cast::<u8>(), count) };
    destination
}

/// memset. Any IRQL.
///
/// # Safety
/// There are `count` bytes.
pub unsafe extern "win64" fn memset(
    destination: *mut c_void,
    value: i32,
    count: usize,
) -> *mut c_void {
    // SAFETY: by the caller's promise.
    unsafe { destination.cast::<u8>().write_bytes(value as u8, count) };
    destination
}

/// memcmp. Any IRQL.
///
/// # Safety
/// There are `count` bytes at both.
pub unsafe extern "win64" fn memcmp(
    first: *const c_void,
    second: *const c_void,
    count: usize,
) -> i32 {
    // SAFETY: by the caller's promise.
    let first = unsafe { std::slice::from_raw_parts(first.cast::<u8>(), count) };
    // SAFETY: by the caller's promise.
    let second = unsafe { std::slice::from_raw_parts(second.cast::<u8>(), count) };
    first.cmp(second) as i32
}

/// strlen. Any IRQL.
///
/// # Safety
/// The string is NUL-terminated.
pub unsafe extern "win64" fn strlen(string: *const std::ffi::c_char) -> usize {
    // SAFETY: by the caller's promise.
    unsafe { std::ffi::CStr::from_ptr(string) }.count_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guids() {
        let text = "{12345678-9abc-def0-0102-030405060708}";
        assert_eq!(interface::guid_text(&parse_guid(text).unwrap()), text);
        assert!(parse_guid("{12345678-9abc-def0-0102-0304050607}").is_none());
        assert!(parse_guid("12345678-9abc-def0-0102-030405060708").is_none());
    }

    #[test]
    fn comparisons() {
        let (a, b): (Vec<u16>, Vec<u16>) = (
            "Card".encode_utf16().collect(),
            "cARD".encode_utf16().collect(),
        );
        assert!(compare(&a, &b, true).is_eq());
        assert!(compare(&a, &b, false).is_lt());
        let (first, second) = (c"abcd".as_ptr().cast(), c"abxd".as_ptr().cast());
        // SAFETY: both have five bytes.
        let equal = unsafe { RtlCompareMemory(first, second, 5) };
        assert_eq!(equal, 2);
    }
}
