//! The hostile program inside real sessions: its report is the golden one for each profile and
//! kind of user, and outside the same attempts go through.

#![expect(clippy::expect_used, reason = "a helper of tests reports by panicking")]

mod expected;
mod host;
mod outside;

use std::{
    fs,
    os::{fd::OwnedFd, unix::fs::PermissionsExt as _},
    path::PathBuf,
};

use cordon_tests::{Identity, Terminal, World, for_both, process};
use expected::{golden, golden_lines, may, rows};
use host::Host;
use outside::may_fail;
use rustix::fs::{Mode, OFlags, open};

/// A descriptor that everything inherits which is started while it is held: whether those that run
/// these tests leave some open is no matter then.
fn stray() -> OwnedFd {
    open("/dev/null", OFlags::RDONLY, Mode::empty()).expect("it is there")
}

fn place(world: &World) -> PathBuf {
    let program = fs::read(env!("CARGO_BIN_EXE_hostile")).expect("cargo built it");
    let path = world.project_file("hostile", program);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    path
}

fn identity(world: &World) -> Identity {
    match world.account().uid {
        0 => Identity::Root,
        _ => Identity::User,
    }
}

fn walls_hold(world: &World, profile: &str) {
    place(world);
    let _inherited = stray();
    let host = Host::new(world);
    let mut words = vec!["./hostile".to_owned(), "--scan".to_owned()];
    words.extend(host.words());
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let session = world.session(&words).option("--profile", profile);
    let mut command = session.option("--tmp-size", Host::TMP_SIZE).command();
    Host::variables(&mut command);
    let inside = process::finish(command, b"");
    world.remember(&inside);
    inside.expect_code(0);
    assert_eq!(host.reached(), [false; 3], "{inside}");
    assert!(!host.somebody_stayed(), "a process outlived its session");
    assert_eq!(host.harm(), [""; 0], "{inside}");
    host.clear();
    for (name, came) in rows(&inside) {
        assert_eq!(
            came == "allowed",
            may(profile, &name),
            "{name} {came} in {profile}: {inside}"
        );
    }
    if cfg!(not(target_arch = "x86_64")) {
        // Numbers are a processor's own.
        return;
    }
    let path = golden(profile, identity(world));
    if std::env::var_os("CORDON_BLESS").is_some() {
        fs::write(&path, inside.text()).expect("the checkout can be written");
    }
    let lines: Vec<String> = inside.text().lines().map(str::to_owned).collect();
    let expected = golden_lines(profile, identity(world));
    assert_eq!(lines, expected, "{}", path.display());
}

for_both! {
    /// F08 to F13 and their neighbours, and every call that the data refuses.
    fn f08_f13_the_walls_hold_in_default(world) {
        walls_hold(world, "default");
    }

    /// The same with less.
    fn f08_f13_the_walls_hold_in_strict(world) {
        walls_hold(world, "strict");
    }

    /// The same with debuggers.
    fn f08_f13_the_walls_hold_in_build(world) {
        walls_hold(world, "build");
    }

    /// The control: outside, root's run of the same program goes through, and reaches the host.
    fn f08_f13_outside_the_attempts_go_through(world) {
        let program = place(world);
        let _inherited = stray();
        let host = Host::new(world);
        let mut outside = world.as_account(&program);
        outside.current_dir(world.project()).args(host.words());
        Host::variables(&mut outside);
        let outside = process::finish(outside, b"");
        assert_eq!(host.reached(), [true; 3], "{outside}");
        assert!(host.somebody_stayed(), "the control of what outlives: {outside}");
        host.clear();
        let as_user = world.account().uid != 0;
        let mut failed = Vec::new();
        for (name, came) in rows(&outside) {
            // Elsewhere more of it may go through; what must is what nobody gave a reason for.
            if came != "allowed" && !may_fail(&name, as_user) {
                failed.push(format!("{name} {came}"));
            }
        }
        assert!(failed.is_empty(), "attempts that fail anywhere prove nothing: {failed:#?}");
        // Without a filter the scan does nothing: some calls do something whatever they are given.
        let mut scan = world.as_account(&program);
        scan.args(["--scan", "nothing"]);
        process::finish(scan, b"").expect_code(1).expect_stderr("behind no filter");
    }

    /// On a terminal there is more to try: the same program, with one.
    fn f13_nothing_is_typed_into_the_terminal(world) {
        place(world);
        let command = world
            .session(&["sh", "-c", "./hostile f13; ./hostile works_terminal; echo done"])
            .command();
        let mut terminal = Terminal::start(world, &command);
        let shown = terminal.expect("done");
        assert_eq!(terminal.finish(), 0);
        assert_eq!(shown.matches("refused EPERM").count(), 4, "{shown}");
        assert!(shown.contains("works_terminal_size allowed"), "{shown}");
    }
}
