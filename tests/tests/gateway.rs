//! `cordon gateway` as its callers see it: curl through every kind of listener, known and unknown
//! callers, and the end of it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use cordon_tests::{
    World, for_both,
    gateway::{ANY, Gateway, curl},
    leaks::holds,
    process,
};
use rustix::{
    net::sockopt::set_socket_linger,
    process::{Signal, kill_process},
};
use serde_json::Value;

for_both! {
    /// HTTP, SOCKS and both on one listener; what is denied never arrives.
    fn n13_curl_through_every_listener(world) {
        let open = world.allowed_origin("open.test");
        let shut = world.origin("shut.test");
        let gateway = Gateway::start(world, &["--http", ANY, "--socks", ANY, "--mixed", ANY]);
        for (listener, scheme) in [
            ("http", "http"),
            ("socks", "socks5h"),
            ("mixed", "http"),
            ("mixed", "socks5h"),
        ] {
            let proxy = format!("{scheme}://{}", gateway.address(listener));
            curl(world, &["-x", &proxy, &open.url("open.test", "/")]).expect_code(0);
            let denied = curl(world, &["-x", &proxy, &shut.url("shut.test", "/")]);
            assert_ne!(denied.code, 0, "{listener} {scheme}: {denied}");
        }
        let proxy = format!("http://{}", gateway.address("http"));
        curl(world, &["-p", "-x", &proxy, &open.url("open.test", "/")]).expect_code(0);
        assert_eq!(open.requests().len(), 5);
        assert!(shut.requests().is_empty());
        gateway.stop().expect_code(0);
    }

    /// Nobody, a wrong secret and another's secret are refused; the right one is let in, and no
    /// secret is in the log or on an argument vector.
    fn n18_callers_are_known_by_their_credentials(world) {
        let open = world.allowed_origin("open.test");
        world.policy.rule(
            "@id(\"bob-not\") forbid (principal in User::\"bob\", action in Action::\"network\", \
             resource);",
        );
        for (name, secret) in [("ann", ANN), ("bob", BOB)] {
            let file = world.write(format!("{name}.secret"), format!("{secret}\n"));
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            world.config.push_str(&format!(
                "[[gateway.callers]]\nname = \"{name}\"\nusername = \"{name}\"\n\
                 secret_file = \"{}\"\n",
                file.display()
            ));
        }
        let gateway = Gateway::start(world, &["--http", ANY, "--socks", ANY]);
        let line = fs::read(format!("/proc/{}/cmdline", gateway.pid().as_raw_nonzero())).unwrap();
        let line = String::from_utf8_lossy(&line).into_owned();
        assert!(!line.contains(ANN) && !line.contains(BOB), "{line}");
        let url = open.url("open.test", "/");
        let ask = |who: &str, listener: &str, scheme: &str| {
            let proxy = format!("{scheme}://{who}{}", gateway.address(listener));
            let format = "%{http_code} %{http_connect}";
            curl(world, &["-w", format, "-o", "/dev/null", "-x", &proxy, &url])
        };
        for (who, code) in [
            (String::new(), "407"),
            ("ann:wrong@".into(), "407"),
            (format!("ann:{BOB}@"), "407"),
            (format!("nobody:{ANN}@"), "407"),
            (format!("bob:{BOB}@"), "403"),
            (format!("ann:{ANN}@"), "200"),
        ] {
            let answer = ask(&who, "http", "http");
            assert!(answer.text().starts_with(code), "{who}: {answer}");
            let through = ask(&who, "socks", "socks5h");
            assert_eq!(through.code == 0, code == "200", "{who}: {through}");
        }
        assert_eq!(open.requests().len(), 2);
        let nobody = format!("http://{}", gateway.address("http"));
        let told = curl(world, &["--no-fail", "-x", &nobody, &url]);
        let help = "help: give your program this proxy's user name and password";
        assert!(told.text().contains(help), "{told}");
        gateway.stop().expect_code(0);
        for secret in [ANN, BOB] {
            assert!(!holds(&world.state(), secret), "a secret is in the state directory");
        }
    }

    /// What is open to other machines needs to know its callers, and policy says who may start.
    fn n18_a_gateway_that_knows_nobody_does_not_start(world) {
        let refused = world.cordon(&["gateway", "--http", "0.0.0.0:0"]);
        refused.expect_code(64);
        assert!(refused.stderr.contains("--caller"), "{refused}");
        world.cordon(&["gateway"]).expect_code(64);
        let open = world.allowed_origin("open.test");
        let gateway = Gateway::start_with(world, &["--http", ANY, "--policy", "locked-down"]);
        let proxy = format!("http://{}", gateway.address("http"));
        let answer = curl(world, &["-x", &proxy, &open.url("open.test", "/")]);
        assert_ne!(answer.code, 0, "{answer}");
        assert!(open.requests().is_empty());
        gateway.stop().expect_code(0);
    }

    /// A peer that is trusted for it says who calls; any other is itself.
    fn n18_only_a_trusted_peer_may_say_who_calls(world) {
        let open = world.allowed_origin("open.test");
        world.config.push_str(
            "[[gateway.listeners]]\nname = \"edge\"\naddress = \"127.0.0.1:0\"\n\
             proxy_protocol_from = [\"127.0.0.1/32\"]\n\
             [[gateway.listeners]]\nname = \"plain\"\naddress = \"127.0.0.1:0\"\n\
             [[gateway.callers]]\nname = \"lab\"\nsources = [\"192.0.2.0/24\"]\n",
        );
        let gateway = Gateway::start(world, &[]);
        let port = open.port();
        let request = format!(
            "GET http://open.test:{port}/ HTTP/1.1\r\nHost: open.test:{port}\r\n\
             Connection: close\r\n\r\n"
        );
        let lab = "PROXY TCP4 192.0.2.7 192.0.2.1 5000 3128\r\n";
        let other = "PROXY TCP4 198.51.100.7 192.0.2.1 5000 3128\r\n";
        let v2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc0\0\x02\x01\x13\x88\x0c\x38";
        for (listener, header, expected) in [
            ("edge", lab.as_bytes(), "HTTP/1.1 200"),
            ("edge", v2, "HTTP/1.1 200"),
            ("edge", other.as_bytes(), "HTTP/1.1 403"),
            ("edge", b"", ""),
            ("edge", b"PROXY TCP4 nonsense\r\n", ""),
            ("plain", lab.as_bytes(), "HTTP/1.1 400"),
            ("plain", b"", "HTTP/1.1 403"),
        ] {
            let bytes = [header, request.as_bytes()].concat();
            let answer = raw(gateway.address(listener), &bytes);
            let shown = header.escape_ascii();
            assert!(answer.starts_with(expected), "{listener} {shown}: {answer}");
            assert_eq!(answer.is_empty(), expected.is_empty(), "{listener} {shown}: {answer}");
            let is_told = answer.contains("help: ask whoever runs this proxy to name you");
            assert_eq!(is_told, expected.ends_with("403"), "{answer}");
        }
        assert_eq!(open.requests().len(), 2);
        gateway.stop().expect_code(0);
    }

    /// Over TLS, with a client certificate that names the caller.
    fn n18_a_client_certificate_names_the_caller(world) {
        let open = world.allowed_origin("open.test");
        for (name, san) in [("proxy", "DNS:proxy.test"), ("ci", "DNS:ci.test"), ("x", "DNS:x.test")] {
            certificate(world, name, san);
        }
        let folder = world.home();
        let folder = folder.display();
        world.config.push_str(&format!(
            "[[gateway.listeners]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\n\
             certificate = \"{folder}/proxy.pem\"\nkey = \"{folder}/proxy.key\"\n\
             client_ca = \"{folder}/ca.pem\"\n\
             [[gateway.callers]]\nname = \"ci\"\ncertificate = \"ci.test\"\n"
        ));
        let gateway = Gateway::start(world, &[]);
        let address = gateway.address("tls");
        let proxy = format!("https://proxy.test:{}", address.port());
        let resolve = format!("proxy.test:{}:127.0.0.1", address.port());
        let url = open.url("open.test", "/");
        let ca = format!("{folder}/ca.pem");
        let ask = |certificate: Option<&str>, tunnel: bool| {
            let mut args = vec!["--resolve", &resolve, "--proxy-cacert", &ca, "-x", &proxy, &url];
            let files = certificate.map(|name| [format!("{folder}/{name}.pem"), format!("{folder}/{name}.key")]);
            if let Some([pem, key]) = &files {
                args.extend(["--proxy-cert", pem, "--proxy-key", key]);
            }
            if tunnel {
                args.push("-p");
            }
            curl(world, &args)
        };
        ask(Some("ci"), false).expect_code(0);
        ask(Some("ci"), true).expect_code(0);
        assert_ne!(ask(Some("x"), false).code, 0);
        assert_ne!(ask(None, false).code, 0);
        assert_eq!(open.requests().len(), 2);
        // The configuration for browsers says how this listener is reached: inside TLS, by the name
        // that its certificate has.
        let pac = "http://cordon.internal/proxy.pac";
        let (pem, key) = (format!("{folder}/ci.pem"), format!("{folder}/ci.key"));
        let own = ["--proxy-cert", &pem, "--proxy-key", &key];
        let told = curl(
            world,
            &[&["--resolve", &resolve, "--proxy-cacert", &ca, "-x", &proxy, pac][..], &own].concat(),
        );
        let way = format!("return \"HTTPS proxy.test:{}\";", address.port());
        assert!(told.text().contains(&way), "{told}");
        gateway.stop().expect_code(0);
    }

    /// What `--policy` names is followed: what cannot be used replaces nothing, and what can
    /// reaches new connections and open ones.
    fn n19_a_changed_policy_reaches_the_gateway_and_its_tunnels(world) {
        let open = world.allowed_origin("open.test");
        world.route("late.test", open.address());
        let folder = world.policy_folder();
        let mut mapped = Mapped::open(&world.write(folder.join("50-mapped.cedar"), Mapped::TEXT));
        let mut gateway = Gateway::start(world, &["--http", ANY]);
        let proxy = format!("http://{}", gateway.address("http"));
        let url = open.url("open.test", "/");
        let tunnel = tunnel(gateway.address("http"), &format!("open.test:{}", open.port()));

        // What inotify does not tell of (a write to memory that is the file's) is read on SIGHUP.
        let late = format!("http://late.test:{}/", open.port());
        mapped.write();
        assert_ne!(curl(world, &["-x", &proxy, &late]).code, 0, "nothing told of it");
        kill_process(gateway.pid(), Signal::HUP).unwrap();
        process::eventually("it was read again", || curl(world, &["-x", &proxy, &late]).code == 0);
        let broken = folder.join("99-broken.cedar");
        world.write(&broken, "permit (");
        gateway.says("what was in force stays");
        curl(world, &["-x", &proxy, &url]).expect_code(0);
        fs::remove_file(&broken).unwrap();
        curl(world, &["-x", &proxy, &url]).expect_code(0);

        stands(&tunnel);
        world.policy.withdraw("open.test");
        world.policy_folder();
        is_cut(tunnel);
        let denied = curl(world, &["-x", &proxy, &url]);
        assert_ne!(denied.code, 0, "{denied}");
        assert_eq!(open.requests().len(), 3);
        gateway.stop().expect_code(0);
    }

    /// A caller who may not start any more gets nothing new and leaves nothing behind; what they have
    /// open goes on, by the policy of now, and their session ends with it (N24).
    fn n19_a_caller_who_may_not_start_any_more_is_followed_to_the_end(world) {
        let open = world.allowed_origin("open.test");
        let folder = world.policy_folder();
        let gateway = Gateway::start(world, &["--http", ANY]);
        let proxy = format!("http://{}", gateway.address("http"));
        let url = open.url("open.test", "/");
        let tunnel = tunnel(gateway.address("http"), &format!("open.test:{}", open.port()));
        // And a connection that rests between two requests.
        let mut kept = connected(gateway.address("http"));
        kept.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let again = format!("GET {url} HTTP/1.1\r\nhost: open.test:{}\r\n\r\n", open.port());
        assert!(asked_on(&mut kept, &again).starts_with("HTTP/1.1 200"));
        let before = sessions(world);
        world.write(folder.join("60-start.cedar"), "forbid (principal, action == Action::\"start_session\", resource);");
        process::eventually("nothing new goes through", || curl(world, &["-x", &proxy, &url]).code != 0);
        for _again in 0..3 {
            assert_ne!(curl(world, &["-x", &proxy, &url]).code, 0);
        }
        stands(&tunnel);
        assert_eq!(sessions(world), before, "theirs, and that of the unknown");
        let told = asked_on(&mut kept, &again);
        assert!(told.starts_with("HTTP/1.1 403") && told.contains("connection: close"), "{told}");
        drop(kept);
        world.policy.withdraw("open.test");
        world.policy_folder();
        is_cut(tunnel);
        process::eventually("their session is over", || sessions(world).len() == 1);
        let left = sessions(world);
        let ended = before.iter().find(|id| !left.contains(id)).unwrap();
        let records = world.records(ended);
        assert_eq!(records.iter().filter(|record| record["kind"] == "session.end").count(), 1, "{records:?}");
        gateway.stop().expect_code(0);
    }

    /// Who leaves while it is decided whether they may start leaves no session behind (N24).
    fn n24_who_leaves_while_they_are_identified_leaves_nothing(world) {
        let folder = world.policy_folder();
        world.write(folder.join("60-start.cedar"), "forbid (principal, action == Action::\"start_session\", resource);");
        let gateway = Gateway::start(world, &["--http", ANY]);
        let unknown = sessions(world);
        let request = b"GET http://open.test/ HTTP/1.1\r\nhost: open.test\r\n\r\n";
        for _caller in 0..100 {
            let mut stream = connected(gateway.address("http"));
            stream.write_all(request).unwrap();
            // A reset, at once.
            set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        }
        assert!(raw(gateway.address("http"), request).starts_with("HTTP/1.1 403"));
        process::eventually("no session but that of the unknown", || sessions(world) == unknown);
        gateway.stop().expect_code(0);
    }

    /// Who is let in by their credentials once the gateway ends has no session that nobody would end.
    fn n18_nobody_opens_a_session_while_the_gateway_ends(world) {
        let file = world.write("ann.secret", ANN);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        world.config.push_str(&format!(
            "[[gateway.callers]]\nname = \"ann\"\nusername = \"ann\"\nsecret_file = \"{}\"\n",
            file.display()
        ));
        let gateway = Gateway::start(world, &["--socks", ANY]);
        let address = gateway.address("socks");
        let mut early = connected(address);
        early.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        early.write_all(&[5, 1, 2]).unwrap();
        let mut answer = [0; 2];
        early.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [5, 2]);
        kill_process(gateway.pid(), Signal::TERM).unwrap();
        process::eventually("nobody is accepted any more", || is_shut(address));
        let length = u8::try_from(ANN.len()).unwrap();
        early.write_all(&[&[1, 3], &b"ann"[..], &[length], ANN.as_bytes()].concat()).unwrap();
        early.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [1, 0xff]);
        drop(early);
        gateway.stop().expect_code(0);
        let shown = world.cordon(&["audit", "query", "--limit", "1000", "--format", "jsonl"]).text();
        assert!(!shown.contains("\"session.start\""), "{shown}");
        assert!(shown.contains("the gateway ends and opens no session"), "{shown}");
    }

    /// A unix socket is its own identity.
    fn a_unix_socket_is_a_listener(world) {
        let open = world.allowed_origin("open.test");
        let path = world.home().join("proxy.sock");
        world.config.push_str(&format!(
            "[[gateway.listeners]]\nname = \"local\"\nunix = \"{}\"\n\
             [[gateway.callers]]\nname = \"ci\"\nlistener = \"local\"\n",
            path.display()
        ));
        let gateway = Gateway::start(world, &[]);
        let proxy = format!("socks5h://localhost{}", path.display());
        curl(world, &["-x", &proxy, &open.url("open.test", "/")]).expect_code(0);
        gateway.stop().expect_code(0);
        assert!(!path.exists());
    }

    /// Sockets that systemd listens on: taken by name, served, and left where they are.
    fn sockets_of_systemd_are_listeners(world) {
        let open = world.allowed_origin("open.test");
        let path = world.home().join("passed.sock");
        world.config.push_str(
            "[[gateway.listeners]]\nname = \"edge\"\nsystemd = \"tcp\"\nspeaks = \"http\"\n\
             [[gateway.listeners]]\nname = \"local\"\nsystemd = \"unix\"\n\
             [[gateway.callers]]\nname = \"ci\"\nlistener = \"edge\"\n\
             [[gateway.callers]]\nname = \"lab\"\nlistener = \"local\"\n",
        );
        // Writes the configuration.
        let _unused = world.command();
        let passed = |names: &str| {
            let mut command = world.as_account("/usr/bin/python3");
            command.args(["-c", ACTIVATE]).arg(&path).arg(names);
            command
        };
        let gateway = Gateway::started(world, passed("tcp:unix"), &[]);
        let proxy = format!("http://{}", gateway.address("edge"));
        curl(world, &["-x", &proxy, &open.url("open.test", "/")]).expect_code(0);
        let proxy = format!("socks5h://localhost{}", path.display());
        curl(world, &["-x", &proxy, &open.url("open.test", "/")]).expect_code(0);
        assert_eq!(gateway.places()[1], path.display().to_string());
        gateway.stop().expect_code(0);
        assert!(path.exists(), "it is systemd's");

        // A socket that no listener takes would leave its clients waiting.
        for names in ["tcp:other", "tcp:unix:third"] {
            let mut command = passed(names);
            let policy = world.policy_folder();
            command.arg(cordon_tests::binary::cordon()).arg("gateway").arg("--policy").arg(policy);
            let refused = process::finish(command, b"");
            refused.expect_code(1);
            let name = names.rsplit(':').next().unwrap();
            let missing = name == "other" && refused.stderr.contains("passed no socket `unix`");
            let left = refused.stderr.contains("nothing takes the socket `third`");
            assert!(missing || left, "{refused}");
        }
    }
}

