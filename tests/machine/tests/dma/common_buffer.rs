//! Common buffers.

use std::ptr;

use harness::{Suite, bug_check};
use machine::ddi;
use machine::nt_sys::*;
use machine_nt::exports::{KeLowerIrql, KfRaiseIrql};

use crate::bench::{self, LIST64, PACKET64, PAGE, SYSTEM, enabler_config};

pub fn add(suite: Suite) -> Suite {
    suite
        .passes("arguments_of_common_buffers_are_checked", arguments)
        .passes("a_common_buffer_is_as_long_as_asked_for", lengths)
        .passes("a_mask_within_a_page_costs_nothing", within_a_page)
        .passes(
            "a_mask_beyond_a_page_aligns_the_logical_address",
            beyond_a_page,
        )
        .passes("a_common_buffer_of_4_gib_is_refused", too_long)
        .passes("common_buffers_go_with_their_enabler", with_the_enabler)
        .stops(
            "a_system_enabler_has_no_adapter_for_a_common_buffer",
            bug_check(0x1E).p1(0xffff_ffff_c000_0005),
            || {
                bench::run(|device| {
                    let enabler = bench::enabler(device, enabler_config(SYSTEM, PAGE));
                    let _ = create(enabler, PAGE, None);
                });
            },
        )
}

/// Creates a buffer, with an alignment mask of its own if there is one.
fn create(
    enabler: WDFDMAENABLER,
    length: usize,
    mask: Option<ULONG>,
) -> Result<WDFCOMMONBUFFER, NTSTATUS> {
    let mut buffer = ptr::null_mut();
    let status = unsafe {
        match mask {
            None => ddi!(WdfCommonBufferCreate(
                enabler,
                length,
                ptr::null_mut(),
                &mut buffer
            )),
            Some(mask) => {
                let mut config = WDF_COMMON_BUFFER_CONFIG {
                    Size: bench::size::<WDF_COMMON_BUFFER_CONFIG>(),
                    AlignmentRequirement: mask,
                };
                ddi!(WdfCommonBufferCreateWithConfig(
                    enabler,
                    length,
                    &mut config,
                    ptr::null_mut(),
                    &mut buffer
                ))
            }
        }
    };
    if nt_success(status) {
        Ok(buffer)
    } else {
        assert!(buffer.is_null());
        Err(status)
    }
}

fn logical(buffer: WDFCOMMONBUFFER) -> i64 {
    unsafe { ddi!(WdfCommonBufferGetAlignedLogicalAddress(buffer)).QuadPart }
}

fn address(buffer: WDFCOMMONBUFFER) -> *mut u8 {
    unsafe { ddi!(WdfCommonBufferGetAlignedVirtualAddress(buffer)).cast() }
}

fn arguments() {
    bench::run(|device| {
        let enabler = bench::enabler(device, enabler_config(PACKET64, PAGE));
        assert_eq!(create(enabler, 0, None), Err(STATUS_INVALID_PARAMETER));
        assert_eq!(create(enabler, 0, Some(15)), Err(STATUS_INVALID_PARAMETER));

        let mut buffer = ptr::null_mut();
        let mut attributes = bench::attributes();
        attributes.ParentObject = device.cast();
        let status = unsafe {
            ddi!(WdfCommonBufferCreate(
                enabler,
                PAGE,
                &mut attributes,
                &mut buffer
            ))
        };
        assert_eq!(status, STATUS_WDF_PARENT_ASSIGNMENT_NOT_ALLOWED);

        // The size of the configuration is looked at before the length.
        let mut config = WDF_COMMON_BUFFER_CONFIG {
            Size: 4,
            AlignmentRequirement: 0,
        };
        let status = unsafe {
            ddi!(WdfCommonBufferCreateWithConfig(
                enabler,
                0,
                &mut config,
                ptr::null_mut(),
                &mut buffer
            ))
        };
        assert_eq!(status, STATUS_INFO_LENGTH_MISMATCH);

        let irql = unsafe { KfRaiseIrql(DISPATCH_LEVEL as KIRQL) };
        let refused = create(enabler, PAGE, None);
        unsafe { KeLowerIrql(irql) };
        assert_eq!(refused, Err(STATUS_INVALID_DEVICE_REQUEST));
    });
}

fn lengths() {
    bench::run(|device| {
        for profile in [PACKET64, LIST64] {
            let enabler = bench::enabler(device, enabler_config(profile, PAGE));
            // The enabler's maximum length is no limit.
            for length in [1, 100, PAGE, 3 * PAGE + 1] {
                let buffer = create(enabler, length, None).expect("a buffer");
                assert_eq!(unsafe { ddi!(WdfCommonBufferGetLength(buffer)) }, length);
                // All of it is there to be written.
                unsafe { address(buffer).write_bytes(0xA5, length) };
                bench::delete(buffer);
            }
        }
    });
}

fn within_a_page() {
    bench::run(|device| {
        let enabler = bench::enabler(device, enabler_config(PACKET64, PAGE));
        for mask in [0, 15, 0xFFF] {
            let buffer = create(enabler, 100, Some(mask)).expect("a buffer");
            assert_eq!(logical(buffer) & i64::from(mask), 0);
            assert_eq!(address(buffer) as usize % PAGE, 0);
        }
    });
}

/// The address the processor uses moves as far, and need not be aligned.
fn beyond_a_page() {
    bench::run(|device| {
        let enabler = bench::enabler(device, enabler_config(LIST64, PAGE));
        for mask in [0x1FFF, 0xFFFF] {
            // One of several does not begin on the boundary by accident.
            for _ in 0..4 {
                let buffer = create(enabler, PAGE, Some(mask)).expect("a buffer");
                assert_eq!(logical(buffer) & i64::from(mask), 0);
                unsafe { address(buffer).write_bytes(0xA5, PAGE) };
                assert_eq!(unsafe { ddi!(WdfCommonBufferGetLength(buffer)) }, PAGE);
            }
        }
    });
}

fn too_long() {
    bench::run(|device| {
        let enabler = bench::enabler(device, enabler_config(PACKET64, PAGE));
        for (length, mask) in [(1 << 32, None), (0xFFFF_FFFF, Some(0x1FFF))] {
            assert_eq!(
                create(enabler, length, mask),
                Err(STATUS_INSUFFICIENT_RESOURCES)
            );
        }
    });
}

/// They are freed before its adapter; the machine stops if any is left at the end.
fn with_the_enabler() {
    bench::run(|device| {
        let enabler = bench::enabler(device, enabler_config(PACKET64, PAGE));
        create(enabler, PAGE, None).expect("a buffer");
        create(enabler, PAGE, Some(0x1FFF)).expect("a buffer");
        bench::delete(enabler);
    });
}
