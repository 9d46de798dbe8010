//! Plans as text.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::plan::{Corruption, Fault, FaultKind, FaultPlan, Moment};

/// What is wrong with the text of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{text}` is no fault: {reason}")]
pub struct PlanError {
    /// The part of the text that is not understood.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// How much later a duplicate arrives, and a device writes, unless the text says so.
const DEFAULT_DELAY: u64 = 10_000;

impl FromStr for FaultPlan {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, PlanError> {
        let faults = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        Ok(Self { faults })
    }
}

impl FromStr for Fault {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, PlanError> {
        parse_fault(text).map_err(|reason| PlanError {
            text: text.to_owned(),
            reason,
        })
    }
}

/// The parts before and after the first `separator`.
fn split(text: &str, separator: char) -> (&str, Option<&str>) {
    match text.split_once(separator) {
        Some((first, rest)) => (first, Some(rest)),
        None => (text, None),
    }
}

fn parse_fault(text: &str) -> Result<Fault, &'static str> {
    let (what, when) = split(text, '@');
    let (name, parameter) = split(what, '=');
    let (moment, times) = when.map_or(Ok((Moment::Now, 1)), parse_when)?;
    let delay = || parameter.map_or(Ok(DEFAULT_DELAY), parse_time);
    let needed = || parameter.ok_or("it needs a parameter");
    let kind = match name {
        "stray" => FaultKind::Stray {
            offset: parse_offset(needed()?)?,
        },
        "late" => FaultKind::LateDma { after_ns: delay()? },
        "delay" => FaultKind::DelayInterrupt {
            by_ns: parse_time(needed()?)?,
        },
        "duplicate" => FaultKind::DuplicateInterrupt { after_ns: delay()? },
        "corrupt" => parse_corruption(needed()?)?,
        _ if parameter.is_some() => return Err("no fault of this name has a parameter"),
        "hang" => FaultKind::Hang,
        "stuck" => FaultKind::Stuck,
        "drop" => FaultKind::DropInterrupt,
        "spurious" => FaultKind::SpuriousInterrupt,
        "ones" => FaultKind::AllOnes,
        "unplug" => FaultKind::Unplug,
        _ => return Err("there is no fault of this name"),
    };
    Ok(Fault {
        kind,
        moment,
        times,
    })
}

fn parse_when(text: &str) -> Result<(Moment, u32), &'static str> {
    let (moment, times) = split(text, 'x');
    let times = match times {
        Some("*") => Fault::ALWAYS,
        Some(times) => parse_count(times)?,
        None => 1,
    };
    let moment = match split(moment, ':') {
        (n, None) => Moment::Nth(parse_count(n)?),
        ("command", Some(n)) => Moment::Command(parse_count(n)?),
        ("interrupt", Some(n)) => Moment::Interrupt(parse_count(n)?),
        ("access", Some(n)) => Moment::Access(parse_count(n)?),
        ("after", Some(time)) => Moment::After(parse_time(time)?),
        _ => return Err("a moment is N, command:N, interrupt:N, access:N or after:TIME"),
    };
    Ok((moment, times))
}

fn parse_corruption(text: &str) -> Result<FaultKind, &'static str> {
    let at = text
        .find(['^', '&', '|', '='])
        .ok_or("it needs an offset, one of ^ & | =, and a value")?;
    let (place, operation) = text.split_at(at);
    let value = parse_number(&operation[1..])?;
    let corruption = match &operation[..1] {
        "^" => Corruption::Xor(value),
        "&" => Corruption::And(value),
        "|" => Corruption::Or(value),
        _ => Corruption::Set(value),
    };
    let (bar, offset) = match split(place, ':') {
        (offset, None) => ("0", offset),
        (bar, Some(offset)) => (bar, offset),
    };
    Ok(FaultKind::CorruptRead {
        bar: bar
            .parse()
            .map_err(|_| "the base address register is no number")?,
        offset: parse_number(offset)?,
        corruption,
    })
}

/// A number in decimal, or in hexadecimal after `0x`.
fn parse_number(text: &str) -> Result<u64, &'static str> {
    let result = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    result.map_err(|_| "a number is missing")
}

fn parse_count(text: &str) -> Result<u32, &'static str> {
    text.parse()
        .ok()
        .filter(|&count| count != 0 && count != Fault::ALWAYS)
        .ok_or("a count is missing, which starts with 1")
}

