//! The network rows of the threat list, by their ids, through the whole binary. That a byte did not
//! arrive is shown at listeners that count, never by a status alone; every refusal has its control.

use std::{
    fs,
    net::{IpAddr, UdpSocket},
    os::unix::fs::PermissionsExt,
    process::Command,
};

use cordon_tests::{
    Origin, Outcome, World, fixtures, for_both, leaks,
    origin::{dns::DnsCanary, raw::Echo},
};

const PYTHON: &str = "/usr/bin/python3";

/// Runs `probe.py` in a session.
#[track_caller]
fn probe(world: &World, args: &[&str]) -> Outcome {
    fixtures::probe(world);
    let mut command = vec![PYTHON, "probe.py"];
    command.extend(args);
    world.session(&command).run()
}

/// Sends a CONNECT for `authority`, byte for byte, to the session's HTTP door.
#[track_caller]
fn connect(world: &World, authority: &[u8]) -> Outcome {
    fixtures::probe(world);
    let mut bytes = b"CONNECT ".to_vec();
    bytes.extend_from_slice(authority);
    bytes.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    bytes.extend_from_slice(authority);
    bytes.extend_from_slice(b"\r\n\r\n");
    world
        .session(&[PYTHON, "probe.py", "bytes", "127.0.0.1", "3128"])
        .stdin(bytes)
        .run()
}

/// Asks the session's SOCKS door for a name, byte for byte.
#[track_caller]
fn socks(world: &World, name: &[u8], port: u16) -> Outcome {
    let hex: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
    probe(world, &["socks", &hex, &port.to_string()])
}

/// An origin led to by `name` that greets; policy is not told.
fn greeter(world: &mut World, name: &str) -> Echo {
    let echo = Echo::start("good day\n");
    world.route(name, echo.address());
    echo
}

#[track_caller]
fn expect_tunnel(outcome: &Outcome) {
    let text = outcome.text();
    assert!(
        text.starts_with("HTTP/1.1 200") && text.contains("good day"),
        "{outcome}"
    );
}

#[track_caller]
fn expect_status(outcome: &Outcome, statuses: &[u16]) {
    let text = outcome.text();
    let given = statuses
        .iter()
        .any(|status| text.starts_with(&format!("HTTP/1.1 {status}")));
    assert!(given, "one of {statuses:?} in {outcome}");
}

fn allow_address(world: &mut World, address: &str) {
    world.policy.rule(&format!(
        "@id(\"allow-{address}\") permit (principal, action in Action::\"network\", resource == Address::\"{address}\");"
    ));
}

