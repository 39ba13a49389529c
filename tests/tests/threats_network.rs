//! The rows of the threat list about ways round the proxy, by their ids, through the whole binary.
//! That a byte did not arrive is shown at listeners that count; every refusal has its control.

use std::{fs, net::UdpSocket, os::unix::fs::PermissionsExt, process::Command};

use cordon_tests::{
    Origin, World, for_both, leaks,
    origin::{dns::DnsCanary, raw::Echo},
    probe::{allow_address, connect, expect_status, expect_tunnel, run, socks},
};

for_both! {
    /// No name is looked up before it is allowed, and no query of the session leaves it.
    fn n11_names_do_not_leak_through_dns(world) {
        let Some(canary) = DnsCanary::start() else {
            return;
        };
        let resolv = world.write("resolv.conf", canary.resolv_conf());
        if !world.mount_over(&resolv, "/etc/resolv.conf") {
            return;
        }
        let secret = "c2VjcmV0.shut.test";
        expect_status(&connect(world, format!("{secret}:443").as_bytes()), &[403]);
        socks(world, secret.as_bytes(), 443);
        run(world, &["tcp", secret, "443"]);
        for server in ["127.0.0.1", "8.8.8.8"] {
            let answer = run(world, &["dns", secret, server]);
            assert!(
                answer.text().starts_with("code 0 198.1"),
                "a synthetic address: {answer}"
            );
        }
        // On loopback, like the canary, there is nothing but the session's own.
        run(world, &["dns", secret, &canary.address().to_string()]).expect_code(1);
        assert_eq!(canary.asked(), Vec::<String>::new());
        world.policy.allow("nowhere.test");
        connect(world, b"nowhere.test:80");
        assert!(
            canary
                .asked()
                .iter()
                .any(|name| name.starts_with("nowhere.test")),
            "the control"
        );
    }

    /// The same destination gets the same answer through every door.
    fn n13_every_door_decides_alike(world) {
        let open = world.allowed_origin("open.test");
        let shut = world.origin("shut.test");
        let doors = |world: &World, name: &str, origin: &Origin| {
            let port = origin.port().to_string();
            let url = origin.url(name, "/");
            let mut outcomes = Vec::new();
            for extra in [
                &["-x", "http://127.0.0.1:3128"][..],
                &["-p", "-x", "http://127.0.0.1:3128"],
                &["-x", "socks5h://127.0.0.1:1080"],
                &["--noproxy", "*"],
            ] {
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

    /// A method that is forbidden is so inside a tunnel and a captured connection too.
    fn n13_a_forbidden_method_is_refused_at_every_door(world) {
        let open = world.allowed_origin("open.test");
        world.policy.rule(
            "@id(\"no-writing\") @reason(\"nothing is sent from here\")\n\
             forbid (principal, action == Action::\"http_write\", resource);",
        );
        let url = open.url("open.test", "/");
        for door in [
            &["-x", "http://127.0.0.1:3128"][..],
            &["-p", "-x", "http://127.0.0.1:3128"],
            &["-x", "socks5h://127.0.0.1:1080"],
            &["--noproxy", "*"],
        ] {
            let ask = |further: &[&str]| {
                let mut command = vec!["curl", "-sS"];
                command.extend(door);
                command.extend(further);
                command.push(&url);
                world.session(&command).run()
            };
            ask(&["--fail"]).expect_code(0).expect_stdout("hello from open.test");
            let denied = ask(&["-d", "out with it"]);
            assert!(denied.text().contains("no-writing: nothing is sent"), "{door:?}: {denied}");
        }
        assert_eq!(open.requests().len(), 4, "no POST arrived");
    }

    /// Without the proxy's variables everything still goes through policy, or nowhere.
    fn n16_there_is_no_way_round_the_listeners(world) {
        let echo = Echo::start("good day\n");
        let port = echo.port().to_string();
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        datagrams.set_nonblocking(true).unwrap();
        let udp_port = datagrams.local_addr().unwrap().port().to_string();
        for address in [
            "203.0.113.7",
            "10.0.0.1",
            "2001:db8::7",
            "::ffff:203.0.113.7",
        ] {
            let refused = run(world, &["tcp", address, &port]);
            assert_ne!(refused.code, 0, "{address}: {refused}");
            refused.expect_only_refusals("default_deny");
        }
        for address in ["203.0.113.7", "127.0.0.1", "2001:db8::7", "255.255.255.255"] {
            let refused = run(world, &["udp", address, &udp_port]);
            assert!(refused.text().starts_with("error"), "{address}: {refused}");
        }
        assert!(
            run(world, &["ping", "203.0.113.7"])
                .text()
                .starts_with("error")
        );
        let unset = "unset $(env | sed -n 's/^\\([A-Za-z_]*proxy[A-Za-z_]*\\)=.*/\\1/Ip')
            env | grep -i proxy
            exec /usr/bin/python3 probe.py tcp shut.test \"$1\"";
        world.route("shut.test", echo.address());
        world.route("open.test", echo.address());
        world.stop();
        let refused = world.session(&["sh", "-c", unset, "sh", &port]).run();
        refused.expect_denied("shut.test", "default_deny");
        assert_eq!(echo.connections(), 0);
        assert!(datagrams.recv(&mut [0; 16]).is_err(), "no datagram arrived");
        world.policy.allow("open.test");
        run(world, &["tcp", "open.test", &port]).expect_stdout("connected good day");
    }

    /// Loopback inside is the session's own; `NO_PROXY` leads nowhere else.
    fn n17_loopback_is_the_sessions_own(world) {
        let host = Echo::start("good day\n");
        let port = host.port().to_string();
        for name in ["127.0.0.1", "localhost", "::1"] {
            let refused = run(world, &["tcp", name, &port]);
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
        world
            .session(&["sh", "-c", own])
            .run()
            .expect_code(0)
            .expect_stdout("own");
    }

    /// Two sessions at once are told apart, and nobody else has a door to either.
    fn n18_a_session_is_told_by_its_own_listeners(world) {
        let origin = world.allowed_origin("open.test");
        let url = origin.url("open.test", "/");
        // One session waits, inside, for a file that the other's end brings.
        let script =
            "echo up > up; until [ -e go ]; do sleep 0.05; done; exec curl -sS --fail \"$1\"";
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
        let outside = Command::new("curl")
            .args(["-sS", "-x", "http://127.0.0.1:3128", &url])
            .output()
            .unwrap();
        assert!(
            !outside.status.success(),
            "no listener outside: {outside:?}"
        );
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
        for target in [
            "127.0.0.1:3128",
            "127.0.0.1:1080",
            "127.0.0.1:53",
            "localhost:3128",
            "[::1]:3128",
        ] {
            let refused = connect(world, target.as_bytes());
            expect_status(&refused, &[400, 403]);
        }
        let runtime = world.runtime().to_string_lossy().into_owned();
        let state = world.state().to_string_lossy().into_owned();
        let look = world
            .session(&["sh", "-c", "ls \"$1\" \"$2\" /run", "sh", &runtime, &state])
            .run();
        assert_ne!(look.code, 0, "{look}");
        assert_eq!(look.text(), "", "{look}");
        let echo = Echo::start("good day\n");
        world.route("open.test", echo.address());
        world.policy.allow("open.test");
        world.stop();
        expect_tunnel(&connect(
            world,
            format!("open.test:{}", echo.port()).as_bytes(),
        ));
    }
}
