//! What can be set about the HAL before a machine starts.

/// How DMA adapters, interrupts and resources behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Map registers of the whole machine. Requests wait when they are used up.
    pub map_registers: u32,
    /// Most map registers an adapter is granted; without, as many as its longest transfer can need, which is one more
    /// than its pages.
    pub map_register_grant: Option<u32>,
    /// Every transfer is bounced, whatever the device reaches: as Driver Verifier's DMA verification does it.
    pub always_bounce: bool,
    /// Resources for transfers are never granted in the call that asks for them, but later, from a DPC.
    pub defer_grants: bool,
    /// PCI functions that can be reset alone offer DEVICE_RESET_INTERFACE_STANDARD, as from Windows 10 on.
    pub device_reset: bool,
    /// Driver Verifier's DMA verification. Where Windows has a defined answer without it (too many map registers,
    /// an unknown version), that answer is given instead of bug check 0xE6; mistakes that would go unnoticed without
    /// it stop the machine in either case.
    pub verifier: bool,
    /// Every access of the driver to a common buffer is a switch point. With an instrumented image the machine sees to
    /// it by itself.
    pub watch_common_buffers: bool,
    /// A device that accesses what is not mapped for it is kept from that, and nothing else comes of it: for devices that
    /// do so on purpose. Otherwise the machine stops.
    pub stray_dma_is_blocked: bool,
    /// An interrupt that no service routine claims this many times in a row stops the machine.
    pub storm_limit: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            map_registers: 1024,
            map_register_grant: None,
            always_bounce: false,
            defer_grants: false,
            device_reset: true,
            verifier: true,
            watch_common_buffers: false,
            stray_dma_is_blocked: false,
            storm_limit: 1000,
        }
    }
}
