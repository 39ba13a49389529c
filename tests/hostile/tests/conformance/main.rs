//! One list of checks for every backend with walls: escape, life, mounts, network. What passes is
//! the table of `docs/sandbox/conformance.md`; `CORDON_WRITE_TABLE=1` writes it anew.
//!
//! Every script is of the shell and programs of one static busybox that lies in the project, so
//! that nothing depends on what a backend brings along.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test reports by panicking"
)]

#[path = "../expected/mod.rs"]
mod expected;
#[path = "../host/mod.rs"]
mod host;
mod image;
mod life;
mod mounts;
#[path = "../rootfs/mod.rs"]
mod rootfs;
mod table;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
};

use cordon_tests::{
    Identity, Outcome, World,
    process::{self, Running, eventually},
};
use expected::{golden_lines, may, rows};
use host::Host;
use rootfs::{BUSYBOX, end_podman, make_rootfs};
use table::Cells;

/// Which walls, and who starts them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Adapter {
    Bubblewrap,
    BubblewrapOfRoot,
    Container,
}

type Check = fn(&Stage<'_>);

/// What is checked, in groups as in the table.
const CHECKS: [(&str, &str, Check); 20] = [
    (
        "escape",
        "every attempt of the hostile program is refused, in `strict`",
        escape_strict,
    ),
    ("escape", "the same in `default`", escape_default),
    ("escape", "the same in `build`", escape_build),
    (
        "life",
        "output arrives, and the exit code is the command's",
        life::exit_code,
    ),
    (
        "life",
        "a signal that ends the command is told as a shell tells it",
        life::signalled,
    ),
    (
        "life",
        "standard input arrives and ends",
        life::standard_input,
    ),
    ("life", "a further command joins", life::further),
    (
        "life",
        "pause stops every process, resume lets them run",
        life::pause,
    ),
    (
        "life",
        "a terminal of its own, into which nothing is typed",
        life::terminal,
    ),
    ("life", "`session end` ends it", life::ended),
    (
        "life",
        "`is-running` and `connected` tell its state",
        life::told_state,
    ),
    (
        "life",
        "a first process that does not answer ends it",
        life::heartbeat,
    ),
    (
        "life",
        "nothing outlives a killed launcher",
        life::killed_launcher,
    ),
    ("mounts", "`ro`: nothing is written", mounts::read_only),
    (
        "mounts",
        "`rw`: what was there stays, the session's own files go",
        mounts::no_delete,
    ),
    (
        "mounts",
        "`rwd`: what was there can be removed",
        mounts::delete,
    ),
    (
        "mounts",
        "a link that points out leads nowhere",
        mounts::link_out,
    ),
    (
        "mounts",
        "protected files are not written, absent ones not made",
        mounts::protected,
    ),
    (
        "mounts",
        "a folder comes, becomes read-only and goes while it runs",
        mounts::live,
    ),
    (
        "network",
        "an allowed name answers, another does not",
        network,
    ),
];

/// A world with what every check needs.
struct Stage<'w> {
    world: &'w World,
    adapter: Adapter,
    rootfs: PathBuf,
    origin: String,
    other: String,
}

/// What a container does not hide, and why, for the table.
const SHOWN_IN_CONTAINER: [(&str, &str); 2] = [
    (
        "f08_uptime_of_the_host",
        "how long the machine runs: runc 1.1 makes no time namespace",
    ),
    ("more_host_run", "a `/run`: podman's own, empty one"),
];

impl Stage<'_> {
    fn session(&self, script: &str) -> cordon_tests::Session<'_> {
        self.command(&["./busybox", "sh", "-c", script])
    }

    fn command(&self, command: &[&str]) -> cordon_tests::Session<'_> {
        let session = self.world.session(command);
        match self.adapter {
            Adapter::Container => session
                .option("--backend", "container")
                .option("--rootfs", &self.rootfs),
            Adapter::Bubblewrap | Adapter::BubblewrapOfRoot => session,
        }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        self.world.project_file(name, text)
    }

    /// A session that does `each` over and over once `ready` is there, until there is `end`.
    fn running(&self, each: &str) -> (Running, String) {
        let script = format!(
            "./busybox rm -f end; : > ready; until [ -e end ]; do {each}; ./busybox sleep 0.02; done"
        );
        let project = self.world.project();
        let _absent = fs::remove_file(project.join("ready"));
        let running = self.session(&script).start();
        eventually("the session works", || project.join("ready").exists());
        let listed = self.world.cordon(&["session", "list", "--format", "json"]);
        let line: serde_json::Value =
            serde_json::from_str(listed.text().trim()).expect("one session runs");
        let id = line["session"].as_str().expect("it has an id").to_owned();
        (running, id)
    }

    fn end(&self, running: Running) -> Outcome {
        self.write("end", "");
        let outcome = running.finish();
        self.world.remember(&outcome);
        let _absent = fs::remove_file(self.world.project().join("end"));
        outcome
    }

    fn steer(&self, words: &[&str]) {
        self.world.cordon(words).expect_code(0);
    }

    fn exec(&self, id: &str, script: &str) -> Outcome {
        let home = format!("/sessions/{id}/mnt/project/busybox");
        let words = ["session", "exec", id, "--", &home, "sh", "-c", script];
        self.world.cordon(&words)
    }

    fn escape(&self, profile: &str) {
        let host = Host::new(self.world);
        let mut words = vec!["./hostile".to_owned(), "--scan".to_owned()];
        words.extend(host.words());
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let session = self.command(&words).option("--profile", profile);
        let mut command = session.option("--tmp-size", Host::TMP_SIZE).command();
        Host::variables(&mut command);
        let outcome = process::finish(command, b"");
        self.world.remember(&outcome);
        outcome.expect_code(0);
        assert_eq!(host.reached(), [false; 3], "{outcome}");
        assert!(!host.somebody_stayed(), "a process outlived its session");
        assert_eq!(host.harm(), [""; 0], "{outcome}");
        host.clear();
        for (name, came) in rows(&outcome) {
            let shown = SHOWN_IN_CONTAINER.iter().any(|(shown, _)| *shown == name);
            let may = match shown {
                true => self.adapter == Adapter::Container,
                false => may(profile, &name),
            };
            assert_eq!(came == "allowed", may, "{profile} {name} {came}");
        }
        // The same filter everywhere: every number of every call is answered alike.
        let identity = match self.adapter {
            Adapter::BubblewrapOfRoot => Identity::Root,
            Adapter::Bubblewrap | Adapter::Container => Identity::User,
        };
        if cfg!(target_arch = "x86_64") {
            let scans = |lines: Vec<String>| {
                let scans = lines.into_iter().filter(|line| line.starts_with("scan "));
                scans.collect::<Vec<_>>()
            };
            let inside = outcome.text().lines().map(str::to_owned).collect();
            assert_eq!(scans(inside), scans(golden_lines(profile, identity)));
        }
    }
}

