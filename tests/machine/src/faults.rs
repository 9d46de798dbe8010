//! What the processor reports while driver code runs, as the bug checks that Windows makes of it.

use std::ops::Range;
use std::sync::OnceLock;

use machine_nt::bugcheck::{self, Stop, code};
use machine_nt::sched::{DISPATCH_LEVEL, irql};
use machine_pe::trap::{self, Exception, TrapError};

/// STATUS_ACCESS_VIOLATION and its kind, as parameters of a bug check.
const ACCESS_VIOLATION: u64 = 0xffff_ffff_c000_0005;
const BREAKPOINT: u64 = 0xffff_ffff_8000_0003;
const ILLEGAL_INSTRUCTION: u64 = 0xffff_ffff_c000_001d;
const DIVIDE_BY_ZERO: u64 = 0xffff_ffff_c000_0094;
/// Addresses below this are never mapped: what dereferences a null pointer, and a field behind one, ends here.
const NULL_AREA: u64 = 0x1_0000;

static IMAGE: OnceLock<(String, Range<usize>)> = OnceLock::new();

/// Has faults reported. Once a process.
pub(crate) fn install() -> Result<(), TrapError> {
    machine_pe::set_stop_hook(|text| bugcheck::stop_machine(Stop::Unimplemented, text));
    trap::set_fault_hook(fault)?;
    trap::set_exception_hook(exception)
}

/// Makes explanations name places in the driver's image.
pub(crate) fn set_image(name: &str, addresses: Range<usize>) {
    // The first one stays; there is one driver in a machine.
    let _ = IMAGE.set((name.to_owned(), addresses));
}

/// Memory was accessed that is not there: bug check 0xD1 at raised IRQL, where Windows cannot page; otherwise 0x1E for a
/// null pointer (an exception nobody handles), 0x50 for everything else.
fn fault(address: u64, instruction: u64, write: bool) -> ! {
    let access = if write { "write" } else { "read" };
    let explanation = format!("{} tried to {access} {address:#x}", locate(instruction));
    let write = u64::from(write);
    let level = irql();
    if level >= DISPATCH_LEVEL {
        bugcheck::stop(
            code::DRIVER_IRQL_NOT_LESS_OR_EQUAL,
            [address, level.into(), write, instruction],
            explanation,
        );
    }
    if address < NULL_AREA || address == u64::MAX {
        bugcheck::stop(
            code::KMODE_EXCEPTION_NOT_HANDLED,
            [ACCESS_VIOLATION, instruction, write, address],
            explanation,
        );
    }
    bugcheck::stop(
        code::PAGE_FAULT_IN_NONPAGED_AREA,
        [address, write, instruction, 0],
        explanation,
    )
}

fn exception(exception: Exception, instruction: u64) -> ! {
    let (status, what) = match exception {
        Exception::Breakpoint => (BREAKPOINT, "a breakpoint"),
        Exception::IllegalInstruction => (ILLEGAL_INSTRUCTION, "an illegal instruction"),
        Exception::Arithmetic => (DIVIDE_BY_ZERO, "a division that cannot be done"),
    };
    bugcheck::stop(
        code::KMODE_EXCEPTION_NOT_HANDLED,
        [status, instruction, 0, 0],
        format!("{what} at {}", locate(instruction)),
    )
}

fn locate(instruction: u64) -> String {
    match IMAGE.get() {
        Some((name, range)) if range.contains(&(instruction as usize)) => {
            format!("{name}+{:#x}", instruction as usize - range.start)
        }
        _ => format!("code outside the driver ({instruction:#x})"),
    }
}
