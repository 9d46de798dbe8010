//! The server: started, or found at its socket.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use vfio_user::Client;

use super::VfioUserConfig;
use crate::BoardError;
use crate::process::Process;

/// Who serves a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VfioUserServer {
    /// A program that is started: its last arguments are `--socket` and the path at which it is to listen.
    Start {
        /// A path, or a name looked up in `PATH`.
        program: PathBuf,
        /// Arguments before those.
        arguments: Vec<OsString>,
    },
    /// Whoever listens at this path.
    Connect(PathBuf),
}

impl VfioUserServer {
    /// The server of this project's card, which is started, with so many bytes of card memory: whole mebibytes.
    pub fn card(program: PathBuf, memory: u64) -> Self {
        let arguments = vec!["--memory".into(), (memory >> 20).to_string().into()];
        Self::Start { program, arguments }
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::Start { program, .. } => program.display().to_string(),
            Self::Connect(path) => path.display().to_string(),
        }
    }
}

/// Where a program of this workspace is that is built into the same directory as this one; this one may also be a test.
pub fn beside_this_program(name: &str) -> PathBuf {
    let here = std::env::current_exe().unwrap_or_default();
    let folders = here.ancestors().skip(1).take(2);
    let found = folders
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| here.with_file_name(name))
}

/// A connection, and the server's process if it is ours.
pub(super) struct Connection {
    pub(super) client: Client,
    process: Option<Process>,
    /// Readable when the process has ended.
    end: Option<OwnedFd>,
}

impl Connection {
    pub(super) fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// What is readable when the server has ended, if that can be waited for.
    pub(super) fn end(&self) -> Option<&OwnedFd> {
        self.end.as_ref()
    }
}

pub(super) fn connect(config: &VfioUserConfig) -> Result<Connection, BoardError> {
    match &config.server {
        VfioUserServer::Start { program, arguments } => start(program, arguments, config.timeout),
        VfioUserServer::Connect(path) => Ok(Connection {
            client: Client::new(path).map_err(|source| no_server(path, source))?,
            process: None,
            end: None,
        }),
    }
}

fn start(
    program: &Path,
    arguments: &[OsString],
    limit: Duration,
) -> Result<Connection, BoardError> {
    let system = |action| move |source| BoardError::System { action, source };
    // Nobody needs the socket's name once it is connected.
    let folder = tempfile::tempdir().map_err(system("make a directory for a socket"))?;
    let path = folder.path().join("server.sock");
    let mut command = Command::new(program);
    command.args(arguments).arg("--socket").arg(&path);
    let mut process = Process::start(command, Vec::new()).map_err(|source| {
        if source.kind() == io::ErrorKind::NotFound {
            return BoardError::NotBuilt {
                program: program.display().to_string(),
            };
        }
        system("start the vfio-user server")(source)
    })?;
    let client = client(&mut process, &path, limit)?;
    let id = Pid::from_raw(process.id() as i32).expect("a process has a number");
    let end = pidfd_open(id, PidfdFlags::empty())
        .map_err(|error| system("watch the vfio-user server")(error.into()))?;
    Ok(Connection {
        client,
        process: Some(process),
        end: Some(end),
    })
}

/// Connects to a server that may not listen yet.
fn client(process: &mut Process, path: &Path, limit: Duration) -> Result<Client, BoardError> {
    let start = Instant::now();
    loop {
        match Client::new(path) {
            Ok(client) => return Ok(client),
            Err(vfio_user::Error::Connect(_)) if !process.is_running() => {
                return Err(process.exited());
            }
            Err(vfio_user::Error::Connect(_)) if start.elapsed() < limit => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(vfio_user::Error::Connect(_)) => {
                return Err(BoardError::Timeout {
                    program: process.name().to_owned(),
                    request: "connect".to_owned(),
                    limit,
                    output: process.output(),
                });
            }
            Err(source) => return Err(no_server(path, source)),
        }
    }
}

fn no_server(path: &Path, source: vfio_user::Error) -> BoardError {
    BoardError::NoServer {
        path: path.to_owned(),
        source: Box::new(source),
    }
}
