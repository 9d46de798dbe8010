//! Starts this binary again for one test and waits for its end.

use std::env;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Expectation, IN_PROCESS};

/// Longest pause between two looks at a running child.
const PAUSE: Duration = Duration::from_millis(20);

/// Runs the test `name` in a child and compares its end with `expectation`. The error carries the child's
/// output. With `show_output` the output goes to this process's standard error as well.
pub(crate) fn run(
    name: &str,
    expectation: &Expectation,
    limit: Duration,
    show_output: bool,
) -> Result<(), String> {
    let (status, output) = output_of(name, limit)
        .map_err(|error| format!("the test's process could not be run: {error}"))?;
    if show_output {
        eprint!("{output}");
    }
    let verdict = match status {
        Some(status) => expectation.check(status.code(), &output),
        None => Err(format!("not done after {} s, ended", limit.as_secs_f32())),
    };
    verdict.map_err(|reason| format!("{reason}\n---- output of {name}\n{output}----"))
}

/// Runs the child to its end or to the time limit (`None`), and returns what it wrote. Standard output and
/// error share one file, not a pipe: what outlives the child cannot keep us waiting for its end.
fn output_of(name: &str, limit: Duration) -> io::Result<(Option<ExitStatus>, String)> {
    let mut captured = tempfile::tempfile()?;
    let mut command = Command::new(env::current_exe()?);
    command
        .args([IN_PROCESS, name])
        .stdin(Stdio::null())
        .stdout(captured.try_clone()?)
        .stderr(captured.try_clone()?);
    own_group(&mut command);
    let mut child = command.spawn()?;
    let status = wait(&mut child, limit)?;
    end_group(&mut child)?;
    Ok((status, contents(&mut captured)?))
}

fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(PAUSE);
    }
}

fn contents(file: &mut File) -> io::Result<String> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Puts the child and all it starts (a QEMU) into a process group of their own.
#[cfg(unix)]
fn own_group(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

#[cfg(not(unix))]
fn own_group(_command: &mut Command) {}

/// Ends the child, if it still runs, and what it left behind.
#[cfg(unix)]
fn end_group(child: &mut Child) -> io::Result<()> {
    let group = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
    // SAFETY: `kill` takes no memory. The group is the one this child was started with; when nothing of it is
    // left the call fails with ESRCH, which is the state wanted.
    unsafe { libc::kill(-group, libc::SIGKILL) };
    child.wait().map(drop)
}

#[cfg(not(unix))]
fn end_group(child: &mut Child) -> io::Result<()> {
    if child.try_wait()?.is_none() {
        child.kill()?;
    }
    child.wait().map(drop)
}
