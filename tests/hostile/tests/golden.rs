//! The hostile program inside real sessions: its report is the golden one for each profile and
//! kind of user, and outside the same attempts go through.

#![expect(clippy::expect_used, reason = "a helper of tests reports by panicking")]

mod expected;

use std::{
    fs,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            fs::PermissionsExt as _,
            net::{SocketAddr, UnixDatagram, UnixListener},
        },
    },
    path::PathBuf,
};

use cordon_tests::{Identity, Terminal, World, for_both};
use expected::{golden, golden_lines, may, rows};

/// The host's side: an abstract socket and a datagram socket in the granted folder, which nobody
/// inside may reach.
struct Host {
    name: String,
    listener: UnixListener,
    path: PathBuf,
    datagrams: UnixDatagram,
}

impl Host {
    fn new(world: &World) -> Self {
        let name = format!("{}/abstract", world.project().display());
        let address = SocketAddr::from_abstract_name(&name).expect("short enough");
        let listener = UnixListener::bind_addr(&address).expect("nobody else has this name");
        listener.set_nonblocking(true).expect("a socket of ours");
        let path = world.project().join("datagrams.sock");
        let datagrams = UnixDatagram::bind(&path).expect("the folder is new");
        datagrams.set_nonblocking(true).expect("a socket of ours");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("it is ours");
        Self {
            name,
            listener,
            path,
            datagrams,
        }
    }

    fn reached(&self) -> [bool; 2] {
        [
            self.listener.accept().is_ok(),
            self.datagrams.recv(&mut [0; 16]).is_ok(),
        ]
    }

    fn clear(self) {
        fs::remove_file(&self.path).expect("it is ours");
    }
}

fn place(world: &World) -> PathBuf {
    let program = fs::read(env!("CARGO_BIN_EXE_hostile")).expect("cargo built it");
    let path = world.project_file("hostile", program);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    path
}

/// Since the machine's start, as the host tells it now.
fn uptime() -> String {
    let text = fs::read_to_string("/proc/uptime").expect("there is `/proc`");
    text.split('.').next().expect("a number").to_owned()
}

fn identity(world: &World) -> Identity {
    match world.account().uid {
        0 => Identity::Root,
        _ => Identity::User,
    }
}

fn walls_hold(world: &World, profile: &str) {
    place(world);
    let host = Host::new(world);
    let folder_socket = "datagrams.sock";
    let inside = world
        .session(&[
            "./hostile",
            "--scan",
            "--abstract",
            &host.name,
            "--socket",
            folder_socket,
            "--uptime",
            &uptime(),
        ])
        .option("--profile", profile)
        .run();
    inside.expect_code(0);
    assert_eq!(host.reached(), [false, false], "{inside}");
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
        let host = Host::new(world);
        let [name, path] = [&host.name, &host.path.to_string_lossy().into_owned()];
        let program = program.to_string_lossy();
        let outside = world.host(&program, &["--abstract", name, "--socket", path, "--uptime", &uptime()]);
        assert_eq!(host.reached(), [true, true], "{outside}");
        host.clear();
        // The walls around this machine itself may hold some of it.
        let rows = rows(&outside);
        let refused: Vec<_> = rows.iter().filter(|(_, came)| *came != "allowed").collect();
        if world.account().uid == 0 {
            assert!(refused.len() < 30, "attempts that fail anywhere prove nothing: {refused:?}");
        }
        let works = rows.iter().filter(|(name, _)| name.starts_with("works_"));
        for (name, came) in works {
            assert_eq!(came, "allowed", "{name}");
        }
        // Without a filter the scan does nothing: some calls do something whatever they are given.
        let mut scan = world.as_account(&*program);
        scan.args(["--scan", "nothing"]);
        cordon_tests::process::finish(scan, b"").expect_code(1).expect_stderr("behind no filter");
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
