//! The facts of a driver's INF that matter to a machine: what it installs on, and what it puts into the registry.
//!
//! Reads what device INFs of this kind use, in a template too: what stampinf would put in is put in for x86-64.

use std::path::{Path, PathBuf};

use inf::{Inf, Line, Section, Stamp, SyntaxError, UndefinedString, stamp};
use thiserror::Error;

/// What stampinf would put into a template for this machine.
const STAMP: Stamp<'_> = Stamp {
    architecture: "amd64",
    kmdf: "1.33",
    driver_ver: "01/01/2026,0.1.0.0",
};

/// Why an INF cannot be used.
#[derive(Debug, Error)]
pub enum InfError {
    /// It cannot be read.
    #[error("{path}: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// It is not written as an INF.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// A `%string%` has no value in the Strings section.
    #[error(transparent)]
    UndefinedString(#[from] UndefinedString),
    /// A section that another one names does not exist.
    #[error("there is no section [{0}]")]
    MissingSection(String),
    /// A registry value of a kind the machine does not read.
    #[error("AddReg line {0:?}: only REG_DWORD (0x00010001) and REG_SZ (0) values are read")]
    UnknownValue(String),
    /// No model line for the machine's architecture.
    #[error("no models are listed for {0}")]
    NoModels(&'static str),
}

/// A registry value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryData {
    /// REG_DWORD.
    Dword(u32),
    /// REG_SZ.
    Text(String),
}

/// A value an INF puts into the registry, below the key its section stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryValue {
    /// Subkey, empty for the key itself.
    pub subkey: String,
    /// The value's name.
    pub name: String,
    /// What it holds.
    pub data: RegistryData,
}

/// What an INF says about the devices it installs on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InfFacts {
    /// Hardware identifiers of its models, as written.
    pub hardware_ids: Vec<String>,
    /// Name of the service, which is the driver.
    pub service: String,
    /// Values of the device's hardware key, from the `.HW` section.
    pub hardware: Vec<RegistryValue>,
    /// Values of the service's key (its `Parameters` among them), from the service's AddReg sections.
    pub parameters: Vec<RegistryValue>,
}

impl InfFacts {
    /// Reads the INF, or the template of one, at `path`.
    ///
    /// # Errors
    /// See [`InfError`].
    pub fn load(path: &Path) -> Result<Self, InfError> {
        let text = std::fs::read_to_string(path).map_err(|error| InfError::Unreadable {
            path: path.to_owned(),
            error,
        })?;
        Self::parse(&text)
    }

    /// The project's own INF.
    ///
    /// # Panics
    /// If it cannot be read: a defect of the project.
    #[must_use]
    pub fn project() -> Self {
        Self::parse(include_str!("../../../inf/dmacard.inx"))
            .unwrap_or_else(|error| panic!("inf/dmacard.inx: {error}"))
    }

    /// Reads the text of an INF.
    ///
    /// # Errors
    /// See [`InfError`].
    pub fn parse(text: &str) -> Result<Self, InfError> {
        let inf = Inf::parse(&stamp(text, STAMP))?;
        let mut facts = Self::default();
        for install in models(&inf, &mut facts.hardware_ids)? {
            let hardware = inf.lines(&format!("{install}.HW"));
            facts.hardware.extend(added(&inf, hardware)?);
            let services = inf.lines(&format!("{install}.Services"));
            for service in services.iter().filter(|line| line.is("AddService")) {
                facts.service = inf.expand(service.value(0))?;
                let section = section(&inf, service.value(2))?;
                facts.parameters.extend(added(&inf, &section.lines)?);
            }
        }
        Ok(facts)
    }

    /// The security descriptor of the devices, in SDDL, if there is one.
    #[must_use]
    pub fn security(&self) -> Option<&str> {
        self.hardware
            .iter()
            .find_map(|value| match (&*value.subkey, &*value.name, &value.data) {
                ("", "Security", RegistryData::Text(text)) => Some(text.as_str()),
                _ => None,
            })
    }

    /// Whether a device with this PCI hardware identifier is among the models; identifiers compare without case.
    #[must_use]
    pub fn matches(&self, hardware_id: &str) -> bool {
        self.hardware_ids
            .iter()
            .any(|model| model.eq_ignore_ascii_case(hardware_id))
    }
}

fn section<'a>(inf: &'a Inf, name: &str) -> Result<&'a Section, InfError> {
    inf.section(name)
        .ok_or_else(|| InfError::MissingSection(name.to_owned()))
}

/// Names of the install sections of all models for this architecture, each once; their hardware identifiers are
/// appended.
fn models(inf: &Inf, hardware_ids: &mut Vec<String>) -> Result<Vec<String>, InfError> {
    const DECORATION: &str = "ntamd64";
    let mut installs = Vec::new();
    for manufacturer in &section(inf, "Manufacturer")?.lines {
        let decoration = manufacturer.values[1..]
            .iter()
            .find(|decoration| decoration.to_ascii_lowercase().starts_with(DECORATION));
        let Some(decoration) = decoration else {
            continue;
        };
        let models = section(inf, &format!("{}.{decoration}", manufacturer.value(0)))?;
        for model in &models.lines {
            let install = install_section(inf, model.value(0));
            if !installs.contains(&install) {
                installs.push(install);
            }
            for identifier in &model.values[1..] {
                hardware_ids.push(inf.expand(identifier)?);
            }
        }
    }
    if installs.is_empty() {
        return Err(InfError::NoModels(DECORATION));
    }
    Ok(installs)
}

