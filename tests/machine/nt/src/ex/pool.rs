//! Pool memory.
//!
//! Every block is checked as under Driver Verifier's special pool and pool tracking: guard bytes before and after it,
//! filled when freed, and held back for a while, so that a write after the free is found when it is handed out again.

use super::arena::{Arena, UNIT};
use super::lookaside;
use crate::bugcheck::{self, code};
use crate::counters;
use crate::entry::{enter_with, verifier};
use crate::ke::{dpc, spinlock, timer};
use crate::mm;
use crate::sched::{self, APC_LEVEL, DISPATCH_LEVEL};
use machine_bus::PAGE_SIZE;
use nt_sys::{POOL_FLAGS, POOL_TYPE, SIZE_T, ULONG};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::c_void;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

const GUARD: u8 = 0xFD;
const UNINITIALIZED: u8 = 0xA5;
const FREED: u8 = 0xDF;
/// Freed blocks that are held back.
const HELD_BACK: usize = 512;
/// Guard bytes before a block that does not start at a page.
const BEFORE: usize = UNIT;

const POOL_FLAG_UNINITIALIZED: POOL_FLAGS = nt_sys::POOL_FLAG_UNINITIALIZED;
const POOL_FLAG_PAGED: POOL_FLAGS = nt_sys::POOL_FLAG_PAGED;
const POOL_FLAG_RAISE_ON_FAILURE: POOL_FLAGS = nt_sys::POOL_FLAG_RAISE_ON_FAILURE;

/// Which pool a block is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    /// May be used at any IRQL.
    NonPaged,
    /// Only below DISPATCH_LEVEL.
    Paged,
}

impl Pool {
    /// The pool that a POOL_TYPE means.
    pub(crate) fn of(pool_type: POOL_TYPE) -> Self {
        if pool_type & nt_sys::_POOL_TYPE::PagedPool != 0 {
            Self::Paged
        } else {
            Self::NonPaged
        }
    }
}

#[derive(Debug, Clone)]
struct Block {
    /// The range taken from the arena.
    range: Range<usize>,
    /// First byte and length that the caller has.
    start: usize,
    length: usize,
    tag: u32,
    pool: Pool,
    /// Allocated by the image of a driver itself, not on its behalf.
    by_driver: bool,
    /// Which allocation it was, counted from the start.
    serial: u64,
}

impl Block {
    fn guards(&self) -> [Range<usize>; 2] {
        let end = self.start + self.length;
        [self.range.start..self.start, end..self.range.end]
    }
}

struct State {
    arena: Arena,
    live: BTreeMap<usize, Block>,
    freed: VecDeque<Block>,
    serial: u64,
    /// Countdown of driver allocations until one fails.
    fail_in: Option<u64>,
}

static STATE: Mutex<State> = Mutex::new(State {
    arena: Arena::new(),
    live: BTreeMap::new(),
    freed: VecDeque::new(),
    serial: 0,
    fail_in: None,
});

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The four characters of a tag.
pub fn tag_name(tag: u32) -> String {
    let printable = |byte: u8| {
        if byte.is_ascii_graphic() {
            byte as char
        } else {
            '.'
        }
    };
    tag.to_le_bytes().map(printable).iter().collect()
}

/// Lets the `n`-th allocation by driver code from now on fail (1 is the next one); None switches that off.
pub fn fail_allocation(n: Option<u64>) {
    state().fail_in = n;
}

/// Allocates from the pool for the machine itself or a layer above, at any IRQL up to DISPATCH_LEVEL.
pub fn allocate(pool: Pool, length: usize, tag: u32) -> Option<*mut c_void> {
    take(pool, length, tag, false, None)
}

/// Whether the address is in a block of paged pool.
pub(crate) fn is_paged(address: usize) -> bool {
    let state = state();
    let block = state.live.range(..=address).next_back();
    block.is_some_and(|(_, block)| block.range.contains(&address) && block.pool == Pool::Paged)
}

/// Frees what [`allocate`] returned.
///
/// # Safety
/// Nothing uses the block any more.
pub unsafe fn free(block: *mut c_void) {
    give_back(block.addr(), None);
}

