//! A driver of the FIFO peripheral below the framework: it takes its registers and channels from the start request and
//! uses the routines of DMA_OPERATIONS as Microsoft's "Using System DMA" describes them.

use std::sync::Mutex;

use abi::fifo::{CONTROL, Control, HARDWARE_ID, RX_COUNT, RX_DATA, TX_COUNT, TX_DATA};
use machine_bus::MemoryConfig;
use machine_bus::fifo::{self, Faults, Wiring};
use machine_hal::Config;
use machine_hal::pnp::DriverPackage;
use machine_nt::exports::KeDelayExecutionThread;
use machine_nt::io::driver;
use nt_sys::*;

use crate::support::{Adapter, Buffer, at_dispatch, elements, keep_object, list_memory, run_on};
use crate::wdm::{self, STARTED};

/// Runs `f` with the device started.
pub fn started(config: Config, f: impl FnOnce(&Fifo) + 'static) {
    let board = fifo::board(
        &MemoryConfig::default(),
        Wiring::Duplex,
        false,
        &Faults::default(),
    )
    .unwrap();
    run_on(board, config, |rig| {
        let object = driver::create("fifo", 0..0);
        // SAFETY: the entry point of this driver.
        let status = unsafe { driver::initialize(object, wdm::driver_entry, std::ptr::null_mut()) };
        assert_eq!(status, STATUS_SUCCESS);
        rig.manager.add_driver(DriverPackage {
            service: "fifo".to_owned(),
            hardware_ids: vec![HARDWARE_ID.to_owned()],
            hardware: Vec::new(),
            driver: object,
        });
        let devices = rig.manager.start_devices();
        assert_eq!((devices.len(), devices[0].1), (1, Ok(())));
        let pdo = devices[0].0.device();
        f(&Fifo { pdo });
    });
}

/// The started device.
pub struct Fifo {
    pub pdo: PDEVICE_OBJECT,
}

impl Fifo {
    /// Writes a register.
    pub fn set(&self, offset: usize, value: u32) {
        wdm::write(offset, value);
    }

    /// Reads a register.
    pub fn get(&self, offset: usize) -> u32 {
        wdm::read(offset)
    }

    /// Loops what is transmitted back, both sides by DMA.
    pub fn loop_back(&self) {
        let control = Control::TX_ENABLE | Control::RX_ENABLE | Control::LOOPBACK;
        let control = control | Control::TX_DMA | Control::RX_DMA;
        self.set(CONTROL.offset(), control.bits());
    }

    /// The description of a connection, as the translated resources give it: 0 transmits, 1 receives.
    pub fn description(&self, connection: usize, maximum_length: u32) -> DEVICE_DESCRIPTION {
        let started = STARTED.lock().unwrap();
        let (channel, request_line, width) = started.channels[connection];
        DEVICE_DESCRIPTION {
            Version: DEVICE_DESCRIPTION_VERSION3,
            DemandMode: 1,
            DmaChannel: channel,
            DmaRequestLine: request_line,
            DmaWidth: width.into(),
            InterfaceType: _INTERFACE_TYPE::Internal,
            MaximumLength: maximum_length,
            DeviceAddress: LARGE_INTEGER {
                QuadPart: started.physical as i64,
            },
            ..DEVICE_DESCRIPTION::default()
        }
    }

    /// The adapter of a connection.
    pub fn adapter(&self, connection: usize, maximum_length: u32) -> Adapter {
        Adapter::get(self.pdo, self.description(connection, maximum_length)).expect("an adapter")
    }

    /// A channel that was granted at once.
    pub fn channel(&self, connection: usize, maximum_length: u32) -> Channel {
        Channel::take(self.adapter(connection, maximum_length), connection)
    }
}

/// Transmit and receive.
pub const TRANSMIT: usize = 0;
pub const RECEIVE: usize = 1;

/// An adapter channel with its map registers.
#[derive(Clone, Copy)]
pub struct Channel {
    pub adapter: Adapter,
    pub context: PVOID,
    pub base: PVOID,
    connection: usize,
}

/// Statuses that the completion routine was called with, and for which connection.
static COMPLETIONS: Mutex<Vec<(usize, DMA_COMPLETION_STATUS::Type)>> = Mutex::new(Vec::new());

/// What the completion routine was told since the last call.
pub fn completions() -> Vec<(usize, DMA_COMPLETION_STATUS::Type)> {
    std::mem::take(&mut COMPLETIONS.lock().unwrap())
}

