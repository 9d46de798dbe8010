//! Device interfaces and symbolic links (`fxdeviceinterface.cpp`).

use std::sync::Arc;

use machine_nt::exports::{
    ExFreePool, IoCreateSymbolicLink, IoDeleteSymbolicLink, IoRegisterDeviceInterface,
    IoSetDeviceInterfaceState,
};

use super::Device;
use crate::flat::*;
use crate::globals::DriverGlobals;
use crate::lock::Record;
use crate::object::handle;
use crate::string::Text;
use crate::wdm::{self, status_of};
use crate::{trace, verifier};

#[derive(Clone)]
struct Interface {
    class: [u8; 16],
    reference: Vec<u16>,
    link: Vec<u16>,
    /// Enabled with the device.
    automatic: bool,
    enabled: bool,
}

#[derive(Default)]
struct State {
    all: Vec<Interface>,
    /// The device is started: interfaces can be enabled.
    open: bool,
}

/// The interfaces of a device.
#[derive(Default)]
pub(crate) struct Interfaces(Record<State>);

fn bytes(class: &GUID) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&class.Data1.to_le_bytes());
    bytes[4..6].copy_from_slice(&class.Data2.to_le_bytes());
    bytes[6..8].copy_from_slice(&class.Data3.to_le_bytes());
    bytes[8..].copy_from_slice(&class.Data4);
    bytes
}

fn set_state(link: &[u16], enable: bool) -> NTSTATUS {
    let mut name = wdm::unicode(link);
    // SAFETY: the name lives until the call returns.
    unsafe { IoSetDeviceInterfaceState(&raw mut name, BOOLEAN::from(enable)) }
}

impl Interfaces {
    /// Registers an interface; enabled at once if the device is started.
    ///
    /// # Errors
    /// Those of `IoRegisterDeviceInterface`; `STATUS_OBJECT_NAME_EXISTS` (a success) if it is registered.
    fn register(
        &self,
        device: &Device,
        class: &GUID,
        reference: &[u16],
    ) -> Result<NTSTATUS, NTSTATUS> {
        let key = bytes(class);
        if self.0.with(|state| {
            state
                .all
                .iter()
                .any(|known| known.class == key && known.reference == reference)
        }) {
            return Ok(STATUS_OBJECT_NAME_EXISTS);
        }
        let mut reference_name = wdm::unicode(reference);
        let reference_pointer = if reference.is_empty() {
            std::ptr::null_mut()
        } else {
            &raw mut reference_name
        };
        let mut link = wdm::unicode(&[]);
        // SAFETY: the bus's device object; the strings live until the call returns.
        let status = unsafe {
            IoRegisterDeviceInterface(
                device.physical_object(),
                class,
                reference_pointer,
                &raw mut link,
            )
        };
        wdm::check(status)?;
        // SAFETY: the kernel's string.
        let text = unsafe { wdm::wide(&raw const link) };
        // SAFETY: the kernel allocated the string for its caller.
        unsafe { ExFreePool(link.Buffer.cast()) };
        let open = self.0.with(|state| {
            state.all.push(Interface {
                class: key,
                reference: reference.to_vec(),
                link: text.clone(),
                automatic: true,
                enabled: state.open,
            });
            state.open
        });
        if open {
            wdm::check(set_state(&text, true))?;
        }
        Ok(STATUS_SUCCESS)
    }

    /// The device is started: enables what is to be.
    pub(crate) fn enable_all(&self, device: &Device) {
        let links = self.0.with(|state| {
            state.open = true;
            let due = state
                .all
                .iter_mut()
                .filter(|interface| interface.automatic && !interface.enabled);
            due.map(|interface| {
                interface.enabled = true;
                interface.link.clone()
            })
            .collect::<Vec<_>>()
        });
        for link in links {
            let status = set_state(&link, true);
            if !wdm::success(status) {
                trace::error(
                    device.globals(),
                    &format!("a device interface cannot be enabled: {status:#010x}"),
                );
            }
        }
    }

    /// The device goes: disables all.
    pub(crate) fn disable_all(&self) {
        let links = self.0.with(|state| {
            state.open = false;
            let due = |interface: &mut Interface| {
                std::mem::take(&mut interface.enabled).then(|| interface.link.clone())
            };
            state.all.iter_mut().filter_map(due).collect::<Vec<_>>()
        });
        for link in links {
            // Fails only for what was never enabled.
            let _ = set_state(&link, false);
        }
    }

    /// Enables or disables one interface by the driver's wish.
    fn set(&self, class: &GUID, reference: Option<Vec<u16>>, enable: bool) -> Option<NTSTATUS> {
        let key = bytes(class);
        let change = self.0.with(|state| {
            let open = state.open;
            let wanted = |known: &&mut Interface| {
                known.class == key && reference.as_ref().is_none_or(|own| *own == known.reference)
            };
            let interface = state.all.iter_mut().find(wanted)?;
            interface.automatic = enable;
            let due = open && interface.enabled != enable;
            if due {
                interface.enabled = enable;
            }
            Some(due.then(|| interface.link.clone()))
        })?;
        Some(change.map_or(STATUS_SUCCESS, |link| set_state(&link, enable)))
    }

