//! Where a request's data is (`FxRequest::GetMdl`, `GetMemoryObject`, `GetDeviceControlOutputMemoryObject`).

use std::ffi::c_void;

use crate::flat::*;
use machine_nt::exports::{IoAllocateMdl, IoFreeMdl, MmBuildMdlForNonPagedPool};

use super::Request;
use crate::trace;
use crate::wdm::{Irp, Mdl, transfer_method};

/// A buffer at a system address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Buffer {
    /// Where it begins.
    pub(crate) address: *mut c_void,
    /// Bytes.
    pub(crate) length: usize,
}

impl Request {
    fn verified_irp(&self) -> Result<Irp, NTSTATUS> {
        if self.globals().verifier_on() {
            self.verify_not_completed()?;
        }
        Ok(self.irp())
    }

    /// The MDL of the data, for a device control that of its *input* buffer (`GetMdl`).
    ///
    /// # Errors
    /// `STATUS_BUFFER_TOO_SMALL` without data, `STATUS_INVALID_DEVICE_REQUEST` for neither-method transfers,
    /// `STATUS_INVALID_PARAMETER` for other majors of a buffered device, `STATUS_INSUFFICIENT_RESOURCES`.
    pub(crate) fn mdl(&self) -> Result<Mdl, NTSTATUS> {
        let irp = self.verified_irp()?;
        if irp.is_control() {
            if transfer_method(irp.control_code()) == METHOD_NEITHER {
                return self.refuse("has no MDL: its control code is METHOD_NEITHER");
            }
            return self.system_buffer_mdl(irp, irp.input_length());
        }
        match self.device().settings().io_type {
            WdfDeviceIoDirect => self.direct_mdl(irp),
            WdfDeviceIoBuffered => {
                let transfers = irp.major() == IRP_MJ_READ || irp.major() == IRP_MJ_WRITE;
                if transfers {
                    self.system_buffer_mdl(irp, irp.transfer_length())
                } else {
                    Err(STATUS_INVALID_PARAMETER)
                }
            }
            WdfDeviceIoNeither => self.refuse("has no MDL: the device's I/O type is neither"),
            _ => Err(STATUS_INTERNAL_ERROR),
        }
    }

    /// The MDL of a device control's output buffer (`GetDeviceControlOutputMdl`).
    ///
    /// # Errors
    /// As [`Request::mdl`]; `STATUS_INVALID_DEVICE_REQUEST` also for what is no device control.
    pub(crate) fn output_mdl(&self) -> Result<Mdl, NTSTATUS> {
        let irp = self.verified_irp()?;
        if !irp.is_control() {
            return self.refuse("is no device control");
        }
        match transfer_method(irp.control_code()) as _ {
            METHOD_BUFFERED => self.system_buffer_mdl(irp, irp.output_length()),
            METHOD_IN_DIRECT | METHOD_OUT_DIRECT => self.direct_mdl(irp),
            _ => self.refuse("has no MDL: its control code is METHOD_NEITHER"),
        }
    }

    fn refuse<T>(&self, why: &str) -> Result<T, NTSTATUS> {
        trace::error(
            self.globals(),
            &format!("WDFREQUEST {:p} {why}", self.handle()),
        );
        Err(STATUS_INVALID_DEVICE_REQUEST)
    }

    fn direct_mdl(&self, irp: Irp) -> Result<Mdl, NTSTATUS> {
        // SAFETY: the I/O manager's MDL; its pages stay locked until the IRP completes.
        let mdl = unsafe { Mdl::new(irp.mdl()) };
        if mdl.is_null() {
            Err(STATUS_BUFFER_TOO_SMALL)
        } else {
            Ok(mdl)
        }
    }

    /// An MDL made for the system buffer, once a request: input and output share the first one's length.
    fn system_buffer_mdl(&self, irp: Irp, length: u32) -> Result<Mdl, NTSTATUS> {
        let buffer = irp.system_buffer();
        if buffer.is_null() || length == 0 {
            return Err(STATUS_BUFFER_TOO_SMALL);
        }
        let known = self.with(|state| state.mdl);
        if !known.is_null() {
            return Ok(known);
        }
        // SAFETY: the system buffer has `length` bytes.
        let mdl = unsafe {
            IoAllocateMdl(
                buffer,
                length as _,
                FALSE as _,
                FALSE as _,
                std::ptr::null_mut(),
            )
        };
        if mdl.is_null() {
            return Err(STATUS_INSUFFICIENT_RESOURCES);
        }
        // SAFETY: the system buffer is non-paged pool.
        unsafe { MmBuildMdlForNonPagedPool(mdl) };
        // SAFETY: made above; freed with the request.
        let mdl = unsafe { Mdl::new(mdl) };
        self.with(|state| state.mdl = mdl);
        Ok(mdl)
    }