fn parse_offset(text: &str) -> Result<i64, &'static str> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = i64::try_from(parse_number(digits)?).map_err(|_| "the offset is too large")?;
    Ok(if negative { -value } else { value })
}

const UNITS: [(&str, u64); 4] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
];

fn parse_time(text: &str) -> Result<u64, &'static str> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let (_, unit) = UNITS
        .into_iter()
        .find(|(name, _)| *name == &text[digits.len()..])
        .ok_or("a time is a number and one of ns us ms s")?;
    parse_number(digits)?
        .checked_mul(unit)
        .filter(|&time| time > 0)
        .ok_or("a time is more than nothing, and at most 584 years")
}

/// A time in the largest unit it is a multiple of.
struct Time(u64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, unit) = UNITS
            .into_iter()
            .rev()
            .find(|(_, unit)| self.0.is_multiple_of(*unit))
            .unwrap_or(UNITS[0]);
        write!(f, "{}{name}", self.0 / unit)
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match *self {
            Self::Stray { offset } => {
                let sign = if offset < 0 { '-' } else { '+' };
                write!(f, "={sign}{:#x}", offset.unsigned_abs())
            }
            Self::LateDma { after_ns } | Self::DuplicateInterrupt { after_ns } => {
                write!(f, "={}", Time(after_ns))
            }
            Self::DelayInterrupt { by_ns } => write!(f, "={}", Time(by_ns)),
            Self::CorruptRead {
                bar,
                offset,
                corruption,
            } => {
                let (operation, value) = match corruption {
                    Corruption::Xor(value) => ('^', value),
                    Corruption::And(value) => ('&', value),
                    Corruption::Or(value) => ('|', value),
                    Corruption::Set(value) => ('=', value),
                };
                write!(f, "={bar}:{offset:#x}{operation}{value:#x}")
            }
            Self::Hang
            | Self::Stuck
            | Self::DropInterrupt
            | Self::SpuriousInterrupt
            | Self::AllOnes
            | Self::Unplug => Ok(()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        match self.moment {
            Moment::Now if self.times == 1 => return Ok(()),
            Moment::Now => f.write_str("@1")?,
            Moment::Nth(n) => write!(f, "@{n}")?,
            Moment::Command(n) => write!(f, "@command:{n}")?,
            Moment::Interrupt(n) => write!(f, "@interrupt:{n}")?,
            Moment::Access(n) => write!(f, "@access:{n}")?,
            Moment::After(time) => write!(f, "@after:{}", Time(time))?,
        }
        match self.times {
            1 => Ok(()),
            Self::ALWAYS => f.write_str("x*"),
            times => write!(f, "x{times}"),
        }
    }
}

impl fmt::Display for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            write!(f, "{separator}{fault}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_read_as_they_are_written() {
        let text = "hang@3,stuck,stray=-0x1000@2,late=50us@1x*,drop@3x2,delay=1ms,duplicate=10us,\
                    spurious@after:5ms,corrupt=0:0x24^0x100@7,corrupt=2:0x98|0x1,ones@access:17,\
                    unplug@command:3,unplug@interrupt:1";
        let plan: FaultPlan = text.parse().unwrap();
        assert_eq!(plan.to_string(), text);
        let corruption = FaultKind::CorruptRead {
            bar: 0,
            offset: 0x24,
            corruption: Corruption::Xor(0x100),
        };
        assert_eq!(plan.faults[8], Fault::at(corruption, Moment::Nth(7)));
        assert_eq!(" ".parse::<FaultPlan>().unwrap(), FaultPlan::default());
        for (short, long) in [
            ("corrupt=36=0", "corrupt=0:0x24=0x0"),
            ("duplicate", "duplicate=10us"),
        ] {
            assert_eq!(short.parse::<Fault>().unwrap().to_string(), long);
        }
    }

    #[test]
    fn what_is_no_plan_is_refused() {
        for text in [
            "hung",
            "hang=1",
            "hang@",
            "hang@0",
            "hang@1x0",
            "hang@day:1",
            "delay",
            "delay=5",
            "delay=0us",
            "delay=xs",
            "stray=",
            "corrupt=0x24",
            "corrupt=^1",
            "corrupt=a:0^1",
            "unplug@after:99999999999s",
        ] {
            let error = format!("drop, {text}").parse::<FaultPlan>().unwrap_err();
            assert_eq!(error.text, text);
        }
    }
}
