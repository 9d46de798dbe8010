//! The kernel's own structures, seen through small accessors: requests, stack locations, MDLs, strings.
//!
//! Every function here that takes a raw pointer relies on the same thing: the kernel handed the structure to the framework
//! and it is still the framework's (an IRP until it is completed or sent on, a device object while its device exists).

#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "each accessor names one place in a structure of nested unions"
)]

use std::ffi::c_void;

use crate::flat::*;
use machine_nt::exports::{
    IofCallDriver, IofCompleteRequest, MmMapLockedPagesSpecifyCache, PoCallDriver,
    PoStartNextPowerIrp,
};
use machine_nt::ke::stack::machine_code;

/// A completion routine.
pub(crate) type CompletionRoutine =
    unsafe extern "win64" fn(PDEVICE_OBJECT, PIRP, PVOID) -> NTSTATUS;

/// `NT_SUCCESS`.
pub(crate) fn success(status: NTSTATUS) -> bool {
    status >= 0
}

/// The outcome of a DDI as the status it returns.
pub(crate) fn status_of(result: Result<(), NTSTATUS>) -> NTSTATUS {
    result.err().unwrap_or(STATUS_SUCCESS)
}

/// A status as a `Result`.
pub(crate) fn check(status: NTSTATUS) -> Result<(), NTSTATUS> {
    if success(status) { Ok(()) } else { Err(status) }
}

/// `METHOD_FROM_CTL_CODE`.
pub(crate) fn transfer_method(code: u32) -> u32 {
    code & 3
}

/// An I/O request packet that the framework owns at this moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Irp(PIRP);

// SAFETY: an IRP is passed between threads; its owner is one at a time.
unsafe impl Send for Irp {}
// SAFETY: as above.
unsafe impl Sync for Irp {}

impl Irp {
    /// Takes an IRP in hand.
    ///
    /// # Safety
    /// The kernel gave `irp` to the framework, which keeps it until it completes it or sends it on.
    pub(crate) unsafe fn new(irp: PIRP) -> Self {
        Self(irp)
    }

    /// The packet's address.
    pub(crate) fn raw(self) -> PIRP {
        self.0
    }

    /// The current stack location.
    pub(crate) fn stack(self) -> PIO_STACK_LOCATION {
        // SAFETY: see the module.
        unsafe {
            (*self.0)
                .Tail
                .Overlay
                .__bindgen_anon_2
                .__bindgen_anon_1
                .CurrentStackLocation
        }
    }

    fn next_stack(self) -> PIO_STACK_LOCATION {
        self.stack().wrapping_sub(1)
    }

    /// `IRP_MJ_*`.
    pub(crate) fn major(self) -> u32 {
        // SAFETY: see the module.
        u32::from(unsafe { (*self.stack()).MajorFunction })
    }

    /// `IRP_MN_*`.
    pub(crate) fn minor(self) -> u32 {
        // SAFETY: see the module.
        u32::from(unsafe { (*self.stack()).MinorFunction })
    }

    /// Whether the current stack location is one of the packet's own.
    pub(crate) fn has_stack_location(self) -> bool {
        // SAFETY: see the module.
        let current = unsafe { (*self.0).CurrentLocation };
        // SAFETY: see the module.
        let count = unsafe { (*self.0).StackCount };
        current <= count
    }

    /// `IoStatus.Status`.
    pub(crate) fn status(self) -> NTSTATUS {
        // SAFETY: see the module.
        unsafe { (*self.0).IoStatus.__bindgen_anon_1.Status }
    }

    /// Sets `IoStatus.Status`.
    pub(crate) fn set_status(self, status: NTSTATUS) {
        // SAFETY: see the module.
        unsafe { (*self.0).IoStatus.__bindgen_anon_1.Status = status };
    }

    /// `IoStatus.Information`.
    pub(crate) fn information(self) -> usize {
        // SAFETY: see the module.
        unsafe { (*self.0).IoStatus.Information as usize }
    }

    /// Sets `IoStatus.Information`.
    pub(crate) fn set_information(self, information: usize) {
        // SAFETY: see the module.
        unsafe { (*self.0).IoStatus.Information = information as _ };
    }