    fn link(&self, class: &GUID, reference: &[u16]) -> Option<Vec<u16>> {
        let key = bytes(class);
        self.0.with(|state| {
            let found = state
                .all
                .iter()
                .find(|known| known.class == key && known.reference == reference);
            found.map(|interface| interface.link.clone())
        })
    }

    /// Deletes the device's symbolic link.
    pub(super) fn delete_symbolic_link(&self, device: &Device) {
        if let Some(link) = device.symbolic_link.with(Option::take) {
            let mut name = wdm::unicode(&link);
            // SAFETY: the name lives until the call returns.
            unsafe { IoDeleteSymbolicLink(&raw mut name) };
        }
    }
}

fn device(globals: PWDF_DRIVER_GLOBALS, value: WDFDEVICE) -> Arc<Device> {
    handle::get(DriverGlobals::from_ddi(globals), value as usize)
}

/// Registers a device interface; it is enabled when the device starts. `PASSIVE_LEVEL`. Errors: those of `IoRegisterDeviceInterface`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceCreateDeviceInterface(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDEVICE,
    class: *const GUID,
    reference: PCUNICODE_STRING,
) -> NTSTATUS {
    let device = device(globals, value);
    verifier::not_null(device.globals(), class.cast_mut(), "InterfaceClassGUID");
    if let Err(status) = verifier::check_irql(device.globals(), PASSIVE_LEVEL) {
        return status;
    }
    // SAFETY: null or the driver's string.
    let reference = unsafe { wdm::wide(reference) };
    // SAFETY: checked not to be null.
    let class = unsafe { &*class };
    match device.interfaces().register(&device, class, &reference) {
        Ok(status) | Err(status) => status,
    }
}

/// Enables or disables an interface. `PASSIVE_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceSetDeviceInterfaceState(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDEVICE,
    class: *const GUID,
    reference: PCUNICODE_STRING,
    enable: BOOLEAN,
) {
    let device = device(globals, value);
    verifier::not_null(device.globals(), class.cast_mut(), "InterfaceClassGUID");
    // SAFETY: null or the driver's string.
    let reference = (!reference.is_null()).then(|| unsafe { wdm::wide(reference) });
    // SAFETY: checked not to be null.
    let result = device
        .interfaces()
        .set(unsafe { &*class }, reference, enable != 0);
    if !result.is_some_and(wdm::success) {
        trace::error(
            device.globals(),
            "the state of a device interface cannot be set",
        );
        verifier::break_point(device.globals());
    }
}

/// As [`WdfDeviceSetDeviceInterfaceState`]; before the device starts it says whether the interface is enabled then.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceSetDeviceInterfaceStateEx(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDEVICE,
    class: *const GUID,
    reference: PCUNICODE_STRING,
    enable: BOOLEAN,
) {
    // SAFETY: the same contract.
    unsafe { WdfDeviceSetDeviceInterfaceState(globals, value, class, reference, enable) };
}

/// The symbolic link of an interface. `PASSIVE_LEVEL`. Errors: `STATUS_OBJECT_NAME_NOT_FOUND`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceRetrieveDeviceInterfaceString(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDEVICE,
    class: *const GUID,
    reference: PCUNICODE_STRING,
    text: WDFSTRING,
) -> NTSTATUS {
    let device = device(globals, value);
    verifier::not_null(device.globals(), class.cast_mut(), "InterfaceClassGUID");
    let text: Arc<Text> = handle::get(device.globals(), text as usize);
    // SAFETY: null or the driver's string.
    let reference = unsafe { wdm::wide(reference) };
    // SAFETY: checked not to be null.
    match device.interfaces().link(unsafe { &*class }, &reference) {
        Some(link) => {
            text.assign(&link);
            STATUS_SUCCESS
        }
        None => STATUS_OBJECT_NAME_NOT_FOUND,
    }
}

/// Gives the device a symbolic link; it must have a name. `PASSIVE_LEVEL`. Errors: `STATUS_INVALID_DEVICE_STATE` (no name),
/// those of `IoCreateSymbolicLink`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceCreateSymbolicLink(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDEVICE,
    link: PCUNICODE_STRING,
) -> NTSTATUS {
    let device = device(globals, value);
    verifier::not_null(device.globals(), link.cast_mut(), "SymbolicLinkName");
    // SAFETY: checked not to be null; the driver's string.
    let link = unsafe { wdm::wide(link) };
    let Some(name) = device.name.with(|name| name.clone()) else {
        return STATUS_INVALID_DEVICE_STATE;
    };
    let (mut link_name, mut device_name) = (wdm::unicode(&link), wdm::unicode(&name));
    // SAFETY: the names live until the call returns.
    let status = unsafe { IoCreateSymbolicLink(&raw mut link_name, &raw mut device_name) };
    if wdm::success(status) {
        device.symbolic_link.with(|own| *own = Some(link));
    }
    status_of(wdm::check(status))
}
