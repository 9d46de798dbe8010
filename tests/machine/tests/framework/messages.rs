//! A device with several messages: which interrupt object has which, when there are as many as objects and when there are
//! fewer. The driver makes three interrupts for the card, in EvtDriverDeviceAdd or in EvtDevicePrepareHardware.

use std::cell::{Cell, RefCell};
use std::ptr;

use abi::card;
use abi::card::register::{CHANNEL_CONTROL, EVENT_MESSAGE, INTERRUPT_CAUSE, INTERRUPT_ENABLE};
use harness::Suite;
use machine::ddi;
use machine::inf::{RegistryData, RegistryValue};
use machine::nt_sys::*;
use machine::testdriver::TestDriver;
use machine::{Config, Device, DriverSource, Interrupts, Machine};
use machine_nt::exports::{KeDelayExecutionThread, MmMapIoSpaceEx, MmUnmapIoSpace};

pub fn tests(suite: Suite) -> Suite {
    suite
        .passes(
            "each_interrupt_has_a_message_of_its_own",
            each_interrupt_has_a_message_of_its_own,
        )
        .passes(
            "each_service_routine_is_told_its_message",
            each_service_routine_is_told_its_message,
        )
        .passes(
            "interrupts_made_with_their_descriptors_have_their_messages",
            interrupts_made_with_their_descriptors_have_their_messages,
        )
        .passes(
            "with_one_message_the_other_interrupts_are_not_connected",
            with_one_message_the_other_interrupts_are_not_connected,
        )
        .passes(
            "with_the_line_the_other_interrupts_are_not_connected",
            with_the_line_the_other_interrupts_are_not_connected,
        )
        .passes(
            "all_messages_are_back_after_sleep",
            all_messages_are_back_after_sleep,
        )
        .passes(
            "a_rebalance_gives_each_interrupt_a_message_again",
            a_rebalance_gives_each_interrupt_a_message_again,
        )
        .passes(
            "other_messages_come_while_one_interrupt_is_disabled",
            other_messages_come_while_one_interrupt_is_disabled,
        )
}

thread_local! {
    /// The interrupts are made when their descriptors are there.
    static LATE: Cell<bool> = const { Cell::new(false) };
    static INTERRUPTS: RefCell<Vec<WDFINTERRUPT>> = const { RefCell::new(Vec::new()) };
    static LOG: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static REGISTERS: Cell<*mut u8> = const { Cell::new(ptr::null_mut()) };
}

/// How many interrupts the driver makes.
const COUNT: usize = 3;

fn record(line: String) {
    LOG.with_borrow_mut(|log| log.push(line));
}

fn recorded() -> Vec<String> {
    LOG.take()
}

fn interrupt(index: usize) -> WDFINTERRUPT {
    INTERRUPTS.with_borrow(|all| all[index])
}

fn index_of(interrupt: WDFINTERRUPT) -> usize {
    let index = INTERRUPTS.with_borrow(|all| all.iter().position(|one| *one == interrupt));
    index.expect("an interrupt of the driver")
}

unsafe extern "win64" fn isr(interrupt: WDFINTERRUPT, message: ULONG) -> BOOLEAN {
    if info(index_of(interrupt)).MessageSignaled == 0 {
        let cause = REGISTERS.get().add(INTERRUPT_CAUSE.offset());
        if cause.cast::<u32>().read_volatile() == 0 {
            return 0;
        }
    }
    record(format!("isr {} message {message}", index_of(interrupt)));
    ddi!(WdfInterruptQueueDpcForIsr(interrupt));
    1
}

unsafe extern "win64" fn dpc(interrupt: WDFINTERRUPT, _device: WDFOBJECT) {
    record(format!("dpc {}", index_of(interrupt)));
}

unsafe extern "win64" fn enable(interrupt: WDFINTERRUPT, _device: WDFDEVICE) -> NTSTATUS {
    record(format!("enable {}", index_of(interrupt)));
    STATUS_SUCCESS
}

unsafe extern "win64" fn disable(interrupt: WDFINTERRUPT, _device: WDFDEVICE) -> NTSTATUS {
    record(format!("disable {}", index_of(interrupt)));
    STATUS_SUCCESS
}

type Descriptor = *mut CM_PARTIAL_RESOURCE_DESCRIPTOR;

