//! Structures that carry their own size, by which the framework knows the version of it that a driver was built for.
//!
//! The headers' `*_INIT` functions are inline C and not bound; what they set beyond the size is set where a structure is
//! filled in.

use wdk_sys::ULONG;

/// The size of `T`, for its `Size` field.
pub(crate) const fn size<T>() -> ULONG {
    const { assert!(size_of::<T>() <= ULONG::MAX as usize) };
    size_of::<T>() as ULONG
}

/// The sizes that KMDF 1.33 demands of a 64-bit driver: any other is `STATUS_INFO_LENGTH_MISMATCH`.
#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size::<wdk_sys::WDF_DRIVER_CONFIG>() == 32);
    assert!(size::<wdk_sys::WDF_OBJECT_ATTRIBUTES>() == 56);
    assert!(size::<wdk_sys::WDF_OBJECT_CONTEXT_TYPE_INFO>() == 40);
    assert!(size::<wdk_sys::WDF_PNPPOWER_EVENT_CALLBACKS>() == 144);
    assert!(size::<wdk_sys::WDF_IO_QUEUE_CONFIG>() == 96);
    assert!(size::<wdk_sys::WDF_REQUEST_PARAMETERS>() == 40);
    assert!(size::<wdk_sys::WDF_INTERRUPT_CONFIG>() == 104);
    assert!(size::<wdk_sys::WDF_INTERRUPT_INFO>() == 64);
    assert!(size::<wdk_sys::WDF_DMA_ENABLER_CONFIG>() == 80);
    assert!(size::<wdk_sys::WDF_TIMER_CONFIG>() == 40);
    assert!(size::<wdk_sys::WDF_COMMON_BUFFER_CONFIG>() == 8);
    assert!(size::<wdk_sys::WDF_WORKITEM_CONFIG>() == 24);
};
