//! The layouts as Rust sees them. The headers check the same in C; here it is the bindings that are on trial.

use core::mem::offset_of;
use core::ptr;

use crate::inline::*;
use crate::*;

#[test]
fn sizes_are_those_of_windows_x64() {
    assert_eq!(size_of::<IRP>(), 0xd0);
    assert_eq!(size_of::<IO_STACK_LOCATION>(), 0x48);
    assert_eq!(size_of::<DEVICE_OBJECT>(), 0x150);
    assert_eq!(align_of::<DEVICE_OBJECT>(), 16);
    assert_eq!(size_of::<DRIVER_OBJECT>(), 0x150);
    assert_eq!(size_of::<FILE_OBJECT>(), 0xd8);
    assert_eq!(size_of::<MDL>(), 0x30);
    assert_eq!(size_of::<KDPC>(), 0x40);
    assert_eq!(size_of::<KTIMER>(), 0x40);
    assert_eq!(size_of::<DMA_OPERATIONS>(), 0x140);
    assert_eq!(size_of::<ctypes::c_long>(), 4);
}

#[test]
fn offsets_are_those_of_windows_x64() {
    assert_eq!(offset_of!(IRP, IoStatus), 0x30);
    assert_eq!(offset_of!(IRP, CancelRoutine), 0x68);
    assert_eq!(offset_of!(IRP, Tail), 0x78);
    assert_eq!(offset_of!(IO_STACK_LOCATION, Parameters), 0x08);
    assert_eq!(offset_of!(IO_STACK_LOCATION, CompletionRoutine), 0x38);
    assert_eq!(offset_of!(DEVICE_OBJECT, DeviceExtension), 0x40);
    assert_eq!(offset_of!(DEVICE_OBJECT, AlignmentRequirement), 0x98);
    assert_eq!(offset_of!(DRIVER_OBJECT, MajorFunction), 0x70);
    assert_eq!(offset_of!(DMA_OPERATIONS, MapTransferEx), 0xb8);
}

#[test]
fn resource_lists_are_packed() {
    assert_eq!(size_of::<CM_PARTIAL_RESOURCE_DESCRIPTOR>(), 20);
    assert_eq!(align_of::<CM_PARTIAL_RESOURCE_DESCRIPTOR>(), 4);
    assert_eq!(size_of::<CM_RESOURCE_LIST>(), 40);
    assert_eq!(size_of::<IO_RESOURCE_DESCRIPTOR>(), 32);
}

#[test]
fn the_scatter_gather_list_ends_in_a_flexible_array() {
    assert_eq!(size_of::<SCATTER_GATHER_LIST>(), 16);
    assert_eq!(offset_of!(SCATTER_GATHER_LIST, Elements), 16);
    assert_eq!(size_of::<SCATTER_GATHER_ELEMENT>(), 24);
}

#[test]
fn constants_have_the_types_of_their_use() {
    let failure: NTSTATUS = STATUS_INSUFFICIENT_RESOURCES;
    assert!(!nt_success(failure));
    assert!(nt_success(STATUS_PENDING));
    assert_eq!(STATUS_WDF_TOO_FRAGMENTED.cast_unsigned(), 0xc020_020a);
    let flags: POOL_FLAGS = POOL_FLAG_NON_PAGED;
    assert_eq!(flags, 0x40);
}

#[test]
fn the_function_table_is_complete_and_in_order() {
    let names = ddi_names();
    assert_eq!(names.len(), 458);
    assert!(
        names
            .iter()
            .enumerate()
            .all(|(position, &(_, index))| position == index)
    );
    assert_eq!(
        names[_WDFFUNCENUM::WdfDmaEnablerCreateTableIndex as usize].0,
        "WdfDmaEnablerCreate"
    );
    assert_eq!(
        names[_WDFFUNCENUM::WdfDeviceSetDeviceInterfaceStateExTableIndex as usize].1,
        457
    );
}

