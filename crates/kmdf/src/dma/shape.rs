//! How requests are split into transfers.

use core::num::NonZeroUsize;

use super::transaction::{Idle, Initialized, Transaction};
use crate::ddi;

/// How the requests of a channel are split.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Shape {
    /// Where the system's grant ends.
    #[default]
    AsGranted,
    /// After so many bytes, or where the grant ends.
    AtMost(NonZeroUsize),
    /// Not at all: what cannot be one transfer is refused. DMA version 3 only.
    Whole,
}

impl Shape {
    /// Bytes of the longest transfer, where the system grants so many.
    #[must_use]
    pub fn longest(self, granted: usize) -> usize {
        match self {
            Self::AtMost(most) => most.get().min(granted),
            Self::AsGranted | Self::Whole => granted,
        }
    }

    /// Before each Initialize: Release forgets it.
    pub(super) fn require(self, transaction: &Transaction<Idle>) {
        if self == Self::Whole {
            // SAFETY: the transaction is valid, and created or released.
            unsafe { ddi::WdfDmaTransactionSetSingleTransferRequirement(transaction.raw(), 1) };
        }
    }

    /// After each Initialize, which forgets it.
    pub(super) fn limit(self, transaction: &Transaction<Initialized>) {
        if let Self::AtMost(most) = self {
            // SAFETY: the transaction is valid and initialized, and the length is not zero. A longer one than is granted
            // changes nothing.
            unsafe { ddi::WdfDmaTransactionSetMaximumLength(transaction.raw(), most.get()) };
        }
    }
}
