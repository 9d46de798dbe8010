//! `copy FILE`: the file goes through the device's memory, and what comes back is compared with what went out.
//!
//! The device's memory is divided into slots of one chunk, each with a buffer to write from and another to read back
//! into: a bounded pool serves a file of any size. In each round all slots are written, then all are read back, so as
//! many requests are under way as there are slots. A device whose memory holds one chunk only, as edu's, has one slot. A
//! device that is no memory but a loop gets each chunk while it is read back.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use abi::info::{DeviceInfo, DeviceKind};
use demo_report::input;
use sha2::{Digest, Sha256};

use crate::device::{Device, Direction};
use crate::error::Error;
use crate::pattern;
use crate::progress::Progress;

/// Longest chunk, whatever the device allows.
const MAXIMUM_CHUNK: u64 = 1 << 20;
/// Most slots; each has two buffers.
const MAXIMUM_SLOTS: u64 = 8;

/// What a copy did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Bytes of the file.
    pub bytes: u64,
    /// SHA-256 of what was written to the device, in hexadecimal.
    pub written: String,
    /// SHA-256 of what was read back.
    pub read: String,
    /// Reads and writes made.
    pub requests: u64,
}

impl Copied {
    /// Whether what came back is what went out.
    #[must_use]
    pub fn verified(&self) -> bool {
        self.written == self.read
    }

    /// The same, if [`verified`](Self::verified).
    ///
    /// # Errors
    /// [`Error::Mismatch`].
    pub fn into_verified(self) -> Result<Self, Error> {
        if self.verified() {
            Ok(self)
        } else {
            Err(Error::Mismatch(
                "what came back is not what went out".to_owned(),
            ))
        }
    }
}

/// Copies the file at `path` through `device`, and shows how far it is on standard error, under the name `what`.
///
/// # Errors
/// [`Error::File`] if it cannot be read, otherwise as [`copy`].
pub fn copy_file<D: Device>(
    device: &D,
    info: &DeviceInfo,
    path: &Path,
    what: &str,
) -> Result<Copied, Error> {
    let failed = Error::file(path);
    let (mut file, length) = input::open(path).map_err(&failed)?;
    let mut progress = Progress::bytes(what, length);
    copy(
        device,
        info,
        |chunk| read_up_to(&mut file, chunk).map_err(&failed),
        &mut progress,
    )
}

/// Copies what `source` fills into the chunks it is given, until it fills none, through `device`.
///
/// # Errors
/// Those of `source`, [`Error::Transfer`], [`Error::Short`], [`Error::OutOfMemory`]. That the data differs is not an
/// error here: see [`Copied::verified`].
pub fn copy<D: Device>(
    device: &D,
    info: &DeviceInfo,
    source: impl FnMut(&mut [u8]) -> Result<usize, Error>,
    progress: &mut Progress,
) -> Result<Copied, Error> {
    match DeviceKind::from_code(info.device_kind) {
        Some(DeviceKind::Fifo) => loop_back(device, info, source, progress),
        _ => copy_memory(device, info, source, progress),
    }
}

/// By way of the device's memory.
fn copy_memory<D: Device>(
    device: &D,
    info: &DeviceInfo,
    mut source: impl FnMut(&mut [u8]) -> Result<usize, Error>,
    progress: &mut Progress,
) -> Result<Copied, Error> {
    let mut idle = slots(device, info)?;
    let mut sums = Sums::default();
    loop {
        let mut writing = Vec::new();
        while let Some(mut slot) = idle.pop() {
            let length = source(&mut slot.out)?;
            if length == 0 {
                idle.push(slot);
                break;
            }
            let Slot { offset, out, back } = slot;
            let pending = device.start(Direction::Write, offset, out, 0..length);
            writing.push((offset, length, pending, back));
        }
        if writing.is_empty() {
            return Ok(sums.finish());
        }
        let mut reading = Vec::new();
        for (offset, length, pending, mut back) in writing {
            let out = device
                .wait(pending)
                .whole(Direction::Write, offset, length)?;
            // What is not read must not look read: the buffer still holds an earlier chunk.
            back[..length].fill(!out[0]);
            let pending = device.start(Direction::Read, offset, back, 0..length);
            reading.push((offset, length, pending, out));
        }
        for (offset, length, pending, out) in reading {
            let back = device
                .wait(pending)
                .whole(Direction::Read, offset, length)?;
            sums.add(&out[..length], &back[..length]);
            progress.advance(length as u64);
            idle.push(Slot { offset, out, back });
        }
    }
}

/// Longest chunk through a loop.
const LOOPED_CHUNK: u32 = 1 << 17;
/// Lengths that a device accepts that is a stream are multiples of this.
const LOOPED_UNIT: usize = 4;

