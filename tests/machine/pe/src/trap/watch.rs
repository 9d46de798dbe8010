//! Memory that is memory, but of which every access is told before it happens.
//!
//! The pages are not accessible. At an access the watcher is told, and may switch to another fiber; then the pages are
//! opened, the processor runs the one instruction (a single step), and they are closed again. So any instruction will
//! do. What the operating system is to read or write by itself (a buffer of a system call) is refused by it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::{Arc, PoisonError, RwLock};

use rustix::mm::{MprotectFlags, mprotect};

use super::{TrapError, signal};
use crate::stop::stop;
use crate::{PAGE_SIZE, SystemError};

/// Is told of accesses: the offset of the first byte that was not accessible, and whether it is written to. It may
/// access trapped and watched memory and switch fibers. It must not unwind.
pub type Watcher = Arc<dyn Fn(u64, bool) + Send + Sync>;

struct Region {
    length: usize,
    watcher: Watcher,
}

static REGIONS: RwLock<BTreeMap<usize, Region>> = RwLock::new(BTreeMap::new());

/// An instruction that runs with pages open.
struct Step {
    /// Its address. A repeated one is still there after a step.
    ip: u64,
    open: Vec<Range<usize>>,
}

thread_local! {
    static STEP: RefCell<Option<Step>> = const { RefCell::new(None) };
}

/// The trap flag: the processor stops after the instruction.
const SINGLE_STEP: i64 = 1 << 8;

/// Tells `watcher` of every access to the pages of `length` bytes at `base`, until [`unwatch`].
///
/// # Safety
/// The pages are mapped, readable and writable, until they are no longer watched, and nobody else changes what may be
/// done with them.
///
/// # Errors
/// The pages cannot be protected.
pub unsafe fn watch(base: NonNull<u8>, length: usize, watcher: Watcher) -> Result<(), TrapError> {
    let base = base.as_ptr() as usize;
    let length = length.next_multiple_of(PAGE_SIZE);
    if length == 0 {
        return Err(TrapError::Empty);
    }
    if !base.is_multiple_of(PAGE_SIZE) {
        return Err(TrapError::Unaligned(base));
    }
    signal::install()?;
    signal::install_steps()?;
    REGIONS
        .write()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(base, Region { length, watcher });
    Ok(set_access(base..base + length, MprotectFlags::empty())?)
}

/// Gives the pages back as they were given to [`watch`].
///
/// # Errors
/// Nothing is watched there, or the pages cannot be opened.
pub fn unwatch(base: NonNull<u8>) -> Result<(), TrapError> {
    let base = base.as_ptr() as usize;
    let region = REGIONS
        .write()
        .unwrap_or_else(PoisonError::into_inner)
        .remove(&base)
        .ok_or(TrapError::NotMapped(base))?;
    Ok(open(base..base + region.length)?)
}

/// Does what accesses the memory at `address`, which need not be watched, by many instructions: if it is, its watcher is
/// told once, before. `access` must not switch fibers.
pub fn bulk<R>(address: *mut u8, write: bool, access: impl FnOnce() -> R) -> R {
    let address = address as usize;
    let Some((range, watcher)) = find(address) else {
        return access();
    };
    watcher((address - range.start) as u64, write);
    drop(watcher);
    let must = |outcome: Result<(), SystemError>| {
        outcome.unwrap_or_else(|error| stop(&format!("watched memory at {address:#x}: {error}")));
    };
    must(open(range.clone()));
    let result = access();
    must(set_access(range, MprotectFlags::empty()));
    result
}

/// Watches again what is watched, after the memory behind it was mapped anew.
///
/// # Errors
/// The pages cannot be protected.
pub fn watch_again() -> Result<(), TrapError> {
    let regions = REGIONS.read().unwrap_or_else(PoisonError::into_inner);
    for (&base, region) in regions.iter() {
        set_access(base..base + region.length, MprotectFlags::empty())?;
    }
    Ok(())
}

fn find(address: usize) -> Option<(Range<usize>, Watcher)> {
    let regions = REGIONS.read().unwrap_or_else(PoisonError::into_inner);
    let (&base, region) = regions.range(..=address).next_back()?;
    let range = base..base + region.length;
    range
        .contains(&address)
        .then(|| (range, Arc::clone(&region.watcher)))
}

/// Handles a fault at `address`: whether the instruction is to be run again.
pub(super) fn access(machine: &mut libc::ucontext_t, address: usize, write: bool) -> bool {
    let Some((mut range, watcher)) = find(address) else {
        return false;
    };
    let under_way = STEP.with_borrow(|step| step.is_some());
    if !under_way {
        watcher((address - range.start) as u64, write);
        // Another fiber may have freed the memory.
        match find(address) {
            Some((now, _)) => range = now,
            None => return false,
        }
    }
    if let Err(error) = open(range.clone()) {
        stop(&format!("watched memory at {address:#x}: {error}"));
    }
    let registers = &mut machine.uc_mcontext.gregs;
    let ip = registers[libc::REG_RIP as usize] as u64;
    STEP.with_borrow_mut(|step| {
        let open = Vec::new();
        let step = step.get_or_insert(Step { ip, open });
        step.open.push(range);
    });
    registers[libc::REG_EFL as usize] |= SINGLE_STEP;
    true
}

