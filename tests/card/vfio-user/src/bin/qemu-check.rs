//! Plugs the card into a QEMU over vfio-user and drives it through qtest: is it found, does it move data both ways,
//! interrupt by MSI-X and by INTx, reset, keep to bus mastering; and does QEMU live on when the card's process is killed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use abi::card::register::{self, Causes, ChannelControl};
use abi::card::ring::{Completion, Descriptor, DescriptorFlags};
use abi::card::{Direction, IDENTITY};
use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use machine_bus::pci::{Function, RegisterWindow, capability, command};
use machine_bus::{
    Board, BoardEvent, FunctionAddress, MemoryConfig, PAGE_SIZE, PhysicalMemory, QemuBoard,
    QemuConfig, Zone,
};

/// Drives the card in a QEMU over vfio-user.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// A QEMU of version 10.1 or newer.
    #[arg(long, default_value = "qemu-system-x86_64")]
    qemu: PathBuf,
    /// The card's server; by default the one beside this program.
    #[arg(long)]
    server: Option<PathBuf>,
}

/// The first QEMU with vfio-user devices.
const NEEDED: (u32, u32) = (10, 1);

/// Where the card is.
const CARD: FunctionAddress = FunctionAddress::new(0, 4, 0);

/// The vector of the first message.
const VECTOR: u8 = 0x50;

/// How long something may take that should take no time.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes that are moved, and by which a piece of them is longer than a page.
const LENGTH: usize = 200_000;

fn main() -> ExitCode {
    match check(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn check(options: &Options) -> Result<()> {
    let folder = Folder::new()?;
    let socket = folder.0.join("card.sock");
    let mut server = serve(options, &socket)?;
    let board = start(options, &socket)?;
    println!("{}", board.describe());
    let mut rig = Rig::new(&board);

    step("the card is found by enumeration", || rig.enumerate())?;
    step("data goes both ways, with MSI-X", || {
        rig.enable_messages()?;
        rig.there_and_back(Interrupt::Message)
    })?;
    step("data goes both ways, with INTx", || {
        rig.disable_messages()?;
        rig.there_and_back(Interrupt::Line)
    })?;
    step("a function-level reset clears the registers", || {
        rig.reset()
    })?;
    step("without bus mastering nothing is accessed", || {
        rig.no_master()
    })?;
    step("QEMU lives on when the card's process is killed", || {
        server.0.kill()?;
        server.0.wait()?;
        rig.removed()
    })
}

/// Does a step and says how it went.
fn step(name: &str, act: impl FnOnce() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    let result = act();
    let verdict = if result.is_ok() { "ok" } else { "FAILED" };
    let millis = start.elapsed().as_millis();
    println!("{verdict:7} {name} ({millis} ms)");
    result.with_context(|| name.to_owned())
}

/// A folder that is removed.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("card-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A process that is killed.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(options: &Options, socket: &Path) -> Result<Server> {
    let program = match &options.server {
        Some(program) => program.clone(),
        None => std::env::current_exe()?.with_file_name("card-vfio-user"),
    };
    let child = Command::new(&program)
        .arg("--socket")
        .arg(socket)
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let mut server = Server(child);
    wait_for("the card's server", || {
        if let Some(status) = server.0.try_wait()? {
            bail!("{} ended ({status})", program.display());
        }
        Ok(socket.exists().then_some(()))
    })?;
    Ok(server)
}

fn start(options: &Options, socket: &Path) -> Result<QemuBoard> {
    let device = format!(
        r#"{{"driver":"vfio-user-pci","addr":"4","socket":{{"type":"unix","path":"{}"}}}}"#,
        socket.display()
    );
    let config = QemuConfig {
        program: options.qemu.clone(),
        memory: MemoryConfig::default(),
        devices: vec![device],
        ..QemuConfig::default()
    };
    let version = config.version()?;
    ensure!(
        version.numbers() >= NEEDED,
        "{} is version {version}; vfio-user devices need {}.{}",
        options.qemu.display(),
        NEEDED.0,
        NEEDED.1
    );
    Ok(QemuBoard::start(&config)?)
}

/// Asks again and again, until there is an answer or it takes too long.
fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        ensure!(start.elapsed() < PATIENCE, "{what} takes too long");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Interrupt {
    Message,
    Line,
}

/// The card in QEMU, and what its driver would know.
struct Rig<'a> {
    board: &'a QemuBoard,
    memory: Arc<PhysicalMemory>,
    function: Function<'a>,
    registers: u64,
    table: u64,
    events: Vec<BoardEvent>,
}

