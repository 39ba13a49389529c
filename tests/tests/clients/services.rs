//! Clients of services that are no web: PostgreSQL, Redis, gRPC, WebSocket.

use std::{fs, path::Path, process::Command};

use cordon_tests::{Identity, Outcome, World, for_both, origin::program::Program};

use crate::{clients, fixture, run};

/// Runs what `client` makes of a host and port against the server under an allowed and a denied
/// name, and returns the denied run: nothing of it arrived.
#[track_caller]
fn both_names(
    world: &mut World,
    server: &Program,
    client: impl Fn(&str) -> Vec<String>,
    expected: &str,
) -> Outcome {
    world.route("open.test", server.address());
    world.route("shut.test", server.address());
    world.policy.allow("open.test");
    let name = |name: &str| format!("{name}:{}", server.port());
    let allowed = run(world, &client(&name("open.test")));
    allowed
        .expect_code(0)
        .expect_stdout(expected)
        .expect_allowed("open.test");
    let denied = run(world, &client(&name("shut.test")));
    assert!(!denied.text().contains(expected), "{denied}");
    denied.expect_denied("shut.test", "default_deny");
    denied
}

fn list(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// A script of `fixtures/clients`, run on the host with the clients' Python.
pub(crate) fn serving(script: &str, arguments: &[&Path]) -> Program {
    let folder = std::env::var("CORDON_TEST_CLIENTS").expect("asked before");
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/clients")
        .join(script);
    let mut command = Command::new(Path::new(&folder).join("python/bin/python"));
    command.arg(script).arg("serve").args(arguments);
    Program::printing_its_port(command)
}

/// A real PostgreSQL of the ordinary user, whose superuser is `agent`.
fn postgres(world: &World) -> Program {
    let account = Identity::User.account().expect("everybody is someone");
    let programs = fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is installed")
        .filter_map(Result::ok)
        .map(|version| version.path().join("bin"))
        .max()
        .expect("one version at least");
    let data = world.folder("postgres");
    std::os::unix::fs::chown(&data, Some(account.uid), Some(account.gid)).expect("root, or ours");
    let as_user = |program: &str| {
        use std::os::unix::process::CommandExt;

        let mut command = Command::new(programs.join(program));
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LC_ALL", "C.UTF-8");
        command.current_dir("/");
        if rustix::process::getuid().is_root() {
            command.uid(account.uid).gid(account.gid);
        }
        command
    };
    let mut make = as_user("initdb");
    make.args(["-A", "trust", "-U", "agent", "--no-sync", "-D"])
        .arg(&data);
    let made = make.output().expect("initdb runs");
    assert!(made.status.success(), "{made:?}");
    Program::on_a_port(|port| {
        let mut command = as_user("postgres");
        command.args([
            "-h",
            "127.0.0.1",
            "-k",
            "",
            "-F",
            "-p",
            &port.to_string(),
            "-D",
        ]);
        command.arg(&data).stderr(std::process::Stdio::null());
        command
    })
}

for_both! {
    /// psql knows no proxy: captured, decided by name, and told the reason in its own protocol.
    fn psql(world) {
        let server = postgres(world);
        let query = |at: &str| {
            let url = format!("postgresql://agent@{at}/postgres");
            list(&["psql", &url, "-Atc", "select 'hello from ' || current_user"])
        };
        let denied = both_names(world, &server, query, "hello from agent");
        denied.expect_code(2).expect_stderr("no rule allows it");
    }

    fn redis(world) {
        let server = Program::on_a_port(|port| {
            let mut command = Command::new("redis-server");
            command.args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string()]);
            command
        });
        let ping = |at: &str| list(&["redis-cli", "-u", &format!("redis://{at}"), "ping"]);
        let denied = both_names(world, &server, ping, "PONG");
        denied.expect_told("no rule allows it");
    }

    /// One unary call and a stream each way.
    fn grpc(world) {
        if !clients() {
            return;
        }
        fixture(world, "grpc_service.py");
        let server = serving("grpc_service.py", &[]);
        let call = |at: &str| list(&["mnt/clients/python/bin/python", "mnt/project/grpc_service.py", "call", at]);
        let denied = both_names(world, &server, call, "hello from gRPC\nhello one\nhello two");
        denied.expect_stderr("403");
    }

    fn websocket(world) {
        if !clients() {
            return;
        }
        fixture(world, "websocket.py");
        let server = serving("websocket.py", &[]);
        let call = |at: &str| {
            let url = format!("ws://{at}/");
            list(&["mnt/clients/python/bin/python", "mnt/project/websocket.py", "call", &url])
        };
        let denied = both_names(world, &server, call, "hello from a WebSocket");
        denied.expect_stderr("403");
    }
}
