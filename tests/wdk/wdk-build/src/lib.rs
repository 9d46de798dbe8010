//! Stands in for Microsoft's wdk-build where there is no WDK.
//!
//! wdk-build 0.6 builds on Windows alone, and everything it says is read off an installed WDK. The other wdk crates are
//! portable; they and the driver ask wdk-build for three things, which this crate answers over the headers next to it:
//!
//! * which headers to translate, with which definitions and flags ([`Config`], [`BuilderExt`]),
//! * which `cfg` the driver model sets ([`configure_wdk_library_build`]),
//! * how a driver is linked ([`configure_wdk_binary_build`]).
//!
//! It offers what wdk-sys, wdk, wdk-alloc, wdk-panic and a driver's build script call, by the same names, for one driver
//! model: KMDF 1.33, which is what the headers describe.

mod bindings;
mod link;

use std::{
    env, error, fmt, io,
    path::{Path, PathBuf},
};

pub use bindings::BuilderExt;

/// The framework version of the headers.
const KMDF: KmdfConfig = KmdfConfig {
    kmdf_version_major: 1,
    target_kmdf_version_minor: 33,
    minimum_kmdf_version_minor: None,
};

/// The folder that holds the headers, the lists of exports and the entry code.
fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// What a build depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The driver model and its version.
    pub driver_config: DriverConfig,
    architecture: Architecture,
}

/// The processors that the headers know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Architecture {
    Amd64,
    Arm64,
}

/// The driver models. Only [`DriverConfig::Kmdf`] is ever made here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriverConfig {
    /// Windows Driver Model.
    Wdm,
    /// Kernel-Mode Driver Framework.
    Kmdf(KmdfConfig),
    /// User-Mode Driver Framework.
    Umdf(UmdfConfig),
}

/// The version of the kernel-mode framework.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KmdfConfig {
    /// Major version.
    pub kmdf_version_major: u8,
    /// Minor version built for.
    pub target_kmdf_version_minor: u8,
    /// Least minor version the driver runs on; the one built for if `None`.
    pub minimum_kmdf_version_minor: Option<u8>,
}

/// The version of the user-mode framework.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UmdfConfig {
    /// Major version.
    pub umdf_version_major: u8,
    /// Minor version built for.
    pub target_umdf_version_minor: u8,
    /// Least minor version the driver runs on; the one built for if `None`.
    pub minimum_umdf_version_minor: Option<u8>,
}

/// Parts of the WDK that wdk-sys has a feature for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiSubset {
    /// The kernel.
    Base,
    /// The framework.
    Wdf,
    /// General-purpose I/O pins.
    Gpio,
    /// Human interface devices.
    Hid,
    /// Parallel ports.
    ParallelPorts,
    /// Simple peripheral buses.
    Spb,
    /// Storage.
    Storage,
    /// Universal Serial Bus.
    Usb,
}

/// An I/O operation that failed, with the file concerned.
#[derive(Debug)]
pub struct IoError {
    path: PathBuf,
    source: io::Error,
}

impl IoError {
    /// The error `source` of an operation on `path`.
    pub fn with_path(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self {
            path: path.into(),
            source,
        }
    }
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())
    }
}

impl error::Error for IoError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Why a build could not be configured.
#[derive(Debug)]
pub enum ConfigError {
    /// A file could not be read or written.
    IoError(IoError),
    /// The target is not one the headers know.
    UnsupportedTarget(String),
    /// A subset of the WDK that there are no headers for here.
    UnsupportedApiSubset(ApiSubset),
    /// The C runtime is not linked statically: set `-C target-feature=+crt-static`.
    StaticCrtNotEnabled,
    /// A program of the toolchain failed: what was run, and what it said.
    ToolFailed(String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IoError(error) => error.fmt(f),
            Self::UnsupportedTarget(target) => {
                write!(f, "no driver can be built for {target} here")
            }
            Self::UnsupportedApiSubset(subset) => {
                write!(
                    f,
                    "there are no headers for {subset:?} here, only for Base and Wdf"
                )
            }
            Self::StaticCrtNotEnabled => {
                write!(
                    f,
                    "a driver needs -C target-feature=+crt-static (see .cargo/config.toml)"
                )
            }
            Self::ToolFailed(what) => what.fmt(f),
        }
    }
}

impl error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::IoError(error) => error.source(),
            _ => None,
        }
    }
}

impl From<IoError> for ConfigError {
    fn from(error: IoError) -> Self {
        Self::IoError(error)
    }
}

impl Config {
    /// The configuration of the crate whose build script is running.
    ///
    /// # Errors
    /// [`ConfigError::UnsupportedTarget`] for anything but Windows on x86-64 and ARM64.
    pub fn from_env_auto() -> Result<Self, ConfigError> {
        let target = env::var("TARGET").unwrap_or_default();
        let architecture = match target.as_str() {
            "x86_64-pc-windows-msvc" => Architecture::Amd64,
            "aarch64-pc-windows-msvc" => Architecture::Arm64,
            _ => return Err(ConfigError::UnsupportedTarget(target)),
        };
        Ok(Self {
            driver_config: DriverConfig::Kmdf(KMDF),
            architecture,
        })
    }