    /// The MDL of a direct transfer.
    pub(crate) fn mdl(self) -> PMDL {
        // SAFETY: see the module.
        unsafe { (*self.0).MdlAddress }
    }

    /// The buffer of a buffered transfer.
    pub(crate) fn system_buffer(self) -> *mut c_void {
        // SAFETY: see the module.
        unsafe { (*self.0).AssociatedIrp.SystemBuffer.cast() }
    }

    /// The caller's own buffer.
    pub(crate) fn user_buffer(self) -> *mut c_void {
        // SAFETY: see the module.
        unsafe { (*self.0).UserBuffer.cast() }
    }

    /// Who asked.
    pub(crate) fn requestor_mode(self) -> KPROCESSOR_MODE {
        // SAFETY: see the module.
        unsafe { (*self.0).RequestorMode }
    }

    /// Whether user mode asked.
    pub(crate) fn is_from_user(self) -> bool {
        self.requestor_mode() as i64 == UserMode as i64
    }

    /// `Flags`.
    pub(crate) fn flags(self) -> u32 {
        // SAFETY: see the module.
        unsafe { (*self.0).Flags }
    }

    /// Sets `Flags`.
    pub(crate) fn set_flags(self, flags: u32) {
        // SAFETY: see the module.
        unsafe { (*self.0).Flags = flags as _ };
    }

    /// Whether cancellation was asked for.
    pub(crate) fn is_cancelled(self) -> bool {
        // SAFETY: see the module.
        unsafe { (&raw const (*self.0).Cancel).read_volatile() != 0 }
    }

    /// The IRQL to return to from the cancel spin lock.
    pub(crate) fn cancel_irql(self) -> KIRQL {
        // SAFETY: see the module.
        unsafe { (*self.0).CancelIrql }
    }

    /// `IoSetCancelRoutine`: exchanges the cancel routine; true if there was one.
    pub(crate) fn exchange_cancel_routine(self, routine: PDRIVER_CANCEL) -> bool {
        // SAFETY: see the module; the field is a pointer-sized word.
        let field = unsafe { &raw mut (*self.0).CancelRoutine }.cast::<usize>();
        // SAFETY: the kernel changes the field with atomic exchanges only.
        let cell = unsafe { std::sync::atomic::AtomicUsize::from_ptr(field) };
        let value = routine.map_or(0, |routine| routine as usize);
        cell.swap(value, std::sync::atomic::Ordering::SeqCst) != 0
    }

    /// One of the four words of the driver that owns the packet.
    pub(crate) fn set_driver_context(self, index: usize, value: usize) {
        // SAFETY: see the module.
        unsafe {
            (*self.0)
                .Tail
                .Overlay
                .__bindgen_anon_1
                .__bindgen_anon_1
                .DriverContext[index] = value as _
        };
    }

    /// See [`Irp::set_driver_context`].
    pub(crate) fn driver_context(self, index: usize) -> usize {
        // SAFETY: see the module.
        unsafe {
            (*self.0)
                .Tail
                .Overlay
                .__bindgen_anon_1
                .__bindgen_anon_1
                .DriverContext[index] as usize
        }
    }

    /// The file object of the current stack location.
    pub(crate) fn file_object(self) -> PFILE_OBJECT {
        // SAFETY: see the module.
        unsafe { (*self.stack()).FileObject }
    }

    /// Bytes of a read or write.
    pub(crate) fn transfer_length(self) -> u32 {
        // SAFETY: see the module; Length is at the same place for reads and writes.
        unsafe { (*self.stack()).Parameters.Read.Length }
    }

    /// Input bytes of a device control.
    pub(crate) fn input_length(self) -> u32 {
        // SAFETY: see the module.
        unsafe { (*self.stack()).Parameters.DeviceIoControl.InputBufferLength }
    }

    /// Output bytes of a device control.
    pub(crate) fn output_length(self) -> u32 {
        // SAFETY: see the module.
        unsafe {
            (*self.stack())
                .Parameters
                .DeviceIoControl
                .OutputBufferLength
        }
    }

