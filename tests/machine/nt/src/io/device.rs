//! Device objects and their stacks.

use super::names;
use super::packet::iomanager;
use crate::bugcheck::{self, code};
use crate::entry::{borrow, enter_with};
use crate::ex::pool::{self, Pool};
use crate::ke::event::KeInitializeEvent;
use crate::ob;
use crate::sched::{APC_LEVEL, DISPATCH_LEVEL, PASSIVE_LEVEL};
use nt_sys::{
    BOOLEAN, DEVICE_OBJECT, DEVICE_TYPE, DRIVER_OBJECT, NTSTATUS, PDEVICE_OBJECT, PDRIVER_OBJECT,
    PUNICODE_STRING, STATUS_INSUFFICIENT_RESOURCES, STATUS_NO_SUCH_DEVICE, STATUS_SUCCESS, ULONG,
    USHORT,
};
use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

const IO_TYPE_DEVICE: i16 = nt_sys::IO_TYPE_DEVICE as i16;
const IO_TYPE_EXTENSION: i16 = nt_sys::IO_TYPE_DEVICE_OBJECT_EXTENSION as i16;
/// The pool tag of device extensions.
const TAG: u32 = u32::from_le_bytes(*b"Devi");

/// DEVOBJ_EXTENSION, which drivers do not look into: where Windows keeps what lies below a device.
#[repr(C)]
struct Extension {
    kind: i16,
    size: u16,
    device: PDEVICE_OBJECT,
    power_flags: u32,
    dope: *mut c_void,
    flags: u32,
    device_node: *mut c_void,
    attached_to: PDEVICE_OBJECT,
}

/// `Extension.flags`: IoDeleteDevice was called.
const DELETE_PENDING: u32 = 0x2;

/// Numbers the names that the I/O manager gives to devices.
static NEXT_NAME: AtomicU32 = AtomicU32::new(1);

/// A device object that a routine was passed. NULL is 0xC9, 0x204; anything else that is none 0xC9, 4.
///
/// # Safety
/// `device` is NULL or points to what is, or was, a device object; the borrow ends before the next switch point.
pub(super) unsafe fn object<'a>(device: PDEVICE_OBJECT, routine: &str) -> &'a mut DEVICE_OBJECT {
    // SAFETY: by the caller's promise.
    match unsafe { device.as_mut() } {
        Some(object) if object.Type == IO_TYPE_DEVICE => object,
        Some(_) => iomanager(
            [4, device.addr() as u64, 0, 0],
            format!("{routine}: {device:p} is no device object, or was deleted"),
        ),
        None => iomanager(
            [0x204, 0, 0, 0],
            format!("{routine}: the device object is NULL"),
        ),
    }
}

/// The extension that the I/O manager keeps for a device.
fn extension(object: &mut DEVICE_OBJECT) -> &mut Extension {
    // SAFETY: IoCreateDevice made it; it lives as long as the device object.
    unsafe { &mut *object.DeviceObjectExtension.cast::<Extension>() }
}

/// The driver object of a device.
///
/// # Safety
/// As [`object`].
pub(super) unsafe fn driver_of<'a>(device: PDEVICE_OBJECT) -> &'a DRIVER_OBJECT {
    // SAFETY: by the caller's promise.
    let driver = unsafe { object(device, "IoCallDriver") }.DriverObject;
    // SAFETY: the driver object of a device that is not deleted.
    unsafe { borrow(driver, "IoCallDriver") }
}

/// The device below in the stack, or NULL.
///
/// # Safety
/// `device` is a device object.
pub unsafe fn lower(device: PDEVICE_OBJECT) -> PDEVICE_OBJECT {
    // SAFETY: by the caller's promise.
    extension(unsafe { object(device, "IoGetLowerDeviceObject") }).attached_to
}

