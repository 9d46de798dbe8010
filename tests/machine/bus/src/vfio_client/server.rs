//! The server: started, or found at its socket.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use vfio_user::{Client, Error};

use super::{VfioUserConfig, patience};
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
    /// The server of this project's card, which is started, with so many bytes of card memory, whole mebibytes; and with
    /// these faults, as its command line has them.
    pub fn card(program: PathBuf, memory: u64, faults: &[String]) -> Self {
        let mut arguments = vec!["--memory".into(), (memory >> 20).to_string().into()];
        for fault in faults {
            arguments.extend(["--fault".into(), fault.into()]);
        }
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
    /// How the server is called in messages.
    name: String,
    /// How long it may take to answer.
    patience: Duration,
    process: Option<Process>,
    /// Readable when the process has ended.
    end: Option<OwnedFd>,
}

impl Connection {
    pub(super) fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// What to say of a server that has failed to answer, if that was for want of time. It will not touch guest RAM any
    /// more if it is ours: it is killed.
    pub(super) fn give_up(&mut self, error: &Error) -> Option<String> {
        // It may have closed it already.
        let _ = self.client.shutdown();
        if !patience::has_run_out(error) {
            return None;
        }
        if let Some(process) = &mut self.process {
            process.kill();
        }
        Some(format!(
            "{} has not answered for {} s: its device counts as pulled out",
            self.name,
            self.patience.as_secs_f32()
        ))
    }

    /// What is readable when the server has ended, if that can be waited for.
    pub(super) fn end(&self) -> Option<&OwnedFd> {
        self.end.as_ref()
    }
}

pub(super) fn connect(config: &VfioUserConfig) -> Result<Connection, BoardError> {
    match &config.server {
        VfioUserServer::Start { program, arguments } => start(program, arguments, config),
        VfioUserServer::Connect(path) => {
            let Some(client) = patience::connect(path, config.timeout) else {
                return Err(silent(config.server.name(), config.timeout, String::new()));
            };
            let client = client.map_err(|source| no_server(path, source))?;
            Connection::new(client, path, config, None)
        }
    }
}

impl Connection {
    fn new(
        client: Client,
        path: &Path,
        config: &VfioUserConfig,
        process: Option<Process>,
    ) -> Result<Self, BoardError> {
        let system = |action| move |source| BoardError::System { action, source };
        patience::limit_answers(path, config.patience)
            .map_err(system("limit how long the vfio-user server is waited for"))?;
        let end = process.as_ref().map(|process| {
            let id = Pid::from_raw(process.id() as i32).expect("a process has a number");
            pidfd_open(id, PidfdFlags::empty())
                .map_err(|error| system("watch the vfio-user server")(error.into()))
        });
        Ok(Self {
            client,
            name: config.server.name(),
            patience: config.patience,
            process,
            end: end.transpose()?,
        })
    }
}

fn start(
    program: &Path,
    arguments: &[OsString],
    config: &VfioUserConfig,
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
    let client = client(&mut process, &path, config.timeout)?;
    Connection::new(client, &path, config, Some(process))
}

/// Connects to a server that may not listen yet.
fn client(process: &mut Process, path: &Path, limit: Duration) -> Result<Client, BoardError> {
    let start = Instant::now();
    loop {
        let left = limit.saturating_sub(start.elapsed());
        let answer = match path.exists() {
            true => patience::connect(path, left),
            false if left.is_zero() => None,
            false => Some(Err(Error::Connect(io::ErrorKind::NotFound.into()))),
        };
        match answer {
            None => return Err(silent(process.name().to_owned(), limit, process.output())),
            Some(Ok(client)) => return Ok(client),
            Some(Err(Error::Connect(_))) if !process.is_running() => return Err(process.exited()),
            Some(Err(Error::Connect(_))) => std::thread::sleep(Duration::from_millis(1)),
            Some(Err(source)) => return Err(no_server(path, source)),
        }
    }
}

fn silent(program: String, limit: Duration, output: String) -> BoardError {
    BoardError::Timeout {
        program,
        request: "connect".to_owned(),
        limit,
        output,
    }
}

fn no_server(path: &Path, source: Error) -> BoardError {
    BoardError::NoServer {
        path: path.to_owned(),
        source: Box::new(source),
    }
}
