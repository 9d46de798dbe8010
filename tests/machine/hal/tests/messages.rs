//! Several messages: how many a device is given and in which descriptors, and that each finds its service routine. With the
//! card, which has MSI-X, and with a device that has MSI alone.

mod support;
#[path = "support/wdm.rs"]
#[expect(dead_code, reason = "the driver of the PnP tests can do more")]
mod wdm;

use std::process::ExitCode;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};

use abi::card::register::{CHANNEL_CONTROL, EVENT_MESSAGE, INTERRUPT_CAUSE, INTERRUPT_ENABLE};
use abi::card::{Direction, MEMORY_DEFAULT};
use harness::Suite;
use machine_bus::pci::{ConfigSpace, Function, Header, capability};
use machine_bus::{CardDevice, CardTiming, Device, LocalBoard, MemoryConfig, Port};
use machine_hal::Config;
use machine_hal::pnp::{DriverPackage, HardwareValue, Node};
use machine_nt::io::driver;
use machine_nt::registry::Value;
use machine_nt::{counters, sched};
use nt_sys::*;

use support::{EDU, Rig, run_on};
use wdm::{CONNECT, SERVICE, STARTED};

/// Messages that have arrived.
static ARRIVED: Mutex<Vec<u32>> = Mutex::new(Vec::new());

fn arrived() -> Vec<u32> {
    for _ in 0..10 {
        sched::stall(10_000);
    }
    std::mem::take(&mut *ARRIVED.lock().unwrap())
}

fn note(message: u32) -> bool {
    ARRIVED.lock().unwrap().push(message);
    true
}

/// A line has to be released.
fn note_and_release(message: u32) -> bool {
    wdm::read(INTERRUPT_CAUSE.offset()) != 0 && note(message)
}

/// Runs `f` with `device` started by a driver whose INF says so of messages.
fn started(
    device: impl FnOnce() -> Box<dyn Device> + 'static,
    id: &'static str,
    values: &'static [(&str, u32)],
    f: impl FnOnce(&Rig, &Arc<Node>) + 'static,
) -> impl FnOnce() + 'static {
    move || {
        *SERVICE.lock().unwrap() = note;
        let memory = MemoryConfig::default();
        let board = LocalBoard::new(&memory, vec![(EDU, device())]).unwrap();
        run_on(board, Config::default(), move |rig| {
            let object = driver::create("wdm", 0..0);
            // SAFETY: the entry point of this driver.
            let status =
                unsafe { driver::initialize(object, wdm::driver_entry, std::ptr::null_mut()) };
            assert_eq!(status, STATUS_SUCCESS);
            let value = |&(name, number): &(&str, u32)| HardwareValue {
                subkey: r"Interrupt Management\MessageSignaledInterruptProperties".to_owned(),
                name: name.to_owned(),
                data: Value::dword(number),
            };
            rig.manager.add_driver(DriverPackage {
                service: "wdm".to_owned(),
                hardware_ids: vec![id.to_owned()],
                hardware: values.iter().map(value).collect(),
                driver: object,
            });
            let devices = rig.manager.start_devices();
            assert_eq!(devices[0].1, Ok(()));
            f(&rig, &devices[0].0);
            assert_eq!(rig.manager.remove(&devices[0].0), Ok(()));
        });
    }
}

fn card(
    values: &'static [(&str, u32)],
    f: impl FnOnce(&Rig, &Arc<Node>) + 'static,
) -> impl FnOnce() + 'static {
    let device = || -> Box<dyn Device> {
        Box::new(CardDevice::new(MEMORY_DEFAULT, CardTiming::REAL).unwrap())
    };
    started(device, abi::card::HARDWARE_ID, values, f)
}

/// Has the card report an error of a channel by this message: its channel is started without rings.
fn send(message: u32) {
    let control = Direction::ToCard.window() + CHANNEL_CONTROL.offset();
    wdm::write(INTERRUPT_ENABLE.offset(), 0x300);
    wdm::write(EVENT_MESSAGE.offset(), message);
    wdm::write(control, 0);
    wdm::write(control, 1);
}

fn descriptors() -> Vec<(u32, u32)> {
    STARTED.lock().unwrap().descriptors.clone()
}

const ON: (&str, u32) = ("MSISupported", 1);

fn each_message_has_a_descriptor_and_a_vector_of_its_own(_: &Rig, _: &Arc<Node>) {
    let descriptors = descriptors();
    assert_eq!(descriptors.len(), 3);
    let first = descriptors[0].0;
    assert_eq!(descriptors, [(first, 1), (first + 1, 1), (first + 2, 1)]);
}

fn each_message_arrives_at_its_own_routine(_: &Rig, _: &Arc<Node>) {
    for message in [2, 0, 1, 1] {
        send(message);
        assert_eq!(arrived(), [message]);
    }
    assert_eq!(counters().interrupts_unclaimed.get(), 0);
}

fn with_one_message_all_entries_are_it(_: &Rig, _: &Arc<Node>) {
    assert_eq!(descriptors().len(), 1);
    for message in [2, 0, 1] {
        send(message);
        assert_eq!(arrived(), [0]);
    }
}

fn without_messages_there_is_the_line(_: &Rig, _: &Arc<Node>) {
    *SERVICE.lock().unwrap() = note_and_release;
    assert!(!STARTED.lock().unwrap().message);
    assert_eq!(descriptors().len(), 1);
    send(2);
    assert_eq!(arrived(), [0]);
}

fn messages_arrive_after_sleep(rig: &Rig, _: &Arc<Node>) {
    assert_eq!(rig.manager.suspend(), Ok(()));
    assert_eq!(rig.manager.resume(), Ok(()));
    send(2);
    assert_eq!(arrived(), [2]);
}

