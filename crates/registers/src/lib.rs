//! Device registers as types.
//!
//! A register is one constant that carries its offset, its width, what its value means and in which direction it may
//! be accessed. The driver's register mapping, a device model and a test all take the same constant, so a register can
//! be neither read through the wrong width nor written when it is read-only:
//!
//! ```
//! use dmacard_registers::{ReadOnly, ReadWrite, Register};
//!
//! const IDENTIFICATION: Register<u32, ReadOnly> = Register::at(0x00);
//! const SOURCE: Register<u64, ReadWrite> = Register::at(0x80);
//!
//! assert_eq!(IDENTIFICATION.offset(), 0);
//! assert_eq!(SOURCE.width(), 8);
//! ```
#![no_std]

use core::fmt::Debug;
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

impl Value for u32 {
    type Word = Self;

    fn from_word(word: Self) -> Self {
        word
    }

    fn into_word(self) -> Self {
        self
    }
}

impl Value for u64 {
    type Word = Self;

    fn from_word(word: Self) -> Self {
        word
    }

    fn into_word(self) -> Self {
        self
    }
}

/// One register: `V` is what it holds, `A` the direction it may be accessed in.
pub struct Register<V, A> {
    offset: usize,
    kind: PhantomData<fn() -> (V, A)>,
}

impl<V: Value, A: sealed::Access> Register<V, A> {
    /// The register `offset` bytes after the start of its memory window.
    ///
    /// # Panics
    ///
    /// When `offset` is not a multiple of the register's width; in a constant that is a compile error.
    #[must_use]
    pub const fn at(offset: usize) -> Self {
        assert!(
            offset.is_multiple_of(size_of::<V::Word>()),
            "a register lies at a multiple of its width"
        );
        Self {
            offset,
            kind: PhantomData,
        }
    }

    /// Bytes from the start of the memory window.
    #[must_use]
    pub const fn offset(self) -> usize {
        self.offset
    }

    /// Bytes moved by one access.
    #[must_use]
    pub const fn width(self) -> usize {
        size_of::<V::Word>()
    }
}

impl<V, A> Clone for Register<V, A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V, A> Copy for Register<V, A> {}

impl<V, A> Debug for Register<V, A> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(formatter, "Register({:#x})", self.offset)
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
        let count: Register<u64, ReadWrite> = Register::at(0x90);
        assert_eq!((count.offset(), count.width()), (0x90, 8));
        let status: Register<u32, ReadOnly> = Register::at(0x24);
        assert_eq!((status.offset(), status.width()), (0x24, 4));
    }

    #[test]
    #[should_panic(expected = "multiple of its width")]
    fn a_register_across_its_natural_boundary_is_refused() {
        let _: Register<u64, ReadWrite> = Register::at(0x84);
    }
}
