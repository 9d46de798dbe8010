//! What the compiler expects of the run-time: stack checks and the exception handler.

use crate::bugcheck::{Stop, stop_machine};
use crate::ke::stack;

/// `__chkstk`: called by a function that needs RAX bytes of stack, before it takes them. All registers are kept. On the
/// machine's fibers every page of the stack is there; what is checked is the size of a kernel stack.
///
/// # Safety
/// Called by compiled code only.
#[unsafe(naked)]
pub unsafe extern "win64" fn __chkstk() {
    core::arch::naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "push rax",
        "push rcx",
        "push rdx",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "and rsp, -16",
        "sub rsp, 128",
        "movaps [rsp + 32], xmm0",
        "movaps [rsp + 48], xmm1",
        "movaps [rsp + 64], xmm2",
        "movaps [rsp + 80], xmm3",
        "movaps [rsp + 96], xmm4",
        "movaps [rsp + 112], xmm5",
        "lea rcx, [rbp + 16]",
        "sub rcx, rax",
        "call {check}",
        "movaps xmm0, [rsp + 32]",
        "movaps xmm1, [rsp + 48]",
        "movaps xmm2, [rsp + 64]",
        "movaps xmm3, [rsp + 80]",
        "movaps xmm4, [rsp + 96]",
        "movaps xmm5, [rsp + 112]",
        "lea rsp, [rbp - 56]",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rdx",
        "pop rcx",
        "pop rax",
        "pop rbp",
        "ret",
        check = sym check_stack,
    )
}

extern "win64" fn check_stack(lowest: usize) {
    stack::check_pointer(lowest);
}

/// `__C_specific_handler`: structured exceptions are not dispatched in the machine.
///
/// # Safety
/// None.
pub unsafe extern "win64" fn __C_specific_handler() {
    stop_machine(
        Stop::Unimplemented,
        "__C_specific_handler: a structured exception",
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn chkstk_keeps_registers() {
        let (mut a, mut c, mut d, mut r8, mut r11) = (0x1000u64, 2u64, 3u64, 4u64, 5u64);
        let mut x = 7.5f64;
        // SAFETY: __chkstk changes nothing but memory below the stack pointer.
        unsafe {
            core::arch::asm!(
                "sub rsp, 128",
                "call {chkstk}",
                "add rsp, 128",
                chkstk = sym super::__chkstk,
                inout("rax") a, inout("rcx") c, inout("rdx") d, inout("r8") r8, inout("r11") r11, inout("xmm1") x,
            );
        }
        assert_eq!((a, c, d, r8, r11, x), (0x1000, 2, 3, 4, 5, 7.5));
    }
}
