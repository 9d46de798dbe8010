//! The format strings of DbgPrint, as documented for the kernel: integers, characters, strings, counted strings and
//! pointers, with flags, width and precision. There is no floating point in the kernel.

use crate::entry::verifier;
use crate::sched::{self, PASSIVE_LEVEL};
use nt_sys::{STRING, UNICODE_STRING};

/// One conversion: what is between `%` and its letter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Spec {
    left: bool,
    zero: bool,
    plus: bool,
    space: bool,
    alternate: bool,
    width: usize,
    precision: Option<usize>,
    size: Size,
}

/// Size prefix of a conversion.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Size {
    Char,
    Short,
    #[default]
    Int,
    /// `l` or `w`: 32 bits for numbers, wide for text.
    Long,
    /// `ll`, `I64`, `I`, `z`, `t`, `j`.
    Quad,
}

/// The arguments, in slots of eight bytes.
struct Arguments(*const u64);

impl Arguments {
    /// # Safety
    /// There is a further argument.
    unsafe fn next(&mut self) -> u64 {
        // SAFETY: by the caller's promise.
        let value = unsafe { self.0.read() };
        self.0 = self.0.wrapping_add(1);
        value
    }
}

/// Formats as DbgPrint does.
///
/// # Safety
/// `format` is a NUL-terminated string, and `arguments` has what it asks for.
pub(super) unsafe fn format(format: *const u8, arguments: *const u64) -> String {
    // SAFETY: by the caller's promise.
    let text = unsafe { narrow(format, None) };
    let mut arguments = Arguments(arguments);
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let mut chars = rest[at + 1..].chars();
        // SAFETY: by the caller's promise.
        let spec = unsafe { parse(&mut chars, &mut arguments) };
        match chars.next() {
            Some('%') => out.push('%'),
            // SAFETY: by the caller's promise.
            Some(letter) => out.push_str(&unsafe { convert(letter, spec, &mut arguments) }),
            None => {}
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
    out
}

/// Reads flags, width, precision and size.
///
/// # Safety
/// There are arguments for the asterisks in it.
unsafe fn parse(chars: &mut std::str::Chars<'_>, arguments: &mut Arguments) -> Spec {
    let mut spec = Spec::default();
    let peek = |chars: &std::str::Chars<'_>| chars.clone().next();
    while let Some(flag) = peek(chars) {
        match flag {
            '-' => spec.left = true,
            '0' => spec.zero = true,
            '+' => spec.plus = true,
            ' ' => spec.space = true,
            '#' => spec.alternate = true,
            _ => break,
        }
        chars.next();
    }
    // SAFETY: by the caller's promise.
    if let Some(width) = unsafe { count(chars, arguments) } {
        spec.left |= width < 0;
        spec.width = width.unsigned_abs() as usize;
    }
    if peek(chars) == Some('.') {
        chars.next();
        // SAFETY: by the caller's promise.
        let precision = unsafe { count(chars, arguments) }.unwrap_or(0);
        spec.precision = usize::try_from(precision).ok();
    }
    for (prefix, size) in [
        ("I64", Size::Quad),
        ("I32", Size::Int),
        ("I", Size::Quad),
        ("ll", Size::Quad),
        ("hh", Size::Char),
        ("h", Size::Short),
        ("l", Size::Long),
        ("w", Size::Long),
        ("z", Size::Quad),
        ("t", Size::Quad),
        ("j", Size::Quad),
    ] {
        if let Some(rest) = chars.as_str().strip_prefix(prefix) {
            spec.size = size;
            *chars = rest.chars();
            break;
        }
    }
    spec
}

/// A decimal number, or the argument that `*` stands for.
///
/// # Safety
/// There is an argument for an asterisk.
unsafe fn count(chars: &mut std::str::Chars<'_>, arguments: &mut Arguments) -> Option<i32> {
    let text = chars.as_str();
    if let Some(rest) = text.strip_prefix('*') {
        *chars = rest.chars();
        // SAFETY: by the caller's promise.
        return Some(unsafe { arguments.next() } as i32);
    }
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    *chars = rest.chars();
    number.parse().ok()
}

/// Converts one argument.
///
/// # Safety
/// The next argument is what `letter` and `spec` say.
unsafe fn convert(letter: char, spec: Spec, arguments: &mut Arguments) -> String {
    // SAFETY: by the caller's promise.
    let value = unsafe { arguments.next() };
    let pointer = std::ptr::with_exposed_provenance_mut::<u8>(value as usize);
    let wide = spec.size == Size::Long;
    match letter {
        'd' | 'i' => spec.signed(value),
        'u' => spec.number(spec.unsigned(value).to_string(), ""),
        'x' => spec.number(format!("{:x}", spec.unsigned(value)), "0x"),
        'X' => spec.number(format!("{:X}", spec.unsigned(value)), "0X"),
        'o' => spec.number(format!("{:o}", spec.unsigned(value)), "0"),
        'p' => spec.pad(format!("{value:016X}"), false),
        'c' | 'C' => {
            let is_wide = (letter == 'C') != wide;
            let unit = if is_wide {
                value as u16
            } else {
                value as u8 as u16
            };
            spec.pad(String::from_utf16_lossy(&[unit]), false)
        }
        's' | 'S' => {
            let is_wide = (letter == 'S' && spec.size != Size::Short) || (letter == 's' && wide);
            let text = match is_wide {
                // SAFETY: by the caller's promise.
                true => unsafe { self::wide(pointer.cast(), spec.precision) },
                // SAFETY: by the caller's promise.
                false => unsafe { narrow(pointer, spec.precision) },
            };
            spec.pad(text, false)
        }
        // SAFETY: by the caller's promise.
        'Z' if wide => spec.pad(unsafe { counted_wide(pointer.cast()) }, false),
        // SAFETY: by the caller's promise.
        'Z' => spec.pad(unsafe { counted(pointer.cast()) }, false),
        other => format!("%{other}"),
    }
}

impl Spec {
    fn unsigned(&self, value: u64) -> u64 {
        match self.size {
            Size::Char => value as u8 as u64,
            Size::Short => value as u16 as u64,
            Size::Int | Size::Long => value as u32 as u64,
            Size::Quad => value,
        }
    }

    fn signed(&self, value: u64) -> String {
        let value = match self.size {
            Size::Char => value as i8 as i64,
            Size::Short => value as i16 as i64,
            Size::Int | Size::Long => value as i32 as i64,
            Size::Quad => value as i64,
        };
        let sign = match value {
            ..0 => "-",
            _ if self.plus => "+",
            _ if self.space => " ",
            _ => "",
        };
        let digits = self.digits(value.unsigned_abs().to_string());
        self.with_prefix(sign, &digits)
    }

    fn number(&self, digits: String, prefix: &str) -> String {
        let prefix = if self.alternate && digits != "0" {
            prefix
        } else {
            ""
        };
        let digits = self.digits(digits);
        self.with_prefix(prefix, &digits)
    }

    /// Fills up to the precision.
    fn digits(&self, digits: String) -> String {
        format!(
            "{digits:0>precision$}",
            precision = self.precision.unwrap_or(0)
        )
    }

    fn with_prefix(&self, prefix: &str, digits: &str) -> String {
        if self.zero && !self.left && self.precision.is_none() {
            let width = self.width.saturating_sub(prefix.len());
            return format!("{prefix}{digits:0>width$}");
        }
        self.pad(format!("{prefix}{digits}"), false)
    }

    fn pad(&self, text: String, zero: bool) -> String {
        let width = self.width;
        match (self.left, zero) {
            (true, _) => format!("{text:<width$}"),
            (false, true) => format!("{text:0>width$}"),
            (false, false) => format!("{text:>width$}"),
        }
    }
}

/// A NUL-terminated string of bytes, or as much of it as `limit` allows.
///
/// # Safety
/// `text` is NULL or such a string.
pub(super) unsafe fn narrow(text: *const u8, limit: Option<usize>) -> String {
    if text.is_null() {
        return "(null)".to_owned();
    }
    let at = |index| {
        // SAFETY: no byte behind the NUL or the limit is read.
        unsafe { text.wrapping_add(index).read() }
    };
    let bytes: Vec<u8> = (0..limit.unwrap_or(usize::MAX))
        .map(at)
        .take_while(|&byte| byte != 0)
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A NUL-terminated wide string.
///
/// # Safety
/// `text` is NULL or such a string.
unsafe fn wide(text: *const u16, limit: Option<usize>) -> String {
    check_wide();
    if text.is_null() {
        return "(null)".to_owned();
    }
    let at = |index| {
        // SAFETY: no unit behind the NUL or the limit is read.
        unsafe { text.wrapping_add(index).read() }
    };
    let units: Vec<u16> = (0..limit.unwrap_or(usize::MAX))
        .map(at)
        .take_while(|&unit| unit != 0)
        .collect();
    String::from_utf16_lossy(&units)
}

/// A UNICODE_STRING.
///
/// # Safety
/// `string` is NULL or valid.
unsafe fn counted_wide(string: *mut UNICODE_STRING) -> String {
    check_wide();
    // SAFETY: by the caller's promise.
    unsafe { crate::io::names::read(string) }.unwrap_or_else(|| "(null)".to_owned())
}

/// An ANSI_STRING.
///
/// # Safety
/// `string` is NULL or valid.
unsafe fn counted(string: *mut STRING) -> String {
    // SAFETY: by the caller's promise.
    match unsafe { string.as_ref() } {
        // SAFETY: by the caller's promise, and never more than the length.
        Some(string) => unsafe {
            narrow(
                string.Buffer.cast_const().cast(),
                Some(string.Length.into()),
            )
        },
        None => "(null)".to_owned(),
    }
}

/// Wide text is converted with pageable tables: PASSIVE_LEVEL only.
fn check_wide() {
    let irql = sched::irql();
    if irql != PASSIVE_LEVEL {
        let explanation = format!("DbgPrint with wide text at IRQL {irql}");
        verifier([0xE5, irql.into(), PASSIVE_LEVEL.into(), 0], explanation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(text: &std::ffi::CStr, arguments: &[u64]) -> String {
        // SAFETY: each test passes what its format asks for.
        unsafe { format(text.as_ptr().cast(), arguments.as_ptr()) }
    }

    #[test]
    fn numbers() {
        assert_eq!(
            printed(c"%d %i %u", &[u64::MAX, 5, 0xFFFF_FFFF_0000_0007]),
            "-1 5 7"
        );
        assert_eq!(
            printed(c"%08x|%#x|%X", &[0xBEEF, 255, 0xABC]),
            "0000beef|0xff|ABC"
        );
        assert_eq!(
            printed(c"%I64x %llu %lu", &[1 << 40, u64::MAX, 1 << 32]),
            "10000000000 18446744073709551615 0"
        );
        assert_eq!(
            printed(c"%5d|%-5d|%+d|%.3d", &[42, 42, 42, 7]),
            "   42|42   |+42|007"
        );
        assert_eq!(printed(c"%hhu %hd", &[0x1FF, 0xFFFF]), "255 -1");
        assert_eq!(printed(c"%*d%%", &[4, 9]), "   9%");
        assert_eq!(printed(c"%p", &[0xFFFF_8000_0000_1000]), "FFFF800000001000");
    }

    #[test]
    fn text() {
        let narrow = c"abc";
        let wide: Vec<u16> = "wide\0".encode_utf16().collect();
        let counted = UNICODE_STRING {
            Length: 4,
            MaximumLength: 10,
            Buffer: wide.as_ptr().cast_mut(),
        };
        let arguments = [
            narrow.as_ptr().expose_provenance() as u64,
            wide.as_ptr().expose_provenance() as u64,
            wide.as_ptr().expose_provenance() as u64,
            (&raw const counted).expose_provenance() as u64,
            b'x'.into(),
        ];
        assert_eq!(
            printed(c"%s %ws %S %wZ %c", &arguments),
            "abc wide wide wi x"
        );
        assert_eq!(
            printed(c"%.2s|%5s|%s", &[arguments[0], arguments[0], 0]),
            "ab|  abc|(null)"
        );
    }
}