unsafe fn create_interrupt(device: WDFDEVICE, raw: Descriptor, translated: Descriptor) {
    let mut config = WDF_INTERRUPT_CONFIG {
        Size: size_of::<WDF_INTERRUPT_CONFIG>() as ULONG,
        EvtInterruptIsr: Some(isr),
        EvtInterruptDpc: Some(dpc),
        EvtInterruptEnable: Some(enable),
        EvtInterruptDisable: Some(disable),
        InterruptRaw: raw,
        InterruptTranslated: translated,
        ShareVector: _WDF_TRI_STATE::WdfUseDefault,
        ..Default::default()
    };
    let mut interrupt = ptr::null_mut();
    let status = ddi!(WdfInterruptCreate(
        device,
        &mut config,
        ptr::null_mut(),
        &mut interrupt
    ));
    assert_eq!(status, STATUS_SUCCESS, "WdfInterruptCreate");
    INTERRUPTS.with_borrow_mut(|all| all.push(interrupt));
}

unsafe extern "win64" fn device_add(_driver: WDFDRIVER, mut init: PWDFDEVICE_INIT) -> NTSTATUS {
    let mut events = WDF_PNPPOWER_EVENT_CALLBACKS {
        Size: size_of::<WDF_PNPPOWER_EVENT_CALLBACKS>() as ULONG,
        EvtDevicePrepareHardware: Some(prepare_hardware),
        EvtDeviceReleaseHardware: Some(release_hardware),
        ..Default::default()
    };
    ddi!(WdfDeviceInitSetPnpPowerEventCallbacks(init, &mut events));
    let mut device = ptr::null_mut();
    let status = ddi!(WdfDeviceCreate(&mut init, ptr::null_mut(), &mut device));
    assert_eq!(status, STATUS_SUCCESS, "WdfDeviceCreate");
    if !LATE.get() {
        for _ in 0..COUNT {
            create_interrupt(device, ptr::null_mut(), ptr::null_mut());
        }
    }
    STATUS_SUCCESS
}

unsafe extern "win64" fn prepare_hardware(
    device: WDFDEVICE,
    raw: WDFCMRESLIST,
    translated: WDFCMRESLIST,
) -> NTSTATUS {
    for index in 0..ddi!(WdfCmResourceListGetCount(translated)) {
        let descriptor = ddi!(WdfCmResourceListGetDescriptor(translated, index));
        let kind = u32::from((*descriptor).Type);
        if kind == CmResourceTypeMemory && REGISTERS.get().is_null() {
            let start = (*descriptor).u.Memory.Start;
            let length = card::REGISTERS_LENGTH as SIZE_T;
            let registers = MmMapIoSpaceEx(start, length, PAGE_READWRITE | PAGE_NOCACHE);
            REGISTERS.set(registers.cast());
        } else if kind == CmResourceTypeInterrupt && LATE.get() {
            let raw = ddi!(WdfCmResourceListGetDescriptor(raw, index));
            create_interrupt(device, raw, descriptor);
        }
    }
    STATUS_SUCCESS
}

unsafe extern "win64" fn release_hardware(
    _device: WDFDEVICE,
    _translated: WDFCMRESLIST,
) -> NTSTATUS {
    let registers = REGISTERS.replace(ptr::null_mut());
    MmUnmapIoSpace(registers.cast(), card::REGISTERS_LENGTH as SIZE_T);
    STATUS_SUCCESS
}

/// Runs `test` with the card started, its INF granting `limit` messages, and nothing recorded.
fn started(limit: u32, configure: impl FnOnce(&mut Config), test: impl FnOnce(&Machine) + 'static) {
    let driver = TestDriver {
        device_add: Some(device_add),
        ..TestDriver::default()
    };
    let mut config = Config::new(DriverSource::Test(driver));
    config.device = Device::Card;
    config.inf.hardware_ids = vec![card::HARDWARE_ID.to_owned()];
    let own = |value: &RegistryValue| value.name == "MessageNumberLimit";
    for value in config.inf.hardware.iter_mut().filter(|value| own(value)) {
        value.data = RegistryData::Dword(limit);
    }
    configure(&mut config);
    machine::run(config, |machine| {
        machine.start().expect("the card starts");
        test(machine);
        machine.shut_down();
    })
    .expect("a machine");
}

