//! Sessions from start to end: the shared daemon, the streams, the exit codes, and what is left.

use std::{
    io::{Read, Write},
    process::Stdio,
};

use cordon_tests::{
    World, for_both, leaks,
    process::{self, eventually},
};
use rustix::process::{Pid, Signal};

/// The daemon of a world, by its command line.
fn daemons(world: &World) -> Vec<Pid> {
    leaks::processes(&world.marks())
        .into_iter()
        .filter(|pid| process::is_daemon(*pid))
        .collect()
}

for_both! {
    fn the_exit_code_is_the_commands(world) {
        for (script, code) in [
            ("exit 0", 0),
            ("exit 7", 7),
            ("exit 255", 255),
            ("kill -TERM $$", 143),
            ("kill -KILL $$", 137),
        ] {
            world.session(&["sh", "-c", script]).run().expect_code(code);
        }
        world
            .session(&["no-such-program"])
            .run()
            .expect_code(127)
            .expect_stderr("no-such-program");
        world.session(&["/etc/passwd"]).run().expect_code(126);
    }

    /// A mebibyte of every byte there is, both ways, and nothing added.
    fn piped_input_and_output_pass_byte_for_byte(world) {
        let bytes: Vec<u8> = (0..1 << 20)
            .map(|n: u32| n.wrapping_mul(2_654_435_761).to_be_bytes()[0])
            .collect();
        let run = world.session(&["cat"]).stdin(bytes.clone()).run();
        run.expect_code(0);
        assert!(run.stdout == bytes, "{} bytes came back", run.stdout.len());
        let run = world.session(&["sh", "-c", "echo out; echo err >&2"]).run();
        run.expect_stdout("out").expect_stderr("err\n");
    }

    /// One byte in, one byte out, while both ends stay open.
    fn piped_input_and_output_are_not_buffered(world) {
        let mut command = world.session(&["cat"]).command();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        for byte in *b"one" {
            stdin.write_all(&[byte]).unwrap();
            let mut back = [0];
            stdout.read_exact(&mut back).unwrap();
            assert_eq!(back, [byte]);
        }
        drop(stdin);
        assert!(process::gone(Pid::from_child(&child), process::DEADLINE));
        assert!(child.wait().unwrap().success());
    }

    /// Two sessions at once: one daemon, one log, each with its own records.
    fn two_sessions_share_one_daemon_and_one_log(world) {
        let script = "touch up; until [ -e go ]; do sleep 0.05; done";
        let first = world.session(&["sh", "-c", script]).start();
        let up = world.project().join("up");
        eventually("the first session runs", || up.exists());
        let before = daemons(world);
        assert_eq!(before.len(), 1, "one daemon");
        let second = world.session(&["true"]).run();
        second.expect_code(0);
        assert_eq!(daemons(world), before, "the same daemon");
        world.project_file("go", "");
        let first = first.finish();
        world.remember(&first);
        first.expect_code(0);
        let (first, second) = (first.session(), second.session());
        assert_ne!(first, second);
        for session in [&first, &second] {
            let records = world.records(session);
            assert!(!records.is_empty());
            assert!(
                records
                    .iter()
                    .all(|record| record["session"].to_string().contains(session.as_str())),
                "{records:?}"
            );
        }
    }

    fn an_idle_daemon_leaves_by_itself(world) {
        world.config.push_str("[service]\nidle_exit_seconds = 1\n");
        world.session(&["true"]).run().expect_code(0);
        for daemon in daemons(world) {
            assert!(process::gone(daemon, process::DEADLINE), "it left");
        }
        world.expect_nothing_left();
        world.expect_log_verifies();
        world.session(&["true"]).run().expect_code(0);
    }

    /// The log grows from daemon to daemon; it is never started anew.
    fn the_log_outlives_the_daemon(world) {
        let first = world.session(&["true"]).run().session();
        let before = world.records(&first);
        world.stop();
        world.expect_nothing_left();
        let second = world.session(&["true"]).run().session();
        assert_eq!(world.records(&first), before);
        assert!(!world.records(&second).is_empty());
    }

    /// What the summary says is what the log says.
    fn the_summary_is_what_the_log_says(world) {
        let open = world.allowed_origin("open.test");
        let shut = world.origin("shut.test");
        let script = "curl -sS \"$1\" \"$1\" \"$2\"; exit 5";
        let (one, two) = (open.url("open.test", "/"), shut.url("shut.test", "/"));
        let run = world.session(&["sh", "-c", script, "sh", &one, &two]).run();
        run.expect_code(5);
        assert_eq!(run.summary()["exit_code"], 5, "{run}");
        assert_eq!(
            (run.allowed("open.test"), run.denied("shut.test")),
            (2, 1),
            "{run}"
        );
        let records = world.records(&run.session());
        let decided = |effect: &str, host: &str| {
            records
                .iter()
                .filter(|record| record["effect"] == effect && record.to_string().contains(host))
                .count()
        };
        assert_eq!(
            (decided("allow", "open.test"), decided("deny", "shut.test")),
            (2, 1),
            "{records:#?}"
        );
        let bytes = run.summary()["bytes_in"].as_u64();
        assert!(bytes >= Some(2 * 21), "two answers of 21 bytes: {run}");
    }

    /// SIGTERM and SIGINT to `cordon run` reach the command, and everything is gone afterwards.
    fn signals_to_the_launcher_end_the_session(world) {
        for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
            let script = "rm -f up; touch up; exec sleep 1000";
            let up = world.project().join("up");
            let _ = std::fs::remove_file(&up);
            let running = world.session(&["sh", "-c", script]).start();
            eventually("the session runs", || up.exists());
            let tree = process::tree(running.pid());
            running.signal(signal);
            let run = running.finish();
            world.remember(&run);
            run.expect_code(code);
            for pid in tree {
                assert!(
                    process::gone(pid, process::DEADLINE),
                    "{}",
                    process::name(pid)
                );
            }
        }
    }

    /// The command may handle a signal itself; its own exit code is the session's.
    fn a_command_may_handle_the_signal(world) {
        let script = "trap 'echo handled; exit 9' TERM; touch up; while :; do sleep 0.05; done";
        let up = world.project().join("up");
        let running = world.session(&["sh", "-c", script]).start();
        eventually("the session runs", || up.exists());
        running.signal(Signal::TERM);
        let run = running.finish();
        world.remember(&run);
        run.expect_code(9).expect_stdout("handled");
    }

    /// Without force it refuses and says how; with force it ends the session, returns, and leaves
    /// the way free for the next.
    fn a_busy_daemon_is_stopped_by_force_alone(world) {
        let running = world.session(&["sh", "-c", "touch up; exec sleep 600"]).start();
        let up = world.project().join("up");
        eventually("the session runs", || up.exists());
        world.cordon(&["stop"]).expect_code(1).expect_stderr("--force");
        world.cordon(&["stop", "--force"]).expect_code(0);
        let run = running.finish();
        run.expect_code(1).expect_stderr("the daemon went away");
        world.session(&["true"]).run().expect_code(0);
    }

    fn status_shows_what_runs(world) {
        let script = "touch up; until [ -e go ]; do sleep 0.05; done";
        let running = world.session(&["sh", "-c", script]).start();
        let up = world.project().join("up");
        eventually("the session runs", || up.exists());
        let status = world.cordon(&["status"]);
        world.project_file("go", "");
        let run = running.finish();
        world.remember(&run);
        run.expect_code(0);
        assert!(status.text().contains(&run.session()), "{status}");
    }
}