/// The highest device of the stack.
///
/// # Safety
/// `device` is a device object.
pub unsafe fn highest(device: PDEVICE_OBJECT) -> PDEVICE_OBJECT {
    let mut top = device;
    loop {
        // SAFETY: by the caller's promise; what is attached is a device object.
        let above = unsafe { object(top, "IoGetAttachedDevice") }.AttachedDevice;
        if above.is_null() {
            return top;
        }
        top = above;
    }
}

/// The last reference is gone.
fn delete(object: *mut c_void) {
    let device: PDEVICE_OBJECT = object.cast();
    names::remove_device(device);
    // SAFETY: nobody refers to the device any more.
    let object = unsafe { self::object(device, "IoDeleteDevice") };
    if !object.DeviceExtension.is_null() {
        // SAFETY: allocated with the device.
        unsafe { pool::free(object.DeviceExtension) };
    }
    // SAFETY: made with the device, and used no more.
    drop(unsafe { Box::from_raw(object.DeviceObjectExtension.cast::<Extension>()) });
}

/// IoCreateDevice. IRQL <= APC_LEVEL. The extension is zeroed nonpaged memory.
///
/// # Safety
/// As for the Windows routine.
pub unsafe extern "win64" fn IoCreateDevice(
    driver: PDRIVER_OBJECT,
    extension_size: ULONG,
    name: PUNICODE_STRING,
    device_type: DEVICE_TYPE,
    characteristics: ULONG,
    exclusive: BOOLEAN,
    device: *mut PDEVICE_OBJECT,
) -> NTSTATUS {
    let _inside = enter_with("IoCreateDevice", APC_LEVEL, driver.addr());
    let body = match allocate_extension(extension_size as usize) {
        Ok(body) => body,
        Err(status) => return status,
    };
    // SAFETY: by the caller's promise.
    let driver_object = unsafe { borrow(driver, "IoCreateDevice") };
    let memory = ob::create(ob::Kind::Device, size_of::<DEVICE_OBJECT>(), delete);
    let new: PDEVICE_OBJECT = memory.cast();
    // SAFETY: the zeroed body of a fresh object, which is a valid DEVICE_OBJECT.
    let object = unsafe { borrow(new, "IoCreateDevice") };
    object.Type = IO_TYPE_DEVICE;
    object.Size = (size_of::<DEVICE_OBJECT>() + extension_size as usize) as USHORT;
    object.DriverObject = driver;
    object.NextDevice = driver_object.DeviceObject;
    object.Flags = nt_sys::DO_DEVICE_INITIALIZING
        | if exclusive != 0 {
            nt_sys::DO_EXCLUSIVE
        } else {
            0
        };
    object.Characteristics = characteristics;
    object.DeviceExtension = body;
    object.DeviceType = device_type;
    object.StackSize = 1;
    let extension = Box::new(Extension {
        kind: IO_TYPE_EXTENSION,
        size: size_of::<Extension>() as u16,
        device: new,
        power_flags: 0,
        dope: std::ptr::null_mut(),
        flags: 0,
        device_node: std::ptr::null_mut(),
        attached_to: std::ptr::null_mut(),
    });
    object.DeviceObjectExtension = Box::into_raw(extension).cast();
    let lock = &raw mut object.DeviceLock;
    // SAFETY: a field of the new object.
    unsafe { KeInitializeEvent(lock, nt_sys::_EVENT_TYPE::SynchronizationEvent, 1) };
    // SAFETY: by the caller's promise.
    let name = unsafe { names::read(name) }
        .filter(|name| !name.is_empty())
        .or_else(|| {
            let generate = characteristics & nt_sys::FILE_AUTOGENERATED_DEVICE_NAME != 0;
            generate.then(|| format!(r"\Device\{:08x}", NEXT_NAME.fetch_add(1, Relaxed)))
        });
    if let Some(Err(status)) = name.map(|name| names::insert_device(&name, new)) {
        // SAFETY: the only reference.
        unsafe { ob::dereference(memory) };
        return status;
    }
    driver_object.DeviceObject = new;
    // SAFETY: by the caller's promise.
    *unsafe { borrow(device, "IoCreateDevice") } = new;
    STATUS_SUCCESS
}

