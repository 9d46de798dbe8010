//! Every fault of the shim, on edu's twin, and some on QEMU's edu.

use std::time::Duration;

use abi::card::register::{CHANNEL_CONTROL, EVENT_MESSAGE, INTERRUPT_ENABLE};
use abi::card::{Direction, MEMORY_DEFAULT};

use crate::common::{EDU, events, qemu, set_up, transfer};
use machine_bus::fault::{Shim, ShimError};
use machine_bus::pci::{Function, command};
use machine_bus::{
    Access, Board, BoardEvent, CardDevice, CardTiming, Edu, Engine, FaultyBoard, LocalBoard,
    MemoryConfig, PAGE_SIZE, Zone,
};

const PENDING: u64 = 0x24;
const RAISE: u64 = 0x60;
const ACKNOWLEDGE: u64 = 0x64;
const COMMAND: u64 = 0x98;

const FROM_MEMORY: u64 = 0b101;
const TO_MEMORY: u64 = 0b111;

/// Where the twin's page is mapped.
const LOGICAL: u64 = 0x5000;

const VECTOR: u8 = 0x61;

struct Bench {
    board: FaultyBoard,
    shim: Shim,
    registers: u64,
    /// The page that the device may reach: its physical and its bus address.
    page: u64,
    bus: u64,
    now: u64,
}

impl Bench {
    fn new(board: Box<dyn Board>, plan: &str) -> Self {
        let board = FaultyBoard::new(board, EDU, Some(Engine::EDU)).unwrap();
        let registers = set_up(&board);
        let page = board.memory().allocate(Zone::Low, 1).unwrap()[0];
        board.memory().fill(page, PAGE_SIZE, 0).unwrap();
        let bus = match board.iommu() {
            Some(iommu) => {
                iommu
                    .map(EDU, LOGICAL, page, PAGE_SIZE as u64, Access::ReadWrite)
                    .unwrap();
                LOGICAL
            }
            None => page,
        };
        let shim = board.shim();
        let bench = Self {
            board,
            shim,
            registers,
            page,
            bus,
            now: 0,
        };
        bench.arm(plan);
        bench
    }

    /// On the twin.
    fn twin(plan: &str) -> Self {
        let devices: Vec<(_, Box<dyn machine_bus::Device>)> = vec![(EDU, Box::new(Edu::default()))];
        let board = LocalBoard::new(&MemoryConfig::default(), devices).unwrap();
        Self::new(Box::new(board), plan)
    }

    fn with_messages(self) -> Self {
        let function = Function::new(&self.board, EDU);
        let msi = function.msi().unwrap().unwrap();
        let message = self.board.message_target(VECTOR);
        function.enable_msi(&msi, message).unwrap();
        self
    }

    fn arm(&self, plan: &str) {
        self.shim.arm_plan(&plan.parse().unwrap()).unwrap();
    }

    fn set_master(&self, on: bool) {
        let (set, clear) = if on {
            (command::BUS_MASTER, 0)
        } else {
            (0, command::BUS_MASTER)
        };
        let function = Function::new(&self.board, EDU);
        function.change_command(set, clear).unwrap();
    }

    fn read(&self, offset: u64) -> u64 {
        self.board.read(self.registers + offset, 4).unwrap()
    }

    fn write(&self, offset: u64, value: u64) {
        self.board.write(self.registers + offset, 4, value).unwrap();
    }

    fn line(&self, asserted: bool) -> BoardEvent {
        let line = self.board.line(EDU, 1);
        BoardEvent::Line { line, asserted }
    }

    /// What has happened when `time` has passed.
    fn after(&mut self, time: u64) -> Vec<BoardEvent> {
        self.now += time;
        events(&self.board, self.now)
    }

    /// What happens next, and in which nanosecond.
    fn next(&mut self) -> (u64, Vec<BoardEvent>) {
        self.now = self.board.next_event().expect("something to come");
        (self.now, events(&self.board, self.now))
    }

    fn transfer(&self, count: u64, command: u64) {
        transfer(&self.board, self.registers, self.bus, count, command);
    }

