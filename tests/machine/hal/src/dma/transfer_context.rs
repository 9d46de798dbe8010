//! DMA_TRANSFER_CONTEXT: the memory by which a driver names a version 3 request when it cancels it.

use nt_sys::PVOID;

/// Set by `InitializeDmaTransferContext`.
const MAGIC: u64 = u64::from_le_bytes(*b"DmaXfCtx");

/// What happened to the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
enum State {
    Initialized = 1,
    Queued = 2,
    Granted = 3,
    Cancelled = 4,
}

/// Layout of the opaque memory, as far as it is used.
#[repr(C)]
struct Raw {
    magic: u64,
    state: u64,
    /// CancelMappedTransfer was called: nothing more is mapped.
    stopped: u64,
}

/// A context that has been initialised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferContext(*mut Raw);

// SAFETY: the pointer is an address in the driver's memory; all processors are fibers on one thread or take the lock
// of the adapters before they follow it.
unsafe impl Send for TransferContext {}

impl TransferContext {
    /// Initialises the memory at `context`.
    ///
    /// # Safety
    /// `context` points to DMA_TRANSFER_CONTEXT_SIZE_V1 bytes of the driver's memory that stay valid until the last
    /// request that names it is over.
    pub unsafe fn initialize(context: PVOID) {
        let raw = Raw {
            magic: MAGIC,
            state: State::Initialized as u64,
            stopped: 0,
        };
        // SAFETY: the caller vouches for the memory; it may be unaligned.
        unsafe { context.cast::<Raw>().write_unaligned(raw) }
    }

    /// The context at this address; `None` if it was never initialised.
    ///
    /// # Safety
    /// As [`TransferContext::initialize`], or `context` is NULL.
    pub unsafe fn from_raw(context: PVOID) -> Option<Self> {
        let this = Self(context.cast());
        (!context.is_null() && this.read().magic == MAGIC).then_some(this)
    }

    /// The request waits.
    pub fn set_queued(&self) {
        self.set(State::Queued);
    }

    /// The request has its resources.
    pub fn set_granted(&self) {
        self.set(State::Granted);
    }

    /// Whether a request with this context is over before it begins.
    pub fn is_cancelled(&self) -> bool {
        self.read().state == State::Cancelled as u64
    }

    /// Cancels the request unless it has its resources; a request that is made later with the same context is then
    /// cancelled from the start.
    pub fn cancel(&self) -> bool {
        let cancellable =
            [State::Initialized as u64, State::Queued as u64].contains(&self.read().state);
        if cancellable {
            self.set(State::Cancelled);
        }
        cancellable
    }

    /// Whether nothing more may be mapped for the request.
    pub fn is_stopped(&self) -> bool {
        self.read().stopped != 0
    }

    /// Lets nothing more be mapped for the request; false if that was so already.
    pub fn stop(&self) -> bool {
        let raw = self.read();
        if raw.stopped == 0 {
            self.write(Raw { stopped: 1, ..raw });
        }
        raw.stopped == 0
    }

    fn read(&self) -> Raw {
        // SAFETY: `from_raw` was given memory that is valid for as long as requests name it.
        unsafe { self.0.read_unaligned() }
    }

    fn set(&self, state: State) {
        self.write(Raw {
            state: state as u64,
            ..self.read()
        });
    }

    fn write(&self, raw: Raw) {
        // SAFETY: as in `read`.
        unsafe { self.0.write_unaligned(raw) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn life() {
        let mut memory = [0u64; 16];
        let pointer = memory.as_mut_ptr().cast();
        // SAFETY: the memory outlives the test's use of it.
        assert_eq!(unsafe { TransferContext::from_raw(pointer) }, None);
        // SAFETY: as above.
        unsafe { TransferContext::initialize(pointer) };
        // SAFETY: as above.
        let context = unsafe { TransferContext::from_raw(pointer) }.unwrap();
        context.set_granted();
        assert!(!context.cancel());
        context.set_queued();
        assert!(context.cancel());
        assert!(context.is_cancelled());
        assert!(!context.cancel());
        assert!(!context.is_stopped());
        assert!(context.stop());
        assert!(context.is_stopped() && context.is_cancelled());
        assert!(!context.stop(), "stopped already");
    }
}
