//! Typed contexts: a driver's own data in a framework object.

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_void};
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, Ordering};

use wdk_sys::{
    _WDF_EXECUTION_LEVEL, _WDF_SYNCHRONIZATION_SCOPE, PVOID, WDF_OBJECT_ATTRIBUTES,
    WDF_OBJECT_CONTEXT_TYPE_INFO, WDFOBJECT,
};

use crate::versioned::size;
use crate::{NtStatus, Result, ddi};

/// Alignment of the memory that the framework gives an object for its context.
const CONTEXT_ALIGNMENT: usize = 16;

/// A type of which an object can hold one value as its context.
///
/// Callbacks for the object run on several processors at once and share the value.
///
/// # Safety
///
/// [`type_info`](Self::type_info) returns the same value every time, made by [`TypeInfo::new`] for this very type and
/// for no other: the framework tells types apart by its address. [`context_type!`](crate::context_type) does that.
pub unsafe trait ContextType: Sized + Send + Sync + 'static {
    /// How the framework knows the type.
    fn type_info() -> &'static TypeInfo;
}

/// How the framework knows a context type.
#[derive(Debug)]
#[repr(transparent)]
pub struct TypeInfo(WDF_OBJECT_CONTEXT_TYPE_INFO);

// SAFETY: it is never written after its initialisation, and points to static storage only.
unsafe impl Sync for TypeInfo {}

impl TypeInfo {
    /// The information for `T`, to be kept in the static variable that `unique` is the address of.
    #[must_use]
    pub const fn new<T>(name: &'static CStr, unique: *const Self) -> Self {
        const {
            assert!(
                align_of::<Place<T>>() <= CONTEXT_ALIGNMENT,
                "the framework aligns contexts to 16 bytes"
            );
        }
        Self(WDF_OBJECT_CONTEXT_TYPE_INFO {
            Size: size::<WDF_OBJECT_CONTEXT_TYPE_INFO>(),
            ContextName: name.as_ptr().cast(),
            ContextSize: size_of::<Place<T>>(),
            UniqueType: unique.cast(),
            EvtDriverGetUniqueContextType: None,
        })
    }
}

/// Lets objects hold a value of the type as their context.
///
/// ```ignore
/// struct Card { /* ... */ }
///
/// kmdf::context_type!(Card);
/// ```
#[macro_export]
macro_rules! context_type {
    ($context:ty) => {
        // SAFETY: the static variable is this type's alone.
        unsafe impl $crate::context::ContextType for $context {
            fn type_info() -> &'static $crate::context::TypeInfo {
                const NAME: &::core::ffi::CStr = match ::core::ffi::CStr::from_bytes_with_nul(
                    concat!(stringify!($context), "\0").as_bytes(),
                ) {
                    Ok(name) => name,
                    Err(_) => panic!("a type's name holds no zero"),
                };
                static INFO: $crate::context::TypeInfo =
                    $crate::context::TypeInfo::new::<$context>(NAME, &raw const INFO);
                &INFO
            }
        }
    };
}

/// Not written yet: the framework zeroes a new context.
const VACANT: u8 = 0;
/// Being written.
const FILLING: u8 = 1;
/// Written, and unchanged until the object is destroyed.
const READY: u8 = 2;

/// What lies in the object: the value, once it has been set.
#[repr(C)]
struct Place<T> {
    state: AtomicU8,
    value: UnsafeCell<MaybeUninit<T>>,
}

impl<T> Place<T> {
    fn get(&self) -> Option<&T> {
        if self.state.load(Ordering::Acquire) != READY {
            return None;
        }
        let value = self.value.get();
        // SAFETY: ready, so it has been written and is not written again while the object lives.
        let value = unsafe { &*value };
        // SAFETY: as above.
        Some(unsafe { value.assume_init_ref() })
    }
}

/// The attributes of an object without a context: what `WDF_OBJECT_ATTRIBUTES_INIT` sets.
pub(crate) fn plain_attributes() -> WDF_OBJECT_ATTRIBUTES {
    WDF_OBJECT_ATTRIBUTES {
        Size: size::<WDF_OBJECT_ATTRIBUTES>(),
        ExecutionLevel: _WDF_EXECUTION_LEVEL::WdfExecutionLevelInheritFromParent,
        SynchronizationScope: _WDF_SYNCHRONIZATION_SCOPE::WdfSynchronizationScopeInheritFromParent,
        ..WDF_OBJECT_ATTRIBUTES::default()
    }
}

/// The attributes of an object with a context of type `T`, which is dropped with the object.
pub(crate) fn attributes<T: ContextType>() -> WDF_OBJECT_ATTRIBUTES {
    WDF_OBJECT_ATTRIBUTES {
        EvtDestroyCallback: Some(destroy::<T>),
        ContextTypeInfo: &raw const T::type_info().0,
        ..plain_attributes()
    }
}