    /// Makes a transfer of 16 bytes as a driver does, if it ends.
    fn succeeds(&mut self) -> bool {
        self.after(0);
        self.transfer(16, TO_MEMORY);
        let news = if self.board.iommu().is_some() {
            self.after(200_000_000)
        } else {
            self.board.wait(Duration::from_millis(300)).unwrap();
            self.after(0)
        };
        self.acknowledge();
        self.after(0);
        !news.is_empty()
    }

    fn acknowledge(&self) {
        let pending = self.read(PENDING);
        self.write(ACKNOWLEDGE, pending);
    }

    fn memory(&self) -> Vec<u8> {
        let mut bytes = vec![0; PAGE_SIZE];
        self.board.memory().read(self.page, &mut bytes).unwrap();
        bytes
    }

    /// What has struck, without the place and time.
    fn fired(&self) -> Vec<String> {
        let fired = self.shim.fired();
        assert_eq!(self.shim.total(), fired.len() as u64);
        fired
            .iter()
            .map(|fired| format!("{}: {}", fired.fault, fired.what))
            .collect()
    }
}

/// The boards on which what does not depend on their clock is tested.
fn benches(plan: &str) -> [Bench; 2] {
    [Bench::twin(plan), Bench::new(Box::new(qemu()), plan)]
}

#[test]
fn without_faults_nothing_is_different() {
    for mut bench in benches("") {
        assert!(bench.succeeds());
        assert!(bench.succeeds());
        assert_eq!(bench.shim.total(), 0);
    }
}

#[test]
fn a_hang_lasts_until_bus_mastering_is_off() {
    for mut bench in benches("hang@2") {
        assert!(bench.succeeds());
        assert!(!bench.succeeds());
        assert_eq!(bench.read(COMMAND), TO_MEMORY);
        bench.write(0x90, 1);
        assert_eq!(
            bench.read(0x90),
            16,
            "it drops what is written while it runs"
        );
        bench.set_master(false);
        assert_eq!(bench.read(COMMAND), TO_MEMORY & !1);
        bench.set_master(true);
        assert!(bench.succeeds());
        assert_eq!(bench.fired(), ["hang@2: command 0x7 does not end"]);
        assert_eq!(bench.shim.armed(), 0);
    }
}

#[test]
fn what_hangs_can_be_healed() {
    for fault in ["hang", "stuck"] {
        for mut bench in benches(fault) {
            bench.arm("drop@1x*");
            assert!(!bench.succeeds());
            bench.shim.heal();
            assert_eq!(bench.read(COMMAND), TO_MEMORY & !1);
            assert_eq!(bench.shim.armed(), 0);
            assert!(bench.succeeds());
        }
    }
}

#[test]
fn a_hang_ends_with_the_power() {
    let mut bench = Bench::twin("stuck");
    assert!(!bench.succeeds());
    bench.board.power_off(EDU);
    set_up(&bench.board);
    assert_eq!(bench.read(COMMAND), 0);
    assert!(bench.succeeds());
}

#[test]
fn who_wants_to_know_is_told_at_once() {
    use std::sync::Mutex;
    static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());

    let mut bench = Bench::twin("corrupt=0x0=0,drop@1");
    bench.shim.on_fired(|fired| {
        let fault = fired.fault.to_string();
        TOLD.lock().unwrap().push(fault);
    });
    assert_eq!(bench.read(0), 0);
    assert_eq!(*TOLD.lock().unwrap(), ["corrupt=0:0x0=0x0"]);
    bench.succeeds();
    bench.arm("ones");
    let told = TOLD.lock().unwrap();
    assert_eq!(*told, ["corrupt=0:0x0=0x0", "drop@1", "ones"]);
}

#[test]
fn a_stuck_command_never_ends() {
    for mut bench in benches("stuck") {
        assert!(!bench.succeeds());
        bench.set_master(false);
        bench.set_master(true);
        assert_eq!(bench.read(COMMAND), TO_MEMORY);
        assert!(!bench.succeeds());
        assert_eq!(bench.fired(), ["stuck: command 0x7 does not end"]);
    }
}

