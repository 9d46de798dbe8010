//! The device's place on its bus: the configuration space of a PCI function, and how the bus resets it.

use wdk_sys::{
    _DEVICE_RESET_TYPE, BUS_INTERFACE_STANDARD, DEVICE_RESET_INTERFACE_STANDARD,
    DEVICE_RESET_INTERFACE_VERSION_1, GUID, PCI_ENABLE_BUS_MASTER, PCI_WHICHSPACE_CONFIG, PVOID,
    ULONG, USHORT,
};

use crate::device::{Device, DeviceEvents};
use crate::{DeviceGone, NtStatus, Result, ddi};

/// `GUID_BUS_INTERFACE_STANDARD`.
static INTERFACE: GUID = GUID {
    Data1: 0x496b_8280,
    Data2: 0x6f25,
    Data3: 0x11d0,
    Data4: [0xbe, 0xaf, 0x08, 0x00, 0x2b, 0xe2, 0x09, 0x2f],
};

/// `GUID_DEVICE_RESET_INTERFACE_STANDARD`.
static RESET_INTERFACE: GUID = GUID {
    Data1: 0x649f_df26,
    Data2: 0x3bc0,
    Data3: 0x4813,
    Data4: [0xad, 0x24, 0x7e, 0x0c, 0x1e, 0xda, 0x3f, 0xa3],
};

/// Where the command register lies in configuration space.
const COMMAND: ULONG = 4;

/// The interface of the driver of the device's bus, with a reference to it.
#[derive(Debug)]
pub struct BusInterface {
    raw: BUS_INTERFACE_STANDARD,
}

// SAFETY: the interface belongs to no thread.
unsafe impl Send for BusInterface {}

// SAFETY: its routines may be called by several threads at once.
unsafe impl Sync for BusInterface {}

/// Asks the drivers below for an interface. PASSIVE_LEVEL.
///
/// # Safety
///
/// `I` is the structure of the interface `class`, of which `version` has no more than it.
unsafe fn query<T: DeviceEvents, I>(
    device: &Device<T>,
    class: &'static GUID,
    version: u32,
    interface: &mut I,
) -> Result<()> {
    let size = const { size_of::<I>() as USHORT };
    // SAFETY: the device is valid; the structure has that size, and the bus driver fills it.
    let status = unsafe {
        ddi::WdfFdoQueryForInterface(
            device.raw(),
            class,
            (&raw mut *interface).cast(),
            size,
            version as USHORT,
            core::ptr::null_mut(),
        )
    };
    NtStatus::from_code(status).ok()
}

impl BusInterface {
    /// Asks the drivers below for the interface. PASSIVE_LEVEL.
    ///
    /// # Errors
    ///
    /// `STATUS_NOT_SUPPORTED` if the bus has none, and what `WdfFdoQueryForInterface` returns.
    pub fn query<T: DeviceEvents>(device: &Device<T>) -> Result<Self> {
        let mut raw = BUS_INTERFACE_STANDARD::default();
        // SAFETY: this is the structure of the interface.
        unsafe { query(device, &INTERFACE, 1, &mut raw) }?;
        Ok(Self { raw })
    }

    /// Lets the function read and write memory and send messages, or does not let it. The function has got it when
    /// this returns: no DMA of it reaches memory any more then. IRQL <= DISPATCH_LEVEL; whoever calls it makes sure that
    /// nobody else does meanwhile.
    ///
    /// # Errors
    ///
    /// [`DeviceGone`] if the configuration space does not answer, or does not keep what it is told.
    pub fn set_bus_master(&self, enabled: bool) -> Result<(), DeviceGone> {
        const MASTER: u16 = PCI_ENABLE_BUS_MASTER as u16;
        let command = self.command()?;
        let wanted = if enabled {
            command | MASTER
        } else {
            command & !MASTER
        };
        if wanted != command {
            self.set_command(wanted)?;
        }
        if (self.command()? & MASTER != 0) == enabled {
            Ok(())
        } else {
            Err(DeviceGone)
        }
    }

    fn command(&self) -> Result<u16, DeviceGone> {
        let mut command = u16::MAX;
        let read = self.raw.GetBusData.ok_or(DeviceGone)?;
        let buffer: PVOID = (&raw mut command).cast();
        // SAFETY: the interface is referenced, and the buffer has the length.
        let length = unsafe { read(self.raw.Context, PCI_WHICHSPACE_CONFIG, buffer, COMMAND, 2) };
        if length == 2 && command != u16::MAX {
            Ok(command)
        } else {
            Err(DeviceGone)
        }
    }

    fn set_command(&self, mut command: u16) -> Result<(), DeviceGone> {
        let write = self.raw.SetBusData.ok_or(DeviceGone)?;
        let buffer: PVOID = (&raw mut command).cast();
        // SAFETY: the interface is referenced, and the buffer has the length.
        let length = unsafe { write(self.raw.Context, PCI_WHICHSPACE_CONFIG, buffer, COMMAND, 2) };
        if length == 2 { Ok(()) } else { Err(DeviceGone) }
    }
}

impl Drop for BusInterface {
    fn drop(&mut self) {
        if let Some(dereference) = self.raw.InterfaceDereference {
            // SAFETY: the reference came with the interface, which is not used any more.
            unsafe { dereference(self.raw.Context) };
        }
    }
}

/// The way to have the device's bus reset the device alone, with a reference to it.
#[derive(Debug)]
pub struct ResetInterface {
    raw: DEVICE_RESET_INTERFACE_STANDARD,
}

// SAFETY: the interface belongs to no thread.
unsafe impl Send for ResetInterface {}

// SAFETY: its routines may be called by several threads at once.
unsafe impl Sync for ResetInterface {}

impl ResetInterface {
    /// Asks the drivers below for the interface; `None` if they have none, or one that cannot do it. PASSIVE_LEVEL.
    pub fn query<T: DeviceEvents>(device: &Device<T>) -> Option<Self> {
        const FUNCTION_LEVEL: ULONG = 1 << _DEVICE_RESET_TYPE::FunctionLevelDeviceReset;
        let mut raw = DEVICE_RESET_INTERFACE_STANDARD::default();
        // SAFETY: this is the structure of the interface; its first version has less.
        let found = unsafe {
            query(
                device,
                &RESET_INTERFACE,
                DEVICE_RESET_INTERFACE_VERSION_1,
                &mut raw,
            )
        };
        found.ok()?;
        // From here on the reference is given back.
        let interface = Self { raw };
        (interface.raw.SupportedResetTypes & FUNCTION_LEVEL != 0).then_some(interface)
    }

    /// Has the device reset. When this returns without an error, the device is in its initial state, and its configuration
    /// space as it was. PASSIVE_LEVEL; whoever calls it makes sure that nobody else does meanwhile.
    ///
    /// # Errors
    ///
    /// What the bus driver returns.
    pub fn reset(&self) -> Result<()> {
        let reset = self.raw.DeviceReset.ok_or(NtStatus::NOT_SUPPORTED)?;
        let kind = _DEVICE_RESET_TYPE::FunctionLevelDeviceReset;
        // SAFETY: the interface is referenced. There are no flags, and the parameters are optional.
        let status = unsafe { reset(self.raw.Context, kind, 0, core::ptr::null_mut()) };
        NtStatus::from_code(status).ok()
    }
}

impl Drop for ResetInterface {
    fn drop(&mut self) {
        if let Some(dereference) = self.raw.InterfaceDereference {
            // SAFETY: the reference came with the interface, which is not used any more.
            unsafe { dereference(self.raw.Context) };
        }
    }
}
