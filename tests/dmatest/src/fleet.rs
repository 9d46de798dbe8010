//! Requests under way together on one part of the device's memory, any of which may be cancelled, and the judging of each.
//!
//! No request may overlap a write that is under way, since the device may carry requests out in any order. Every request
//! has guard bytes around its part of the buffer. What is allowed: success with all bytes moved, or an error with each
//! byte of a read either moved or not, and each byte of a write likewise if it was cancelled; after a write that failed
//! or was cut off by a reset the device may hold anything there. Nothing else, and nothing after the wait limit.

use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use abi::ioctl;
use fastrand::Rng;

use crate::device::{Device, Direction};
use crate::error::{Error, Win32Error};
use crate::pattern::Pattern;
use crate::place::Place;
use crate::shadow::Shadow;
use crate::sizes::Sizes;
use crate::tally::{End, Tally};

/// How often a free place is looked for before it is taken that there is none.
const ATTEMPTS: usize = 16;

/// What all threads of a program share: how long nothing may end while something is waited for, since their requests wait
/// for each other in the driver; and resets, which may cancel a request of any of them.
#[derive(Debug)]
pub struct Shared {
    limit: Duration,
    /// When a request ended last, ns of the device's clock.
    last: AtomicU64,
    /// Resets going on.
    resets: AtomicU64,
    /// When a reset ended last, ns of the device's clock, and one more; 0 if none has.
    last_reset: AtomicU64,
}

impl Shared {
    /// `limit` without any request's end is a hang.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self {
            limit,
            last: AtomicU64::new(0),
            resets: AtomicU64::new(0),
            last_reset: AtomicU64::new(0),
        }
    }

    /// Resets the device, and waits for that.
    ///
    /// # Errors
    /// [`Error::Control`].
    pub fn reset<D: Device>(&self, device: &D) -> Result<(), Error> {
        self.resets.fetch_add(1, Ordering::SeqCst);
        let answer = device.control(ioctl::RESET, &[], &mut []);
        let now = nanoseconds(device.now());
        self.last_reset.fetch_max(now + 1, Ordering::SeqCst);
        self.resets.fetch_sub(1, Ordering::SeqCst);
        answer.map(drop).map_err(|error| Error::Control {
            name: "RESET",
            error,
        })
    }

    /// Whether a reset may have cancelled a request that was started at `moment` and has just ended.
    fn reset_since(&self, moment: Duration) -> bool {
        self.resets.load(Ordering::SeqCst) > 0
            || self.last_reset.load(Ordering::SeqCst) > nanoseconds(moment)
    }

    fn progress(&self, now: Duration) {
        self.last.fetch_max(nanoseconds(now), Ordering::Relaxed);
    }

    /// Waits for the end of `pending` while others end.
    fn wait<D: Device>(&self, device: &D, pending: &D::Pending) -> bool {
        let began = nanoseconds(device.now());
        loop {
            let last = self.last.load(Ordering::Relaxed).max(began);
            let waited = Duration::from_nanos(nanoseconds(device.now()).saturating_sub(last));
            let Some(left) = self
                .limit
                .checked_sub(waited)
                .filter(|left| !left.is_zero())
            else {
                return device.wait_for(pending, Duration::ZERO);
            };
            if device.wait_for(pending, left) {
                return true;
            }
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A request of a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// A request under way.
struct Flight<D: Device> {
    ticket: Ticket,
    direction: Direction,
    place: Place,
    pending: D::Pending,
    /// The whole buffer as it was given away.
    before: Vec<u8>,
    /// Somebody asked for its cancellation, in time.
    cancelled: bool,
    started: Duration,
}

/// A request that has ended and was judged.
#[derive(Debug, Clone, Copy)]
pub struct Landed {
    /// Which way.
    pub direction: Direction,
    /// Bytes.
    pub length: usize,
    /// How it ended.
    pub end: End,
    /// From its start until its end was seen.
    pub latency: Duration,
}

/// Requests under way on a part of the device's memory.
pub struct Fleet<'s, D: Device> {
    flights: Vec<Flight<D>>,
    /// Requests started so far.
    started: u64,
    shadow: Shadow,
    tally: Tally,
    shared: &'s Shared,
    /// A request did not end: nobody may wait for it, its memory is lost.
    hung: bool,
}

impl<D: Device> Drop for Fleet<'_, D> {
    fn drop(&mut self) {
        let flights = mem::take(&mut self.flights);
        if self.hung {
            mem::forget(flights);
        }
    }
}

impl<'s, D: Device> Fleet<'s, D> {
    /// No requests, and a part of the memory of which nothing is known.
    #[must_use]
    pub fn new(shadow: Shadow, shared: &'s Shared) -> Self {
        Self {
            flights: Vec::new(),
            started: 0,
            shadow,
            tally: Tally::default(),
            shared,
            hung: false,
        }
    }

    /// What has ended so far.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// For what is not a request of the fleet.
    pub fn tally_mut(&mut self) -> &mut Tally {
        &mut self.tally
    }

