//! MDLs and what they describe.

use crate::machine;
use harness::{Suite, bug_check};
use machine_bus::Zone;
use machine_nt::exports::*;
use machine_nt::mm;
use nt_sys::{PMDL, POOL_FLAG_NON_PAGED, POOL_FLAG_PAGED};
use std::ffi::c_void;

const READ: nt_sys::LOCK_OPERATION = nt_sys::_LOCK_OPERATION::IoReadAccess;
const USER: i8 = nt_sys::_MODE::UserMode as i8;

pub fn tests(suite: Suite) -> Suite {
    suite
        .passes(
            "mdl::user_buffer_is_locked_and_mapped",
            user_buffer_is_locked_and_mapped,
        )
        .passes("mdl::nonpaged_pool", nonpaged_pool)
        .passes("mdl::partial", partial)
        .stops("mdl::paged_pool", bug_check(0xC4).p1(0x7F), || {
            machine(|| unsafe {
                let block = ExAllocatePool2(POOL_FLAG_PAGED, 100, 1);
                MmBuildMdlForNonPagedPool(IoAllocateMdl(block, 100, 0, 0, std::ptr::null_mut()));
            });
        })
        .stops(
            "mdl::kernel_address_from_user",
            bug_check(0x1E).p1(0xC000_0005),
            || {
                machine(|| unsafe {
                    let block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 100, 1);
                    MmProbeAndLockPages(
                        IoAllocateMdl(block, 100, 0, 0, std::ptr::null_mut()),
                        USER,
                        READ,
                    );
                });
            },
        )
        .stops("mdl::unlocked_twice", bug_check(0xC4).p1(0x7C), || {
            machine(|| unsafe {
                let mdl = locked(user(1), 100);
                MmUnlockPages(mdl);
                MmUnlockPages(mdl);
            });
        })
        .stops("mdl::freed_while_locked", bug_check(0xCB), || {
            machine(|| unsafe { IoFreeMdl(locked(user(1), 100)) });
        })
        .stops("mdl::mapped_without_lock", bug_check(0xC4).p1(0xB3), || {
            machine(|| unsafe {
                map(IoAllocateMdl(user(1), 100, 0, 0, std::ptr::null_mut()));
            });
        })
        .stops(
            "mdl::user_memory_goes_while_locked",
            bug_check(0x76),
            || {
                machine(|| unsafe {
                    let buffer = user(1);
                    locked(buffer, 100);
                    mm::unregister_user_range(buffer.addr()..buffer.addr() + 4096);
                });
            },
        )
}

/// User memory of some pages.
fn user(pages: usize) -> *mut c_void {
    let memory = mm::memory();
    let frames = memory.allocate(Zone::High, pages).unwrap();
    let base = memory.map(&frames).unwrap().as_ptr();
    mm::register_user_range(base.addr()..base.addr() + 4096 * pages);
    base.cast()
}

unsafe fn locked(buffer: *mut c_void, length: u32) -> PMDL {
    unsafe {
        let mdl = IoAllocateMdl(buffer, length, 0, 0, std::ptr::null_mut());
        MmProbeAndLockPages(mdl, USER, READ);
        mdl
    }
}

unsafe fn map(mdl: PMDL) -> *mut u8 {
    unsafe { MmMapLockedPagesSpecifyCache(mdl, 0, 1, std::ptr::null_mut(), 0, 16) }.cast()
}

fn user_buffer_is_locked_and_mapped() {
    machine(|| unsafe {
        let buffer = user(3).wrapping_byte_add(100);
        let mdl = locked(buffer, 8192);
        let frames = mm::frames(mdl);
        assert_eq!(frames.len(), 3);
        for (index, frame) in frames.iter().enumerate() {
            let page = MmGetPhysicalAddress(buffer.wrapping_byte_add(4096 * index)).QuadPart;
            assert_eq!(page as u64 >> 12, *frame);
        }
        let mapped = map(mdl);
        assert_ne!(mapped.addr(), buffer.addr());
        mapped.add(8191).write(77);
        assert_eq!(buffer.cast::<u8>().add(8191).read(), 77);
        MmUnmapLockedPages(mapped.cast(), mdl);
        MmUnlockPages(mdl);
        IoFreeMdl(mdl);
    });
}

fn nonpaged_pool() {
    machine(|| unsafe {
        let block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 6000, 1);
        let mdl = IoAllocateMdl(block, 6000, 0, 0, std::ptr::null_mut());
        MmBuildMdlForNonPagedPool(mdl);
        assert_eq!((*mdl).MappedSystemVa, block);
        assert_eq!(mm::frames(mdl).len(), 2);
        assert_eq!(
            mm::frames(mdl)[1],
            mm::memory().physical(block.cast::<u8>().add(4096)).unwrap() >> 12
        );
        IoFreeMdl(mdl);
        ExFreePool(block);
    });
}

fn partial() {
    machine(|| unsafe {
        let buffer = user(4);
        let whole = locked(buffer, 4 * 4096);
        let part = IoAllocateMdl(buffer, 4 * 4096, 0, 0, std::ptr::null_mut());
        IoBuildPartialMdl(whole, part, buffer.wrapping_byte_add(5000), 4096);
        assert_eq!(mm::frames(part), &mm::frames(whole)[1..3]);
        assert_eq!((*part).ByteOffset, 5000 - 4096);
        map(part).write(5);
        assert_eq!(buffer.cast::<u8>().add(5000).read(), 5);
        IoFreeMdl(part);
        MmUnlockPages(whole);
        IoFreeMdl(whole);
    });
}
