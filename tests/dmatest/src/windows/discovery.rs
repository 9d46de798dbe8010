//! Finds the driver's devices by their interface.

use std::ptr;

use abi::guid::DEVICE_INTERFACE;
use windows_sys::Win32::Devices::DeviceAndDriverInstallation::{
    CM_GET_DEVICE_INTERFACE_LIST_PRESENT, CM_Get_Device_Interface_List_SizeW,
    CM_Get_Device_Interface_ListW, CR_BUFFER_SMALL, CR_SUCCESS,
};
use windows_sys::core::GUID;

/// Paths of the interfaces of all devices that are present and started, each with its final zero.
pub(super) fn interfaces() -> Vec<Vec<u16>> {
    let guid = GUID {
        data1: DEVICE_INTERFACE.data1,
        data2: DEVICE_INTERFACE.data2,
        data3: DEVICE_INTERFACE.data3,
        data4: DEVICE_INTERFACE.data4,
    };
    loop {
        let mut length = 0;
        // SAFETY: both pointers are to locals; a null device identifier means every device.
        let sized = unsafe {
            CM_Get_Device_Interface_List_SizeW(
                &mut length,
                &guid,
                ptr::null(),
                CM_GET_DEVICE_INTERFACE_LIST_PRESENT,
            )
        };
        if sized != CR_SUCCESS {
            return Vec::new();
        }
        let mut list = vec![0; length as usize];
        // SAFETY: `list` has the length that is passed.
        let listed = unsafe {
            CM_Get_Device_Interface_ListW(
                &guid,
                ptr::null(),
                list.as_mut_ptr(),
                length,
                CM_GET_DEVICE_INTERFACE_LIST_PRESENT,
            )
        };
        match listed {
            CR_SUCCESS => return split(&list),
            // A device has come since the length was asked for.
            CR_BUFFER_SMALL => {}
            _ => return Vec::new(),
        }
    }
}

/// The strings of a list in which each ends with a zero and an empty one ends the list.
fn split(list: &[u16]) -> Vec<Vec<u16>> {
    list.split_inclusive(|unit| *unit == 0)
        .take_while(|string| string.len() > 1)
        .map(<[u16]>::to_vec)
        .collect()
}

/// A path for a message.
pub(super) fn text(path: &[u16]) -> String {
    String::from_utf16_lossy(path.strip_suffix(&[0]).unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_split_at_zeros() {
        let list: Vec<u16> = "one\0two\0\0".encode_utf16().collect();
        let paths: Vec<String> = split(&list).iter().map(|path| text(path)).collect();
        assert_eq!(paths, ["one", "two"]);
        assert!(split(&[0]).is_empty());
    }
}
