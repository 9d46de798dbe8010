//! Who may open a device: tokens, and the security descriptors that drivers and INFs write in SDDL.

use thiserror::Error;

/// Access to a device, as rights of a file object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access(u32);

impl Access {
    /// `GENERIC_READ` of a file.
    pub const READ: Self = Self(0x0012_0089);
    /// `GENERIC_WRITE` of a file.
    pub const WRITE: Self = Self(0x0012_0116);
    /// Both.
    pub const READ_WRITE: Self = Self(Self::READ.0 | Self::WRITE.0);
    /// `FILE_READ_ATTRIBUTES` and `SYNCHRONIZE`: what CreateFile asks for when no access is wanted.
    pub const NONE: Self = Self(0x0010_0080);
    /// `GENERIC_EXECUTE` of a file.
    const EXECUTE: Self = Self(0x0012_00a0);
    /// `GENERIC_ALL` of a file.
    const ALL: Self = Self(0x001f_01ff);

    /// The access mask.
    #[must_use]
    pub fn mask(self) -> u32 {
        self.0
    }

    /// Whether `FILE_READ_DATA` is among the rights.
    #[must_use]
    pub fn reads(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether `FILE_WRITE_DATA` is among the rights.
    #[must_use]
    pub fn writes(self) -> bool {
        self.0 & 2 != 0
    }
}

/// On whose behalf a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// The local system.
    System,
    /// A member of Administrators, elevated.
    Administrator,
    /// A user who is not, or is not elevated.
    User,
}

impl Token {
    /// The groups and users it stands for, by their SDDL names.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::System => &["SY", "BA", "WD", "AU"],
            Self::Administrator => &["BA", "BU", "IU", "WD", "AU"],
            Self::User => &["BU", "IU", "WD", "AU"],
        }
    }
}

/// Why a security descriptor cannot be read.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{text:?} is no security descriptor the machine can read: {reason}")]
pub struct SddlError {
    text: String,
    reason: &'static str,
}

/// The discretionary access control list of a security descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor(Vec<Entry>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    allow: bool,
    mask: u32,
    name: String,
}

impl Default for Descriptor {
    /// What a device gets whose driver and INF say nothing: everybody may read and write.
    fn default() -> Self {
        Self::parse("D:(A;;GA;;;SY)(A;;GA;;;BA)(A;;GRGWGX;;;WD)").expect("a constant")
    }
}

impl Descriptor {
    /// Reads the list of an SDDL string such as `D:P(A;;GA;;;SY)(A;;GA;;;BA)`. Owner, group and audit parts are not
    /// supported: devices have none.
    ///
    /// # Errors
    /// [`SddlError`] names what is not understood: a descriptor that is guessed at protects nothing.
    pub fn parse(text: &str) -> Result<Self, SddlError> {
        let error = |reason| SddlError {
            text: text.to_owned(),
            reason,
        };
        let list = text.strip_prefix("D:").ok_or_else(|| error("no list"))?;
        let start = list.find('(').ok_or_else(|| error("an empty list"))?;
        if !matches!(&list[..start], "" | "P" | "PAI" | "AI") {
            return Err(error("flags of the list"));
        }
        let entries = list[start..]
            .strip_suffix(')')
            .ok_or_else(|| error("no end"))?;
        entries
            .split(')')
            .map(|entry| {
                let entry = entry.strip_prefix('(').ok_or_else(|| error("an entry"))?;
                let fields: Vec<&str> = entry.split(';').collect();
                let [kind, flags, rights, object, inherited, name] = fields[..] else {
                    return Err(error("an entry without six fields"));
                };
                if !(flags.is_empty() && object.is_empty() && inherited.is_empty()) {
                    return Err(error("an inherited or object entry"));
                }
                Ok(Entry {
                    allow: match kind {
                        "A" => true,
                        "D" => false,
                        _ => return Err(error("an entry that neither allows nor denies")),
                    },
                    mask: rights_mask(rights).ok_or_else(|| error("rights"))?,
                    name: name.to_owned(),
                })
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether `token` gets all of `access`: entries are looked at in order, the first word on a right holds.
    #[must_use]
    pub fn grants(&self, token: Token, access: Access) -> bool {
        let mut wanted = access.0;
        for entry in &self.0 {
            if !token.names().contains(&entry.name.as_str()) {
                continue;
            }
            if entry.allow {
                wanted &= !entry.mask;
            } else if wanted & entry.mask != 0 {
                return false;
            }
        }
        wanted == 0
    }
}

/// Two-letter rights one after the other, or a hexadecimal mask.
fn rights_mask(text: &str) -> Option<u32> {
    if let Some(digits) = text.strip_prefix("0x") {
        return u32::from_str_radix(digits, 16).ok();
    }
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).try_fold(0, |mask, index| {
        let right = match &text[index..index + 2] {
            "GA" | "FA" => Access::ALL,
            "GR" | "FR" => Access::READ,
            "GW" | "FW" => Access::WRITE,
            "GX" | "FX" => Access::EXECUTE,
            _ => return None,
        };
        Some(mask | right.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn administrators_only() {
        let descriptor = Descriptor::parse("D:P(A;;GA;;;SY)(A;;GA;;;BA)").expect("well formed");
        assert!(descriptor.grants(Token::System, Access::READ_WRITE));
        assert!(descriptor.grants(Token::Administrator, Access::READ_WRITE));
        assert!(!descriptor.grants(Token::User, Access::READ_WRITE));
        assert!(!descriptor.grants(Token::User, Access::NONE));
    }

    #[test]
    fn rights_add_up_and_denials_come_first() {
        let text = "D:P(D;;GW;;;BU)(A;;GR;;;WD)(A;;0x1F01FF;;;AU)";
        let descriptor = Descriptor::parse(text).expect("well formed");
        assert!(descriptor.grants(Token::System, Access::READ_WRITE));
        assert!(!descriptor.grants(Token::User, Access::READ_WRITE));
        // FILE_GENERIC_READ and FILE_GENERIC_WRITE share the standard rights, so the denial takes reading too.
        assert!(!descriptor.grants(Token::User, Access::READ));
    }

    #[test]
    fn the_default_lets_everybody_in() {
        assert!(Descriptor::default().grants(Token::User, Access::READ_WRITE));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in [
            "",
            "O:BA",
            "D:P",
            "D:P(A;;GA;;;SY",
            "D:(A;OICI;GA;;;SY)",
            "D:(A;;ZZ;;;SY)",
            "D:(AU;;GA;;;SY)",
        ] {
            assert!(Descriptor::parse(text).is_err(), "{text}");
        }
    }
}
