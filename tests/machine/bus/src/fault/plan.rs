//! What shall go wrong, and when.

/// A fault that a device, its link or its interrupt may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The device takes a command and never finishes it: it runs, moves nothing and says nothing, until bus
    /// mastering is switched off.
    Hang,
    /// As [`FaultKind::Hang`], and not even switching bus mastering off ends it.
    Stuck,
    /// A transfer goes to another address than the one the device was given.
    Stray {
        /// What is added to the address.
        offset: i64,
    },
    /// Some time after a transfer has ended, the device writes once more where it was.
    LateDma {
        /// How much later.
        after_ns: u64,
    },
    /// An interrupt does not arrive. A line stays silent until the device has released and asserted it again.
    DropInterrupt,
    /// An interrupt arrives late.
    DelayInterrupt {
        /// How late.
        by_ns: u64,
    },
    /// An interrupt arrives once more, though nothing new has happened.
    DuplicateInterrupt {
        /// How much later: for a line, after it was released.
        after_ns: u64,
    },
    /// An interrupt arrives that the device has not asked for.
    SpuriousInterrupt,
    /// A register reads as something else than it holds.
    CorruptRead {
        /// The base address register.
        bar: u8,
        /// The register's offset.
        offset: u64,
        /// What is read instead.
        corruption: Corruption,
    },
    /// The link goes down: all reads are ones, writes are lost, and the device neither reaches memory nor interrupts.
    AllOnes,
    /// The device is pulled out: as [`FaultKind::AllOnes`], and the board reports
    /// [`crate::BoardEvent::Removed`].
    Unplug,
}

impl FaultKind {
    /// Its name in plans.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hang => "hang",
            Self::Stuck => "stuck",
            Self::Stray { .. } => "stray",
            Self::LateDma { .. } => "late",
            Self::DropInterrupt => "drop",
            Self::DelayInterrupt { .. } => "delay",
            Self::DuplicateInterrupt { .. } => "duplicate",
            Self::SpuriousInterrupt => "spurious",
            Self::CorruptRead { .. } => "corrupt",
            Self::AllOnes => "ones",
            Self::Unplug => "unplug",
        }
    }

    /// Whether it happens to a command, so that the shim has to know the device's engine.
    pub(super) fn needs_engine(&self) -> bool {
        matches!(
            self,
            Self::Hang | Self::Stuck | Self::Stray { .. } | Self::LateDma { .. }
        )
    }

    /// Whether it happens by itself, and not to something the device or its driver does.
    pub(super) fn needs_no_opportunity(&self) -> bool {
        matches!(self, Self::SpuriousInterrupt | Self::AllOnes | Self::Unplug)
    }
}

/// What happens to a value that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corruption {
    /// These bits are inverted.
    Xor(u64),
    /// Only these bits are left.
    And(u64),
    /// These bits are set.
    Or(u64),
    /// This is read instead.
    Set(u64),
}

impl Corruption {
    /// The corrupted value.
    pub fn apply(self, value: u64) -> u64 {
        match self {
            Self::Xor(bits) => value ^ bits,
            Self::And(bits) => value & bits,
            Self::Or(bits) => value | bits,
            Self::Set(bits) => bits,
        }
    }
}

/// When a fault strikes. Everything is counted from the moment the fault is armed, starting with 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// At the first opportunity; for a fault that needs none, at once.
    Now,
    /// At the n-th opportunity: the n-th command, interrupt or read that the fault could happen to. For a fault that
    /// needs none, as [`Moment::Command`].
    Nth(u32),
    /// From the n-th command on, of which the device has then moved nothing yet.
    Command(u32),
    /// From the n-th interrupt on, which still arrives.
    Interrupt(u32),
    /// From the n-th access to the function's registers on, that access included.
    Access(u32),
    /// From this much later on, in nanoseconds of the board's time.
    After(u64),
}

/// A fault, and when it strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// When.
    pub moment: Moment,
    /// At how many opportunities in a row, [`Fault::ALWAYS`] for all from then on. A fault that needs no opportunity
    /// waits for its moment anew, which for [`Moment::Now`] never comes again.
    pub times: u32,
}

impl Fault {
    /// For [`Fault::times`]: without end.
    pub const ALWAYS: u32 = u32::MAX;

    /// A fault that strikes once, at the first opportunity.
    pub const fn now(kind: FaultKind) -> Self {
        Self::at(kind, Moment::Now)
    }

    /// A fault that strikes once.
    pub const fn at(kind: FaultKind, moment: Moment) -> Self {
        Self {
            kind,
            moment,
            times: 1,
        }
    }
}

/// Faults to arm together.
///
/// As text they are separated by commas. A fault is a name, `=` and its parameter if it has one, and when it strikes:
///
/// ```text
/// hang stuck stray=+0x1000 late late=50us               something to happen to: a command
/// drop delay=1ms duplicate duplicate=20us               an interrupt
/// corrupt=0x24^0x100 corrupt=2:0x98|1                   a read of a register: ^ & | or = and a value
/// spurious ones unplug                                  nothing
///
/// hang                   the next command
/// hang@3                 the third
/// drop@3x2  drop@3x*     the third and the fourth; all from the third on
/// unplug@command:3       also interrupt:3, access:3, after:5ms
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultPlan {
    /// The faults.
    pub faults: Vec<Fault>,
}
