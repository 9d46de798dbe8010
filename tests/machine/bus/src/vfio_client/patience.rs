//! How long a server is waited for: [`vfio_user::Client`] itself waits for ever.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{SocketAddrUnix, getpeername};
use vfio_user::{Client, Error};

/// Connects to the server at `path` and hears who it is; `None` if it does not say so within `limit`. The thread that
/// waits for it ends when the server closes the connection, or ends.
pub(super) fn connect(path: &Path, limit: Duration) -> Option<Result<Client, Error>> {
    let (sender, receiver) = channel();
    let socket = path.to_owned();
    std::thread::spawn(move || {
        // Nobody may be waiting any more.
        let _ = sender.send(Client::new(&socket));
    });
    match receiver.recv_timeout(limit) {
        Ok(client) => Some(client),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => Some(Err(Error::InvalidInput)),
    }
}

/// From now on a question to the server at `path` fails if the answer, or room for the question, takes longer.
///
/// The client keeps its socket to itself, so this goes by the name at its other end.
///
/// # Errors
/// The operating system's; `NotFound` if this process has no such connection.
pub(super) fn limit_answers(path: &Path, limit: Duration) -> io::Result<()> {
    let numbers = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<RawFd>().ok());
    let mut found = false;
    for socket in numbers.filter_map(duplicate) {
        if leads_to(&socket, path) {
            set_socket_timeout(&socket, Timeout::Recv, Some(limit))?;
            set_socket_timeout(&socket, Timeout::Send, Some(limit))?;
            found = true;
        }
    }
    if found {
        Ok(())
    } else {
        Err(ErrorKind::NotFound.into())
    }
}

/// Whether a question failed because the server did not answer in time.
pub(super) fn has_run_out(error: &Error) -> bool {
    let kind = match error {
        Error::StreamRead(error) | Error::StreamWrite(error) => error.kind(),
        Error::SendWithFd(error) | Error::ReceiveWithFd(error) => {
            io::Error::from_raw_os_error(error.errno()).kind()
        }
        _ => return false,
    };
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// A descriptor of our own for what a number stands for, if it stands for something.
fn duplicate(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: only used to be duplicated, which fails if the number has been given up meanwhile.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_dupfd_cloexec(descriptor, 0).ok()
}

/// Whether it is a socket connected to `path`, which the server may know by another name.
fn leads_to(socket: impl AsFd, path: &Path) -> bool {
    let peer = getpeername(socket).ok().flatten();
    let Some(peer) = peer.and_then(|peer| SocketAddrUnix::try_from(peer).ok()) else {
        return false;
    };
    let name = Path::new(OsStr::from_bytes(peer.path_bytes().unwrap_or_default()));
    let same_file = || Some(name.canonicalize().ok()? == path.canonicalize().ok()?);
    // Relative to the server's directory, which may not be ours.
    let same_name = || name.is_relative() && name.file_name() == path.file_name();
    name == path || same_file().unwrap_or(false) || same_name()
}