fn messages_arrive_after_a_rebalance(rig: &Rig, node: &Arc<Node>) {
    assert_eq!(rig.manager.rebalance(node), Ok(()));
    for message in 0..3 {
        send(message);
        assert_eq!(arrived(), [message]);
    }
}

/// The second window is that of the table; its entries are of 16 bytes, and the last word of an entry masks it.
fn a_masked_message_waits(_: &Rig, _: &Arc<Node>) {
    let table = STARTED.lock().unwrap().windows[1].0;
    let mask = |masked: u32| {
        // SAFETY: the control word of entry 1.
        unsafe { ((table + 16 + 12) as *mut u32).write_volatile(masked) };
    };
    mask(1);
    send(1);
    assert!(arrived().is_empty());
    send(2);
    assert_eq!(arrived(), [2]);
    mask(0);
    assert_eq!(arrived(), [1]);
}

/// What the table of a connection to all messages says.
fn one_connection_for_all_messages(_: &Rig, _: &Arc<Node>) {
    let table = STARTED.lock().unwrap().interrupts[0] as *const IO_INTERRUPT_MESSAGE_INFO;
    // SAFETY: the table of the connection.
    assert_eq!(unsafe { (*table).MessageCount }, 3);
    // SAFETY: as above.
    let first = unsafe { (*table).MessageInfo[0] };
    assert_eq!(first.Vector, descriptors()[0].0);
    assert_eq!(
        first.TargetProcessorSet,
        (1 << sched::processor_count()) - 1
    );
    for message in [1, 2, 0] {
        send(message);
        assert_eq!(arrived(), [message]);
    }
}

/// Nothing but an MSI capability for 8 messages, and a register: what is written to it is sent.
struct Sender;

impl Device for Sender {
    fn name(&self) -> &str {
        "a sender of messages"
    }

    fn config_space(&self) -> ConfigSpace {
        let header = Header {
            vendor: 0x1234,
            device: 0x5678,
            subsystem_vendor: 0,
            subsystem: 0,
            revision: 0,
            class: 0,
            pin: 1,
        };
        ConfigSpace::new(&header)
            .with_memory_bar(0, machine_bus::pci::BarKind::Memory32, 0x1000)
            .with_msi(8)
    }

    fn read(&mut self, _bar: u8, _offset: u64, _size: u8, _port: &mut dyn Port) -> u64 {
        0
    }

    fn write(&mut self, _bar: u8, _offset: u64, _size: u8, value: u64, port: &mut dyn Port) {
        port.send_message(value as u16);
    }

    fn reset(&mut self, _port: &mut dyn Port) {}

    fn next_event(&self) -> Option<u64> {
        None
    }

    fn run(&mut self, _port: &mut dyn Port) {}
}

fn sender(
    values: &'static [(&str, u32)],
    f: impl FnOnce(&Rig, &Arc<Node>) + 'static,
) -> impl FnOnce() + 'static {
    started(|| Box::new(Sender), r"PCI\VEN_1234&DEV_5678", values, f)
}

/// The messages that are sent are those that were enabled; a higher number is taken modulo their count.
fn msi_has(count: u32) -> impl FnOnce(&Rig, &Arc<Node>) {
    move |rig, _| {
        let descriptors = descriptors();
        assert_eq!(descriptors.len(), 1);
        assert_eq!(descriptors[0].1, count);
        assert_eq!(descriptors[0].0 % count, 0);
        let function = Function::new(&*rig.board, EDU);
        let offset = function
            .capability(capability::MSI)
            .unwrap()
            .unwrap()
            .offset;
        let control = function.read16(offset + 2).unwrap();
        assert_eq!(1 << (control >> 4 & 7), count);
        for message in 0..count {
            wdm::write(0, message);
            assert_eq!(arrived(), [message]);
        }
    }
}

fn main() -> ExitCode {
    let all: &[_] = &[ON];
    let connected = |how: u32, test: Box<dyn FnOnce()>| {
        move || {
            CONNECT.store(how, SeqCst);
            test();
        }
    };
    Suite::new()
        .passes(
            "each_message_has_a_descriptor_and_a_vector_of_its_own",
            card(all, each_message_has_a_descriptor_and_a_vector_of_its_own),
        )
        .passes(
            "each_message_arrives_at_its_own_routine",
            card(all, each_message_arrives_at_its_own_routine),
        )
        .passes(
            "with_one_message_all_entries_are_it",
            card(
                &[ON, ("MessageNumberLimit", 1)],
                with_one_message_all_entries_are_it,
            ),
        )
        .passes(
            "without_messages_there_is_the_line",
            card(
                &[("MSISupported", 0), ("MessageNumberLimit", 3)],
                without_messages_there_is_the_line,
            ),
        )
        .passes(
            "messages_arrive_after_sleep",
            card(all, messages_arrive_after_sleep),
        )
        .passes(
            "messages_arrive_after_a_rebalance",
            card(all, messages_arrive_after_a_rebalance),
        )
        .passes("a_masked_message_waits", card(all, a_masked_message_waits))
        .passes(
            "one_connection_for_all_messages",
            connected(
                CONNECT_MESSAGE_BASED,
                Box::new(card(all, one_connection_for_all_messages)),
            ),
        )
        .passes("msi_has_all_its_messages", sender(all, msi_has(8)))
        .passes(
            "msi_is_granted_a_power_of_two",
            sender(&[ON, ("MessageNumberLimit", 7)], msi_has(4)),
        )
        .passes(
            "msi_with_a_limit_of_one",
            sender(&[ON, ("MessageNumberLimit", 1)], msi_has(1)),
        )
        .main()
}
