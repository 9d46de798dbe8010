//! `info` and `stats`: what the device is, and what the driver has counted.

use std::io::{self, Write};

use abi::info::{DeviceInfo, DeviceKind, InterruptKind};
use abi::statistics::Statistics;
pub use demo_report::print_rows;

/// Prints `info` as a table.
///
/// # Errors
/// Those of `out`.
pub fn print_info(info: &DeviceInfo, out: &mut dyn Write) -> io::Result<()> {
    let kind = DeviceKind::from_code(info.device_kind).map_or("unknown", DeviceKind::name);
    let interrupt =
        InterruptKind::from_code(info.interrupt_kind).map_or("unknown", InterruptKind::name);
    let [major, minor, patch, _] = info.driver_version;
    let rows: [(&str, String); 10] = [
        ("device", kind.to_owned()),
        ("identity", format!("{:#010x}", info.hardware_identity)),
        ("memory", format!("{} bytes", info.memory_size)),
        ("largest request", format!("{} bytes", info.maximum_request)),
        (
            "largest transfer",
            format!("{} bytes", info.maximum_transfer),
        ),
        ("transfers in flight", info.transfers_in_flight.to_string()),
        ("bus address", format!("{} bits", info.address_bits)),
        ("interrupt", interrupt.to_owned()),
        ("DMA version", info.dma_version.to_string()),
        (
            "driver",
            format!(
                "{major}.{minor}.{patch}, interface {}",
                info.interface_version
            ),
        ),
    ];
    print_rows(&rows, out)
}

/// Prints `statistics` as a table.
///
/// # Errors
/// Those of `out`.
pub fn print_statistics(statistics: &Statistics, out: &mut dyn Write) -> io::Result<()> {
    let rows = [
        ("requests", statistics.requests),
        ("completed", statistics.completed),
        ("cancelled", statistics.cancelled),
        ("failed", statistics.failed),
        ("timeouts", statistics.timeouts),
        ("transfers", statistics.transfers),
        ("hardware errors", statistics.hardware_errors),
        ("bytes read", statistics.bytes_read),
        ("bytes written", statistics.bytes_written),
        ("interrupts", statistics.interrupts),
        ("foreign interrupts", statistics.foreign_interrupts),
        ("DPCs", statistics.dpcs),
        ("descriptors", statistics.descriptors),
        ("without resources", statistics.without_resources),
    ]
    .map(|(name, value)| (name, value.to_string()));
    print_rows(&rows, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_kind_is_called_so() {
        let info = DeviceInfo {
            device_kind: 999,
            memory_size: 4095,
            ..DeviceInfo::new()
        };
        let mut text = Vec::new();
        print_info(&info, &mut text).expect("a Vec takes everything");
        let text = String::from_utf8(text).expect("ASCII");
        assert!(text.starts_with("device               unknown\n"), "{text}");
        assert!(text.contains("4095 bytes"));
    }
}
