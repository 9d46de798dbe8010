//! DEVICE_RESET_INTERFACE_STANDARD: which functions offer it, what it does to one, and what it is not to be asked.

use std::cell::Cell;
use std::mem::offset_of;
use std::ptr;

use abi::card;
use abi::card::register::{CONTROL, IDENTIFICATION, INTERRUPT_ENABLE};
use harness::{Suite, bug_check, machine_stop};
use machine::ddi;
use machine::nt_sys::*;
use machine::testdriver::TestDriver;
use machine::{CardFault, Config, Device, DriverSource, Machine};
use machine_nt::exports::{KeLowerIrql, KfRaiseIrql, MmMapIoSpaceEx, MmUnmapIoSpace};

pub fn tests(suite: Suite) -> Suite {
    suite
        .passes(
            "a_function_is_reset_alone_and_stays_where_it_is",
            a_function_is_reset_alone_and_stays_where_it_is,
        )
        .passes(
            "a_reset_tells_its_caller_when_it_is_over",
            a_reset_tells_its_caller_when_it_is_over,
        )
        .passes(
            "each_version_of_the_reset_interface_has_its_length",
            each_version_of_the_reset_interface_has_its_length,
        )
        .passes(
            "resets_that_there_are_not_are_refused",
            resets_that_there_are_not_are_refused,
        )
        .passes(
            "who_cannot_be_reset_alone_offers_no_reset",
            who_cannot_be_reset_alone_offers_no_reset,
        )
        .passes(
            "without_the_interface_there_is_no_reset",
            without_the_interface_there_is_no_reset,
        )
        .stops(
            "a_reset_needs_passive_level",
            bug_check(0xC4),
            a_reset_needs_passive_level,
        )
        .stops(
            "a_reset_needs_its_own_context",
            machine_stop("misuse"),
            a_reset_needs_its_own_context,
        )
        .stops(
            "a_reset_interface_that_is_kept_keeps_the_device",
            machine_stop("misuse"),
            a_reset_interface_that_is_kept_keeps_the_device,
        )
}

const RESET_INTERFACE: GUID = GUID::from_u128(0x649fdf26_3bc0_4813_ad24_7e0c1eda3fa3);

thread_local! {
    static DEVICE: Cell<WDFDEVICE> = const { Cell::new(ptr::null_mut()) };
    static REGISTERS: Cell<*mut u8> = const { Cell::new(ptr::null_mut()) };
    static COMPLETED: Cell<Option<NTSTATUS>> = const { Cell::new(None) };
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
    DEVICE.set(device);
    status
}