#[test]
fn a_stray_transfer_goes_elsewhere_once() {
    for mut bench in benches("stray=+0x800") {
        bench.board.memory().fill(bench.page, 16, 0x5a).unwrap();
        bench.transfer(16, FROM_MEMORY);
        let written = bench.read(0x80);
        assert_eq!(written, bench.bus, "the driver reads what it wrote");
        while bench.read(COMMAND) & 1 != 0 {
            bench.board.wait(Duration::from_millis(5)).unwrap();
            bench.after(200_000_000);
        }
        bench.acknowledge();
        assert_eq!(bench.read(0x80), bench.bus);
        // The device has the zeros of 0x800, and puts them where it should.
        assert!(bench.succeeds());
        assert_eq!(bench.memory()[..16], [0; 16]);
        let from = bench.bus;
        let text = format!("stray=+0x800: DMA at {:#x}, not {from:#x}", from + 0x800);
        assert_eq!(bench.fired(), [text]);
    }
}

#[test]
fn a_stray_transfer_outside_the_mapping_is_a_fault() {
    let mut bench = Bench::twin("stray=-0x10@2");
    assert!(bench.succeeds());
    bench.transfer(16, TO_MEMORY);
    let fault = BoardEvent::DmaFault {
        function: EDU,
        address: LOGICAL - 0x10,
        write: true,
    };
    assert_eq!(bench.next().1, [fault, bench.line(true)]);
}

#[test]
fn a_late_write_comes_after_completion() {
    let mut bench = Bench::twin("late=50us,late=50us@2");
    bench.transfer(16, TO_MEMORY);
    let (end, news) = bench.next();
    assert_eq!(news, [bench.line(true)]);
    bench.acknowledge();
    bench.after(0);
    assert_eq!(bench.next(), (end + 50_000, vec![]));
    assert_eq!(bench.memory()[..17], [[0xee; 16].as_slice(), &[0]].concat());

    // By then the mapping may be gone.
    bench.transfer(16, TO_MEMORY);
    bench.next();
    bench.acknowledge();
    bench.after(0);
    let iommu = bench.board.iommu().unwrap();
    iommu.unmap(EDU, LOGICAL, PAGE_SIZE as u64).unwrap();
    let fault = BoardEvent::DmaFault {
        function: EDU,
        address: LOGICAL,
        write: true,
    };
    assert_eq!(bench.next().1, [fault]);
    assert_eq!(bench.fired().len(), 2);
}

#[test]
fn a_late_write_of_qemu_is_seen_in_memory() {
    let mut bench = Bench::new(Box::new(qemu()), "late=1ms,late@2");
    assert!(bench.succeeds());
    assert_eq!(bench.memory()[..16], [0; 16]);
    assert!(bench.board.wait(Duration::from_secs(10)).unwrap().news);
    bench.after(1_000_000);
    assert_eq!(bench.memory()[..16], [0xee; 16]);

    // No device writes while it is no master.
    assert!(bench.succeeds());
    bench.set_master(false);
    bench.after(1_000_000);
    let last = bench.fired().pop().unwrap();
    assert!(last.ends_with("refused, bus mastering is off"), "{last}");
}

#[test]
fn a_dropped_line_is_not_heard_of_until_it_is_released() {
    for mut bench in benches("drop") {
        bench.write(RAISE, 1);
        assert_eq!(bench.after(0), []);
        bench.write(RAISE, 2);
        assert_eq!(bench.after(0), []);
        assert_eq!(bench.read(PENDING), 3);
        bench.acknowledge();
        assert_eq!(bench.after(0), []);
        bench.write(RAISE, 1);
        assert_eq!(bench.after(0), [bench.line(true)]);
        assert_eq!(bench.fired(), ["drop: nobody hears of the line"]);
    }
}

#[test]
fn messages_are_dropped_delayed_and_duplicated() {
    let message = BoardEvent::Message { vector: VECTOR };
    for bench in benches("drop@2,delay=1ms@3,duplicate=20us@4") {
        let mut bench = bench.with_messages();
        let mut raise = |time| {
            bench.write(RAISE, 1);
            [bench.after(0), bench.after(time)]
        };
        assert_eq!(raise(0), [vec![message], vec![]]);
        assert_eq!(raise(2_000_000), [vec![], vec![]]);
        assert_eq!(raise(999_999), [vec![], vec![]]);
        assert_eq!(raise(1), [vec![message], vec![message]]);
        assert_eq!(bench.after(19_999), [message]);
        assert_eq!(
            bench.fired(),
            [
                "drop@2: message 0x61 is lost",
                "delay=1ms@3: message 0x61 arrives 1000000 ns later",
                "duplicate=20us@4: message 0x61 arrives again after 20000 ns"
            ]
        );
    }
}