/// The card reports an error of a channel, started without rings, by this message; what the driver then recorded.
fn send(message: u32) -> Vec<String> {
    use card::Direction::ToCard;
    let registers = [
        (INTERRUPT_ENABLE.offset(), 0x300),
        (EVENT_MESSAGE.offset(), message),
        (ToCard.window() + CHANNEL_CONTROL.offset(), 0),
        (ToCard.window() + CHANNEL_CONTROL.offset(), 1),
    ];
    recorded();
    for (register, value) in registers {
        unsafe {
            let register = REGISTERS.get().add(register).cast::<u32>();
            register.write_volatile(value);
        }
    }
    let mut millisecond = LARGE_INTEGER { QuadPart: -10_000 };
    unsafe {
        KeDelayExecutionThread(_MODE::KernelMode as KPROCESSOR_MODE, 0, &mut millisecond);
    }
    recorded()
}

fn served(index: usize, message: u32) -> [String; 2] {
    [
        format!("isr {index} message {message}"),
        format!("dpc {index}"),
    ]
}

fn info(index: usize) -> WDF_INTERRUPT_INFO {
    let mut info = WDF_INTERRUPT_INFO {
        Size: size_of::<WDF_INTERRUPT_INFO>() as ULONG,
        ..Default::default()
    };
    unsafe { ddi!(WdfInterruptGetInfo(interrupt(index), &mut info)) };
    info
}

fn is_connected(index: usize) -> bool {
    !unsafe { ddi!(WdfInterruptWdmGetInterrupt(interrupt(index))) }.is_null()
}

fn each_interrupt_has_a_message_of_its_own() {
    started(
        3,
        |_| {},
        |_| {
            let first = info(0).Vector;
            for index in 0..COUNT {
                let info = info(index);
                assert!(is_connected(index));
                assert_eq!(info.MessageNumber, index as ULONG);
                assert_eq!(info.Vector, first + index as ULONG);
                assert_eq!(info.MessageSignaled, 1);
                assert_eq!(info.Mode, _KINTERRUPT_MODE::Latched);
            }
        },
    );
}

fn each_service_routine_is_told_its_message() {
    started(
        3,
        |_| {},
        |_| {
            for message in [1, 2, 0, 2] {
                assert_eq!(send(message), served(message as usize, message));
            }
        },
    );
}

fn interrupts_made_with_their_descriptors_have_their_messages() {
    LATE.set(true);
    started(
        3,
        |_| {},
        |_| {
            for message in [1, 2, 0] {
                assert_eq!(send(message), served(message as usize, message));
            }
        },
    );
}

/// What is sent by a number for which no message was granted arrives as message 0.
fn with_one_message_the_other_interrupts_are_not_connected() {
    started(
        1,
        |_| {},
        |_| {
            assert_eq!(recorded(), ["enable 0"]);
            assert!(is_connected(0));
            for index in 1..COUNT {
                assert!(!is_connected(index));
                assert_eq!(info(index).Vector, 0);
            }
            for message in [2, 1, 0] {
                assert_eq!(send(message), served(0, 0));
            }
        },
    );
}

fn with_the_line_the_other_interrupts_are_not_connected() {
    let line = |config: &mut Config| config.interrupts = Interrupts::Line;
    started(3, line, |_| {
        assert_eq!(recorded(), ["enable 0"]);
        assert_eq!(info(0).MessageSignaled, 0);
        assert_eq!(info(0).Mode, _KINTERRUPT_MODE::LevelSensitive);
        assert!(!is_connected(1) && !is_connected(2));
        assert_eq!(send(2), served(0, 0));
    });
}

fn all_messages_are_back_after_sleep() {
    started(
        3,
        |_| {},
        |machine| {
            assert_eq!(recorded(), ["enable 0", "enable 1", "enable 2"]);
            machine.suspend().expect("asleep");
            assert_eq!(recorded(), ["disable 2", "disable 1", "disable 0"]);
            assert!((0..COUNT).all(|index| !is_connected(index)));
            machine.resume().expect("awake");
            assert_eq!(recorded(), ["enable 0", "enable 1", "enable 2"]);
            for message in [1, 2, 0] {
                assert_eq!(send(message), served(message as usize, message));
            }
        },
    );
}

fn a_rebalance_gives_each_interrupt_a_message_again() {
    started(
        3,
        |_| {},
        |machine| {
            machine.rebalance().expect("started again");
            for message in [1, 2, 0] {
                assert_eq!(send(message), served(message as usize, message));
            }
        },
    );
}

fn other_messages_come_while_one_interrupt_is_disabled() {
    started(
        3,
        |_| {},
        |_| unsafe {
            ddi!(WdfInterruptDisable(interrupt(1)));
            assert_eq!(send(1), [""; 0]);
            assert_eq!(send(2), served(2, 2));
            ddi!(WdfInterruptEnable(interrupt(1)));
            assert_eq!(send(1), served(1, 1));
        },
    );
}
