//! Faults as they are written on a command line: `NAME[=CHANNEL[:NUMBER]][@SKIP]`, such as `hang=to-card` or
//! `tag=from-card:1@3`.

use std::str::FromStr;

use abi::card::Direction;
use thiserror::Error;

use super::Fault;

/// A fault to be armed, after it has let so many opportunities pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// What happens.
    pub fault: Fault,
    /// Opportunities to let pass.
    pub skip: u32,
}

/// What is no fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{0}` is no fault: hang, stick, fetch-error, drop-completion, duplicate-completion (=CHANNEL); tag, count, outcome, \
     consumer (=CHANNEL:NUMBER); late-write (=NANOSECONDS); drop-interrupt, duplicate-interrupt, endless-reset; each with @SKIP"
)]
pub struct NoFault(String);

impl FromStr for Planned {
    type Err = NoFault;

    fn from_str(text: &str) -> Result<Self, NoFault> {
        parse(text).ok_or_else(|| NoFault(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Planned> {
    let (what, skip) = match text.split_once('@') {
        Some((what, skip)) => (what, skip.parse().ok()?),
        None => (text, 0),
    };
    let (name, argument) = what.split_once('=').unwrap_or((what, ""));
    let (of, number) = argument.split_once(':').unwrap_or((argument, ""));
    let fault = match (name, number) {
        ("hang", "") => Fault::Hang(channel(of)?),
        ("stick", "") => Fault::Stick(channel(of)?),
        ("fetch-error", "") => Fault::FetchError(channel(of)?),
        ("drop-completion", "") => Fault::DropCompletion(channel(of)?),
        ("duplicate-completion", "") => Fault::DuplicateCompletion(channel(of)?),
        ("tag", number) => Fault::Tag(channel(of)?, number.parse().ok()?),
        ("count", number) => Fault::Count(channel(of)?, number.parse().ok()?),
        ("outcome", number) => Fault::Outcome(channel(of)?, number.parse().ok()?),
        ("consumer", number) => Fault::Consumer(channel(of)?, number.parse().ok()?),
        ("late-write", "") => Fault::LateWrite {
            after: of.parse().ok()?,
        },
        ("drop-interrupt", "") if of.is_empty() => Fault::DropInterrupt,
        ("duplicate-interrupt", "") if of.is_empty() => Fault::DuplicateInterrupt,
        ("endless-reset", "") if of.is_empty() => Fault::EndlessReset,
        _ => return None,
    };
    Some(Planned { fault, skip })
}

fn channel(name: &str) -> Option<Direction> {
    match name {
        "to-card" => Some(Direction::ToCard),
        "from-card" => Some(Direction::FromCard),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{FromCard, ToCard};

    #[test]
    fn every_fault_can_be_written() {
        for (text, fault, skip) in [
            ("hang=to-card", Fault::Hang(ToCard), 0),
            ("stick=from-card@7", Fault::Stick(FromCard), 7),
            ("fetch-error=to-card", Fault::FetchError(ToCard), 0),
            ("drop-completion=to-card", Fault::DropCompletion(ToCard), 0),
            (
                "duplicate-completion=from-card",
                Fault::DuplicateCompletion(FromCard),
                0,
            ),
            ("tag=to-card:3", Fault::Tag(ToCard, 3), 0),
            ("count=from-card:-1", Fault::Count(FromCard, -1), 0),
            ("outcome=to-card:85", Fault::Outcome(ToCard, 85), 0),
            ("consumer=to-card:-2@1", Fault::Consumer(ToCard, -2), 1),
            ("late-write=900", Fault::LateWrite { after: 900 }, 0),
            ("drop-interrupt", Fault::DropInterrupt, 0),
            ("duplicate-interrupt@2", Fault::DuplicateInterrupt, 2),
            ("endless-reset", Fault::EndlessReset, 0),
        ] {
            assert_eq!(text.parse(), Ok(Planned { fault, skip }), "{text}");
        }
    }

    #[test]
    fn what_is_no_fault_is_named() {
        for text in [
            "",
            "hang",
            "hang=up",
            "hang=to-card:1",
            "tag=to-card",
            "drop-interrupt=1",
            "endless-reset@x",
        ] {
            let refused = text.parse::<Planned>().expect_err(text);
            assert!(refused.to_string().starts_with(&format!("`{text}` is no")));
        }
    }
}
