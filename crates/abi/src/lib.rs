//! What the driver, its devices and dmatest share.
//!
//! - [`card`]: the card's registers, and what lies in host memory for it;
//! - [`edu`]: the register map of QEMU's `edu` device, and what a driver may do with it;
//! - [`fifo`]: the register map of the FIFO peripheral, which a system DMA controller serves;
//! - [`guid`]: the device interface by which a program finds the driver's devices;
//! - [`ioctl`]: the control codes;
//! - [`info`] and [`statistics`]: what the control codes return;
//! - [`mode`]: how requests get their map registers;
//! - [`stream`]: looped transfers of the FIFO peripheral;
//! - [`window`]: which reads and writes of the device's memory are carried out, and how the others fail.
//!
//! Nothing here depends on an operating system: the same crate is part of the driver image, of the user-mode program on
//! Windows and on Linux, and of the device models.
#![no_std]
#![forbid(unsafe_code)]

pub mod card;
pub mod edu;
pub mod fifo;
pub mod guid;
pub mod info;
pub mod ioctl;
pub mod mode;
pub mod statistics;
pub mod stream;
pub mod window;
