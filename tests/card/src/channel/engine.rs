//! The engine of a channel: fetches descriptors, moves data, writes completions.

use std::sync::atomic::{Ordering, fence};

use abi::card::ring::{Completion, Descriptor, DescriptorFlags, ShadowBlock};
use abi::card::status::{ChannelError, TransferStatus};
use abi::card::{DESCRIPTOR_LIMIT, Direction, position};
use zerocopy::{FromBytes, IntoBytes};

use super::{Channel, Piece, Transfer};
use crate::bus::{BusError, Master};
use crate::fault::{Fault, Faults};
use crate::memory::Memory;
use crate::timing::Timing;

/// Descriptors that are read at once, at most.
const BATCH: u32 = 16;

/// Descriptors that are looked at in one step, at most.
const STEP: u32 = 16;

/// Bytes that are moved in one step, before the last piece of it.
const STEP_BYTES: usize = 64 << 10;

/// No request on the bus crosses a multiple of this, so a failure is known to within it.
const BUS_PAGE: u64 = 4096;

/// The phase in a completion's outcome.
const PHASE: u32 = Completion::outcome(TransferStatus::Success, true);

/// What the engine works with.
pub(crate) struct Surroundings<'a> {
    pub(crate) memory: &'a mut Memory,
    pub(crate) master: Master<'a>,
    pub(crate) faults: &'a Faults,
    pub(crate) timing: &'a Timing,
}

