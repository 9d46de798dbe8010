//! Device registers as types.
//!
//! A register is one constant that carries its offset, its width, what its value means and in which direction it may
//! be accessed. The driver's register mapping, a device model and a test all take the same constant, so a register can
//! be neither read through the wrong width nor written when it is read-only:
//!
//! ```
//! use registers::{ReadOnly, ReadWrite, Register};
//!
//! const IDENTIFICATION: Register<0x00, u32, ReadOnly> = Register::new();
//! const SOURCE: Register<0x80, u64, ReadWrite> = Register::new();
//!
//! assert_eq!(IDENTIFICATION.offset(), 0);
//! assert_eq!(SOURCE.width(), 8);
//! ```
//!
//! A register across its natural boundary does not compile:
//!
//! ```compile_fail
//! use registers::{ReadWrite, Register};
//!
//! const SOURCE: Register<0x84, u64, ReadWrite> = Register::new();
//! ```
#![no_std]
#![forbid(unsafe_code)]

use core::fmt::{self, Debug, Formatter};
use core::marker::PhantomData;

/// Implemented by the access directions that allow reading.
pub trait Readable: sealed::Access {}

/// Implemented by the access directions that allow writing.
pub trait Writable: sealed::Access {}

/// The register may only be read.
#[derive(Debug)]
pub enum ReadOnly {}

/// The register may only be written; what a read returns is not defined by the device.
#[derive(Debug)]
pub enum WriteOnly {}

/// The register may be read and written.
#[derive(Debug)]
pub enum ReadWrite {}

impl Readable for ReadOnly {}
impl Readable for ReadWrite {}
impl Writable for WriteOnly {}
impl Writable for ReadWrite {}

/// An integer that a processor moves to or from a device in one access.
pub trait Word: sealed::Word + Copy + Eq + Debug {
    /// Every bit set: what a read returns when no device answers.
    const ALL_ONES: Self;
}

impl Word for u32 {
    const ALL_ONES: Self = Self::MAX;
}

impl Word for u64 {
    const ALL_ONES: Self = Self::MAX;
}

/// What a register holds: a plain word, or a type of its own over one.
pub trait Value: Copy {
    /// The word that crosses the bus.
    type Word: Word;

    /// The meaning of `word`. Must accept every bit pattern: a device may return any.
    fn from_word(word: Self::Word) -> Self;

    /// The word to send.
    fn into_word(self) -> Self::Word;
}

impl<W: Word> Value for W {
    type Word = W;

    fn from_word(word: W) -> Self {
        word
    }

    fn into_word(self) -> W {
        self
    }
}

/// A register `OFFSET` bytes after the start of its memory window: `V` is what it holds, `A` the direction it may be
/// accessed in.
pub struct Register<const OFFSET: usize, V, A> {
    kind: PhantomData<fn() -> (V, A)>,
}

impl<const OFFSET: usize, V: Value, A: sealed::Access> Register<OFFSET, V, A> {
    /// Names the register; that it lies at a multiple of its width is checked by the compiler.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "a register is a constant, nobody asks for the default one"
    )]
    pub const fn new() -> Self {
        const {
            assert!(
                OFFSET.is_multiple_of(size_of::<V::Word>()),
                "a register lies at a multiple of its width"
            );
        }
        Self { kind: PhantomData }
    }

    /// Bytes from the start of the memory window.
    #[must_use]
    pub const fn offset(self) -> usize {
        OFFSET
    }

    /// Bytes moved by one access.
    #[must_use]
    pub const fn width(self) -> usize {
        size_of::<V::Word>()
    }
}

impl<const OFFSET: usize, V, A> Clone for Register<OFFSET, V, A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<const OFFSET: usize, V, A> Copy for Register<OFFSET, V, A> {}

impl<const OFFSET: usize, V, A> Debug for Register<OFFSET, V, A> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "Register({OFFSET:#x})")
    }
}

mod sealed {
    pub trait Access {}
    impl Access for super::ReadOnly {}
    impl Access for super::WriteOnly {}
    impl Access for super::ReadWrite {}

    pub trait Word {}
    impl Word for u32 {}
    impl Word for u64 {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_register_knows_its_place_and_width() {
        let count: Register<0x90, u64, ReadWrite> = Register::new();
        assert_eq!((count.offset(), count.width()), (0x90, 8));
        let status: Register<0x24, u32, ReadOnly> = Register::new();
        assert_eq!((status.offset(), status.width()), (0x24, 4));
    }
}
