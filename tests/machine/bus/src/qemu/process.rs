//! QEMU's process.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Signal, set_parent_process_death_signal};

use super::QemuConfig;
use crate::{BoardError, PhysicalMemory};

/// Who moves QEMU's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    /// QEMU: its processor is halted, and its time jumps to the next timer.
    Running,
    /// We, with `clock_step`.
    Stepped,
}

/// A child process that is killed when this value is dropped.
pub(super) struct Process {
    name: String,
    child: Child,
    output: File,
}

impl Process {
    /// Starts QEMU, and returns our end of the qtest connection.
    pub(super) fn start(
        config: &QemuConfig,
        memory: &PhysicalMemory,
        clock: Clock,
    ) -> Result<(Self, UnixStream), BoardError> {
        let system = |action| move |source| BoardError::System { action, source };
        let output = memory_file("qemu-output").map_err(system("keep what QEMU prints"))?;
        let firmware = firmware().map_err(system("make QEMU's firmware"))?;
        let (ours, theirs) = UnixStream::pair().map_err(system("make a socket for QEMU"))?;
        let inherited = [
            memory.file().as_raw_fd(),
            firmware.as_raw_fd(),
            theirs.as_raw_fd(),
        ];
        let [ram, bios, socket] = inherited;
        let megabytes = memory.total() >> 20;

        let mut command = Command::new(&config.program);
        match clock {
            Clock::Stepped => command.args(["-accel", "qtest"]),
            Clock::Running => command.args(["-accel", "tcg", "-icount", "shift=0,sleep=off"]),
        };
        command
            .args(["-machine", "q35,memory-backend=ram,hpet=off,pit=off", "-m", &format!("{megabytes}M")])
            .args(["-bios", &format!("/proc/self/fd/{bios}")])
            .args(["-display", "none", "-nodefaults", "-no-user-config"])
            .args([
                "-object",
                &format!("memory-backend-file,id=ram,size={megabytes}M,share=on,mem-path=/proc/self/fd/{ram}"),
            ])
            .args(["-chardev", &format!("socket,id=qtest,fd={socket}")])
            .args(["-qtest", "chardev:qtest", "-qtest-log", "none"])
            .args(config.devices.iter().flat_map(|device| ["-device", device]))
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(system("keep what QEMU prints"))?)
            .stderr(output.try_clone().map_err(system("keep what QEMU prints"))?);
        let prepare = move || prepare_child(&inherited);
        // SAFETY: between fork and exec the closure makes system calls only.
        unsafe { command.pre_exec(prepare) };
        let child = command.spawn().map_err(system("start QEMU"))?;
        let name = config.program.display().to_string();
        Ok((
            Self {
                name,
                child,
                output,
            },
            ours,
        ))
    }

    /// The program's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What it has printed.
    pub(super) fn output(&self) -> String {
        let mut bytes = vec![0; self.output.metadata().map_or(0, |data| data.len() as usize)];
        let read = self.output.read_at(&mut bytes, 0).unwrap_or(0);
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    }

    /// What became of it, after it has closed its connection.
    pub(super) fn exited(&mut self) -> BoardError {
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
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lets the child have its files, and not outlive us.
fn prepare_child(inherited: &[i32]) -> io::Result<()> {
    for &descriptor in inherited {
        // SAFETY: open in the parent while the child is started.
        let descriptor = unsafe { rustix::fd::BorrowedFd::borrow_raw(descriptor) };
        fcntl_setfd(descriptor, FdFlags::empty())?;
    }
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// 64 KiB that halt a processor at once.
fn firmware() -> io::Result<File> {
    const SIZE: u64 = 64 << 10;
    const HALT: u8 = 0xf4;
    /// Where the processor starts: cli; hlt; jmp back to the hlt.
    const RESET: [u8; 4] = [0xfa, HALT, 0xeb, 0xfd];

    let file = memory_file("halt-firmware")?;
    file.write_all_at(&vec![HALT; SIZE as usize], 0)?;
    file.write_all_at(&RESET, SIZE - 16)?;
    Ok(file)
}

fn memory_file(name: &str) -> io::Result<File> {
    Ok(File::from(memfd_create(name, MemfdFlags::CLOEXEC)?))
}
