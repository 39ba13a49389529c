//! `cordon gateway` of a world: started, asked where it listens and what it says, and stopped.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Outcome, World, process};

/// A port of its own on the loopback.
pub const ANY: &str = "127.0.0.1:0";

const WHOLE: &str = "a program of this test, which nobody else ends";

/// A gateway that is ready.
#[derive(Debug)]
pub struct Gateway {
    child: Child,
    listening: Vec<(String, String)>,
}

impl Gateway {
    /// Starts one under the world's policy.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn start(world: &World, args: &[&str]) -> Self {
        let policy = world.policy_folder();
        let policy = policy.to_string_lossy().into_owned();
        let args: Vec<_> = args.iter().copied().chain(["--policy", &policy]).collect();
        Self::start_with(world, &args)
    }

    /// Starts one with these arguments alone.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn start_with(world: &World, args: &[&str]) -> Self {
        let mut command = world.command();
        command.arg("gateway").args(args);
        Self::ready(command)
    }

    /// As [`Self::start`], by a program that starts the one it is given.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn started(world: &World, mut by: Command, args: &[&str]) -> Self {
        by.arg(crate::binary::cordon()).arg("gateway").args(args);
        by.arg("--policy").arg(world.policy_folder());
        Self::ready(by)
    }

    /// Runs a command line of it, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn ready(mut command: Command) -> Self {
        command.env("CORDON_LOG", "warn");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect(WHOLE);
        let mut listening = Vec::new();
        for line in BufReader::new(child.stdout.take().expect(WHOLE)).lines() {
            let line = line.expect(WHOLE);
            if line == "ready" {
                return Self { child, listening };
            }
            let listener = line.strip_prefix("listening: ").expect(WHOLE);
            let (name, place) = listener.split_once(' ').expect(WHOLE);
            listening.push((name.into(), place.into()));
        }
        let mut problem = String::new();
        child
            .stderr
            .take()
            .expect(WHOLE)
            .read_to_string(&mut problem)
            .expect(WHOLE);
        child.wait().expect(WHOLE);
        panic!("the gateway did not start: {problem}");
    }

    /// Process id of it.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Where it listens, in the order that it tells.
    pub fn places(&self) -> Vec<&str> {
        let places = self.listening.iter();
        places.map(|(_name, place)| place.as_str()).collect()
    }

    /// Where the listener of this name is.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn address(&self, name: &str) -> SocketAddr {
        let found = self.listening.iter().find(|(listener, _)| listener == name);
        found.expect(WHOLE).1.parse().expect(WHOLE)
    }

    /// Waits until a line of its log has these words. A test that waits in vain ends it.
    ///
    /// # Panics
    /// When it ends before.
    #[track_caller]
    pub fn says(&mut self, words: &str) {
        let pid = self.pid();
        let (heard, waits) = mpsc::channel::<()>();
        let late = thread::spawn(move || {
            if waits.recv_timeout(process::DEADLINE) == Err(RecvTimeoutError::Timeout) {
                kill_process(pid, Signal::KILL).expect(WHOLE);
            }
        });
        let stderr = self.child.stderr.as_mut().expect(WHOLE);
        let mut line = Vec::new();
        let mut byte = [0; 1];
        while !String::from_utf8_lossy(&line).contains(words) {
            assert_eq!(
                stderr.read(&mut byte).expect(WHOLE),
                1,
                "it never said {words:?}"
            );
            match byte[0] {
                b'\n' => line.clear(),
                other => line.push(other),
            }
        }
        drop(heard);
        late.join().expect(WHOLE);
    }

    /// Asks it to stop and waits until it has.
    ///
    /// # Panics
    /// When it cannot be waited for.
    #[track_caller]
    pub fn stop(mut self) -> Outcome {
        kill_process(self.pid(), Signal::TERM).expect(WHOLE);
        let mut stderr = String::new();
        self.child
            .stderr
            .take()
            .expect(WHOLE)
            .read_to_string(&mut stderr)
            .expect(WHOLE);
        let status = self.child.wait().expect(WHOLE);
        Outcome {
            command: "cordon gateway".into(),
            code: process::shell_code(status),
            stdout: Vec::new(),
            stderr,
        }
    }
}

/// curl on the host, which fails where the proxy refuses.
///
/// # Panics
/// When it cannot be run.
#[track_caller]
pub fn curl(world: &World, args: &[&str]) -> Outcome {
    let mut command = world.as_account("curl");
    command
        .args(["-sS", "--fail", "--max-time", "20", "--noproxy", ""])
        .args(args);
    process::finish(command, b"")
}
