//! How a device's requests get their map registers: the control requests [`SET_DMA_MODE`] and [`GET_DMA_MODE`].
//!
//! [`SET_DMA_MODE`]: abi::ioctl::SET_DMA_MODE
//! [`GET_DMA_MODE`]: abi::ioctl::GET_DMA_MODE

use core::num::NonZeroU32;

use abi::mode::{DmaMode, ModeChange, ModeState};
use kmdf::clock::Moment;
use kmdf::dma::{Channel, Direction, Enabler, Reservation};
use kmdf::log::LogFailure;
use kmdf::{NtStatus, Queue, Request, Result, thread};

use crate::watch::GRACE;

/// What a direction works with that has map registers, and a channel of a controller, of its own.
pub(crate) type Side<'a, R> = (Direction, &'a Channel<R>);

/// What a caller wants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    mode: DmaMode,
    map_registers: Option<NonZeroU32>,
}

impl Wanted {
    /// What a request asks for.
    pub(crate) fn by(request: &Request) -> Result<Self> {
        let ModeChange {
            mode,
            map_registers,
        } = ModeChange::from_bytes(request.read_input()?);
        let mode = DmaMode::from_bits(mode).ok_or(NtStatus::INVALID_PARAMETER)?;
        let map_registers = NonZeroU32::new(map_registers);
        if map_registers.is_some() && !mode.contains(DmaMode::RESERVED) {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        Ok(Self {
            mode,
            map_registers,
        })
    }

    pub(crate) const fn is_reserved(&self) -> bool {
        self.mode.contains(DmaMode::RESERVED)
    }
}

/// How the requests of a device get their map registers.
pub(crate) fn state<R>(enabler: &Enabler, sides: &[Side<'_, R>]) -> ModeState {
    let mut state = ModeState::new();
    for &(direction, channel) in sides {
        state.map_registers = channel.map_registers();
        state.most_map_registers = enabler.most_map_registers(direction).get();
        let reserved = channel.map_registers() != 0;
        let mut mode = DmaMode::empty();
        mode.set(DmaMode::RESERVED, reserved);
        mode.set(DmaMode::IMMEDIATE, channel.is_immediate());
        state.mode = mode.bits();
    }
    state
}

/// Changes the mode of a device, whose requests come from `queues`; `limit` is the time limit of a transfer in
/// milliseconds, and of a reservation. PASSIVE_LEVEL.
///
/// Requests that come meanwhile wait in their queues.
pub(crate) fn change<R>(
    enabler: &Enabler,
    sides: &[Side<'_, R>],
    queues: &[&Queue],
    wanted: Wanted,
    limit: u32,
) -> Result<()> {
    // More than there can be must not even be asked for: the DMA verifier would stop the system.
    let too_many = |&(direction, _): &Side<'_, R>| {
        wanted.map_registers > Some(enabler.most_map_registers(direction))
    };
    if sides.iter().any(too_many) {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    for queue in queues {
        queue.stop();
    }
    let outcome = drain(queues, limit).and_then(|()| change_idle(enabler, sides, wanted, limit));
    for queue in queues {
        queue.start();
    }
    outcome.or_log(c"changing the DMA mode")
}

/// Waits until the requests under way have ended. One with a single transfer left has ended by then, in whatever way.
fn drain(queues: &[&Queue], limit: u32) -> Result<()> {
    let since = Moment::now();
    while queues.iter().any(|queue| queue.has_handed_out()) {
        if since.elapsed_ms() >= u64::from(limit).saturating_add(2 * GRACE) {
            return Err(NtStatus::DEVICE_BUSY);
        }
        thread::pause();
    }
    Ok(())
}

fn change_idle<R>(
    enabler: &Enabler,
    sides: &[Side<'_, R>],
    wanted: Wanted,
    limit: u32,
) -> Result<()> {
    undo(sides);
    let immediate = wanted.mode.contains(DmaMode::IMMEDIATE);
    for &(direction, channel) in sides.iter().filter(|_| wanted.is_reserved()) {
        let most = enabler.most_map_registers(direction);
        let reservation = Reservation {
            direction,
            registers: wanted.map_registers.unwrap_or(most),
            immediate,
        };
        let since = Moment::now();
        let outcome = enabler
            .reserve(reservation, || since.elapsed_ms() >= limit.into())
            .and_then(|reserved| channel.keep(reserved));
        if outcome.is_err() {
            undo(sides);
            return outcome;
        }
    }
    for (_, channel) in sides {
        channel.set_immediate(immediate);
    }
    Ok(())
}

/// Back to the default, when no request is under way. IRQL <= DISPATCH_LEVEL.
pub(crate) fn undo<R>(sides: &[Side<'_, R>]) {
    for (_, channel) in sides {
        channel.set_immediate(false);
        let _ = channel.give_back().or_log(c"giving map registers back");
    }
}
