//! `verify`: what the driver promises, checked from a program's side.
//!
//! Every check works against a [`Model`], a copy of what the device's memory must hold, so a write that reaches a
//! neighbour's bytes, a read that comes from elsewhere and a transfer that spills over its buffer all show.

mod cancel;
mod checks;
mod model;
mod modes;

use abi::info::DeviceInfo;

use crate::device::Device;
use crate::error::{Error, Win32Error};
use crate::fleet::Shared;
use crate::tally::Tally;

use cancel::Bench;
pub use model::Model;

/// What became of one check.
#[derive(Debug)]
pub struct Outcome {
    /// The check's name.
    pub name: &'static str,
    /// Requests it made.
    pub requests: u64,
    /// Those of them that were cancelled.
    pub cancelled: u64,
    /// Why it failed, if it did.
    pub result: Result<(), Error>,
}

/// Runs every check, reporting each as it ends. `seed` varies the data and the places.
///
/// # Errors
/// [`Error::ChecksFailed`] after all have run, or what kept a request from succeeding if that alone made checks fail; at
/// once if the device's memory cannot be given known contents at all.
pub fn verify<D: Device>(
    device: &D,
    info: &DeviceInfo,
    seed: u64,
    report: impl FnMut(&Outcome),
) -> Result<(), Error> {
    let mut model = Model::new(device, info, seed)?;
    let counts = |model: &Model<'_, D>| (model.requests(), 0);
    run(&mut model, &checks::all(), counts, Model::prime, report)
}

/// Runs the checks that cancel requests. Failed requests make no check fail: they are in the tally.
///
/// # Errors
/// As [`verify`]; [`Error::Hung`] at once, since the rest would wait for that request.
pub fn verify_cancel<D: Device>(
    device: &D,
    info: &DeviceInfo,
    seed: u64,
    shared: &Shared,
    report: impl FnMut(&Outcome),
) -> Result<Tally, Error> {
    let mut bench = Bench::new(device, info, seed, shared)?;
    let counts = |bench: &Bench<'_, D>| {
        let tally = bench.tally();
        (tally.requests + tally.abandoned, tally.cancelled)
    };
    run(&mut bench, &cancel::all(), counts, Bench::prime, report)?;
    Ok(bench.tally())
}

