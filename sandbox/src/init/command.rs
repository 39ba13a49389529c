//! Starts a command: its own process group, its standard streams, then `execve`.

use std::{
    convert::Infallible,
    io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::Path,
};

use rustix::process::{Pid, Signal};

use super::{
    check,
    spec::{Slot, Spec, Text},
};
use crate::sys::{process::fork, signals};

/// The command's standard streams.
#[derive(Debug)]
pub(super) struct Stdio {
    streams: [OwnedFd; 3],
    terminal: Option<OwnedFd>,
}

impl Stdio {
    pub(super) fn new(
        inherited: [Option<OwnedFd>; 3],
        terminal: Option<OwnedFd>,
        slots: [Slot; 3],
    ) -> io::Result<Self> {
        let missing = || io::Error::other("a standard stream is missing");
        let [first, second, third] = inherited;
        let stream = |held: Option<OwnedFd>, slot: Slot| match (slot, held, &terminal) {
            (Slot::Descriptor(_), Some(held), _) => Ok(held),
            (Slot::Terminal, None, Some(terminal)) => terminal.try_clone(),
            _ => Err(missing()),
        };
        let [slot0, slot1, slot2] = slots;
        Ok(Self {
            streams: [
                stream(first, slot0)?,
                stream(second, slot1)?,
                stream(third, slot2)?,
            ],
            terminal,
        })
    }

    fn put_in_place(&self) -> io::Result<()> {
        let [stdin, stdout, stderr] = &self.streams;
        rustix::stdio::dup2_stdin(stdin)?;
        rustix::stdio::dup2_stdout(stdout)?;
        rustix::stdio::dup2_stderr(stderr)?;
        Ok(())
    }

    /// The session's end of the terminal, for moving the command to its foreground.
    pub(super) fn terminal(&self) -> io::Result<Option<OwnedFd>> {
        self.terminal.as_ref().map(OwnedFd::try_clone).transpose()
    }
}

/// Forks the command. This process keeps none of its streams, so a reader sees their end when the
/// command's own processes have closed them.
pub(super) fn start(spec: &Spec, stdio: Stdio, foreground: bool) -> io::Result<Pid> {
    fork(|| {
        let Err(failure) = become_command(spec, &stdio, foreground);
        eprintln!("{}", failure.message);
        failure.code
    })
}

/// Why the command does not run, as shells number it.
struct Failure {
    code: i32,
    message: String,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self {
            code: 126,
            message: format!("error: command not started: {error}"),
        }
    }
}

/// Forks a further command: in a session and process group of its own, on its own terminal or on
/// none.
pub(super) fn start_further(spec: &Spec, stdio: Stdio) -> io::Result<Pid> {
    fork(|| {
        let Err(failure) = become_further(spec, &stdio);
        eprintln!("{}", failure.message);
        failure.code
    })
}

fn become_command(spec: &Spec, stdio: &Stdio, foreground: bool) -> Result<Infallible, Failure> {
    stdio.put_in_place()?;
    // Before it can be signalled: its group, and its place before the terminal.
    rustix::process::setpgid(None, None).map_err(io::Error::from)?;
    if let (true, Some(terminal)) = (foreground, &stdio.terminal) {
        let group = rustix::process::getpid();
        rustix::termios::tcsetpgrp(terminal, group).map_err(io::Error::from)?;
    }
    enter(spec)
}

fn become_further(spec: &Spec, stdio: &Stdio) -> Result<Infallible, Failure> {
    stdio.put_in_place()?;
    rustix::process::setsid().map_err(io::Error::from)?;
    if let Some(terminal) = &stdio.terminal {
        rustix::process::ioctl_tiocsctty(terminal).map_err(io::Error::from)?;
    }
    enter(spec)
}

/// The last steps before the program, the same for every command of the session.
fn enter(spec: &Spec) -> Result<Infallible, Failure> {
    let directory = Path::new(spec.directory.as_os());
    rustix::process::chdir(directory).map_err(|error| Failure {
        code: 126,
        message: format!("error: command not started: working directory {directory:?}: {error}"),
    })?;
    check::confine_files(spec)?;
    signals::reset(Signal::PIPE)?;
    signals::unblock_all()?;
    Err(execute(spec))
}

/// Everything but the three streams closes on exec.
fn execute(spec: &Spec) -> Failure {
    let mut words = spec.arguments.iter().cloned().map(Text::into_os);
    let Some(program) = words.next() else {
        return Failure {
            code: 127,
            message: "error: command not started: there is none".into(),
        };
    };
    let environment = spec.environment.iter().cloned();
    let error = std::process::Command::new(&program)
        .args(words)
        .env_clear()
        .envs(environment.map(|(name, value)| (name.into_os(), value.into_os())))
        .exec();
    let code = if error.kind() == io::ErrorKind::NotFound {
        127
    } else {
        126
    };
    Failure {
        code,
        message: format!(
            "error: command not started: {program:?}: {error}\n\
             help: it is looked up inside the session, which has the system's directories and the \
             granted folders only"
        ),
    }
}