/// Handles a single step: whether it was one of ours.
pub(super) fn stepped(machine: &mut libc::ucontext_t) -> bool {
    let registers = &mut machine.uc_mcontext.gregs;
    let ip = registers[libc::REG_RIP as usize] as u64;
    let done = STEP.with_borrow_mut(|step| match step {
        // A repeated instruction goes on.
        Some(step) if step.ip == ip => Some(Vec::new()),
        Some(_) => {
            registers[libc::REG_EFL as usize] &= !SINGLE_STEP;
            step.take().map(|step| step.open)
        }
        None => None,
    });
    let Some(ranges) = done else { return false };
    for range in ranges {
        let start = range.start;
        if let Err(error) = set_access(range, MprotectFlags::empty()) {
            stop(&format!("watched memory at {start:#x}: {error}"));
        }
    }
    true
}

fn open(range: Range<usize>) -> Result<(), SystemError> {
    set_access(range, MprotectFlags::READ | MprotectFlags::WRITE)
}

fn set_access(range: Range<usize>, flags: MprotectFlags) -> Result<(), SystemError> {
    let start = std::ptr::with_exposed_provenance_mut(range.start);
    // SAFETY: pages that were given to `watch`.
    unsafe { mprotect(start, range.len(), flags) }
        .map_err(SystemError::of("protect watched memory"))
}

#[cfg(test)]
mod tests {
    use std::arch::asm;
    use std::sync::Mutex;

    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

    use super::*;
    use crate::own_process::{in_own_process, stopped};
    use crate::trap::{set_exception_hook, set_fault_hook};

    /// New pages.
    fn pages(count: usize) -> NonNull<u8> {
        let (length, none) = (count * PAGE_SIZE, std::ptr::null_mut());
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping touches nothing that exists.
        let base = unsafe { mmap_anonymous(none, length, access, MapFlags::PRIVATE) };
        NonNull::new(base.expect("memory").cast()).expect("not at zero")
    }

    type Log = Arc<Mutex<Vec<(u64, bool)>>>;

    /// Watched pages and what was told of them.
    fn watched(count: usize) -> (NonNull<u8>, Log) {
        let base = pages(count);
        let log = Log::default();
        let told = log.clone();
        let watcher = move |offset, write| told.lock().unwrap().push((offset, write));
        // SAFETY: pages of this test alone.
        unsafe { watch(base, count * PAGE_SIZE, Arc::new(watcher)) }.expect("watched");
        (base, log)
    }

    fn told(log: &Log) -> Vec<(u64, bool)> {
        std::mem::take(&mut log.lock().unwrap())
    }

    fn at(base: NonNull<u8>, offset: usize) -> *mut u8 {
        base.as_ptr().wrapping_add(offset)
    }

    fn put(address: *mut u8, value: u64) {
        // SAFETY: mapped memory of the test.
        unsafe { asm!("mov [{}], {}", in(reg) address, in(reg) value) };
    }

    fn get(address: *mut u8) -> u64 {
        let value;
        // SAFETY: mapped memory of the test.
        unsafe { asm!("mov {}, [{}]", out(reg) value, in(reg) address) };
        value
    }

    #[test]
    fn every_access_is_told_and_carried_out() {
        let (base, log) = watched(1);
        let number = at(base, 16);
        put(number, 7);
        // SAFETY: mapped memory.
        unsafe { asm!("lock add qword ptr [{}], 5", in(reg) number) };
        assert_eq!(get(number), 12);
        assert_eq!(told(&log), [(16, true), (16, true), (16, false)]);
        unwatch(base).expect("was watched");
        assert_eq!((get(number), told(&log)), (12, vec![]));
        assert!(matches!(unwatch(base), Err(TrapError::NotMapped(_))));
    }

    #[test]
    fn only_whole_pages_are_watched() {
        let base = pages(1);
        let watch = |offset, length| {
            let base = NonNull::new(at(base, offset)).expect("not at zero");
            // SAFETY: pages of this test alone.
            unsafe { watch(base, length, Arc::new(|_, _| {})) }
        };
        assert!(matches!(watch(0, 0), Err(TrapError::Empty)));
        assert!(matches!(watch(8, 8), Err(TrapError::Unaligned(_))));
    }

    #[test]
    fn an_access_across_pages_is_told_once() {
        let (base, log) = watched(2);
        let across = at(base, PAGE_SIZE - 4);
        put(across, 0x0102_0304_0506_0708);
        assert_eq!(get(across), 0x0102_0304_0506_0708);
        assert_eq!(told(&log), [(4092, true), (4092, false)]);
    }

