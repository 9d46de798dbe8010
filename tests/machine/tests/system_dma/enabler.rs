//! The enabler of a system profile: arguments, adapters, what the published source forgets.

use std::ptr;

use harness::{Suite, bug_check};
use machine::Device;
use machine::ddi;
use machine::nt_sys::*;
use machine_nt::counters;

use crate::bench::{self, FROM_DEVICE, PACKET, PAGE, TO_DEVICE, enabler_config};
use crate::fifo::{self, Hooks, SYSTEM, SYSTEM_DUPLEX};

pub fn add(suite: Suite) -> Suite {
    suite
        .passes("the_arguments_of_a_configuration_are_checked", arguments)
        .passes("a_direction_is_configured_once", once)
        .passes("each_direction_has_an_adapter", adapters)
        .passes("a_simplex_enabler_has_one_adapter", simplex)
        .passes("the_second_list_of_a_duplex_enabler_leaks_the_first", leak)
        .passes("a_bus_masters_enabler_is_configured_already", bus_master)
        .passes("overrides_are_refused", overrides)
        .passes(
            "a_common_buffer_needs_a_configured_enabler_and_then_works",
            common_buffer,
        )
        .stops(
            "a_common_buffer_before_the_configuration",
            bug_check(0x1E).p1(0xffff_ffff_c000_0005),
            || {
                fifo::run(|fifo| {
                    create_common_buffer(fifo.bare_enabler(SYSTEM, PAGE));
                });
            },
        )
        .passes("a_pc_has_no_system_dma", no_system_dma)
}

fn arguments() {
    fifo::run(|fifo| {
        let enabler = fifo.bare_enabler(SYSTEM_DUPLEX, PAGE);
        let good = fifo.profile_config(false);
        let status = unsafe {
            ddi!(WdfDmaEnablerConfigureSystemProfile(
                enabler,
                ptr::null_mut(),
                0
            ))
        };
        assert_eq!(status, STATUS_INVALID_PARAMETER);
        let wrong_size = WDF_DMA_SYSTEM_PROFILE_CONFIG { Size: 1, ..good };
        let no_descriptor = WDF_DMA_SYSTEM_PROFILE_CONFIG {
            DmaDescriptor: ptr::null_mut(),
            ..good
        };
        let no_width = WDF_DMA_SYSTEM_PROFILE_CONFIG {
            DmaWidth: _DMA_WIDTH::MaximumDmaWidth,
            ..good
        };
        for (config, direction, status) in [
            (wrong_size, FROM_DEVICE, STATUS_INFO_LENGTH_MISMATCH),
            (no_descriptor, FROM_DEVICE, STATUS_INVALID_PARAMETER),
            (good, 2, STATUS_INVALID_PARAMETER),
            (no_width, FROM_DEVICE, STATUS_UNSUCCESSFUL),
            (good, FROM_DEVICE, STATUS_SUCCESS),
        ] {
            assert_eq!(fifo::configure(enabler, config, direction), status);
        }
    });
}

fn once() {
    fifo::run(|fifo| {
        let enabler = fifo.bare_enabler(SYSTEM, PAGE);
        assert_eq!(unsafe { ddi!(WdfDmaEnablerGetMaximumLength(enabler)) }, 0);
        assert_eq!(fifo.configure(enabler, false), STATUS_SUCCESS);
        assert_eq!(
            unsafe { ddi!(WdfDmaEnablerGetMaximumLength(enabler)) },
            PAGE
        );
        // A simplex enabler has one direction, whatever it is called.
        for write in [false, true] {
            assert_eq!(fifo.configure(enabler, write), STATUS_INVALID_PARAMETER);
        }
    });
}

fn adapter(enabler: WDFDMAENABLER, direction: WDF_DMA_DIRECTION) -> PDMA_ADAPTER {
    unsafe { ddi!(WdfDmaEnablerWdmGetDmaAdapter(enabler, direction)) }
}

fn adapters() {
    fifo::run(|fifo| {
        let enabler = fifo.bare_enabler(SYSTEM_DUPLEX, 3 * PAGE);
        assert_eq!(fifo.configure(enabler, false), STATUS_SUCCESS);
        assert!(!adapter(enabler, FROM_DEVICE).is_null());
        assert!(adapter(enabler, TO_DEVICE).is_null());
        assert_eq!(fifo.configure(enabler, true), STATUS_SUCCESS);
        assert_ne!(adapter(enabler, FROM_DEVICE), adapter(enabler, TO_DEVICE));
        for direction in [FROM_DEVICE, TO_DEVICE] {
            let length = unsafe { ddi!(WdfDmaEnablerGetFragmentLength(enabler, direction)) };
            assert_eq!(length, 3 * PAGE);
        }
        bench::delete(enabler);
    });
}

