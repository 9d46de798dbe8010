//! Enablers: what a configuration is refused for, what an adapter's map registers make of it, the queries.

use std::ptr;

use harness::Suite;
use machine::ddi;
use machine::nt_sys::*;
use machine_nt::exports::{KeLowerIrql, KfRaiseIrql};

use crate::bench::{
    self, FROM_DEVICE, LIST, LIST_DUPLEX, LIST64, LIST64_DUPLEX, PACKET, PACKET64, PAGE, SYSTEM,
    TO_DEVICE, enabler_config, try_enabler, version3,
};

const SINGLE: ULONG =
    _WDF_DMA_ENABLER_CONFIG_FLAGS::WDF_DMA_ENABLER_CONFIG_REQUIRE_SINGLE_TRANSFER as ULONG;

pub fn add(suite: Suite) -> Suite {
    suite
        .passes("configurations_of_enablers_are_checked", configurations)
        .passes("attributes_of_enablers_are_checked", attributes)
        .passes("an_enabler_needs_passive_level", passive_level)
        .passes(
            "the_fragment_length_follows_the_map_registers",
            fragment_length,
        )
        .passes("a_duplex_enabler_has_two_adapters", adapters)
        .passes("queries_refuse_a_wrong_direction", wrong_direction)
        .passes("the_limit_of_elements_is_clamped", limit_of_elements)
        .passes(
            "a_system_enabler_has_no_adapter_before_its_configuration",
            system,
        )
}

fn configurations() {
    bench::configured(
        // Without its verifier, the HAL refuses an unknown version instead of stopping.
        Box::new(|config| config.hal.verifier = false),
        |device| {
            let packet = enabler_config(PACKET, PAGE);
            let with = |change: fn(&mut WDF_DMA_ENABLER_CONFIG)| {
                let mut config = packet;
                change(&mut config);
                config
            };
            let refused = [
                (with(|c| c.Size -= 1), STATUS_INFO_LENGTH_MISMATCH),
                (with(|c| c.Size += 8), STATUS_INFO_LENGTH_MISMATCH),
                // What drivers built for KMDF 1.9 pass.
                (
                    with(|c| {
                        c.Size = std::mem::offset_of!(WDF_DMA_ENABLER_CONFIG, AddressWidthOverride)
                            as ULONG;
                    }),
                    STATUS_INFO_LENGTH_MISMATCH,
                ),
                // The size is looked at first.
                (
                    with(|c| (c.Size, c.Profile) = (0, 0)),
                    STATUS_INFO_LENGTH_MISMATCH,
                ),
                (with(|c| c.Profile = 0), STATUS_INVALID_PARAMETER),
                (with(|c| c.Profile = 9), STATUS_INVALID_PARAMETER),
                (with(|c| c.MaximumLength = 0), STATUS_INVALID_PARAMETER),
                (
                    with(|c| c.AddressWidthOverride = 33),
                    STATUS_INVALID_PARAMETER,
                ),
                (
                    with(|c| (c.Profile, c.AddressWidthOverride) = (SYSTEM, 24)),
                    STATUS_INVALID_PARAMETER,
                ),
                // A width needs version 3.
                (
                    with(|c| (c.AddressWidthOverride, c.WdmDmaVersionOverride) = (28, 2)),
                    STATUS_INVALID_PARAMETER,
                ),
                (
                    with(|c| c.WdmDmaVersionOverride = 1),
                    STATUS_INVALID_PARAMETER,
                ),
                // The framework takes it, the HAL does not.
                (with(|c| c.WdmDmaVersionOverride = 4), STATUS_UNSUCCESSFUL),
                // Single transfers need version 3.
                (with(|c| c.Flags = SINGLE), STATUS_INVALID_PARAMETER),
            ];
            for (row, (config, status)) in refused.into_iter().enumerate() {
                assert_eq!(try_enabler(device, config), Err(status), "row {row}");
            }
            let taken = [
                with(|c| c.AddressWidthOverride = 32),
                with(|c| c.WdmDmaVersionOverride = 2),
                with(|c| (c.Flags, c.WdmDmaVersionOverride) = (SINGLE, 3)),
                with(|c| (c.Profile, c.AddressWidthOverride) = (PACKET64, 40)),
                // Flags that nobody knows are not looked at.
                with(|c| c.Flags = 0x8000),
            ];
            for config in taken {
                bench::delete(bench::enabler(device, config));
            }
        },
    );
}

