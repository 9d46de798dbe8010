//! `verify`: what the driver promises, checked from a program's side.
//!
//! Every check works against a [`Model`], a copy of what the device's memory must hold, so a write that reaches a
//! neighbour's bytes, a read that comes from elsewhere and a transfer that spills over its buffer all show.

mod checks;
mod model;

use abi::info::DeviceInfo;

use crate::device::Device;
use crate::error::{Error, Win32Error};

pub use model::Model;

/// What became of one check.
#[derive(Debug)]
pub struct Outcome {
    /// The check's name.
    pub name: &'static str,
    /// Requests it made.
    pub requests: u64,
    /// Why it failed, if it did.
    pub result: Result<(), Error>,
}

/// Runs every check, reporting each as it ends. `seed` varies the data and the places.
///
/// # Errors
/// [`Error::ChecksFailed`] after all have run; others if the device's memory cannot be given known contents at all.
pub fn verify<D: Device>(
    device: &D,
    info: &DeviceInfo,
    seed: u64,
    mut report: impl FnMut(&Outcome),
) -> Result<(), Error> {
    let mut model = Model::new(device, info, seed)?;
    let mut failed = 0;
    for (name, check) in checks::all() {
        let before = model.requests();
        let result = check(&mut model);
        failed += usize::from(result.is_err());
        let outcome = Outcome {
            name,
            requests: model.requests() - before,
            result,
        };
        report(&outcome);
        if outcome.result.is_err() {
            // Whatever went wrong, the next check starts from known contents.
            model.prime()?;
        }
    }
    match failed {
        0 => Ok(()),
        failed => Err(Error::ChecksFailed(failed)),
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
    use super::*;
    use crate::fake::{Fake, Fault};

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
        ] {
            let failing = failing(&Fake::new(4095, 4095).with(fault));
            assert!(
                failing.contains(&check),
                "{fault:?}: only {failing:?} failed"
            );
        }
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
