//! The machine: its layers put together, and the life of its driver and device.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use machine_bus::fault::{Fault, FaultKind, Shim, ShimError};
use machine_bus::record::{RecordError, Rest};
use machine_bus::{Board, BoardError, CardFaults, FifoFaults};
use machine_hal::dma::Occupied;
use machine_hal::pnp::{DriverPackage, HardwareValue, Manager, Node, Phase, PnpError};
use machine_nt::bugcheck::{self, code};
use machine_nt::{registry, sched};
use machine_pe::LoadError;
use machine_pe::trap::TrapError;
use nt_sys::{NTSTATUS, nt_success};
use thiserror::Error;

use crate::board::Plugged;
use crate::config::{Config, Device, Interrupts};
use crate::driver::LoadedDriver;
use crate::faults;
use crate::inf::{RegistryData, RegistryValue};
use crate::user::{self, Descriptor, Process, SddlError, Token};

/// Where an INF says that a device may use messages.
const MSI_SUPPORTED: &str = "MSISupported";

/// Why a machine cannot be put together, or its device not be started.
#[derive(Debug, Error)]
pub enum MachineError {
    /// The board does not run.
    #[error(transparent)]
    Board(#[from] BoardError),
    /// The session cannot be recorded or replayed.
    #[error(transparent)]
    Record(RecordError),
    /// A fault cannot be armed.
    #[error(transparent)]
    Fault(#[from] ShimError),
    /// Faults of the processor cannot be caught.
    #[error(transparent)]
    Trap(#[from] TrapError),
    /// The driver's image is refused.
    #[error("the driver cannot be loaded: {0}")]
    Load(#[from] LoadError),
    /// The INF's security descriptor cannot be read.
    #[error(transparent)]
    Security(#[from] SddlError),
    /// DriverEntry failed.
    #[error("DriverEntry returned {0:#010x}")]
    DriverEntry(NTSTATUS),
    /// No device that the INF names was found.
    #[error("no device of the INF was found on the bus")]
    NoDevice,
    /// The device is not where it was to be brought.
    #[error(transparent)]
    Pnp(#[from] PnpError),
}

impl From<RecordError> for MachineError {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Board(error) => Self::Board(error),
            error => Self::Record(error),
        }
    }
}

/// A machine that runs. There is one to a process.
pub struct Machine {
    config: Config,
    plugged: Plugged,
    descriptor: Descriptor,
    pnp: Manager,
    driver: RefCell<Option<LoadedDriver>>,
}

/// Puts a machine together and runs `f` as its first user thread. The machine ends when `f` returns; what `f` leaves
/// behind is checked by [`Machine::shut_down`] only.
///
/// # Errors
/// Why it cannot be put together.
pub fn run<R: 'static>(
    config: Config,
    f: impl FnOnce(&Machine) -> R + 'static,
) -> Result<R, MachineError> {
    let plugged = Plugged::new(&config)?;
    faults::install()?;
    let schedule = sched::Config {
        mode: config.mode,
        processors: config.processors,
        watchdog: config.watchdog,
        policy: config.policy.policy(config.seed),
        ..sched::Config::default()
    };
    sched::run(schedule, move || {
        Machine::assemble(config, plugged).map(|machine| f(&machine))
    })
}

impl Machine {
    fn assemble(config: Config, plugged: Plugged) -> Result<Self, MachineError> {
        let descriptor = match config.inf.security() {
            Some(text) => Descriptor::parse(text)?,
            None => Descriptor::default(),
        };
        machine_nt::mm::set_memory(Arc::clone(plugged.board.memory()));
        machine_hal::install(config.hal, Arc::clone(&plugged.board)).map_err(BoardError::from)?;
        let pnp = Manager::new();
        // From here on there is somebody to tell of a device that is pulled out.
        plugged.shim.arm_plan(&config.faults)?;
        Ok(Self {
            config,
            plugged,
            descriptor,
            pnp,
            driver: RefCell::new(None),
        })
    }

    pub(crate) fn board(&self) -> &Arc<dyn Board> {
        &self.plugged.board
    }

    /// A new process.
    #[must_use]
    pub fn process(&self, token: Token) -> Process {
        Process::new(
            token,
            self.descriptor.clone(),
            Arc::clone(self.plugged.board.memory()),
        )
    }

    /// The device that is plugged in.
    #[must_use]
    pub fn device(&self) -> Device {
        self.config.device
    }

    /// What makes the device fail: arms faults while the machine runs, says which have struck, and heals. A clone of it may
    /// outlive the machine.
    #[must_use]
    pub fn faults(&self) -> &Shim {
        &self.plugged.shim
    }

    /// What makes the card itself fail, if it is the device. What happens between the card and the machine is for
    /// [`Machine::faults`].
    #[must_use]
    pub fn card_faults(&self) -> Option<&CardFaults> {
        self.plugged.card_faults.as_ref()
    }

    /// What makes the FIFO peripheral itself fail, and with it the controller's transfers, if it is the device.
    #[must_use]
    pub fn fifo_faults(&self) -> Option<&FifoFaults> {
        self.plugged.fifo_faults.as_ref()
    }

    /// The process that serves the device over vfio-user, if the machine has started it: killed, the device is pulled out.
    #[must_use]
    pub fn server_process(&self) -> Option<u32> {
        self.plugged.server_process
    }

    /// Version of the QEMU that runs the device, if one does.
    #[must_use]
    pub fn qemu_version(&self) -> Option<&str> {
        self.plugged.qemu_version.as_deref()
    }

    /// How much of the record is left, if this is a replay: entries.
    #[must_use]
    pub fn left_to_replay(&self) -> Option<usize> {
        self.plugged.rest.as_ref().map(Rest::entries)
    }

    /// Starts the device: installs and loads the driver if that has not been done, then has the PnP manager find the
    /// device and start it.
    ///
    /// # Errors
    /// Why the driver or the device did not start.
    pub fn start(&self) -> Result<(), MachineError> {
        if self.driver.borrow().is_none() {
            self.load()?;
        } else if !self.nodes().is_empty() {
            for node in self.nodes() {
                self.pnp.enable(&node)?;
            }
            return Ok(());
        }
        let started = self.pnp.start_devices();
        let mut found = false;
        for (_, result) in started.into_iter().filter(|(node, _)| self.is_ours(node)) {
            found = true;
            result?;
        }
        found.then_some(()).ok_or(MachineError::NoDevice)
    }

    /// Loads the driver and enters it.
    fn load(&self) -> Result<(), MachineError> {
        let inf = &self.config.inf;
        let service = registry::service_path(&inf.service);
        let verifier = RegistryValue {
            subkey: r"Parameters\Wdf".to_owned(),
            name: "VerifierOn".to_owned(),
            data: RegistryData::Dword(self.config.framework_verifier.into()),
        };
        let values = inf.parameters.iter().chain([&verifier]);
        for value in values.chain(&self.config.registry) {
            let key = format!(r"{service}\{}", value.subkey);
            registry::set_value(&key, &value.name, data(value));
        }
        let mut driver = LoadedDriver::load(&self.config.driver, &inf.service)?;
        let status = driver.enter();
        if !nt_success(status) {
            return Err(MachineError::DriverEntry(status));
        }
        self.pnp.add_driver(DriverPackage {
            service: inf.service.clone(),
            hardware_ids: inf.hardware_ids.clone(),
            hardware: self.hardware_values(),
            driver: driver.object(),
        });
        self.driver.replace(Some(driver));
        Ok(())
    }

    /// The values that the INF puts into the device's hardware key. A system without messages is one on which nobody
    /// asks for them.
    fn hardware_values(&self) -> Vec<HardwareValue> {
        let wanted = |value: &&RegistryValue| {
            self.config.interrupts == Interrupts::Message || value.name != MSI_SUPPORTED
        };
        let values = self.config.inf.hardware.iter().filter(wanted);
        values
            .map(|value| HardwareValue {
                subkey: value.subkey.clone(),
                name: value.name.clone(),
                data: data(value),
            })
            .collect()
    }

    /// The devices of the INF that the PnP manager has found, in the order of their slots.
    fn nodes(&self) -> Vec<Arc<Node>> {
        let mut nodes = self.pnp.devices();
        nodes.retain(|node| self.is_ours(node));
        nodes.sort_by_key(|node| node.capabilities.Address);
        nodes
    }

    /// The first of them: the one that is not called the neighbour.
    fn node(&self) -> Option<Arc<Node>> {
        self.nodes().into_iter().next()
    }

    fn is_ours(&self, node: &Node) -> bool {
        let inf = &self.config.inf;
        let mut identifiers = node.hardware_ids.iter().chain(&node.compatible_ids);
        identifiers.any(|id| inf.matches(id))
    }

    fn found(&self) -> Result<Arc<Node>, MachineError> {
        self.node().ok_or(MachineError::NoDevice)
    }

    /// Where the device is in its life; `None` before it was found.
    #[must_use]
    pub fn phase(&self) -> Option<Phase> {
        self.node().map(|node| node.phase())
    }

    /// Stops the device and starts it with other resources.
    ///
    /// # Errors
    /// Who refuses; the device then goes on as it was. Or why it does not start again.
    pub fn rebalance(&self) -> Result<(), MachineError> {
        Ok(self.pnp.rebalance(&self.found()?)?)
    }

    /// Disables the device, and its neighbour if there is one: asks their drivers, then removes them. Handles must have been
    /// closed.
    ///
    /// # Errors
    /// Who refuses; the device then goes on as it was.
    pub fn remove(&self) -> Result<(), MachineError> {
        self.found()?;
        for node in self.nodes() {
            self.pnp.remove(&node)?;
        }
        Ok(())
    }

    /// Pulls the device out: from now on nothing answers, and its drivers have been told when this returns. The fault
    /// [`FaultKind::Unplug`] is what happens when nobody waits for that.
    ///
    /// # Errors
    /// There is no device, or it is gone already.
    pub fn surprise_remove(&self) -> Result<(), MachineError> {
        let node = self.found()?;
        self.faults().arm(Fault::now(FaultKind::Unplug))?;
        Ok(self.pnp.surprise_remove(&node)?)
    }

    /// Takes all map registers that are free, as other devices would, until what is returned is dropped.
    #[must_use]
    pub fn occupy_map_registers(&self) -> Occupied {
        machine_hal::dma::occupy()
    }

    /// Has the calling thread sleep, in the machine's time.
    pub fn sleep(&self, time: Duration) {
        user::sleep(time);
    }

    /// Hears what the board has to say, and waits until the PnP manager has done what it was told to do by others than its
    /// caller: by a driver whose device failed, by the bus of a device that was pulled out.
    pub fn settle(&self) {
        self.sleep(Duration::from_millis(1));
        self.pnp.settle();
    }

    /// Removes the drivers of a device that was pulled out, once all handles have been closed.
    pub fn finish_removals(&self) {
        self.pnp.finish_removals();
    }

    /// Puts the system to sleep (S3).
    ///
    /// # Errors
    /// Who refuses; everything is then awake.
    pub fn suspend(&self) -> Result<(), MachineError> {
        Ok(self.pnp.suspend()?)
    }

    /// Wakes the system up.
    ///
    /// # Errors
    /// A device did not wake up.
    pub fn resume(&self) -> Result<(), MachineError> {
        Ok(self.pnp.resume()?)
    }

    /// Takes the machine down in order: removes the device, unloads the driver, and checks that nothing is left of it: a
    /// leak stops the machine with the bug check that Driver Verifier has for it.
    ///
    /// # Panics
    /// If the device cannot be removed, because of an open handle for instance.
    pub fn shut_down(&self) {
        self.settle();
        self.finish_removals();
        for node in self.nodes() {
            if node.phase() == Phase::Started
                && let Err(error) = self.pnp.remove(&node)
            {
                panic!("the device cannot be removed: {error}");
            }
        }
        if let Some(driver) = self.driver.take() {
            let unloaded = driver.unload();
            assert!(
                unloaded,
                "the driver has devices left, or no unload routine"
            );
        }
        machine_hal::pci::check_interfaces_released();
        machine_nt::ex::pool::check_all();
        if let Err(error) = self.plugged.board.memory().check_freed() {
            bugcheck::stop(code::DRIVER_VERIFIER_DMA_VIOLATION, [0x0f, 3, 0, 0], error);
        }
    }
}

/// A registry value as the registry holds it.
fn data(value: &RegistryValue) -> registry::Value {
    match &value.data {
        RegistryData::Dword(number) => registry::Value::dword(*number),
        RegistryData::Text(text) => registry::Value::string(text),
    }
}
