//! QEMU's process.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::process::Command;

use super::QemuConfig;
use crate::process::{Process, memory_file};
use crate::{BoardError, PhysicalMemory};

/// Who moves QEMU's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    /// QEMU: its processor is halted, and its time jumps to the next timer.
    Running,
    /// We, with `clock_step`.
    Stepped,
}

/// Starts QEMU, and returns our end of the qtest connection.
pub(super) fn start(
    config: &QemuConfig,
    memory: &PhysicalMemory,
    clock: Clock,
) -> Result<(Process, UnixStream), BoardError> {
    let system = |action| move |source| BoardError::System { action, source };
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
        .args([
            "-machine",
            "q35,memory-backend=ram,hpet=off,pit=off",
            "-m",
            &format!("{megabytes}M"),
        ])
        .args(["-bios", &format!("/proc/self/fd/{bios}")])
        .args(["-display", "none", "-nodefaults", "-no-user-config"])
        .args([
            "-object",
            &format!(
                "memory-backend-file,id=ram,size={megabytes}M,share=on,mem-path=/proc/self/fd/{ram}"
            ),
        ])
        .args(["-chardev", &format!("socket,id=qtest,fd={socket}")])
        .args(["-qtest", "chardev:qtest", "-qtest-log", "none"])
        .args(config.devices.iter().flat_map(|device| ["-device", device]));
    let process = Process::start(command, inherited.into()).map_err(system("start QEMU"))?;
    Ok((process, ours))
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