fn escape_strict(stage: &Stage<'_>) {
    stage.escape("strict");
}

fn escape_default(stage: &Stage<'_>) {
    stage.escape("default");
}

fn escape_build(stage: &Stage<'_>) {
    stage.escape("build");
}

fn network(stage: &Stage<'_>) {
    let get = |url: &str| {
        stage
            .session(&format!("./busybox wget -q -O - {url} 2>/dev/null"))
            .run()
    };
    let allowed = get(&stage.origin);
    allowed.expect_code(0);
    assert_eq!(allowed.text(), "hello from open.test", "{allowed}");
    assert_ne!(get(&stage.other).code, 0, "it is allowed by nobody");
    let script = format!(
        "unset http_proxy HTTP_PROXY all_proxy; ./busybox nc -w 2 192.0.2.7 80 </dev/null && ./busybox true; ./busybox wget -q -O - {} && echo reached",
        stage.other
    );
    let outcome = stage.session(&script).run();
    assert!(!outcome.text().contains("hello"), "{outcome}");
}

fn conforms(world: &mut World, adapter: Adapter) {
    if !Path::new(BUSYBOX).exists() {
        panic!("`{BUSYBOX}` is needed: apt install busybox-static");
    }
    if adapter == Adapter::Container && !Path::new("/usr/bin/podman").exists() {
        panic!("not run: podman is needed: apt install podman runc uidmap");
    }
    let (open, closed) = (
        world.allowed_origin("open.test"),
        world.origin("closed.test"),
    );
    let programs = [
        (BUSYBOX, "busybox"),
        (env!("CARGO_BIN_EXE_hostile"), "hostile"),
    ];
    for (from, name) in programs {
        let program = fs::read(from).expect("it is there");
        let path = world.project_file(name, program);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }
    let rootfs = match adapter {
        Adapter::Container => make_rootfs(world),
        Adapter::Bubblewrap | Adapter::BubblewrapOfRoot => PathBuf::new(),
    };
    let stage = Stage {
        world,
        adapter,
        rootfs,
        origin: open.url("open.test", "/"),
        other: closed.url("closed.test", "/"),
    };
    let mut cells: Cells = vec!["not run"; CHECKS.len()];
    let mut failed = None;
    for (cell, (group, what, check)) in cells.iter_mut().zip(CHECKS) {
        eprintln!("{adapter:?}: {group}: {what}");
        let ran = catch_unwind(AssertUnwindSafe(|| check(&stage)));
        *cell = if ran.is_ok() { "yes" } else { "no" };
        failed = ran.err();
        if failed.is_some() {
            break;
        }
    }
    end_podman(world);
    if let Some(why) = failed {
        eprintln!("{adapter:?}: {cells:?}");
        resume_unwind(why);
    }
    table::column(adapter, &cells);
}

#[test]
fn bubblewrap_conforms() {
    World::scenario(Identity::User, |world| conforms(world, Adapter::Bubblewrap));
}

#[test]
fn bubblewrap_of_root_conforms() {
    World::scenario(Identity::Root, |world| {
        conforms(world, Adapter::BubblewrapOfRoot);
    });
}

#[test]
fn container_conforms() {
    World::scenario(Identity::User, |world| conforms(world, Adapter::Container));
}

#[test]
fn the_table_is_of_these_checks() {
    // While it is being written its columns are incomplete.
    let writing = std::env::var_os("CORDON_WRITE_TABLE").is_some();
    assert!(
        writing || table::is_of_these_checks(),
        "stale; run all of these with CORDON_WRITE_TABLE=1"
    );
}
