//! The rows of the threat list about protocols, by their ids, through the whole binary. That a byte
//! did not arrive is shown at listeners that count; every refusal has its control.

use std::os::unix::fs::PermissionsExt as _;

use cordon_tests::{
    Origin, World, for_both,
    origin::http::Reply,
    outcome::Outcome,
    probe::{connect, expect_status, expect_tunnel, greeter, run, socks},
};

fn send(world: &World, port: u16, bytes: impl Into<Vec<u8>>) -> Outcome {
    cordon_tests::fixtures::probe(world);
    let port = port.to_string();
    let command = ["/usr/bin/python3", "probe.py", "bytes", "127.0.0.1", &port];
    world.session(&command).stdin(bytes).run()
}

const HTTP: u16 = 3128;
const SOCKS: u16 = 1080;

fn get(origin: &Origin, fields: &str) -> String {
    let url = origin.url("open.test", "/");
    let host = format!("open.test:{}", origin.port());
    format!("GET {url} HTTP/1.1\r\nhost: {host}\r\n{fields}\r\n")
}

for_both! {
    /// Line breaks and blanks in a host or a field go no further.
    fn n03_line_breaks_go_no_further(world) {
        let open = greeter(world, "open.test");
        world.policy.allow("open.test");
        for name in [&b"open.test\r\nx: y"[..], b"open.test ", b"\topen.test", b"open.test\n"] {
            let refused = socks(world, name, open.port());
            assert_ne!(refused.text(), "reply 0", "{name:?}: {refused}");
            refused.expect_only_refusals("malformed");
        }
        let split = format!(
            "CONNECT open.test:{} HTTP/1.1\r\nhost: open.test\r\nx: a\rb\r\n\r\n",
            open.port()
        );
        expect_status(&send(world, HTTP, split), &[400]);
        assert_eq!(open.connections(), 0);
        let target = format!("open.test:{}", open.port());
        expect_tunnel(&connect(world, target.as_bytes()));
    }

    /// Zones are refused, and a pattern for names matches no address.
    fn n04_zones_are_refused_and_literals_are_no_names(world) {
        let open = greeter(world, "open.test");
        world.policy.allow("open.test");
        for host in ["[fe80::1%25eth0]", "[::1%25open.test]", "[::ffff:127.0.0.1%25x.open.test]"] {
            let refused = connect(world, format!("{host}:{}", open.port()).as_bytes());
            expect_status(&refused, &[400]);
            refused.expect_only_refusals("malformed");
        }
        assert_eq!(open.connections(), 0);
        let target = format!("open.test:{}", open.port());
        expect_tunnel(&connect(world, target.as_bytes()));
    }

    /// Who the client says it is does not matter.
    fn n14_the_client_does_not_matter(world) {
        let open = world.allowed_origin("open.test");
        let shut = world.origin("shut.test");
        for agent in ["curl/8.0", "cordon", ""] {
            let ask = |url: &str| {
                world.session(&["curl", "-sS", "--fail", "-A", agent, url]).run()
            };
            ask(&shut.url("shut.test", "/")).expect_denied("shut.test", "default_deny");
            ask(&open.url("open.test", "/")).expect_stdout("hello from open.test");
        }
        assert_eq!((open.connections(), shut.connections()), (3, 0));
    }

    /// A secret is put in by the proxy and is nowhere in the session; what the agent brings of its
    /// own does not leave, and a placeholder in another place is refused.
    fn n21_secrets_stay_outside(world) {
        const SECRET: &str = "s3cret-of-the-forge";
        let forge = world.origin("open.test");
        let secret = world.write("forge-token", SECRET);
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("ours");
        world.config = format!(
            "[[credentials]]\nname = \"forge\"\nhosts = [\"open.test\"]\nas = \"bearer\"\n\
             from = \"file:{}\"\nenv_in_session = \"FORGE_TOKEN\"\nplain = true\n",
            secret.display()
        );
        world.policy.rule(
            "@id(\"forge\") @credential(\"forge\") @strip(\"client\")\n\
             permit (principal, action == Action::\"http_read\", resource == Host::\"open.test\");",
        );
        let fetch = |fields: &str| {
            let url = forge.url("open.test", "/");
            let script = format!("env; curl -sS {fields} {url}");
            world.session(&["sh", "-c", &script]).run()
        };
        let sent = fetch("-H \"Authorization: Bearer $FORGE_TOKEN\" -H 'Cookie: mine'");
        sent.expect_code(0).expect_allowed("open.test");
        assert!(sent.text().contains("FORGE_TOKEN=cordon-placeholder-"), "{sent}");
        assert!(!sent.text().contains(SECRET), "{sent}");
        // The agent's own credentials, of another account, say.
        fetch("-H 'Authorization: Bearer stolen'").expect_code(0);
        let requests = forge.requests();
        assert_eq!(requests.len(), 2);
        for request in &requests {
            assert_eq!(
                request.header("authorization"),
                Some(format!("Bearer {SECRET}").as_str()),
                "{request:?}"
            );
            assert_eq!(request.header("cookie"), None, "{request:?}");
        }
        let elsewhere = fetch("-H \"X-Note: $FORGE_TOKEN\"");
        // Policy's allow was taken back, so it is counted as both.
        assert_eq!(elsewhere.denied("open.test"), 1, "{elsewhere}");
        assert_eq!(elsewhere.reasons(), ["credential"], "{elsewhere}");
        assert_eq!(forge.requests().len(), 2, "{elsewhere}");
        for session in [&sent, &elsewhere] {
            let records = format!("{:?}", world.records(&session.session()));
            assert!(!records.contains(SECRET), "{records}");
        }
    }

    /// What two readers may read in two ways is refused, and so is what would hide behind it.
    fn n22_ambiguous_requests_reach_nobody(world) {
        let open = world.allowed_origin("open.test");
        for fields in [
            "content-length: 3\r\ntransfer-encoding: chunked\r\n",
            "content-length: 3\r\ncontent-length: 3\r\n",
            "x: y\r\n folded\r\n",
            "host: open.test\r\n",
            "x : y\r\n",
            "transfer-encoding: gzip, chunked\r\n",
            "connection: upgrade\r\nupgrade: web\u{e9}\r\n",
        ] {
            let refused = send(world, HTTP, get(&open, fields));
            expect_status(&refused, &[400, 501]);
        }
        let trace = get(&open, "").replacen("GET", "TRACE", 1);
        expect_status(&send(world, HTTP, trace), &[405]);
        assert_eq!(open.connections(), 0);
        expect_status(&send(world, HTTP, get(&open, "")), &[200]);
    }

    /// A redirect is the client's to follow, and then decided like any request.
    fn n23_a_redirect_is_decided_anew(world) {
        let shut = world.origin("shut.test");
        let to = shut.url("shut.test", "/");
        let open = Origin::http(move |_request| {
            let mut reply = Reply::status("302 Found", "");
            reply.headers.push(format!("location: {to}"));
            reply
        });
        world.route("open.test", open.address());
        world.policy.allow("open.test");
        let url = open.url("open.test", "/");
        let followed = world.session(&["curl", "-sS", "-L", "--fail", &url]).run();
        followed.expect_denied("shut.test", "default_deny");
        assert_eq!((open.connections(), shut.connections()), (1, 0));
        world.policy.allow("shut.test");
        let followed = world.session(&["curl", "-sS", "-L", "--fail", &url]).run();
        followed.expect_stdout("hello from shut.test");
    }

    /// What was read widens nothing: neither a page that names another place, nor a redirect there,
    /// nor asking again. A recorded decision of whoever owns policy does.
    fn p05_what_a_page_names_is_no_wider_for_having_been_read(world) {
        let linked = world.origin("linked.test");
        let url = linked.url("linked.test", "/");
        let page = {
            let url = url.clone();
            Origin::http(move |_request| Reply::status("200 OK", format!("<a href={url:?}>here</a>")))
        };
        world.route("page.test", page.address());
        world.policy.allow("page.test");
        let named = page.url("page.test", "/");
        let script = format!(
            "curl -sS --fail {url}; curl -sS --fail {named} | grep -o 'http://linked[^\"]*' | \
             xargs curl -sS --fail; curl -sS --fail {url}"
        );
        let read = world.session(&["sh", "-c", &script]).run();
        read.expect_allowed("page.test").expect_denied("linked.test", "default_deny");
        assert_eq!((page.connections(), linked.connections()), (1, 0));
        assert_eq!(read.denied("linked.test"), 3, "{read}");
        world.policy.allow("linked.test");
        let read = world.session(&["sh", "-c", &script]).run();
        assert_eq!(linked.connections(), 3, "{read}");
    }

    /// A head beyond its bounds is refused, not kept.
    fn n24_a_head_beyond_its_bounds_is_refused(world) {
        let open = world.allowed_origin("open.test");
        let many: String = (0..200).map(|n| format!("x{n}: y\r\n")).collect();
        for fields in [many, format!("x: {}\r\n", "y".repeat(80_000))] {
            expect_status(&send(world, HTTP, get(&open, &fields)), &[431]);
        }
        assert_eq!(open.connections(), 0);
        expect_status(&send(world, HTTP, get(&open, "x: y\r\n")), &[200]);
    }

    /// BIND, UDP ASSOCIATE and SOCKS4 are answered with their code.
    fn n25_other_commands_are_refused_with_their_code(world) {
        let open = greeter(world, "open.test");
        world.policy.allow("open.test");
        run(world, &["socks-version", "5:2"]).expect_stdout("reply 7");
        run(world, &["socks-version", "5:3"]).expect_stdout("reply 7");
        run(world, &["socks-version", "4"]).expect_stdout("answer 005b000000000000");
        socks(world, b"open.test", open.port()).expect_stdout("reply 0");
    }

    /// The sockets of the host's daemons are not there.
    fn n27_sockets_of_daemons_are_not_there(world) {
        let path = world.home().join("daemon.sock");
        let _daemon = std::os::unix::net::UnixListener::bind(&path).unwrap();
        world.give(&path);
        let look = "find / -path /proc -prune -o -type s -print 2>/dev/null
            ls -d /run/docker.sock /run/dbus /run/user 2>/dev/null
            echo \"agent: $SSH_AUTH_SOCK.\"";
        world.session(&["sh", "-c", look]).run().expect_stdout("agent: .");
        // A session may make no socket that has a name; the same search finds a pipe.
        let pipe = format!("mkfifo own.pipe\n{}", look.replace("-type s", "-type p"));
        let seen = world.session(&["sh", "-c", &pipe]).run();
        assert!(seen.text().contains("/project/own.pipe"), "the control: {seen}");
    }

    /// Another protocol on a listener is told so, and nothing goes on.
    fn n28_the_wrong_protocol_is_told_so(world) {
        let open = world.allowed_origin("open.test");
        for (port, bytes, answer) in [
            (SOCKS, &b"GET / HTTP/1.1\r\n\r\n"[..], "HTTP/1.1 400"),
            (HTTP, b"\x05\x01\x00", "HTTP/1.1 400"),
            (HTTP, b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", "HTTP/1.1 400"),
            (HTTP, b"GET /\r\n\r\n", "HTTP/1.1 505"),
        ] {
            let refused = send(world, port, bytes);
            assert!(refused.text().starts_with(answer), "{}: {refused}", bytes.escape_ascii());
            refused.expect_only_refusals("malformed");
        }
        assert_eq!(open.connections(), 0);
        expect_status(&send(world, HTTP, get(&open, "")), &[200]);
    }
}
