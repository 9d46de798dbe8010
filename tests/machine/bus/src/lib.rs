//! What is plugged in: physical memory, PCI functions, QEMU, in-process devices.
