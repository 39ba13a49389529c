//! Socket activation of the daemon: the sockets are systemd's, each client finds a daemon behind
//! them, and no daemon takes them along when it leaves.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    fs,
    io::{BufRead, BufReader, Lines},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use cordon_tests::{World, binary, for_both, process};

/// What systemd does with a socket unit: opens the sockets, and starts the program with them as
/// descriptors 3 and 4 when a client comes. They stay open when it ends. Says when each start ended.
const ACTIVATE: &str = r#"
import os, select, socket, sys
paths, starts, program = sys.argv[1:3], int(sys.argv[3]), sys.argv[4:]
both = []
for path in paths:
    one = socket.socket(socket.AF_UNIX)
    one.bind(path)
    os.chmod(path, 0o600)
    one.listen(128)
    both.append(one)
print("ready", flush=True)
for _ in range(starts):
    select.select(both, [], [])
    child = os.fork()
    if child == 0:
        for at, one in enumerate(both):
            os.dup2(one.fileno(), 20 + at)
        for at in range(len(both)):
            os.dup2(20 + at, 3 + at)
        os.closerange(5, 30)
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(both)))
        os.execv(program[0], program)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"#;

/// The stand-in for systemd; ended with the test.
struct Manager {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Manager {
    /// Opens these sockets and starts the daemon behind them for so many times.
    fn start(world: &World, sockets: [&Path; 2], starts: u8) -> Self {
        let mut command = world.as_account("/usr/bin/python3");
        command
            .args(["-c", ACTIVATE])
            .args(sockets)
            .arg(starts.to_string());
        command.arg(binary::cordon()).args(["serve", "--user"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut manager = Self { child, said };
        assert_eq!(manager.hears(), "ready");
        manager
    }

    /// What it says next.
    fn hears(&mut self) -> String {
        self.said.next().unwrap().unwrap()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // It may have come to its end by itself.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// The control and the API socket, in a runtime directory that is there already.
fn sockets(world: &World) -> [PathBuf; 2] {
    let folder = world.folder(world.runtime());
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    ["control.sock", "api.sock"].map(|name| folder.join(name))
}

fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

for_both! {
    fn a_client_starts_the_daemon_behind_its_sockets_again_and_again(world) {
        let [control, api] = &sockets(world);
        // Its configuration lies there before it is started.
        drop(world.command());
        let mut manager = Manager::start(world, [control, api], 2);
        let were = [inode(control), inode(api)];
        for round in 1..=2 {
            let run = world.session(&["echo", "ran"]).run();
            run.expect_code(0).expect_stdout("ran");
            assert_eq!(world.cordon(&["status"]).code, 0, "round {round}");
            world.cordon(&["stop"]).expect_code(0);
            assert_eq!(manager.hears(), "0", "round {round}");
            assert_eq!([inode(control), inode(api)], were, "they are systemd's, round {round}");
        }
        drop(manager);
        for socket in [control, api] {
            fs::remove_file(socket).unwrap();
        }
        // The control: what a daemon opened itself goes with it.
        world.session(&["true"]).run().expect_code(0);
        assert!(control.exists() && api.exists());
        world.cordon(&["stop"]).expect_code(0);
        assert!(!control.exists() && !api.exists());
    }

    /// A socket at another path would have clients that nobody serves.
    fn a_socket_that_the_daemon_has_no_use_for_is_refused(world) {
        let [control, _api] = &sockets(world);
        let other = control.with_file_name("other.sock");
        drop(world.command());
        let mut manager = Manager::start(world, [control, &other], 1);
        let status = world.cordon(&["status"]);
        assert_ne!(status.code, 0, "{status}");
        assert_eq!(manager.hears(), "1");
        for socket in [control, &other] {
            fs::remove_file(socket).unwrap();
        }
    }
}

/// The units are what systemd reads, with the binary of this run in the place of the installed one.
#[test]
fn the_units_are_verified_by_systemd() {
    let folder = tempfile::tempdir().unwrap();
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd");
    let here = binary::cordon().display().to_string();
    let installed = ["%h/.local/bin/cordon", "/usr/local/bin/cordon"];
    for (scope, names) in [
        ("--user", ["cordon.service", "cordon.socket"]),
        (
            "--system",
            ["cordon-gateway.service", "cordon-gateway.socket"],
        ),
    ] {
        let verify = |change: &dyn Fn(String) -> String| {
            let mut command = Command::new("systemd-analyze");
            command
                .args(["verify", scope, "--man=no"])
                .env("XDG_RUNTIME_DIR", folder.path());
            for name in names {
                let text = fs::read_to_string(units.join(name)).unwrap();
                let text = installed
                    .iter()
                    .fold(text, |text, path| text.replace(path, &here));
                fs::write(folder.path().join(name), change(text)).unwrap();
                command.arg(folder.path().join(name));
            }
            process::finish(command, b"")
        };
        let verified = verify(&|text| text);
        verified.expect_code(0);
        assert_eq!(verified.stderr, "", "{verified}");
        let wrong = verify(&|text| text.replace("TimeoutStopSec", "TimeoutStopSecs"));
        assert!(wrong.stderr.contains("Unknown key"), "the control: {wrong}");
    }
}
