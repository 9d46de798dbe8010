//! WDFCMRESLIST (`fxresource.cpp`): the resources of a started device.

use std::sync::Arc;

use crate::device::Device;
use crate::flat::*;
use crate::globals::DriverGlobals;
use crate::lock::Ptr;
use crate::object::{self, Header, Kind, Object, Parent, Typed, handle};

/// A list of descriptors.
pub(crate) struct ResourceList {
    header: Header,
    descriptors: Box<[CM_PARTIAL_RESOURCE_DESCRIPTOR]>,
    base: Ptr<CM_PARTIAL_RESOURCE_DESCRIPTOR>,
}

// SAFETY: descriptors are plain data that nobody changes.
unsafe impl Send for ResourceList {}
// SAFETY: as above.
unsafe impl Sync for ResourceList {}

impl Object for ResourceList {
    fn header(&self) -> &Header {
        &self.header
    }
}

impl Typed for ResourceList {
    const KIND: Kind = Kind::CmResourceList;
}

impl ResourceList {
    /// The list of a start request; an empty one for NULL.
    ///
    /// # Errors
    /// Those of a new object.
    ///
    /// # Safety
    /// `list` is null or the list of a start request that is not complete.
    pub(crate) unsafe fn from_wdm(
        device: &Arc<Device>,
        list: PCM_RESOURCE_LIST,
    ) -> Result<Arc<Self>, NTSTATUS> {
        // SAFETY: the caller's promise.
        let mut descriptors = unsafe { copy(list) }.into_boxed_slice();
        let base = Ptr(descriptors.as_mut_ptr());
        let list = Arc::new(Self {
            header: Header::new(Kind::CmResourceList, device.globals()),
            descriptors,
            base,
        });
        list.header.mark_no_delete();
        object::commit(&list, None, Parent::Object(device.clone()))?;
        Ok(list)
    }

    /// The WDFCMRESLIST.
    pub(crate) fn handle(&self) -> WDFCMRESLIST {
        self.header.handle() as WDFCMRESLIST
    }

    fn get(&self, index: usize) -> PCM_PARTIAL_RESOURCE_DESCRIPTOR {
        if index < self.descriptors.len() {
            self.base.0.wrapping_add(index)
        } else {
            std::ptr::null_mut()
        }
    }

    /// The interrupt descriptors, in order.
    pub(crate) fn interrupts(&self) -> Vec<PCM_PARTIAL_RESOURCE_DESCRIPTOR> {
        let all = self.descriptors.iter().enumerate();
        all.filter(|(_, descriptor)| u32::from(descriptor.Type) == CmResourceTypeInterrupt)
            .map(|(index, _)| self.get(index))
            .collect()
    }

    /// How many interrupts a raw interrupt descriptor stands for.
    pub(crate) fn message_count(raw: PCM_PARTIAL_RESOURCE_DESCRIPTOR) -> usize {
        // SAFETY: a descriptor of a list that lives.
        let descriptor = unsafe { raw.read_unaligned() };
        if u32::from(descriptor.Flags) & CM_RESOURCE_INTERRUPT_MESSAGE == 0 {
            return 1;
        }
        // SAFETY: the raw half of a message interrupt.
        let message = unsafe { descriptor.u.MessageInterrupt };
        // SAFETY: as above.
        let raw = unsafe { message.__bindgen_anon_1.Raw };
        usize::from(raw.MessageCount).max(1)
    }
}

/// The descriptors of the first full list.
///
/// # Safety
/// As [`ResourceList::from_wdm`].
unsafe fn copy(list: PCM_RESOURCE_LIST) -> Vec<CM_PARTIAL_RESOURCE_DESCRIPTOR> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: the caller's promise; place expressions only.
    let partial = unsafe { &raw const (*list).List[0].PartialResourceList };
    // SAFETY: as above.
    let count = unsafe { (*partial).Count } as usize;
    // SAFETY: as above; the descriptors follow the header.
    let first = unsafe { &raw const (*partial).PartialDescriptors }
        .cast::<CM_PARTIAL_RESOURCE_DESCRIPTOR>();
    let descriptor = |index| {
        // SAFETY: the list has `count` descriptors.
        unsafe { first.wrapping_add(index).read_unaligned() }
    };
    (0..count).map(descriptor).collect()
}

fn list(globals: PWDF_DRIVER_GLOBALS, value: WDFCMRESLIST) -> Arc<ResourceList> {
    handle::get(DriverGlobals::from_ddi(globals), value as usize)
}

/// How many descriptors there are. `PASSIVE_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfCmResourceListGetCount(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFCMRESLIST,
) -> ULONG {
    list(globals, value).descriptors.len() as ULONG
}

/// A descriptor, or NULL past the end. `PASSIVE_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfCmResourceListGetDescriptor(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFCMRESLIST,
    index: ULONG,
) -> PCM_PARTIAL_RESOURCE_DESCRIPTOR {
    list(globals, value).get(index as usize)
}
