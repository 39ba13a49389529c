//! Runs a program to its end within a deadline, and finds and ends processes.

use std::{
    fs,
    io::{Read, Write},
    os::{fd::OwnedFd, unix::process::ExitStatusExt},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Resource, Signal, getrlimit, kill_process, pidfd_open, setrlimit},
};

use crate::Outcome;

/// Longest that anything in these tests may take; a hang fails with what was printed so far.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// A program that runs, with its output being collected.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    stdout: Option<Receiver<Vec<u8>>>,
    stderr: Option<Receiver<Vec<u8>>>,
}

/// Runs `command` to its end and returns what it left.
///
/// # Panics
/// When it cannot be started, does not end within [`DEADLINE`], or leaves its output open.
#[track_caller]
pub fn finish(command: Command, stdin: &[u8]) -> Outcome {
    start(command, stdin).finish()
}

/// Starts `command`, feeding it `stdin`.
///
/// # Panics
/// When it cannot be started.
#[track_caller]
pub fn start(mut command: Command, stdin: &[u8]) -> Running {
    let name = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    feed(&mut child, stdin.to_vec());
    let stdout = child.stdout.take().map(collect);
    let stderr = child.stderr.take().map(collect);
    Running {
        name,
        child,
        stdout,
        stderr,
    }
}

impl Running {
    /// Process id of the program itself.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it has already been waited for.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it has not been waited for");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end within [`DEADLINE`] or something it started keeps its output open.
    #[track_caller]
    pub fn finish(mut self) -> Outcome {
        let ended = gone(self.pid(), DEADLINE);
        if !ended {
            let _ = self.child.kill();
        }
        let status = self.child.wait().expect("it is our child");
        let outcome = Outcome {
            code: shell_code(status),
            stdout: received(self.stdout.take(), &self.name),
            stderr: String::from_utf8_lossy(&received(self.stderr.take(), &self.name)).into_owned(),
            command: self.name,
        };
        assert!(ended, "did not end within {DEADLINE:?}: {outcome}");
        outcome
    }
}

/// Exit code as a shell shows it.
pub fn shell_code(status: ExitStatus) -> i32 {
    status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(-1)
}

/// Waits until a process is gone, without reaping it. `false` when the deadline passed.
pub fn gone(pid: Pid, deadline: Duration) -> bool {
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => readable(&pidfd, deadline),
        Err(_) => true,
    }
}

/// Waits until a descriptor is readable. `false` when the deadline passed.
pub fn readable(descriptor: &OwnedFd, deadline: Duration) -> bool {
    let until = Instant::now() + deadline;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).expect("a minute fits");
        let mut watched = [PollFd::new(descriptor, PollFlags::IN)];
        match poll(&mut watched, Some(&timeout)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("poll: {error}"),
        }
    }
}

/// Waits until `holds`, for what the kernel reports by no event.
///
/// # Panics
/// When it does not hold within [`DEADLINE`].
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < until, "not within {DEADLINE:?}: {what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// Lets this process, and what it starts, have as many files open as the hard limit allows, and says
/// how many: the soft limit of a login shell is too low for a test of many connections.
///
/// # Panics
/// When the kernel does not let it.
pub fn raise_descriptors() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("no more than the hard limit");
    limit.maximum.unwrap_or(u64::MAX)
}

/// A process and all that descend from it, the oldest first; without the daemon, which a launcher
/// may have started and which is to outlive it.
pub fn tree(root: Pid) -> Vec<Pid> {
    let mut all = vec![root];
    let mut next = 0;
    while let Some(pid) = all.get(next).copied() {
        all.extend(children(pid).into_iter().filter(|child| !is_daemon(*child)));
        next += 1;
    }
    all
}

/// Whether a process is the product's daemon, by its command line.
pub fn is_daemon(pid: Pid) -> bool {
    let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    line.split(|byte| *byte == 0).nth(1) == Some(b"serve")
}

/// The program a process runs, or an empty text when it is gone.
pub fn name(pid: Pid) -> String {
    fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero()))
        .unwrap_or_default()
        .trim_end()
        .to_owned()
}

fn children(pid: Pid) -> Vec<Pid> {
    let pid = pid.as_raw_nonzero();
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// A program may end without reading all of its input; that is no error of ours.
fn feed(child: &mut Child, bytes: Vec<u8>) {
    if let Some(mut stdin) = child.stdin.take() {
        thread::spawn(move || {
            let _ = stdin.write_all(&bytes);
        });
    }
}

fn collect(mut from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

#[track_caller]
fn received(from: Option<Receiver<Vec<u8>>>, name: &str) -> Vec<u8> {
    let Some(from) = from else { return Vec::new() };
    from.recv_timeout(Duration::from_secs(10))
        .unwrap_or_else(|_| panic!("{name}: it ended, but something it started holds its output"))
}
