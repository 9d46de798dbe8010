//! Every instruction form on a trapped register does what it does on memory.

use std::arch::asm;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use corosensei::{Coroutine, Yielder};
use iced_x86::{Code, Instruction, MemoryOperand, Register};

use super::replay::{ARITHMETIC_FLAGS, Context, Replay, ReplayError, decode, emit};
use super::{RegisterSpace, TrapError, map, set_exception_hook, set_fault_hook, unmap};
use crate::code::CodePage;
use crate::own_process::{in_own_process, stopped};

const LENGTH: usize = 0x200;

/// Where the tests' operand is; the bit tests reach to either side.
const OPERAND: usize = 0x100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Read { offset: u64, size: u8 },
    Write { offset: u64, size: u8, value: u64 },
    Done,
}

/// Registers that keep what is written to them.
struct Model {
    state: Mutex<(Vec<u8>, Vec<Step>)>,
}

impl Model {
    fn new(bytes: &[u8]) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new((bytes.to_vec(), Vec::new())),
        })
    }

    fn state(&self) -> MutexGuard<'_, (Vec<u8>, Vec<Step>)> {
        self.state.lock().unwrap()
    }

    fn steps(&self) -> Vec<Step> {
        std::mem::take(&mut self.state().1)
    }
}

impl RegisterSpace for Model {
    fn read(&self, offset: u64, size: u8) -> u64 {
        let (bytes, steps) = &mut *self.state();
        steps.push(Step::Read { offset, size });
        let mut value = [0; 8];
        value[..usize::from(size)].copy_from_slice(&bytes[offset as usize..][..usize::from(size)]);
        u64::from_le_bytes(value)
    }

    fn write(&self, offset: u64, size: u8, value: u64) {
        let (bytes, steps) = &mut *self.state();
        steps.push(Step::Write {
            offset,
            size,
            value,
        });
        bytes[offset as usize..][..usize::from(size)]
            .copy_from_slice(&value.to_le_bytes()[..usize::from(size)]);
    }

    fn done(&self) {
        self.state().1.push(Step::Done);
    }
}

/// The test's operand, addressed by all that an operand can have.
fn operand() -> MemoryOperand {
    MemoryOperand::with_base_index_scale_displ_size(Register::RBX, Register::RDI, 4, 0x10, 1)
}