/// The card's second window is that of the table. To fill it is the system's doing, not an access of the driver's.
#[test]
fn each_message_of_a_table_is_the_functions() {
    let card = CardDevice::new(MEMORY_DEFAULT, CardTiming::REAL).unwrap();
    let board = LocalBoard::new(&MemoryConfig::default(), vec![(EDU, Box::new(card))]).unwrap();
    let board = FaultyBoard::new(Box::new(board), EDU, None).unwrap();
    let function = Function::new(&board, EDU);
    let bars = function.bars().unwrap();
    let start = board.register_window().start;
    let windows = [start, start + bars[0].size];
    for (bar, window) in bars.iter().zip(windows) {
        function.assign(bar, window).unwrap();
    }
    let (on, off) = (command::MEMORY_SPACE | command::BUS_MASTER, 0);
    function.change_command(on, off).unwrap();
    let targets = [0, 1].map(|number| board.message_target(VECTOR + number));
    let msi_x = function.msi_x().unwrap().unwrap();
    let shim = board.shim();
    shim.arm_plan(&"drop@2,ones@access:13".parse().unwrap())
        .unwrap();
    function.enable_msi_x(&msi_x, windows[1], &targets).unwrap();
    let mut now = 0;
    let mut send = |message| {
        let control = (Direction::ToCard.window() + CHANNEL_CONTROL.offset()) as u64;
        let registers = [
            (INTERRUPT_ENABLE.offset() as u64, 0x300),
            (EVENT_MESSAGE.offset() as u64, message),
            (control, 0),
            (control, 1),
        ];
        for (register, value) in registers {
            board.write(windows[0] + register, 4, value).unwrap();
        }
        now += 1_000_000;
        events(&board, now)
    };
    let vector = |vector| [BoardEvent::Message { vector }];
    assert_eq!(send(1), vector(VECTOR + 1));
    assert_eq!(send(0), []);
    assert_eq!(
        send(2),
        vector(VECTOR),
        "an entry without a message of its own is the first"
    );
    let fired: Vec<String> = shim.fired().iter().map(ToString::to_string).collect();
    assert_eq!(
        fired,
        ["fault drop@2 at 2000.000 us, access 8: message 0x61 is lost"]
    );
}

#[test]
fn a_delayed_line_is_asserted_later_or_never() {
    let mut bench = Bench::twin("delay=1ms@1x2");
    bench.write(RAISE, 1);
    assert_eq!(bench.after(0), []);
    assert_eq!(bench.next(), (1_000_000, vec![bench.line(true)]));
    bench.acknowledge();
    assert_eq!(bench.after(0), [bench.line(false)]);
    bench.write(RAISE, 1);
    bench.after(0);
    bench.acknowledge();
    assert_eq!(bench.after(10_000_000), []);
    assert_eq!(bench.board.next_event(), None);
}

#[test]
fn a_line_is_asserted_again_until_the_driver_looks() {
    let mut bench = Bench::twin("duplicate=20us");
    bench.write(RAISE, 1);
    assert_eq!(bench.after(5), [bench.line(true)]);
    bench.acknowledge();
    assert_eq!(bench.after(0), [bench.line(false)]);
    assert_eq!(bench.next(), (20_005, vec![bench.line(true)]));
    assert_eq!(bench.read(PENDING), 0);
    assert_eq!(bench.next(), (20_005, vec![bench.line(false)]));
    assert_eq!(bench.board.next_event(), None);
}

#[test]
fn a_spurious_interrupt_comes_by_line_or_message() {
    let mut bench = Bench::twin("spurious@access:2,spurious@after:3us");
    assert_eq!(bench.next(), (3_000, vec![bench.line(true)]));
    assert_eq!(
        bench.next(),
        (13_000, vec![bench.line(false)]),
        "nobody looks"
    );
    bench.read(PENDING);
    assert_eq!(bench.after(0), []);
    bench.read(PENDING);
    assert_eq!(bench.after(0), [bench.line(true)]);
    bench.read(PENDING);
    assert_eq!(bench.after(0), [bench.line(false)]);

    let mut bench = bench.with_messages();
    bench.arm("spurious");
    assert_eq!(bench.after(0), [BoardEvent::Message { vector: VECTOR }]);
    // A function that can send nothing sends nothing, even for no reason.
    bench.set_master(false);
    bench.arm("spurious@after:1us");
    assert_eq!(bench.after(5_000), []);
    assert_eq!(bench.board.next_event(), None);
    bench.set_master(true);
    assert_eq!(bench.after(0), [BoardEvent::Message { vector: VECTOR }]);
}