fn allocate_extension(size: usize) -> Result<*mut c_void, NTSTATUS> {
    if size == 0 {
        return Ok(std::ptr::null_mut());
    }
    let block = pool::allocate(Pool::NonPaged, size, TAG).ok_or(STATUS_INSUFFICIENT_RESOURCES)?;
    // SAFETY: a fresh block of this size.
    unsafe { block.cast::<u8>().write_bytes(0, size) };
    Ok(block)
}

/// IoDeleteDevice. IRQL = PASSIVE_LEVEL. A device that is attached to one below is 0xC9, 0x201; one that was deleted
/// already 0x240. The object goes when nobody refers to it any more.
///
/// # Safety
/// `device` is a device object of the caller's driver.
pub unsafe extern "win64" fn IoDeleteDevice(device: PDEVICE_OBJECT) {
    let _inside = enter_with("IoDeleteDevice", PASSIVE_LEVEL, device.addr());
    // SAFETY: by the caller's promise.
    let object = unsafe { object(device, "IoDeleteDevice") };
    let driver = object.DriverObject;
    let next = object.NextDevice;
    let extension = extension(object);
    if !extension.attached_to.is_null() {
        let explanation = format!(
            "IoDeleteDevice of {device:p}, which is still attached to {:p}",
            extension.attached_to
        );
        iomanager([0x201, device.addr() as u64, 0, 0], explanation);
    }
    if extension.flags & DELETE_PENDING != 0 {
        let explanation = format!("IoDeleteDevice of {device:p}, which was deleted already");
        iomanager([0x240, device.addr() as u64, 0, 0], explanation);
    }
    extension.flags |= DELETE_PENDING;
    unlink(driver, device, next);
    names::remove_device(device);
    // SAFETY: the reference that IoCreateDevice made.
    unsafe { ob::dereference(device.cast()) };
}

/// Takes a device out of its driver's list.
fn unlink(driver: PDRIVER_OBJECT, device: PDEVICE_OBJECT, next: PDEVICE_OBJECT) {
    // SAFETY: the driver object of a device object.
    let mut link = &mut unsafe { borrow(driver, "IoDeleteDevice") }.DeviceObject;
    while *link != device {
        // SAFETY: the list consists of device objects.
        match unsafe { link.as_mut() } {
            Some(object) => link = &mut object.NextDevice,
            None => return,
        }
    }
    *link = next;
}

/// Puts `source` on top of the stack of `target`; what it is attached to, or NULL. A device that is deleted goes when
/// nothing is attached to it any more.
fn attach(source: PDEVICE_OBJECT, target: PDEVICE_OBJECT) -> PDEVICE_OBJECT {
    // SAFETY: the callers promise device objects.
    let top = unsafe { highest(target) };
    // SAFETY: as above.
    let below = unsafe { object(top, "IoAttachDeviceToDeviceStack") };
    let (stack_size, alignment) = (below.StackSize, below.AlignmentRequirement);
    if extension(below).flags & DELETE_PENDING != 0 || top == source {
        return std::ptr::null_mut();
    }
    below.AttachedDevice = source;
    // SAFETY: as above; another object.
    let above = unsafe { object(source, "IoAttachDeviceToDeviceStack") };
    above.StackSize = stack_size + 1;
    above.AlignmentRequirement = alignment;
    extension(above).attached_to = top;
    // SAFETY: a device object; given up by IoDetachDevice.
    unsafe { ob::reference(top.cast()) };
    top
}

/// IoAttachDeviceToDeviceStack. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// Both are device objects.
pub unsafe extern "win64" fn IoAttachDeviceToDeviceStack(
    source: PDEVICE_OBJECT,
    target: PDEVICE_OBJECT,
) -> PDEVICE_OBJECT {
    let _inside = enter_with("IoAttachDeviceToDeviceStack", DISPATCH_LEVEL, source.addr());
    attach(source, target)
}