fn take(
    pool: Pool,
    length: usize,
    tag: u32,
    by_driver: bool,
    fill: Option<u8>,
) -> Option<*mut c_void> {
    let memory = mm::memory();
    let mut state = state();
    if by_driver && let Some(left) = state.fail_in.as_mut() {
        *left = left.saturating_sub(1);
        if *left == 0 {
            state.fail_in = None;
            return None;
        }
    }
    let before = if length >= PAGE_SIZE { 0 } else { BEFORE };
    let gross = (before + length + UNIT).next_multiple_of(UNIT);
    // A block just below a page takes whole pages, as nothing that crosses a boundary may start within one.
    let (before, gross) = match gross >= PAGE_SIZE {
        true => (0, (length + UNIT).next_multiple_of(PAGE_SIZE)),
        false => (before, gross),
    };
    let base = state.arena.take(&memory, gross).ok()?;
    state.serial += 1;
    let start = base.as_ptr().expose_provenance() + before;
    let block = Block {
        range: base.as_ptr().addr()..base.as_ptr().addr() + gross,
        start,
        length,
        tag,
        pool,
        by_driver,
        serial: state.serial,
    };
    fill_range(&block.range, GUARD);
    fill_range(&(start..start + length), fill.unwrap_or(UNINITIALIZED));
    state.live.insert(start, block);
    counters().pool_allocations.increment();
    Some(std::ptr::with_exposed_provenance_mut(start))
}

/// Checks and frees a block. `tag`: as passed to ExFreePoolWithTag, zero matches any.
fn give_back(address: usize, tag: Option<u32>) {
    let mut state = state();
    let Some(block) = state.live.get(&address).cloned() else {
        let freed = state
            .freed
            .iter()
            .rev()
            .find(|block| block.start == address)
            .cloned();
        drop(state);
        bad_free(address, freed);
    };
    drop(state);
    check_free(&block, tag);
    state = self::state();
    state.live.remove(&address);
    fill_range(&block.range, FREED);
    state.freed.push_back(block);
    let oldest = (state.freed.len() > HELD_BACK)
        .then(|| state.freed.pop_front())
        .flatten();
    if let Some(oldest) = &oldest {
        state
            .arena
            .give_back(oldest.range.start, oldest.range.len());
    }
    drop(state);
    counters().pool_frees.increment();
    if let Some(oldest) = oldest {
        check_freed(&oldest);
    }
}

fn bad_free(address: usize, freed: Option<Block>) -> ! {
    match freed {
        Some(block) => {
            let explanation = format!("{} was freed already", describe(&block));
            bugcheck::stop(
                code::BAD_POOL_CALLER,
                [7, 0, 0, address as u64],
                explanation,
            )
        }
        None => verifier(
            [0x10, address as u64, 0, 0],
            format!("{address:#x} is freed, which no pool routine returned"),
        ),
    }
}

fn check_free(block: &Block, tag: Option<u32>) {
    let irql = sched::irql();
    let (violation, highest) = match block.pool {
        Pool::Paged => (0x11, APC_LEVEL),
        Pool::NonPaged => (0x12, DISPATCH_LEVEL),
    };
    if irql > highest {
        let parameters = [
            violation,
            irql.into(),
            pool_type(block.pool),
            block.start as u64,
        ];
        verifier(
            parameters,
            format!("{} is freed at IRQL {irql}", describe(block)),
        );
    }
    if let Some(tag) = tag.filter(|&tag| tag != 0 && tag != block.tag) {
        let explanation = format!("{} is freed with tag '{}'", describe(block), tag_name(tag));
        let parameters = [0xA, block.start as u64, block.tag.into(), tag.into()];
        bugcheck::stop(code::BAD_POOL_CALLER, parameters, explanation);
    }
    check_guards(block);
    let inside = block.start..block.start + block.length;
    let object = sched::with(|k| {
        let timer = timer::set_in(k, inside.clone()).map(|timer| (0, timer, "timer"));
        timer.or_else(|| dpc::queued_in(k, &inside).map(|dpc| (1, dpc, "DPC")))
    });
    if let Some((kind, object, name)) = object {
        let explanation = format!(
            "{} is freed with an active {name} at {object:#x} in it",
            describe(block)
        );
        let parameters = [kind, object as u64, inside.start as u64, inside.end as u64];
        bugcheck::stop(code::TIMER_OR_DPC_INVALID, parameters, explanation);
    }
    if let Some(list) = lookaside::active_in(inside.clone()) {
        let explanation = format!(
            "{} is freed with lookaside list {list:#x} in it",
            describe(block)
        );
        let parameters = [0xCC, list as u64, block.start as u64, block.length as u64];
        verifier(parameters, explanation);
    }
    if let Some(lock) = spinlock::held_in(inside) {
        let explanation = format!(
            "{} is freed with {} in it",
            describe(block),
            spinlock::describe(lock)
        );
        verifier([0x16, 0, block.start as u64, 0], explanation);
    }
}

