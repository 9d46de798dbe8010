//! A loaded driver: its image or test driver, and the driver object that the I/O manager keeps for it.

use machine_nt::exports::exports;
use machine_nt::instrumented;
use machine_nt::io::driver;
use machine_nt::registry;
use machine_pe::image::{EntryPoint, Import};
use machine_pe::{Image, LoadError};
use nt_sys::*;

use crate::config::DriverSource;
use crate::faults;

/// A driver that has been loaded.
pub(crate) struct LoadedDriver {
    object: PDRIVER_OBJECT,
    entry: Entry,
    /// The service's registry path, in UTF-16.
    path: Vec<u16>,
    /// Mapped until after the unload.
    _image: Option<Image>,
}

type Entry = unsafe extern "win64" fn(PDRIVER_OBJECT, PUNICODE_STRING) -> NTSTATUS;

impl LoadedDriver {
    /// Loads the driver of the service called `service`.
    ///
    /// # Errors
    /// Why the image is refused.
    pub(crate) fn load(source: &DriverSource, service: &str) -> Result<Self, LoadError> {
        let (image, entry): (_, Entry) = match source {
            DriverSource::Image(path) => {
                let image = Image::load(path, resolve)?;
                faults::set_image(image.name(), image.addresses());
                if image.imports().iter().any(is_instrumentation) {
                    machine_hal::dma::watch_common_buffers();
                }
                let entry = image.entry_point();
                // SAFETY: the types differ only in what the two pointers point to.
                let entry = unsafe { std::mem::transmute::<EntryPoint, Entry>(entry) };
                (Some(image), entry)
            }
            DriverSource::Test(driver) => (None, driver.install()),
        };
        let addresses = image.as_ref().map_or(0..0, Image::addresses);
        Ok(Self {
            object: driver::create(service, addresses),
            entry,
            path: registry::service_path(service).encode_utf16().collect(),
            _image: image,
        })
    }

    /// The driver object.
    pub(crate) fn object(&self) -> PDRIVER_OBJECT {
        self.object
    }

    /// Calls the entry point. PASSIVE_LEVEL.
    pub(crate) fn enter(&mut self) -> NTSTATUS {
        let bytes = (self.path.len() * 2) as USHORT;
        let mut path = UNICODE_STRING {
            Length: bytes,
            MaximumLength: bytes,
            Buffer: self.path.as_mut_ptr(),
        };
        // SAFETY: the entry point of this driver, with its driver object and registry path.
        unsafe { driver::initialize(self.object, self.entry, &raw mut path) }
    }

    /// Unloads the driver, whose devices are gone, and checks what it leaves behind; whether it could be unloaded.
    /// PASSIVE_LEVEL.
    pub(crate) fn unload(self) -> bool {
        // SAFETY: the object of `driver::create`, given up here.
        unsafe { driver::unload(self.object) }
    }
}

fn is_instrumentation(import: &Import) -> bool {
    import.dll.eq_ignore_ascii_case(instrumented::MODULE)
}

/// Finds what an image imports: the kernel's routines, those of the framework's loader, or what stands for the atomic
/// operations of an instrumented image.
fn resolve(module: &str, name: &str) -> Option<usize> {
    let module = module.to_ascii_lowercase();
    if (module.as_str(), name) == ("ntoskrnl.exe", "memset") {
        return Some(machine_hal::dma::memset as *const () as usize);
    }
    let table = match module.as_str() {
        "wdfldr.sys" => machine_wdf::loader_exports(),
        "ntoskrnl.exe" | "hal.dll" => exports(),
        instrumented::MODULE => instrumented::exports(),
        _ => return None,
    };
    table
        .into_iter()
        .find_map(|(export, address)| (export == name).then_some(address))
}
