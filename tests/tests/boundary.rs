//! `cordon check boundary` and the check before the first session, through the whole binary.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a helper of tests reports by panicking"
)]

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use cordon_tests::{Outcome, World, for_both, kernel::WITHOUT_LANDLOCK};
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
    let script = changed(&format!("dropped = {dropped}"));
    world.bubblewrap_through(&script).then_some(())
}

/// A script that becomes bubblewrap without the arguments in `dropped` (a name, and how many words
/// follow it), and with those of `added` before the root becomes read-only, where `before` sets them.
fn changed(before: &str) -> String {
    format!(
        r#"import os, sys
dropped, added = {{}}, []
{before}
at = sys.argv.index("--args") + 1
words = os.fdopen(int(sys.argv[at]), "rb").read().split(b"\0")[:-1]
kept, skip = [], 0
for word in words:
    if word == b"--remount-ro":
        kept += [word.encode() for word in added]
        added = []
    if skip:
        skip -= 1
    elif word.decode() in dropped:
        skip = dropped[word.decode()]
    else:
        kept.append(word)
memory = os.memfd_create("arguments", 0)
os.write(memory, b"".join(word + b"\0" for word in kept))
os.lseek(memory, 0, 0)
sys.argv[at] = str(memory)
os.set_inheritable(memory, True)
os.execv(REAL, ["bwrap"] + sys.argv[1:])
"#
    )
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

    /// Each profile has walls of its own, and a session's are tried before it starts.
    fn f15_the_walls_of_each_profile_are_tried(world) {
        world.config = "[check]\nbefore_first_session = true\n".into();
        let own = "a socket of the session's own";
        for (profile, reached) in [("strict", false), ("build", true)] {
            let told = ["check", "boundary", "--profile", profile, "--format", "json"];
            let outcome = world.cordon(&told);
            let report: Value = serde_json::from_str(outcome.text().trim())
                .unwrap_or_else(|error| panic!("{error}: {outcome}"));
            assert_eq!(wrong(&report), [""; 0], "{outcome}");
            assert_eq!(report["profile"], profile);
            let socket = findings(&report).iter().find(|finding| finding["attempt"] == own);
            assert_eq!(socket.map(|finding| &finding["must_work"]), Some(&reached.into()));
            let remembered = world.state().join(format!("boundary-{profile}"));
            assert!(remembered.exists() && !world.state().join("boundary").exists());
            fs::remove_file(&remembered).expect("it is ours");
            let run = world.session(&["true"]).option("--profile", profile).run();
            run.expect_code(0);
            assert!(remembered.exists(), "tried for {profile}");
        }
        let text = world.cordon(&["check", "boundary", "--profile", "build"]);
        assert!(text.expect_code(0).text().contains("profile build"), "{text}");
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

    /// Each wall that can be taken away by what bubblewrap is told is noticed by the attempt on it.
    fn f15_a_hole_in_each_wall_is_noticed(world) {
        for (hole, expected) in [
            ("added = ['--ro-bind', '/home', '/home']", "\"host files\": \"open /home\""),
            ("added = ['--bind', '/proc', '/proc']", "\"processes\": \"see a process of the host\""),
            ("added = ['--setenv', 'HOLE', '1']", ""),
        ] {
            if !world.bubblewrap_through(&changed(hole)) {
                eprintln!("not run: only root can replace bubblewrap");
                return;
            }
            let (outcome, report) = check(world);
            let wrong = wrong(&report);
            // The last is the control: a change that is no hole.
            outcome.expect_code(i32::from(!expected.is_empty()));
            assert_eq!(wrong.iter().any(|line| line == expected), !expected.is_empty(), "{hole}: {wrong:?}");
        }
    }

    /// What the session is refused and an ordinary user of the host cannot do either has a control
    /// in namespaces of its own.
    fn f15_each_attempt_that_needs_privileges_has_a_control(world) {
        let (_outcome, report) = check(world);
        for attempt in [
            "ICMP (ping)", "ICMP by a raw socket", "packets past IP", "mount a file system",
            "change the root", "a user namespace",
        ] {
            let refused = findings(&report).iter().find(|f| f["attempt"] == attempt);
            assert_eq!(refused.map(|f| (&f["must_work"], &f["ok"])), Some((&false.into(), &true.into())), "{attempt}");
            let control = format!("{attempt}, in namespaces of its own");
            let control = findings(&report).iter().find(|f| f["attempt"] == *control);
            assert_eq!(control.map(|f| (&f["must_work"], &f["ok"])), Some((&true.into(), &true.into())), "{attempt}");
        }
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

    /// F07: into what a mistake in the plan of mounts shows writable nothing is written. Landlock
    /// alone says so: its permissions let everybody, and a file without a name is not the guard's.
    fn f07_landlock_holds_what_a_mistake_in_the_mounts_lets_be_written(world) {
        let folder = world.folder("shown");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("it is ours");
        let shown = format!("added = ['--bind', '{}', '/shown']", folder.display());
        let fill = "import os\n\
            for folder in ['/tmp', '/shown']:\n\
            \x20   try: print(os.write(os.open(folder, os.O_TMPFILE | os.O_RDWR), b'filled'))\n\
            \x20   except OSError as error: print(os.strerror(error.errno))\n";
        if !world.bubblewrap_through(&changed(&shown)) {
            eprintln!("not run: only root can replace bubblewrap");
            return;
        }
        let run = world.session(&["/usr/bin/python3", "-c", fill]).run();
        assert_eq!(run.text().trim(), "6\nPermission denied", "{run}");
        // The control: without Landlock nothing else stops it.
        assert!(world.bubblewrap_through(&changed(&format!("{shown}\n{WITHOUT_LANDLOCK}"))));
        let run = world.session(&["/usr/bin/python3", "-c", fill]).run();
        assert_eq!(run.text().trim(), "6\n6", "{run}");
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
