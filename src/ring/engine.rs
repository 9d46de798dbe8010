//! One channel: its slots, and the way into its descriptor ring.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use abi::card::Direction;
use abi::card::ring::{Descriptor, DescriptorFlags};
use abi::window::Span;
use kmdf::clock::Moment;
use kmdf::dma::{Channel, Enabler, Executing, ScatterGather, Shape, Transaction};
use kmdf::request::RequestKey;
use kmdf::slot::Knock;
use kmdf::spinlock::SpinLock;
use kmdf::turn::Turn;
use kmdf::{NtStatus, Result};

use super::drain::Reaper;
use super::gate::Gate;
use super::memory::Rings;
use super::registers::Registers;
use super::{MAXIMUM_ELEMENTS, SLOTS};

/// A transfer that is in the descriptor ring.
pub(super) struct Flight {
    pub(super) transfer: Transaction<Executing>,
    /// Bytes.
    pub(super) length: u32,
    /// The position after its last descriptor.
    pub(super) end: u32,
    /// When it was put in.
    pub(super) since: Moment,
}

/// What several processors that put transfers into the ring share.
pub(super) struct Submission {
    /// The position after the last descriptor.
    pub(super) producer: u32,
    pub(super) gate: Gate,
}

/// One channel of the card.
pub(crate) struct Engine {
    pub(super) direction: Direction,
    pub(super) rings: Rings,
    slots: Vec<Channel<Flight>>,
    /// A bit for each slot that no request has.
    free: AtomicU32,
    pub(super) submission: SpinLock<Submission>,
    /// The slots of the transfers in the ring in their order, by the number of the transfer.
    order: [AtomicU8; SLOTS as usize],
    /// How many transfers have been put in, and how many have been taken out, since the channel was started.
    pub(super) submitted: AtomicU32,
    pub(super) taken: AtomicU32,
    /// The channel has been started, and not been shut since: there may be completions.
    pub(super) started: AtomicBool,
    pub(super) reaper: Turn<Reaper>,
    /// The time limit of transfers is to be looked at.
    pub(super) check_time: AtomicBool,
    /// What has come although the channel is shut is to be ended, with this status for most; 0 if there is nothing.
    pub(super) clear_out: AtomicU32,
}

impl Engine {
    /// Makes the channel's memory and transactions. PASSIVE_LEVEL.
    pub(super) fn create(direction: Direction, enabler: &Enabler, shape: Shape) -> Result<Self> {
        let rings = Rings::create(enabler)?;
        let slots = create_slots(enabler, shape)?;
        Ok(Self {
            direction,
            rings,
            slots,
            free: AtomicU32::new(u32::MAX >> (u32::BITS - SLOTS)),
            submission: SpinLock::new(Submission {
                producer: 0,
                gate: Gate::Shut(NtStatus::DEVICE_NOT_READY),
            }),
            order: [const { AtomicU8::new(0) }; SLOTS as usize],
            submitted: AtomicU32::new(0),
            taken: AtomicU32::new(0),
            started: AtomicBool::new(false),
            reaper: Turn::new(Reaper::new()),
            check_time: AtomicBool::new(false),
            clear_out: AtomicU32::new(0),
        })
    }

    /// The slot with this number.
    pub(super) fn slot(&self, slot: u32) -> Option<&Channel<Flight>> {
        self.slots.get(slot as usize)
    }