fn attributes() {
    bench::run(|device| {
        let create = |change: &dyn Fn(&mut WDF_OBJECT_ATTRIBUTES)| {
            let mut config = enabler_config(PACKET, PAGE);
            let mut attributes = bench::attributes();
            change(&mut attributes);
            let mut enabler = ptr::null_mut();
            let status = unsafe {
                ddi!(WdfDmaEnablerCreate(
                    device,
                    &mut config,
                    &mut attributes,
                    &mut enabler
                ))
            };
            assert_eq!(nt_success(status), !enabler.is_null());
            status
        };
        let driver = unsafe { ddi!(WdfDeviceGetDriver(device)) };
        assert_eq!(create(&|a| a.Size -= 1), STATUS_INFO_LENGTH_MISMATCH);
        assert_eq!(
            create(&|a| a.SynchronizationScope =
                _WDF_SYNCHRONIZATION_SCOPE::WdfSynchronizationScopeDevice),
            STATUS_WDF_SYNCHRONIZATION_SCOPE_INVALID
        );
        assert_eq!(
            create(&|a| a.ExecutionLevel = _WDF_EXECUTION_LEVEL::WdfExecutionLevelPassive),
            STATUS_WDF_EXECUTION_LEVEL_INVALID
        );
        // The driver is not below the device.
        assert_eq!(
            create(&|a| a.ParentObject = driver.cast()),
            STATUS_WDF_OBJECT_ATTRIBUTES_INVALID
        );
        assert_eq!(create(&|a| a.ParentObject = device.cast()), STATUS_SUCCESS);

        let enabler = bench::enabler(device, enabler_config(PACKET, PAGE));
        let mut attributes = bench::attributes();
        attributes.ParentObject = device.cast();
        let mut transaction = ptr::null_mut();
        assert_eq!(
            unsafe {
                ddi!(WdfDmaTransactionCreate(
                    enabler,
                    &mut attributes,
                    &mut transaction
                ))
            },
            STATUS_WDF_PARENT_ASSIGNMENT_NOT_ALLOWED
        );
    });
}

fn passive_level() {
    bench::run(|device| {
        let irql = unsafe { KfRaiseIrql(DISPATCH_LEVEL as KIRQL) };
        let refused = try_enabler(device, enabler_config(PACKET, PAGE));
        unsafe { KeLowerIrql(irql) };
        assert_eq!(refused, Err(STATUS_INVALID_DEVICE_REQUEST));
    });
}

fn lengths(enabler: WDFDMAENABLER) -> [usize; 3] {
    unsafe {
        [
            ddi!(WdfDmaEnablerGetMaximumLength(enabler)),
            ddi!(WdfDmaEnablerGetFragmentLength(enabler, FROM_DEVICE)),
            ddi!(WdfDmaEnablerGetFragmentLength(enabler, TO_DEVICE)),
        ]
    }
}

/// One map register less than granted, in pages, for a buffer may begin in the middle of one.
fn fragment_length() {
    bench::configured(
        Box::new(|config| config.hal.map_register_grant = Some(16)),
        |device| {
            for profile in [PACKET, PACKET64, LIST, LIST64, LIST_DUPLEX, LIST64_DUPLEX] {
                for (maximum, fragment) in [
                    (100, 100),
                    (61_440, 61_440),
                    (65_536, 61_440),
                    (1 << 20, 61_440),
                ] {
                    for config in [enabler_config(profile, maximum), version3(profile, maximum)] {
                        let enabler = bench::enabler(device, config);
                        assert_eq!(lengths(enabler), [maximum, fragment, fragment]);
                    }
                }
            }
        },
    );
}

fn adapter(enabler: WDFDMAENABLER, direction: WDF_DMA_DIRECTION) -> PDMA_ADAPTER {
    unsafe { ddi!(WdfDmaEnablerWdmGetDmaAdapter(enabler, direction)) }
}

fn adapters() {
    bench::run(|device| {
        for (profile, two) in [
            (PACKET, false),
            (LIST, false),
            (LIST64, false),
            (LIST_DUPLEX, true),
            (LIST64_DUPLEX, true),
        ] {
            let enabler = bench::enabler(device, enabler_config(profile, PAGE));
            let (read, write) = (adapter(enabler, FROM_DEVICE), adapter(enabler, TO_DEVICE));
            assert!(!read.is_null() && !write.is_null());
            assert_eq!(read != write, two, "profile {profile}");
        }
    });
}

fn wrong_direction() {
    bench::run(|device| {
        let enabler = bench::enabler(device, enabler_config(PACKET, PAGE));
        for direction in [-1, 2] {
            let length = unsafe { ddi!(WdfDmaEnablerGetFragmentLength(enabler, direction)) };
            assert_eq!(length, 0);
            assert!(adapter(enabler, direction).is_null());
        }
    });
}

fn limit_of_elements() {
    bench::run(|device| {
        let enabler = bench::enabler(device, enabler_config(LIST, PAGE));
        let get = || unsafe { ddi!(WdfDmaEnablerGetMaximumScatterGatherElements(enabler)) };
        assert_eq!(get(), 0xFFFF_FFFF);
        // What is set, and what is found then: zero is ignored, and so is a call above PASSIVE_LEVEL.
        for (set, found) in [(7, 7), (0, 7), (1 << 40, 0xFFFF_FFFF), (1, 1)] {
            unsafe { ddi!(WdfDmaEnablerSetMaximumScatterGatherElements(enabler, set)) };
            assert_eq!(get(), found);
        }
        let irql = unsafe { KfRaiseIrql(DISPATCH_LEVEL as KIRQL) };
        unsafe { ddi!(WdfDmaEnablerSetMaximumScatterGatherElements(enabler, 9)) };
        unsafe { KeLowerIrql(irql) };
        assert_eq!(get(), 1);
    });
}

fn system() {
    bench::run(|device| {
        let enabler = bench::enabler(device, enabler_config(SYSTEM, PAGE));
        assert_eq!(lengths(enabler), [0; 3]);
        assert!(adapter(enabler, FROM_DEVICE).is_null());
    });
}
