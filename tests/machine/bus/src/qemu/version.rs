//! Which QEMU is installed.

use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::BoardError;

/// The oldest QEMU that has been tried.
const NEEDED: (u32, u32) = (7, 2);
const NEEDED_TEXT: &str = "7.2";

/// The Debian package with `qemu-system-x86_64`.
const PACKAGE: &str = "qemu-system-x86";

/// A QEMU's version, as it prints it itself: `7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    major: u32,
    minor: u32,
    text: String,
}

impl Version {
    /// Asks `program`, and refuses what is too old.
    pub(super) fn of(program: &Path) -> Result<Self, BoardError> {
        let output = Command::new(program)
            .arg("--version")
            .stdin(Stdio::null())
            .output()
            .map_err(|source| {
                if source.kind() == std::io::ErrorKind::NotFound {
                    BoardError::Missing {
                        program: program.display().to_string(),
                        package: PACKAGE,
                    }
                } else {
                    BoardError::System {
                        action: "run QEMU",
                        source,
                    }
                }
            })?;
        let answer = String::from_utf8_lossy(&output.stdout);
        let version = Self::parse(&answer).ok_or_else(|| BoardError::Protocol {
            program: program.display().to_string(),
            request: "--version".to_owned(),
            answer: answer.lines().next().unwrap_or_default().to_owned(),
        })?;
        if (version.major, version.minor) < NEEDED {
            return Err(BoardError::TooOld {
                program: program.display().to_string(),
                found: version.text,
                needed: NEEDED_TEXT,
            });
        }
        Ok(version)
    }

    /// Major and minor number.
    pub fn numbers(&self) -> (u32, u32) {
        (self.major, self.minor)
    }

    /// The whole of it.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn parse(answer: &str) -> Option<Self> {
        let text = answer
            .lines()
            .next()?
            .strip_prefix("QEMU emulator version ")?
            .trim();
        let mut numbers = text.split(|c: char| !c.is_ascii_digit());
        let major = numbers.next()?.parse().ok()?;
        let minor = numbers.next()?.parse().ok()?;
        Some(Self {
            major,
            minor,
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let debian =
            Version::parse("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright\n")
                .unwrap();
        assert_eq!(
            (debian.numbers(), debian.text()),
            ((7, 2), "7.2.22 (Debian 1:7.2+dfsg-7)")
        );
        assert_eq!(
            Version::parse("QEMU emulator version 11.1.3\n")
                .unwrap()
                .numbers(),
            (11, 1)
        );
        assert_eq!(Version::parse("qemu: no such option\n"), None);
    }
}
