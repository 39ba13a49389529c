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
        let secret = findings(&report).iter().find_map(|finding| {
            let path = finding["attempt"].as_str()?.strip_prefix("open ")?;
            path.ends_with("/secret").then(|| path.to_owned())
        });
        let secret = secret.expect("the stage has a sealed file");
        let stage = Path::new(&secret).parent().expect("in the stage");
        assert!(!stage.exists(), "the stage is gone");
    }

    /// A wall that is missing is found, and named, and no session starts.
    fn f15_a_missing_wall_is_found_and_no_session_starts(world) {
        world.config = "[check]\nbefore_first_session = true\n".into();
        if without_arguments(world, r#"{"--seccomp": 1}"#).is_none() {
            eprintln!("not run: only root can replace bubblewrap");
            return;
        }
        let (outcome, report) = check(world);
        outcome.expect_code(1);
        let wrong = wrong(&report);
        let expected = "\"unix sockets\": \"a socket of the host in a granted folder\"";
        assert!(wrong.iter().any(|line| line == expected), "{wrong:?} in {outcome}");

        let run = world.session(&["echo", "ran"]).run();
        run.expect_code(1);
        assert!(!run.text().contains("ran"), "{run}");
        assert!(run.stderr.contains("a wall does not stand"), "{run}");
    }

    /// Where bubblewrap leaves the root writable, what makes and opens files in the session's place
    /// does not write there.
    fn f07_the_second_wall_holds_where_the_first_is_missing(world) {
        if without_arguments(world, r#"{"--remount-ro": 1}"#).is_none() {
            eprintln!("not run: only root can replace bubblewrap");
            return;
        }
        let script = "import os\n\
            os.chmod('/var', 0o755)\n\
            for path in ['/var/made', '/tmp/made']:\n\
            \x20   try: open(path, 'w').close(); print('made', path)\n\
            \x20   except OSError as error: print(error.errno, path)\n";
        let run = world.session(&["/usr/bin/python3", "-c", script]).run();
        // The folder's mode could be changed, so its mount may be written; and still nothing is
        // made in it.
        assert_eq!(run.text().trim(), "30 /var/made\nmade /tmp/made", "{run}");
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
