//! The device on Linux: a machine is started for the purpose, and the same calls go to its I/O manager.

use std::error::Error as _;
use std::ops::Range;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use abi::guid::DEVICE_INTERFACE;
use clap::{Args, ValueEnum};
use machine::fault::{FaultPlan, Shim};
use machine::nt_sys::GUID;
use machine::user::{
    self, Access, Completion, File, Overlapped, Process, Thread, Token, UserBuffer,
};
use machine::{CardServer, Config, DriverSource, Machine, MachineError, Session};

use crate::cli::{self, Cli, Command};
use crate::demo;
use crate::device::{Device, Direction, Done};
use crate::error::{Error, Win32Error};

/// Which machine to start.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Machine")]
pub struct MachineOptions {
    /// The device to plug in.
    #[arg(long, global = true, value_enum, default_value_t = DeviceOption::Edu)]
    pub device: DeviceOption,
    /// Mebibytes of the card's memory, up to 4096.
    #[arg(long, global = true, value_name = "MIB", default_value_t = 64)]
    pub card_memory: u64,
    /// The socket of a vfio-user server that has the card; without it one is started for card-vfio-user.
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// How it may interrupt.
    #[arg(long, global = true, value_enum, default_value_t = InterruptOption::Msi)]
    pub interrupt: InterruptOption,
    /// The driver's image; `cargo xtask driver` builds it.
    #[arg(long, global = true, env = "DMACARD_SYS", value_name = "PATH")]
    pub driver: Option<PathBuf>,
    /// The QEMU to run the device in.
    #[arg(
        long,
        global = true,
        value_name = "PROGRAM",
        default_value = "qemu-system-x86_64"
    )]
    pub qemu: PathBuf,
    /// Write the session with QEMU's device to this file.
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "replay")]
    pub record: Option<PathBuf>,
    /// Repeat the session written to this file, without QEMU: the same command with the same options, event by event.
    #[arg(long, global = true, value_name = "FILE")]
    pub replay: Option<PathBuf>,
    /// Decides which pages buffers have, and who goes on when several could.
    #[arg(long, global = true, default_value_t = 1)]
    pub seed: u64,
    /// Simulated processors.
    #[arg(long, global = true, value_name = "NUMBER", default_value_t = 2)]
    pub processors: usize,
    /// What shall go wrong with the device, for instance hang@3,drop@interrupt:5: faults separated by commas, each a name,
    /// then =PARAMETER and @MOMENT if wanted. Names: hang, stuck, stray=+OFFSET, late[=TIME], drop, delay=TIME,
    /// duplicate[=TIME], spurious, corrupt=OFFSET^VALUE (also & | =), ones, unplug. Moments: N, command:N, interrupt:N,
    /// access:N, after:TIME; xN or x* after it repeats. Those that struck are listed at the end.
    #[arg(
        long = "fault",
        global = true,
        value_name = "PLAN",
        default_value = "",
        hide_default_value = true
    )]
    pub faults: FaultPlan,
    /// Do not show what the driver and the framework print to the debugger, unless the command fails.
    #[arg(long, global = true)]
    pub quiet: bool,
    /// Run as a user who is not an administrator.
    #[arg(long, global = true)]
    pub unprivileged: bool,
}

/// The devices there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DeviceOption {
    /// QEMU's edu.
    Edu,
    /// Edu's twin in this process.
    EduTwin,
    /// The card, in this process.
    Card,
    /// The FIFO peripheral, in this process: a request line for each direction.
    Fifo,
    /// The same without an interrupt.
    FifoNoInterrupt,
    /// The same with one request line for both directions.
    FifoSimplex,
    /// The card, in a server over vfio-user.
    CardVfioUser,
}

/// The ways to interrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum InterruptOption {
    /// By messages.
    Msi,
    /// By its line.
    Line,
}