/// A check's name and what it does with a context.
type Check<C> = (&'static str, fn(&mut C) -> Result<(), Error>);

/// Runs checks one after the other. `counts` says how many requests were made and how many of them were cancelled;
/// `prime` gives the device's memory known contents after a check that has failed.
fn run<C>(
    context: &mut C,
    checks: &[Check<C>],
    counts: impl Fn(&C) -> (u64, u64),
    prime: impl Fn(&mut C) -> Result<(), Error>,
    mut report: impl FnMut(&Outcome),
) -> Result<(), Error> {
    let (mut failed, mut request_failed) = (0, None);
    for (name, check) in checks {
        let before = counts(context);
        let result = check(context);
        let after = counts(context);
        let outcome = Outcome {
            name,
            requests: after.0 - before.0,
            cancelled: after.1 - before.1,
            result,
        };
        report(&outcome);
        match outcome.result {
            Ok(()) => continue,
            Err(error @ Error::Hung(_)) => return Err(error),
            Err(error) if error.is_of_device() => {
                request_failed.get_or_insert(error);
            }
            Err(_) => failed += 1,
        }
        prime(context)?;
    }
    match (failed, request_failed) {
        (0, None) => Ok(()),
        (0, Some(error)) => Err(error),
        (failed, _) => Err(Error::ChecksFailed(failed)),
    }
}

/// How the driver must answer a request of `length` bytes at `offset`, read as signed, on a device with `memory` bytes:
/// the table of [`abi::window`], written down a second time on purpose.
///
/// # Errors
/// The error wanted.
pub fn expected_answer(offset: u64, length: u64, memory: u64) -> Result<u64, Win32Error> {
    let end = u128::from(offset) + u128::from(length);
    if length == 0 {
        Ok(0)
    } else if i64::try_from(offset).is_err() {
        Err(Win32Error::INVALID_PARAMETER)
    } else if offset >= memory {
        Err(Win32Error::HANDLE_EOF)
    } else if end > u128::from(memory) {
        Err(Win32Error::INVALID_USER_BUFFER)
    } else {
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use abi::mode::{DmaMode, ModeChange};

    use super::*;
    use crate::exit;
    use crate::fake::{Fake, Fault};
    use crate::mode::{query_mode, set_mode};

    /// The names of the checks that fail on `fake`.
    fn failing(fake: &Fake) -> Vec<&'static str> {
        let mut failing = Vec::new();
        let result = verify(fake, &fake.info(), 1, |outcome| {
            if outcome.result.is_err() {
                failing.push(outcome.name);
            }
        });
        assert_eq!(result.is_err(), !failing.is_empty());
        failing
    }

    /// Runs the checks that cancel, and returns the names of those that fail.
    fn cancelling(fake: &Fake) -> (Vec<&'static str>, Result<Tally, Error>) {
        let mut failing = Vec::new();
        let shared = Shared::new(Duration::from_secs(1));
        let result = verify_cancel(fake, &fake.info(), 1, &shared, |outcome| {
            if outcome.result.is_err() {
                failing.push(outcome.name);
            }
        });
        (failing, result)
    }

    #[test]
    fn cancelling_on_a_sound_device_passes() {
        for (memory, largest) in [(4095, 4095), (65_536, 5000)] {
            let (failing, result) = cancelling(&Fake::new(memory, largest));
            assert_eq!(failing, [""; 0]);
            let tally = result.expect("sound");
            assert!(tally.cancelled > 50 && tally.too_late > 5, "{tally:?}");
            assert!(tally.completed > tally.cancelled, "{tally:?}");
            assert_eq!((tally.failed, tally.abandoned), (0, 17));
        }
    }

    #[test]
    fn every_fault_of_cancelling_is_found() {
        for (fault, check) in [
            (Fault::FlipBit { at: 700 }, "cancel one"),
            (Fault::ReadOneMore, "cancel one"),
            (Fault::CancelledShort, "cancel one"),
            (Fault::CancelledSpills, "cancel one"),
            (Fault::CancelledScribbles, "cancel one"),
            (Fault::CancelledReadsWrong, "cancel one"),
            (Fault::CancelUncounted, "adds up"),
            (Fault::CancelCountedAsDone, "adds up"),
        ] {
            let (failing, result) = cancelling(&Fake::new(4095, 4095).with(fault));
            assert!(
                failing.contains(&check),
                "{fault:?}: only {failing:?} failed"
            );
            assert!(matches!(result, Err(Error::ChecksFailed(_))), "{result:?}");
        }
    }

    #[test]
    fn a_request_that_does_not_end_is_a_hang() {
        for (fault, helps) in [
            (Fault::Lose(20), "nor after CancelIoEx"),
            (Fault::Stall(20), "it ended after CancelIoEx"),
            (Fault::AbandonedForGood, "it ended after CancelIoEx"),
        ] {
            let (_, result) = cancelling(&Fake::new(4095, 4095).with(fault));
            let Err(error @ Error::Hung(_)) = result else {
                panic!("{fault:?}: {result:?}");
            };
            assert!(error.to_string().ends_with(helps), "{fault:?}: {error}");
            assert_eq!(exit::code(&error), exit::DIFFERENT);
        }
    }

    #[test]
    fn requests_cancelled_though_nobody_asked_have_failed() {
        for fault in [Fault::CancelsOthers, Fault::CloseOfDuplicateCancels] {
            let (_, result) = cancelling(&Fake::new(4095, 4095).with(fault));
            let tally = result.expect("the data is right");
            let aborted = Win32Error::OPERATION_ABORTED;
            assert!(tally.failures.contains_key(&aborted.0), "{fault:?}");
            assert!(matches!(
                tally.none_failed(),
                Err(Error::RequestsFailed { .. })
            ));
        }
    }

    #[test]
    fn failed_requests_are_counted_and_explained() {
        let fake = Fake::new(4095, 4095).with(Fault::FailSome(Win32Error::SEM_TIMEOUT));
        let (failing, result) = cancelling(&fake);
        assert_eq!(failing, [""; 0]);
        let tally = result.expect("what failed did no harm");
        assert!(tally.failed > 10);
        let lines: Vec<String> = tally.explain().collect();
        assert!(lines[0].ends_with("(ERROR_SEM_TIMEOUT, 121)"), "{lines:?}");
    }

    #[test]
    fn a_sound_device_passes() {
        assert_eq!(failing(&Fake::new(4095, 4095)), [""; 0]);
        assert_eq!(failing(&Fake::new(65_536, 5000)), [""; 0]);
    }

    #[test]
    fn every_fault_is_found() {
        for (fault, check) in [
            (Fault::FlipBit { at: 4094 }, "patterns"),
            (Fault::FlipBit { at: 0 }, "sizes"),
            (Fault::ReadNothing, "patterns"),
            (Fault::OneMore, "sizes"),
            (Fault::ReadOneMore, "alignment"),
            (Fault::Truncate, "limits"),
            (Fault::WrapOffset, "limits"),
            (Fault::Reorder, "order"),
            (Fault::ModeForgotten, "modes"),
            (Fault::ModeUnchecked, "modes"),
            (Fault::ReservedMovesLess, "modes"),
        ] {
            let failing = failing(&Fake::new(4095, 4095).with(fault));
            assert!(
                failing.contains(&check),
                "{fault:?}: only {failing:?} failed"
            );
        }
    }

    /// Whatever else the checks do in the meantime.
    #[test]
    fn the_mode_is_the_same_afterwards() {
        let fake = Fake::new(4095, 4095);
        for mode in [DmaMode::empty(), DmaMode::RESERVED, DmaMode::all()] {
            set_mode(&fake, ModeChange::to(mode)).expect("a mode");
            let before = query_mode(&fake).expect("the mode");
            assert_eq!(failing(&fake), [""; 0]);
            assert_eq!(query_mode(&fake).expect("the mode"), before);
        }
    }

    #[test]
    fn a_device_without_modes_passes() {
        assert_eq!(
            failing(&Fake::new(4095, 4095).with(Fault::NoModes)),
            [""; 0]
        );
    }

    #[test]
    fn a_dead_device_is_an_error_at_once() {
        let fake = Fake::new(4095, 4095).with(Fault::Fail(Win32Error::GEN_FAILURE));
        let result = verify(&fake, &fake.info(), 1, |_| {});
        assert!(matches!(result, Err(Error::Transfer { .. })));
    }

    #[test]
    fn sums_do_not_wrap() {
        let ask = |offset, length| expected_answer(offset, length, 4095);
        assert_eq!(ask(0, 4095), Ok(4095));
        assert_eq!(ask(4094, 1), Ok(1));
        assert_eq!(ask(u64::MAX, 0), Ok(0));
        assert_eq!(ask(4095, 1), Err(Win32Error::HANDLE_EOF));
        assert_eq!(ask(4094, 2), Err(Win32Error::INVALID_USER_BUFFER));
        assert_eq!(ask(i64::MAX as u64, 4095), Err(Win32Error::HANDLE_EOF));
        assert_eq!(ask(u64::MAX, 2), Err(Win32Error::INVALID_PARAMETER));
    }
}