    /// The control code.
    pub(crate) fn control_code(self) -> u32 {
        // SAFETY: see the module.
        unsafe { (*self.stack()).Parameters.DeviceIoControl.IoControlCode }
    }

    /// Whether this is an (internal) device control.
    pub(crate) fn is_control(self) -> bool {
        let major = self.major();
        major == IRP_MJ_DEVICE_CONTROL || major == IRP_MJ_INTERNAL_DEVICE_CONTROL
    }

    /// `IoMarkIrpPending`.
    pub(crate) fn mark_pending(self) {
        // SAFETY: see the module.
        unsafe { (*self.stack()).Control |= SL_PENDING_RETURNED as u8 };
    }

    /// Whether a lower driver returned `STATUS_PENDING`.
    pub(crate) fn pending_returned(self) -> bool {
        // SAFETY: see the module.
        unsafe { (*self.0).PendingReturned != 0 }
    }

    /// `IoCompleteRequest`.
    pub(crate) fn complete(self, boost: i8) {
        // SAFETY: see the module; the packet is not touched afterwards.
        unsafe { IofCompleteRequest(self.0, boost as _) };
    }

    /// Sets status and no information, and completes without boost.
    pub(crate) fn complete_with(self, status: NTSTATUS) -> NTSTATUS {
        self.set_status(status);
        self.set_information(0);
        self.complete(IO_NO_INCREMENT as i8);
        status
    }

    /// `IoSkipCurrentIrpStackLocation`.
    pub(crate) fn skip_stack_location(self) {
        // SAFETY: see the module.
        unsafe { (*self.0).CurrentLocation += 1 };
        let stack = self.stack().wrapping_add(1);
        // SAFETY: see the module.
        unsafe {
            (*self.0)
                .Tail
                .Overlay
                .__bindgen_anon_2
                .__bindgen_anon_1
                .CurrentStackLocation = stack
        };
    }

    /// `IoCopyCurrentIrpStackLocationToNext`.
    pub(crate) fn copy_stack_to_next(self) {
        let (from, to) = (self.stack(), self.next_stack());
        // SAFETY: see the module; two different locations of the packet, the next one free for the framework to fill.
        unsafe { to.copy_from_nonoverlapping(from, 1) };
        // SAFETY: see the module.
        unsafe { (*to).Control = 0 };
        // SAFETY: see the module. What belongs to this driver's completion routine is not passed on.
        unsafe { (*to).CompletionRoutine = None };
        // SAFETY: see the module.
        unsafe { (*to).Context = std::ptr::null_mut() };
    }

    /// `IoSetCompletionRoutine` for every outcome.
    pub(crate) fn set_completion(self, routine: CompletionRoutine, context: *mut c_void) {
        let next = self.next_stack();
        // SAFETY: see the module.
        unsafe { (*next).CompletionRoutine = Some(routine) };
        // SAFETY: see the module.
        unsafe { (*next).Context = context.cast() };
        // SAFETY: see the module.
        unsafe {
            (*next).Control =
                (SL_INVOKE_ON_SUCCESS | SL_INVOKE_ON_ERROR | SL_INVOKE_ON_CANCEL) as u8
        };
    }

    /// `IoCallDriver`.
    pub(crate) fn call(self, device: PDEVICE_OBJECT) -> NTSTATUS {
        // SAFETY: see the module; the packet belongs to the lower driver now.
        unsafe { IofCallDriver(device, self.0) }
    }

    /// `PoCallDriver`.
    pub(crate) fn power_call(self, device: PDEVICE_OBJECT) -> NTSTATUS {
        // SAFETY: see the module; the packet belongs to the lower driver now.
        unsafe { PoCallDriver(device, self.0) }
    }

    /// `PoStartNextPowerIrp`.
    pub(crate) fn start_next_power(self) {
        // SAFETY: see the module.
        unsafe { PoStartNextPowerIrp(self.0) };
    }

