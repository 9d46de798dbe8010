//! The signal handler: from a fault to an access of a register space.

use std::collections::BTreeMap;
use std::ffi::{c_int, c_void};
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::replay::{ARITHMETIC_FLAGS, Context, LONGEST, Replay, decode, text};
use super::{TrapError, find, watch};
use crate::stop::stop;
use crate::{PAGE_SIZE, SystemError};

/// A processor exception that is not a page fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exception {
    /// `int3`, or a single step.
    Breakpoint,
    /// `ud2`, or no instruction at all.
    IllegalInstruction,
    /// Division by zero, or its result does not fit.
    Arithmetic,
}

static FAULT_HOOK: OnceLock<fn(u64, u64, bool) -> !> = OnceLock::new();
static EXCEPTION_HOOK: OnceLock<fn(Exception, u64) -> !> = OnceLock::new();

/// Sets what is called with `(address, instruction pointer, write)` when memory is accessed that is neither
/// accessible nor trapped, and has faults caught from now on. The address is `u64::MAX`, as Windows reports it, if it
/// is not canonical. Without a hook the process ends as it would without the trap.
///
/// The hook runs on the stack of the code that faulted, at its IRQL. The first one set stays.
pub fn set_fault_hook(hook: fn(u64, u64, bool) -> !) -> Result<(), TrapError> {
    FAULT_HOOK.get_or_init(|| hook);
    install()
}

/// Sets what is called with the instruction pointer for other exceptions than page faults, and has them caught from
/// now on. As with [`set_fault_hook`], the hook runs on the stack of the code that faulted.
pub fn set_exception_hook(hook: fn(Exception, u64) -> !) -> Result<(), TrapError> {
    EXCEPTION_HOOK.get_or_init(|| hook);
    [libc::SIGTRAP, libc::SIGILL, libc::SIGFPE]
        .into_iter()
        .try_for_each(|signal| handle(signal, on_exception))
        .map_err(SystemError::of("handle exceptions"))?;
    Ok(())
}

/// Has single steps caught from now on.
pub(super) fn install_steps() -> Result<(), TrapError> {
    handle(libc::SIGTRAP, on_exception).map_err(SystemError::of("handle single steps"))?;
    Ok(())
}

type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

/// Installs the fault handler once.
pub(super) fn install() -> Result<(), TrapError> {
    static INSTALLED: Mutex<bool> = Mutex::new(false);
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if !*installed {
        handle(libc::SIGSEGV, on_fault).map_err(SystemError::of("handle faults"))?;
        *installed = true;
    }
    Ok(())
}

/// Has `handler` run on the stack of the code that faulted, with the signal not blocked: it may switch fibers.
fn handle(signal: c_int, handler: Handler) -> io::Result<()> {
    set_action(
        signal,
        handler as usize,
        libc::SA_SIGINFO | libc::SA_NODEFER,
    )
}

