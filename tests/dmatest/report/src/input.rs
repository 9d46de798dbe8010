//! The file to send.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Longest file that the demo takes, bytes. It would take edu an hour.
pub const DEMO_MAXIMUM: u64 = 4 << 30;

/// Opens a file and says how long it is. What has no length is refused: a directory, a pipe, a terminal.
///
/// # Errors
/// Those of the system; [`io::ErrorKind::IsADirectory`], [`io::ErrorKind::InvalidInput`].
pub fn open(path: &Path) -> io::Result<(File, u64)> {
    let kind = fs::metadata(path)?.file_type();
    if kind.is_dir() {
        let text = "this is a directory, not a file";
        return Err(io::Error::new(io::ErrorKind::IsADirectory, text));
    }
    if !kind.is_file() {
        return Err(invalid("this is not a regular file"));
    }
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

/// The same for the demo.
///
/// # Errors
/// As [`open`], and if the file is longer than [`DEMO_MAXIMUM`].
pub fn open_for_demo(path: &Path) -> io::Result<(File, u64)> {
    let (file, length) = open(path)?;
    if length > DEMO_MAXIMUM {
        return Err(invalid(&format!(
            "the file has {length} bytes, and the demo takes up to {DEMO_MAXIMUM}"
        )));
    }
    Ok((file, length))
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}
