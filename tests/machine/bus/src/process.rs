//! Child processes that boards are made of.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::BoardError;

/// A child process that is killed when this value is dropped, or when the thread that started it ends.
pub(crate) struct Process {
    name: String,
    child: Child,
    output: File,
}

impl Process {
    /// Starts a program that inherits these descriptors and nothing else. What it prints is kept.
    ///
    /// # Errors
    /// The operating system's, as it gives them.
    pub(crate) fn start(mut command: Command, inherited: Vec<RawFd>) -> io::Result<Self> {
        let output = memory_file("output")?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output.try_clone()?);
        let prepare = move || prepare_child(&inherited);
        // SAFETY: between fork and exec the closure makes system calls only.
        unsafe { command.pre_exec(prepare) };
        Ok(Self {
            name: command.get_program().display().to_string(),
            child: command.spawn()?,
            output,
        })
    }

    /// The program's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its number in the operating system.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed.
    pub(crate) fn output(&self) -> String {
        let mut bytes = vec![0; self.output.metadata().map_or(0, |data| data.len() as usize)];
        let read = self.output.read_at(&mut bytes, 0).unwrap_or(0);
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it, whatever it is at.
    pub(crate) fn kill(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// What became of it, after it has closed its connection.
    pub(crate) fn exited(&mut self) -> BoardError {
        let status = self.wait(Duration::from_secs(5));
        BoardError::Exited {
            program: self.name.clone(),
            status,
            output: self.output(),
        }
    }

    fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(None) if start.elapsed() < limit => std::thread::sleep(Duration::from_millis(1)),
                Ok(status) => return status,
                Err(_) => return None,
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Lets the child have its files, and not outlive us.
fn prepare_child(inherited: &[RawFd]) -> io::Result<()> {
    for &descriptor in inherited {
        // SAFETY: open in the parent while the child is started.
        let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
        fcntl_setfd(descriptor, FdFlags::empty())?;
    }
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// A file without a name.
pub(crate) fn memory_file(name: &str) -> io::Result<File> {
    Ok(File::from(memfd_create(name, MemfdFlags::CLOEXEC)?))
}
