//! The loader's side: what a driver image imports from WDFLDR.SYS (`version.cpp`, `fxlibrarycommon.cpp`).

use crate::flat::*;

use crate::driver::Driver;
use crate::globals::DriverGlobals;
use crate::object;
use crate::{dump, table, wdm};

/// Numbers of entries of the function tables of all released versions, with the minor version each came with.
const TABLE_SIZES: [(u32, u32); 14] = [
    (383, 0),
    (386, 1),
    (387, 5),
    (396, 9),
    (432, 11),
    (438, 13),
    (444, 15),
    (446, 19),
    (448, 21),
    (451, 23),
    (453, 25),
    (454, 29),
    (458, 31),
    (458, 33),
];

/// Below this minor version the loader copies the table into the driver instead of pointing at it.
const FIRST_POINTER_TABLE: u32 = 15;

/// The minor version of this framework.
const MINOR_VERSION: u32 = 33;

/// Whether a table of `count` entries was ever released.
fn is_released(count: u32) -> bool {
    TABLE_SIZES.iter().any(|&(size, _)| size == count)
}

/// Binds a driver to the framework: checks what it asks for, hands out the function table and the driver's globals.
///
/// `PASSIVE_LEVEL`. Errors: `STATUS_INVALID_PARAMETER` for missing pointers or a table no version has had,
/// `STATUS_OBJECT_TYPE_MISMATCH` for another component or version (`WdfLdr`'s answer).
///
/// # Safety
/// As the loader's contract with the stub in every KMDF driver says.
pub(crate) unsafe extern "win64" fn WdfVersionBind(
    driver_object: PDRIVER_OBJECT,
    registry_path: PUNICODE_STRING,
    info: PWDF_BIND_INFO,
    globals: *mut PWDF_COMPONENT_GLOBALS,
) -> NTSTATUS {
    // SAFETY: the stub passes its static structure.
    let Some(info) = (unsafe { info.as_ref() }) else {
        return STATUS_INVALID_PARAMETER;
    };
    if globals.is_null()
        || driver_object.is_null()
        || registry_path.is_null()
        || info.FuncTable.is_null()
    {
        return STATUS_INVALID_PARAMETER;
    }
    let (major, minor, count) = (info.Version.Major, info.Version.Minor, info.FuncCount);
    if (info.Size as usize) < size_of::<WDF_BIND_INFO>() || major != 1 || minor > MINOR_VERSION {
        return STATUS_OBJECT_TYPE_MISMATCH;
    }
    if count as usize > table::COUNT || !is_released(count) {
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: the I/O manager's path of the driver's service key.
    let path = unsafe { wdm::wide(registry_path) };
    let service = String::from_utf16_lossy(
        path.rsplit(|&c| c == u16::from(b'\\'))
            .next()
            .unwrap_or_default(),
    );
    dump::register();
    let bound = DriverGlobals::allocate(driver_object, &service, minor);
    bound.read_settings(&path);
    if minor < FIRST_POINTER_TABLE {
        let functions = table::functions();
        // SAFETY: an older driver's table is an array of its own with `FuncCount` entries.
        unsafe {
            info.FuncTable
                .cast::<usize>()
                .copy_from_nonoverlapping(functions.as_ptr(), count as usize)
        };
    } else {
        // SAFETY: the field is the address of the driver's pointer to the table.
        unsafe {
            info.FuncTable
                .cast::<*const usize>()
                .write(table::functions().as_ptr())
        };
    }
    // SAFETY: checked not to be null.
    unsafe { globals.write(bound.public().cast()) };
    STATUS_SUCCESS
}

/// Unbinds a driver, at its unloading or when its `DriverEntry` failed: what it created goes. `PASSIVE_LEVEL`.
///
/// # Safety
/// As the loader's contract with the stub in every KMDF driver says.
pub(crate) unsafe extern "win64" fn WdfVersionUnbind(
    _registry_path: PUNICODE_STRING,
    _info: PWDF_BIND_INFO,
    globals: PWDF_COMPONENT_GLOBALS,
) -> NTSTATUS {
    if globals.is_null() {
        return STATUS_INVALID_PARAMETER;
    }
    let globals = DriverGlobals::from_ddi(globals.cast());
    if let Some(driver) = globals.driver() {
        Driver::forget(&driver);
        object::delete(&driver);
    }
    globals.passive_worker().wait_until_idle();
    STATUS_SUCCESS
}

macro_rules! not_offered {
    ($($name:ident)*) => {
        $(
            /// Class extensions are not offered: stops the machine by name.
            ///
            /// # Safety
            /// Never returns.
            pub(crate) unsafe extern "win64" fn $name() -> ! {
                table::stop_not_offered(stringify!($name))
            }
        )*
    };
}

not_offered! { WdfVersionBindClass WdfVersionUnbindClass WdfRegisterClassLibrary WdfLdrQueryInterface }

/// The exports of WDFLDR.SYS: name and address.
pub fn loader_exports() -> Vec<(&'static str, usize)> {
    vec![
        ("WdfVersionBind", WdfVersionBind as *const () as usize),
        ("WdfVersionUnbind", WdfVersionUnbind as *const () as usize),
        (
            "WdfVersionBindClass",
            WdfVersionBindClass as *const () as usize,
        ),
        (
            "WdfVersionUnbindClass",
            WdfVersionUnbindClass as *const () as usize,
        ),
        (
            "WdfRegisterClassLibrary",
            WdfRegisterClassLibrary as *const () as usize,
        ),
        (
            "WdfLdrQueryInterface",
            WdfLdrQueryInterface as *const () as usize,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_released_table_sizes_are_bound() {
        assert!(is_released(458));
        assert!(is_released(396));
        assert!(!is_released(400));
    }
}