#[test]
fn guids_read_as_they_are_written() {
    let guid = GUID::from_u128(0x49215dff_f5ac_4901_8588_ab3d540f6021);
    assert_eq!(
        (guid.Data1, guid.Data2, guid.Data3),
        (0x4921_5dff, 0xf5ac, 0x4901)
    );
    assert_eq!(guid.Data4, [0x85, 0x88, 0xab, 0x3d, 0x54, 0x0f, 0x60, 0x21]);
}

#[test]
fn a_record_is_found_from_its_field() {
    let mut timer = KTIMER::default();
    let entry = &raw mut timer.TimerListEntry;
    assert_eq!(
        containing_record!(entry, KTIMER, TimerListEntry),
        &raw mut timer
    );
}

#[test]
fn lists_keep_their_order() {
    let mut head = LIST_ENTRY {
        Flink: ptr::null_mut(),
        Blink: ptr::null_mut(),
    };
    let (mut a, mut b) = (head, head);
    let (head, a, b) = (&raw mut head, &raw mut a, &raw mut b);
    // SAFETY: the three entries outlive the list.
    unsafe { InitializeListHead(head) };
    // SAFETY: as above.
    unsafe { InsertTailList(head, a) };
    // SAFETY: as above.
    unsafe { InsertHeadList(head, b) };
    // SAFETY: as above.
    assert_eq!(unsafe { RemoveHeadList(head) }, Some(b));
    // SAFETY: as above.
    assert!(unsafe { RemoveEntryList(a) });
    // SAFETY: as above.
    assert!(unsafe { IsListEmpty(head) });
}

#[test]
fn stack_locations_move_with_the_irp() {
    let mut locations = [IO_STACK_LOCATION::default(); 2];
    let mut irp = IRP {
        StackCount: 2,
        CurrentLocation: 3,
        ..IRP::default()
    };
    let irp = &raw mut irp;
    let top = locations.as_mut_ptr().wrapping_add(2);
    // SAFETY: the IRP lives until the end of the test.
    let slot = unsafe { current_location(irp) };
    // SAFETY: as above.
    unsafe { slot.write(top) };
    // SAFETY: as above, with the two locations.
    unsafe { IoSetNextIrpStackLocation(irp) };
    // SAFETY: as above.
    unsafe { IoMarkIrpPending(irp) };
    // SAFETY: as above.
    unsafe { IoCopyCurrentIrpStackLocationToNext(irp) };
    assert_eq!(locations[1].Control, SL_PENDING_RETURNED as UCHAR);
    assert_eq!(locations[0].Control, 0);
    // SAFETY: as above.
    unsafe { IoSkipCurrentIrpStackLocation(irp) };
    // SAFETY: as above.
    assert_eq!(unsafe { (*irp).CurrentLocation }, 3);
}

#[test]
fn the_cancel_routine_is_exchanged() {
    unsafe extern "win64" fn cancel(_: PDEVICE_OBJECT, _: PIRP) {}
    let mut irp = IRP::default();
    let irp = &raw mut irp;
    // SAFETY: the IRP lives until the end of the test.
    assert!(unsafe { IoSetCancelRoutine(irp, Some(cancel)) }.is_none());
    // SAFETY: as above.
    assert!(unsafe { IoSetCancelRoutine(irp, None) }.is_some());
}

#[test]
fn an_mdl_counts_the_pages_it_spans() {
    assert_eq!(ADDRESS_AND_SIZE_TO_SPAN_PAGES(0xfff, 2), 2);
    assert_eq!(ADDRESS_AND_SIZE_TO_SPAN_PAGES(0x1000, 0x1000), 1);
    let mut memory: [MDL; 2] = [MDL::default(); 2];
    let mdl = memory.as_mut_ptr();
    // SAFETY: the memory has room for an MDL and six pages.
    unsafe { MmInitializeMdl(mdl, ptr::without_provenance_mut(0x2_0ff0), 0x20) };
    assert_eq!(memory[0].Size, 0x40);
    assert_eq!(memory[0].ByteOffset, 0xff0);
}