/// Bytes that a fault writes once more.
pub(crate) struct LateWrite {
    pub(crate) at: u64,
    pub(crate) address: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Channel {
    /// Does what is due: a few descriptors, and not much more than a piece of data.
    pub(crate) fn run(&mut self, around: &mut Surroundings<'_>) -> Option<LateWrite> {
        let now = around.master.now();
        let mut late = None;
        if self.hung.is_none() && self.due.is_some_and(|due| due <= now) {
            self.due = None;
            let (time, write) = self.step(around);
            late = write;
            if let Some(time) = time.filter(|_| self.error.is_none()) {
                self.schedule(now + time);
            }
        }
        if self.error.is_none() {
            self.notify_late(&mut around.master);
        }
        late
    }

    /// Goes on, and returns after what time to go on again; `None` if there is nothing to do. It ends with the first
    /// piece of data that takes time, so that what takes time can be interrupted.
    fn step(&mut self, around: &mut Surroundings<'_>) -> (Option<u64>, Option<LateWrite>) {
        let mut time = 0;
        let mut moved = 0;
        for _ in 0..STEP {
            if self.error.is_some() {
                return (None, None);
            }
            if self.piece.is_none() {
                if self.queue.is_empty() && !self.fetch(around) {
                    return (self.idle(around), None);
                }
                time += around.timing.descriptor;
                if self.take(around).is_none() {
                    return (None, None);
                }
            }
            if self.piece.is_some() {
                let (bytes, late) = self.move_piece(around);
                time += around.timing.data(bytes);
                moved += bytes;
                if time > 0 || moved >= STEP_BYTES || late.is_some() {
                    return (Some(time), late);
                }
            }
        }
        (Some(time), None)
    }

    /// Reads descriptors. Returns whether there are any.
    fn fetch(&mut self, around: &mut Surroundings<'_>) -> bool {
        let master = &mut around.master;
        if self.fetched == self.producer && self.uses_shadow() && !self.look(master) {
            return false;
        }
        let ready = self.producer.wrapping_sub(self.fetched);
        if ready == 0 {
            if self.transfer.is_some() {
                self.fail(ChannelError::TornTransfer, self.fetched, master);
            }
            return false;
        }
        let entry = position::entry(self.fetched, self.active.entries);
        let most = ready.min(BATCH).min(self.active.entries - entry);
        let address = self.active.descriptors + u64::from(entry) * Descriptor::SIZE as u64;
        let mut bytes = [0; BATCH as usize * Descriptor::SIZE];
        // If not all of them can be read, the first may be readable.
        let broken = around.faults.fetches(self.direction);
        let mut counts = [most, 1].into_iter().filter(|_| !broken);
        let read = counts.find(|&count| {
            let bytes = &mut bytes[..count as usize * Descriptor::SIZE];
            master.read(address, bytes).is_ok()
        });
        let Some(count) = read else {
            self.fail(ChannelError::DescriptorFetch, self.fetched, master);
            return false;
        };
        let descriptors = bytes.chunks_exact(Descriptor::SIZE).take(count as usize);
        self.queue.extend(descriptors.map(|bytes| {
            Descriptor::read_from_bytes(bytes).expect("a chunk has a descriptor's size")
        }));
        self.fetched = self.fetched.wrapping_add(count);
        true
    }

    /// Looks at the next descriptor. Returns `None` if the channel gets nowhere from here.
    fn take(&mut self, around: &mut Surroundings<'_>) -> Option<()> {
        self.linger = None;
        let position = self.taken();
        let descriptor = self.queue.pop_front()?;
        let first = self.transfer.is_none();
        let checked = descriptor.flags & DescriptorFlags::CHECKSUM.bits() != 0;
        let mut transfer = self.transfer.take().unwrap_or(Transfer {
            tag: descriptor.tag,
            status: TransferStatus::Success,
            failed: position,
            moved: 0,
            checksum: checked.then_some(0),
        });
        if transfer.status == TransferStatus::Success {
            let verdict = if self.is_aborted(transfer.tag, position) {
                Err(TransferStatus::Aborted)
            } else {
                check(&descriptor, transfer.tag, around.memory)
            };
            match verdict {
                Ok(()) => {
                    self.piece = Some(Piece {
                        descriptor,
                        position,
                        done: 0,
                    });
                }
                Err(status) => transfer.fail(status, position),
            }
        }
        self.transfer = Some(transfer);
        if self.piece.is_none() && !descriptor.is_chained() {
            self.complete(&descriptor, around);
        }
        if first && self.piece.is_some() {
            self.hung = around.faults.takes_descriptor(self.direction);
            if self.hung.is_some() {
                return None;
            }
        }
        Some(())
    }

    /// Moves data of the current piece; returns how many bytes.
    fn move_piece(&mut self, around: &mut Surroundings<'_>) -> (usize, Option<LateWrite>) {
        let (Some(mut piece), Some(mut transfer)) = (self.piece.take(), self.transfer.take())
        else {
            return (0, None);
        };
        let moved = if self.is_aborted(transfer.tag, piece.position) {
            Err(TransferStatus::Aborted)
        } else {
            self.transport(&piece, &mut transfer, around)
        };
        match moved {
            Ok(bytes) => {
                piece.done += bytes as u32;
                transfer.moved += bytes as u64;
            }
            Err(status) => transfer.fail(status, piece.position),
        }
        let bytes = moved.unwrap_or(0);
        let descriptor = piece.descriptor;
        let over = moved.is_err() || piece.done == descriptor.length;
        if !over {
            self.piece = Some(piece);
        }
        self.transfer = Some(transfer);
        let mut late = None;
        if over && !descriptor.is_chained() {
            self.complete(&descriptor, around);
            if self.direction == Direction::FromCard {
                late = repeat(&descriptor, around);
            }
        }
        (bytes, late)
    }

    /// Moves as much as is in one piece of memory.
    fn transport(
        &self,
        piece: &Piece,
        transfer: &mut Transfer,
        around: &mut Surroundings<'_>,
    ) -> Result<usize, TransferStatus> {
        let bus = piece.descriptor.bus_address.wrapping_add(piece.done.into());
        let card = piece.descriptor.card_address + u64::from(piece.done);
        let left = (piece.descriptor.length - piece.done) as usize;
        let whole = left.min(around.memory.piece(card));
        // If not all of it can be moved, some of it may be.
        let page = whole.min((BUS_PAGE - bus % BUS_PAGE) as usize);
        let lengths = [whole, page];
        let lengths = &lengths[..if page < whole { 2 } else { 1 }];
        let mut last = TransferStatus::BusError;
        for &length in lengths {
            match self.transport_exactly(bus, card, length, transfer, around) {
                Ok(()) => return Ok(length),
                Err(status) => last = status,
            }
        }
        Err(last)
    }

    fn transport_exactly(
        &self,
        bus: u64,
        card: u64,
        length: usize,
        transfer: &mut Transfer,
        around: &mut Surroundings<'_>,
    ) -> Result<(), TransferStatus> {
        let failed = |BusError| TransferStatus::BusError;
        if bus.checked_add(length as u64 - 1).is_none() {
            return Err(TransferStatus::BusError);
        }
        let data = match self.direction {
            Direction::ToCard => {
                let data = around.memory.get_mut(card, length);
                around.master.read(bus, data).map_err(failed)?;
                &*data
            }
            Direction::FromCard => {
                let data = around.memory.get(card, length);
                let data = data.map_err(|_| TransferStatus::DataError)?;
                around.master.write(bus, data).map_err(failed)?;
                data
            }
        };
        if let Some(checksum) = &mut transfer.checksum {
            *checksum = crc32c::crc32c_append(*checksum, data);
        }
        Ok(())
    }

    /// Ends the transfer, whose last descriptor is given.
    fn complete(&mut self, last: &Descriptor, around: &mut Surroundings<'_>) {
        let Some(transfer) = self.transfer.take() else {
            return;
        };
        self.released = self.taken();
        let failed = transfer.status != TransferStatus::Success;
        let mut completion = Completion {
            tag: transfer.tag,
            consumer: self.released,
            moved: transfer.moved,
            checksum: transfer.checksum.unwrap_or(0),
            failed: if failed { transfer.failed } else { 0 },
            reserved: 0,
            outcome: transfer.status.code().into(),
        };
        let mut times = 1;
        match around.faults.completes(self.direction) {
            Some(Fault::DropCompletion(_)) => times = 0,
            Some(Fault::DuplicateCompletion(_)) => times = 2,
            Some(Fault::Tag(_, bits)) => completion.tag ^= bits,
            Some(Fault::Count(_, more)) => {
                completion.moved = completion.moved.wrapping_add_signed(more);
            }
            Some(Fault::Outcome(_, bits)) => completion.outcome = bits & i32::MAX as u32,
            Some(Fault::Phase(_)) => completion.outcome ^= PHASE,
            Some(Fault::Consumer(_, more)) => {
                completion.consumer = completion.consumer.wrapping_add_signed(more);
            }
            _ => {}
        }
        for _ in 0..times {
            if self.write_completion(completion, around).is_err() {
                return self.fail(
                    ChannelError::CompletionWrite,
                    self.completed,
                    &mut around.master,
                );
            }
        }
        self.forget_aborts();
        if times > 0 && (failed || last.flags & DescriptorFlags::INTERRUPT.bits() != 0) {
            self.notify(&mut around.master);
        }
    }

    /// Writes a completion. The last of its words to be seen is the one with its phase.
    fn write_completion(
        &mut self,
        mut completion: Completion,
        around: &mut Surroundings<'_>,
    ) -> Result<(), BusError> {
        let entries = self.active.entries;
        let entry = position::entry(self.completed, entries);
        let address = self.active.completions + u64::from(entry) * Completion::SIZE as u64;
        if position::phase(self.completed, entries) {
            completion.outcome ^= PHASE;
        }
        around.master.write(address, completion.as_bytes())?;
        self.completed = self.completed.wrapping_add(1);
        Ok(())
    }

    /// There is nothing to do. Returns after what time to look again.
    fn idle(&mut self, around: &mut Surroundings<'_>) -> Option<u64> {
        if self.error.is_some() {
            return None;
        }
        let master = &mut around.master;
        self.notify_idle(master);
        if self.error.is_some() || !self.uses_shadow() {
            return None;
        }
        let now = master.now();
        if let Some(time) = self.notify.look(now) {
            return Some(time.max(around.timing.look).max(1));
        }
        let until = *self.linger.get_or_insert(now + around.timing.linger);
        if now < until {
            return Some(around.timing.look.max(1));
        }
        self.linger = None;
        let event = self.active.shadow + ShadowBlock::DOORBELL_EVENT as u64;
        if master.store(event, self.producer).is_err() {
            self.fail(ChannelError::Shadow, self.producer, master);
            return None;
        }
        // The event is written before the producer is read; the driver does it the other way round.
        fence(Ordering::SeqCst);
        let known = self.producer;
        (self.look(master) && self.producer != known).then_some(0)
    }
}

impl Transfer {
    fn fail(&mut self, status: TransferStatus, position: u32) {
        self.status = status;
        self.failed = position;
    }
}

/// Whether a descriptor of a transfer can be carried out.
fn check(descriptor: &Descriptor, tag: u32, memory: &Memory) -> Result<(), TransferStatus> {
    let known = DescriptorFlags::from_bits(descriptor.flags).is_some();
    let length = (1..=DESCRIPTOR_LIMIT).contains(&descriptor.length);
    if !known || !length || descriptor.tag != tag || descriptor.reserved != 0 {
        return Err(TransferStatus::InvalidDescriptor);
    }
    if !memory.contains(descriptor.card_address, descriptor.length) {
        return Err(TransferStatus::OutOfRange);
    }
    Ok(())
}

/// A fault: what a descriptor has written is written once more, later.
fn repeat(descriptor: &Descriptor, around: &mut Surroundings<'_>) -> Option<LateWrite> {
    let after = around.faults.wrote_memory()?;
    let length = around.memory.piece(descriptor.card_address);
    let length = length.min(descriptor.length as usize);
    let bytes = around.memory.get(descriptor.card_address, length).ok()?;
    Some(LateWrite {
        at: around.master.now() + after,
        address: descriptor.bus_address,
        bytes: bytes.to_vec(),
    })
}