/// IoAttachDeviceToDeviceStackSafe. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// Both are device objects; `attached` is valid.
pub unsafe extern "win64" fn IoAttachDeviceToDeviceStackSafe(
    source: PDEVICE_OBJECT,
    target: PDEVICE_OBJECT,
    attached: *mut PDEVICE_OBJECT,
) -> NTSTATUS {
    let _inside = enter_with(
        "IoAttachDeviceToDeviceStackSafe",
        DISPATCH_LEVEL,
        source.addr(),
    );
    let top = attach(source, target);
    // SAFETY: by the caller's promise.
    *unsafe { borrow(attached, "IoAttachDeviceToDeviceStackSafe") } = top;
    if top.is_null() {
        STATUS_NO_SUCH_DEVICE
    } else {
        STATUS_SUCCESS
    }
}

/// IoDetachDevice. IRQL = PASSIVE_LEVEL. A device that nothing is attached to is 0xC9, 0x202.
///
/// # Safety
/// `target` is the device that the caller's device is attached to.
pub unsafe extern "win64" fn IoDetachDevice(target: PDEVICE_OBJECT) {
    let _inside = enter_with("IoDetachDevice", PASSIVE_LEVEL, target.addr());
    // SAFETY: by the caller's promise.
    let below = unsafe { object(target, "IoDetachDevice") };
    let above = std::mem::replace(&mut below.AttachedDevice, std::ptr::null_mut());
    if above.is_null() {
        let explanation = format!("IoDetachDevice of {target:p}, to which nothing is attached");
        iomanager([0x202, target.addr() as u64, 0, 0], explanation);
    }
    // SAFETY: what is attached is a device object.
    let above = unsafe { object(above, "IoDetachDevice") };
    extension(above).attached_to = std::ptr::null_mut();
    // SAFETY: the reference of the attachment.
    unsafe { ob::dereference(target.cast()) };
}

/// IoGetAttachedDeviceReference. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// `device` is a device object.
pub unsafe extern "win64" fn IoGetAttachedDeviceReference(
    device: PDEVICE_OBJECT,
) -> PDEVICE_OBJECT {
    let _inside = enter_with(
        "IoGetAttachedDeviceReference",
        DISPATCH_LEVEL,
        device.addr(),
    );
    // SAFETY: by the caller's promise.
    let top = unsafe { highest(device) };
    // SAFETY: a live device object.
    unsafe { ob::reference(top.cast()) };
    top
}

/// IoCreateSymbolicLink. IRQL = PASSIVE_LEVEL.
///
/// # Safety
/// Both are valid strings.
pub unsafe extern "win64" fn IoCreateSymbolicLink(
    link: PUNICODE_STRING,
    target: PUNICODE_STRING,
) -> NTSTATUS {
    let _inside = enter_with("IoCreateSymbolicLink", PASSIVE_LEVEL, link.addr());
    // SAFETY: by the caller's promise.
    let name = unsafe { names::read(link) };
    // SAFETY: by the caller's promise.
    let target = unsafe { names::read(target) };
    match name.zip(target) {
        Some((name, target)) => names::insert_link(&name, &target)
            .err()
            .unwrap_or(STATUS_SUCCESS),
        None => bugcheck::stop(
            code::KMODE_EXCEPTION_NOT_HANDLED,
            [0xC000_0005, 0, 0, 0],
            "IoCreateSymbolicLink was passed a NULL string",
        ),
    }
}

/// IoDeleteSymbolicLink. IRQL = PASSIVE_LEVEL.
///
/// # Safety
/// `link` is a valid string.
pub unsafe extern "win64" fn IoDeleteSymbolicLink(link: PUNICODE_STRING) -> NTSTATUS {
    let _inside = enter_with("IoDeleteSymbolicLink", PASSIVE_LEVEL, link.addr());
    // SAFETY: by the caller's promise.
    let name = unsafe { names::read(link) }.unwrap_or_default();
    names::remove_link(&name).err().unwrap_or(STATUS_SUCCESS)
}