    /// The folders that headers are looked up in.
    ///
    /// # Errors
    /// None here; the genuine crate looks for its folders.
    pub fn include_paths(&self) -> Result<impl Iterator<Item = PathBuf>, ConfigError> {
        Ok([root().join("headers")].into_iter())
    }

    /// What is defined when the headers are read: the names that the WDK's own build defines.
    pub fn preprocessor_definitions(&self) -> impl Iterator<Item = (String, Option<String>)> {
        let processor: &[_] = match self.architecture {
            Architecture::Amd64 => &["_WIN64", "_AMD64_", "AMD64"],
            Architecture::Arm64 => &["_ARM64_", "ARM64"],
        };
        let versions = [
            ("KMDF_VERSION_MAJOR", KMDF.kmdf_version_major),
            ("KMDF_VERSION_MINOR", KMDF.target_kmdf_version_minor),
        ];
        let flags = processor.iter().chain(&["_KERNEL_MODE"]);
        flags
            .map(|name| ((*name).to_owned(), None))
            .chain(versions.map(|(name, value)| (name.to_owned(), Some(value.to_string()))))
    }

    /// The headers of a subset, in the order they are included.
    ///
    /// # Errors
    /// [`ConfigError::UnsupportedApiSubset`] for all but the kernel's and the framework's.
    pub fn headers(&self, subset: ApiSubset) -> Result<impl Iterator<Item = String>, ConfigError> {
        let names: &[_] = match subset {
            ApiSubset::Base => &["ntifs.h", "ntddk.h", "ntstrsafe.h"],
            ApiSubset::Wdf => &["wdf.h"],
            _ => return Err(ConfigError::UnsupportedApiSubset(subset)),
        };
        Ok(names.iter().map(|name| (*name).to_owned()))
    }

    /// One C source that includes the headers of `subsets`.
    ///
    /// # Errors
    /// As [`Config::headers`].
    pub fn bindgen_header_contents(
        &self,
        subsets: impl IntoIterator<Item = ApiSubset> + fmt::Debug,
    ) -> Result<String, ConfigError> {
        let mut contents = String::new();
        for subset in subsets {
            for header in self.headers(subset)? {
                contents += &format!("#include \"{header}\"\n");
            }
        }
        Ok(contents)
    }

    /// Libraries named in the bindings: none, they are named when the driver is linked.
    #[must_use]
    pub fn bindgen_library_link_raw_lines(&self, _subset: ApiSubset) -> Option<String> {
        None
    }

    /// The symbol of the framework's function table: its version is part of its name.
    #[must_use]
    pub fn compute_wdffunctions_symbol_name(&self) -> Option<String> {
        match self.driver_config {
            DriverConfig::Kmdf(version) => Some(format!(
                "WdfFunctions_{:02}0{:02}",
                version.kmdf_version_major, version.target_kmdf_version_minor
            )),
            _ => None,
        }
    }
}

/// Configures the build of a library: sets `cfg(driver_model__driver_type)`.
///
/// # Errors
/// As [`Config::from_env_auto`].
pub fn configure_wdk_library_build() -> Result<(), ConfigError> {
    configure_wdk_library_build_and_then(|_| Ok(()))
}

/// Configures the build of a library, then runs `then`.
///
/// # Errors
/// As [`Config::from_env_auto`], and those of `then`.
pub fn configure_wdk_library_build_and_then<E: From<ConfigError>>(
    mut then: impl FnMut(Config) -> Result<(), E>,
) -> Result<(), E> {
    let config = Config::from_env_auto()?;
    emit_cfg();
    // bindgen names the headers that it read; one that is new stands in front of another only here.
    println!(
        "cargo::rerun-if-changed={}",
        root().join("headers").display()
    );
    then(config)
}

/// Configures the build of a driver: makes the import libraries and the entry code, and passes the linker's options.
///
/// # Errors
/// As [`Config::from_env_auto`]; [`ConfigError::StaticCrtNotEnabled`], as the genuine crate; what the tools refuse.
pub fn configure_wdk_binary_build() -> Result<(), ConfigError> {
    let config = Config::from_env_auto()?;
    let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    if !features.split(',').any(|feature| feature == "crt-static") {
        return Err(ConfigError::StaticCrtNotEnabled);
    }
    link::configure(&config)?;
    emit_cfg();
    Ok(())
}

/// The compiler's argument that defines `name`.
fn definition(name: String, value: Option<String>) -> String {
    match value {
        Some(value) => format!("-D{name}={value}"),
        None => format!("-D{name}"),
    }
}

fn emit_cfg() {
    println!(
        r#"cargo::rustc-check-cfg=cfg(driver_model__driver_type, values("WDM","KMDF","UMDF"))"#
    );
    println!(r#"cargo::rustc-cfg=driver_model__driver_type="KMDF""#);
}
