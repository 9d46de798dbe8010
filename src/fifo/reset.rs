//! A fresh start on request: the control request [`RESET`](abi::ioctl::RESET).

use kmdf::dma::Direction;
use kmdf::queue::Queue;
use kmdf::{NtStatus, Result, thread};

use super::{Port, Started};

impl Port {
    /// Ends what is under way and the stream, and empties the FIFOs; what waits in the queues is carried out then.
    /// PASSIVE_LEVEL.
    pub(super) fn reset(&self) -> Result<()> {
        let started = self.started.enter().ok_or(NtStatus::DEVICE_NOT_READY)?;
        self.transfers.iter().for_each(Queue::stop);
        while self.transfers.iter().any(Queue::has_handed_out) {
            self.stop_transfers(&started);
            thread::pause();
        }
        // What waits for a stream's channels has been withdrawn by now, and does not get them.
        self.stop_stream(&started);
        let outcome = started.registers.wake();
        if outcome.is_ok() {
            started.registers.connect(started.interrupts);
        }
        self.transfers.iter().for_each(Queue::start);
        outcome
    }

    fn stop_transfers(&self, started: &Started) {
        for direction in [Direction::FromDevice, Direction::ToDevice] {
            self.ended(started.lane(direction).channel.stop());
            self.look(started, direction);
        }
    }
}
