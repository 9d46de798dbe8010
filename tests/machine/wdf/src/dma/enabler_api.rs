//! `WdfDmaEnabler*` (`fxdmaenablerapi.cpp`).

use std::sync::Arc;

use super::enabler::{DmaEnabler, Profile};
use crate::device::Device;
use crate::flat::*;
use crate::globals::DriverGlobals;
use crate::object::attributes::Rules;
use crate::object::{self, Attributes, Object, Parent, handle};
use crate::wdm::status_of;
use crate::{trace, verifier};

/// The configuration of KMDF 1.9 ends before the overrides.
const CONFIG_V1_9: usize = std::mem::offset_of!(WDF_DMA_ENABLER_CONFIG, AddressWidthOverride);

fn enabler(globals: PWDF_DRIVER_GLOBALS, value: WDFDMAENABLER) -> Arc<DmaEnabler> {
    handle::get(DriverGlobals::from_ddi(globals), value as usize)
}

/// The parent: the device, or what the attributes name below it.
fn parent(
    device: &Arc<Device>,
    attributes: Option<&Attributes>,
) -> Result<Arc<dyn Object>, NTSTATUS> {
    let globals = device.globals();
    let Some(parent) = attributes.and_then(Attributes::parent_handle) else {
        return Ok(device.clone());
    };
    let parent = handle::any(globals, parent);
    if !globals.is_at_least(11) {
        return Ok(device.clone());
    }
    let above = object::search_for_device(&parent);
    if !above.is_some_and(|above| Arc::ptr_eq(&above, device)) {
        trace::error(globals, "the parent of the enabler is not below its device");
        return Err(STATUS_WDF_OBJECT_ATTRIBUTES_INVALID);
    }
    Ok(parent)
}

/// The configuration, brought to the present form. Errors: `STATUS_INFO_LENGTH_MISMATCH`.
///
/// # Safety
/// `config` points to the driver's structure.
unsafe fn normalize(
    globals: &DriverGlobals,
    config: *const WDF_DMA_ENABLER_CONFIG,
) -> Result<WDF_DMA_ENABLER_CONFIG, NTSTATUS> {
    let expected = if globals.is_at_least(11) {
        size_of::<WDF_DMA_ENABLER_CONFIG>()
    } else {
        CONFIG_V1_9
    };
    // SAFETY: the caller's promise; the size comes first.
    let size = unsafe { (*config).Size } as usize;
    if size != expected {
        trace::error(
            globals,
            &format!("WDF_DMA_ENABLER_CONFIG size {size:#x} is not {expected:#x}"),
        );
        return Err(STATUS_INFO_LENGTH_MISMATCH);
    }
    // SAFETY: all-zero bytes are a valid value of this plain structure.
    let mut whole: WDF_DMA_ENABLER_CONFIG = unsafe { std::mem::zeroed() };
    // SAFETY: `size` bytes are there to read, and `whole` is at least as large.
    unsafe {
        (&raw mut whole)
            .cast::<u8>()
            .copy_from_nonoverlapping(config.cast::<u8>(), size)
    };
    Ok(whole)
}