/// By way of a device that gives back what it is given: each chunk is written and read at the same time, since the device
/// keeps next to nothing. One that has a single channel for both is given no more than it keeps, and then read.
fn loop_back<D: Device>(
    device: &D,
    info: &DeviceInfo,
    mut source: impl FnMut(&mut [u8]) -> Result<usize, Error>,
    progress: &mut Progress,
) -> Result<Copied, Error> {
    let chunk = if info.transfers_in_flight > 1 {
        info.maximum_request.min(LOOPED_CHUNK)
    } else {
        abi::fifo::DEPTH
    } as usize;
    let (mut out, mut back) = (device.buffer(chunk)?, device.buffer(chunk)?);
    let mut sums = Sums::default();
    loop {
        let length = source(&mut out)?;
        if length == 0 {
            return Ok(sums.finish());
        }
        let padded = length.next_multiple_of(LOOPED_UNIT);
        out[length..padded].fill(0);
        // What is not read must not look read: the buffer still holds an earlier chunk.
        back[..padded].fill(!out[0]);
        let write = device.start(Direction::Write, 0, out, 0..padded);
        let read = device.start(Direction::Read, 0, back, 0..padded);
        let (write, read) = (device.wait(write), device.wait(read));
        out = write.whole(Direction::Write, 0, padded)?;
        back = read.whole(Direction::Read, 0, padded)?;
        sums.add(&out[..length], &back[..length]);
        progress.advance(length as u64);
    }
}

/// One chunk's place in the device's memory, with its buffers.
struct Slot<B> {
    offset: u64,
    out: B,
    back: B,
}

fn slots<D: Device>(device: &D, info: &DeviceInfo) -> Result<Vec<Slot<D::Buffer>>, Error> {
    let chunk = info
        .memory_size
        .min(u64::from(info.maximum_request))
        .min(MAXIMUM_CHUNK);
    let count = (info.memory_size / chunk.max(1)).clamp(1, MAXIMUM_SLOTS);
    (0..count)
        .map(|index| {
            Ok(Slot {
                offset: index * chunk,
                out: device.buffer(chunk as usize)?,
                back: device.buffer(chunk as usize)?,
            })
        })
        .collect()
}

/// Checksums and counts of a copy under way.
#[derive(Default)]
struct Sums {
    bytes: u64,
    requests: u64,
    written: Sha256,
    read: Sha256,
}

impl Sums {
    fn add(&mut self, written: &[u8], read: &[u8]) {
        if let Some(difference) = pattern::difference(written, read) {
            eprintln!("chunk at byte {} of the file: {difference}", self.bytes);
        }
        self.bytes += written.len() as u64;
        self.requests += 2;
        self.written.update(written);
        self.read.update(read);
    }

    fn finish(self) -> Copied {
        Copied {
            bytes: self.bytes,
            written: hexadecimal(&self.written.finalize()),
            read: hexadecimal(&self.read.finalize()),
            requests: self.requests,
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}

/// Fills `chunk` as far as the file goes.
fn read_up_to(file: &mut File, chunk: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < chunk.len() {
        match file.read(&mut chunk[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, Fault};

    fn run(fake: &Fake, mut data: &[u8]) -> Result<Copied, Error> {
        copy(
            fake,
            &fake.info(),
            |chunk| Ok(data.read(chunk).expect("a slice can be read")),
            &mut Progress::quiet(),
        )
    }

    fn data(length: usize) -> Vec<u8> {
        let mut data = vec![0; length];
        pattern::Pattern::Random(1).fill(0, &mut data);
        data
    }

    #[test]
    fn one_slot_and_many_give_the_same_sums() {
        let data = data(10_000);
        let one = run(&Fake::new(4095, 4095), &data).expect("the device works");
        let many = run(&Fake::new(4096, 500), &data).expect("the device works");
        assert!(one.verified() && many.verified());
        assert_eq!(one.written, many.written);
        assert_eq!((one.bytes, one.requests), (10_000, 6));
        assert_eq!((many.bytes, many.requests), (10_000, 40));
    }

    #[test]
    fn an_empty_file_is_copied() {
        let copied = run(&Fake::new(4095, 4095), &[]).expect("nothing to do");
        assert!(copied.verified());
        assert_eq!((copied.bytes, copied.requests), (0, 0));
        assert!(copied.written.starts_with("e3b0c442"), "SHA-256 of nothing");
    }

    #[test]
    fn a_flipped_bit_is_seen() {
        let fake = Fake::new(4095, 4095).with(Fault::FlipBit { at: 77 });
        assert!(
            !run(&fake, &data(5000))
                .expect("it reports success")
                .verified()
        );
    }

    #[test]
    fn a_lost_read_is_seen_even_when_the_file_repeats() {
        let fake = Fake::new(4095, 4095).with(Fault::ReadNothing);
        assert!(
            !run(&fake, &[7; 9000])
                .expect("it reports success")
                .verified()
        );
    }

    #[test]
    fn an_error_ends_the_copy() {
        let fake = Fake::new(4095, 4095).with(Fault::Fail(crate::Win32Error::IO_DEVICE));
        assert!(matches!(run(&fake, &data(10)), Err(Error::Transfer { .. })));
    }
}
