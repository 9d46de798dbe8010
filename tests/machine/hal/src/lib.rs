//! DMA adapters, interrupt routing, the PCI bus driver and the PnP manager.