/// What systemd does: listening sockets as descriptors 3 and up, named, for this process alone; then
/// the program.
const ACTIVATE: &str = r#"
import os, socket, sys
path, names, program = sys.argv[1], sys.argv[2], sys.argv[3:]
tcp = socket.create_server(("127.0.0.1", 0))
if os.path.exists(path):
    os.unlink(path)
local = socket.socket(socket.AF_UNIX)
local.bind(path)
local.listen()
third = socket.create_server(("127.0.0.1", 0))
kept = [os.dup(one.fileno()) for one in (tcp, local, third)]
high = [os.dup2(one, 20 + at) for at, one in enumerate(kept)]
for at in range(names.count(":") + 1):
    os.dup2(20 + at, 3 + at)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(names.count(":") + 1), LISTEN_FDNAMES=names)
os.execv(program[0], program)
"#;

const ANN: &str = "ann-secret-7f3a91c2";
const BOB: &str = "bob-secret-11d0e8b4";

/// A policy file that is written by memory which is mapped from it: of all ways to write, the one that
/// inotify tells nothing of, until the file is closed.
struct Mapped(Child);

impl Mapped {
    const TEXT: &str = "//@id(\"late\") permit (principal, action in Action::\"network\", \
                        resource == Host::\"late.test\");\n";

