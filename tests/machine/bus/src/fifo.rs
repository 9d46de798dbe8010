//! The FIFO peripheral: docs/fifo.md is its manual, `abi::fifo` its register map.

mod faults;

use std::collections::VecDeque;

pub use faults::{Fault, Faults, Way};

use abi::fifo::{
    BUS_ERROR_AFTER, CAUSES, CAUSES_ENABLE, CONTROL, Causes, Control, DEPTH, HARDWARE_ID,
    IDENTIFICATION, IDENTITY, LINE_BURST, LINE_PERIOD, PATTERN_ERRORS, PATTERN_SEED, RX_COUNT,
    RX_DATA, RX_LEVEL, RX_THRESHOLD, TX_COUNT, TX_DATA, TX_LEVEL, TX_THRESHOLD, pattern,
};

use crate::platform::{BusError, DmaConnection, Peripheral, PlatformDevice};
use crate::{BoardError, LocalBoard, MemoryConfig};

/// How the DMA request lines leave the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wiring {
    /// Transmit and receive each have a line, in this order.
    Duplex,
    /// Both share one.
    Simplex,
    /// Not at all, as on a PC: no controller serves the device.
    Unwired,
}

/// Where firmware puts the device and its wires: registers, interrupt line, and the connections of transmit and receive.
const REGISTERS: std::ops::Range<u64> = 0xdfff_0000..0xdfff_1000;
const LINE: u32 = 10;
const TRANSMIT: DmaConnection = DmaConnection {
    channel: 4,
    request_line: 11,
    width: 4,
};
const RECEIVE: DmaConnection = DmaConnection {
    channel: 5,
    request_line: 12,
    width: 4,
};

/// A board with nothing but this device and the system DMA controller that serves it. Both fail as `faults` is
/// told.
///
/// # Errors
/// Guest memory cannot be had.
pub fn board(
    memory: &MemoryConfig,
    wiring: Wiring,
    interrupts: bool,
    faults: &Faults,
) -> Result<LocalBoard, BoardError> {
    let description = PlatformDevice {
        hardware_id: HARDWARE_ID,
        uid: 0,
        registers: REGISTERS,
        line: interrupts.then_some(LINE),
        dma: match wiring {
            Wiring::Duplex => vec![TRANSMIT, RECEIVE],
            Wiring::Simplex => vec![TRANSMIT],
            Wiring::Unwired => Vec::new(),
        },
    };
    let device = Fifo::new(wiring, faults.clone());
    LocalBoard::with_platform(memory, vec![(description, Box::new(device))], faults)
}

/// What the registers hold after power-on and after a reset.
const THRESHOLD: u32 = DEPTH / 2;
const PERIOD: u32 = 1000;

/// The device.
pub struct Fifo {
    wiring: Wiring,
    control: Control,
    causes: Causes,
    enabled: Causes,
    tx: Side,
    rx: Side,
    period: u32,
    pattern: Pattern,
    bus_error_after: Option<u32>,
    line_due: Option<u64>,
    faults: Faults,
}

/// One direction.
struct Side {
    bytes: VecDeque<u8>,
    threshold: u32,
    /// Bytes still to pass the data register.
    count: u32,
    /// A count was set, and its end was not reported yet.
    counting: bool,
}

impl Default for Side {
    fn default() -> Self {
        Self {
            bytes: VecDeque::new(),
            threshold: THRESHOLD,
            count: 0,
            counting: false,
        }
    }
}

impl Side {
    fn level(&self) -> u32 {
        self.bytes.len() as u32
    }

    fn room(&self) -> u32 {
        DEPTH - self.level()
    }

    fn begin(&mut self, count: u32) {
        self.count = count;
        self.counting = count > 0;
    }

    /// `bytes` have passed the data register.
    fn pass(&mut self, bytes: u8) {
        self.count = self.count.saturating_sub(bytes.into());
    }
}

/// The generator and the checker.
#[derive(Default)]
struct Pattern {
    seed: u32,
    generated: u64,
    checked: u64,
    errors: u32,
}

impl Fifo {
    /// A device after power-on, which fails as `faults` is told.
    pub fn new(wiring: Wiring, faults: Faults) -> Self {
        Self {
            wiring,
            control: Control::empty(),
            causes: Causes::empty(),
            enabled: Causes::empty(),
            tx: Side::default(),
            rx: Side::default(),
            period: PERIOD,
            pattern: Pattern::default(),
            bus_error_after: None,
            line_due: None,
            faults,
        }
    }

    fn streams(&self) -> bool {
        self.control.contains(Control::STREAM)
    }

    fn tx_requests(&self) -> bool {
        let wanted = self.control.contains(Control::TX_ENABLE | Control::TX_DMA);
        wanted
            && self.tx.level() <= self.tx.threshold
            && self.tx.room() >= 8
            && (self.streams() || self.tx.count > 0)
    }