impl<'a> Rig<'a> {
    fn new(board: &'a QemuBoard) -> Self {
        Self {
            board,
            memory: Arc::clone(board.memory()),
            function: Function::new(board, CARD),
            registers: 0,
            table: 0,
            events: Vec::new(),
        }
    }

    fn enumerate(&mut self) -> Result<()> {
        let identity = self.function.identity()?;
        ensure!(
            (identity.vendor, identity.device) == (0x1234, 0xda7a),
            "{identity:x?} is another device"
        );
        for id in [
            capability::POWER_MANAGEMENT,
            capability::MSI,
            capability::PCI_EXPRESS,
            capability::MSI_X,
        ] {
            ensure!(
                self.function.capability(id)?.is_some(),
                "capability {id:#x} is missing"
            );
        }
        self.turn_on()?;
        let identity = self.board.read(self.registers, 4)?;
        ensure!(
            identity == u64::from(IDENTITY),
            "it says it is {identity:#x}"
        );
        Ok(())
    }

    /// Gives the windows addresses.
    fn turn_on(&mut self) -> Result<()> {
        let bars = self.function.bars()?;
        let sizes: Vec<(u8, u64)> = bars.iter().map(|bar| (bar.index, bar.size)).collect();
        ensure!(sizes == [(0, 0x4000), (2, 0x1000)], "windows {sizes:x?}");
        let mut window = RegisterWindow::new(self.board.register_window());
        for (bar, address) in bars.iter().zip([&mut self.registers, &mut self.table]) {
            *address = window.take(bar.size).context("no room for a window")?;
            self.function.assign(bar, *address)?;
        }
        let on = command::MEMORY_SPACE | command::BUS_MASTER;
        Ok(self.function.change_command(on, 0)?)
    }

    fn capability(&self, id: u8) -> Result<u16> {
        let found = self.function.capability(id)?;
        Ok(found.context("no such capability")?.offset)
    }

    fn enable_messages(&mut self) -> Result<()> {
        for number in 0..3 {
            let message = self.board.message_target(VECTOR + number);
            let entry = self.table + 16 * u64::from(number);
            self.board.write(entry, 4, message.address)?;
            self.board.write(entry + 4, 4, message.address >> 32)?;
            self.board.write(entry + 8, 4, message.data.into())?;
            self.board.write(entry + 12, 4, 0)?;
        }
        let control = self.capability(capability::MSI_X)? + 2;
        Ok(self.function.write16(control, 0x8000)?)
    }

    fn disable_messages(&mut self) -> Result<()> {
        let control = self.capability(capability::MSI_X)? + 2;
        Ok(self.function.write16(control, 0)?)
    }

    fn set(&self, direction: Direction, offset: usize, size: u8, value: u64) -> Result<()> {
        let address = self.registers + (direction.window() + offset) as u64;
        Ok(self.board.write(address, size, value)?)
    }

    /// Enables a channel with rings of 64 entries.
    fn enable(&self, direction: Direction) -> Result<u64> {
        let rings = self.memory.allocate(Zone::High, 2)?;
        for page in &rings {
            self.memory.fill(*page, PAGE_SIZE, 0)?;
        }
        let control = register::CHANNEL_CONTROL.offset();
        self.set(direction, control, 4, 0)?;
        self.set(direction, register::DESCRIPTOR_RING.offset(), 8, rings[0])?;
        self.set(direction, register::COMPLETION_RING.offset(), 8, rings[1])?;
        self.set(direction, register::ENTRIES.offset(), 4, 64)?;
        let message = 1 + direction.index() as u64;
        self.set(direction, register::MESSAGE.offset(), 4, message)?;
        let causes = self.registers + register::INTERRUPT_ENABLE.offset() as u64;
        self.board.write(causes, 4, Causes::all().bits().into())?;
        let enable = ChannelControl::ENABLE.bits().into();
        self.set(direction, control, 4, enable)?;
        Ok(rings[0])
    }

    /// Has a channel move the first bytes of scattered pages, and returns the completion's outcome.
    fn transfer(&mut self, direction: Direction, pages: &[u64], how: Interrupt) -> Result<()> {
        let ring = self.enable(direction)?;
        let completion = self.completion_of(direction)?;
        let mut card_address = 0x12345;
        let mut left = LENGTH as u32;
        for (entry, page) in (0..).zip(pages) {
            let length = left.min(PAGE_SIZE as u32);
            left -= length;
            let flags = if left > 0 {
                DescriptorFlags::CHAIN
            } else {
                DescriptorFlags::INTERRUPT
            };
            let fields = [
                *page,
                card_address,
                u64::from(length) | u64::from(flags.bits()) << 32,
                7,
            ];
            card_address += u64::from(length);
            for (field, value) in (0..).zip(fields) {
                let at = ring + entry * Descriptor::SIZE as u64 + field * 8;
                self.memory.write(at, &value.to_le_bytes())?;
            }
        }
        self.events.clear();
        let producer = pages.len() as u64;
        self.set(direction, register::DOORBELL.offset(), 4, producer)?;
        self.expect_interrupt(direction, how)?;
        let mut outcome = [0; 4];
        let at = completion + Completion::OUTCOME as u64;
        self.memory.read(at, &mut outcome)?;
        let outcome = u32::from_le_bytes(outcome);
        ensure!(
            outcome == 0x8000_0000,
            "the transfer ended with {outcome:#x}"
        );
        Ok(())
    }