    /// Frees the MDL of the system buffer.
    pub(super) fn free_mdl(&self) {
        let mdl = self.with(|state| std::mem::replace(&mut state.mdl, Mdl::NULL));
        if !mdl.is_null() {
            // SAFETY: allocated in `system_buffer_mdl`; the request is gone for the driver.
            unsafe { IoFreeMdl(mdl.raw()) };
        }
    }

    fn mapped(mdl: PMDL, length: u32) -> Result<Buffer, NTSTATUS> {
        // SAFETY: the I/O manager's MDL; its pages stay locked until the IRP completes.
        let mdl = unsafe { Mdl::new(mdl) };
        if mdl.is_null() {
            return Err(STATUS_BUFFER_TOO_SMALL);
        }
        let address = mdl.system_address();
        if address.is_null() {
            return Err(STATUS_INSUFFICIENT_RESOURCES);
        }
        Ok(Buffer {
            address,
            length: length as usize,
        })
    }

    /// The buffer of a read or write, or of a device control's input (`GetMemoryObject`).
    ///
    /// # Errors
    /// `STATUS_BUFFER_TOO_SMALL` without data, `STATUS_INVALID_DEVICE_REQUEST` for a user's neither-method transfer or another
    /// major, `STATUS_INSUFFICIENT_RESOURCES` if it cannot be mapped.
    pub(crate) fn buffer(&self) -> Result<Buffer, NTSTATUS> {
        let irp = self.verified_irp()?;
        let io_type = self.device().settings().io_type;
        let length = match irp.major() as _ {
            IRP_MJ_DEVICE_CONTROL | IRP_MJ_INTERNAL_DEVICE_CONTROL => irp.input_length(),
            IRP_MJ_READ | IRP_MJ_WRITE => irp.transfer_length(),
            _ => return self.refuse("has no buffer"),
        };
        if length == 0 {
            return Err(STATUS_BUFFER_TOO_SMALL);
        }
        if irp.is_control() {
            let user_neither = transfer_method(irp.control_code()) == METHOD_NEITHER
                && irp.is_from_user()
                && irp.major() == IRP_MJ_DEVICE_CONTROL;
            if user_neither {
                return self.refuse("has a user's own buffer: its control code is METHOD_NEITHER");
            }
            return Ok(Buffer {
                address: irp.system_buffer(),
                length: length as usize,
            });
        }
        match io_type {
            WdfDeviceIoDirect => Self::mapped(irp.mdl(), length),
            WdfDeviceIoBuffered => Ok(Buffer {
                address: irp.system_buffer(),
                length: length as usize,
            }),
            _ => self.refuse("has a user's own buffer: the device's I/O type is neither"),
        }
    }

    /// The buffer of a device control's output (`GetDeviceControlOutputMemoryObject`).
    ///
    /// # Errors
    /// As [`Request::buffer`].
    pub(crate) fn output_buffer(&self) -> Result<Buffer, NTSTATUS> {
        let irp = self.verified_irp()?;
        let length = irp.output_length();
        if length == 0 {
            return Err(STATUS_BUFFER_TOO_SMALL);
        }
        match transfer_method(irp.control_code()) as _ {
            METHOD_IN_DIRECT | METHOD_OUT_DIRECT => Self::mapped(irp.mdl(), length),
            METHOD_BUFFERED => Ok(Buffer {
                address: irp.system_buffer(),
                length: length as usize,
            }),
            _ if irp.is_from_user() && irp.major() == IRP_MJ_DEVICE_CONTROL => {
                self.refuse("has a user's own buffer: its control code is METHOD_NEITHER")
            }
            _ => Ok(Buffer {
                address: irp.user_buffer(),
                length: length as usize,
            }),
        }
    }
}
