//! Pool: every misuse is found.

use crate::machine;
use harness::{Suite, bug_check};
use machine_nt::ex::pool;
use machine_nt::exports::*;
use nt_sys::{
    KTIMER, LOOKASIDE_LIST_EX, POOL_FLAG_NON_PAGED, POOL_FLAG_PAGED, POOL_FLAG_UNINITIALIZED,
};

const TAG: u32 = u32::from_le_bytes(*b"Test");

fn block(length: u64) -> *mut u8 {
    unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED, length, TAG) }.cast()
}

/// Allocates as the image of a driver does, by the routine that its import is bound to.
fn image_block(length: u64) -> *mut u8 {
    type Allocate = unsafe extern "win64" fn(u64, u64, u32) -> *mut std::ffi::c_void;
    let exports = machine_nt::exports::exports();
    let (_, address) = exports
        .iter()
        .find(|(name, _)| *name == "ExAllocatePool2")
        .unwrap();
    let pointer: *const () = std::ptr::with_exposed_provenance(*address);
    let routine = unsafe { std::mem::transmute::<*const (), Allocate>(pointer) };
    unsafe { routine(POOL_FLAG_NON_PAGED, length, TAG) }.cast()
}

pub fn tests(suite: Suite) -> Suite {
    suite
        .passes("pool::contents_and_placement", contents_and_placement)
        .stops(
            "pool::overrun",
            bug_check(0xC4).p1(0x51).p4(10).says("tag 'Test'"),
            || {
                machine(|| unsafe {
                    let block = block(10);
                    block.add(10).write(0);
                    ExFreePoolWithTag(block.cast(), TAG);
                });
            },
        )
        .stops("pool::underrun", bug_check(0x19).p1(0x20), || {
            machine(|| unsafe {
                let block = block(10);
                block.sub(1).write(0);
                ExFreePool(block.cast());
            });
        })
        .stops("pool::freed_twice", bug_check(0xC2).p1(7), || {
            machine(|| unsafe {
                let block = block(10);
                ExFreePool(block.cast());
                ExFreePool(block.cast());
            });
        })
        .stops("pool::never_allocated", bug_check(0xC4).p1(0x10), || {
            machine(|| unsafe { ExFreePool(crate::object::<u64>().cast()) });
        })
        .stops("pool::wrong_tag", bug_check(0xC2).p1(0xA), || {
            machine(|| unsafe { ExFreePoolWithTag(block(10).cast(), 0x2020_2020) });
        })
        .stops("pool::written_after_free", bug_check(0x19).p1(3), || {
            machine(|| unsafe {
                let block = block(10);
                ExFreePool(block.cast());
                block.write(1);
                pool::check_all();
            });
        })
        .stops("pool::zero_bytes", bug_check(0xC4).p1(0), || {
            machine(|| {
                block(0);
            });
        })
        .stops(
            "pool::paged_at_dispatch_level",
            bug_check(0xC4).p1(1).p2(2),
            || {
                machine(|| unsafe {
                    KfRaiseIrql(2);
                    ExAllocatePool2(POOL_FLAG_PAGED, 8, TAG);
                });
            },
        )
        .stops(
            "pool::freed_too_high",
            bug_check(0xC4).p1(0x12).p2(5),
            || {
                machine(|| unsafe {
                    let block = block(10);
                    KfRaiseIrql(5);
                    ExFreePool(block.cast());
                });
            },
        )
        .stops("pool::freed_with_timer", bug_check(0xC7).p1(0), || {
            machine(|| unsafe {
                let timer: *mut KTIMER = block(size_of::<KTIMER>() as u64).cast();
                KeInitializeTimer(timer);
                KeSetTimer(timer, crate::ms(1000), std::ptr::null_mut());
                ExFreePool(timer.cast());
            });
        })
        .stops(
            "pool::leak_at_unload",
            bug_check(0xC4)
                .p1(0x62)
                .p4(2)
                .says("tag 'Test': 2 blocks, 40 bytes"),
            || {
                machine(|| {
                    block(50);
                    image_block(10);
                    image_block(30);
                    pool::check_unload("test");
                });
            },
        )
        .passes("pool::allocations_fail_on_demand", || {
            machine(|| {
                pool::fail_allocation(Some(2));
                let blocks = [image_block(8), image_block(8), image_block(8)];
                let blocks = blocks.map(|block| block.is_null());
                assert_eq!(blocks, [false, true, false]);
            });
        })
        .stops("pool::irp", bug_check(0xC4).p1(0x105), || {
            machine(|| unsafe { ExFreePool(IoAllocateIrp(1, 0).cast()) });
        })
        .stops(
            "pool::lookaside_list_twice",
            bug_check(0xC4).p1(0xCA),
            || {
                machine(|| {
                    let list = crate::object::<LOOKASIDE_LIST_EX>();
                    for _ in 0..2 {
                        unsafe {
                            ExInitializeLookasideListEx(list, None, None, 512, 0, 64, TAG, 0)
                        };
                    }
                });
            },
        )
        .passes("pool::lookaside_list", || {
            machine(|| unsafe {
                let list = crate::object::<LOOKASIDE_LIST_EX>();
                ExInitializeLookasideListEx(list, None, None, 512, 0, 64, TAG, 0);
                let entry = ExAllocateFromLookasideListEx(list);
                entry.cast::<u8>().write_bytes(1, 64);
                ExFreeToLookasideListEx(list, entry);
                ExDeleteLookasideListEx(list);
            });
        })
}

fn contents_and_placement() {
    machine(|| unsafe {
        let zeroed = block(100);
        assert!(
            std::slice::from_raw_parts(zeroed, 100)
                .iter()
                .all(|&byte| byte == 0)
        );
        let raw: *mut u8 =
            ExAllocatePool2(POOL_FLAG_NON_PAGED | POOL_FLAG_UNINITIALIZED, 100, TAG).cast();
        assert!(
            std::slice::from_raw_parts(raw, 100)
                .iter()
                .all(|&byte| byte != 0)
        );
        for length in [1, 16, 4000, 4072, 4095, 4096, 10_000] {
            let start = block(length).addr();
            let pages = start as u64 / 4096..=(start as u64 + length - 1) / 4096;
            assert_eq!(start % 16, 0);
            assert!(length >= 4096 || pages.start() == pages.end(), "{length}");
            assert!(length < 4096 || start.is_multiple_of(4096), "{length}");
        }
    });
}