    fn completion_of(&self, direction: Direction) -> Result<u64> {
        let register = direction.window() + register::COMPLETION_RING.offset();
        Ok(self.board.read(self.registers + register as u64, 8)?)
    }

    fn expect(&mut self, what: &str, event: BoardEvent) -> Result<()> {
        let Self { board, events, .. } = self;
        wait_for(what, || {
            board.wait(Duration::from_millis(1))?;
            board.poll(0, events)?;
            Ok(events.contains(&event).then_some(()))
        })
    }

    fn expect_interrupt(&mut self, direction: Direction, how: Interrupt) -> Result<()> {
        if how == Interrupt::Message {
            let vector = VECTOR + 1 + direction.index() as u8;
            return self.expect("the message", BoardEvent::Message { vector });
        }
        let line = self.board.line(CARD, 1);
        let asserted = BoardEvent::Line {
            line,
            asserted: true,
        };
        self.expect("the line", asserted)?;
        let register = self.registers + register::INTERRUPT_CAUSE.offset() as u64;
        let causes = self.board.read(register, 4)?;
        let expected: u32 = Causes::completion(direction).bits();
        ensure!(causes == u64::from(expected), "causes {causes:#x}");
        let released = BoardEvent::Line {
            line,
            asserted: false,
        };
        self.expect("the release of the line", released)
    }

    fn there_and_back(&mut self, how: Interrupt) -> Result<()> {
        let pages = |zone| self.memory.allocate(zone, LENGTH.div_ceil(PAGE_SIZE));
        let (from, to) = (pages(Zone::High)?, pages(Zone::Low)?);
        let data = |index: usize| {
            (index as u64)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .to_le_bytes()[7]
        };
        for (index, page) in from.iter().enumerate() {
            let bytes: Vec<u8> = (0..PAGE_SIZE)
                .map(|at| data(index * PAGE_SIZE + at))
                .collect();
            self.memory.write(*page, &bytes)?;
        }
        self.transfer(Direction::ToCard, &from, how)?;
        self.transfer(Direction::FromCard, &to, how)?;
        for (index, page) in to.iter().enumerate() {
            let mut bytes = vec![0; PAGE_SIZE.min(LENGTH - index * PAGE_SIZE)];
            self.memory.read(*page, &mut bytes)?;
            let same = |(at, byte): (usize, &u8)| *byte == data(index * PAGE_SIZE + at);
            ensure!(bytes.iter().enumerate().all(same), "page {index} differs");
        }
        Ok(())
    }

    fn reset(&mut self) -> Result<()> {
        let control = self.capability(capability::PCI_EXPRESS)? + 8;
        self.function.write16(control, 0x8000)?;
        self.turn_on()?;
        let ring = self.completion_of(Direction::ToCard)?;
        ensure!(ring == 0, "a ring is still at {ring:#x}");
        Ok(())
    }

    fn no_master(&mut self) -> Result<()> {
        let ring = self.enable(Direction::ToCard)?;
        self.memory.fill(ring, Descriptor::SIZE, 0)?;
        self.function.change_command(0, command::BUS_MASTER)?;
        self.set(Direction::ToCard, register::DOORBELL.offset(), 4, 1)?;
        let register = Direction::ToCard.window() + register::ERROR.offset();
        let address = self.registers + register as u64;
        let board = self.board;
        let error = wait_for("the channel's error", || {
            let error = board.read(address, 8)?;
            Ok((error != 0).then_some(error))
        })?;
        ensure!(error == 1 << 32, "the channel stopped with {error:#x}");
        Ok(())
    }

    fn removed(&mut self) -> Result<()> {
        let (board, address) = (self.board, self.registers);
        wait_for("the end of the card", || {
            Ok((board.read(address, 4)? == 0xffff_ffff).then_some(()))
        })?;
        let bridge = Function::new(board, FunctionAddress::new(0, 0, 0));
        ensure!(
            bridge.identity()?.vendor == 0x8086,
            "the host bridge is gone"
        );
        Ok(())
    }
}