for_both! {
    /// No rule at all, an empty list of hosts, and no policy named are three different things; only
    /// the last opens anything, and that is the built-in pack.
    fn n01_empty_means_deny_all(world) {
        let origin = world.origin("open.test");
        let url = origin.url("open.test", "/");
        let empty = world.write("empty.cedar", "// no rule\n");
        let nothing = world.session(&["touch", "ran"]).policy(&empty).run();
        nothing.expect_code(3);
        assert!(!world.project().join("ran").exists(), "{nothing}");
        let command = ["curl", "-sS", url.as_str()];
        world.session(&command).run().expect_denied("open.test", "default_deny");
        world.session(&command).built_in_policy().run().expect_denied("open.test", "default_deny");
        assert_eq!(origin.connections(), 0);
        world.policy.allow("open.test");
        world.session(&command).run().expect_stdout("hello from open.test");
    }

    /// A name with a zero byte, or any other byte that no name has, is refused before policy.
    fn n02_a_name_with_a_zero_byte_is_refused(world) {
        let open = greeter(world, "open.test");
        let shut = greeter(world, "shut.test");
        world.policy.allow("open.test");
        world.policy.rule("@id(\"suffix\") permit (principal, action in Action::\"network\", resource in Domain::\"open.test\");");
        for name in [&b"shut.test\0.open.test"[..], b"shut.test\0", b"\0open.test", b"shut.test\x01.open.test", b"shut.test\xff.open.test"] {
            let refused = socks(world, name, shut.port());
            assert_ne!(refused.text(), "reply 0", "{name:?}: {refused}");
            refused.expect_only_refusals("malformed");
            let mut authority = name.to_vec();
            authority.extend_from_slice(format!(":{}", shut.port()).as_bytes());
            expect_status(&connect(world, &authority), &[400]);
        }
        assert_eq!((open.connections(), shut.connections()), (0, 0));
        socks(world, b"open.test", open.port()).expect_stdout("reply 0");
        expect_tunnel(&connect(world, format!("open.test:{}", open.port()).as_bytes()));
    }

    /// Every spelling of an address is one address: to policy, to the log, and when it is allowed.
    fn n05_inet_aton_spellings_are_one_address(world) {
        let origin = Echo::start("good day\n");
        let canonical = format!("127.0.0.1:{}", origin.port());
        let spellings = ["127.0.0.1", "127.1", "2130706433", "0x7f.0.0.1", "0177.0.0.1", "0x7f000001", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"];
        let ask = |world: &World, spelling: &str| {
            connect(world, format!("{spelling}:{}", origin.port()).as_bytes())
        };
        for spelling in spellings {
            let refused = ask(world, spelling);
            expect_status(&refused, &[403]);
            assert!(refused.denied(&canonical) > 0, "{spelling}: {refused}");
        }
        // Allowed by name of the address, it is still a special one that nobody named.
        allow_address(world, "127.0.0.1");
        for spelling in spellings {
            ask(world, spelling).expect_address_refused(&canonical);
        }
        assert_eq!(origin.connections(), 0);
        world.permit("127.0.0.1", IpAddr::from([127, 0, 0, 1]));
        world.stop();
        for spelling in spellings {
            expect_tunnel(&ask(world, spelling));
        }
        assert_eq!(origin.connections(), spellings.len());
    }

    /// The metadata service, in the spellings that filters miss.
    fn n05_the_metadata_address_has_no_other_spelling(world) {
        allow_address(world, "169.254.169.254");
        for spelling in ["169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "[::ffff:a9fe:a9fe]"] {
            let refused = connect(world, format!("{spelling}:80").as_bytes());
            expect_status(&refused, &[403]);
            refused.expect_address_refused("169.254.169.254:80");
        }
    }

    /// Case and a trailing dot change nothing: neither what is allowed nor what is forbidden.
    fn n06_case_and_trailing_dot_change_nothing(world) {
        let open = greeter(world, "open.test");
        let shut = greeter(world, "shut.test");
        world.policy.allow("open.test");
        world.policy.allow("shut.test");
        world.policy.rule("@id(\"never\") forbid (principal, action in Action::\"network\", resource == Host::\"shut.test\");");
        for spelling in ["open.test", "OPEN.TEST", "Open.Test.", "open.test."] {
            let allowed = connect(world, format!("{spelling}:{}", open.port()).as_bytes());
            expect_tunnel(&allowed);
            allowed.expect_allowed(&format!("open.test:{}", open.port()));
        }
        for spelling in ["shut.test", "SHUT.TEST", "shut.test.", "Shut.Test."] {
            let refused = connect(world, format!("{spelling}:{}", shut.port()).as_bytes());
            expect_status(&refused, &[403]);
            refused.expect_denied(&format!("shut.test:{}", shut.port()), "rule");
        }
        assert_eq!((open.connections(), shut.connections()), (4, 0));
    }

    /// What only looks like the allowed name is another name, or none.
    fn n07_lookalikes_are_other_names(world) {
        let open = greeter(world, "open.test");
        let shut = greeter(world, "openx.test");
        for name in ["evilopen.test", "open.test.evil.test", "xn--pen-5cd.test"] {
            world.route(name, shut.address());
        }
        world.policy.allow("open.test");
        let port = shut.port();
        for other in ["openx.test", "evilopen.test", "open.test.evil.test", "xn--pen-5cd.test"] {
            let refused = connect(world, format!("{other}:{port}").as_bytes());
            expect_status(&refused, &[403]);
            refused.expect_denied(other, "default_deny");
        }
        for malformed in [
            "open\u{ff0e}test", "\u{43e}pen.test", "open%2etest", "user@open.test", "open.test\\@evil.test",
            "open.test/..", "open..test", ".open.test", "-open-.test%00",
        ] {
            let refused = connect(world, format!("{malformed}:{port}").as_bytes());
            expect_status(&refused, &[400]);
            refused.expect_only_refusals("malformed");
        }
        assert_eq!((open.connections(), shut.connections()), (0, 0));
        expect_tunnel(&connect(world, format!("open.test:{}", open.port()).as_bytes()));
    }

    /// The port is part of what policy decides, and is a plain number or nothing.
    fn n08_the_port_is_part_of_the_request(world) {
        let open = greeter(world, "open.test");
        let other = Echo::start("good day\n");
        world.policy.rule(&format!(
            "@id(\"one-port\") permit (principal, action == Action::\"connect\", resource == Host::\"open.test\") when {{ context.port == {} }};",
            open.port()
        ));
        let refused = connect(world, format!("open.test:{}", other.port()).as_bytes());
        expect_status(&refused, &[403]);
        refused.expect_denied(&format!("open.test:{}", other.port()), "default_deny");
        socks(world, b"open.test", 0).expect_only_refusals("malformed");
        let port = open.port();
        for bad in ["0", "65536", &format!("+{port}"), &format!("0{port}"), "", "http", &format!("{port}.open.test"), &format!("{port} "), "99999999999999999999"] {
            let refused = connect(world, format!("open.test:{bad}").as_bytes());
            expect_status(&refused, &[400]);
        }
        assert_eq!((open.connections(), other.connections()), (0, 0));
        expect_tunnel(&connect(world, format!("open.test:{port}").as_bytes()));
    }

    /// An allowed name that leads to a special-use address is refused until an admin names it.
    fn n09_an_allowed_name_may_not_lead_to_a_special_address(world) {
        world.policy.allow("open.test");
        let echo = Echo::start("good day\n");
        let addresses = [
            "127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
            "0.0.0.0", "224.0.0.1", "255.255.255.255", "198.18.0.7", "::1", "::", "fe80::1", "fd00::1", "ff02::1",
            "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::1", "2001:0:7f00:1::1",
        ];
        for (number, address) in addresses.iter().enumerate() {
            let name = format!("n{number}.test");
            world.resolve(&name, address.parse().unwrap());
            world.policy.allow(&name);
        }
        for (number, address) in addresses.iter().enumerate() {
            let refused = connect(world, format!("n{number}.test:{}", echo.port()).as_bytes());
            expect_status(&refused, &[403]);
            assert!(refused.reasons().contains(&"address_not_permitted".to_owned()), "{address}: {refused}");
        }
        assert_eq!(echo.connections(), 0);
        world.route("open.test", echo.address());
        world.stop();
        expect_tunnel(&connect(world, format!("open.test:{}", echo.port()).as_bytes()));
    }

    /// A name that cannot be looked up is refused, and says so.
    fn n09_a_failed_lookup_is_a_refusal(world) {
        let Some(canary) = DnsCanary::start() else { return };
        let resolv = world.write("resolv.conf", canary.resolv_conf());
        if !world.mount_over(&resolv, "/etc/resolv.conf") { return }
        world.policy.allow("nowhere.test");
        expect_status(&connect(world, b"nowhere.test:80"), &[502, 504]);
    }

    /// No name is looked up before it is allowed, and no query of the session leaves it.
    fn n11_names_do_not_leak_through_dns(world) {
        let Some(canary) = DnsCanary::start() else { return };
        let resolv = world.write("resolv.conf", canary.resolv_conf());
        if !world.mount_over(&resolv, "/etc/resolv.conf") { return }
        let secret = "c2VjcmV0.shut.test";
        expect_status(&connect(world, format!("{secret}:443").as_bytes()), &[403]);
        socks(world, secret.as_bytes(), 443);
        probe(world, &["tcp", secret, "443"]);
        for server in ["127.0.0.1", "8.8.8.8", &canary.address().to_string()] {
            let answer = probe(world, &["dns", secret, server]);
            assert!(answer.text().starts_with("code 0 198.1"), "a synthetic address: {answer}");
        }
        assert_eq!(canary.asked(), Vec::<String>::new());
        world.policy.allow("nowhere.test");
        connect(world, b"nowhere.test:80");
        assert!(canary.asked().iter().any(|name| name.starts_with("nowhere.test")), "the control");
    }

    /// The same destination gets the same answer through every door.
    fn n13_every_door_decides_alike(world) {
        let open = world.allowed_origin("open.test");
        let shut = world.origin("shut.test");
        let doors = |world: &World, name: &str, origin: &Origin| {
            let port = origin.port().to_string();
            let url = origin.url(name, "/");
            let mut outcomes = Vec::new();
            for extra in [&["-x", "http://127.0.0.1:3128"][..], &["-p", "-x", "http://127.0.0.1:3128"], &["-x", "socks5h://127.0.0.1:1080"], &["--noproxy", "*"]] {
                let mut command = vec!["curl", "-sS", "--fail"];
                command.extend(extra);
                command.push(&url);
                outcomes.push((format!("{extra:?}"), world.session(&command).run()));
            }
            (port, outcomes)
        };
        let (port, outcomes) = doors(world, "open.test", &open);
        for (door, outcome) in outcomes {
            assert_eq!(outcome.text(), "hello from open.test", "{door}: {outcome}");
            outcome.expect_allowed(&format!("open.test:{port}"));
        }
        let (port, outcomes) = doors(world, "shut.test", &shut);
        for (door, outcome) in outcomes {
            assert_ne!(outcome.code, 0, "{door}: {outcome}");
            outcome.expect_denied(&format!("shut.test:{port}"), "default_deny");
        }
        assert_eq!((open.connections(), shut.connections()), (4, 0));
    }

    /// Without the proxy's variables everything still goes through policy, or nowhere.
    fn n16_there_is_no_way_round_the_listeners(world) {
        let echo = Echo::start("good day\n");
        let port = echo.port().to_string();
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        datagrams.set_nonblocking(true).unwrap();
        let udp_port = datagrams.local_addr().unwrap().port().to_string();
        for address in ["203.0.113.7", "10.0.0.1", "2001:db8::7", "::ffff:203.0.113.7"] {
            let refused = probe(world, &["tcp", address, &port]);
            assert_ne!(refused.code, 0, "{address}: {refused}");
            refused.expect_only_refusals("default_deny");
        }
        for address in ["203.0.113.7", "127.0.0.1", "2001:db8::7", "255.255.255.255"] {
            let refused = probe(world, &["udp", address, &udp_port]);
            assert!(refused.text().starts_with("error"), "{address}: {refused}");
        }
        assert!(probe(world, &["ping", "203.0.113.7"]).text().starts_with("error"));
        let unset = "unset $(env | sed -n 's/^\\([A-Za-z_]*proxy[A-Za-z_]*\\)=.*/\\1/Ip'); env | grep -i proxy; exec /usr/bin/python3 probe.py tcp shut.test \"$1\"";
        world.route("shut.test", echo.address());
        world.route("open.test", echo.address());
        world.stop();
        let refused = world.session(&["sh", "-c", unset, "sh", &port]).run();
        refused.expect_denied("shut.test", "default_deny");
        assert_eq!(echo.connections(), 0);
        assert!(datagrams.recv(&mut [0; 16]).is_err(), "no datagram arrived");
        world.policy.allow("open.test");
        probe(world, &["tcp", "open.test", &port]).expect_stdout("connected good day");
    }

    /// Loopback inside is the session's own; `NO_PROXY` leads nowhere else.
    fn n17_loopback_is_the_sessions_own(world) {
        let host = Echo::start("good day\n");
        let port = host.port().to_string();
        for name in ["127.0.0.1", "localhost", "::1"] {
            let refused = probe(world, &["tcp", name, &port]);
            refused.expect_code(1).expect_stdout("error ECONNREFUSED");
        }
        let url = format!("http://127.0.0.1:{port}/");
        let refused = world
            .session(&["curl", "-sS", "--max-time", "10", &url])
            .env("NO_PROXY=*")
            .env("no_proxy=*")
            .run();
        refused.expect_code(7);
        assert_eq!(host.connections(), 0);
        let own = "/usr/bin/python3 -c \"
import socket, threading
listener = socket.create_server(('127.0.0.1', 0))
def serve():
    stream, _ = listener.accept(); stream.sendall(b'own'); stream.close()
threading.Thread(target=serve).start()
print(socket.create_connection(listener.getsockname()).recv(9).decode())\"";
        world.session(&["sh", "-c", own]).run().expect_code(0).expect_stdout("own");
    }

    /// Two sessions at once are told apart, and nobody else has a door to either.
    fn n18_a_session_is_told_by_its_own_listeners(world) {
        let origin = world.allowed_origin("open.test");
        let url = origin.url("open.test", "/");
        // One session waits, inside, for a file that the other's end brings.
        let script = "echo up > up; until [ -e go ]; do sleep 0.05; done; exec curl -sS --fail \"$1\"";
        let first = world.session(&["sh", "-c", script, "sh", &url]).start();
        let up = world.project().join("up");
        cordon_tests::process::eventually("the first session runs", || up.exists());
        world.policy.withdraw("open.test");
        let second = world.session(&["curl", "-sS", "--fail", &url]).run();
        second.expect_denied("open.test", "default_deny");
        assert_eq!(origin.connections(), 0);
        for socket in leaks::contents(&world.runtime()) {
            let mode = fs::symlink_metadata(&socket).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{}", socket.display());
        }
        let outside = Command::new("curl").args(["-sS", "-x", "http://127.0.0.1:3128", &url]).output().unwrap();
        assert!(!outside.status.success(), "no listener outside: {outside:?}");
        world.project_file("go", "");
        let first = first.finish();
        world.remember(&first);
        first.expect_code(0).expect_stdout("hello from open.test");
        assert_ne!(first.session(), second.session());
    }

    /// Neither the product's own listeners nor its sockets are reachable from inside.
    fn n26_the_products_own_doors_are_no_destination(world) {
        allow_address(world, "127.0.0.1");
        world.policy.allow("localhost");
        for target in ["127.0.0.1:3128", "127.0.0.1:1080", "127.0.0.1:53", "localhost:3128", "[::1]:3128"] {
            let refused = connect(world, target.as_bytes());
            expect_status(&refused, &[400, 403]);
        }
        let runtime = world.runtime().to_string_lossy().into_owned();
        let state = world.state().to_string_lossy().into_owned();
        let look = world.session(&["sh", "-c", "ls \"$1\" \"$2\" /run", "sh", &runtime, &state]).run();
        assert_ne!(look.code, 0, "{look}");
        assert_eq!(look.text(), "", "{look}");
        let origin = world.allowed_origin("open.test");
        world.stop();
        let control = format!("open.test:{}", origin.port());
        expect_status(&connect(world, control.as_bytes()), &[200]);
    }
}
