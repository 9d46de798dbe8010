//! The checks of `verify`, in the order they run.

use abi::info::{DeviceKind, InterruptKind};
use abi::ioctl;

use super::model::Model;
use super::modes::modes;
use super::{Check, expected_answer};
use crate::device::{Device, Direction, query_info, query_statistics};
use crate::error::{Error, Win32Error};
use crate::pattern;
use crate::place::Place;

/// Sizes every device must move, if its memory is large enough.
const SIZES: [usize; 7] = [1, 2, 3, 511, 512, 513, 4095];
/// Where in a page buffers start: every residue that matters to a byte-wise copy, and both sides of a page's end.
const SHIFTS: [usize; 8] = [1, 2, 3, 7, 64, 511, 4093, 4095];
/// Bytes of the longest buffer that a refused request comes with.
const LONGEST: u64 = 4096 * 4096;
/// Requests under way at once.
const AT_ONCE: usize = 16;

/// Names and checks.
pub(super) fn all<'d, D: Device>() -> [Check<Model<'d, D>>; 10] {
    [
        ("info", info),
        ("control", control),
        ("patterns", patterns),
        ("sizes", sizes),
        ("alignment", alignment),
        ("limits", limits),
        ("at once", at_once),
        ("order", order),
        ("modes", modes),
        ("statistics", statistics),
    ]
}

/// What the device says of itself is consistent, and the same when asked again.
fn info<D: Device>(model: &mut Model<'_, D>) -> Result<(), Error> {
    let info = *model.info();
    let consistent = DeviceKind::from_code(info.device_kind).is_some()
        && InterruptKind::from_code(info.interrupt_kind).is_some()
        && info.memory_size > 0
        && info.maximum_request > 0
        && (1..=info.maximum_request).contains(&info.maximum_transfer)
        && info.transfers_in_flight > 0;
    require(consistent, || format!("inconsistent: {info:?}"))?;
    let again = query_info(model.device())?;
    require(again == info, || {
        format!("changed from {info:?} to {again:?}")
    })
}

/// Control requests are checked: unknown ones refused, short buffers not overrun.
fn control<D: Device>(model: &mut Model<'_, D>) -> Result<(), Error> {
    let ask = |code, output: &mut [u8]| model.device().control(code, &[], output);
    let unknown = ioctl::ctl_code(
        ioctl::DEVICE_TYPE,
        0xfff,
        ioctl::Method::Buffered,
        ioctl::Access::Any,
    );
    let refusals = [
        ("an unknown code", unknown, 64, Win32Error::INVALID_FUNCTION),
        (
            "GET_INFO without room",
            ioctl::GET_INFO,
            8,
            Win32Error::INSUFFICIENT_BUFFER,
        ),
        (
            "GET_INFO into nothing",
            ioctl::GET_INFO,
            0,
            Win32Error::INSUFFICIENT_BUFFER,
        ),
        (
            "GET_STATISTICS without room",
            ioctl::GET_STATISTICS,
            8,
            Win32Error::INSUFFICIENT_BUFFER,
        ),
    ];
    for (what, code, room, error) in refusals {
        let answer = ask(code, &mut [0; 64][..room]);
        require(answer == Err(error), || {
            format!("{what}: {answer:?} instead of {error:?}")
        })?;
    }
    Ok(())
}

/// Every pattern comes back, over the whole memory.
fn patterns<D: Device>(model: &mut Model<'_, D>) -> Result<(), Error> {
    let fresh = model.fresh();
    for pattern in [fresh].into_iter().chain(pattern::FIXED) {
        model.write_all(pattern)?;
        model.check_all()?;
    }
    Ok(())
}

/// Requests of every size, at both ends of the memory, touch their own bytes only.
fn sizes<D: Device>(model: &mut Model<'_, D>) -> Result<(), Error> {
    let memory = model.size();
    let transfer = model.info().maximum_transfer as usize;
    let largest = model.largest();
    let limits = [
        transfer - 1,
        transfer,
        transfer + 1,
        2 * transfer,
        2 * transfer + 1,
        largest - 1,
        largest,
    ];
    let mut sizes: Vec<usize> = SIZES.into_iter().chain(limits).collect();
    sizes.retain(|size| (1..=largest).contains(size));
    sizes.sort_unstable();
    sizes.dedup();
    for size in sizes {
        for offset in [0, memory - size as u64] {
            let place = Place::new(offset, size);
            let pattern = model.fresh();
            model.write(place, pattern)?;
            model.read_around(place)?;
        }
    }
    model.check_all()
}

/// Buffers and offsets of every alignment.
fn alignment<D: Device>(model: &mut Model<'_, D>) -> Result<(), Error> {
    let largest = model.largest();
    for (index, shift) in SHIFTS.into_iter().enumerate() {
        for size in [1, 3, 513, largest - 8] {
            let offset = (index % 4) as u64 * 2 + 1;
            let place = Place::new(offset, size).shifted(shift);
            let pattern = model.fresh();
            model.write(place, pattern)?;
            // Read into a buffer of another alignment than it was written from.
            model.read_around(place.shifted(SHIFTS[SHIFTS.len() - 1 - index]))?;
        }
    }
    model.check_all()
}