fn check_guards(block: &Block) {
    let [before, after] = block.guards();
    if let Some(at) = first_other(&before, GUARD) {
        let explanation = format!(
            "the bytes before {} were written at {at:#x}",
            describe(block)
        );
        let parameters = [0x20, block.start as u64, at as u64, 0];
        bugcheck::stop(code::BAD_POOL_HEADER, parameters, explanation);
    }
    if let Some(at) = first_other(&after, GUARD) {
        let explanation = format!(
            "the bytes after {} were written at {at:#x}",
            describe(block)
        );
        let parameters = [0x51, block.start as u64, at as u64, block.length as u64];
        verifier(parameters, explanation);
    }
}

fn check_freed(block: &Block) {
    if let Some(at) = first_other(&block.range, FREED) {
        let explanation = format!(
            "{} was written at {at:#x} after it was freed",
            describe(block)
        );
        let parameters = [3, block.start as u64, at as u64, 0];
        bugcheck::stop(code::BAD_POOL_HEADER, parameters, explanation);
    }
}

fn describe(block: &Block) -> String {
    format!(
        "pool block {:#x} ({} bytes, tag '{}', {:?}, allocation {})",
        block.start,
        block.length,
        tag_name(block.tag),
        block.pool,
        block.serial
    )
}

fn pool_type(pool: Pool) -> u64 {
    match pool {
        Pool::NonPaged => nt_sys::_POOL_TYPE::NonPagedPoolNx as u64,
        Pool::Paged => nt_sys::_POOL_TYPE::PagedPool as u64,
    }
}

fn fill_range(range: &Range<usize>, value: u8) {
    let start: *mut u8 = std::ptr::with_exposed_provenance_mut(range.start);
    // SAFETY: the range was taken from the arena and belongs to one block.
    unsafe { start.write_bytes(value, range.len()) };
}

/// The first address in the range that does not hold `value`.
fn first_other(range: &Range<usize>, value: u8) -> Option<usize> {
    let start: *const u8 = std::ptr::with_exposed_provenance(range.start);
    // SAFETY: the range was taken from the arena; nobody writes it while it is looked at.
    let bytes = unsafe { std::slice::from_raw_parts(start, range.len()) };
    bytes
        .iter()
        .position(|&byte| byte != value)
        .map(|offset| range.start + offset)
}

/// Checks the guards of every block, and that no freed block was written.
pub fn check_all() {
    let (live, freed) = {
        let state = state();
        (
            state.live.values().cloned().collect::<Vec<_>>(),
            state.freed.clone(),
        )
    };
    live.iter().for_each(check_guards);
    freed.iter().for_each(check_freed);
}

/// What driver code has allocated and not freed, by tag: blocks and bytes.
pub fn driver_blocks() -> BTreeMap<u32, (usize, usize)> {
    let mut by_tag = BTreeMap::new();
    for block in state().live.values().filter(|block| block.by_driver) {
        let (blocks, bytes) = by_tag.entry(block.tag).or_insert((0, 0));
        *blocks += 1;
        *bytes += block.length;
    }
    by_tag
}

/// Called when a driver is unloaded: what it has not freed is bug check 0xC4, 0x62 (name, 0, number of blocks).
pub fn check_unload(driver: &str) {
    check_all();
    let leaks = driver_blocks();
    let count: usize = leaks.values().map(|(blocks, _)| blocks).sum();
    if count == 0 {
        return;
    }
    let parameters = [0x62, driver.as_ptr().addr() as u64, 0, count as u64];
    let explanation = format!("{driver} is unloaded without having freed its pool allocations");
    bugcheck::stop_with(
        code::DRIVER_VERIFIER_DETECTED_VIOLATION,
        parameters,
        explanation,
        |out| {
            for (tag, (blocks, bytes)) in &leaks {
                let _ = writeln!(
                    out,
                    "  tag '{}': {blocks} blocks, {bytes} bytes",
                    tag_name(*tag)
                );
            }
        },
    );
}

/// IRQL, size and tag checks of an allocation, as Driver Verifier makes them.
fn check_allocation(pool: Pool, length: usize) {
    let irql = sched::irql();
    if length == 0 {
        verifier(
            [0, irql.into(), pool_type(pool), 0],
            "a pool allocation of zero bytes",
        );
    }
    let (violation, highest) = match pool {
        Pool::Paged => (1, APC_LEVEL),
        Pool::NonPaged => (2, DISPATCH_LEVEL),
    };
    if irql > highest {
        let explanation = format!("a {pool:?} pool allocation at IRQL {irql}");
        verifier(
            [violation, irql.into(), pool_type(pool), length as u64],
            explanation,
        );
    }
}