    #[test]
    fn vectors_and_repeated_instructions_will_do() {
        let (base, log) = watched(1);
        // SAFETY: mapped memory.
        unsafe {
            asm!("pcmpeqd xmm0, xmm0", "movups [{}], xmm0", in(reg) base.as_ptr(), out("xmm0") _)
        };
        assert_eq!(told(&log), [(0, true)]);
        let mut copy = [0u8; 24];
        // SAFETY: as above.
        unsafe {
            asm!("rep movsb", inout("rsi") base.as_ptr() => _, inout("rdi") copy.as_mut_ptr() => _, inout("rcx") 24 => _)
        };
        assert_eq!(copy[..16], [0xff; 16]);
        assert_eq!(copy[16..], [0; 8]);
        assert_eq!(told(&log), [(0, false)]);
    }

    #[test]
    fn an_access_in_bulk_is_told_once() {
        let (base, log) = watched(1);
        let copy = bulk(at(base, 8), true, || {
            (0..9).for_each(|index| put(at(base, 8 * index), index as u64));
            get(at(base, 64))
        });
        assert_eq!((copy, told(&log)), (8, vec![(8, true)]));
        assert_eq!((get(at(base, 8)), told(&log)), (1, vec![(8, false)]));
        assert_eq!(bulk(pages(1).as_ptr(), true, || 5), 5);
    }

    #[test]
    fn memory_mapped_anew_is_watched_again() {
        let (base, log) = watched(1);
        open(base.as_ptr() as usize..base.as_ptr() as usize + PAGE_SIZE).expect("open");
        put(at(base, 0), 1);
        assert_eq!(told(&log), []);
        watch_again().expect("watched");
        assert_eq!((get(at(base, 0)), told(&log)), (1, vec![(0, false)]));
    }

    #[test]
    fn two_watched_operands_of_one_instruction_are_carried_out() {
        let ((from, read), (to, written)) = (watched(1), watched(1));
        // SAFETY: mapped memory.
        unsafe { from.write_volatile(0x5a) };
        told(&read);
        // SAFETY: as above.
        unsafe { asm!("movsb", inout("rsi") from.as_ptr() => _, inout("rdi") to.as_ptr() => _) };
        assert_eq!((told(&read), told(&written)), (vec![(0, false)], vec![]));
        // Both are closed again.
        assert_eq!((get(from.as_ptr()), get(to.as_ptr())), (0x5a, 0x5a));
        assert_eq!((told(&read).len(), told(&written).len()), (1, 1));
    }

    /// What a watcher does with watched memory is told as well.
    #[test]
    fn a_watcher_may_access_watched_memory() {
        let (inner, log) = watched(1);
        let outer = pages(1);
        let address = inner.as_ptr() as usize;
        let watcher = move |_, _| {
            let counter = std::ptr::with_exposed_provenance_mut(address);
            put(counter, get(counter) + 1);
        };
        // SAFETY: pages of this test alone.
        unsafe { watch(outer, PAGE_SIZE, Arc::new(watcher)) }.expect("watched");
        put(outer.as_ptr(), 1);
        assert_eq!(told(&log).len(), 2);
        assert_eq!(get(inner.as_ptr()), 1);
    }

    #[test]
    fn memory_freed_while_its_watcher_runs_is_a_fault() {
        if in_own_process() {
            set_fault_hook(|_, _, write| {
                eprintln!("fault, write {write}");
                std::process::exit(9)
            })
            .unwrap();
            let base = pages(1);
            let address = base.as_ptr() as usize;
            let free = move |_, _| {
                let base = NonNull::new(std::ptr::with_exposed_provenance_mut(address)).unwrap();
                unwatch(base).unwrap();
                // SAFETY: pages of this test alone.
                unsafe { rustix::mm::munmap(base.as_ptr().cast(), PAGE_SIZE) }.unwrap();
            };
            // SAFETY: as above.
            unsafe { watch(base, PAGE_SIZE, Arc::new(free)) }.unwrap();
            put(base.as_ptr(), 1);
        }
        let name = "trap::watch::tests::memory_freed_while_its_watcher_runs_is_a_fault";
        assert_eq!(stopped(name).trim_end(), "fault, write true");
    }

    #[test]
    fn a_breakpoint_is_still_an_exception() {
        if in_own_process() {
            set_exception_hook(|exception, _| {
                eprintln!("{exception:?}");
                std::process::exit(9)
            })
            .unwrap();
            let (base, _) = watched(1);
            put(base.as_ptr(), 1);
            // SAFETY: never returns.
            unsafe { asm!("int3") };
        }
        let name = "trap::watch::tests::a_breakpoint_is_still_an_exception";
        assert_eq!(stopped(name).trim_end(), "Breakpoint");
    }
}