impl MachineOptions {
    /// The machine these options ask for.
    ///
    /// # Errors
    /// [`Error::Machine`] if no driver is named.
    pub fn config(&self) -> Result<Config, Error> {
        let driver = self.driver.clone().ok_or_else(|| {
            Error::Machine(
                "no driver: give --driver or set DMACARD_SYS to what `cargo xtask driver` printed"
                    .to_owned(),
            )
        })?;
        let mut config = Config::new(DriverSource::Image(driver));
        config.device = match self.device {
            DeviceOption::Edu => machine::Device::Edu,
            DeviceOption::EduTwin => machine::Device::EduTwin,
            DeviceOption::Card => machine::Device::Card,
            DeviceOption::Fifo => machine::Device::Fifo,
            DeviceOption::FifoNoInterrupt => machine::Device::FifoWithoutInterrupt,
            DeviceOption::FifoSimplex => machine::Device::FifoSimplex,
            DeviceOption::CardVfioUser => machine::Device::CardVfioUser,
        };
        config.card.memory = self.card_memory.saturating_mul(1 << 20);
        if let Some(socket) = &self.socket {
            config.card_server = CardServer::Connect(socket.clone());
        }
        config.interrupts = match self.interrupt {
            InterruptOption::Msi => machine::Interrupts::Message,
            InterruptOption::Line => machine::Interrupts::Line,
        };
        config.qemu.clone_from(&self.qemu);
        config.session = match (&self.record, &self.replay) {
            (Some(file), _) => Session::Record(file.clone()),
            (None, Some(file)) => Session::Replay(file.clone()),
            (None, None) => Session::Live,
        };
        config.faults.clone_from(&self.faults);
        config.seed = self.seed;
        config.processors = self.processors;
        Ok(config)
    }
}

/// Starts the machine, carries out the command, and takes the machine down again.
///
/// # Errors
/// Those of the command; [`Error::Machine`] if the machine cannot be put together.
pub fn run(cli: &Cli) -> Result<(), Error> {
    let config = cli.machine.config()?;
    let command = cli.command.clone();
    let token = if cli.machine.unprivileged {
        Token::User
    } else {
        Token::Administrator
    };
    machine::dbg::set_echo(!cli.machine.quiet);
    let result = machine::run(config, move |machine| {
        let _report = FaultReport(machine.faults().clone());
        machine.start().map_err(machine_error)?;
        let device = MachineDevice::open(machine, token)?;
        let result = match &command {
            Command::Device(command) => cli::run(&device, command),
            Command::Demo(options) => demo::run(machine, &device, options),
        };
        if matches!(result, Err(Error::Hung(_))) {
            // Neither the handle nor the device would go: the machine ends as it is.
            std::mem::forget(device);
            return result;
        }
        drop(device);
        machine.shut_down();
        result?;
        match machine.left_to_replay() {
            None | Some(0) => Ok(()),
            Some(left) => Err(Error::Machine(format!(
                "the record goes on after the end of this session, for {left} entries"
            ))),
        }
    })
    .map_err(machine_error)
    .flatten();
    if cli.machine.quiet && result.as_ref().is_err_and(Error::has_reason_in_driver) {
        for line in machine::dbg::lines() {
            eprintln!("{}", line.trim_end());
        }
    }
    result
}

fn machine_error(error: MachineError) -> Error {
    match error {
        MachineError::NoDevice => Error::NoDevice,
        error => {
            let causes = std::iter::successors(error.source(), |&cause| cause.source());
            let cause = causes.map(|cause| format!(": {cause}"));
            Error::Machine(format!("{error}{}", cause.collect::<String>()))
        }
    }
}

/// Says at the end, however the command ended, which faults the device has had.
struct FaultReport(Shim);

impl Drop for FaultReport {
    fn drop(&mut self) {
        let (fired, total) = (self.0.fired(), self.0.total());
        let forgotten = total - fired.len() as u64;
        if forgotten > 0 {
            eprintln!("dmatest: {forgotten} faults before these");
        }
        for fault in fired {
            eprintln!("dmatest: {fault}");
        }
        match self.0.armed() {
            0 => {}
            armed => eprintln!("dmatest: {armed} faults of the plan are still to come"),
        }
    }
}

/// A device of the driver in a machine, opened by a process of its own.
pub struct MachineDevice {
    file: File,
    path: String,
    process: Rc<Process>,
}

impl MachineDevice {
    /// Opens the first device that is present and started.
    ///
    /// # Errors
    /// [`Error::NoDevice`]; [`Error::Open`].
    pub fn open(machine: &Machine, token: Token) -> Result<Self, Error> {
        Self::open_nth(machine, token, 0)
    }

    /// Opens the device with this index among those that are present and started.
    ///
    /// # Errors
    /// As [`MachineDevice::open`].
    pub fn open_nth(machine: &Machine, token: Token, index: usize) -> Result<Self, Error> {
        let process = Rc::new(machine.process(token));
        let class = GUID::from_u128(DEVICE_INTERFACE.to_u128());
        let path = process
            .interfaces(&class)
            .into_iter()
            .nth(index)
            .ok_or(Error::NoDevice)?;
        Self::open_path(process, path)
    }