/// Creates an enabler and, for bus masters, its adapters; parent: the device, or what the attributes name below it. `PASSIVE_LEVEL`.
///
/// Errors: those of the attributes; `STATUS_WDF_OBJECT_ATTRIBUTES_INVALID` (parent), `STATUS_INFO_LENGTH_MISMATCH`, `STATUS_INVALID_PARAMETER`
/// (profile, length, overrides), `STATUS_INSUFFICIENT_RESOURCES`, `STATUS_UNSUCCESSFUL` (no adapter).
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDmaEnablerCreate(
    globals: PWDF_DRIVER_GLOBALS,
    device: WDFDEVICE,
    config: PWDF_DMA_ENABLER_CONFIG,
    attributes: PWDF_OBJECT_ATTRIBUTES,
    place: *mut WDFDMAENABLER,
) -> NTSTATUS {
    let globals = DriverGlobals::from_ddi(globals);
    let device: Arc<Device> = handle::get(globals, device as usize);
    if let Err(status) = verifier::check_irql(globals, PASSIVE_LEVEL) {
        return status;
    }
    verifier::not_null(globals, place, "DmaEnablerHandle");
    verifier::not_null(globals, config, "Config");
    // SAFETY: checked not to be null.
    unsafe { place.write(std::ptr::null_mut()) };
    // SAFETY: null or the driver's structure.
    let attributes = unsafe { Attributes::check(globals, attributes, Rules::PLAIN) };
    let created = attributes.and_then(|attributes| {
        let parent = parent(&device, attributes.as_ref())?;
        // SAFETY: checked not to be null; the driver's structure.
        let config = unsafe { normalize(globals, config) }?;
        create(&device, parent, &config, attributes.as_ref())
    });
    match created {
        Ok(enabler) => {
            // SAFETY: checked not to be null.
            unsafe { place.write(enabler.header().handle() as WDFDMAENABLER) };
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

fn create(
    device: &Arc<Device>,
    parent: Arc<dyn Object>,
    config: &WDF_DMA_ENABLER_CONFIG,
    attributes: Option<&Attributes>,
) -> Result<Arc<DmaEnabler>, NTSTATUS> {
    let profile = Profile::new(config.Profile).ok_or(STATUS_INVALID_PARAMETER)?;
    if config.MaximumLength == 0 {
        return Err(STATUS_INVALID_PARAMETER);
    }
    let (enabler, width) = DmaEnabler::new(device, profile, config)?;
    object::commit(&enabler, attributes, Parent::Object(parent))?;
    if let Err(status) = enabler.initialize(width) {
        object::delete_failed(enabler);
        return Err(status);
    }
    Ok(enabler)
}

/// Gives a direction of a system profile its channel, as the translated resource descriptor names it. The published source checks neither
/// the IRQL nor the profile: a bus master's directions are configured already.
///
/// Errors: `STATUS_INVALID_PARAMETER` (a missing structure or descriptor, the direction, configured already), `STATUS_INFO_LENGTH_MISMATCH`,
/// `STATUS_UNSUCCESSFUL` (no adapter: no system DMA, or no such channel), `STATUS_INSUFFICIENT_RESOURCES`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDmaEnablerConfigureSystemProfile(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDMAENABLER,
    config: PWDF_DMA_SYSTEM_PROFILE_CONFIG,
    direction: WDF_DMA_DIRECTION,
) -> NTSTATUS {
    let enabler = enabler(globals, value);
    let globals = enabler.globals();
    let refuse = |status, why: &str| {
        trace::error(globals, why);
        verifier::break_point(globals);
        status
    };
    // SAFETY: NULL or the driver's structure, whose size comes first.
    let Some(config) = (unsafe { config.as_ref() }) else {
        return refuse(STATUS_INVALID_PARAMETER, "ProfileConfig is NULL");
    };
    if config.Size as usize != size_of::<WDF_DMA_SYSTEM_PROFILE_CONFIG>() {
        return refuse(
            STATUS_INFO_LENGTH_MISMATCH,
            "WDF_DMA_SYSTEM_PROFILE_CONFIG has another size",
        );
    }
    // SAFETY: NULL or the driver's descriptor.
    let Some(descriptor) = (unsafe { config.DmaDescriptor.as_ref() }) else {
        return refuse(STATUS_INVALID_PARAMETER, "DmaDescriptor is NULL");
    };
    let write = match direction {
        WdfDmaDirectionReadFromDevice => false,
        WdfDmaDirectionWriteToDevice => true,
        _ => {
            trace::error(globals, &format!("{direction} is no DMA direction"));
            return STATUS_INVALID_PARAMETER;
        }
    };
    // SAFETY: the published source reads this member of any descriptor.
    let dma = unsafe { descriptor.u.Dma };
    status_of(enabler.configure_system(config, (dma.Channel, dma.Port), write))
}

/// The configured maximum length; 0 for a system enabler that was not configured. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDmaEnablerGetMaximumLength(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDMAENABLER,
) -> usize {
    enabler(globals, value).maximum_length()
}

/// The limit of scatter/gather elements. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDmaEnablerGetMaximumScatterGatherElements(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDMAENABLER,
) -> usize {
    enabler(globals, value).max_elements() as usize
}

/// Sets the limit of scatter/gather elements; 0 is ignored, more than 32 bits are cut. `PASSIVE_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDmaEnablerSetMaximumScatterGatherElements(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDMAENABLER,
    elements: usize,
) {
    let enabler = enabler(globals, value);
    if verifier::check_irql(enabler.globals(), PASSIVE_LEVEL).is_err() {
        return;
    }
    if elements == 0 {
        return trace::error(
            enabler.globals(),
            "the maximum of scatter/gather elements cannot be zero",
        );
    }
    enabler.set_max_elements(u32::try_from(elements).unwrap_or(u32::MAX));
}

/// The direction of a query; a verifier break for another value.
fn direction(enabler: &DmaEnabler, value: WDF_DMA_DIRECTION) -> Option<bool> {
    match value {
        WdfDmaDirectionReadFromDevice => Some(false),
        WdfDmaDirectionWriteToDevice => Some(true),
        _ => {
            trace::error(enabler.globals(), &format!("{value} is no DMA direction"));
            verifier::break_point(enabler.globals());
            None
        }
    }
}

/// The longest transfer of a direction. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDmaEnablerGetFragmentLength(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDMAENABLER,
    dma_direction: WDF_DMA_DIRECTION,
) -> usize {
    let enabler = enabler(globals, value);
    let adapter = direction(&enabler, dma_direction).and_then(|write| enabler.adapter(write));
    adapter.map_or(0, |adapter| adapter.max_fragment)
}

/// The adapter of a direction, or NULL. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDmaEnablerWdmGetDmaAdapter(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDMAENABLER,
    dma_direction: WDF_DMA_DIRECTION,
) -> PDMA_ADAPTER {
    let enabler = enabler(globals, value);
    let adapter = direction(&enabler, dma_direction).and_then(|write| enabler.adapter(write));
    adapter.map_or(std::ptr::null_mut(), |adapter| adapter.raw())
}
