//! WDFSTRING (`fxstring.cpp`).

use std::sync::{Arc, Mutex, PoisonError};

use crate::flat::*;

use crate::globals::DriverGlobals;
use crate::lock::Record;
use crate::object::attributes::Rules;
use crate::object::{self, Attributes, Header, Kind, Object, Parent, Typed, handle};
use crate::{verifier, wdm};

/// A string object.
pub(crate) struct Text {
    header: Header,
    text: Record<Vec<u16>>,
}

impl Object for Text {
    fn header(&self) -> &Header {
        &self.header
    }
}

impl Typed for Text {
    const KIND: Kind = Kind::String;
}

impl Text {
    /// Replaces the text.
    pub(crate) fn assign(&self, text: &[u16]) {
        self.text.with(|own| *own = text.to_vec());
    }
}

/// Text with a terminator that stays where it is for the life of the process: the same address for the same text.
pub(crate) fn persistent(text: &[u16]) -> PWSTR {
    static TEXTS: Mutex<Vec<&'static [u16]>> = Mutex::new(Vec::new());
    let wanted: Vec<u16> = text.iter().copied().chain([0]).collect();
    let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    let known = texts.iter().find(|known| ***known == *wanted).copied();
    let kept = known.unwrap_or_else(|| {
        let kept: &'static [u16] = wanted.leak();
        texts.push(kept);
        kept
    });
    kept.as_ptr().cast_mut()
}

/// Creates a string. `PASSIVE_LEVEL`. Errors: those of the attributes, `STATUS_INSUFFICIENT_RESOURCES`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfStringCreate(
    globals: PWDF_DRIVER_GLOBALS,
    text: PCUNICODE_STRING,
    attributes: PWDF_OBJECT_ATTRIBUTES,
    string: *mut WDFSTRING,
) -> NTSTATUS {
    let globals = DriverGlobals::from_ddi(globals);
    verifier::not_null(globals, string, "String");
    if let Err(status) = verifier::check_irql(globals, PASSIVE_LEVEL) {
        return status;
    }
    // SAFETY: null or the driver's structure.
    let attributes = match unsafe { Attributes::check(globals, attributes, Rules::PLAIN) } {
        Ok(attributes) => attributes,
        Err(status) => return status,
    };
    // SAFETY: null or the driver's string.
    let text = Record::new(unsafe { wdm::wide(text) });
    let created = Arc::new(Text {
        header: Header::new(Kind::String, globals),
        text,
    });
    match object::commit(&created, attributes.as_ref(), Parent::Driver) {
        Ok(value) => {
            // SAFETY: checked not to be null.
            unsafe { string.write(value as WDFSTRING) };
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

/// The counted string of a string object; valid while the object lives and is not assigned anew. `PASSIVE_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfStringGetUnicodeString(
    globals: PWDF_DRIVER_GLOBALS,
    string: WDFSTRING,
    unicode: PUNICODE_STRING,
) {
    let globals = DriverGlobals::from_ddi(globals);
    let string = handle::get::<Text>(globals, string as usize);
    verifier::not_null(globals, unicode, "UnicodeString");
    let counted = string.text.with(|text| wdm::unicode(text));
    // SAFETY: checked not to be null.
    unsafe { unicode.write(counted) };
}
