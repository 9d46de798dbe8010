//! Calls of a board and their answers.

use std::fmt;
use std::time::Duration;

use super::codec::{Decoder, Encoder};
use super::format::RecordError;
use crate::{BoardEvent, FunctionAddress, Message, Waited};

/// What a board was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    ConfigRead(FunctionAddress, u16, u8),
    ConfigWrite(FunctionAddress, u16, u8, u32),
    Read(u64, u8),
    Write(u64, u8, u64),
    Target(u8),
    Line(FunctionAddress, u8),
    Poll(u64),
    Wait(Duration),
}

/// What it answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Value(u64),
    Done,
    Target(Message),
    Events(Vec<BoardEvent>),
    Waited(Waited),
    Failed(String),
}

/// In an entry's first byte: the answer is an error.
const FAILED: u8 = 0x80;

impl Call {
    /// What the entry's first byte is.
    fn tag(&self) -> u8 {
        match self {
            Self::ConfigRead(..) => 3,
            Self::ConfigWrite(..) => 4,
            Self::Read(..) => 5,
            Self::Write(..) => 6,
            Self::Target(_) => 7,
            Self::Line(..) => 8,
            Self::Poll(_) => 9,
            Self::Wait(_) => 10,
        }
    }

    pub(super) fn encode(&self, answer: &Answer, out: &mut Encoder) {
        let failed = matches!(answer, Answer::Failed(_));
        out.byte(self.tag() | if failed { FAILED } else { 0 });
        match *self {
            Self::ConfigRead(function, offset, size) => {
                out.number(number(function));
                out.number(offset);
                out.number(size);
            }
            Self::ConfigWrite(function, offset, size, value) => {
                out.number(number(function));
                out.number(offset);
                out.number(size);
                out.number(value);
            }
            Self::Read(physical, size) => {
                out.number(physical);
                out.number(size);
            }
            Self::Write(physical, size, value) => {
                out.number(physical);
                out.number(size);
                out.number(value);
            }
            Self::Target(vector) => out.number(vector),
            Self::Line(function, pin) => {
                out.number(number(function));
                out.number(pin);
            }
            Self::Poll(now) => out.number(now),
            Self::Wait(limit) => out.number(nanoseconds(limit)),
        }
        answer.encode(out);
    }

    /// The call with this first byte, and its answer.
    pub(super) fn decode(tag: u8, input: &mut Decoder<'_>) -> Result<(Self, Answer), RecordError> {
        let call = match tag & !FAILED {
            3 => Self::ConfigRead(function(input)?, input.number()?, input.number()?),
            4 => Self::ConfigWrite(
                function(input)?,
                input.number()?,
                input.number()?,
                input.number()?,
            ),
            5 => Self::Read(input.number()?, input.number()?),
            6 => Self::Write(input.number()?, input.number()?, input.number()?),
            7 => Self::Target(input.number()?),
            8 => Self::Line(function(input)?, input.number()?),
            9 => Self::Poll(input.number()?),
            10 => Self::Wait(Duration::from_nanos(input.number()?)),
            _ => return Err(input.corrupt("there is no such entry")),
        };
        let answer = if tag & FAILED != 0 {
            Answer::Failed(input.text()?)
        } else {
            Answer::decode(&call, input)?
        };
        Ok((call, answer))
    }
}

impl Answer {
    fn encode(&self, out: &mut Encoder) {
        match self {
            Self::Value(value) => out.number(*value),
            Self::Done => {}
            Self::Target(message) => {
                out.number(message.address);
                out.number(message.data);
            }
            Self::Events(events) => {
                out.number(events.len() as u64);
                events.iter().for_each(|event| encode_event(event, out));
            }
            Self::Waited(waited) => {
                out.byte(waited.news.into());
                out.number(nanoseconds(waited.elapsed));
            }
            Self::Failed(text) => out.bytes(text.as_bytes()),
        }
    }

    fn decode(call: &Call, input: &mut Decoder<'_>) -> Result<Self, RecordError> {
        Ok(match call {
            Call::ConfigRead(..) | Call::Read(..) | Call::Line(..) => Self::Value(input.number()?),
            Call::ConfigWrite(..) | Call::Write(..) => Self::Done,
            Call::Target(_) => Self::Target(Message {
                address: input.number()?,
                data: input.number()?,
            }),
            Call::Poll(_) => {
                let count: u64 = input.number()?;
                let events: Result<_, _> = (0..count).map(|_| decode_event(input)).collect();
                Self::Events(events?)
            }
            Call::Wait(_) => Self::Waited(Waited {
                news: input.flag()?,
                elapsed: Duration::from_nanos(input.number()?),
            }),
        })
    }
}

fn encode_event(event: &BoardEvent, out: &mut Encoder) {
    match *event {
        BoardEvent::Line { line, asserted } => {
            out.byte(1);
            out.number(line);
            out.byte(asserted.into());
        }
        BoardEvent::Message { vector } => {
            out.byte(2);
            out.number(vector);
        }
        BoardEvent::DmaFault {
            function,
            address,
            write,
        } => {
            out.byte(3);
            out.number(number(function));
            out.number(address);
            out.byte(write.into());
        }
        BoardEvent::Removed { function } => {
            out.byte(4);
            out.number(number(function));
        }
    }
}

fn decode_event(input: &mut Decoder<'_>) -> Result<BoardEvent, RecordError> {
    Ok(match input.byte()? {
        1 => BoardEvent::Line {
            line: input.number()?,
            asserted: input.flag()?,
        },
        2 => BoardEvent::Message {
            vector: input.number()?,
        },
        3 => BoardEvent::DmaFault {
            function: function(input)?,
            address: input.number()?,
            write: input.flag()?,
        },
        4 => BoardEvent::Removed {
            function: function(input)?,
        },
        _ => return Err(input.corrupt("there is no such event")),
    })
}

fn number(function: FunctionAddress) -> u16 {
    u16::from(function.bus) << 8 | u16::from(function.device) << 3 | u16::from(function.function)
}

fn function(input: &mut Decoder<'_>) -> Result<FunctionAddress, RecordError> {
    let number: u16 = input.number()?;
    Ok(FunctionAddress::new(
        (number >> 8) as u8,
        (number >> 3) as u8,
        number as u8,
    ))
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ConfigRead(function, offset, size) => {
                write!(
                    f,
                    "read {size} bytes of {function}'s configuration at {offset:#x}"
                )
            }
            Self::ConfigWrite(function, offset, size, value) => write!(
                f,
                "write {value:#x} to {size} bytes of {function}'s configuration at {offset:#x}"
            ),
            Self::Read(physical, size) => write!(f, "read {size} bytes at {physical:#x}"),
            Self::Write(physical, size, value) => {
                write!(f, "write {value:#x} to {size} bytes at {physical:#x}")
            }
            Self::Target(vector) => write!(f, "ask for the message of vector {vector:#x}"),
            Self::Line(function, pin) => write!(f, "ask for the line of pin {pin} of {function}"),
            Self::Poll(now) => write!(f, "poll at {now} ns"),
            Self::Wait(limit) => write!(f, "wait for {} ns", limit.as_nanos()),
        }
    }
}
