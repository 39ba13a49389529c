//! A session's life: how it ends, what is said of it, and who watches it.

use std::{
    fs::{self, File},
    io::{ErrorKind::WouldBlock, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    process::Command,
};

use cordon_tests::{Terminal, process::eventually};
use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    process::{Pid, Signal, kill_process},
};

use super::Stage;

pub fn exit_code(stage: &Stage<'_>) {
    let outcome = stage.session("echo said; exit 7").run();
    outcome.expect_code(7);
    assert_eq!(outcome.text(), "said", "{outcome}");
}

pub fn signalled(stage: &Stage<'_>) {
    stage.session("kill -KILL $$").run().expect_code(128 + 9);
}

pub fn standard_input(stage: &Stage<'_>) {
    let outcome = stage.session("./busybox cat").stdin("through").run();
    outcome.expect_code(0);
    assert_eq!(outcome.text(), "through", "{outcome}");
}

pub fn further(stage: &Stage<'_>) {
    let (running, id) = stage.running(":");
    let outcome = stage.exec(&id, "echo joined; exit 3");
    outcome.expect_code(3);
    assert_eq!(outcome.text(), "joined", "{outcome}");
    stage.end(running).expect_code(0);
}

pub fn pause(stage: &Stage<'_>) {
    let (running, id) = stage.running("echo x >> count");
    let count = stage.world.project().join("count");
    let size = || fs::metadata(&count).map_or(0, |found| found.len());
    let before = size();
    eventually("it counts", || size() > before);
    stage.steer(&["session", "pause", &id]);
    let paused = size();
    // What a process of the host sees is the control: time passes, and nothing is written.
    let sleep = Command::new("sleep").arg("0.3").status();
    assert!(sleep.expect("it is there").success());
    assert_eq!(size(), paused, "it writes while it is paused");
    stage.steer(&["session", "resume", &id]);
    eventually("it counts again", || size() > paused);
    stage.end(running).expect_code(0);
}

pub fn ended(stage: &Stage<'_>) {
    let (running, id) = stage.running(":");
    stage.steer(&["session", "end", &id]);
    let outcome = running.finish();
    stage.world.remember(&outcome);
    assert_ne!(outcome.code, 0, "{outcome}");
}

pub fn told_state(stage: &Stage<'_>) {
    let (running, id) = stage.running(":");
    let is_running = || stage.world.cordon(&["session", "is-running", &id]).code;
    let connected = || {
        let listed = stage.world.cordon(&["session", "list", "--format", "json"]);
        let line: serde_json::Value =
            serde_json::from_str(listed.text().trim()).expect("it is there");
        line["connected"] == true && line["first_process"].as_u64() > Some(1)
    };
    assert_eq!((is_running(), connected()), (0, true));
    stage.steer(&["session", "pause", &id]);
    assert_eq!((is_running(), connected()), (1, true));
    stage.steer(&["session", "resume", &id]);
    stage.end(running).expect_code(0);
    assert_eq!(is_running(), 3);
}

/// Stopped from outside, as one that hangs; the control is every other session, which goes on.
pub fn heartbeat(stage: &Stage<'_>) {
    let (running, id) = stage.running(":");
    let shown = stage
        .world
        .cordon(&["session", "show", &id, "--format", "json"]);
    let shown: serde_json::Value = serde_json::from_str(shown.text().trim()).expect("it runs");
    let first = shown["first_process"]
        .as_i64()
        .and_then(|pid| i32::try_from(pid).ok());
    let first = first.and_then(Pid::from_raw).expect("it stands");
    kill_process(first, Signal::STOP).expect("it is there");
    let outcome = running.finish();
    stage.world.remember(&outcome);
    outcome.expect_code(1);
    let records = stage.world.records(&id);
    let end = records
        .iter()
        .find(|record| record["kind"] == "session.end");
    assert_eq!(end.expect("it is recorded")["end"], "unresponsive");
}

pub fn terminal(stage: &Stage<'_>) {
    let script = "./hostile f13; ./hostile works_terminal; echo done";
    let command = stage.session(script).command();
    let mut terminal = Terminal::start(stage.world, &command);
    let shown = terminal.expect("done");
    assert_eq!(terminal.finish(), 0);
    assert_eq!(shown.matches("refused EPERM").count(), 4, "{shown}");
    assert!(shown.contains("works_terminal_size allowed"), "{shown}");
}

/// A pipe that the command's processes hold open ends when the last of them is gone, however.
pub fn killed_launcher(stage: &Stage<'_>) {
    let project = stage.world.project();
    let pipe = project.join("pipe");
    let (kind, mode) = (FileType::Fifo, Mode::RUSR | Mode::WUSR);
    mknodat(CWD, &pipe, kind, mode, 0).expect("the folder is ours");
    stage.world.give(&pipe);
    let mut reader = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&pipe)
        .expect("it was just made");
    let script = "exec 9> pipe; : > held; ./busybox sleep 1000 & wait";
    let running = stage.session(script).start();
    eventually("it holds the pipe", || project.join("held").exists());
    let mut held = || {
        reader
            .read(&mut [0])
            .is_err_and(|error| error.kind() == WouldBlock)
    };
    assert!(held(), "the control");
    running.signal(Signal::KILL);
    eventually("nothing holds it", || !held());
    stage.world.remember(&running.finish());
}
