//! The driver's entry point, and the choice of hardware for a device that the system has found.

use kmdf::driver::{self, DriverEvents};
use kmdf::log::LogFailure;
use kmdf::unicode::MultiString;
use kmdf::{DeviceInit, NtStatus, Result};
use wdk_sys::{NTSTATUS, PCUNICODE_STRING, PDRIVER_OBJECT};

use crate::device::Card;
use crate::fifo::Port;
use crate::hw::Hardware;
use crate::hw::edu::Edu;
use crate::ring::RingCard;

struct Driver;

/// Where the framework's entry code hands over to the driver. PASSIVE_LEVEL.
///
/// # Safety
///
/// Called once, with what the system gave to the image's entry point.
// SAFETY: the framework's entry code calls the routine by this name, and no other has it.
#[unsafe(export_name = "DriverEntry")]
unsafe extern "system" fn driver_entry(
    driver: PDRIVER_OBJECT,
    registry_path: PCUNICODE_STRING,
) -> NTSTATUS {
    // SAFETY: this is the entry point, and the arguments are the system's.
    let outcome = unsafe { driver::register::<Driver>(driver, registry_path) };
    NtStatus::from(outcome.or_log(c"registering the driver")).code()
}

impl DriverEvents for Driver {
    /// Makes a card of the kind that the hardware identifiers name.
    fn device_add(driver: driver::Driver, init: DeviceInit) -> Result<()> {
        let ids = init
            .hardware_ids()
            .or_log(c"reading the hardware identifiers")?;
        if MultiString::new(&ids).identifies(Edu::HARDWARE_ID) {
            Card::<Edu>::add(driver, init).or_log(c"adding an edu device")
        } else if MultiString::new(&ids).identifies(abi::fifo::HARDWARE_ID) {
            Port::add(driver, init).or_log(c"adding a FIFO")
        } else if MultiString::new(&ids).identifies(abi::card::HARDWARE_ID) {
            RingCard::add(driver, init).or_log(c"adding a ring card")
        } else {
            Err(NtStatus::NOT_SUPPORTED).or_log(c"choosing the hardware")
        }
    }
}
