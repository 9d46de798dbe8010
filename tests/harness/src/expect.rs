//! How a test's process is to end, and whether it did.

use crate::{BUG_CHECK_EXIT, MACHINE_STOP_EXIT};

/// How a test's process is to end.
#[derive(Debug, Clone)]
pub enum Expectation {
    /// The test's body returns.
    Pass,
    /// The machine stops with a Windows bug check.
    BugCheck(BugCheck),
    /// The machine stops for a reason of its own.
    MachineStop(MachineStop),
}

/// A bug check: its code, and those of its parameters and words of its explanation that matter.
#[derive(Debug, Clone)]
pub struct BugCheck {
    code: u32,
    parameters: [Option<u64>; 4],
    printed: Option<String>,
    words: Vec<String>,
}

/// A stop that Windows does not have, known by words of its text.
#[derive(Debug, Clone)]
pub struct MachineStop {
    words: String,
    said: Vec<String>,
}

/// Expects the bug check `code`, whatever its parameters.
#[must_use]
pub fn bug_check(code: u32) -> BugCheck {
    BugCheck {
        code,
        parameters: [None; 4],
        printed: None,
        words: Vec::new(),
    }
}

/// Expects a `*** MACHINE STOP:` whose line contains `words`.
#[must_use]
pub fn machine_stop(words: impl Into<String>) -> MachineStop {
    MachineStop {
        words: words.into(),
        said: Vec::new(),
    }
}

impl BugCheck {
    /// The first parameter must be `value`.
    #[must_use]
    pub fn p1(self, value: u64) -> Self {
        self.parameter(0, value)
    }

    /// The second parameter must be `value`.
    #[must_use]
    pub fn p2(self, value: u64) -> Self {
        self.parameter(1, value)
    }

    /// The second parameter must be the hexadecimal number that the test printed after `words`: a handle, for instance.
    #[must_use]
    pub fn p2_after(mut self, words: impl Into<String>) -> Self {
        self.printed = Some(words.into());
        self
    }

    /// The third parameter must be `value`.
    #[must_use]
    pub fn p3(self, value: u64) -> Self {
        self.parameter(2, value)
    }

    /// The fourth parameter must be `value`.
    #[must_use]
    pub fn p4(self, value: u64) -> Self {
        self.parameter(3, value)
    }

    /// The output must contain `words`, for instance the name of the routine.
    #[must_use]
    pub fn says(mut self, words: impl Into<String>) -> Self {
        self.words.push(words.into());
        self
    }

    fn parameter(mut self, index: usize, value: u64) -> Self {
        self.parameters[index] = Some(value);
        self
    }

    fn check(&self, output: &str) -> Result<(), String> {
        let (code, parameters) =
            stop_line(output).ok_or("the output has no line \"*** STOP: ...\"")?;
        if code != self.code {
            return Err(format!(
                "stopped with 0x{code:X}, expected 0x{:X}",
                self.code
            ));
        }
        for (index, expected) in self.parameters.iter().enumerate() {
            if let Some(expected) = expected
                && parameters[index] != *expected
            {
                return Err(format!(
                    "parameter {} of 0x{code:X} is 0x{:X}, expected 0x{expected:X}",
                    index + 1,
                    parameters[index],
                ));
            }
        }
        if let Some(words) = &self.printed {
            let value = number_after(output, words)
                .ok_or_else(|| format!("the output has no number after {words:?}"))?;
            if parameters[1] != value {
                return Err(format!(
                    "parameter 2 of 0x{code:X} is 0x{:X}, and 0x{value:X} was printed after {words:?}",
                    parameters[1],
                ));
            }
        }
        all_said(&self.words, output)
    }
}

impl MachineStop {
    /// The output must contain `words` as well.
    #[must_use]
    pub fn says(mut self, words: impl Into<String>) -> Self {
        self.said.push(words.into());
        self
    }

    fn check(&self, output: &str) -> Result<(), String> {
        let stopped = output
            .lines()
            .any(|line| line.contains("*** MACHINE STOP:") && line.contains(&self.words));
        if !stopped {
            return Err(format!(
                "no machine stop in the output says {:?}",
                self.words
            ));
        }
        all_said(&self.said, output)
    }
}

/// Whether `output` contains all `words`.
fn all_said(words: &[String], output: &str) -> Result<(), String> {
    match words.iter().find(|words| !output.contains(*words)) {
        Some(words) => Err(format!("the output does not say {words:?}")),
        None => Ok(()),
    }
}

impl From<BugCheck> for Expectation {
    fn from(stop: BugCheck) -> Self {
        Self::BugCheck(stop)
    }
}

impl From<MachineStop> for Expectation {
    fn from(stop: MachineStop) -> Self {
        Self::MachineStop(stop)
    }
}

