//! AllocateCommonBuffer and its relatives, FreeCommonBuffer.

use nt_sys::{
    BOOLEAN, MEMORY_CACHING_TYPE, NODE_REQUIREMENT, PDMA_ADAPTER, PHYSICAL_ADDRESS,
    PPHYSICAL_ADDRESS, PVOID, ULONG,
};

use super::{At, enter};
use crate::dma::common_buffer;
use crate::{large_integer, quad_part};

/// Allocates a common buffer and writes its logical address.
///
/// # Safety
/// `logical` points to a PHYSICAL_ADDRESS.
unsafe fn common_buffer(
    routine: &'static str,
    adapter: PDMA_ADAPTER,
    length: ULONG,
    bounds: std::ops::Range<u64>,
    logical: PPHYSICAL_ADDRESS,
) -> PVOID {
    let _inside = enter(routine, At::Passive, adapter);
    let Some((address, bus)) = common_buffer::allocate(routine, adapter as u64, length, bounds)
    else {
        return std::ptr::null_mut();
    };
    // SAFETY: the caller vouches for the result.
    unsafe { logical.write(large_integer(bus as i64)) };
    address.as_ptr().cast()
}

pub unsafe extern "win64" fn allocate_common_buffer(
    adapter: PDMA_ADAPTER,
    length: ULONG,
    logical: PPHYSICAL_ADDRESS,
    _cache_enabled: BOOLEAN,
) -> PVOID {
    // SAFETY: the driver passes where it wants the logical address.
    unsafe {
        common_buffer(
            "AllocateCommonBuffer",
            adapter,
            length,
            0..u64::MAX,
            logical,
        )
    }
}

pub unsafe extern "win64" fn allocate_common_buffer_ex(
    adapter: PDMA_ADAPTER,
    maximum: PPHYSICAL_ADDRESS,
    length: ULONG,
    logical: PPHYSICAL_ADDRESS,
    _cache_enabled: BOOLEAN,
    _preferred_node: NODE_REQUIREMENT,
) -> PVOID {
    // SAFETY: the driver passes NULL or its limit.
    let end = unsafe { bound(maximum) }.map_or(u64::MAX, |last| last.saturating_add(1));
    // SAFETY: the driver passes where it wants the logical address.
    unsafe { common_buffer("AllocateCommonBufferEx", adapter, length, 0..end, logical) }
}

pub unsafe extern "win64" fn allocate_common_buffer_with_bounds(
    adapter: PDMA_ADAPTER,
    minimum: PPHYSICAL_ADDRESS,
    maximum: PPHYSICAL_ADDRESS,
    length: ULONG,
    _flags: ULONG,
    _cache_type: *mut MEMORY_CACHING_TYPE,
    _preferred_node: NODE_REQUIREMENT,
    logical: PPHYSICAL_ADDRESS,
) -> PVOID {
    // SAFETY: the driver passes NULL or its limit.
    let start = unsafe { bound(minimum) }.unwrap_or(0);
    // SAFETY: as above.
    let end = unsafe { bound(maximum) }.map_or(u64::MAX, |last| last.saturating_add(1));
    // SAFETY: the driver passes where it wants the logical address.
    unsafe {
        common_buffer(
            "AllocateCommonBufferWithBounds",
            adapter,
            length,
            start..end,
            logical,
        )
    }
}

/// An optional limit.
///
/// # Safety
/// `address` is NULL or points to a PHYSICAL_ADDRESS.
unsafe fn bound(address: PPHYSICAL_ADDRESS) -> Option<u64> {
    // SAFETY: the caller vouches for the pointer.
    unsafe { address.as_ref() }.map(|address| quad_part(*address) as u64)
}

pub unsafe extern "win64" fn free_common_buffer(
    adapter: PDMA_ADAPTER,
    length: ULONG,
    logical: PHYSICAL_ADDRESS,
    address: PVOID,
    _cache_enabled: BOOLEAN,
) {
    let _inside = enter("FreeCommonBuffer", At::Passive, adapter);
    common_buffer::free(
        "FreeCommonBuffer",
        adapter as u64,
        length,
        quad_part(logical) as u64,
        address as u64,
    );
}