    fn rx_requests(&self) -> bool {
        let wanted = self.control.contains(Control::RX_ENABLE | Control::RX_DMA);
        let (level, count) = (self.rx.level(), self.rx.count);
        let offered = if self.streams() {
            level >= self.rx.threshold.max(8)
        } else {
            // The end of a transfer does not wait for the threshold.
            count > 0 && level >= self.rx.threshold.max(8).min(count)
        };
        wanted && offered
    }

    /// Whether the line has anything to do.
    fn line_works(&self) -> bool {
        let transmits = self.control.contains(Control::TX_ENABLE)
            && (!self.tx.bytes.is_empty() || self.streams())
            && (self.streams() || self.transmittable() > 0);
        let generates = self.generates() && (self.streams() || self.rx.room() > 0);
        transmits || generates
    }

    fn generates(&self) -> bool {
        self.control.contains(Control::RX_ENABLE | Control::PATTERN)
    }

    /// Bytes that may leave the transmit FIFO at present: without a stream, a loop waits for room.
    fn transmittable(&self) -> u32 {
        let loops = self
            .control
            .contains(Control::LOOPBACK | Control::RX_ENABLE);
        let limit = if loops && !self.streams() {
            self.rx.room()
        } else {
            u32::MAX
        };
        self.tx.level().min(LINE_BURST).min(limit)
    }

    fn schedule(&mut self, now: u64) {
        if !self.line_works() {
            self.line_due = None;
        } else if self.line_due.is_none() {
            self.line_due = Some(now + u64::from(self.period));
        }
    }

    fn move_over_line(&mut self) {
        if self.generates() {
            let count = if self.streams() {
                LINE_BURST
            } else {
                LINE_BURST.min(self.rx.room())
            };
            let first = self.pattern.generated;
            self.pattern.generated += u64::from(count);
            let positions = first..self.pattern.generated;
            let bytes: Vec<u8> = positions
                .map(|position| pattern(self.pattern.seed, position))
                .collect();
            self.receive(&bytes);
        }
        if self.control.contains(Control::TX_ENABLE) {
            self.transmit();
        }
    }

    fn receive(&mut self, bytes: &[u8]) {
        let room = self.rx.room() as usize;
        if bytes.len() > room {
            self.causes |= Causes::RX_OVERRUN;
        }
        self.rx.bytes.extend(&bytes[..bytes.len().min(room)]);
    }

    fn transmit(&mut self) {
        let count = self.transmittable();
        if self.streams() && count < LINE_BURST {
            self.causes |= Causes::TX_UNDERRUN;
        }
        let bytes: Vec<u8> = self.tx.bytes.drain(..count as usize).collect();
        if self.control.contains(Control::PATTERN) {
            for byte in &bytes {
                let wanted = pattern(self.pattern.seed, self.pattern.checked);
                self.pattern.errors += u32::from(*byte != wanted);
                self.pattern.checked += 1;
            }
        }
        if self
            .control
            .contains(Control::LOOPBACK | Control::RX_ENABLE)
        {
            self.receive(&bytes);
        }
        if self.tx.count == 0 && self.tx.bytes.is_empty() && std::mem::take(&mut self.tx.counting) {
            self.causes |= Causes::TX_DONE;
        }
    }

    /// Counts an access to a data register: an error if it is the one that was asked for.
    fn check_bus(&mut self, way: Way, size: u8) -> Result<(), BusError> {
        let mut fails = self.faults.passes(way, size);
        if let Some(left) = self.bus_error_after {
            self.bus_error_after = left.checked_sub(size.into());
            fails |= self.bus_error_after.is_none();
        }
        if !fails {
            return Ok(());
        }
        self.causes |= Causes::BUS_ERROR;
        Err(BusError)
    }

    /// `bytes` have passed a side's data register: it may say too early that it is done.
    fn pass(&mut self, way: Way, bytes: u8) {
        let (side, done) = match way {
            Way::Transmit => (&mut self.tx, Causes::TX_DONE),
            Way::Receive => (&mut self.rx, Causes::RX_DONE),
        };
        side.pass(bytes);
        if side.counting && side.count > 0 && self.faults.is_early(way) {
            side.counting = false;
            self.causes |= done;
        }
    }

    fn read_data(&mut self, size: u8) -> Result<u64, BusError> {
        self.check_bus(Way::Receive, size)?;
        let mut bytes = [0; 8];
        if self.rx.level() < size.into() {
            self.causes |= Causes::RX_UNDERRUN;
        } else {
            for (place, byte) in bytes
                .iter_mut()
                .zip(self.rx.bytes.drain(..usize::from(size)))
            {
                *place = byte;
            }
        }
        self.pass(Way::Receive, size);
        if self.rx.count == 0 && std::mem::take(&mut self.rx.counting) {
            self.causes |= Causes::RX_DONE;
        }
        Ok(u64::from_le_bytes(bytes))
    }