unsafe extern "win64" fn prepare_hardware(
    _device: WDFDEVICE,
    _raw: WDFCMRESLIST,
    translated: WDFCMRESLIST,
) -> NTSTATUS {
    let descriptor = ddi!(WdfCmResourceListGetDescriptor(translated, 0));
    let start = (*descriptor).u.Memory.Start;
    let length = card::REGISTERS_LENGTH as SIZE_T;
    let registers = MmMapIoSpaceEx(start, length, PAGE_READWRITE | PAGE_NOCACHE);
    REGISTERS.set(registers.cast());
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

/// Runs `test` with the device started.
fn started(device: Device, configure: fn(&mut Config), test: impl FnOnce(&Machine) + 'static) {
    let driver = TestDriver {
        device_add: Some(device_add),
        ..TestDriver::default()
    };
    let mut config = Config::new(DriverSource::Test(driver));
    config.device = device;
    configure(&mut config);
    machine::run(config, |machine| {
        machine.start().expect("the device starts");
        test(machine);
        machine.shut_down();
    })
    .expect("a machine");
}

/// Runs `test` with the card started, and its interface, which is given back.
fn with_interface(test: impl FnOnce(&Machine, &DEVICE_RESET_INTERFACE_STANDARD) + 'static) {
    started(
        Device::Card,
        |_| {},
        |machine| {
            let interface = query(3).expect("the card can be reset");
            test(machine, &interface);
            let release = interface.InterfaceDereference.expect("a routine");
            unsafe { release(interface.Context) };
        },
    );
}

/// Asks for a version of the interface, with room for all of them.
fn query(version: USHORT) -> Result<DEVICE_RESET_INTERFACE_STANDARD, NTSTATUS> {
    query_with(version, size_of::<DEVICE_RESET_INTERFACE_STANDARD>())
}

fn query_with(version: USHORT, room: usize) -> Result<DEVICE_RESET_INTERFACE_STANDARD, NTSTATUS> {
    let mut interface = DEVICE_RESET_INTERFACE_STANDARD::default();
    let status = unsafe {
        ddi!(WdfFdoQueryForInterface(
            DEVICE.get(),
            &RESET_INTERFACE,
            (&raw mut interface).cast(),
            room as USHORT,
            version,
            ptr::null_mut()
        ))
    };
    if status == STATUS_SUCCESS {
        Ok(interface)
    } else {
        Err(status)
    }
}

fn reset(
    interface: &DEVICE_RESET_INTERFACE_STANDARD,
    kind: DEVICE_RESET_TYPE,
    flags: ULONG,
    parameters: PVOID,
) -> NTSTATUS {
    let routine = interface.DeviceReset.expect("a routine");
    unsafe { routine(interface.Context, kind, flags, parameters) }
}

const ALONE: DEVICE_RESET_TYPE = _DEVICE_RESET_TYPE::FunctionLevelDeviceReset;

fn register(offset: usize) -> *mut u32 {
    unsafe { REGISTERS.get().add(offset).cast() }
}

/// What was in its registers is gone, even if its own reset does not end; its windows are where they were.
fn a_function_is_reset_alone_and_stays_where_it_is() {
    with_interface(|machine, interface| unsafe {
        let enable = register(INTERRUPT_ENABLE.offset());
        enable.write_volatile(3);
        assert_eq!(enable.read_volatile(), 3);
        let faults = machine.card_faults().expect("the card");
        faults.arm(CardFault::EndlessReset);
        let control = register(CONTROL.offset());
        control.write_volatile(1);
        machine.sleep(std::time::Duration::from_secs(1));
        assert_eq!(control.read_volatile(), 1, "its reset does not end");
        assert_eq!(reset(interface, ALONE, 0, ptr::null_mut()), STATUS_SUCCESS);
        assert_eq!(control.read_volatile(), 0);
        assert_eq!(enable.read_volatile(), 0);
        let identity = register(IDENTIFICATION.offset()).read_volatile();
        assert_eq!(identity, card::IDENTITY);
        enable.write_volatile(3);
        assert_eq!(enable.read_volatile(), 3, "it works");
    });
}

unsafe extern "win64" fn completed(status: NTSTATUS, context: PVOID) {
    assert_eq!(context.addr(), 0x1234);
    COMPLETED.set(Some(status));
}

fn a_reset_tells_its_caller_when_it_is_over() {
    with_interface(|_, interface| {
        let mut parameters = FUNCTION_LEVEL_DEVICE_RESET_PARAMETERS {
            Size: size_of::<FUNCTION_LEVEL_DEVICE_RESET_PARAMETERS>() as ULONG,
            DeviceResetCompletion: Some(completed),
            CompletionContext: ptr::without_provenance_mut(0x1234),
        };
        let passed = (&raw mut parameters).cast();
        assert_eq!(reset(interface, ALONE, 0, passed), STATUS_SUCCESS);
        assert_eq!(COMPLETED.take(), Some(STATUS_SUCCESS));
        parameters.Size -= 1;
        let passed = (&raw mut parameters).cast();
        assert_eq!(reset(interface, ALONE, 0, passed), STATUS_INVALID_PARAMETER);
        assert_eq!(COMPLETED.take(), None);
    });
}

fn each_version_of_the_reset_interface_has_its_length() {
    started(
        Device::Card,
        |_| {},
        |_| {
            let short = offset_of!(DEVICE_RESET_INTERFACE_STANDARD, QueryBusSpecificResetInfo);
            let long = size_of::<DEVICE_RESET_INTERFACE_STANDARD>();
            for (version, length) in [(1, short), (2, long), (3, long)] {
                assert_eq!(
                    query_with(version, length - 1).err(),
                    Some(STATUS_BUFFER_TOO_SMALL)
                );
                let interface = query_with(version, length).expect("room for it");
                assert_eq!(usize::from(interface.Size), length);
                assert_eq!(interface.Version, version);
                assert_eq!(interface.SupportedResetTypes, 1);
                let release = interface.InterfaceDereference.expect("a routine");
                unsafe { release(interface.Context) };
            }
            for version in [0, 4] {
                assert_eq!(query(version).err(), Some(STATUS_NOT_SUPPORTED));
            }
        },
    );
}

fn resets_that_there_are_not_are_refused() {
    with_interface(|_, interface| {
        let platform = _DEVICE_RESET_TYPE::PlatformLevelDeviceReset;
        let none = ptr::null_mut();
        assert_eq!(reset(interface, platform, 0, none), STATUS_NOT_SUPPORTED);
        assert_eq!(reset(interface, ALONE, 1, none), STATUS_INVALID_PARAMETER);
    });
}

/// edu is no function of PCI Express.
fn who_cannot_be_reset_alone_offers_no_reset() {
    started(
        Device::EduTwin,
        |_| {},
        |_| assert_eq!(query(1).err(), Some(STATUS_NOT_SUPPORTED)),
    );
}

fn without_the_interface_there_is_no_reset() {
    started(
        Device::Card,
        |config| config.hal.device_reset = false,
        |_| assert_eq!(query(1).err(), Some(STATUS_NOT_SUPPORTED)),
    );
}

fn a_reset_needs_passive_level() {
    with_interface(|_, interface| unsafe {
        let old = KfRaiseIrql(2);
        reset(interface, ALONE, 0, ptr::null_mut());
        KeLowerIrql(old);
    });
}

fn a_reset_needs_its_own_context() {
    with_interface(|_, interface| {
        let other = DEVICE_RESET_INTERFACE_STANDARD {
            Context: DEVICE.get().cast(),
            ..*interface
        };
        reset(&other, ALONE, 0, ptr::null_mut());
    });
}

fn a_reset_interface_that_is_kept_keeps_the_device() {
    started(
        Device::Card,
        |_| {},
        |_| {
            query(3).expect("the card can be reset");
        },
    );
}
