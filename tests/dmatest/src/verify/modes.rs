//! The check of a device that can reserve map registers, or have requests that do not wait for any.

use std::time::Duration;

use abi::mode::{DmaMode, ModeChange, ModeState};

use super::checks::require;
use super::model::Model;
use crate::device::Device;
use crate::error::{Error, Win32Error};
use crate::mode::{query_mode, restore, set_mode};
use crate::place::Place;

/// Where in a page buffers start.
const SHIFTS: [usize; 3] = [0, 2049, 4095];

/// How often a request is made that finds no map registers, and how long it is not, in between.
const ATTEMPTS: u32 = 10;
const A_MOMENT: Duration = Duration::from_millis(1);

/// In every mode the driver says which it is, and moves what it should; what is no mode is refused. Afterwards it is as it
/// was before.
pub(super) fn modes<D: Device>(model: &mut Model<'_, D>) -> Result<(), Error> {
    let before = match query_mode(model.device()) {
        Ok(before) => before,
        Err(Error::Control { error, .. }) if error == Win32Error::INVALID_FUNCTION => {
            return refused(model, ModeChange::default(), error);
        }
        Err(error) => return Err(error),
    };
    let result = each(model, &before);
    let restored = restore(model.device(), &before);
    result.and(restored)
}

fn each<D: Device>(model: &mut Model<'_, D>, before: &ModeState) -> Result<(), Error> {
    let most = before.most_map_registers;
    require(most > 0, || "a transfer needs no map registers".to_owned())?;
    let change = |mode: DmaMode, map_registers| ModeChange {
        mode: mode.bits(),
        map_registers,
    };
    let [reserved, immediate] = [DmaMode::RESERVED, DmaMode::IMMEDIATE];
    for (change, expected) in [
        (change(reserved, 0), most),
        (change(reserved, 1), 1),
        (change(reserved | immediate, most), most),
        (change(immediate, 0), 0),
        (change(DmaMode::empty(), 0), 0),
    ] {
        let answer = set_mode(model.device(), change);
        require(answer == Ok(()), || format!("{change:?}: {answer:?}"))?;
        is(model, change.mode, expected)?;
        for shift in SHIFTS {
            let place = Place::new(1, model.largest() - 1).shifted(shift);
            let pattern = model.fresh();
            patiently(model, |model| model.write(place, pattern))?;
            patiently(model, |model| model.read_around(place))?;
        }
    }
    for change in [
        change(DmaMode::from_bits_retain(1 << 31), 0),
        change(reserved, most + 1),
        change(immediate, 1),
    ] {
        refused(model, change, Win32Error::INVALID_PARAMETER)?;
        is(model, 0, 0)?;
    }
    Ok(())
}

/// Others may have all map registers for a moment, and a request that does not wait ends without.
fn patiently<'d, D: Device>(
    model: &mut Model<'d, D>,
    request: impl Fn(&mut Model<'d, D>) -> Result<(), Error>,
) -> Result<(), Error> {
    for _ in 0..ATTEMPTS {
        match request(model) {
            Err(Error::Transfer { error, .. }) if error == Win32Error::NO_SYSTEM_RESOURCES => {
                model.device().sleep(A_MOMENT);
            }
            result => return result,
        }
    }
    request(model)
}

/// The driver says that it is so.
fn is<D: Device>(model: &Model<'_, D>, mode: u32, map_registers: u32) -> Result<(), Error> {
    let state = query_mode(model.device())?;
    let so = (state.mode, state.map_registers) == (mode, map_registers);
    require(so, || {
        format!("{state:?} instead of mode {mode} with {map_registers}")
    })
}

fn refused<D: Device>(
    model: &Model<'_, D>,
    change: ModeChange,
    error: Win32Error,
) -> Result<(), Error> {
    let answer = set_mode(model.device(), change);
    require(answer == Err(error), || {
        format!("{change:?}: {answer:?} instead of {error:?}")
    })
}
