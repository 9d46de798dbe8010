//! Devices that fail, in the machine: plans in its configuration, faults armed while it runs, and what is told of them.

mod support;

use std::process::ExitCode;
use std::time::Duration;

use harness::{Suite, bug_check, machine_stop};
use machine::fault::{Fault, FaultKind, Moment, Shim};
use machine::{Config, Device, MachineError};
use machine_hal::pnp::Phase;
use support::edu::{self, Steps};

/// DRIVER_VERIFIER_DMA_VIOLATION, of a device that leaves its mappings.
const DMA_VIOLATION: u32 = 0xE6;
const IOMMU_FAULT: u64 = 0x26;

const TAMPERED: u64 = 0xF;

/// What a device in QEMU writes astray while it fills 100 bytes at the start of a bounce page, and which check finds it.
/// The last two are found after the transfer: when the adapter is put, and when the page is used again.
const ASTRAY: [(&str, &str, u64); 6] = [
    ("into_the_tag_after_the_data", "stray=+0x8", 2),
    ("into_the_rest_of_the_page", "stray=+0x200", 5),
    ("into_the_page_before", "stray=-0x1000", 4),
    ("into_the_page_after", "stray=+0x1000", 5),
    ("into_a_free_map_register", "stray=+0x2000", 3),
    ("after_the_transfer", "late=1ms", 3),
];

/// A test, to be run on each board.
type Test = (&'static str, fn(Device));

const EVERYWHERE: [Test; 4] = [
    ("faults_of_a_plan_strike", faults_of_a_plan_strike),
    (
        "faults_are_armed_while_the_machine_runs",
        faults_are_armed_while_the_machine_runs,
    ),
    ("a_pulled_device_is_removed", a_pulled_device_is_removed),
    (
        "a_device_that_is_gone_at_once_is_not_found",
        a_device_that_is_gone_at_once_is_not_found,
    ),
];

fn main() -> ExitCode {
    let suite = Suite::new()
        .stops(
            "a_stop_tells_of_the_faults_before_it",
            machine_stop("deadlock")
                .says("fault: an interrupt is lost, access")
                .says("faults of the device:\n  fault drop@2 at "),
            || write_two_transfers("drop@2"),
        )
        .stops(
            "the_twins_stray_dma_is_a_bug_check",
            bug_check(DMA_VIOLATION)
                .p1(IOMMU_FAULT)
                .says("fault: DMA goes astray, access")
                .says("  fault stray=+0x100000 at "),
            || write_two_transfers("stray=+0x100000"),
        );
    let suite = ASTRAY
        .into_iter()
        .fold(suite, |suite, (name, plan, check)| {
            suite
                .stops(
                    format!("edu::writes_{name}_are_found"),
                    bug_check(DMA_VIOLATION)
                        .p1(TAMPERED)
                        .p2(check)
                        .says("faults of the device:\n  fault "),
                    move || read_twice(Device::Edu, plan),
                )
                .stops(
                    format!("edu-twin::writes_{name}_are_stopped"),
                    bug_check(DMA_VIOLATION).p1(IOMMU_FAULT).p4(1),
                    move || read_twice(Device::EduTwin, plan),
                )
        });
    let boards = [Device::EduTwin, Device::Edu];
    boards
        .into_iter()
        .flat_map(|board| EVERYWHERE.map(|(name, test)| (board, name, test)))
        .fold(suite, |suite, (board, name, test)| {
            suite.passes(format!("{}::{name}", board.name()), move || test(board))
        })
        .main()
}

/// The sound driver on `board`, with a plan.
fn with_plan(board: Device, plan: &'static str) -> impl FnOnce(&mut Config) {
    move |config| {
        config.device = board;
        config.faults = plan.parse().expect("a plan");
    }
}

fn write_two_transfers(plan: &'static str) {
    edu::configured(
        Steps::default(),
        with_plan(Device::EduTwin, plan),
        |device| drop(device.write(0, 2 * edu::TRANSFER)),
    );
}

/// Has the device fill 100 bytes of memory, and, some time later, once more.
fn read_twice(board: Device, plan: &'static str) {
    edu::configured(Steps::default(), with_plan(board, plan), |device| {
        for _ in 0..2 {
            assert_eq!(device.read(0, 100).result, Ok(100));
            device.machine.sleep(Duration::from_millis(5));
        }
    });
}

/// The faults that have struck, as in a plan.
fn struck(shim: &Shim) -> Vec<String> {
    let fired = shim.fired();
    fired.iter().map(|fired| fired.fault.to_string()).collect()
}

/// A sound driver stands interrupts that come twice, late or for nothing.
fn faults_of_a_plan_strike(board: Device) {
    let plan = "duplicate=2ms@2,delay=3ms@3,spurious@command:4";
    edu::configured(Steps::default(), with_plan(board, plan), |device| {
        for round in 0..2 {
            assert_eq!(device.write(round, 3000).result, Ok(3000));
            let read = device.read(round, 3000);
            assert_eq!(read.result, Ok(3000));
            assert!(read.buffer.iter().zip(edu::pattern()).all(|(a, b)| *a == b));
        }
        let shim = device.machine.faults();
        let expected = ["duplicate=2ms@2", "delay=3ms@3", "spurious@command:4"];
        assert_eq!(struck(shim), expected);
        assert_eq!(shim.armed(), 0);
    });
}

fn faults_are_armed_while_the_machine_runs(board: Device) {
    edu::configured(Steps::default(), with_plan(board, ""), |device| {
        let shim = device.machine.faults();
        assert_eq!(device.write(0, 100).result, Ok(100));
        assert_eq!(shim.total(), 0);
        let delay = FaultKind::DelayInterrupt { by_ns: 1_000_000 };
        shim.arm(Fault::at(delay, Moment::Interrupt(1))).unwrap();
        shim.arm(Fault::now(FaultKind::Hang)).unwrap();
        shim.disarm();
        assert_eq!(device.write(0, 100).result, Ok(100));
        assert_eq!(shim.total(), 0, "what is disarmed does not strike");
        shim.arm(Fault::now(delay)).unwrap();
        assert_eq!(device.write(0, 100).result, Ok(100));
        assert_eq!(struck(shim), ["delay=1ms"]);
    });
}

/// Nobody has asked for the removal: the bus tells the PnP manager, which tells the driver.
fn a_pulled_device_is_removed(board: Device) {
    edu::configured(Steps::default(), with_plan(board, ""), |device| {
        let machine = device.machine;
        assert_eq!(device.write(0, 100).result, Ok(100));
        machine.faults().arm(Fault::now(FaultKind::Unplug)).unwrap();
        machine.settle();
        assert_eq!(machine.phase(), Some(Phase::SurpriseRemoved));
        assert!(!machine.faults().is_up());
        device.write(0, 100).result.expect_err("it is gone");
    });
}

fn a_device_that_is_gone_at_once_is_not_found(board: Device) {
    edu::machine(Steps::default(), with_plan(board, "unplug"), |machine| {
        let error = machine.start().expect_err("it is gone");
        assert!(matches!(error, MachineError::NoDevice), "{error}");
    });
}
