//! `cordon check boundary` and the check before the first session, through the whole binary.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a helper of tests reports by panicking"
)]

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use cordon_tests::{Outcome, World, for_both};
use serde_json::Value;

fn check(world: &World) -> (Outcome, Value) {
    let outcome = world.cordon(&["check", "boundary", "--format", "json"]);
    let report = serde_json::from_str(outcome.text().trim())
        .unwrap_or_else(|error| panic!("{error}: {outcome}"));
    (outcome, report)
}

fn findings(report: &Value) -> &Vec<Value> {
    report["findings"]
        .as_array()
        .expect("a report has findings")
}

fn wrong(report: &Value) -> Vec<String> {
    findings(report)
        .iter()
        .filter(|finding| finding["ok"] == false)
        .map(|finding| format!("{}: {}", finding["wall"], finding["attempt"]))
        .collect()
}

/// Lets bubblewrap be started without some of its arguments, as a broken or replaced one would.
/// Root's; `None` where the tests do not run as root.
fn without_arguments(world: &mut World, dropped: &str) -> Option<()> {
    let real = world.write(
        "bwrap-real",
        fs::read("/usr/bin/bwrap").expect("it is installed"),
    );
    let wrapper = world.write(
        "bwrap-wrapper",
        format!(
            r#"#!/usr/bin/python3
import os, sys
at = sys.argv.index("--args") + 1
words = os.fdopen(int(sys.argv[at]), "rb").read().split(b"\0")[:-1]
kept, skip = [], 0
for place, word in enumerate(words):
    if skip:
        skip -= 1
    elif word.decode() in {dropped}:
        skip = {dropped}[word.decode()]
    else:
        kept.append(word)
memory = os.memfd_create("arguments", 0)
os.write(memory, b"".join(word + b"\0" for word in kept))
os.lseek(memory, 0, 0)
sys.argv[at] = str(memory)
os.set_inheritable(memory, True)
os.execv("{real}", ["bwrap"] + sys.argv[1:])
"#,
            real = real.display()
        ),
    );
    for path in [&real, &wrapper] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }
    world.mount_over(&wrapper, "/usr/bin/bwrap").then_some(())
}

for_both! {
    /// F12, F15, F20 and the rest: every wall is tried, each with its control.
    fn f15_the_walls_stand_and_the_check_says_so(world) {
        let (outcome, report) = check(world);
        outcome.expect_code(0);
        assert_eq!(wrong(&report), [""; 0], "{outcome}");
        assert_eq!(report["passed"], true);
        for wall in [
            "host files", "read-only", "no delete", "direct network", "loopback", "ways out",
            "unix sockets", "descriptors", "processes", "privileges", "counted outside",
        ] {
            let of_wall: Vec<_> = findings(&report).iter().filter(|f| f["wall"] == wall).collect();
            assert!(of_wall.iter().any(|f| f["must_work"] == true), "{wall} has no control");
        }
        let left = fs::read_dir("/tmp").expect("there is one");
        let left = left.flatten().any(|entry| {
            let name = entry.file_name();
            let ours = fs::metadata(entry.path())
                .is_ok_and(|found| std::os::unix::fs::MetadataExt::uid(&found) == world.account().uid);
            ours && name.to_string_lossy().starts_with("cordon-boundary-") && !in_use(&entry.path())
        });
        assert!(!left, "the stage is gone");
    }

    /// A wall that is missing is found, and named, and no session starts.
    fn f15_a_missing_wall_is_found_and_no_session_starts(world) {
        world.config = "[check]\nbefore_first_session = true\n".into();
        for (dropped, expected) in [
            (r#"{"--seccomp": 1}"#, "\"unix sockets\": \"a socket of the host in a granted folder\""),
            (r#"{"--remount-ro": 1}"#, "\"read-only\": \"make a file in /\""),
        ] {
            if without_arguments(world, dropped).is_none() {
                eprintln!("not run: only root can replace bubblewrap");
                return;
            }
            let (outcome, report) = check(world);
            outcome.expect_code(1);
            let wrong = wrong(&report);
            assert!(wrong.iter().any(|line| line == expected), "{wrong:?} in {outcome}");

            let run = world.session(&["echo", "ran"]).run();
            run.expect_code(1);
            assert!(!run.text().contains("ran"), "{run}");
            assert!(run.stderr.contains("a wall does not stand"), "{run}");
        }
    }

    /// Before the first session the walls are tried, and then not again until something changes.
    fn the_check_runs_before_the_first_session_and_is_remembered(world) {
        world.config = "[check]\nbefore_first_session = true\n".into();
        let remembered = world.state().join("boundary");
        assert!(!remembered.exists());
        world.session(&["true"]).run().expect_code(0);
        let written = || {
            let found = fs::metadata(&remembered).expect("it is remembered");
            found.modified().expect("Linux knows it")
        };
        let first = written();
        world.session(&["true"]).run().expect_code(0);
        assert_eq!(written(), first, "nothing changed, so nothing was tried");
        world.config += "# a change\n";
        world.session(&["true"]).run().expect_code(0);
        assert!(written() > first, "the configuration changed");
    }
}

/// Another test's check may be under way.
fn in_use(stage: &Path) -> bool {
    let name = stage.to_string_lossy().into_owned();
    let processes = fs::read_dir("/proc").expect("it is mounted");
    processes.flatten().any(|entry| {
        fs::read(entry.path().join("cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&name))
    })
}