    /// Sends the packet down and waits until the lower drivers completed it; it is the framework's again then.
    pub(crate) fn send_and_wait(self, device: PDEVICE_OBJECT) -> NTSTATUS {
        let event = crate::lock::Event::new();
        let context = std::ptr::from_ref(&event).cast_mut().cast();
        self.copy_stack_to_next();
        self.set_completion(signal, context);
        if self.call(device) == STATUS_PENDING {
            event.wait(None);
        }
        self.status()
    }

    /// Moves a packet of the framework's own to its first stack location, which it fills for `minor` of `IRP_MJ_PNP`.
    ///
    /// The packet needs one location more than the stack it is sent to.
    fn begin_pnp(self, minor: u32) {
        self.set_status(STATUS_NOT_SUPPORTED);
        // SAFETY: see the module; as `IoSetNextIrpStackLocation` does.
        unsafe { (*self.0).CurrentLocation -= 1 };
        // SAFETY: see the module; as above.
        unsafe {
            (*self.0)
                .Tail
                .Overlay
                .__bindgen_anon_2
                .__bindgen_anon_1
                .CurrentStackLocation = self.next_stack()
        };
        // SAFETY: see the module.
        unsafe { (*self.stack()).MajorFunction = IRP_MJ_PNP as UCHAR };
        // SAFETY: see the module.
        unsafe { (*self.stack()).MinorFunction = minor as UCHAR };
    }

    /// Makes a new packet of the framework's own ask for the device's capabilities.
    pub(crate) fn prepare_capabilities_query(self, capabilities: &mut DEVICE_CAPABILITIES) {
        self.begin_pnp(IRP_MN_QUERY_CAPABILITIES);
        // SAFETY: see the module.
        unsafe { (*self.parameters()).DeviceCapabilities.Capabilities = capabilities };
    }

    /// Makes a new packet of the framework's own ask for an interface.
    pub(crate) fn prepare_interface_query(
        self,
        kind: *const GUID,
        interface: PINTERFACE,
        (size, version): (USHORT, USHORT),
        data: PVOID,
    ) {
        self.begin_pnp(IRP_MN_QUERY_INTERFACE);
        // SAFETY: see the module.
        let query = unsafe { &mut (*self.parameters()).QueryInterface };
        query.InterfaceType = kind;
        query.Interface = interface;
        query.Size = size;
        query.Version = version;
        query.InterfaceSpecificData = data;
    }

    /// The parameters of the current stack location.
    pub(crate) fn parameters(self) -> *mut _IO_STACK_LOCATION__bindgen_ty_1 {
        // SAFETY: see the module.
        unsafe { &raw mut (*self.stack()).Parameters }
    }

    /// Raw and translated resources of `IRP_MN_START_DEVICE`.
    pub(crate) fn start_resources(self) -> (PCM_RESOURCE_LIST, PCM_RESOURCE_LIST) {
        // SAFETY: see the module.
        let start = unsafe { (*self.parameters()).StartDevice };
        (start.AllocatedResources, start.AllocatedResourcesTranslated)
    }

    /// Type and state of a power request.
    pub(crate) fn power_state(self) -> (POWER_STATE_TYPE, POWER_STATE) {
        // SAFETY: see the module.
        let power = unsafe { (*self.parameters()).Power };
        (power.Type, power.State)
    }

    /// The device capabilities being asked for.
    pub(crate) fn capabilities(self) -> PDEVICE_CAPABILITIES {
        // SAFETY: see the module.
        unsafe { (*self.parameters()).DeviceCapabilities.Capabilities }
    }
}

unsafe extern "win64" fn signal(_device: PDEVICE_OBJECT, irp: PIRP, event: PVOID) -> NTSTATUS {
    let _inside = machine_code();
    // SAFETY: the lower driver completed a packet that this completion routine keeps.
    let irp = unsafe { Irp::new(irp) };
    if irp.pending_returned() {
        // SAFETY: the event is on the stack of the thread that waits for it.
        unsafe { &*event.cast::<crate::lock::Event>() }.set();
    }
    STATUS_MORE_PROCESSING_REQUIRED
}