/// The install section's name with the decoration that exists.
fn install_section(inf: &Inf, name: &str) -> String {
    [".ntamd64", ".NT"]
        .iter()
        .map(|decoration| format!("{name}{decoration}"))
        .find(|decorated| inf.section(decorated).is_some())
        .unwrap_or_else(|| name.to_owned())
}

/// Values put into the registry by the sections that the AddReg lines of `lines` name.
fn added(inf: &Inf, lines: &[Line]) -> Result<Vec<RegistryValue>, InfError> {
    let mut added = Vec::new();
    for name in lines
        .iter()
        .filter(|line| line.is("AddReg"))
        .flat_map(|line| &line.values)
    {
        for line in &section(inf, name)?.lines {
            added.extend(registry_value(inf, line)?);
        }
    }
    Ok(added)
}

/// `HKR, subkey, name, flags, data`; `None` for a line that makes a key only.
fn registry_value(inf: &Inf, line: &Line) -> Result<Option<RegistryValue>, InfError> {
    const KEY_ONLY: u32 = 0x10;
    const REG_SZ: u32 = 0;
    const REG_DWORD: u32 = 0x0001_0001;
    let unknown = || InfError::UnknownValue(line.values.join(","));
    let flags = number(line.value(3)).ok_or_else(unknown)?;
    let data = inf.expand(line.value(4))?;
    let data = match flags {
        KEY_ONLY => return Ok(None),
        REG_SZ => RegistryData::Text(data),
        REG_DWORD => RegistryData::Dword(number(&data).ok_or_else(unknown)?),
        _ => return Err(unknown()),
    };
    Ok(Some(RegistryValue {
        subkey: inf.expand(line.value(1))?,
        name: inf.expand(line.value(2))?,
        data,
    }))
}

/// A decimal or hexadecimal number; nothing is zero.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None if text.is_empty() => Some(0),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INF: &str = r#"
[Version]
Signature = "$WINDOWS NT$" ; a comment

[Manufacturer]
%Vendor% = Models, NT$ARCH$.10.0...22000

[Models.NT$ARCH$.10.0...22000]
%Edu% = Card_Install, PCI\VEN_1234&DEV_11E8

[Card_Install.NT]
CopyFiles = Files

[Card_Install.NT.HW]
AddReg = Card_HW

[Card_HW]
HKR, "Interrupt Management",, 0x00000010
HKR, "Interrupt Management\MessageSignaledInterruptProperties", MSISupported, 0x00010001, 1
HKR,, Note, , "semicolon; %Vendor%"

[Card_Install.NT.Services]
AddService = dmacard, 0x2, Card_Service

[Card_Service]
ServiceBinary = %13%\dmacard.sys
AddReg = Card_Parameters

[Card_Parameters]
HKR, Parameters, TransferTimeout, 0x00010001, 0x1F4

[Strings]
Vendor = "The project"
Edu = "edu"
"#;

    #[test]
    fn facts_are_found() {
        let facts = InfFacts::parse(INF).expect("it is well formed");
        assert!(facts.matches(r"pci\ven_1234&dev_11e8"));
        assert!(!facts.matches(r"PCI\VEN_1234"));
        assert_eq!(facts.service, "dmacard");
        let value = |subkey: &str, name: &str, data| RegistryValue {
            subkey: subkey.to_owned(),
            name: name.to_owned(),
            data,
        };
        assert_eq!(
            facts.hardware,
            [
                value(
                    r"Interrupt Management\MessageSignaledInterruptProperties",
                    "MSISupported",
                    RegistryData::Dword(1)
                ),
                value(
                    "",
                    "Note",
                    RegistryData::Text("semicolon; The project".to_owned())
                ),
            ]
        );
        assert_eq!(
            facts.parameters,
            [value(
                "Parameters",
                "TransferTimeout",
                RegistryData::Dword(500)
            )]
        );
    }

    #[test]
    fn the_drivers_inf_is_read() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../inf/dmacard.inx");
        let facts = InfFacts::load(&path).expect("it is well formed");
        assert!(facts.matches(r"PCI\VEN_1234&DEV_11E8"));
        assert_eq!(facts.service, "dmacard");
        let messages = RegistryValue {
            subkey: r"Interrupt Management\MessageSignaledInterruptProperties".to_owned(),
            name: "MSISupported".to_owned(),
            data: RegistryData::Dword(1),
        };
        assert!(facts.hardware.contains(&messages));
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(matches!(
            InfFacts::parse(&INF.replace("[Card_Parameters]", "[Other]")),
            Err(InfError::MissingSection(name)) if name == "Card_Parameters"
        ));
        assert!(matches!(
            InfFacts::parse(&INF.replace("Vendor =", "Seller =")),
            Err(InfError::UndefinedString(UndefinedString(name))) if name == "Vendor"
        ));
        assert!(matches!(
            InfFacts::parse(&INF.replace("NT$ARCH$.10.0...22000", "NTarm64")),
            Err(InfError::NoModels(_))
        ));
    }
}
