//! The system's names as C has them: enumeration constants without the name of their enumeration.
//!
//! `nt-sys` keeps each enumeration's constants in a module of its own; the framework names so many of them that it uses
//! them flat.

pub(crate) use nt_sys::_CM_SHARE_DISPOSITION::*;
pub(crate) use nt_sys::_DEVICE_POWER_STATE::*;
pub(crate) use nt_sys::_EVENT_TYPE::*;
pub(crate) use nt_sys::_INTERFACE_TYPE::*;
pub(crate) use nt_sys::_IO_ALLOCATION_ACTION::*;
pub(crate) use nt_sys::_KEY_VALUE_INFORMATION_CLASS::*;
pub(crate) use nt_sys::_KINTERRUPT_MODE::*;
pub(crate) use nt_sys::_KWAIT_REASON::*;
pub(crate) use nt_sys::_MEMORY_CACHING_TYPE::*;
pub(crate) use nt_sys::_MM_PAGE_PRIORITY::*;
pub(crate) use nt_sys::_MODE::*;
pub(crate) use nt_sys::_POWER_STATE_TYPE::*;
pub(crate) use nt_sys::_SYSTEM_POWER_STATE::*;
pub(crate) use nt_sys::_TIMER_TYPE::*;
pub(crate) use nt_sys::_WDF_BUGCHECK_CODES::*;
pub(crate) use nt_sys::_WDF_DEVICE_FAILED_ACTION::*;
pub(crate) use nt_sys::_WDF_DEVICE_IO_TYPE::*;
pub(crate) use nt_sys::_WDF_DEVICE_PNP_STATE::*;
pub(crate) use nt_sys::_WDF_DMA_DIRECTION::*;
pub(crate) use nt_sys::_WDF_DMA_ENABLER_CONFIG_FLAGS::*;
pub(crate) use nt_sys::_WDF_DMA_PROFILE::*;
pub(crate) use nt_sys::_WDF_DRIVER_INIT_FLAGS::*;
pub(crate) use nt_sys::_WDF_EXECUTION_LEVEL::*;
pub(crate) use nt_sys::_WDF_FILEOBJECT_CLASS::*;
pub(crate) use nt_sys::_WDF_IO_QUEUE_DISPATCH_TYPE::*;
pub(crate) use nt_sys::_WDF_IO_QUEUE_STATE::*;
pub(crate) use nt_sys::_WDF_POWER_DEVICE_STATE::*;
pub(crate) use nt_sys::_WDF_RELEASE_HARDWARE_ORDER_ON_FAILURE::*;
pub(crate) use nt_sys::_WDF_REQUEST_FATAL_ERROR_CODES::*;
pub(crate) use nt_sys::_WDF_REQUEST_STOP_ACTION_FLAGS::*;
pub(crate) use nt_sys::_WDF_SYNCHRONIZATION_SCOPE::*;
pub(crate) use nt_sys::_WDF_TRI_STATE::*;
pub(crate) use nt_sys::_WORK_QUEUE_TYPE::*;
pub(crate) use nt_sys::*;