    /// Takes a free slot. There is one for each request that the queue hands out.
    pub(super) fn claim(&self) -> Option<(u32, &Channel<Flight>)> {
        let lowest = |free: u32| (free != 0).then(|| free & (free - 1));
        let free = self
            .free
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, lowest)
            .ok()?;
        let slot = free.trailing_zeros();
        Some((slot, self.slot(slot)?))
    }

    /// Gives a slot back, whose channel is idle, before its request ends: that may bring the next one at once.
    pub(super) fn release(&self, slot: u32) {
        self.free.fetch_or(1 << (slot % SLOTS), Ordering::AcqRel);
    }

    /// The slot that has the request.
    pub(super) fn find(&self, request: RequestKey) -> Option<(u32, &Channel<Flight>)> {
        (0..).zip(&self.slots).find(|(_, slot)| slot.has(request))
    }

    /// The slot of the transfer with this number, if that is in the ring.
    pub(super) fn tag_at(&self, number: u32) -> Option<u32> {
        let submitted = self.submitted.load(Ordering::Acquire);
        let taken = self.taken.load(Ordering::Relaxed);
        (number.wrapping_sub(taken) < submitted.wrapping_sub(taken))
            .then(|| self.order_at(number).load(Ordering::Relaxed).into())
    }

    /// Whether no transfer is in the ring.
    pub(super) fn is_empty(&self) -> bool {
        self.submitted.load(Ordering::Acquire) == self.taken.load(Ordering::Acquire)
    }

    fn order_at(&self, number: u32) -> &AtomicU8 {
        let index = (number % SLOTS) as usize;
        // SAFETY: a remainder by the length is less than it.
        unsafe { self.order.get_unchecked(index) }
    }

    /// Puts a transfer into the descriptor ring and lets the card see it, if the channel is open; in any case it is looked
    /// after from now on. Whether that has to be seen to at once, by a deferred call. IRQL <= DISPATCH_LEVEL.
    ///
    /// The transfer goes into its slot before the card can see it, so whoever finds its completion finds it there.
    ///
    /// # Errors
    ///
    /// The transfer and the reason, if the list is not that of such a transfer.
    pub(super) fn submit(
        &self,
        registers: &Registers,
        slot: u32,
        transfer: Transaction<Executing>,
        span: Span,
        list: &ScatterGather<'_>,
    ) -> Result<bool, (Transaction<Executing>, NtStatus)> {
        let count = list.count();
        let Some(channel) = self.slot(slot) else {
            return Err((transfer, NtStatus::INTERNAL_ERROR));
        };
        // More than that has not been reserved.
        if count == 0 || count > MAXIMUM_ELEMENTS {
            return Err((transfer, NtStatus::INTERNAL_ERROR));
        }
        self.submission.with(|submission| {
            let old = submission.producer;
            let new = old.wrapping_add(count);
            let open = submission.gate == Gate::Open;
            if open {
                self.write(old, slot, span, list);
            }
            let number = self.submitted.load(Ordering::Relaxed);
            let knock = channel.put_running(Flight {
                transfer,
                length: span.length(),
                end: new,
                since: Moment::now(),
            });
            self.order_at(number).store(slot as u8, Ordering::Relaxed);
            self.submitted
                .store(number.wrapping_add(1), Ordering::Release);
            if open {
                submission.producer = new;
                if self.rings.publish(old, new) {
                    registers.ring(self.direction, new);
                }
                // Somebody has wanted the request to end, and did not find the transfer in the ring.
                if knock == Knock::Knocked && channel.is_stopping() {
                    registers.abort(self.direction, slot);
                }
            }
            Ok(self.refuse(submission))
        })
    }

    /// The descriptors of a transfer, from a position on.
    fn write(&self, position: u32, slot: u32, span: Span, list: &ScatterGather<'_>) {
        let last = list.count() - 1;
        let mut card_address = span.start().into();
        for (index, piece) in (0..).zip(list.iter()) {
            let flags = if index == last {
                DescriptorFlags::INTERRUPT
            } else {
                DescriptorFlags::CHAIN
            };
            let descriptor = Descriptor {
                bus_address: piece.address.to_bits(),
                card_address,
                length: piece.length,
                flags: flags.bits(),
                tag: slot,
                reserved: 0,
            };
            self.rings.put(position.wrapping_add(index), &descriptor);
            card_address += u64::from(piece.length);
        }
    }

    /// Has the card give up the transfer of a slot, if it is in the ring. Its completion tells what has become of it.
    pub(super) fn abort(&self, registers: &Registers, slot: u32) {
        // With the lock, it is either not in its slot yet, and is seen to be unwanted when it is put in; or published.
        self.submission.with(|submission| {
            if submission.gate == Gate::Open {
                registers.abort(self.direction, slot);
            }
        });
    }
}

/// A slot's channel each, with a transaction of its own.
fn create_slots(enabler: &Enabler, shape: Shape) -> Result<Vec<Channel<Flight>>> {
    let mut slots = Vec::new();
    slots
        .try_reserve_exact(SLOTS as usize)
        .map_err(|_| NtStatus::INSUFFICIENT_RESOURCES)?;
    // Not by pushing: the image would contain the path on which a vector grows, and that can panic.
    let mut filled = 0;
    for place in slots.spare_capacity_mut().iter_mut().take(SLOTS as usize) {
        place.write(Channel::new(enabler.create_transaction()?).shaped(shape));
        filled += 1;
    }
    // SAFETY: so many have been written.
    unsafe { slots.set_len(filled) };
    Ok(slots)
}