/// Where the context of type `T` lies in the object.
///
/// # Safety
///
/// `object` is a valid object for as long as the result is used.
unsafe fn place<'a, T: ContextType>(object: WDFOBJECT) -> Option<&'a Place<T>> {
    let info = &raw const T::type_info().0;
    // SAFETY: the object is valid, as the caller vouches for, and the information is static.
    let place: PVOID = unsafe { ddi::WdfObjectGetTypedContextWorker(object, info) };
    // SAFETY: what the framework gives for this type's information is that many zeroed and aligned bytes of the
    // object, and only this module has written to them.
    unsafe { place.cast::<Place<T>>().as_ref() }
}

/// The context of type `T`. `None` if the object has none of this type or none has been set yet. Any IRQL.
///
/// # Safety
///
/// `object` is a valid object for as long as the result is used.
pub(crate) unsafe fn get<'a, T: ContextType>(object: WDFOBJECT) -> Option<&'a T> {
    // SAFETY: as the caller vouches for.
    unsafe { place::<T>(object) }.and_then(Place::get)
}

/// Sets the context of type `T`, once. Any IRQL.
///
/// # Errors
///
/// `STATUS_INVALID_DEVICE_STATE` if the object has no context of this type or it has been set already.
///
/// # Safety
///
/// `object` is a valid object.
pub(crate) unsafe fn set<T: ContextType>(object: WDFOBJECT, value: T) -> Result<()> {
    // SAFETY: as the caller vouches for.
    let place = unsafe { place::<T>(object) }.ok_or(NtStatus::INVALID_DEVICE_STATE)?;
    place
        .state
        .compare_exchange(VACANT, FILLING, Ordering::Acquire, Ordering::Relaxed)
        .map_err(|_| NtStatus::INVALID_DEVICE_STATE)?;
    let destination = place.value.get();
    // SAFETY: vacant until now and being filled by this caller, so nobody else reaches the value.
    unsafe { destination.write(MaybeUninit::new(value)) };
    place.state.store(READY, Ordering::Release);
    Ok(())
}

/// Where the context of a device is, kept in the objects that are made for it: their callbacks reach it with one call of
/// the framework, or none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Home {
    info: &'static TypeInfo,
    place: NonNull<c_void>,
}

// SAFETY: where the context lies belongs to no thread, and contexts are shared.
unsafe impl Send for Home {}

// SAFETY: as above.
unsafe impl Sync for Home {}

crate::context_type!(Home);

impl Home {
    /// Where the context of type `T` of an object is, whether it has been set yet or not. Any IRQL.
    ///
    /// # Errors
    ///
    /// `STATUS_INVALID_DEVICE_STATE` if the object has no context of this type.
    ///
    /// # Safety
    ///
    /// `object` is a valid object.
    pub(crate) unsafe fn of<T: ContextType>(object: WDFOBJECT) -> Result<Self> {
        // SAFETY: as the caller vouches for.
        let place = unsafe { place::<T>(object) }.ok_or(NtStatus::INVALID_DEVICE_STATE)?;
        Ok(Self {
            info: T::type_info(),
            place: NonNull::from(place).cast(),
        })
    }

    /// The context. `None` if it is of another type or has not been set yet. Any IRQL.
    ///
    /// # Safety
    ///
    /// The object is valid for as long as the result is used.
    pub(crate) unsafe fn get<'a, T: ContextType>(&self) -> Option<&'a T> {
        if !core::ptr::eq(self.info, T::type_info()) {
            return None;
        }
        // SAFETY: a place for this type, in an object that is valid as the caller vouches for.
        unsafe { self.place.cast::<Place<T>>().as_ref() }.get()
    }
}

/// The context of type `T` of the device that an object was made for, whose own context is a [`Home`]. Any IRQL.
///
/// # Safety
///
/// `object` and the device are valid for as long as the result is used.
pub(crate) unsafe fn of_device<'a, T: ContextType>(object: WDFOBJECT) -> Option<&'a T> {
    // SAFETY: as the caller vouches for.
    let home = unsafe { get::<Home>(object) }?;
    // SAFETY: as above.
    unsafe { home.get() }
}

/// `EvtDestroyCallback`: the object's last reference has gone.
unsafe extern "C" fn destroy<T: ContextType>(object: WDFOBJECT) {
    // SAFETY: the object's memory is there until this returns.
    let Some(place) = (unsafe { place::<T>(object) }) else {
        return;
    };
    if place.state.swap(VACANT, Ordering::Acquire) == READY {
        let value = place.value.get();
        // SAFETY: it was ready, and without a reference to the object nobody uses the context any more.
        let value = unsafe { &mut *value };
        // SAFETY: ready means written, and it is dropped once, since the place is vacant now.
        unsafe { value.assume_init_drop() };
    }
}