#[test]
fn the_nth_read_of_a_register_is_corrupted() {
    for bench in benches("corrupt=0x24^0x101@2,corrupt=4=0xfffffffff") {
        bench.write(RAISE, 1);
        assert_eq!(
            [(); 3].map(|()| bench.read(PENDING)),
            [1, 0x100, 1],
            "the second only"
        );
        assert_eq!(bench.read(4), 0xffff_ffff, "no wider than it is read");
        assert_eq!(bench.read(4), 0);
        let first = bench.fired().remove(0);
        assert_eq!(
            first,
            "corrupt=0:0x24^0x101@2: 0x24 reads as 0x100, not 0x1"
        );
    }
}

#[test]
fn a_link_that_is_down_reads_all_ones_and_is_silent() {
    for mut bench in benches("ones@command:2") {
        assert!(bench.succeeds());
        let before = vec![0x5a; 16];
        bench.board.memory().write(bench.page, &before).unwrap();
        bench.write(RAISE, 1);
        assert_eq!(bench.after(0), [bench.line(true)]);
        bench.transfer(16, TO_MEMORY);
        assert!(!bench.shim.is_up());
        assert_eq!(bench.read(PENDING), 0xffff_ffff);
        assert_eq!(
            bench.board.read(bench.registers + 0x80, 8).unwrap(),
            u64::MAX
        );
        assert_eq!(bench.board.config_read(EDU, 4, 2).unwrap(), 0xffff);
        let function = Function::new(&bench.board, EDU);
        assert!(!function.is_present().unwrap());
        bench.set_master(true);
        bench.write(RAISE, 1);
        assert_eq!(bench.after(200_000_000), [bench.line(false)]);
        bench.board.wait(Duration::from_millis(20)).unwrap();
        assert_eq!(bench.after(200_000_000), []);
        assert_eq!(bench.memory()[..16], before, "the transfer is not made");
        assert_eq!(bench.fired(), ["ones@command:2: the link is down"]);
    }
}

#[test]
fn a_device_that_is_pulled_out_is_reported() {
    for mut bench in benches("unplug@interrupt:1x2") {
        bench.write(RAISE, 1);
        let removed = BoardEvent::Removed { function: EDU };
        assert_eq!(
            bench.after(0),
            [bench.line(true), bench.line(false), removed]
        );
        assert_eq!(bench.after(1_000_000), []);
        assert_eq!(bench.read(PENDING), 0xffff_ffff);
        assert_eq!(bench.shim.total(), 1);
    }
}

#[test]
fn a_fault_can_be_armed_for_now_and_disarmed() {
    let mut bench = Bench::twin("hang@5,drop");
    assert_eq!(bench.shim.armed(), 2);
    bench.shim.disarm();
    assert!(bench.succeeds());
    bench.arm("ones");
    bench.arm("unplug");
    assert_eq!(bench.after(0), [BoardEvent::Removed { function: EDU }]);
    let fired = bench.shim.fired();
    assert_eq!(
        fired[1].to_string(),
        "fault unplug at 200000.000 us, access 6: 00:04.0 is pulled out"
    );
}

#[test]
fn commands_are_not_guessed() {
    let board = LocalBoard::new(&MemoryConfig::default(), Vec::new()).unwrap();
    let board = FaultyBoard::new(Box::new(board), EDU, None).unwrap();
    let error = board.shim().arm("hang@2".parse().unwrap()).unwrap_err();
    assert!(matches!(error, ShimError::NoEngine { .. }));
    assert_eq!(
        error.to_string(),
        "hang@2: it is not known what a command of this device looks like"
    );
    assert_eq!(board.read(0xc000_0000, 4).unwrap(), 0xffff_ffff);
}
