//! I/O manager: driver, device and file objects, IRPs, cancellation, device interfaces.

pub mod cancel;
pub mod device;
pub mod driver;
pub mod file;
pub mod interface;
pub mod irp;
pub(crate) mod names;
mod packet;
pub(crate) mod power;
pub(crate) mod request;
mod verify;
