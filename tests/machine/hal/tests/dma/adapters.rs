//! Adapters: which there are, in which versions, and what they say of themselves.

use harness::{Suite, machine_stop};
use machine_hal::Config;
use nt_sys::*;

use crate::support::*;
use crate::{configured, rig, violation};

pub fn add(suite: Suite) -> Suite {
    let big = scatter_gather(0x10000);
    suite
        .passes("versions", rig(versions))
        .passes(
            "what_a_transfer_needs",
            configured(Config::default(), big, what_a_transfer_needs),
        )
        .passes(
            "a_pc_has_no_adapter_for_what_is_no_bus_master",
            rig(|rig, _| {
                let description = DEVICE_DESCRIPTION {
                    Master: 0,
                    ..packet(0x1000)
                };
                assert!(Adapter::get(rig.edu().device(), description).is_none());
            }),
        )
        .stops(
            "an_absent_routine",
            machine_stop("DMA_OPERATIONS.LeaveDmaDomain"),
            rig(|_, adapter| {
                // SAFETY: as a driver would.
                unsafe { adapter.operations().LeaveDmaDomain.unwrap()(adapter.raw) };
            }),
        )
        .stops(
            "unknown_version",
            violation(0x25).p2(4),
            rig(|rig, _| {
                Adapter::get(
                    rig.edu().device(),
                    DEVICE_DESCRIPTION {
                        Version: 4,
                        ..packet(0x1000)
                    },
                );
            }),
        )
}

fn versions(rig: &Rig, adapter: Adapter) {
    let pdo = rig.edu().device();
    assert_eq!(
        adapter.operations().Size as usize,
        size_of::<DMA_OPERATIONS>()
    );
    let old = DEVICE_DESCRIPTION {
        Version: DEVICE_DESCRIPTION_VERSION2,
        Dma32BitAddresses: 1,
        ..packet(0x1000)
    };
    let second = Adapter::get(pdo, old).unwrap();
    assert!(second.operations().GetDmaAdapterInfo.is_none());
    assert!(second.operations().BuildScatterGatherList.is_some());
    let first = Adapter::get(
        pdo,
        DEVICE_DESCRIPTION {
            Version: DEVICE_DESCRIPTION_VERSION1,
            ..old
        },
    )
    .unwrap();
    assert!(first.operations().CalculateScatterGatherList.is_none());
    assert!(
        Adapter::get(
            pdo,
            DEVICE_DESCRIPTION {
                DmaAddressWidth: 65,
                ..packet(0x1000)
            }
        )
        .is_none()
    );
    assert!(Adapter::get(std::ptr::null_mut(), packet(0x1000)).is_none());
}

fn what_a_transfer_needs(_: &Rig, adapter: Adapter) {
    let operations = adapter.operations();
    let buffer = Buffer::new(0x3000);
    let mut info = DMA_TRANSFER_INFO {
        Version: DMA_TRANSFER_INFO_VERSION1,
        ..Default::default()
    };
    let get = operations.GetDmaTransferInfo.unwrap();
    // SAFETY: as a driver would.
    let status = unsafe { get(adapter.raw, buffer.mdl, 0x10, 0x2000, 0, &raw mut info) };
    assert_eq!(status, STATUS_SUCCESS);
    // SAFETY: plain numbers.
    let needs = unsafe { info.__bindgen_anon_1.V1 };
    assert_eq!(
        (needs.MapRegisterCount, needs.ScatterGatherElementCount),
        (3, 3)
    );
    info.Version = 0;
    // SAFETY: as a driver would.
    let status = unsafe { get(adapter.raw, buffer.mdl, 0, 1, 0, &raw mut info) };
    assert_eq!(status, STATUS_NOT_SUPPORTED);
    let (mut size, mut registers) = (0, 0);
    let calculate = operations.CalculateScatterGatherList.unwrap();
    let nowhere = std::ptr::null_mut();
    // SAFETY: as the framework does: without an MDL.
    let status = unsafe {
        calculate(
            adapter.raw,
            std::ptr::null_mut(),
            nowhere,
            0x4000,
            &raw mut size,
            &raw mut registers,
        )
    };
    assert_eq!((status, registers, size), (STATUS_SUCCESS, 4, 16 + 4 * 24));
    let mut info = DMA_ADAPTER_INFO {
        Version: DMA_ADAPTER_INFO_VERSION1,
        ..Default::default()
    };
    // SAFETY: as a driver would.
    let status = unsafe { operations.GetDmaAdapterInfo.unwrap()(adapter.raw, &raw mut info) };
    assert_eq!(status, STATUS_SUCCESS);
    // SAFETY: plain numbers.
    assert_eq!(unsafe { info.__bindgen_anon_1.V1.DmaAddressWidth }, 64);
}