    fn open_path(process: Rc<Process>, path: String) -> Result<Self, Error> {
        match process.open(&path, Access::READ_WRITE) {
            Ok(file) => Ok(Self {
                file,
                path,
                process,
            }),
            Err(error) => Err(Error::Open {
                path,
                error: win32(error),
            }),
        }
    }

    /// The handle, for what the trait does not offer.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The process that opened the device.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }
}

fn win32(error: user::Win32Error) -> Win32Error {
    Win32Error(error.0)
}

impl Device for MachineDevice {
    type Buffer = UserBuffer;
    type Pending = Overlapped;

    fn buffer(&self, length: usize) -> Result<UserBuffer, Error> {
        self.process
            .buffer(length)
            .map_err(|_| Error::OutOfMemory(length))
    }

    fn start(
        &self,
        direction: Direction,
        offset: u64,
        buffer: UserBuffer,
        range: Range<usize>,
    ) -> Overlapped {
        match direction {
            Direction::Read => self.file.read(offset, buffer, range),
            Direction::Write => self.file.write(offset, buffer, range),
        }
    }

    fn wait(&self, pending: Overlapped) -> Done<UserBuffer> {
        let Completion { result, buffer, .. } = pending.wait();
        Done {
            result: result.map_err(win32),
            buffer,
        }
    }

    fn wait_for(&self, pending: &Overlapped, limit: Duration) -> bool {
        pending.wait_for(limit)
    }

    fn cancel(&self, pending: &Overlapped) -> Result<(), Win32Error> {
        pending.cancel().map_err(win32)
    }

    fn cancel_all(&self) -> Result<(), Win32Error> {
        self.file.cancel_all().map_err(win32)
    }

    fn reopen(&self) -> Result<Self, Error> {
        Self::open_path(Rc::clone(&self.process), self.path.clone())
    }

    fn duplicate(&self) -> Result<Self, Error> {
        let path = self.path.clone();
        match self.process.duplicate(&self.file) {
            Ok(file) => Ok(Self {
                file,
                path,
                process: Rc::clone(&self.process),
            }),
            Err(error) => Err(Error::Open {
                path,
                error: win32(error),
            }),
        }
    }

    fn on_threads<T, W>(&self, count: usize, work: W) -> Result<Vec<T>, Error>
    where
        T: Send + 'static,
        W: Fn(usize, &Self) -> T + Send + Sync + 'static,
    {
        let devices: Vec<Self> = (0..count)
            .map(|_| self.reopen())
            .collect::<Result<_, _>>()?;
        let work = Rc::new(work);
        let threads: Vec<Thread<T>> = devices
            .into_iter()
            .enumerate()
            .map(|(index, device)| {
                let work = Rc::clone(&work);
                self.process
                    .spawn(&format!("worker {index}"), move || work(index, &device))
            })
            .collect();
        Ok(threads.into_iter().map(Thread::join).collect())
    }

    fn abandon(&self, reads: usize, length: usize) -> Result<(), Error> {
        let other = Self::open_path(Rc::new(self.process.create_process()), self.path.clone())?;
        let requests: Vec<Overlapped> = (0..reads)
            .map(|_| {
                let buffer = other.buffer(length)?;
                Ok(other.start(Direction::Read, 0, buffer, 0..length))
            })
            .collect::<Result<_, Error>>()?;
        other.process.exit();
        drop(requests);
        Ok(())
    }

    fn now(&self) -> Duration {
        user::now()
    }

    fn sleep(&self, time: Duration) {
        user::sleep(time);
    }

    fn control(&self, code: u32, input: &[u8], output: &mut [u8]) -> Result<usize, Win32Error> {
        let (input_end, end) = (input.len(), input.len() + output.len());
        let mut buffer = self
            .process
            .buffer(end)
            .map_err(|_| Win32Error::NOT_ENOUGH_MEMORY)?;
        buffer[..input_end].copy_from_slice(input);
        let request = self
            .file
            .control(code, buffer, 0..input_end, input_end..end);
        let Completion { result, buffer, .. } = request.wait();
        let length = result.map_err(win32)?;
        output[..length].copy_from_slice(&buffer[input_end..input_end + length]);
        Ok(length)
    }
}
