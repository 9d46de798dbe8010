//! The way of a request to the controller.
//!
//! ```text
//! read, write    check -> Initialize, the data register's offset, the callbacks -> Execute
//! configure      a channel of the controller has been allocated: how many bytes it moves at a time
//! program        a transfer is mapped: the device is told how many bytes to ask for, which asserts its request line
//!                    ... the controller moves data ...
//! transferred    the controller has ended the transfer   } see crate::fifo::end
//! service        the device has had all it asked for     }
//! ```
//!
//! The addresses in the scatter/gather list are the controller's business: the system has programmed it.

use abi::fifo::controller::SET_BURST;
use kmdf::clock::Moment;
use kmdf::dma::{
    ChannelAdapter, Concluded, Direction, DmaEvents, Executing, ScatterGather, Stopped,
    SystemDmaEvents, Transaction, TransferEnd,
};
use kmdf::log::LogFailure;
use kmdf::queue::{StopReason, TransferEvents};
use kmdf::request::{CancelEvents, RequestKey};
use kmdf::slot::Knock;
use kmdf::{NtStatus, Request, Result, log};

use super::lane::{Heard, InFlight};
use super::registers::Registers;
use super::{MAXIMUM_REQUEST, Port, WIDTH};

/// Bytes that the controller moves before it serves another channel: half a FIFO, which is what it asks for at a time.
const BURST: u32 = abi::fifo::DEPTH / 2;

impl TransferEvents for Port {
    fn read(&self, request: Request, length: usize) {
        self.begin(request, length);
    }

    fn write(&self, request: Request, length: usize) {
        self.begin(request, length);
    }

    /// A request that waits for a channel goes back to its queue if the device sleeps for a while. One whose transfer is
    /// under way is waited for then, not longer than the time limit, and stopped if the device goes.
    fn stop(&self, request: RequestKey, reason: StopReason) {
        let Some(started) = self.started.enter() else {
            return;
        };
        let Some(direction) = started.direction_of(request) else {
            return;
        };
        let channel = &started.lane(direction).channel;
        let stopped = match reason {
            StopReason::Suspend => channel.recall(),
            StopReason::Purge => channel.stop(),
        };
        self.ended(stopped);
        self.look(&started, direction);
    }
}

impl CancelEvents for Port {
    fn cancel(&self, request: RequestKey) {
        let Some(started) = self.started.enter() else {
            return;
        };
        if let Some(direction) = started.direction_of(request) {
            self.ended(started.lane(direction).channel.cancel());
            self.look(&started, direction);
        }
    }
}

/// What the controller cannot move is not begun.
fn check(request: &Request, length: usize) -> Result<()> {
    if length > MAXIMUM_REQUEST || !length.is_multiple_of(WIDTH as usize) {
        return Err(NtStatus::INVALID_BUFFER_SIZE);
    }
    if !request.page_offset()?.is_multiple_of(WIDTH) {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    Ok(())
}

impl Port {
    fn begin(&self, request: Request, length: usize) {
        self.counters.requests.increment();
        if let Err(status) = check(&request, length) {
            return self.counters.end(request, Err(status), 0);
        }
        let Some(started) = self.started.enter() else {
            return self
                .counters
                .end(request, Err(NtStatus::DEVICE_NOT_READY), 0);
        };
        let direction = request.wanted().direction;
        let channel = &started.lane(direction).channel;
        let concluded =
            channel.begin_at::<Self>(&started.enabler, request, Registers::data_offset(direction));
        self.conclude(concluded);
        if channel.is_wanted_back() {
            self.look(&started, direction);
        }
    }

    pub(super) fn conclude(&self, concluded: Option<Concluded>) {
        if let Some(concluded) = concluded {
            self.counters.conclude(concluded);
        }
    }

    pub(super) fn ended(&self, stopped: Stopped) {
        match stopped {
            Stopped::Noted | Stopped::Running => {}
            Stopped::Concluded(concluded) => self.counters.conclude(concluded),
        }
    }
}

impl DmaEvents for Port {
    /// The transfer goes into the lane after the device has been told. If somebody has looked for it in vain in the
    /// meantime, the timer looks again: the framework is still busy with this transfer.
    fn program(
        &self,
        transfer: Transaction<Executing>,
        _word: usize,
        direction: Direction,
        _list: &ScatterGather<'_>,
    ) -> bool {
        let Some(started) = self.started.enter() else {
            // A transaction lives as long as the device is started.
            log::failure(c"programming", NtStatus::DEVICE_NOT_READY);
            return false;
        };
        let lane = started.lane(direction);
        let Some(transfer) = lane.channel.arrive(transfer) else {
            log::failure(c"programming", NtStatus::INTERNAL_ERROR);
            return false;
        };
        // No transfer is longer than a request.
        let count = u32::try_from(transfer.length()).unwrap_or(0);
        lane.forget();
        self.counters.transfers.increment();
        self.timer(direction).start(self.limit);
        started.registers.ask(direction, count);
        let in_flight = InFlight {
            transfer,
            since: Moment::now(),
            stopped: None,
        };
        if lane.channel.put_running(in_flight) == Knock::Knocked || lane.channel.is_stopping() {
            self.timer(direction).start(0);
        }
        true
    }
}

impl SystemDmaEvents for Port {
    /// Before each transfer. A controller that does not know the function moves as much as it likes.
    fn configure(&self, channel: &ChannelAdapter) {
        let _ = channel
            .configure(SET_BURST, BURST)
            .or_log(c"configuring a channel");
    }

    fn transferred(&self, direction: Direction, end: TransferEnd) {
        let Some(started) = self.started.enter() else {
            return;
        };
        let lane = started.lane(direction);
        if end != TransferEnd::Complete
            && let Some(concluded) = lane.channel.unmapped(NtStatus::IO_DEVICE_ERROR)
        {
            log::failure(c"mapping a transfer", NtStatus::IO_DEVICE_ERROR);
            return self.conclude(concluded);
        }
        lane.hear(Heard::from(end));
        self.look(&started, direction);
    }
}