    fn write_data(&mut self, size: u8, value: u64) -> Result<(), BusError> {
        self.check_bus(Way::Transmit, size)?;
        if self.tx.room() < size.into() {
            self.causes |= Causes::TX_OVERRUN;
        } else {
            let bytes = value.to_le_bytes();
            self.tx.bytes.extend(&bytes[..usize::from(size)]);
        }
        self.pass(Way::Transmit, size);
        Ok(())
    }

    fn reset(&mut self) {
        *self = Self::new(self.wiring, self.faults.clone());
    }

    fn read_register(&self, offset: usize) -> u32 {
        match offset {
            o if o == IDENTIFICATION.offset() => IDENTITY,
            o if o == CONTROL.offset() => self.control.bits(),
            o if o == CAUSES.offset() => self.causes.bits(),
            o if o == CAUSES_ENABLE.offset() => self.enabled.bits(),
            o if o == TX_LEVEL.offset() => self.tx.level(),
            o if o == RX_LEVEL.offset() => self.rx.level(),
            o if o == TX_THRESHOLD.offset() => self.tx.threshold,
            o if o == RX_THRESHOLD.offset() => self.rx.threshold,
            o if o == TX_COUNT.offset() => self.tx.count,
            o if o == RX_COUNT.offset() => self.rx.count,
            o if o == LINE_PERIOD.offset() => self.period,
            o if o == PATTERN_SEED.offset() => self.pattern.seed,
            o if o == BUS_ERROR_AFTER.offset() => self.bus_error_after.unwrap_or(0),
            o if o == PATTERN_ERRORS.offset() => self.pattern.errors,
            _ => 0,
        }
    }

    fn write_register(&mut self, offset: usize, value: u32) {
        match offset {
            o if o == CONTROL.offset() => {
                let control = Control::from_bits_retain(value);
                if control.contains(Control::RESET) {
                    self.reset();
                } else {
                    self.control = control;
                }
            }
            o if o == CAUSES.offset() => self.causes -= Causes::from_bits_retain(value),
            o if o == CAUSES_ENABLE.offset() => self.enabled = Causes::from_bits_retain(value),
            o if o == TX_THRESHOLD.offset() => self.tx.threshold = value.min(DEPTH - 8),
            o if o == RX_THRESHOLD.offset() => self.rx.threshold = value.min(DEPTH - 8),
            o if o == TX_COUNT.offset() => self.tx.begin(value),
            o if o == RX_COUNT.offset() => self.rx.begin(value),
            o if o == LINE_PERIOD.offset() => self.period = value.max(1),
            o if o == PATTERN_SEED.offset() => {
                self.pattern = Pattern {
                    seed: value,
                    ..Pattern::default()
                }
            }
            o if o == BUS_ERROR_AFTER.offset() => {
                self.bus_error_after = (value > 0).then_some(value)
            }
            _ => {}
        }
    }
}

impl Peripheral for Fifo {
    fn name(&self) -> &str {
        match self.wiring {
            Wiring::Duplex => "FIFO",
            Wiring::Simplex => "FIFO with one request line",
            Wiring::Unwired => "FIFO without request lines",
        }
    }

    fn read(&mut self, offset: u64, size: u8, now: u64) -> Result<u64, BusError> {
        let offset = offset as usize;
        let value = if offset == RX_DATA.offset() {
            self.read_data(size)
        } else if size == 4 {
            Ok(self.read_register(offset).into())
        } else {
            Ok(0)
        };
        self.schedule(now);
        value
    }

    fn write(&mut self, offset: u64, size: u8, value: u64, now: u64) -> Result<(), BusError> {
        let offset = offset as usize;
        let result = if offset == TX_DATA.offset() {
            self.write_data(size, value)
        } else {
            if size == 4 {
                self.write_register(offset, value as u32);
            }
            Ok(())
        };
        self.schedule(now);
        result
    }

    fn interrupts(&self) -> bool {
        self.causes.intersects(self.enabled)
    }

    fn requests(&self, connection: usize) -> bool {
        match (self.wiring, connection) {
            (Wiring::Duplex, 0) => self.tx_requests(),
            (Wiring::Duplex, 1) => self.rx_requests(),
            (Wiring::Simplex, 0) => self.tx_requests() || self.rx_requests(),
            _ => false,
        }
    }

    fn next_event(&self) -> Option<u64> {
        self.line_due
    }