/// Requests that do not fit get the documented answer and change nothing; the sums involved do not wrap.
fn limits<D: Device>(model: &mut Model<'_, D>) -> Result<(), Error> {
    let memory = model.info().memory_size;
    let largest = i64::MAX as u64;
    let places = [
        (0, 0),
        (memory, 0),
        (memory, 1),
        (memory - 1, 2),
        (memory - 1, 4096),
        (0, memory + 1),
        (1, memory),
        (memory + 1, 1),
        (1 << 32, 1),
        ((1 << 32) + 1, 512),
        (largest, 1),
        (largest - 1, 512),
        // Negative: as a signed 64-bit offset, the sum with the length would be in the memory. -1 and -2 have
        // meanings of their own in Windows and are left alone.
        (0_u64.wrapping_sub(512), 513),
        (1 << 63, 1),
    ];
    for (offset, length) in places {
        if length > LONGEST {
            continue;
        }
        let answer = expected_answer(offset, length, memory).map(|length| length as usize);
        for direction in [Direction::Write, Direction::Read] {
            model.answered(direction, Place::new(offset, length as usize), answer)?;
        }
    }
    model.check_all()
}

/// Many requests at once, to places of their own, waited for in another order.
fn at_once<D: Device>(model: &mut Model<'_, D>) -> Result<(), Error> {
    let each = (model.size() as usize / AT_ONCE).min(model.largest());
    let places: Vec<Place> = (0..AT_ONCE)
        .map(|index| Place::new((index * each) as u64, each).shifted(index * 3))
        .collect();
    let mut writes = Vec::new();
    for place in &places {
        let pattern = model.fresh();
        writes.push(model.start_write(*place, pattern)?);
    }
    writes
        .into_iter()
        .rev()
        .try_for_each(|write| model.finish(write))?;
    let mut reads = Vec::new();
    for place in &places {
        reads.push(model.start_read(*place)?);
    }
    reads
        .into_iter()
        .rev()
        .try_for_each(|read| model.finish(read))
}

/// Requests are carried out in the order they were made: each read sees the write before it, not the one after. A device
/// that works on several at once gets them one after the other, as it may carry them out in any order.
fn order<D: Device>(model: &mut Model<'_, D>) -> Result<(), Error> {
    let length = 600.min(model.largest());
    let mut underway = Vec::new();
    for index in 0..AT_ONCE / 2 {
        let place = Place::new(index as u64 % 3, length - 3);
        let pattern = model.fresh();
        let write = model.start_write(place, pattern)?;
        if model.info().transfers_in_flight > 1 {
            model.finish(write)?;
            let read = model.start_read(place.shifted(index))?;
            model.finish(read)?;
        } else {
            underway.push(write);
            underway.push(model.start_read(place.shifted(index))?);
        }
    }
    underway
        .into_iter()
        .try_for_each(|request| model.finish(request))?;
    model.check_all()
}

/// The driver's counts move by exactly what is done.
fn statistics<D: Device>(model: &mut Model<'_, D>) -> Result<(), Error> {
    let before = query_statistics(model.device())?;
    let requests = model.requests();
    let place = Place::new(1, 513.min(model.largest() - 1));
    let pattern = model.fresh();
    model.write(place, pattern)?;
    model.read(place)?;
    let beyond = Place::new(model.info().memory_size, 1);
    model.answered(Direction::Read, beyond, Err(Win32Error::HANDLE_EOF))?;
    let after = query_statistics(model.device())?;
    let length = place.length as u64;
    let moved = [
        (
            "requests",
            after.requests - before.requests,
            model.requests() - requests,
        ),
        ("completed", after.completed - before.completed, 2),
        ("failed", after.failed - before.failed, 1),
        ("cancelled", after.cancelled - before.cancelled, 0),
        (
            "bytes written",
            after.bytes_written - before.bytes_written,
            length,
        ),
        ("bytes read", after.bytes_read - before.bytes_read, length),
        (
            "hardware errors",
            after.hardware_errors - before.hardware_errors,
            0,
        ),
    ];
    for (name, counted, done) in moved {
        require(counted == done, || {
            format!("{name}: {counted} counted, {done} done")
        })?;
    }
    let programmed = after.transfers - before.transfers;
    let largest = u64::from(model.info().maximum_transfer);
    require(programmed >= 2 * length.div_ceil(largest), || {
        format!("{programmed} transfers counted for two requests of {length} bytes")
    })
}

pub(super) fn require(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Error> {
    if holds {
        Ok(())
    } else {
        Err(Error::Mismatch(otherwise()))
    }
}