fn set_action(signal: c_int, handler: usize, flags: c_int) -> io::Result<()> {
    // SAFETY: all zeroes are a valid value of this plain structure.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = flags;
    // SAFETY: both pointers are valid or null, and the handler has the type that the flags promise.
    match unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

extern "C" fn on_exception(signal: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes the interrupted code's context, ours until the handler returns.
    let machine = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    if signal == libc::SIGTRAP && watch::stepped(machine) {
        return;
    }
    let exception = match signal {
        libc::SIGTRAP => Exception::Breakpoint,
        libc::SIGFPE => Exception::Arithmetic,
        _ => Exception::IllegalInstruction,
    };
    let ip = machine.uc_mcontext.gregs[libc::REG_RIP as usize] as u64;
    match EXCEPTION_HOOK.get() {
        Some(hook) => hook(exception, ip),
        None => stop(&format!("{exception:?} at {ip:#x}")),
    }
}

extern "C" fn on_fault(_: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    /// The kernel has no address for a general protection fault.
    const NO_ADDRESS: c_int = 0x80;
    /// Bits of a page fault's error code.
    const WRITE: i64 = 1 << 1;
    const FETCH: i64 = 1 << 4;

    // SAFETY: the kernel passes the interrupted code's context, ours until the handler returns.
    let machine = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    // SAFETY: the kernel passes valid information.
    let info = unsafe { &*info };
    // SAFETY: a fault's information has an address.
    let address = unsafe { info.si_addr() } as usize;
    let error = machine.uc_mcontext.gregs[libc::REG_ERR as usize];
    let ip = machine.uc_mcontext.gregs[libc::REG_RIP as usize] as u64;

    if info.si_code != NO_ADDRESS && error & FETCH == 0 {
        if find(address).is_some() {
            return access(machine);
        }
        if watch::access(machine, address, error & WRITE != 0) {
            return;
        }
    }
    let reported = if info.si_code == NO_ADDRESS {
        u64::MAX
    } else {
        address as u64
    };
    match FAULT_HOOK.get() {
        Some(hook) => hook(reported, ip, error & WRITE != 0),
        // The instruction faults again, and the process ends as it would have.
        None => {
            set_action(libc::SIGSEGV, libc::SIG_DFL, 0).unwrap_or_else(|_| std::process::abort())
        }
    }
}

/// Carries out the access that `machine` was interrupted at, and moves it past the instruction.
fn access(machine: &mut libc::ucontext_t) {
    let ip = machine.uc_mcontext.gregs[libc::REG_RIP as usize] as u64;
    let replay = prepared(ip);
    let mut context = load(machine);
    let address = replay.address(&context);
    let last = address.wrapping_add(u64::from(replay.size) - 1);
    let (Some((offset, space)), Some(_)) = (find(address as usize), find(last as usize)) else {
        match FAULT_HOOK.get() {
            Some(hook) => hook(last, ip, replay.writes),
            None => stop(&format!(
                "access of {} bytes at {address:#x} leaves its register range",
                replay.size
            )),
        }
    };
    if replay.reads {
        context.memory = space.read(offset, replay.size) & mask(replay.size);
    }
    replay.run(&mut context);
    if replay.writes {
        space.write(offset, replay.size, context.memory & mask(replay.size));
    }
    store(machine, &context, ip + replay.length());
    space.done();
}

fn mask(size: u8) -> u64 {
    u64::MAX >> (64 - 8 * u32::from(size))
}

/// The instruction at `ip`, made ready once.
fn prepared(ip: u64) -> Arc<Replay> {
    struct Prepared {
        bytes: Vec<u8>,
        replay: Arc<Replay>,
    }
    static CACHE: Mutex<BTreeMap<u64, Prepared>> = Mutex::new(BTreeMap::new());
    /// Far more than a driver has; a test that generates code without end starts over.
    const CAPACITY: usize = 4096;

    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    // Another image may have been loaded at the same address.
    if let Some(prepared) = cache.get(&ip)
        && code_at(ip, prepared.bytes.len()) == prepared.bytes
    {
        return Arc::clone(&prepared.replay);
    }
    let in_page = PAGE_SIZE - ip as usize % PAGE_SIZE;
    let instruction = decode(code_at(ip, in_page.min(LONGEST)), ip)
        // What is cut off by the end of its page continues on the next, which the processor has fetched from.
        .or_else(|| decode(code_at(ip, LONGEST), ip))
        .unwrap_or_else(|| stop(&format!("no instruction at {ip:#x} accesses a register")));
    let replay = Replay::new(&instruction)
        .map(Arc::new)
        .unwrap_or_else(|error| {
            stop(&format!(
                "`{}` at {ip:#x} accesses a register, which cannot be trapped: {error}",
                text(&instruction)
            ))
        });
    if cache.len() >= CAPACITY {
        cache.clear();
    }
    let bytes = code_at(ip, instruction.len()).to_vec();
    cache.insert(
        ip,
        Prepared {
            bytes,
            replay: Arc::clone(&replay),
        },
    );
    replay
}

/// The bytes at an address that the processor has fetched an instruction from.
fn code_at<'a>(ip: u64, length: usize) -> &'a [u8] {
    // SAFETY: code that runs is mapped, readable and not written; callers keep to its page unless the instruction
    // extends into the next.
    unsafe { std::slice::from_raw_parts(ip as *const u8, length) }
}

/// Where the registers are in the kernel's context, in the order of their numbers.
const REGISTERS: [c_int; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

fn load(machine: &libc::ucontext_t) -> Context {
    let registers = &machine.uc_mcontext.gregs;
    Context {
        memory: 0,
        flags: registers[libc::REG_EFL as usize] as u64 & ARITHMETIC_FLAGS,
        registers: REGISTERS.map(|index| registers[index as usize] as u64),
    }
}

fn store(machine: &mut libc::ucontext_t, context: &Context, ip: u64) {
    let registers = &mut machine.uc_mcontext.gregs;
    for (index, value) in REGISTERS.into_iter().zip(context.registers) {
        registers[index as usize] = value as i64;
    }
    let flags = &mut registers[libc::REG_EFL as usize];
    *flags = (*flags & !(ARITHMETIC_FLAGS as i64)) | (context.flags & ARITHMETIC_FLAGS) as i64;
    registers[libc::REG_RIP as usize] = ip as i64;
}
