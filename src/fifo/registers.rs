//! The device's registers; [`abi::fifo`] says what a driver has to know about them.

use abi::fifo::{
    CAUSES, CAUSES_ENABLE, CONTROL, Causes, Control, IDENTIFICATION, IDENTITY, LINE_PERIOD,
    RX_COUNT, RX_DATA, TX_COUNT, TX_DATA, WINDOW_LENGTH,
};
use kmdf::dma::Direction;
use kmdf::resources::MemoryResource;
use kmdf::{DeviceGone, IoSpace, NtStatus, Result};

/// What is listened for. Underruns and overruns cannot be without a stream.
const LISTENED: Causes = Causes::TX_DONE
    .union(Causes::RX_DONE)
    .union(Causes::BUS_ERROR);

/// What a stream has lost.
const GLITCHES: Causes = Causes::TX_UNDERRUN.union(Causes::RX_OVERRUN);

/// What is transmitted is received, and both sides drive their request lines.
const LOOPBACK: Control = Control::TX_ENABLE
    .union(Control::RX_ENABLE)
    .union(Control::TX_DMA)
    .union(Control::RX_DMA)
    .union(Control::LOOPBACK);

/// The registers of a device, mapped.
pub(super) struct Registers {
    window: IoSpace<WINDOW_LENGTH>,
}

impl Registers {
    /// Maps the registers, and makes sure that the device is what it was taken for. PASSIVE_LEVEL.
    pub(super) fn map(window: MemoryResource) -> Result<Self> {
        let registers = Self {
            window: IoSpace::map(window)?,
        };
        registers.check()?;
        Ok(registers)
    }

    fn check(&self) -> Result<()> {
        match self.window.read(IDENTIFICATION) {
            Ok(IDENTITY) => Ok(()),
            Ok(_) => Err(NtStatus::DEVICE_CONFIGURATION_ERROR),
            Err(DeviceGone) => Err(NtStatus::DEVICE_REMOVED),
        }
    }

    /// Whether the device answers. Any IRQL.
    pub(super) fn is_there(&self) -> bool {
        self.window.read(IDENTIFICATION).is_ok()
    }

    /// Makes the device forget what it was doing: it asks for nothing, and does not interrupt.
    pub(super) fn wake(&self) -> Result<()> {
        self.check()?;
        self.window.write(CONTROL, Control::RESET);
        Ok(())
    }

    /// Has it ask for data as soon as there is a count.
    pub(super) fn connect(&self, interrupts: bool) {
        if interrupts {
            self.window.write(CAUSES_ENABLE, LISTENED);
        }
        self.window.write(CONTROL, LOOPBACK);
    }

    /// The line does not wait from now on: both directions ask for data by their levels alone, and nothing but the
    /// controller tells how far they have come.
    pub(super) fn begin_stream(&self, line_period: u32) {
        self.window.write(CAUSES_ENABLE, Causes::empty());
        self.window.write(CAUSES, GLITCHES);
        self.window.write(LINE_PERIOD, line_period);
        self.window.write(CONTROL, LOOPBACK.union(Control::STREAM));
    }

    /// Stops the line, and forgets what is in the FIFOs.
    pub(super) fn end_stream(&self) {
        self.window.write(CONTROL, Control::RESET);
    }

    /// Whether the line has found no data, or no room, since the last time.
    pub(super) fn has_glitched(&self) -> bool {
        let found = self
            .window
            .read(CAUSES)
            .is_ok_and(|causes| causes.intersects(GLITCHES));
        if found {
            self.window.write(CAUSES, GLITCHES);
        }
        found
    }

    /// Has it ask for nothing, and not interrupt.
    pub(super) fn disconnect(&self) {
        self.window.write(CONTROL, Control::empty());
        self.window.write(CAUSES_ENABLE, Causes::empty());
    }

    /// Where the data register of a direction is.
    pub(super) const fn data_offset(direction: Direction) -> u32 {
        let offset = match direction {
            Direction::FromDevice => RX_DATA.offset(),
            Direction::ToDevice => TX_DATA.offset(),
        };
        offset as u32
    }

    /// Has the device ask for `count` bytes; none ends what it asked for. The caller has the direction's transfer.
    pub(super) fn ask(&self, direction: Direction, count: u32) {
        match direction {
            Direction::FromDevice => self.window.write(RX_COUNT, count),
            Direction::ToDevice => self.window.write(TX_COUNT, count),
        }
    }

    /// Reads which causes of interrupt are pending, and acknowledges them. In the interrupt service routine.
    pub(super) fn acknowledge(&self) -> Result<Causes, DeviceGone> {
        let pending = self.window.read(CAUSES)?.intersection(LISTENED);
        if !pending.is_empty() {
            self.window.write(CAUSES, pending);
        }
        Ok(pending)
    }
}