/// Runs an instruction on the operand at `base + OPERAND`.
fn run(instruction: &Instruction, base: *mut u8, context: &Context) -> Context {
    let page = CodePage::new(&emit(instruction, Register::R15).unwrap()).unwrap();
    // SAFETY: the page holds a function of this type.
    let function: unsafe extern "sysv64" fn(*mut Context) =
        unsafe { std::mem::transmute(page.address().as_ptr()) };
    let mut context = *context;
    let index = context.registers[Register::RDI.number()];
    let start = base as u64 + OPERAND as u64;
    context.registers[Register::RBX.number()] =
        start.wrapping_sub(index.wrapping_mul(4)).wrapping_sub(0x10);
    // SAFETY: the instruction accesses memory near the operand only.
    unsafe { function(&mut context) };
    context.registers[Register::RBX.number()] = 0;
    context.flags &= ARITHMETIC_FLAGS;
    context
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Compares one instruction on memory and on trapped registers, with several values.
fn compare(instruction: &Instruction) {
    let mut seed = 0x2545_f491_4f6c_dd1d ^ instruction.code() as u64;
    for round in 0..16 {
        let mut context = Context {
            memory: 0,
            flags: random(&mut seed) & ARITHMETIC_FLAGS,
            registers: [0; 16],
        };
        context.registers.fill_with(|| random(&mut seed));
        // The bit tests' index stays near, and no division overflows.
        context.registers[Register::RSI.number()] = (random(&mut seed) % 1024).wrapping_sub(512);
        context.registers[Register::RDX.number()] = 0;
        context.registers[Register::RAX.number()] >>= 8;
        let mut memory: Vec<u8> = (0..LENGTH).map(|_| random(&mut seed) as u8 | 1).collect();
        if round % 4 == 0 {
            // Some compare-exchanges succeed.
            memory[OPERAND..OPERAND + 8]
                .copy_from_slice(&context.registers[Register::RAX.number()].to_le_bytes());
            memory[OPERAND + 7] |= 1;
        }
        let model = Model::new(&memory);
        let base = map(LENGTH, model.clone()).unwrap();
        let trapped = run(instruction, base, &context);
        let native = run(instruction, memory.as_mut_ptr(), &context);
        unmap(base).unwrap();
        assert_eq!(trapped, native, "registers after {instruction:?}");
        assert_eq!(model.state().0, memory, "memory after {instruction:?}");
        let steps = model.steps();
        assert_eq!(steps.last(), Some(&Step::Done));
        assert!(
            (2..=3).contains(&steps.len()),
            "{steps:?} of {instruction:?}"
        );
    }
}

fn with_register(codes: &[(Code, Register)]) {
    for &(code, register) in codes {
        compare(&Instruction::with2(code, operand(), register).unwrap());
    }
}

fn from_memory(codes: &[(Code, Register)]) {
    for &(code, register) in codes {
        compare(&Instruction::with2(code, register, operand()).unwrap());
    }
}

fn with_immediate(codes: &[(Code, i32)]) {
    for &(code, immediate) in codes {
        compare(&Instruction::with2(code, operand(), immediate).unwrap());
    }
}

fn alone(codes: &[Code]) {
    for &code in codes {
        compare(&Instruction::with1(code, operand()).unwrap());
    }
}

use Code::*;
use Register::{
    AH, AL, AX, BPL, CH, CL, CX, EAX, ECX, ESI, R8, R8D, R8L, R8W, R14, RAX, RCX, RSI, SI,
};

/// All forms of an instruction with two operands.
macro_rules! all_forms {
    ($([$rm8_r8:ident $rm16_r16:ident $rm32_r32:ident $rm64_r64:ident $r8_rm8:ident $r16_rm16:ident $r32_rm32:ident
        $r64_rm64:ident $rm8_imm8:ident $rm16_imm16:ident $rm32_imm32:ident $rm64_imm32:ident $rm32_imm8:ident])*) => {
        $(
            with_register(&[
                ($rm8_r8, AH), ($rm8_r8, R8L), ($rm8_r8, BPL), ($rm16_r16, CX), ($rm32_r32, ECX), ($rm64_r64, R8),
                ($rm64_r64, R14),
            ]);
            from_memory(&[
                ($r8_rm8, CH), ($r8_rm8, AL), ($r16_rm16, R8W), ($r32_rm32, EAX), ($r32_rm32, R8D), ($r64_rm64, RCX),
            ]);
            with_immediate(&[
                ($rm8_imm8, 0x5a), ($rm16_imm16, 0x1234), ($rm32_imm32, 0x1234_5678), ($rm64_imm32, -2),
                ($rm32_imm8, -1),
            ]);
        )*
    };
}

#[test]
fn arithmetic() {
    all_forms! {
        [Add_rm8_r8 Add_rm16_r16 Add_rm32_r32 Add_rm64_r64 Add_r8_rm8 Add_r16_rm16 Add_r32_rm32 Add_r64_rm64
         Add_rm8_imm8 Add_rm16_imm16 Add_rm32_imm32 Add_rm64_imm32 Add_rm32_imm8]
        [Or_rm8_r8 Or_rm16_r16 Or_rm32_r32 Or_rm64_r64 Or_r8_rm8 Or_r16_rm16 Or_r32_rm32 Or_r64_rm64
         Or_rm8_imm8 Or_rm16_imm16 Or_rm32_imm32 Or_rm64_imm32 Or_rm32_imm8]
        [Adc_rm8_r8 Adc_rm16_r16 Adc_rm32_r32 Adc_rm64_r64 Adc_r8_rm8 Adc_r16_rm16 Adc_r32_rm32 Adc_r64_rm64
         Adc_rm8_imm8 Adc_rm16_imm16 Adc_rm32_imm32 Adc_rm64_imm32 Adc_rm32_imm8]
        [Sbb_rm8_r8 Sbb_rm16_r16 Sbb_rm32_r32 Sbb_rm64_r64 Sbb_r8_rm8 Sbb_r16_rm16 Sbb_r32_rm32 Sbb_r64_rm64
         Sbb_rm8_imm8 Sbb_rm16_imm16 Sbb_rm32_imm32 Sbb_rm64_imm32 Sbb_rm32_imm8]
        [And_rm8_r8 And_rm16_r16 And_rm32_r32 And_rm64_r64 And_r8_rm8 And_r16_rm16 And_r32_rm32 And_r64_rm64
         And_rm8_imm8 And_rm16_imm16 And_rm32_imm32 And_rm64_imm32 And_rm32_imm8]
        [Sub_rm8_r8 Sub_rm16_r16 Sub_rm32_r32 Sub_rm64_r64 Sub_r8_rm8 Sub_r16_rm16 Sub_r32_rm32 Sub_r64_rm64
         Sub_rm8_imm8 Sub_rm16_imm16 Sub_rm32_imm32 Sub_rm64_imm32 Sub_rm32_imm8]
        [Xor_rm8_r8 Xor_rm16_r16 Xor_rm32_r32 Xor_rm64_r64 Xor_r8_rm8 Xor_r16_rm16 Xor_r32_rm32 Xor_r64_rm64
         Xor_rm8_imm8 Xor_rm16_imm16 Xor_rm32_imm32 Xor_rm64_imm32 Xor_rm32_imm8]
        [Cmp_rm8_r8 Cmp_rm16_r16 Cmp_rm32_r32 Cmp_rm64_r64 Cmp_r8_rm8 Cmp_r16_rm16 Cmp_r32_rm32 Cmp_r64_rm64
         Cmp_rm8_imm8 Cmp_rm16_imm16 Cmp_rm32_imm32 Cmp_rm64_imm32 Cmp_rm32_imm8]
    }
    alone(&[
        Inc_rm8, Inc_rm16, Inc_rm32, Inc_rm64, Dec_rm8, Dec_rm16, Dec_rm32, Dec_rm64, Neg_rm32,
        Neg_rm64, Not_rm8, Not_rm16, Not_rm32, Not_rm64, Mul_rm32, Mul_rm64, Imul_rm32, Div_rm64,
    ]);
    from_memory(&[(Imul_r32_rm32, EAX), (Imul_r64_rm64, R8)]);
    compare(&Instruction::with3(Imul_r32_rm32_imm32, ECX, operand(), 77).unwrap());
}

#[test]
fn moves() {
    with_register(&[
        (Mov_rm8_r8, CH),
        (Mov_rm8_r8, R8L),
        (Mov_rm16_r16, CX),
        (Mov_rm32_r32, R8D),
        (Mov_rm64_r64, RCX),
        (Xchg_rm8_r8, AL),
        (Xchg_rm16_r16, CX),
        (Xchg_rm32_r32, R8D),
        (Xchg_rm64_r64, RAX),
        (Xadd_rm32_r32, ECX),
        (Xadd_rm64_r64, R8),
        (Cmpxchg_rm8_r8, CL),
        (Cmpxchg_rm32_r32, ECX),
        (Cmpxchg_rm64_r64, R8),
    ]);
    from_memory(&[
        (Mov_r8_rm8, AH),
        (Mov_r8_rm8, BPL),
        (Mov_r16_rm16, AX),
        (Mov_r32_rm32, EAX),
        (Mov_r64_rm64, R8),
        (Movzx_r16_rm8, CX),
        (Movzx_r32_rm8, ECX),
        (Movzx_r64_rm8, R8),
        (Movzx_r32_rm16, R8D),
        (Movzx_r64_rm16, RAX),
        (Movsx_r16_rm8, CX),
        (Movsx_r32_rm8, ECX),
        (Movsx_r64_rm8, R8),
        (Movsx_r32_rm16, R8D),
        (Movsx_r64_rm16, RAX),
        (Movsxd_r64_rm32, RCX),
        (Cmove_r32_rm32, ECX),
        (Cmovne_r64_rm64, R8),
        (Cmovb_r32_rm32, EAX),
    ]);
    with_immediate(&[
        (Mov_rm8_imm8, 0x5a),
        (Mov_rm16_imm16, 0x1234),
        (Mov_rm32_imm32, -2),
        (Mov_rm64_imm32, -2),
    ]);
    alone(&[Sete_rm8, Setne_rm8, Setb_rm8, Setg_rm8]);
}

#[test]
fn tests_and_bits() {
    with_register(&[
        (Test_rm8_r8, AH),
        (Test_rm16_r16, CX),
        (Test_rm32_r32, R8D),
        (Test_rm64_r64, RCX),
        (Bt_rm16_r16, SI),
        (Bt_rm32_r32, ESI),
        (Bt_rm64_r64, RSI),
        (Bts_rm32_r32, ESI),
        (Bts_rm64_r64, RSI),
        (Btr_rm16_r16, SI),
        (Btr_rm32_r32, ESI),
        (Btc_rm32_r32, ESI),
        (Btc_rm64_r64, RSI),
        (Shl_rm32_CL, CL),
        (Shr_rm64_CL, CL),
        (Sar_rm16_CL, CL),
        (Rol_rm8_CL, CL),
        (Ror_rm64_CL, CL),
    ]);
    with_immediate(&[
        (Test_rm8_imm8, 1),
        (Test_rm16_imm16, 0x100),
        (Test_rm32_imm32, 0x100),
        (Test_rm64_imm32, -4),
        (Bt_rm32_imm8, 37),
        (Bt_rm64_imm8, 37),
        (Bts_rm32_imm8, 5),
        (Btr_rm64_imm8, 63),
        (Btc_rm16_imm8, 15),
        (Shl_rm32_imm8, 3),
        (Shr_rm64_imm8, 9),
        (Sar_rm8_imm8, 2),
        (Rcl_rm32_imm8, 1),
    ]);
    from_memory(&[
        (Bsf_r32_rm32, ECX),
        (Bsr_r64_rm64, R8),
        (Popcnt_r32_rm32, EAX),
        (Tzcnt_r64_rm64, RCX),
    ]);
}

#[test]
fn locked_instructions() {
    for mut instruction in [
        Instruction::with2(Or_rm32_imm8, operand(), 1).unwrap(),
        Instruction::with2(Xadd_rm64_r64, operand(), RCX).unwrap(),
        Instruction::with2(Cmpxchg_rm32_r32, operand(), ECX).unwrap(),
        Instruction::with2(Bts_rm32_r32, operand(), ESI).unwrap(),
    ] {
        instruction.set_has_lock_prefix(true);
        compare(&instruction);
    }
}

#[test]
fn each_access_is_made_once() {
    let model = Model::new(&[0x11; LENGTH]);
    let base = map(LENGTH, model.clone()).unwrap();
    let register = base.wrapping_add(0x40).cast::<u32>();
    let long = base.wrapping_add(0x80).cast::<u64>();

    // SAFETY: trapped.
    unsafe { register.write_volatile(7) };
    assert_eq!(
        model.steps(),
        [
            Step::Write {
                offset: 0x40,
                size: 4,
                value: 7
            },
            Step::Done
        ]
    );
    // SAFETY: trapped.
    assert_eq!(unsafe { register.read_volatile() }, 7);
    assert_eq!(
        model.steps(),
        [
            Step::Read {
                offset: 0x40,
                size: 4
            },
            Step::Done
        ]
    );
    // SAFETY: trapped.
    unsafe { asm!("or dword ptr [{}], 8", in(reg) register) };
    assert_eq!(
        model.steps(),
        [
            Step::Read {
                offset: 0x40,
                size: 4
            },
            Step::Write {
                offset: 0x40,
                size: 4,
                value: 15
            },
            Step::Done
        ]
    );
    let equal: u8;
    // SAFETY: trapped.
    unsafe { asm!("cmp dword ptr [{}], 15", "sete {}", in(reg) register, out(reg_byte) equal) };
    assert_eq!(equal, 1);
    assert_eq!(
        model.steps(),
        [
            Step::Read {
                offset: 0x40,
                size: 4
            },
            Step::Done
        ]
    );
    // SAFETY: trapped.
    unsafe { long.write_volatile(u64::MAX) };
    assert_eq!(
        model.steps(),
        [
            Step::Write {
                offset: 0x80,
                size: 8,
                value: u64::MAX
            },
            Step::Done
        ]
    );
    unmap(base).unwrap();
    assert!(matches!(unmap(base), Err(TrapError::NotMapped(_))));
}

#[test]
fn vector_registers_and_the_stack_are_left_alone() {
    struct Clobber;
    impl RegisterSpace for Clobber {
        fn read(&self, _: u64, _: u8) -> u64 {
            // SAFETY: what is overwritten is declared.
            unsafe { asm!("pxor xmm7, xmm7", "std", "cld", out("xmm7") _) };
            3
        }
        fn write(&self, _: u64, _: u8, _: u64) {}
        fn done(&self) {}
    }
    let base = map(8, Arc::new(Clobber)).unwrap();
    let (value, read): (u64, u32);
    // SAFETY: one trapped access, with the stack where the compiler had it.
    unsafe {
        asm!(
            "movq xmm7, {wanted}",
            "mov {read:e}, [{base}]",
            "movq {wanted}, xmm7",
            wanted = inout(reg) 0x1234_5678_9abc_def0_u64 => value,
            base = in(reg) base,
            read = out(reg) read,
            out("xmm7") _,
        )
    };
    assert_eq!((value, read), (0x1234_5678_9abc_def0, 3));
    unmap(base).unwrap();
}

/// Each access suspends the fiber that makes it, inside the signal handler.
#[test]
fn an_access_may_switch_fibers() {
    type Fiber = Coroutine<(), (), u32>;
    thread_local! {
        static CURRENT: Cell<*const Yielder<(), ()>> = const { Cell::new(std::ptr::null()) };
    }
    struct Switch(AtomicU64);
    impl RegisterSpace for Switch {
        fn read(&self, _: u64, _: u8) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
        fn write(&self, _: u64, _: u8, value: u64) {
            self.0.store(value, Ordering::Relaxed);
        }
        fn done(&self) {
            let current = CURRENT.get();
            // SAFETY: the yielder of the fiber that makes the access, which is on its stack.
            unsafe { &*current }.suspend(());
            CURRENT.set(current);
        }
    }
    let base = map(4, Arc::new(Switch(AtomicU64::new(0)))).unwrap() as usize;
    let fiber = |add: u32| {
        Fiber::new(move |yielder, ()| {
            CURRENT.set(yielder);
            let register = base as *mut u32;
            let mut sum = 0;
            for _ in 0..100 {
                // SAFETY: trapped.
                unsafe { asm!("add dword ptr [{}], {:e}", in(reg) register, in(reg) add) };
                // SAFETY: trapped.
                sum += unsafe { register.read_volatile() };
            }
            sum
        })
    };
    let mut fibers = [fiber(1), fiber(1000)];
    let mut sums = [None; 2];
    while sums.contains(&None) {
        for (fiber, sum) in fibers.iter_mut().zip(&mut sums) {
            if sum.is_none() {
                *sum = fiber.resume(()).as_return();
            }
        }
    }
    // In turns: both add, then both read what both have added.
    assert_eq!(sums, [Some((1..=100).map(|turn| 1001 * turn).sum()); 2]);
    unmap(base as *mut u8).unwrap();
}

#[test]
fn what_cannot_be_trapped_is_refused_by_name() {
    let refused = |bytes: &[u8]| {
        let instruction = decode(bytes, 0x1000).expect("an instruction");
        Replay::new(&instruction).err().expect("refused")
    };
    // movups xmm0, [rax]; movd xmm0, [rax]; rep movsb; push [rax]; call [rax]; jmp [rax]; mov eax, gs:[rax];
    // cmpxchg16b [rax]; mov rsp, [rax]; fld dword ptr [rax]
    assert!(matches!(refused(&[0x0f, 0x10, 0x00]), ReplayError::Operand));
    assert!(matches!(
        refused(&[0x66, 0x0f, 0x6e, 0x00]),
        ReplayError::Registers
    ));
    assert!(matches!(refused(&[0xf3, 0xa4]), ReplayError::Operand));
    assert!(matches!(refused(&[0xff, 0x30]), ReplayError::Registers));
    assert!(matches!(refused(&[0xff, 0x10]), ReplayError::Flow));
    assert!(matches!(refused(&[0xff, 0x20]), ReplayError::Flow));
    assert!(matches!(refused(&[0x65, 0x8b, 0x00]), ReplayError::Operand));
    assert!(matches!(
        refused(&[0x48, 0x0f, 0xc7, 0x08]),
        ReplayError::Operand
    ));
    assert!(matches!(
        refused(&[0x48, 0x8b, 0x20]),
        ReplayError::Registers
    ));
    assert!(matches!(refused(&[0xd9, 0x00]), ReplayError::Registers));
}

#[test]
fn other_faults_reach_the_hook() {
    if in_own_process() {
        let base = map(6, Model::new(&[0; 8])).unwrap();
        set_fault_hook(|address, _, write| {
            eprintln!("fault at offset {:#x}, write {write}", address & 0xfff);
            std::process::exit(9)
        })
        .unwrap();
        // SAFETY: never returns.
        unsafe { base.wrapping_add(4).cast::<u32>().write_volatile(0) };
    }
    assert_eq!(
        stopped("trap::tests::other_faults_reach_the_hook").trim_end(),
        "fault at offset 0x7, write true"
    );
}

#[test]
fn a_pointer_that_is_no_address_is_reported_as_windows_does() {
    if in_own_process() {
        set_fault_hook(|address, _, _| {
            eprintln!("fault at {address:#x}");
            std::process::exit(9)
        })
        .unwrap();
        // SAFETY: never returns.
        unsafe { asm!("mov eax, [{}]", in(reg) 0xdfdf_dfdf_dfdf_dfdf_u64, out("eax") _) };
    }
    let stopped = stopped("trap::tests::a_pointer_that_is_no_address_is_reported_as_windows_does");
    assert_eq!(stopped.trim_end(), "fault at 0xffffffffffffffff");
}

#[test]
fn exceptions_reach_the_hook() {
    if in_own_process() {
        set_exception_hook(|exception, _| {
            eprintln!("{exception:?}");
            std::process::exit(9)
        })
        .unwrap();
        // SAFETY: never returns.
        unsafe { asm!("ud2") };
    }
    assert_eq!(
        stopped("trap::tests::exceptions_reach_the_hook").trim_end(),
        "IllegalInstruction"
    );
}

#[test]
fn an_instruction_that_cannot_be_trapped_stops_with_its_text() {
    if in_own_process() {
        let base = map(16, Model::new(&[0; 16])).unwrap();
        crate::set_stop_hook(|text| {
            eprintln!("{text}");
            std::process::exit(9)
        });
        // SAFETY: never returns.
        unsafe { asm!("movups xmm0, [{}]", in(reg) base, out("xmm0") _) };
    }
    let stopped = stopped("trap::tests::an_instruction_that_cannot_be_trapped_stops_with_its_text");
    assert!(stopped.starts_with("`movups xmm0,[r"), "{stopped}");
}
