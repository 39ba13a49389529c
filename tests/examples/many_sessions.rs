//! Many idle sessions at once: memory of ours for each, and whether the last starts as fast as the
//! first.
//!
//! ```sh
//! CORDON_BIN=target/release/cordon cargo run --release -p cordon-tests --example many_sessions -- 100
//! ```
//!
//! Memory is the proportional set size (`Pss`) of the launcher, bubblewrap and the first process
//! of each session, and what the daemon's own memory (`Pss_Anon`: its code is shared with the
//! others) grew by. The command itself (`sleep`) is not ours. A start is timed from `cordon run` to the first byte that the
//! command writes.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a measurement that cannot be made ends"
)]

use std::{
    fs,
    io::{Read, Write},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

fn main() {
    let count = std::env::args().nth(1).map_or(100, |count| {
        count
            .parse::<usize>()
            .expect("how many sessions, as a number")
    });
    let home = tempfile::tempdir().expect("a directory");
    let world = Scene {
        cordon: std::env::var_os("CORDON_BIN")
            .expect("CORDON_BIN names the binary")
            .into(),
        home: home.path().into(),
    };
    fs::create_dir(world.home.join("project")).expect("a project");
    // Starts the daemon and warms what is read once.
    for _warm in 0..3 {
        world.start(true).expect("a first session").end();
    }
    let daemon = world.daemon();
    let before = memory(daemon, "Pss_Anon:");
    let mut starts = Vec::new();
    let mut sessions = Vec::new();
    for _one in 0..count {
        let session = world.start(false).expect("a session");
        starts.push(session.started_in);
        sessions.push(session);
    }
    let ours: u64 = sessions.iter().map(|session| session.memory()).sum();
    let grown = memory(daemon, "Pss_Anon:").saturating_sub(before);
    let each = (ours + grown) / count as u64;
    println!("{count} idle sessions");
    println!("memory of ours for each   {:>8.2} MB", megabytes(each));
    println!(
        "  launcher, walls, first  {:>8.2} MB",
        megabytes(ours / count as u64)
    );
    println!(
        "  daemon                  {:>8.2} MB",
        megabytes(grown / count as u64)
    );
    let tenth = (count / 10).max(1);
    println!(
        "start, median of first {tenth}  {:>8.1} ms",
        median(&starts[..tenth])
    );
    println!(
        "start, median of last {tenth}   {:>8.1} ms",
        median(&starts[count - tenth..])
    );
    for session in sessions {
        session.end();
    }
    world.cordon(&["stop", "--force"]);
}

struct Scene {
    cordon: PathBuf,
    home: PathBuf,
}

struct Session {
    launcher: Child,
    output: ChildStdout,
    started_in: Duration,
}

impl Scene {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.cordon);
        command
            .env_clear()
            .env("HOME", &self.home)
            .env("PATH", "/usr/bin:/bin")
            .env("XDG_RUNTIME_DIR", &self.home)
            .current_dir(self.home.join("project"));
        command
    }

    fn cordon(&self, args: &[&str]) -> String {
        let output = self.command().args(args).output().expect("cordon runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn start(&self, short: bool) -> std::io::Result<Session> {
        let script = if short {
            "echo up"
        } else {
            "echo up; exec sleep 3600"
        };
        let begun = Instant::now();
        let mut launcher = self
            .command()
            .args(["run", "--quiet", "--", "sh", "-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut output = launcher.stdout.take().expect("piped");
        let mut up = [0; 3];
        output.read_exact(&mut up)?;
        Ok(Session {
            launcher,
            output,
            started_in: begun.elapsed(),
        })
    }

    fn daemon(&self) -> u32 {
        let status = self.cordon(&["status", "--format", "json"]);
        let status: serde_json::Value = serde_json::from_str(&status).expect("a daemon runs");
        u32::try_from(status["pid"].as_u64().expect("its number")).expect("a process id")
    }
}

impl Session {
    /// Of the launcher and what it started, but not of the command.
    fn memory(&self) -> u64 {
        let mut all = vec![self.launcher.id()];
        let mut sum = 0;
        while let Some(pid) = all.pop() {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if !command.starts_with(b"sleep") {
                sum += memory(pid, "Pss:");
            }
            for task in fs::read_dir(format!("/proc/{pid}/task"))
                .into_iter()
                .flatten()
            {
                let children = task.expect("a task").path().join("children");
                let children = fs::read_to_string(children).unwrap_or_default();
                all.extend(
                    children
                        .split_whitespace()
                        .filter_map(|pid| pid.parse::<u32>().ok()),
                );
            }
        }
        sum
    }

    fn end(mut self) {
        let pid = i32::try_from(self.launcher.id()).ok();
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            let _ended = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _status = self.launcher.wait();
        drop(self.output);
        let _flushed = std::io::stdout().flush();
    }
}

/// A line of what the kernel sums up, in bytes.
fn memory(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

#[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn median(times: &[Duration]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted[sorted.len() / 2].as_secs_f64() * 1000.0
}
