//! Exit codes, bytes, signals, and that nothing outlives its launcher.

use std::{
    fs::File,
    io::{Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Child, Command, Stdio},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Who, everyone, stdout, text};

#[test]
fn the_commands_end_is_the_launchers() {
    for who in everyone() {
        for (script, code) in [
            ("true", 0),
            ("false", 1),
            ("exit 7", 7),
            ("exit 255", 255),
            ("kill -9 $$", 137),
            ("kill -15 $$", 143),
            // What stays behind is not waited for.
            ("sleep 1000 & exit 5", 5),
        ] {
            let output = who.inside(script);
            assert_eq!(
                output.status.code(),
                Some(code),
                "{who:?} {script}: {}",
                text(&output.stderr)
            );
        }
    }
}

#[test]
fn bytes_pass_as_they_are_both_ways() {
    let bytes = noise(3_000_001);
    for who in everyone() {
        let mut child = who
            .walls(["--", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let sent = bytes.clone();
        let writer = thread::spawn(move || input.write_all(&sent));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        assert!(
            output.stdout == bytes,
            "{who:?}: {} bytes",
            output.stdout.len()
        );
    }
}

#[test]
fn f12_a_socket_becomes_a_pipe_and_bytes_still_pass() {
    let bytes = noise(300_001);
    for who in everyone() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut child = who
            .walls([
                "--",
                "sh",
                "-c",
                "readlink /proc/self/fd/0 /proc/self/fd/1 >&2; cat",
            ])
            .stdin(OwnedFd::from(theirs.try_clone().unwrap()))
            .stdout(OwnedFd::from(theirs))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut writer = ours.try_clone().unwrap();
        let sent = bytes.clone();
        let writing = thread::spawn(move || {
            writer.write_all(&sent).unwrap();
            writer.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let mut got = vec![0; bytes.len()];
        (&ours).read_exact(&mut got).unwrap();
        writing.join().unwrap();
        assert!(got == bytes, "{who:?}");
        let mut said = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        assert!(child.wait().unwrap().success(), "{said}");
        assert_eq!(said.matches("pipe:").count(), 2, "{said}");
    }
}

#[test]
fn f12_a_directory_as_standard_input_is_refused() {
    for who in everyone() {
        for (path, accepted) in [("/etc/passwd", true), ("/dev/null", true), ("/tmp", false)] {
            let mut command = who.walls(["--", "echo", "ran"]);
            let output = command.stdin(File::open(path).unwrap()).output().unwrap();
            assert_eq!(
                stdout(&output) == "ran\n",
                accepted,
                "{who:?} {path}: {}",
                text(&output.stderr)
            );
            assert_eq!(
                text(&output.stderr).contains("standard input is a directory"),
                !accepted
            );
        }
    }
}

#[test]
fn f07_an_inherited_file_is_not_opened_again_with_other_rights() {
    for who in everyone() {
        let folder = who.folder();
        let path = folder.path().join("log");
        std::fs::write(&path, "before\n").unwrap();
        if who == Who::Ordinary {
            std::os::unix::fs::chown(&path, Some(who.uid()), Some(who.uid())).unwrap();
        }
        let log = File::options().append(true).open(&path).unwrap();
        let script = "echo after; exec 3>&1; cat /proc/self/fd/3 >&2; cat /dev/null > /proc/self/fd/3; echo x > /proc/self/fd/0";
        let mut command = who.walls(["--", "sh", "-c", script]);
        let output = command
            .stdin(File::open(&path).unwrap())
            .stdout(log)
            .output()
            .unwrap();
        assert!(!text(&output.stderr).contains("before"), "{who:?}");
        let left = std::fs::read_to_string(&path).unwrap();
        assert_eq!(left, "before\nafter\n", "{who:?}: {}", text(&output.stderr));
    }
}

#[test]
fn signals_reach_the_command() {
    for who in everyone() {
        for (signal, name) in [
            (Signal::TERM, "TERM"),
            (Signal::INT, "INT"),
            (Signal::USR1, "USR1"),
        ] {
            let script =
                format!("trap 'echo got; exit 9' {name}; echo up; while :; do sleep 0.05; done");
            let mut child = started(who, &script);
            kill_process(pid(&child), signal).unwrap();
            assert_eq!(rest(&mut child), "got\n", "{who:?} {name}");
            assert_eq!(child.wait().unwrap().code(), Some(9), "{who:?} {name}");
        }
    }
}

#[test]
fn a_second_request_to_end_is_not_the_commands_to_refuse() {
    for who in everyone() {
        let mut child = started(
            who,
            "trap 'echo got' TERM; echo up; while :; do sleep 0.05; done",
        );
        kill_process(pid(&child), Signal::TERM).unwrap();
        assert_eq!(line(&mut child), "got");
        kill_process(pid(&child), Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(137), "{who:?}");
    }
}

#[test]
fn f18_nothing_outlives_a_killed_launcher() {
    for who in everyone() {
        let mut child = started(
            who,
            "trap '' HUP TERM; setsid sleep 1000 & (sleep 1000 &); echo up; sleep 1000",
        );
        child.kill().unwrap();
        child.wait().unwrap();
        // Every process inside holds the other end: its end is theirs.
        assert_eq!(rest(&mut child), "", "{who:?}");
    }
}

#[test]
fn f18_nothing_outlives_a_killed_builder_or_first_process() {
    for who in everyone() {
        for depth in [1, 2] {
            let mut child = started(who, "setsid sleep 1000 & echo up; sleep 1000");
            let mut victim = child.id();
            for _ in 0..depth {
                victim = only_child_of(victim);
            }
            let victim = Pid::from_raw(i32::try_from(victim).unwrap()).unwrap();
            kill_process(victim, Signal::KILL).unwrap();
            assert_eq!(rest(&mut child), "", "{who:?} {depth}");
            assert_eq!(child.wait().unwrap().code(), Some(1), "{who:?} {depth}");
        }
    }
}

/// A shell inside that has said `up`.
fn started(who: Who, script: &str) -> Child {
    let mut command: Command = who.walls(["--", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(line(&mut child), "up");
    child
}

fn line(child: &mut Child) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    let stdout = child.stdout.as_mut().unwrap();
    while stdout.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    text(&line)
}

fn rest(child: &mut Child) -> String {
    let mut rest = String::new();
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_to_string(&mut rest)
        .unwrap();
    rest
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap()
}

fn only_child_of(pid: u32) -> u32 {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = std::fs::read_to_string(path).unwrap();
    children.split_whitespace().next().unwrap().parse().unwrap()
}

/// Bytes without a pattern, the same every time.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}