    fn run(&mut self, now: u64) {
        if self.line_due.take_if(|due| *due <= now).is_some() {
            self.move_over_line();
            self.schedule(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device of which the registers are written as a driver would.
    fn fifo(control: Control) -> Fifo {
        let mut fifo = Fifo::new(Wiring::Duplex, Faults::default());
        set(&mut fifo, CONTROL.offset(), control.bits());
        fifo
    }

    fn set(fifo: &mut Fifo, offset: usize, value: u32) {
        fifo.write(offset as u64, 4, value.into(), 0).unwrap();
    }

    fn get(fifo: &mut Fifo, offset: usize) -> u32 {
        fifo.read(offset as u64, 4, 0).unwrap() as u32
    }

    fn run_line(fifo: &mut Fifo) {
        while let Some(due) = fifo.next_event() {
            fifo.run(due);
        }
    }

    #[test]
    fn what_is_transmitted_is_received_in_a_loop() {
        let mut fifo = fifo(Control::TX_ENABLE | Control::RX_ENABLE | Control::LOOPBACK);
        set(&mut fifo, TX_COUNT.offset(), 40);
        for word in 0..10_u64 {
            fifo.write(TX_DATA.offset() as u64, 4, word, 0).unwrap();
        }
        assert_eq!(get(&mut fifo, TX_LEVEL.offset()), 40);
        run_line(&mut fifo);
        assert_eq!(get(&mut fifo, RX_LEVEL.offset()), 40);
        assert_eq!(get(&mut fifo, CAUSES.offset()), Causes::TX_DONE.bits());
        let low = fifo.read(RX_DATA.offset() as u64, 8, 0).unwrap();
        assert_eq!(low, 1 << 32, "two words of four bytes");
    }

    #[test]
    fn a_full_receiver_stops_the_line_unless_it_streams() {
        let duplex = Control::TX_ENABLE | Control::RX_ENABLE;
        let mut fifo = fifo(duplex | Control::PATTERN);
        run_line(&mut fifo);
        assert_eq!(get(&mut fifo, RX_LEVEL.offset()), DEPTH);
        assert_eq!(get(&mut fifo, CAUSES.offset()), 0);
        set(
            &mut fifo,
            CONTROL.offset(),
            (duplex | Control::PATTERN | Control::STREAM).bits(),
        );
        let due = fifo.next_event().unwrap();
        fifo.run(due);
        let lost = Causes::TX_UNDERRUN | Causes::RX_OVERRUN;
        assert_eq!(get(&mut fifo, CAUSES.offset()), lost.bits());
    }

    #[test]
    fn the_checker_counts_differences() {
        let mut fifo = fifo(Control::TX_ENABLE | Control::PATTERN);
        set(&mut fifo, PATTERN_SEED.offset(), 7);
        let bytes = [0, 1, 2, 3].map(|position| pattern(7, position));
        let word = u32::from_le_bytes(bytes) ^ 0xFF00;
        fifo.write(TX_DATA.offset() as u64, 4, word.into(), 0)
            .unwrap();
        run_line(&mut fifo);
        assert_eq!(get(&mut fifo, PATTERN_ERRORS.offset()), 1);
    }

    #[test]
    fn requests_follow_levels_and_counts() {
        let mut fifo = fifo(
            Control::TX_ENABLE
                | Control::RX_ENABLE
                | Control::TX_DMA
                | Control::RX_DMA
                | Control::PATTERN,
        );
        assert!(!fifo.requests(0), "nothing is to be written");
        set(&mut fifo, TX_COUNT.offset(), 16);
        assert!(fifo.requests(0));
        fifo.write(TX_DATA.offset() as u64, 8, 0, 0).unwrap();
        fifo.write(TX_DATA.offset() as u64, 8, 0, 0).unwrap();
        assert!(!fifo.requests(0), "all was written");
        run_line(&mut fifo);
        assert!(!fifo.requests(1), "nothing is to be read");
        set(&mut fifo, RX_COUNT.offset(), 4);
        assert!(fifo.requests(1));
        fifo.read(RX_DATA.offset() as u64, 4, 0).unwrap();
        assert!(!fifo.requests(1));
        assert!(fifo.causes.contains(Causes::RX_DONE));
    }

    #[test]
    fn a_bus_error_comes_where_it_was_asked_for() {
        let mut fifo = fifo(Control::TX_ENABLE);
        set(&mut fifo, BUS_ERROR_AFTER.offset(), 8);
        let data = TX_DATA.offset() as u64;
        assert_eq!(fifo.write(data, 8, 0, 0), Ok(()));
        assert_eq!(fifo.write(data, 8, 0, 0), Err(BusError));
        assert_eq!(fifo.write(data, 8, 0, 0), Ok(()));
        set(&mut fifo, CAUSES_ENABLE.offset(), Causes::BUS_ERROR.bits());
        assert!(fifo.interrupts());
        set(&mut fifo, CAUSES.offset(), Causes::BUS_ERROR.bits());
        assert!(!fifo.interrupts());
    }
}
