//! What a PCI function is called: device, hardware and compatible identifiers as Windows composes them.

use machine_bus::FunctionAddress;
use machine_bus::pci::Identity;

use crate::bus_driver::Identifiers;

impl Identifiers {
    /// The identifiers of a PCI function at this address.
    pub fn of_function(identity: &Identity, address: FunctionAddress) -> Self {
        let Identity {
            vendor,
            device,
            subsystem_vendor,
            subsystem,
            revision,
            class,
        } = *identity;
        let base = format!("PCI\\VEN_{vendor:04X}&DEV_{device:04X}");
        let subsystem = format!("SUBSYS_{subsystem:04X}{subsystem_vendor:04X}");
        let revision = format!("REV_{revision:02X}");
        let (long_class, short_class) =
            (format!("CC_{class:06X}"), format!("CC_{:04X}", class >> 8));
        let hardware = vec![
            format!("{base}&{subsystem}&{revision}"),
            format!("{base}&{subsystem}"),
            format!("{base}&{long_class}"),
            format!("{base}&{short_class}"),
        ];
        let vendor = format!("PCI\\VEN_{vendor:04X}");
        let compatible = vec![
            format!("{base}&{revision}"),
            base,
            format!("{vendor}&{long_class}"),
            format!("{vendor}&{short_class}"),
            vendor,
            format!("PCI\\{long_class}"),
            format!("PCI\\{short_class}"),
        ];
        Self {
            device: hardware[0].clone(),
            instance: instance(address),
            hardware,
            compatible,
        }
    }
}

/// Of the form Windows gives functions on a root bus: a serial number of the bus, and device and function.
fn instance(address: FunctionAddress) -> String {
    let FunctionAddress {
        bus,
        device,
        function,
    } = address;
    format!(
        "3&11583659&{bus:X}&{:02X}",
        u32::from(device) << 3 | u32::from(function)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edu() {
        let identity = Identity {
            vendor: 0x1234,
            device: 0x11E8,
            subsystem_vendor: 0x1AF4,
            subsystem: 0x1100,
            revision: 0x10,
            class: 0x00FF00,
        };
        let identifiers = Identifiers::of_function(&identity, FunctionAddress::new(0, 4, 0));
        assert_eq!(
            identifiers.hardware,
            [
                "PCI\\VEN_1234&DEV_11E8&SUBSYS_11001AF4&REV_10",
                "PCI\\VEN_1234&DEV_11E8&SUBSYS_11001AF4",
                "PCI\\VEN_1234&DEV_11E8&CC_00FF00",
                "PCI\\VEN_1234&DEV_11E8&CC_00FF",
            ]
        );
        assert_eq!(
            identifiers.compatible,
            [
                "PCI\\VEN_1234&DEV_11E8&REV_10",
                "PCI\\VEN_1234&DEV_11E8",
                "PCI\\VEN_1234&CC_00FF00",
                "PCI\\VEN_1234&CC_00FF",
                "PCI\\VEN_1234",
                "PCI\\CC_00FF00",
                "PCI\\CC_00FF",
            ]
        );
        assert_eq!(identifiers.instance, "3&11583659&0&20");
    }
}
