//! The PnP manager, the PCI bus driver and interrupts, with a driver that has no framework.

mod support;
#[path = "support/wdm.rs"]
mod wdm;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use harness::{Suite, machine_stop};
use machine_bus::pci::{Function, command};
use machine_hal::Config;
use machine_hal::pnp::{DriverPackage, HardwareValue, Node, Phase, PnpError};
use machine_nt::io::driver;
use machine_nt::registry::{self, Value};
use machine_nt::{counters, sched};
use nt_sys::*;

use support::{EDU, Rig, run};
use wdm::{CLAIMED, CONNECT, LOG, REFUSED, STARTED, STATE, register};

/// A machine with the driver installed, which may use messages or not.
fn installed(messages: bool, f: impl FnOnce(&Rig) + 'static) -> impl FnOnce() + 'static {
    move || {
        run(Config::default(), move |rig| {
            let object = driver::create("wdm", 0..0);
            // SAFETY: the entry point of this driver.
            let status =
                unsafe { driver::initialize(object, wdm::driver_entry, std::ptr::null_mut()) };
            assert_eq!(status, STATUS_SUCCESS);
            rig.manager.add_driver(DriverPackage {
                service: "wdm".to_owned(),
                hardware_ids: vec![r"PCI\VEN_1234&DEV_11E8".to_owned()],
                hardware: vec![HardwareValue {
                    subkey: r"Interrupt Management\MessageSignaledInterruptProperties".to_owned(),
                    name: "MSISupported".to_owned(),
                    data: Value::dword(messages.into()),
                }],
                driver: object,
            });
            f(&rig);
        });
    }
}

/// The same, started.
fn started(messages: bool, f: impl FnOnce(&Rig, &Arc<Node>) + 'static) -> impl FnOnce() + 'static {
    installed(messages, |rig| {
        let devices = rig.manager.start_devices();
        assert_eq!(devices.len(), 1);
        assert_eq!(devices[0].1, Ok(()));
        assert_eq!(devices[0].0.phase(), Phase::Started);
        f(rig, &devices[0].0);
    })
}

fn log() -> Vec<u32> {
    std::mem::take(&mut *LOG.lock().unwrap())
}

fn command_register(rig: &Rig) -> u16 {
    Function::new(&*rig.board, EDU).command().unwrap()
}

const ENABLED: u16 = command::MEMORY_SPACE | command::BUS_MASTER;

fn a_device_is_started(rig: &Rig, node: &Arc<Node>) {
    assert_eq!(
        log(),
        [
            IRP_MN_FILTER_RESOURCE_REQUIREMENTS,
            IRP_MN_START_DEVICE,
            IRP_MN_QUERY_CAPABILITIES,
            IRP_MN_QUERY_PNP_DEVICE_STATE,
            IRP_MN_QUERY_DEVICE_RELATIONS,
        ]
    );
    assert_eq!(command_register(rig) & ENABLED, ENABLED);
    assert_eq!(wdm::read(0), 0x0100_00ED);
    assert!(
        node.instance_path
            .starts_with(r"PCI\VEN_1234&DEV_11E8&SUBSYS_11001AF4&REV_10\")
    );
    let key = format!(
        r"{}\Device Parameters\Interrupt Management\MessageSignaledInterruptProperties",
        node.hardware_key()
    );
    assert_eq!(registry::value(&key, "MSISupported"), Some(Value::dword(1)));
    assert!(counters().mmio_reads.get() >= 1);
}

/// Raises an interrupt and waits for it.
fn interrupt() {
    let before = CLAIMED.load(SeqCst);
    wdm::write(register::RAISE, 1);
    while CLAIMED.load(SeqCst) == before {
        sched::stall(1000);
    }
    assert_eq!(wdm::read(register::STATUS), 0);
    assert_eq!(CLAIMED.load(SeqCst), before + 1);
}

fn interrupts_arrive(_: &Rig, _: &Arc<Node>) {
    for _ in 0..3 {
        interrupt();
    }
    assert_eq!(counters().interrupts_unclaimed.get(), 0);
}

fn messages_arrive(rig: &Rig, node: &Arc<Node>) {
    assert!(STARTED.lock().unwrap().message);
    interrupts_arrive(rig, node);
}

fn lines_arrive(rig: &Rig, node: &Arc<Node>) {
    assert!(!STARTED.lock().unwrap().message);
    interrupts_arrive(rig, node);
}

/// Started with an interrupt connected in another way.
fn connected(how: u32, messages: bool, ends_as: u32) -> impl FnOnce() + 'static {
    let run = started(messages, move |rig, node| {
        assert_eq!(CONNECT.load(SeqCst), ends_as);
        interrupts_arrive(rig, node);
        assert_eq!(rig.manager.remove(node), Ok(()));
    });
    move || {
        CONNECT.store(how, SeqCst);
        run();
    }
}

/// While inactive, a line waits; a message would be lost.
fn an_inactive_interrupt_waits(_: &Rig, _: &Arc<Node>) {
    wdm::report(false);
    wdm::write(register::RAISE, 1);
    for _ in 0..100 {
        sched::stall(1000);
    }
    assert_eq!(CLAIMED.load(SeqCst), 0);
    wdm::report(true);
    while CLAIMED.load(SeqCst) == 0 {
        sched::stall(1000);
    }
}

/// Moves 64 bytes to edu and back by DMA, through an adapter.
fn a_transfer_there_and_back(_: &Rig, node: &Arc<Node>) {
    let adapter = support::Adapter::get(node.device(), support::packet(0x1000)).unwrap();
    let mut buffer = support::Buffer::new(0x1000);
    let text: Vec<u8> = (0..64).collect();
    buffer.bytes()[..64].copy_from_slice(&text);
    for write in [true, false] {
        let base = adapter.registers(1);
        let (_, list, _) = adapter.map_ex(buffer.mdl, base, 0, 64, write, 1);
        let logical = list[0].0 as u32;
        let before = CLAIMED.load(SeqCst);
        wdm::write(register::SOURCE, if write { logical } else { 0x40000 });
        wdm::write(register::DESTINATION, if write { 0x40000 } else { logical });
        wdm::write(register::COUNT, 64);
        wdm::write(register::COMMAND, 0b101 | if write { 0 } else { 0b10 });
        while CLAIMED.load(SeqCst) == before {
            sched::stall(1_000_000);
        }
        assert_eq!(
            adapter.flush_ex(buffer.mdl, base, 0, 64, write),
            STATUS_SUCCESS
        );
        adapter.free_registers(base, 1);
        if write {
            buffer.bytes().fill(0);
        }
    }
    assert_eq!(buffer.bytes()[..64], text);
    adapter.put();
}

fn a_rebalance_moves_the_registers(rig: &Rig, node: &Arc<Node>) {
    let before = STARTED.lock().unwrap().physical;
    log();
    assert_eq!(rig.manager.rebalance(node), Ok(()));
    let requests = log();
    assert_eq!(
        requests[..3],
        [
            IRP_MN_QUERY_STOP_DEVICE,
            IRP_MN_STOP_DEVICE,
            IRP_MN_FILTER_RESOURCE_REQUIREMENTS
        ]
    );
    assert_eq!(requests[3], IRP_MN_START_DEVICE);
    assert_ne!(STARTED.lock().unwrap().physical, before);
    assert_eq!(wdm::read(0), 0x0100_00ED);
    interrupt();
}

fn a_refused_stop_changes_nothing(rig: &Rig, node: &Arc<Node>) {
    log();
    REFUSED.store(IRP_MN_QUERY_STOP_DEVICE, SeqCst);
    assert_eq!(
        rig.manager.rebalance(node),
        Err(PnpError::QueryStop(STATUS_UNSUCCESSFUL))
    );
    assert_eq!(log(), [IRP_MN_QUERY_STOP_DEVICE, IRP_MN_CANCEL_STOP_DEVICE]);
    assert_eq!(node.phase(), Phase::Started);
    interrupt();
}

fn a_device_is_removed_and_enabled(rig: &Rig, node: &Arc<Node>) {
    log();
    REFUSED.store(IRP_MN_QUERY_REMOVE_DEVICE, SeqCst);
    assert_eq!(
        rig.manager.remove(node),
        Err(PnpError::QueryRemove(STATUS_UNSUCCESSFUL))
    );
    REFUSED.store(u32::MAX, SeqCst);
    assert_eq!(rig.manager.remove(node), Ok(()));
    assert_eq!(
        log(),
        [
            IRP_MN_QUERY_REMOVE_DEVICE,
            IRP_MN_CANCEL_REMOVE_DEVICE,
            IRP_MN_QUERY_REMOVE_DEVICE,
            IRP_MN_REMOVE_DEVICE
        ]
    );
    assert_eq!(node.phase(), Phase::Removed);
    assert_eq!(command_register(rig) & ENABLED, 0);
    assert_eq!(rig.manager.enable(node), Ok(()));
    interrupt();
}

fn a_device_is_pulled_out(rig: &Rig, node: &Arc<Node>) {
    log();
    rig.board.unplug(EDU).unwrap();
    assert_eq!(wdm::read(0), u32::MAX);
    assert_eq!(rig.manager.surprise_remove(node), Ok(()));
    assert_eq!(log(), [IRP_MN_SURPRISE_REMOVAL, IRP_MN_REMOVE_DEVICE]);
    assert_eq!(node.phase(), Phase::Removed);
    assert!(rig.manager.devices().is_empty());
}

fn a_failed_device_is_removed(rig: &Rig, node: &Arc<Node>) {
    log();
    STATE.store(PNP_DEVICE_FAILED, SeqCst);
    // SAFETY: as a driver would.
    unsafe { machine_nt::exports::IoInvalidateDeviceState(node.device()) };
    rig.manager.settle();
    assert_eq!(
        log(),
        [
            IRP_MN_QUERY_PNP_DEVICE_STATE,
            IRP_MN_SURPRISE_REMOVAL,
            IRP_MN_REMOVE_DEVICE
        ]
    );
    assert_eq!(rig.manager.devices().len(), 1);
}

fn the_system_sleeps(rig: &Rig, _: &Arc<Node>) {
    let request =
        |minor, kind: i32, state: i32| 0x100 | minor | (kind as u32) << 12 | (state as u32) << 16;
    let (system, device) = (
        _POWER_STATE_TYPE::SystemPowerState,
        _POWER_STATE_TYPE::DevicePowerState,
    );
    let asleep = _SYSTEM_POWER_STATE::PowerSystemSleeping3;
    log();
    assert_eq!(rig.manager.suspend(), Ok(()));
    assert_eq!(
        log(),
        [
            request(IRP_MN_QUERY_POWER, system, asleep),
            request(IRP_MN_SET_POWER, system, asleep),
            request(IRP_MN_SET_POWER, device, _DEVICE_POWER_STATE::PowerDeviceD3),
        ]
    );
    assert_eq!(command_register(rig) & ENABLED, 0);
    assert_eq!(wdm::read(0), u32::MAX, "asleep it does not answer");
    assert_eq!(rig.manager.resume(), Ok(()));
    assert_eq!(
        log(),
        [
            request(
                IRP_MN_SET_POWER,
                system,
                _SYSTEM_POWER_STATE::PowerSystemWorking
            ),
            request(IRP_MN_SET_POWER, device, _DEVICE_POWER_STATE::PowerDeviceD0),
        ]
    );
    interrupt();
}

fn a_failed_start_is_undone(rig: &Rig) {
    REFUSED.store(IRP_MN_START_DEVICE, SeqCst);
    let devices = rig.manager.start_devices();
    assert_eq!(devices[0].1, Err(PnpError::Start(STATUS_UNSUCCESSFUL)));
    assert_eq!(
        log(),
        [
            IRP_MN_FILTER_RESOURCE_REQUIREMENTS,
            IRP_MN_START_DEVICE,
            IRP_MN_REMOVE_DEVICE
        ]
    );
    assert_eq!(devices[0].0.phase(), Phase::Failed(STATUS_UNSUCCESSFUL));
    assert_eq!(command_register(rig) & ENABLED, 0);
    REFUSED.store(u32::MAX, SeqCst);
    assert_eq!(rig.manager.enable(&devices[0].0), Ok(()));
}

fn a_failed_add_device(rig: &Rig) {
    REFUSED.store(IRP_MJ_PNP << 8, SeqCst);
    let devices = rig.manager.start_devices();
    assert_eq!(devices[0].1, Err(PnpError::AddDevice(STATUS_UNSUCCESSFUL)));
    assert!(log().is_empty());
}

/// The bus interface, asked as a driver asks.
fn configuration_space(rig: &Rig, node: &Arc<Node>) {
    let function = machine_hal::pci::device(node.pdo).unwrap();
    let mut bytes = [0; 6];
    assert_eq!(function.read_config(0, &mut bytes), 6);
    assert_eq!(bytes[..4], [0x34, 0x12, 0xE8, 0x11]);
    assert_eq!(function.read_config(254, &mut bytes), 2);
    let off = (command_register(rig) & !command::BUS_MASTER).to_le_bytes();
    assert_eq!(function.write_config(4, &off), 2);
    assert_eq!(command_register(rig) & ENABLED, command::MEMORY_SPACE);
}

fn main() -> ExitCode {
    Suite::new()
        .passes("a_device_is_started", started(true, a_device_is_started))
        .passes("messages_arrive", started(true, messages_arrive))
        .passes("lines_arrive", started(false, lines_arrive))
        .passes(
            "a_transfer_there_and_back",
            started(true, a_transfer_there_and_back),
        )
        .passes(
            "a_rebalance_moves_the_registers",
            started(true, a_rebalance_moves_the_registers),
        )
        .passes(
            "a_rebalance_with_a_line",
            started(false, a_rebalance_moves_the_registers),
        )
        .passes(
            "a_refused_stop_changes_nothing",
            started(true, a_refused_stop_changes_nothing),
        )
        .passes(
            "a_device_is_removed_and_enabled",
            started(true, a_device_is_removed_and_enabled),
        )
        .passes(
            "a_device_is_pulled_out",
            started(true, a_device_is_pulled_out),
        )
        .passes(
            "a_failed_device_is_removed",
            started(true, a_failed_device_is_removed),
        )
        .passes("the_system_sleeps", started(true, the_system_sleeps))
        .passes(
            "the_system_sleeps_with_a_line",
            started(false, the_system_sleeps),
        )
        .passes(
            "a_failed_start_is_undone",
            installed(true, a_failed_start_is_undone),
        )
        .passes("a_failed_add_device", installed(true, a_failed_add_device))
        .passes("configuration_space", started(true, configuration_space))
        .passes(
            "all_messages_at_once",
            connected(CONNECT_MESSAGE_BASED, true, CONNECT_MESSAGE_BASED),
        )
        .passes(
            "a_line_instead_of_messages",
            connected(CONNECT_MESSAGE_BASED, false, CONNECT_LINE_BASED),
        )
        .passes(
            "the_line",
            connected(CONNECT_LINE_BASED, false, CONNECT_LINE_BASED),
        )
        .passes(
            "an_inactive_interrupt_waits",
            started(false, an_inactive_interrupt_waits),
        )
        .stops(
            "a_device_that_reaches_too_far",
            harness::bug_check(0xE6).p1(0x26).p3(0x123_4000).p4(0),
            started(true, |_, _| {
                wdm::write(register::SOURCE, 0x123_4000);
                wdm::write(register::DESTINATION, 0x40000);
                wdm::write(register::COUNT, 4);
                wdm::write(register::COMMAND, 1);
                loop {
                    sched::stall(1_000_000);
                }
            }),
        )
        .stops(
            "a_storm",
            machine_stop("interrupt storm"),
            started(false, |_, _| {
                // The service routine no longer finds the cause: its registers are those of another device now.
                STARTED.lock().unwrap().registers += 0x1000;
                let registers = STARTED.lock().unwrap().registers - 0x1000;
                // SAFETY: a register of the device.
                unsafe { ((registers + register::RAISE) as *mut u32).write_volatile(1) };
                loop {
                    sched::stall(1000);
                }
            }),
        )
        .main()
}