impl Expectation {
    /// Compares with the exit code (`None`: ended by a signal) and output of a process; the error says what
    /// differs.
    pub(crate) fn check(&self, exit: Option<i32>, output: &str) -> Result<(), String> {
        let wanted = match self {
            Self::Pass => 0,
            Self::BugCheck(_) => BUG_CHECK_EXIT,
            Self::MachineStop(_) => MACHINE_STOP_EXIT,
        };
        if exit != Some(wanted) {
            let ended = match exit {
                Some(0) => "returned".to_owned(),
                Some(101) => "panicked".to_owned(),
                Some(BUG_CHECK_EXIT) => "stopped with a bug check".to_owned(),
                Some(MACHINE_STOP_EXIT) => "stopped the machine".to_owned(),
                Some(code) => format!("exited with code {code}"),
                None => "was ended by a signal".to_owned(),
            };
            return Err(format!("the test {ended}, expected {}", self.describe()));
        }
        match self {
            Self::Pass => Ok(()),
            Self::BugCheck(stop) => stop.check(output),
            Self::MachineStop(stop) => stop.check(output),
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Pass => "it to return".to_owned(),
            Self::BugCheck(stop) => format!("bug check 0x{:X}", stop.code),
            Self::MachineStop(stop) => format!("a machine stop saying {:?}", stop.words),
        }
    }
}

/// The code and parameters of the first `*** STOP: 0xCODE (0xP1, 0xP2, 0xP3, 0xP4)` in `output`.
fn stop_line(output: &str) -> Option<(u32, [u64; 4])> {
    let (_, rest) = output.split_once("*** STOP: 0x")?;
    let (code, rest) = rest.split_once('(')?;
    let (list, _) = rest.split_once(')')?;
    let mut parameters = [0; 4];
    let mut written = list.split(',');
    for parameter in &mut parameters {
        let digits = written.next()?.trim().trim_start_matches("0x");
        *parameter = u64::from_str_radix(digits, 16).ok()?;
    }
    Some((u32::from_str_radix(code.trim(), 16).ok()?, parameters))
}

/// The hexadecimal number, with its 0x, that follows `words` in `output`.
fn number_after(output: &str, words: &str) -> Option<u64> {
    let (_, rest) = output.split_once(words)?;
    let rest = rest.trim_start().strip_prefix("0x")?;
    let end = rest
        .find(|c: char| !c.is_ascii_hexdigit())
        .unwrap_or(rest.len());
    u64::from_str_radix(&rest[..end], 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOP: &str = "before\n*** STOP: 0x0000010D (0x0000000000000008, 0x00007F0012345678, 0x1, 0x0) WDF_VIOLATION\nWdfDmaTransactionExecute\n";

    #[test]
    fn the_stop_line_is_read() {
        assert_eq!(stop_line(STOP), Some((0x10D, [8, 0x7F00_1234_5678, 1, 0])));
        assert_eq!(stop_line("nothing"), None);
        assert_eq!(stop_line("*** STOP: 0x10D (0x1, 0x2)"), None);
    }

    #[test]
    fn parameters_not_named_are_free() {
        let expectation: Expectation = bug_check(0x10D)
            .p1(8)
            .p3(1)
            .says("WdfDmaTransactionExecute")
            .into();
        assert_eq!(expectation.check(Some(BUG_CHECK_EXIT), STOP), Ok(()));
    }

    #[test]
    fn a_handle_is_compared_with_the_one_printed() {
        let check = |printed: &str| {
            Expectation::from(bug_check(0x10D).p2_after("handle "))
                .check(Some(BUG_CHECK_EXIT), &format!("handle {printed}\n{STOP}"))
        };
        assert_eq!(check("0x7f0012345678"), Ok(()));
        assert!(check("0x7f0012345679").unwrap_err().contains("parameter 2"));
        assert!(check("nothing").unwrap_err().contains("no number"));
    }

    #[test]
    fn differences_are_named() {
        let check = |stop: BugCheck| Expectation::from(stop).check(Some(BUG_CHECK_EXIT), STOP);
        assert!(check(bug_check(0xE6)).unwrap_err().contains("0x10D"));
        assert!(
            check(bug_check(0x10D).p3(4))
                .unwrap_err()
                .contains("parameter 3")
        );
        assert!(
            check(bug_check(0x10D).says("Release"))
                .unwrap_err()
                .contains("Release")
        );
        assert!(
            Expectation::Pass
                .check(Some(BUG_CHECK_EXIT), STOP)
                .unwrap_err()
                .contains("bug check")
        );
        assert!(
            Expectation::Pass
                .check(None, "")
                .unwrap_err()
                .contains("signal")
        );
    }

    #[test]
    fn a_machine_stop_is_known_by_its_words() {
        let output = "*** MACHINE STOP: UNIMPLEMENTED: WdfUsbTargetDeviceCreate\n";
        let check = |words: &str| {
            Expectation::from(machine_stop(words)).check(Some(MACHINE_STOP_EXIT), output)
        };
        assert_eq!(check("WdfUsbTargetDeviceCreate"), Ok(()));
        assert!(check("deadlock").is_err());
        let said = Expectation::from(machine_stop("UNIMPLEMENTED").says("last events"))
            .check(Some(MACHINE_STOP_EXIT), output);
        assert!(said.unwrap_err().contains("last events"));
    }
}
