//! What installing a driver leaves behind: the facts of its INF, and its driver object.

use machine_nt::registry::Value;
use nt_sys::{PDRIVER_OBJECT, REG_DWORD};

/// A value that an INF puts into a device's hardware key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HardwareValue {
    /// Subkey of `Device Parameters`, empty for that key itself.
    pub subkey: String,
    /// Its name.
    pub name: String,
    /// What it holds.
    pub data: Value,
}

/// A driver that is installed and loaded.
#[derive(Debug, Clone)]
pub struct DriverPackage {
    /// Name of its service.
    pub service: String,
    /// Hardware identifiers of the devices it serves.
    pub hardware_ids: Vec<String>,
    /// Values of the hardware key of such a device.
    pub hardware: Vec<HardwareValue>,
    /// Its driver object, whose DriverEntry has succeeded.
    pub driver: PDRIVER_OBJECT,
}

// SAFETY: the driver object is the kernel's, which looks after its use from several threads.
unsafe impl Send for DriverPackage {}

/// Where the INF states how many messages a device may use.
const MESSAGES: &str = r"Interrupt Management\MessageSignaledInterruptProperties";

impl DriverPackage {
    /// Whether it serves a device with one of these identifiers.
    pub fn matches(&self, identifiers: &[String]) -> bool {
        identifiers.iter().any(|id| {
            self.hardware_ids
                .iter()
                .any(|own| own.eq_ignore_ascii_case(id))
        })
    }

    /// How many messages its devices may use: none unless MSISupported is set, and at most MessageNumberLimit.
    pub fn messages(&self) -> u16 {
        match self.hardware_value(MESSAGES, "MSISupported") {
            Some(1) => self
                .hardware_value(MESSAGES, "MessageNumberLimit")
                .map_or(u16::MAX, |limit| limit as u16),
            _ => 0,
        }
    }

    fn hardware_value(&self, subkey: &str, name: &str) -> Option<u32> {
        let is_wanted = |value: &&HardwareValue| {
            value.subkey.eq_ignore_ascii_case(subkey) && value.name.eq_ignore_ascii_case(name)
        };
        let value = &self.hardware.iter().find(is_wanted)?.data;
        let bytes = value
            .data
            .first_chunk()
            .filter(|_| value.kind == REG_DWORD)?;
        Some(u32::from_le_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(hardware: &[(&str, u32)]) -> DriverPackage {
        let value = |&(name, number): &(&str, u32)| HardwareValue {
            subkey: MESSAGES.to_lowercase(),
            name: name.to_owned(),
            data: Value::dword(number),
        };
        DriverPackage {
            service: "dmacard".to_owned(),
            hardware_ids: vec![r"PCI\VEN_1234&DEV_11E8".to_owned()],
            hardware: hardware.iter().map(value).collect(),
            driver: std::ptr::null_mut(),
        }
    }

    #[test]
    fn identifiers_compare_without_case() {
        assert!(package(&[]).matches(&["PCI\\ven_1234&dev_11e8".to_owned()]));
        assert!(!package(&[]).matches(&["PCI\\VEN_1234".to_owned()]));
    }

    #[test]
    fn messages_are_opted_into() {
        assert_eq!(package(&[]).messages(), 0);
        assert_eq!(
            package(&[("MSISupported", 0), ("MessageNumberLimit", 4)]).messages(),
            0
        );
        assert_eq!(package(&[("MSISupported", 1)]).messages(), u16::MAX);
        assert_eq!(
            package(&[("MSISupported", 1), ("MessageNumberLimit", 4)]).messages(),
            4
        );
    }
}
