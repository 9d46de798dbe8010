//! The checks of `verify --cancel`: requests are cancelled at random moments, one by one, all at once, by closing their
//! handle and by the end of their process.

use std::time::Duration;

use abi::info::DeviceInfo;
use abi::statistics::Statistics;
use fastrand::Rng;

use super::Check;
use crate::device::{Device, Direction, query_statistics};
use crate::error::Error;
use crate::fleet::{Fleet, Shared, Ticket};
use crate::pattern::Pattern;
use crate::shadow::Shadow;
use crate::sizes::Sizes;
use crate::tally::Tally;

/// Requests under way at once.
const AT_ONCE: usize = 16;
/// How often each check does what it does.
const ROUNDS: usize = 6;

/// The device under these checks, and all that is known of it.
pub(super) struct Bench<'d, D: Device> {
    device: &'d D,
    largest: usize,
    fleet: Fleet<'d, D>,
    /// For requests of another handle than the fleet's, on a part of the memory of their own.
    neighbour: Fleet<'d, D>,
    rng: Rng,
    /// How long one request takes, about.
    typical: Duration,
    before: Statistics,
}

/// Names and checks.
pub(super) fn all<'d, D: Device>() -> [Check<Bench<'d, D>>; 6] {
    [
        ("cancel one", one),
        ("cancel all", whole_handle),
        ("duplicate", duplicate),
        ("close", close),
        ("exit", exit),
        ("adds up", adds_up),
    ]
}

impl<'d, D: Device> Bench<'d, D> {
    /// Gives the device's whole memory known contents.
    pub(super) fn new(
        device: &'d D,
        info: &DeviceInfo,
        seed: u64,
        shared: &'d Shared,
    ) -> Result<Self, Error> {
        let memory = info.memory_size as usize;
        let largest = memory.min(info.maximum_request as usize);
        let part = memory - memory / 4;
        let before = query_statistics(device)?;
        let mut bench = Self {
            device,
            largest,
            fleet: Fleet::new(Shadow::unknown(0..part), shared),
            neighbour: Fleet::new(Shadow::unknown(part..memory), shared),
            rng: Rng::with_seed(seed),
            typical: Duration::ZERO,
            before,
        };
        bench.prime()?;
        Ok(bench)
    }
    /// What became of all requests.
    pub(super) fn tally(&self) -> Tally {
        let mut tally = self.fleet.tally().clone();
        tally.merge(self.neighbour.tally());
        tally
    }

    /// Gives the memory known contents, as far as the device lets us.
    pub(super) fn prime(&mut self) -> Result<(), Error> {
        self.fleet.discard(self.device)?;
        self.neighbour.discard(self.device)?;
        let seed = self.rng.u64(..);
        self.fleet.prime(self.device, self.largest, seed)?;
        let started = self.device.now();
        self.neighbour.prime(self.device, self.largest, seed)?;
        self.typical = self.device.now().saturating_sub(started);
        Ok(())
    }

    /// Starts several requests by `device` at random places.
    fn start(&mut self, device: &D) -> Result<(), Error> {
        start(
            &mut self.fleet,
            device,
            &mut self.rng,
            self.largest,
            AT_ONCE,
        )
    }

    /// A moment while requests started just now are under way.
    fn moment(&mut self) -> Duration {
        self.typical.mul_f64(self.rng.f64() * AT_ONCE as f64 / 2.0)
    }

    /// Waits for all requests, and reads the whole memory.
    fn finish(&mut self) -> Result<(), Error> {
        self.fleet.land_all(self.device)?;
        self.neighbour.land_all(self.device)?;
        self.fleet.read_back(self.device, self.largest)?;
        self.neighbour.read_back(self.device, self.largest)
    }
}

fn start<D: Device>(
    fleet: &mut Fleet<'_, D>,
    device: &D,
    rng: &mut Rng,
    largest: usize,
    count: usize,
) -> Result<(), Error> {
    let sizes = Sizes::default();
    for _ in 0..count {
        let direction = if rng.bool() {
            Direction::Read
        } else {
            Direction::Write
        };
        if let Some(place) = fleet.find_place(rng, direction, &sizes, largest) {
            let pattern = Pattern::Random(rng.u64(..));
            fleet.start(device, direction, place, pattern)?;
        }
    }
    Ok(())
}

/// CancelIoEx of single requests, at moments of their own, one of them twice: each ends, done or cancelled.
fn one<D: Device>(bench: &mut Bench<'_, D>) -> Result<(), Error> {
    let device = bench.device;
    for _ in 0..ROUNDS {
        bench.start(device)?;
        let tickets = bench.fleet.under_way();
        let chosen = tickets.iter().step_by(2);
        let mut moments: Vec<(Duration, Ticket)> =
            chosen.map(|ticket| (bench.moment(), *ticket)).collect();
        // The oldest a second time, and at once: it is in the hardware.
        moments.extend(tickets.first().map(|ticket| (Duration::ZERO, *ticket)));
        moments.sort_unstable();
        let mut passed = Duration::ZERO;
        for (moment, ticket) in moments {
            device.sleep(moment - passed);
            passed = moment;
            bench.fleet.cancel(device, ticket)?;
        }
        bench.finish()?;
    }
    Ok(())
}

/// CancelIoEx of all requests of a handle, at a random moment: those of another handle go on.
fn whole_handle<D: Device>(bench: &mut Bench<'_, D>) -> Result<(), Error> {
    let device = bench.device;
    let other = device.reopen()?;
    for _ in 0..ROUNDS {
        bench.start(device)?;
        start(
            &mut bench.neighbour,
            &other,
            &mut bench.rng,
            bench.largest,
            4,
        )?;
        device.sleep(bench.moment());
        bench.fleet.cancel_all(device)?;
        bench.finish()?;
    }
    Ok(())
}

/// Closing one of two handles of a file object cancels nothing; the other one can cancel what the first has started.
fn duplicate<D: Device>(bench: &mut Bench<'_, D>) -> Result<(), Error> {
    let device = bench.device;
    let second = device.duplicate()?;
    for _ in 0..ROUNDS {
        let third = device.duplicate()?;
        bench.start(device)?;
        drop(third);
        // No request has been cancelled: who comes back cancelled has failed.
        bench.finish()?;
        bench.start(device)?;
        device.sleep(bench.moment());
        bench.fleet.cancel_all(&second)?;
        bench.finish()?;
    }
    Ok(())
}

/// CloseHandle of the last handle with requests under way: each ends, done or cancelled.
fn close<D: Device>(bench: &mut Bench<'_, D>) -> Result<(), Error> {
    for _ in 0..ROUNDS {
        let handle = bench.device.reopen()?;
        bench.start(&handle)?;
        bench.device.sleep(bench.moment());
        bench.fleet.expect_cancelled();
        drop(handle);
        bench.finish()?;
    }
    Ok(())
}

/// A process ends with requests under way: it does end, and the device is in order.
fn exit<D: Device>(bench: &mut Bench<'_, D>) -> Result<(), Error> {
    let length = bench.largest.min(2048);
    for reads in [1, AT_ONCE] {
        bench.device.abandon(reads, length)?;
        bench.fleet.tally_mut().abandon(reads, length);
        bench.finish()?;
    }
    Ok(())
}

/// What the driver has counted since the first of these checks is what they did.
fn adds_up<D: Device>(bench: &mut Bench<'_, D>) -> Result<(), Error> {
    let after = query_statistics(bench.device)?;
    bench.tally().check(&bench.before, &after)
}