/// ExAllocatePool2. IRQL <= DISPATCH_LEVEL for nonpaged pool, <= APC_LEVEL for paged. The memory is zeroed unless
/// POOL_FLAG_UNINITIALIZED asks otherwise.
///
/// # Safety
/// None.
pub unsafe extern "win64" fn ExAllocatePool2(
    flags: POOL_FLAGS,
    length: SIZE_T,
    tag: ULONG,
) -> *mut c_void {
    allocate_pool2(false, flags, length, tag)
}

/// ExAllocatePoolWithTag. IRQL as [`ExAllocatePool2`]. The memory is not zeroed.
///
/// # Safety
/// None.
pub unsafe extern "win64" fn ExAllocatePoolWithTag(
    pool_type: POOL_TYPE,
    length: SIZE_T,
    tag: ULONG,
) -> *mut c_void {
    allocate_with_tag(false, pool_type, length, tag)
}

fn allocate_pool2(by_driver: bool, flags: POOL_FLAGS, length: SIZE_T, tag: ULONG) -> *mut c_void {
    let pool = if flags & POOL_FLAG_PAGED != 0 {
        Pool::Paged
    } else {
        Pool::NonPaged
    };
    let length = length as usize;
    check_allocation(pool, length);
    let _inside = enter_with("ExAllocatePool2", DISPATCH_LEVEL, length);
    let fill = (flags & POOL_FLAG_UNINITIALIZED == 0).then_some(0);
    let block = take(pool, length, tag, by_driver, fill);
    if block.is_none() && flags & POOL_FLAG_RAISE_ON_FAILURE != 0 {
        let insufficient_resources = 0xC000_009A;
        let parameters = [insufficient_resources, 0, 0, 0];
        let explanation = "ExAllocatePool2 raises STATUS_INSUFFICIENT_RESOURCES";
        bugcheck::stop(code::KMODE_EXCEPTION_NOT_HANDLED, parameters, explanation);
    }
    block.unwrap_or(std::ptr::null_mut())
}

fn allocate_with_tag(
    by_driver: bool,
    pool_type: POOL_TYPE,
    length: SIZE_T,
    tag: ULONG,
) -> *mut c_void {
    let pool = Pool::of(pool_type);
    let length = length as usize;
    check_allocation(pool, length);
    let _inside = enter_with("ExAllocatePoolWithTag", DISPATCH_LEVEL, length);
    take(pool, length, tag, by_driver, None).unwrap_or(std::ptr::null_mut())
}

/// The routines that an image imports: what they allocate is the driver's, and has to be freed when it is unloaded.
/// The layers above call the routines directly; theirs is not counted.
pub(crate) mod image {
    use super::*;

    /// ExAllocatePool2, called by the image.
    pub(crate) unsafe extern "win64" fn ExAllocatePool2(
        flags: POOL_FLAGS,
        length: SIZE_T,
        tag: ULONG,
    ) -> *mut c_void {
        allocate_pool2(true, flags, length, tag)
    }

    /// ExAllocatePoolWithTag, called by the image.
    pub(crate) unsafe extern "win64" fn ExAllocatePoolWithTag(
        pool_type: POOL_TYPE,
        length: SIZE_T,
        tag: ULONG,
    ) -> *mut c_void {
        allocate_with_tag(true, pool_type, length, tag)
    }
}

/// An IRP is freed with IoFreeIrp: anything else is 0xC4, 0x105.
fn check_no_irp(address: usize) {
    let is_irp = state()
        .live
        .get(&address)
        .is_some_and(|block| block.tag == crate::io::irp::TAG);
    if is_irp {
        verifier(
            [0x105, address as u64, 0, 0],
            format!("ExFreePool of IRP {address:#x}"),
        );
    }
}

/// ExFreePool. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// Nothing uses the block any more.
pub unsafe extern "win64" fn ExFreePool(block: *mut c_void) {
    let _inside = enter_with("ExFreePool", sched::HIGH_LEVEL, block.addr());
    check_no_irp(block.addr());
    give_back(block.addr(), None);
}

/// ExFreePoolWithTag. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// Nothing uses the block any more.
pub unsafe extern "win64" fn ExFreePoolWithTag(block: *mut c_void, tag: ULONG) {
    let _inside = enter_with("ExFreePoolWithTag", sched::HIGH_LEVEL, block.addr());
    check_no_irp(block.addr());
    give_back(block.addr(), Some(tag));
}