/// A memory descriptor list, or a chain of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mdl(PMDL);

// SAFETY: an MDL describes locked pages; the framework only reads it.
unsafe impl Send for Mdl {}
// SAFETY: as above.
unsafe impl Sync for Mdl {}

impl Mdl {
    /// No MDL.
    pub(crate) const NULL: Self = Self(std::ptr::null_mut());

    /// Takes an MDL in hand.
    ///
    /// # Safety
    /// `mdl` is null or describes memory that stays locked while the value is used.
    pub(crate) unsafe fn new(mdl: PMDL) -> Self {
        Self(mdl)
    }

    /// The list's address.
    pub(crate) fn raw(self) -> PMDL {
        self.0
    }

    /// Whether there is none.
    pub(crate) fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// The next of the chain.
    pub(crate) fn next(self) -> Self {
        // SAFETY: see the module.
        Self(unsafe { (*self.0).Next })
    }

    /// `MmGetMdlByteCount`.
    pub(crate) fn byte_count(self) -> usize {
        // SAFETY: see the module.
        unsafe { (*self.0).ByteCount as usize }
    }

    /// `MmGetMdlByteOffset`.
    pub(crate) fn byte_offset(self) -> usize {
        // SAFETY: see the module.
        unsafe { (*self.0).ByteOffset as usize }
    }

    /// `MmGetMdlVirtualAddress`.
    pub(crate) fn virtual_address(self) -> usize {
        // SAFETY: see the module.
        let start = unsafe { (*self.0).StartVa } as usize;
        start + self.byte_offset()
    }

    /// `MmGetSystemAddressForMdlSafe`, never executable. Null without resources.
    pub(crate) fn system_address(self) -> *mut c_void {
        // SAFETY: see the module.
        let flags = unsafe { (*self.0).MdlFlags } as u32;
        if flags & (MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL) != 0 {
            // SAFETY: see the module.
            return unsafe { (*self.0).MappedSystemVa.cast() };
        }
        // SAFETY: the pages are locked.
        let address = unsafe {
            MmMapLockedPagesSpecifyCache(
                self.0,
                KernelMode as _,
                MmCached,
                std::ptr::null_mut(),
                FALSE as _,
                (NormalPagePriority as u32 | MdlMappingNoExecute) as _,
            )
        };
        address.cast()
    }
}

/// The characters of a counted string.
///
/// # Safety
/// `string` is null or a valid `UNICODE_STRING`.
pub(crate) unsafe fn wide(string: *const UNICODE_STRING) -> Vec<u16> {
    // SAFETY: the caller's promise.
    let Some(string) = (unsafe { string.as_ref() }) else {
        return Vec::new();
    };
    if string.Buffer.is_null() {
        return Vec::new();
    }
    // SAFETY: a valid string has `Length` bytes at `Buffer`.
    unsafe { std::slice::from_raw_parts(string.Buffer, string.Length as usize / 2) }.to_vec()
}

/// Text as UTF-16.
pub(crate) fn utf16(text: &str) -> Vec<u16> {
    text.encode_utf16().collect()
}

/// A counted string over `text`, which must outlive it.
pub(crate) fn unicode(text: &[u16]) -> UNICODE_STRING {
    let bytes = (text.len() * 2) as u16;
    UNICODE_STRING {
        Length: bytes,
        MaximumLength: bytes,
        Buffer: text.as_ptr().cast_mut(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counted_string_counts_bytes_and_keeps_its_text() {
        let text = utf16("abc");
        let string = unicode(&text);
        assert_eq!((string.Length, string.MaximumLength), (6, 6));
        // SAFETY: made from `text` just above.
        assert_eq!(unsafe { wide(&raw const string) }, text);
        // SAFETY: null is allowed.
        assert!(unsafe { wide(std::ptr::null()) }.is_empty());
    }

    #[test]
    fn the_transfer_method_is_in_the_two_low_bits() {
        assert_eq!(transfer_method(0x0022_2003), METHOD_NEITHER);
        assert_eq!(transfer_method(0x0022_2006), METHOD_OUT_DIRECT);
    }
}