    /// Requests under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.flights.len()
    }

    /// All that are under way, in the order in which they were started.
    #[must_use]
    pub fn under_way(&self) -> Vec<Ticket> {
        self.flights.iter().map(|flight| flight.ticket).collect()
    }

    /// Whether none is under way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    /// A place where a request of at most `largest` bytes can go now, if one is found.
    pub fn find_place(
        &self,
        rng: &mut Rng,
        direction: Direction,
        sizes: &Sizes,
        largest: usize,
    ) -> Option<Place> {
        let range = self.shadow.range();
        let largest = largest.min(range.len());
        (0..ATTEMPTS).find_map(|_| {
            let length = sizes.pick(rng, largest);
            let offset = range.start + rng.usize(..=range.len() - length);
            let place = Place::new(offset as u64, length).shifted(random_shift(rng));
            self.is_free(direction, place).then_some(place)
        })
    }

    fn is_free(&self, direction: Direction, place: Place) -> bool {
        !self.flights.iter().any(|flight| {
            let writes = direction == Direction::Write || flight.direction == Direction::Write;
            writes && flight.place.overlaps(place)
        })
    }

    /// Starts a request at a place where it can go; `pattern` is what a write writes.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn start(
        &mut self,
        device: &D,
        direction: Direction,
        place: Place,
        pattern: Pattern,
    ) -> Result<Ticket, Error> {
        debug_assert!(self.is_free(direction, place));
        let mut buffer = place.buffer(device)?;
        let data = &mut buffer[place.range()];
        match direction {
            Direction::Read => self.shadow.fill_foreign(place, data),
            Direction::Write => {
                pattern.fill(place.offset, data);
                self.shadow.write_started(place, data);
            }
        }
        let before = buffer.to_vec();
        let started = device.now();
        let ticket = Ticket(self.started);
        self.started += 1;
        self.flights.push(Flight {
            ticket,
            direction,
            place,
            pending: device.start(direction, place.offset, buffer, place.range()),
            before,
            cancelled: false,
            started,
        });
        Ok(ticket)
    }

    /// CancelIoEx for a request, if it is still under way, by the handle that made it or a duplicate.
    ///
    /// # Errors
    /// [`Error::Control`] if that fails for another reason than that the request has ended.
    pub fn cancel(&mut self, device: &D, ticket: Ticket) -> Result<(), Error> {
        let mut flights = self.flights.iter_mut();
        let Some(flight) = flights.find(|flight| flight.ticket == ticket) else {
            return Ok(());
        };
        match device.cancel(&flight.pending) {
            Ok(()) => flight.cancelled = true,
            Err(Win32Error::NOT_FOUND) => {}
            Err(error) => return Err(cancel_failed(error)),
        }
        Ok(())
    }

    /// CancelIoEx for all requests of a handle that made all that are under way.
    ///
    /// # Errors
    /// As [`Fleet::cancel`].
    pub fn cancel_all(&mut self, device: &D) -> Result<(), Error> {
        match device.cancel_all() {
            Ok(()) => self.expect_cancelled(),
            Err(Win32Error::NOT_FOUND) => {}
            Err(error) => return Err(cancel_failed(error)),
        }
        Ok(())
    }

    /// Something happens to the requests under way that may cancel each of them.
    pub fn expect_cancelled(&mut self) {
        for flight in &mut self.flights {
            flight.cancelled = true;
        }
    }

    /// Waits for the oldest request, but not for longer than `time`.
    pub fn wait_oldest(&self, device: &D, time: Duration) {
        if let Some(flight) = self.flights.first() {
            device.wait_for(&flight.pending, time);
        }
    }

    /// Judges all requests that have ended by now.
    ///
    /// # Errors
    /// [`Error::Mismatch`].
    pub fn land_ended(&mut self, device: &D) -> Result<Vec<Landed>, Error> {
        let mut landed = Vec::new();
        let mut index = 0;
        while index < self.flights.len() {
            if device.wait_for(&self.flights[index].pending, Duration::ZERO) {
                landed.push(self.land(device, index)?);
            } else {
                index += 1;
            }
        }
        Ok(landed)
    }

    /// Waits for all requests, in the order in which they were started, and judges them.
    ///
    /// # Errors
    /// As [`Fleet::land`].
    pub fn land_all(&mut self, device: &D) -> Result<Vec<Landed>, Error> {
        let mut landed = Vec::new();
        while !self.flights.is_empty() {
            landed.push(self.land(device, 0)?);
        }
        Ok(landed)
    }

    /// Waits for all requests, whatever is wrong with them.
    ///
    /// # Errors
    /// [`Error::Hung`].
    pub fn discard(&mut self, device: &D) -> Result<(), Error> {
        while !self.flights.is_empty() {
            if let Err(error @ Error::Hung(_)) = self.land(device, 0) {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Waits for a request, and judges it.
    ///
    /// # Errors
    /// [`Error::Mismatch`]; [`Error::Hung`], after which the fleet's requests are given up.
    pub fn land(&mut self, device: &D, index: usize) -> Result<Landed, Error> {
        if !self.shared.wait(device, &self.flights[index].pending) {
            return Err(self.give_up(device, index));
        }
        let flight = self.flights.remove(index);
        let (direction, length, cancelled) =
            (flight.direction, flight.place.length, flight.cancelled);
        let reset = self.shared.reset_since(flight.started);
        let now = device.now();
        let latency = now.saturating_sub(flight.started);
        self.shared.progress(now);
        let end = flight.judge(device, &mut self.shadow, reset)?;
        self.tally.add(direction, length, end);
        if cancelled && end == End::Done {
            self.tally.too_late += 1;
        }
        Ok(Landed {
            direction,
            length,
            end,
            latency,
        })
    }

    /// A request did not end. Whether cancelling it helps is worth knowing.
    fn give_up(&mut self, device: &D, index: usize) -> Error {
        self.hung = true;
        let flight = &self.flights[index];
        let (place, limit) = (flight.place, self.shared.limit);
        let already = if flight.cancelled { "cancelled " } else { "" };
        let asked = device.cancel(&flight.pending);
        let then = match (asked, device.wait_for(&flight.pending, limit)) {
            (_, true) => "it ended after CancelIoEx".to_owned(),
            (Ok(()), false) => "nor after CancelIoEx".to_owned(),
            (Err(error), false) => format!("and CancelIoEx failed: {error}"),
        };
        Error::Hung(format!(
            "a {already}{} of {} bytes at offset {} did not end, and nothing else in {limit:?}; {then}",
            flight.direction, place.length, place.offset
        ))
    }

    /// Writes the fleet's whole part of the memory. Nothing is under way.
    ///
    /// # Errors
    /// Those of the requests.
    pub fn prime(&mut self, device: &D, largest: usize, seed: u64) -> Result<(), Error> {
        for place in self.pieces(largest) {
            self.start(device, Direction::Write, place, Pattern::Random(seed))?;
            self.land(device, 0)?;
        }
        Ok(())
    }

    /// Reads the fleet's whole part of the memory. Nothing is under way.
    ///
    /// # Errors
    /// As [`Fleet::land`].
    pub fn read_back(&mut self, device: &D, largest: usize) -> Result<(), Error> {
        for place in self.pieces(largest) {
            self.start(device, Direction::Read, place, Pattern::Constant(0))?;
            self.land(device, 0)?;
        }
        Ok(())
    }

    fn pieces(&self, largest: usize) -> Vec<Place> {
        let range = self.shadow.range();
        range
            .clone()
            .step_by(largest)
            .map(|offset| Place::new(offset as u64, largest.min(range.end - offset)))
            .collect()
    }
}

impl<D: Device> Flight<D> {
    /// Takes the buffer back from a request that has ended and holds it against what it may be.
    /// `reset`: a reset may have ended it.
    fn judge(self, device: &D, shadow: &mut Shadow, reset: bool) -> Result<End, Error> {
        let Self {
            direction,
            place,
            pending,
            mut before,
            cancelled,
            ..
        } = self;
        let done = device.wait(pending);
        let end = match done.result {
            Ok(moved) if moved == place.length => End::Done,
            Ok(moved) => {
                let what = format!("reported as done with {moved} bytes");
                return Err(place.mismatch(direction, &what));
            }
            Err(Win32Error::OPERATION_ABORTED) if cancelled || reset => End::Cancelled,
            Err(error) => End::Failed(error),
        };
        let data = &done.buffer[place.range()];
        let verdict = match (direction, end) {
            (Direction::Read, End::Done) => shadow.read_done(place, data),
            (Direction::Read, _) => shadow.read_in_part(place, &before[place.range()], data),
            (Direction::Write, End::Done) => {
                shadow.write_done(place, &before[place.range()]);
                Ok(())
            }
            // The device finishes what it has begun when a request is cancelled; otherwise it is cut off.
            (Direction::Write, End::Cancelled) if !reset => Ok(()),
            (Direction::Write, _) => {
                shadow.write_cut(place);
                Ok(())
            }
        };
        let how = match end {
            End::Done => "done",
            End::Cancelled => "cancelled",
            End::Failed(_) => "failed",
        };
        verdict.map_err(|what| place.mismatch(direction, &format!("which was {how}, {what}")))?;
        if direction == Direction::Read {
            before[place.range()].copy_from_slice(data);
        }
        // What is left are the guard bytes, and for a write all of the buffer.
        place.check(direction, &before, &done.buffer)?;
        Ok(end)
    }
}

fn cancel_failed(error: Win32Error) -> Error {
    Error::Control {
        name: "CancelIoEx",
        error,
    }
}

/// Where in a page a buffer starts: half of them at its start or around its end, where mistakes are.
fn random_shift(rng: &mut Rng) -> usize {
    match rng.u8(..4) {
        0 => 0,
        1 => 4096 - rng.usize(1..=64),
        _ => rng.usize(..4096),
    }
}