    fn open(file: &Path) -> Self {
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", MAPPED])
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        said(&mut child, b"open\n");
        Self(child)
    }

    /// Makes a rule of the comment.
    fn write(&mut self) {
        self.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        said(&mut self.0, b"done\n");
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[track_caller]
fn said(child: &mut Child, words: &[u8; 5]) {
    let mut heard = [0; 5];
    let out = child.stdout.as_mut().unwrap();
    out.read_exact(&mut heard).unwrap();
    assert_eq!(heard, *words);
}

const MAPPED: &str = "
import mmap, sys
file = open(sys.argv[1], 'r+b')
memory = mmap.mmap(file.fileno(), 0)
print('open', flush=True)
sys.stdin.readline()
memory[:2] = b'  '
memory.flush()
print('done', flush=True)
sys.stdin.readline()
";

/// A tunnel in which half a request was sent: the origin waits for the rest.
fn tunnel(gateway: SocketAddr, target: &str) -> TcpStream {
    let mut tunnel = connected(gateway);
    tunnel
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let connect = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n");
    tunnel.write_all(connect.as_bytes()).unwrap();
    let mut head = Vec::new();
    let mut byte = [0; 1];
    while !head.ends_with(b"\r\n\r\n") {
        tunnel.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", head.escape_ascii());
    tunnel.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    tunnel
}

fn sessions(world: &World) -> Vec<String> {
    let listed = world
        .cordon(&["session", "list", "--format", "json"])
        .text();
    let lines = listed
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .map(|line| line.get("session").unwrap().as_str().unwrap().to_owned())
        .collect()
}

/// The head of what is answered to a request on a connection, its body read too.
fn asked_on(connection: &mut TcpStream, request: &str) -> String {
    connection.write_all(request.as_bytes()).unwrap();
    let mut said = Vec::new();
    let mut byte = [0; 1];
    while !said.ends_with(b"\r\n\r\n") {
        connection.read_exact(&mut byte).unwrap();
        said.extend(byte);
    }
    let head = String::from_utf8(said).unwrap().to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).unwrap();
    let length = length.lines().next().unwrap().parse().unwrap();
    connection.read_exact(&mut vec![0; length]).unwrap();
    head.replacen("http", "HTTP", 1)
}

fn stands(mut tunnel: &TcpStream) {
    tunnel.set_nonblocking(true).unwrap();
    let kind = tunnel.read(&mut [0; 1]).map_err(|error| error.kind());
    assert_eq!(kind, Err(ErrorKind::WouldBlock), "it stands");
    tunnel.set_nonblocking(false).unwrap();
}

fn is_cut(mut tunnel: TcpStream) {
    let begun = Instant::now();
    let _reset = tunnel.read_to_end(&mut Vec::new());
    assert!(begun.elapsed() < Duration::from_secs(10), "it was cut");
}

#[expect(clippy::disallowed_methods, reason = "the test is the client here")]
fn connected(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).unwrap()
}

/// Whether nobody listens there.
#[expect(clippy::disallowed_methods, reason = "the test is the client here")]
fn is_shut(address: SocketAddr) -> bool {
    let connected = TcpStream::connect(address).map_err(|error| error.kind());
    matches!(connected, Err(ErrorKind::ConnectionRefused))
}

/// Sends bytes and reads the answer to its end; a reset is one.
fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connected(address);
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Makes a certificate of the world's own authority with openssl, in the user's home.
fn certificate(world: &World, name: &str, san: &str) {
    let home = world.home();
    let run = |script: &str| {
        let mut command: Command = world.as_account("sh");
        command.args(["-ec", script]).current_dir(&home);
        process::finish(command, b"").expect_code(0);
    };
    if !home.join("ca.pem").exists() {
        run(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
             -subj /CN=authority -keyout ca.key -out ca.pem 2>/dev/null",
        );
    }
    run(&format!(
        "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} \
         -keyout {name}.key -out {name}.csr 2>/dev/null\n\
         printf 'subjectAltName={san}\\n' >{name}.ext\n\
         openssl x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
         -extfile {name}.ext -out {name}.pem 2>/dev/null"
    ));
}