fn simplex() {
    fifo::with_device(Device::FifoSimplex, Hooks::default(), |fifo| {
        assert_eq!(fifo.connections.len(), 1);
        let enabler = fifo.bare_enabler(SYSTEM, PAGE);
        assert_eq!(fifo.configure(enabler, true), STATUS_SUCCESS);
        assert_eq!(adapter(enabler, FROM_DEVICE), adapter(enabler, TO_DEVICE));
    });
}

fn leak() {
    fifo::run(|fifo| {
        let enabler = fifo.bare_enabler(SYSTEM_DUPLEX, PAGE);
        assert_eq!(fifo.configure(enabler, false), STATUS_SUCCESS);
        assert_eq!(counters().framework_leaks.get(), 0);
        assert_eq!(fifo.configure(enabler, true), STATUS_SUCCESS);
        assert_eq!(counters().framework_leaks.get(), 1);
    });
}

fn bus_master() {
    // On a device whose bus has adapters for bus masters.
    bench::run(|device| {
        let enabler = bench::enabler(device, enabler_config(PACKET, PAGE));
        let mut descriptor = CM_PARTIAL_RESOURCE_DESCRIPTOR::default();
        let config = WDF_DMA_SYSTEM_PROFILE_CONFIG {
            Size: bench::size::<WDF_DMA_SYSTEM_PROFILE_CONFIG>(),
            DmaDescriptor: &mut descriptor,
            ..Default::default()
        };
        let status = fifo::configure(enabler, config, FROM_DEVICE);
        assert_eq!(status, STATUS_INVALID_PARAMETER);
    });
}

fn overrides() {
    fifo::run(|fifo| {
        let widened = WDF_DMA_ENABLER_CONFIG {
            AddressWidthOverride: 32,
            ..enabler_config(SYSTEM, PAGE)
        };
        let refused = bench::try_enabler(fifo.device(), widened);
        assert_eq!(refused.err(), Some(STATUS_INVALID_PARAMETER));
        let older = WDF_DMA_ENABLER_CONFIG {
            WdmDmaVersionOverride: 2,
            ..enabler_config(SYSTEM, PAGE)
        };
        let refused = bench::try_enabler(fifo.device(), older);
        assert_eq!(refused.err(), Some(STATUS_INVALID_PARAMETER));
    });
}

fn create_common_buffer(enabler: WDFDMAENABLER) -> WDFCOMMONBUFFER {
    let mut buffer = ptr::null_mut();
    let status = unsafe {
        ddi!(WdfCommonBufferCreate(
            enabler,
            2 * PAGE,
            ptr::null_mut(),
            &mut buffer
        ))
    };
    assert_eq!(status, STATUS_SUCCESS);
    buffer
}

fn common_buffer() {
    fifo::run(|fifo| {
        let enabler = fifo.bare_enabler(SYSTEM, PAGE);
        assert_eq!(fifo.configure(enabler, false), STATUS_SUCCESS);
        let buffer = create_common_buffer(enabler);
        assert_eq!(unsafe { ddi!(WdfCommonBufferGetLength(buffer)) }, 2 * PAGE);
        let logical = unsafe { ddi!(WdfCommonBufferGetAlignedLogicalAddress(buffer)) };
        assert!(
            unsafe { logical.QuadPart } < 1 << 32,
            "the controller's 32 bits"
        );
    });
}

/// A system profile on a PC: the enabler can be had, its configuration fails, and nothing is left behind (R1).
fn no_system_dma() {
    bench::run(|device| {
        for profile in [SYSTEM, SYSTEM_DUPLEX] {
            let enabler = bench::enabler(device, enabler_config(profile, PAGE));
            let mut descriptor = CM_PARTIAL_RESOURCE_DESCRIPTOR::default();
            let config = WDF_DMA_SYSTEM_PROFILE_CONFIG {
                Size: bench::size::<WDF_DMA_SYSTEM_PROFILE_CONFIG>(),
                DmaDescriptor: &mut descriptor,
                ..Default::default()
            };
            for direction in [FROM_DEVICE, TO_DEVICE] {
                let status = fifo::configure(enabler, config, direction);
                assert_eq!(status, STATUS_UNSUCCESSFUL);
                assert!(adapter(enabler, direction).is_null());
            }
            bench::delete(enabler);
        }
        assert_eq!(counters().framework_leaks.get(), 0);
    });
}
