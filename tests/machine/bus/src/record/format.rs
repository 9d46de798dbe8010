//! The file: its header, its entries, and what may be wrong with it.

use std::ops::Range;

use thiserror::Error;

use super::call::{Answer, Call};
use super::codec::{Decoder, Encoder};
use crate::{BoardError, MemoryConfig, MemoryError};

const MAGIC: &[u8; 6] = b"BUSREC";
const VERSION: u16 = 2;

/// Why a session is not recorded or replayed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The file cannot be written or read.
    #[error("cannot {action}")]
    File {
        /// What was tried.
        action: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The file is something else.
    #[error("this is no record of a session with a board")]
    NoRecord,
    /// The file is a record in another format.
    #[error("the record is of version {found}, only version {known} is known")]
    Version {
        /// Its version.
        found: u16,
        /// The version that can be read.
        known: u16,
    },
    /// The file ends within an entry.
    #[error("the record is cut off: it ends within an entry, after {length} bytes")]
    Truncated {
        /// Bytes in the file.
        length: u64,
    },
    /// The file holds what nobody writes.
    #[error("the record is damaged before byte {offset}: {reason}")]
    Corrupt {
        /// Where reading stopped.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// The board is in this process and needs no record to go the same way again, or its device is not in a QEMU.
    #[error("only a session with a device in QEMU can be recorded")]
    NotExternal,
    /// The machine is not set up as the one that was recorded, so it would go another way.
    #[error("the record is of another machine: recorded is `{recorded}`, this is `{found}`")]
    OtherMachine {
        /// The machine whose session was recorded.
        recorded: String,
        /// The machine to replay it.
        found: String,
    },
    /// The board to be recorded cannot be reached.
    #[error(transparent)]
    Board(#[from] BoardError),
    /// Guest RAM could not be set up as it was.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// What is known about the board besides its answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) total: u64,
    pub(super) seed: u64,
    /// The machine that the board was in, in words of its own.
    pub(super) machine: String,
    /// Low pages that the board has allocated for itself.
    pub(super) reserved: u64,
    pub(super) window: Range<u64>,
    pub(super) description: String,
    pub(super) external_version: Option<String>,
}

/// A part of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// So many polls reported nothing.
    Quiet(u64),
    /// A device wrote memory.
    Memory(u64, Vec<u8>),
    /// A call and its answer.
    Call(Call, Answer),
}

const QUIET: u8 = 1;
const MEMORY: u8 = 2;

impl Header {
    pub(super) fn memory(&self) -> MemoryConfig {
        MemoryConfig {
            total: self.total,
            seed: self.seed,
        }
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.bytes.extend_from_slice(MAGIC);
        out.bytes.extend_from_slice(&VERSION.to_le_bytes());
        for number in [
            self.total,
            self.seed,
            self.reserved,
            self.window.start,
            self.window.end,
        ] {
            out.number(number);
        }
        out.bytes(self.machine.as_bytes());
        out.bytes(self.description.as_bytes());
        out.byte(self.external_version.is_some().into());
        if let Some(version) = &self.external_version {
            out.bytes(version.as_bytes());
        }
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, RecordError> {
        if input.take(MAGIC.len()).ok() != Some(MAGIC) {
            return Err(RecordError::NoRecord);
        }
        let found = u16::from_le_bytes([input.byte()?, input.byte()?]);
        if found != VERSION {
            return Err(RecordError::Version {
                found,
                known: VERSION,
            });
        }
        Ok(Self {
            total: input.number()?,
            seed: input.number()?,
            reserved: input.number()?,
            window: input.number()?..input.number()?,
            machine: input.text()?,
            description: input.text()?,
            external_version: if input.flag()? {
                Some(input.text()?)
            } else {
                None
            },
        })
    }
}

impl Entry {
    pub(super) fn encode(&self, out: &mut Encoder) {
        match self {
            Self::Quiet(count) => {
                out.byte(QUIET);
                out.number(*count);
            }
            Self::Memory(physical, bytes) => {
                out.byte(MEMORY);
                out.number(*physical);
                out.bytes(bytes);
            }
            Self::Call(call, answer) => call.encode(answer, out),
        }
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, RecordError> {
        Ok(match input.byte()? {
            QUIET => Self::Quiet(input.number()?),
            MEMORY => Self::Memory(input.number()?, input.bytes()?.to_vec()),
            tag => {
                let (call, answer) = Call::decode(tag, input)?;
                Self::Call(call, answer)
            }
        })
    }
}

/// Reads a whole record.
pub(super) fn decode(bytes: &[u8]) -> Result<(Header, Vec<Entry>), RecordError> {
    let mut input = Decoder::new(bytes);
    let header = Header::decode(&mut input)?;
    let mut entries = Vec::new();
    while !input.is_empty() {
        entries.push(Entry::decode(&mut input)?);
    }
    Ok((header, entries))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{BoardEvent, FunctionAddress, Message, Waited};

    const EDU: FunctionAddress = FunctionAddress::new(1, 31, 7);

    fn header() -> Header {
        Header {
            total: 6 << 30,
            seed: 7,
            machine: "a machine".to_owned(),
            reserved: 1,
            window: 0xc000_0000..0xe000_0000,
            description: "a board".to_owned(),
            external_version: Some("1.2".to_owned()),
        }
    }

    fn entries() -> Vec<Entry> {
        let events = vec![
            BoardEvent::Line {
                line: 20,
                asserted: true,
            },
            BoardEvent::Message { vector: 0x61 },
            BoardEvent::DmaFault {
                function: EDU,
                address: 0x5000,
                write: false,
            },
            BoardEvent::Removed { function: EDU },
        ];
        let message = Message {
            address: 0xfee0_0000,
            data: 0x61,
        };
        let waited = Waited {
            news: true,
            elapsed: Duration::from_micros(17),
        };
        vec![
            Entry::Quiet(300),
            Entry::Memory(0x1_0000_0000, vec![1, 2, 3]),
            Entry::Call(Call::ConfigRead(EDU, 4, 2), Answer::Value(0xffff)),
            Entry::Call(Call::ConfigWrite(EDU, 4, 2, 6), Answer::Done),
            Entry::Call(Call::Read(0xc000_0080, 8), Answer::Value(u64::MAX)),
            Entry::Call(Call::Write(0xc000_0080, 8, 5), Answer::Done),
            Entry::Call(Call::Target(0x61), Answer::Target(message)),
            Entry::Call(Call::Line(EDU, 1), Answer::Value(20)),
            Entry::Call(Call::Poll(1 << 40), Answer::Events(events)),
            Entry::Call(
                Call::Wait(Duration::from_millis(20)),
                Answer::Waited(waited),
            ),
            Entry::Call(Call::Read(0, 4), Answer::Failed("gone".to_owned())),
        ]
    }

    fn encoded() -> Vec<u8> {
        let mut out = Encoder::default();
        header().encode(&mut out);
        entries().iter().for_each(|entry| entry.encode(&mut out));
        out.bytes
    }

    #[test]
    fn a_record_comes_back() {
        assert_eq!(decode(&encoded()).unwrap(), (header(), entries()));
    }

    #[test]
    fn every_cut_is_noticed_or_between_entries() {
        let bytes = encoded();
        let mut whole = 0;
        for length in MAGIC.len()..bytes.len() {
            match decode(&bytes[..length]) {
                Ok((_, read)) => {
                    assert_eq!(read, entries()[..read.len()]);
                    whole += 1;
                }
                Err(RecordError::Truncated { length: found }) => assert_eq!(found, length as u64),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(whole, entries().len());
    }

    #[test]
    fn other_files_are_refused() {
        let bytes = encoded();
        let changed = |at: usize, byte| {
            let mut bytes = bytes.clone();
            bytes[at] = byte;
            decode(&bytes).unwrap_err()
        };
        assert!(matches!(changed(0, b'b'), RecordError::NoRecord));
        assert!(matches!(decode(b"BUS"), Err(RecordError::NoRecord)));
        assert!(matches!(
            changed(6, 1),
            RecordError::Version { found: 1, known: 2 }
        ));
        let mut bytes = bytes.clone();
        bytes.push(0x7f);
        let error = decode(&bytes).unwrap_err();
        assert!(matches!(error, RecordError::Corrupt { .. }), "{error}");
    }
}
