//! Routines as an image imports them, where what a driver itself asks for is counted: the layers above call the routines
//! directly, and what they take is not the driver's.

use nt_sys::*;

/// Counts each call of these routines, then makes it.
macro_rules! counted {
    ($($counter:ident { $($path:path: fn $name:ident($($argument:ident: $kind:ty),*) $(-> $result:ty)?;)* })*) => {
        $($(
            unsafe extern "win64" fn $name($($argument: $kind),*) $(-> $result)? {
                crate::counters().$counter.increment();
                // SAFETY: the caller promises what the routine asks for.
                unsafe { $path($($argument),*) }
            }
        )*)*

        /// Name and address of the routines that are counted.
        pub(crate) fn exports() -> Vec<(&'static str, usize)> {
            vec![$($((stringify!($name), $name as *const () as usize),)*)*]
        }

        /// Never called; it compiles only if every routine has the type that the headers declare.
        #[allow(dead_code)]
        fn types_are_those_of_the_headers() {
            $($(let _ = if true { nt_sys::$name } else { $name };)*)*
        }
    };
}

counted! {
    driver_locks {
        crate::ke::spinlock::KeAcquireSpinLockRaiseToDpc: fn KeAcquireSpinLockRaiseToDpc(lock: PKSPIN_LOCK) -> KIRQL;
        crate::ke::spinlock::KeAcquireSpinLockAtDpcLevel: fn KeAcquireSpinLockAtDpcLevel(lock: PKSPIN_LOCK);
        crate::ke::spinlock::KeTryToAcquireSpinLockAtDpcLevel:
            fn KeTryToAcquireSpinLockAtDpcLevel(lock: PKSPIN_LOCK) -> BOOLEAN;
        crate::ke::spinlock::KeAcquireInStackQueuedSpinLock:
            fn KeAcquireInStackQueuedSpinLock(lock: PKSPIN_LOCK, handle: PKLOCK_QUEUE_HANDLE);
        crate::ke::spinlock::KeAcquireInStackQueuedSpinLockAtDpcLevel:
            fn KeAcquireInStackQueuedSpinLockAtDpcLevel(lock: PKSPIN_LOCK, handle: PKLOCK_QUEUE_HANDLE);
        crate::ke::interrupt::KeAcquireInterruptSpinLock: fn KeAcquireInterruptSpinLock(interrupt: PKINTERRUPT) -> KIRQL;
        crate::ke::interrupt::KeSynchronizeExecution:
            fn KeSynchronizeExecution(interrupt: PKINTERRUPT, routine: PKSYNCHRONIZE_ROUTINE, context: PVOID) -> BOOLEAN;
        crate::ex::fastmutex::ExAcquireFastMutex: fn ExAcquireFastMutex(mutex: PFAST_MUTEX);
        crate::ex::fastmutex::ExTryToAcquireFastMutex: fn ExTryToAcquireFastMutex(mutex: PFAST_MUTEX) -> BOOLEAN;
    }
    driver_allocations {
        crate::ex::pool::image::ExAllocatePool2: fn ExAllocatePool2(flags: POOL_FLAGS, length: SIZE_T, tag: ULONG) -> PVOID;
        crate::ex::pool::image::ExAllocatePoolWithTag:
            fn ExAllocatePoolWithTag(kind: POOL_TYPE, length: SIZE_T, tag: ULONG) -> PVOID;
        crate::ex::lookaside::ExAllocateFromLookasideListEx:
            fn ExAllocateFromLookasideListEx(list: PLOOKASIDE_LIST_EX) -> PVOID;
        crate::io::irp::IoAllocateIrp: fn IoAllocateIrp(stack_size: CCHAR, charge_quota: BOOLEAN) -> PIRP;
        crate::mm::mdl::IoAllocateMdl:
            fn IoAllocateMdl(address: PVOID, length: ULONG, secondary: BOOLEAN, charge_quota: BOOLEAN, irp: PIRP) -> PMDL;
        crate::ex::workitem::IoAllocateWorkItem: fn IoAllocateWorkItem(device: PDEVICE_OBJECT) -> PIO_WORKITEM;
    }
}
