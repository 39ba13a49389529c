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

use std::{
    fs::{self, File},
    io::{ErrorKind::WouldBlock, Read as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use cordon_tests::{
    Identity, Outcome, Terminal, World,
    process::{Running, eventually},
};
use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    process::Signal,
};

/// Which walls, and who starts them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Adapter {
    Bubblewrap,
    BubblewrapOfRoot,
    Container,
}

type Check = fn(&Stage<'_>);

/// What is checked, in groups as in the table.
const CHECKS: [(&str, &str, Check); 18] = [
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
        exit_code,
    ),
    (
        "life",
        "a signal that ends the command is told as a shell tells it",
        signalled,
    ),
    ("life", "standard input arrives and ends", standard_input),
    ("life", "a further command joins", further),
    (
        "life",
        "pause stops every process, resume lets them run",
        pause,
    ),
    (
        "life",
        "a terminal of its own, into which nothing is typed",
        terminal,
    ),
    ("life", "`session end` ends it", ended),
    (
        "life",
        "nothing outlives a killed launcher",
        killed_launcher,
    ),
    ("mounts", "`ro`: nothing is written", read_only),
    (
        "mounts",
        "`rw`: what was there stays, the session's own files go",
        no_delete,
    ),
    ("mounts", "`rwd`: what was there can be removed", delete),
    ("mounts", "a link that points out leads nowhere", link_out),
    (
        "mounts",
        "protected files are not written, absent ones not made",
        protected,
    ),
    (
        "mounts",
        "a folder comes, becomes read-only and goes while it runs",
        live,
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

/// What a wider profile lets through, and what the strict one takes away, as in the golden reports.
const IN_BUILD_ONLY: [&str; 5] = [
    "f10_personality_fixed_addresses",
    "f11_ptrace_self",
    "f11_process_vm_read_self",
    "f11_process_vm_write_self",
    "f11_kcmp_self",
];
const NOT_IN_STRICT: [&str; 2] = ["works_route_netlink", "works_shared_memory"];

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
        let uptime = fs::read_to_string("/proc/uptime").expect("there is `/proc`");
        let uptime = uptime.split('.').next().expect("a number").to_owned();
        let command = ["./hostile", "--scan", "--uptime", &uptime];
        let outcome = self.command(&command).option("--profile", profile).run();
        outcome.expect_code(0);
        let text = outcome.text();
        let mut rows = 0;
        for line in text.lines().filter(|line| !line.starts_with("scan ")) {
            let (name, came) = line.split_once(' ').expect("a name and what came of it");
            let shown = SHOWN_IN_CONTAINER.iter().any(|(shown, _)| *shown == name);
            let may = match profile {
                _ if shown => self.adapter == Adapter::Container,
                "build" => name.starts_with("works_") || IN_BUILD_ONLY.contains(&name),
                "strict" => name.starts_with("works_") && !NOT_IN_STRICT.contains(&name),
                _ => name.starts_with("works_"),
            };
            assert_eq!(came == "allowed", may, "{profile} {line}");
            rows += 1;
        }
        assert!(rows > 100, "a whole report: {text}");
        // The same filter everywhere: every number of every call is answered alike.
        let scans: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("scan "))
            .collect();
        let user = match self.adapter {
            Adapter::BubblewrapOfRoot => "root",
            Adapter::Bubblewrap | Adapter::Container => "user",
        };
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
        let golden = fs::read_to_string(golden.join(format!("{profile}-{user}.txt")));
        let golden = golden.expect("it is in the checkout");
        if cfg!(target_arch = "x86_64") {
            let golden = golden.lines().filter(|line| line.starts_with("scan "));
            assert_eq!(scans, golden.collect::<Vec<_>>());
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

fn exit_code(stage: &Stage<'_>) {
    let outcome = stage.session("echo said; exit 7").run();
    outcome.expect_code(7);
    assert_eq!(outcome.text(), "said", "{outcome}");
}

fn signalled(stage: &Stage<'_>) {
    stage.session("kill -KILL $$").run().expect_code(128 + 9);
}

fn standard_input(stage: &Stage<'_>) {
    let outcome = stage.session("./busybox cat").stdin("through").run();
    outcome.expect_code(0);
    assert_eq!(outcome.text(), "through", "{outcome}");
}

fn further(stage: &Stage<'_>) {
    let (running, id) = stage.running(":");
    let outcome = stage.exec(&id, "echo joined; exit 3");
    outcome.expect_code(3);
    assert_eq!(outcome.text(), "joined", "{outcome}");
    stage.end(running).expect_code(0);
}

fn pause(stage: &Stage<'_>) {
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

fn ended(stage: &Stage<'_>) {
    let (running, id) = stage.running(":");
    stage.steer(&["session", "end", &id]);
    let outcome = running.finish();
    stage.world.remember(&outcome);
    assert_ne!(outcome.code, 0, "{outcome}");
}

fn terminal(stage: &Stage<'_>) {
    let script = "./hostile f13; ./hostile works_terminal; echo done";
    let command = stage.session(script).command();
    let mut terminal = Terminal::start(stage.world, &command);
    let shown = terminal.expect("done");
    assert_eq!(terminal.finish(), 0);
    assert_eq!(shown.matches("refused EPERM").count(), 4, "{shown}");
    assert!(shown.contains("works_terminal_size allowed"), "{shown}");
}

/// A pipe that the command's processes hold open ends when the last of them is gone, however.
fn killed_launcher(stage: &Stage<'_>) {
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

fn read_only(stage: &Stage<'_>) {
    let folder = folder(stage, "shown");
    let script = "cd \"$HOME/mnt/shown\"; cat old
        (echo x >> old) 2>/dev/null && echo written; (: > new) 2>/dev/null && echo made
        rm -f old 2>/dev/null && echo removed; echo end";
    let outcome = stage
        .command(&["/bin/sh", "-c", script])
        .grant(format!("{}:ro", folder.display()))
        .run();
    assert!(outcome.text().ends_with("end"), "{outcome}");
    for done in ["written", "made", "removed"] {
        assert!(!outcome.text().contains(done), "{outcome}");
    }
    assert_eq!(read(&folder.join("old")), "old\n");
}

fn folder(stage: &Stage<'_>, name: &str) -> PathBuf {
    let folder = stage.world.folder(name);
    stage.world.write(folder.join("old"), "old\n");
    folder
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn no_delete(stage: &Stage<'_>) {
    stage.write("old", "old\n");
    let script = "b=./busybox; $b rm -f old 2>/dev/null && echo removed
        : > other; $b mv other old && $b rm -f old 2>/dev/null && echo removed
        echo new > new && $b rm new && echo own; echo more > old; $b mv old renamed && echo end";
    let outcome = stage.session(script).run();
    outcome.expect_code(0);
    assert_eq!(outcome.text(), "own\nend", "{outcome}");
    let project = stage.world.project();
    assert_eq!(read(&project.join("renamed")), "more\n");
}

fn delete(stage: &Stage<'_>) {
    stage.write("old", "old\n");
    let project = stage.world.project();
    let outcome = stage
        .command(&[
            "/bin/sh",
            "-c",
            "cd \"$HOME/mnt/project\" && ./busybox rm old && echo removed",
        ])
        .grant(format!("{}:rwd", project.display()))
        .run();
    outcome.expect_code(0);
    assert!(!project.join("old").exists(), "{outcome}");
}

fn link_out(stage: &Stage<'_>) {
    let outside = folder(stage, "outside");
    let link = stage.world.project().join("link");
    let _absent = fs::remove_file(&link);
    symlink(outside.join("old"), &link).expect("the folder is ours");
    assert_eq!(
        read(&link),
        "old\n",
        "the control: on the host it leads there"
    );
    let script = "./busybox cat link 2>/dev/null && echo read; (echo x > link) 2>/dev/null && echo written; echo end";
    let outcome = stage.session(script).run();
    assert_eq!(outcome.text(), "end", "{outcome}");
    assert_eq!(read(&outside.join("old")), "old\n");
}

fn protected(stage: &Stage<'_>) {
    stage.write(".mcp.json", "{}\n");
    let script = "(echo x > .mcp.json) 2>/dev/null && echo written
        (: > .envrc) 2>/dev/null && echo made; ./busybox mkdir .vscode 2>/dev/null && echo made
        : > plain && echo end";
    let outcome = stage.session(script).run();
    outcome.expect_code(0);
    assert_eq!(outcome.text(), "end", "{outcome}");
    let project = stage.world.project();
    assert_eq!(read(&project.join(".mcp.json")), "{}\n");
    assert!(!project.join(".envrc").exists() && !project.join(".vscode").exists());
}

fn live(stage: &Stage<'_>) {
    let later = folder(stage, "later");
    let (running, id) = stage.running(":");
    let at = format!("/sessions/{id}/mnt/later");
    let inside = |script: &str| stage.exec(&id, &format!("{script} 2>/dev/null")).code == 0;
    assert!(!inside(&format!("cd {at}")), "not before it is granted");
    stage.steer(&["session", "grant", &id, &format!("{}:rw", later.display())]);
    assert!(
        inside(&format!("cd {at} && : > made")),
        "granted to be written"
    );
    assert!(later.join("made").exists());
    assert!(!inside(&format!("rm {at}/old")), "what was there stays");
    stage.steer(&["session", "mode", &id, "later", "ro"]);
    assert!(!inside(&format!("(: > {at}/more)")), "read only now");
    assert!(inside(&format!("[ -e {at}/old ]")), "and still there");
    stage.steer(&["session", "revoke", &id, "later"]);
    assert!(!inside(&format!("[ -e {at}/old ]")), "gone");
    stage.end(running).expect_code(0);
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

/// A root file system with what our own program needs, and busybox.
fn make_rootfs(world: &World) -> PathBuf {
    let root = world.folder("rootfs");
    let needed = Command::new("ldd")
        .arg(cordon_tests::binary::cordon())
        .output()
        .expect("part of the C library");
    let needed = String::from_utf8_lossy(&needed.stdout).into_owned();
    let libraries = needed
        .split_whitespace()
        .filter(|word| word.starts_with("/lib") && !word.contains("vdso"));
    for library in libraries {
        let at = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(at.parent().expect("below the root")).expect("it is new");
        fs::copy(library, at).expect("it was just found");
    }
    for folder in [
        "bin", "etc", "tmp", "proc", "dev", "sys", "run", "sessions", ".cordon",
    ] {
        fs::create_dir_all(root.join(folder)).expect("it is new");
    }
    fs::copy(BUSYBOX, root.join("bin/busybox")).expect("it was looked for");
    for name in ["sh", "true", "cat", "rm"] {
        symlink("busybox", root.join("bin").join(name)).expect("it is new");
    }
    let all = Command::new("chown")
        .args([
            "-R",
            &format!("{}:{}", world.account().uid, world.account().gid),
        ])
        .arg(&root)
        .status();
    assert!(all.expect("part of every system").success());
    root
}

/// The process that podman leaves behind to keep its user namespace.
fn end_podman(world: &World) {
    let file = world.runtime().join("../libpod/tmp/pause.pid");
    let Ok(text) = fs::read_to_string(&file) else {
        return;
    };
    let pid = text
        .trim()
        .parse()
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        let _gone = rustix::process::kill_process(pid, Signal::KILL);
        assert!(
            cordon_tests::process::gone(pid, std::time::Duration::from_secs(5)),
            "podman's own process ends"
        );
    }
}

fn conforms(world: &mut World, adapter: Adapter) {
    if !Path::new(BUSYBOX).exists() {
        panic!("`{BUSYBOX}` is needed: apt install busybox-static");
    }
    if adapter == Adapter::Container && !Path::new("/usr/bin/podman").exists() {
        eprintln!("not run: podman is not installed");
        return;
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
    for (group, what, check) in CHECKS {
        eprintln!("{adapter:?}: {group}: {what}");
        check(&stage);
    }
    end_podman(world);
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
    let mut page = String::from(
        "# Conformance of backends\n\nEvery backend with walls passes one list of checks, in real \
         sessions: `tests/hostile/tests/conformance.rs`, which makes this page. Escape is tried by \
         one hostile program with every system call; life and mounts by what a user does.\n\n\
         ```sh\ncargo test --workspace --test conformance\n```\n\n\
         | | check | bubblewrap, user | bubblewrap, root | container, user |\n|---|---|---|---|---|\n",
    );
    for (group, what, _) in CHECKS {
        let note = if group == "escape" { "yes¹" } else { "yes" };
        page += &format!("| {group} | {what} | yes | yes | {note} |\n");
    }
    page += "\nRoot starts no containers: they are rootless podman's.\n\n¹ Inside a container is also seen:\n\n";
    for (row, why) in SHOWN_IN_CONTAINER {
        page += &format!("- {why} (`{row}`).\n");
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sandbox/conformance.md");
    if std::env::var_os("CORDON_WRITE_TABLE").is_some() {
        fs::write(&file, &page).expect("the checkout can be written");
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    assert!(written == page, "stale; run it with CORDON_WRITE_TABLE=1");
}

const BUSYBOX: &str = "/bin/busybox";