unsafe extern "win64" fn completed(
    _adapter: PDMA_ADAPTER,
    _device: PDEVICE_OBJECT,
    context: PVOID,
    status: DMA_COMPLETION_STATUS::Type,
) {
    assert_eq!(machine_nt::sched::irql(), DISPATCH_LEVEL as u8);
    COMPLETIONS.lock().unwrap().push((context as usize, status));
}

/// Waits, in virtual time, until so many completions have come.
pub fn wait_for(count: usize) {
    for _ in 0..100_000 {
        if COMPLETIONS.lock().unwrap().len() >= count {
            return;
        }
        delay(10);
    }
    panic!("{count} completions did not come: {:?}", completions());
}

/// Waits for so many microseconds.
pub fn delay(microseconds: i64) {
    let mut interval = LARGE_INTEGER {
        QuadPart: -10 * microseconds,
    };
    // SAFETY: the interval is a local.
    unsafe { KeDelayExecutionThread(0, 0, &raw mut interval) };
}

impl Channel {
    /// Allocates the channel of an adapter, which must be free.
    pub fn take(adapter: Adapter, connection: usize) -> Self {
        let context = adapter.context();
        let mut base = std::ptr::null_mut();
        let registers = adapter.registers;
        let status = adapter.allocate_ex(context, registers, 0, Some(keep_object), &raw mut base);
        assert_eq!(status, STATUS_SUCCESS);
        assert!(!base.is_null(), "the channel was free");
        Self {
            adapter,
            context,
            base,
            connection,
        }
    }

    fn writes(&self) -> bool {
        self.connection == TRANSMIT
    }

    /// MapTransferEx to or from the data register, with a list of up to `room` elements, or none: status, elements and
    /// bytes mapped.
    pub fn map(
        &self,
        buffer: &Buffer,
        offset: u64,
        length: u32,
        room: Option<usize>,
    ) -> (NTSTATUS, Vec<(u64, u32)>, u32) {
        let (list, size) = room.map_or((std::ptr::null_mut(), 0), list_memory);
        let register = if self.writes() {
            TX_DATA.offset()
        } else {
            RX_DATA.offset()
        };
        let mut mapped = length;
        // SAFETY: as a driver would.
        let status = unsafe {
            self.adapter.operations().MapTransferEx.unwrap()(
                self.adapter.raw,
                buffer.mdl,
                self.base,
                offset,
                register as u32,
                &raw mut mapped,
                self.writes().into(),
                list,
                size,
                Some(completed),
                self.connection as PVOID,
            )
        };
        let ranges = match room {
            Some(_) if status == STATUS_SUCCESS => elements(list),
            _ => Vec::new(),
        };
        (status, ranges, mapped)
    }

    /// Maps all of a buffer, which must do, and has the device ask for it.
    pub fn begin(&self, fifo: &Fifo, buffer: &Buffer) {
        let (status, _, mapped) = self.map(buffer, 0, buffer.length, Some(16));
        assert_eq!((status, mapped), (STATUS_SUCCESS, buffer.length));
        self.program(fifo, mapped);
    }

    /// Has the device ask for so many bytes.
    pub fn program(&self, fifo: &Fifo, bytes: u32) {
        let register = if self.writes() {
            TX_COUNT.offset()
        } else {
            RX_COUNT.offset()
        };
        fifo.set(register, bytes);
    }

    pub fn flush(&self, buffer: &Buffer, offset: u64, length: u32) -> NTSTATUS {
        self.adapter
            .flush_ex(buffer.mdl, self.base, offset, length, self.writes())
    }

    /// FreeAdapterChannel.
    pub fn free(&self) {
        // SAFETY: as a driver would.
        at_dispatch(|| unsafe {
            self.adapter.operations().FreeAdapterChannel.unwrap()(self.adapter.raw)
        });
    }

    /// CancelMappedTransfer.
    pub fn cancel(&self) -> NTSTATUS {
        // SAFETY: as a driver would.
        unsafe {
            self.adapter.operations().CancelMappedTransfer.unwrap()(self.adapter.raw, self.context)
        }
    }

    /// ReadDmaCounter.
    pub fn counter(&self) -> u32 {
        // SAFETY: as a driver would.
        unsafe { self.adapter.operations().ReadDmaCounter.unwrap()(self.adapter.raw) }
    }

    /// ConfigureAdapterChannel.
    pub fn configure(&self, function: u32, mut value: u32) -> NTSTATUS {
        // SAFETY: as a driver would.
        unsafe {
            self.adapter.operations().ConfigureAdapterChannel.unwrap()(
                self.adapter.raw,
                function,
                (&raw mut value).cast(),
            )
        }
    }
}
