//! Re-encodes an instruction so that it accesses a [`Context`] in place of memory, and runs it.

use std::mem::offset_of;

use iced_x86::{
    Code, CpuidFeature, Decoder, DecoderOptions, Encoder, FastFormatter, FlowControl, IcedError,
    Instruction, InstructionInfoFactory, MemoryOperand, Mnemonic, OpAccess, OpKind, Register,
};
use thiserror::Error;

use crate::SystemError;
use crate::code::CodePage;

/// The longest instruction there is.
pub(super) const LONGEST: usize = 15;

/// Flags that instructions compute: CF, PF, AF, ZF, SF and OF.
pub(super) const ARITHMETIC_FLAGS: u64 = 0x8d5;

/// The registers that an instruction runs with, and what stands for its memory operand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Context {
    /// The memory operand; bytes beyond its size are zero.
    pub(super) memory: u64,
    /// The arithmetic flags; the others are zero.
    pub(super) flags: u64,
    /// In the order of their numbers: RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15.
    pub(super) registers: [u64; 16],
}

impl Context {
    fn get(&self, register: Register) -> u64 {
        let value = self.registers[register.number()];
        match register.size() {
            4 => value & u64::from(u32::MAX),
            _ => value,
        }
    }
}

/// Why an instruction cannot be run on a register.
#[derive(Debug, Error)]
pub(super) enum ReplayError {
    #[error("it has no single memory operand of 1, 2, 4 or 8 bytes addressed through DS or SS")]
    Operand,
    #[error("it uses other than general registers, the stack pointer, or all there are")]
    Registers,
    #[error("it does not continue with the next instruction")]
    Flow,
    #[error("its access is conditional")]
    Conditional,
    #[error("it cannot be encoded with another operand: {0}")]
    Encoding(#[from] IcedError),
    #[error(transparent)]
    Code(#[from] SystemError),
}

/// An instruction that can be run on a register.
pub(super) struct Replay {
    instruction: Instruction,
    operand: u32,
    /// Bytes accessed.
    pub(super) size: u8,
    /// It reads the register.
    pub(super) reads: bool,
    /// It writes the register.
    pub(super) writes: bool,
    /// For the bit tests that take the bit's number from a register: that register, as wide as the operand.
    bit_index: Option<Register>,
    code: CodePage,
}

impl Replay {
    /// Prepares `instruction`, decoded with its own address.
    pub(super) fn new(instruction: &Instruction) -> Result<Self, ReplayError> {
        let operands = instruction.op_count();
        let mut memory =
            (0..operands).filter(|&operand| instruction.op_kind(operand) == OpKind::Memory);
        let operand = match (memory.next(), memory.next()) {
            (Some(operand), None) => operand,
            _ => return Err(ReplayError::Operand),
        };
        let size = instruction.memory_size().size();
        let segment = instruction.memory_segment();
        if !matches!(size, 1 | 2 | 4 | 8)
            || !matches!(
                segment,
                Register::DS | Register::SS | Register::ES | Register::CS
            )
        {
            return Err(ReplayError::Operand);
        }
        if instruction.flow_control() != FlowControl::Next {
            return Err(ReplayError::Flow);
        }
        let mut bare = *instruction;
        set_memory(&mut bare, Register::None, 0);
        let mut factory = InstructionInfoFactory::new();
        let info = factory.info(&bare);
        let (reads, writes) = match info.op_access(operand) {
            OpAccess::Read => (true, false),
            OpAccess::Write => (false, true),
            OpAccess::ReadWrite => (true, true),
            // A conditional move reads in any case, and a compare-exchange writes back what it read.
            OpAccess::CondRead => (true, false),
            OpAccess::ReadCondWrite => (true, true),
            _ => return Err(ReplayError::Conditional),
        };
        let used: Vec<Register> = info
            .used_registers()
            .iter()
            .map(|used| used.register())
            .collect();
        let floating_point = instruction.cpuid_features().contains(&CpuidFeature::FPU);
        if floating_point
            || info.used_memory().len() > 1
            || !used.iter().all(|register| register.is_gpr())
        {
            return Err(ReplayError::Registers);
        }
        let used: Vec<Register> = used.into_iter().map(Register::full_register).collect();
        // Without a REX prefix where possible, since AH to DH cannot be used with one.
        let spare = [
            Register::RSI,
            Register::RDI,
            Register::RBX,
            Register::RBP,
            Register::RDX,
            Register::RCX,
            Register::RAX,
        ]
        .into_iter()
        .find(|register| !used.contains(register))
        .filter(|_| !used.contains(&Register::RSP))
        .ok_or(ReplayError::Registers)?;
        let mut replaced = *instruction;
        set_memory(&mut replaced, spare, offset_of!(Context, memory));
        let bit_test = matches!(
            instruction.mnemonic(),
            Mnemonic::Bt | Mnemonic::Btc | Mnemonic::Btr | Mnemonic::Bts
        );
        Ok(Self {
            instruction: *instruction,
            operand,
            size: size as u8,
            reads,
            writes,
            bit_index: (bit_test && instruction.op1_kind() == OpKind::Register)
                .then(|| instruction.op1_register()),
            code: CodePage::new(&emit(&replaced, spare)?)?,
        })
    }

    /// Bytes of the instruction.
    pub(super) fn length(&self) -> u64 {
        self.instruction.len() as u64
    }

    /// The address that the instruction accesses.
    pub(super) fn address(&self, context: &Context) -> u64 {
        let base = self
            .instruction
            .virtual_address(self.operand, 0, |register, _, _| {
                Some(if register.is_gpr() {
                    context.get(register)
                } else {
                    0
                })
            })
            .expect("every register has a value");
        match self.bit_index {
            Some(register) => base.wrapping_add_signed(
                bit_number(context, register).div_euclid(self.bits()) * i64::from(self.size),
            ),
            None => base,
        }
    }

    /// Runs the instruction once on `context.memory` and the registers of `context`.
    pub(super) fn run(&self, context: &mut Context) {
        // The register's upper bits have chosen the word; they must not do so again.
        let index = self.bit_index.map(|register| {
            (
                register.number(),
                context.registers[register.number()],
                bit_number(context, register),
            )
        });
        if let Some((number, _, bit)) = index {
            context.registers[number] = bit.rem_euclid(self.bits()) as u64;
        }
        // SAFETY: the page holds a function of this type.
        let function: unsafe extern "sysv64" fn(*mut Context) =
            unsafe { std::mem::transmute(self.code.address().as_ptr()) };
        // SAFETY: it accesses its argument and the stack only, and keeps what the calling convention wants kept.
        unsafe { function(context) };
        if let Some((number, value, _)) = index {
            context.registers[number] = value;
        }
    }

    fn bits(&self) -> i64 {
        i64::from(self.size) * 8
    }
}

/// Decodes the instruction at the start of `bytes`, which lies at `address`.
pub(super) fn decode(bytes: &[u8], address: u64) -> Option<Instruction> {
    let instruction = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE).decode();
    (!instruction.is_invalid()).then_some(instruction)
}

/// The text of an instruction.
pub(super) fn text(instruction: &Instruction) -> String {
    let mut text = String::new();
    FastFormatter::new().format(instruction, &mut text);
    text
}

/// The signed number of a bit in a bit string.
fn bit_number(context: &Context, register: Register) -> i64 {
    let value = context.registers[register.number()];
    match register.size() {
        2 => i64::from(value as i16),
        4 => i64::from(value as i32),
        _ => value as i64,
    }
}

fn set_memory(instruction: &mut Instruction, base: Register, offset: usize) {
    instruction.set_segment_prefix(Register::None);
    instruction.set_memory_base(base);
    instruction.set_memory_index(Register::None);
    instruction.set_memory_index_scale(1);
    instruction.set_memory_displ_size(1);
    instruction.set_memory_displacement64(offset as u64);
}

/// A function that loads the registers from its argument, a [`Context`] that `pointer` then points to, runs
/// `instruction`, and stores the registers again.
pub(super) fn emit(instruction: &Instruction, pointer: Register) -> Result<Vec<u8>, IcedError> {
    const PRESERVED: [Register; 6] = [
        Register::RBX,
        Register::RBP,
        Register::R12,
        Register::R13,
        Register::R14,
        Register::R15,
    ];
    const ALL: [Register; 15] = [
        Register::RAX,
        Register::RCX,
        Register::RDX,
        Register::RBX,
        Register::RBP,
        Register::RSI,
        Register::RDI,
        Register::R8,
        Register::R9,
        Register::R10,
        Register::R11,
        Register::R12,
        Register::R13,
        Register::R14,
        Register::R15,
    ];
    let field = |offset: usize| MemoryOperand::with_base_displ(pointer, offset as i64);
    let slot = |register: Register| field(offset_of!(Context, registers) + 8 * register.number());
    let flags = field(offset_of!(Context, flags));

    let mut code = Vec::new();
    for register in PRESERVED {
        code.push(Instruction::with1(Code::Push_r64, register)?);
    }
    code.push(Instruction::with2(
        Code::Mov_r64_rm64,
        pointer,
        Register::RDI,
    )?);
    for register in ALL.into_iter().filter(|&register| register != pointer) {
        code.push(Instruction::with2(
            Code::Mov_r64_rm64,
            register,
            slot(register),
        )?);
    }
    code.push(Instruction::with1(Code::Push_rm64, flags)?);
    code.push(Instruction::with(Code::Popfq));
    code.push(*instruction);
    for register in ALL.into_iter().filter(|&register| register != pointer) {
        code.push(Instruction::with2(
            Code::Mov_rm64_r64,
            slot(register),
            register,
        )?);
    }
    code.push(Instruction::with(Code::Pushfq));
    code.push(Instruction::with1(Code::Pop_rm64, flags)?);
    for register in PRESERVED.into_iter().rev() {
        code.push(Instruction::with1(Code::Pop_r64, register)?);
    }
    code.push(Instruction::with(Code::Retnq));

    let mut encoder = Encoder::new(64);
    for instruction in &code {
        // Nothing here is relative to its own address.
        encoder.encode(instruction, 0)?;
    }
    Ok(encoder.take_buffer())
}
