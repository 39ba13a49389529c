//! Requests inside TLS, decided one by one, by ordinary clients that nobody has configured: what
//! policy allows works, what it denies says why.

use std::{path::Path, process::Command};

use cordon_tests::{
    Origin, World, for_both,
    origin::{
        git,
        http::{Reply, Request},
        program::Program,
    },
};

use crate::{
    INSPECT, both_paths, clients, fixture, inside_tls, inspected_origin,
    languages::{AIOHTTP, AXIOS, Client, GO, HTTPX, JAVA},
    packages::{APT, CARGO, GO_MODULES, NPM, PIP, Package},
    run, script,
    services::serving,
    tls_files,
    web::{NODE_FETCH, PYTHON_REQUESTS, PYTHON_URLLIB},
    words,
};

/// A client from `fixtures/clients`; what the denied run said has the reason.
#[track_caller]
fn library(world: &mut World, client: &Client) {
    if !clients() {
        return;
    }
    fixture(world, client.file);
    let denied = inside_tls(world, |url| client.fetch(url));
    assert_ne!(denied.code, 0, "{denied}");
    denied.expect_stderr("default_deny");
}

/// A package client against a registry below the allowed and the denied path.
#[track_caller]
fn package(world: &mut World, package: &Package) {
    world.policy.rule(INSPECT);
    let authority = world.authority();
    let origin = Origin::https(
        &authority,
        "open.test",
        package.registry("https", "/public"),
    );
    world.route("open.test", origin.address());
    let client = |url: &str| package.install(url.trim_end_matches("/a"), "");
    let denied = both_paths(world, origin.port(), client, "hello from a package");
    assert_ne!(denied.code, 0, "{denied}");
    denied.expect_told("default_deny");
    let private = |request: &Request| request.target.starts_with("/private");
    assert!(!origin.requests().iter().any(private), "{denied}");
    // The index may be read and the file may not: the client says which rule that was.
    world.policy.rule(&format!(
        "@id(\"no-packages\") forbid (principal, action == Action::\"http_read\", resource) \
         when {{ context.path like \"{}\" }};",
        package.file
    ));
    let before = origin.requests().len();
    let denied = run(
        world,
        &client(&format!("https://open.test:{}/public/a", origin.port())),
    );
    assert_ne!(denied.code, 0, "{denied}");
    denied.expect_told("no-packages");
    assert_eq!(denied.reason("GET https://open.test"), "rule", "{denied}");
    let is_file = |request: &Request| {
        request
            .target
            .ends_with(package.file.trim_start_matches('*'))
    };
    let requests = origin.requests();
    let (earlier, now) = requests.split_at(before);
    assert!(earlier.iter().any(is_file), "{denied}");
    assert!(!now.is_empty() && !now.iter().any(is_file), "{denied}");
}

/// An origin that speaks HTTP/2 alone, under [`INSPECT`].
fn http2_origin(world: &mut World) -> Program {
    world.policy.rule(INSPECT);
    let [key, certificate] = tls_files(world);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/clients/http2_origin.js");
    let mut command = Command::new("node");
    command.arg(script).arg(key).arg(certificate);
    let server = Program::printing_its_port(command);
    world.route("open.test", server.address());
    server
}

for_both! {
    fn curl(world) {
        let denied = inside_tls(world, |url| words("curl -sS", url));
        denied.expect_code(0);
        assert!(denied.text().contains("reason: default_deny"), "{denied}");
    }

    /// It offers HTTP/2 and takes what the origin has.
    fn curl_offers_http2(world) {
        inside_tls(world, |url| words("curl -sS --http2", url));
    }

    fn curl_over_http2(world) {
        let server = http2_origin(world);
        let curl = |url: &str| {
            let mut words = words("curl -sS --http2 -w", "(over %{http_version})");
            words.push(url.to_owned());
            words
        };
        let denied = both_paths(world, server.port(), curl, "hello over HTTP/2.0\n(over 2)");
        assert!(denied.text().contains("reason: default_deny"), "{denied}");
        assert!(denied.text().contains("(over 2)"), "{denied}");
    }

    fn curl_through_the_capture(world) {
        inside_tls(world, |url| words("curl -sS --noproxy *", url));
    }

    fn curl_over_socks(world) {
        inside_tls(world, |url| words("curl -sS -x socks5h://127.0.0.1:1080", url));
    }

    fn wget(world) {
        let denied = inside_tls(world, |url| words("wget -nv -O -", url));
        denied.expect_code(8).expect_stderr("default_deny");
    }

    fn python_urllib(world) {
        let denied = inside_tls(world, |url| script("/usr/bin/python3", PYTHON_URLLIB, url));
        denied.expect_code(1).expect_stderr("HTTP Error 403: Denied by cordon: default_deny");
    }

    fn python_requests(world) {
        let denied = inside_tls(world, |url| script("/usr/bin/python3", PYTHON_REQUESTS, url));
        denied.expect_code(1).expect_stderr("default_deny");
    }

    fn node_fetch(world) {
        let denied = inside_tls(world, |url| script("node", NODE_FETCH, url));
        denied.expect_code(1).expect_stderr("403");
        denied.expect_stderr("default_deny");
    }

    fn go(world) {
        library(world, &GO);
    }

    fn java(world) {
        library(world, &JAVA);
    }

    fn python_aiohttp(world) {
        library(world, &AIOHTTP);
    }

    fn python_httpx(world) {
        library(world, &HTTPX);
    }

    fn python_httpx_over_http2(world) {
        if !clients() {
            return;
        }
        fixture(world, HTTPX.file);
        let server = http2_origin(world);
        let denied = both_paths(world, server.port(), |url| HTTPX.fetch(url), "hello over HTTP/2.0");
        denied.expect_code(1).expect_stderr("HTTP/2 403").expect_stderr("default_deny");
    }

    fn node_axios(world) {
        library(world, &AXIOS);
    }

    /// pip tells why an index did not answer only when it is asked to tell more.
    fn pip(world) {
        if clients() {
            package(world, &PIP);
        }
    }

    fn npm(world) {
        package(world, &NPM);
    }

    fn cargo(world) {
        if clients() {
            package(world, &CARGO);
        }
    }

    fn apt(world) {
        package(world, &APT);
    }

    fn go_modules(world) {
        package(world, &GO_MODULES);
    }

    /// A call, a stream each way and their trailers, over HTTP/2; what is refused is told as gRPC
    /// tells it.
    fn grpc(world) {
        if !clients() {
            return;
        }
        fixture(world, "grpc_service.py");
        world.policy.rule(GRPC);
        let [key, certificate] = tls_files(world);
        let server = serving("grpc_service.py", &[&key, &certificate]);
        world.route("open.test", server.address());
        let target = format!("open.test:{}", server.port());
        let call = |verb: &str| {
            let python = "mnt/clients/python/bin/python mnt/project/grpc_service.py";
            run(world, &words(&format!("{python} {verb}"), &target))
        };
        let allowed = call("call-tls");
        allowed.expect_code(0).expect_stdout("hello from gRPC\nhello one\nhello two");
        assert_eq!(allowed.allowed("POST https://open.test"), 2, "{allowed}");
        let denied = call("secret-tls");
        denied.expect_code(1);
        denied.expect_stderr("PERMISSION_DENIED").expect_stderr("default_deny");
        assert_eq!(denied.reason("POST https://open.test"), "default_deny");
    }

    fn websocket(world) {
        if !clients() {
            return;
        }
        fixture(world, "websocket.py");
        world.policy.rule(INSPECT);
        // To read is not to open a way in both directions.
        world.policy.rule("@id(\"open-public\") permit (principal, action == Action::\"http_upgrade\", \
            resource == Host::\"open.test\") when { context.path like \"/public/*\" };");
        let [key, certificate] = tls_files(world);
        let server = serving("websocket.py", &[&key, &certificate]);
        world.route("open.test", server.address());
        let client = |url: &str| {
            let url = url.replacen("https", "wss", 1);
            words("mnt/clients/python/bin/python mnt/project/websocket.py call", &url)
        };
        let denied = both_paths(world, server.port(), client, "hello from a WebSocket");
        denied.expect_code(1).expect_stderr("default_deny");
    }

    /// Without any client trusting anything else: its own session's authority is in no other.
    fn nothing_is_trusted_where_nothing_is_inspected(world) {
        let shown = ["sh", "-c", "ls /etc/cordon 2>/dev/null; echo \"${SSL_CERT_FILE-none}\""];
        world.session(&shown).run().expect_code(0).expect_stdout("none");
        let _origin = inspected_origin(world);
        let outcome = world.session(&shown).run();
        outcome.expect_code(0);
        assert!(outcome.text().contains("/etc/cordon/ca-certificates.pem"), "{outcome}");
    }

    /// What git is answered is one permission and what it then sends another, on one connection.
    fn git_over_https(world) {
        let repository = git::bare_repository(world);
        let projects = repository.parent().map(std::path::Path::to_owned);
        let authority = world.authority();
        let origin = Origin::https(&authority, "open.test", move |request: &Request| {
            projects
                .as_deref()
                .map_or_else(|| Reply::status("500 No", ""), |p| git::answer(p, request))
        });
        world.route("open.test", origin.address());
        world.policy.rule(GIT);
        let url = format!("https://open.test:{}/project.git", origin.port());
        let command = "git clone -q \"$1\" /tmp/clone && cat /tmp/clone/README";
        let clone = |world: &World| world.session(&["sh", "-c", command, "sh", &url]).run();
        clone(world).expect_code(0).expect_stdout("hello");
        world.policy.rule(NO_FETCH);
        let denied = clone(world);
        denied.expect_code(128).expect_stderr("403");
        assert_eq!(denied.reason("POST https://open.test"), "rule", "{denied}");
        assert_eq!(denied.allowed("GET https://open.test"), 1, "{denied}");
    }

    /// N12: a name for the tunnel and another inside it.
    fn n12_a_fronted_request_reaches_nobody(world) {
        let origin = inspected_origin(world);
        let url = format!("https://open.test:{}/public/a", origin.port());
        let fronted = world.session(&["curl", "-sS", "-H", "Host: hidden.test", &url]).run();
        fronted.expect_code(0);
        assert!(fronted.text().contains("names another host"), "{fronted}");
        assert!(origin.requests().is_empty(), "{fronted}");
        world.session(&["curl", "-sS", &url]).run().expect_stdout("hello from open.test");
    }

    /// N12, without a look inside: the name of the handshake is the name of the tunnel, by OpenSSL
    /// and by curl, through the proxy and past it.
    fn n12_a_handshake_that_names_another_host_reaches_nobody(world) {
        world.policy.allow("front.test");
        let authority = world.authority();
        let origin = Origin::https(&authority, "hidden.test", |_request: &Request| Reply::ok("secret"));
        world.route("front.test", origin.address());
        let port = origin.port().to_string();
        let target = format!("front.test:{port}");
        let openssl = |name: &str| {
            let command = "echo | openssl s_client -proxy 127.0.0.1:3128 -connect \"$1\" \
                           -servername \"$2\" 2>&1";
            world.session(&["sh", "-c", command, "sh", &target, name]).run()
        };
        let fronted = openssl("hidden.test");
        assert!(fronted.text().contains("alert access denied"), "{fronted}");
        assert_eq!(fronted.reason("front.test"), "tls_mismatch", "{fronted}");
        let honest = openssl("front.test");
        assert!(honest.text().contains("CN=") || honest.text().contains("Server certificate"), "{honest}");

        let connect_to = format!("hidden.test:{port}:front.test:{port}");
        let url = format!("https://hidden.test:{port}/");
        let fronted = world.session(&["curl", "-sS", "--noproxy", "*", "--connect-to", &connect_to, &url]).run();
        assert_ne!(fronted.code, 0, "{fronted}");
        assert_eq!(fronted.reason("front.test"), "tls_mismatch", "{fronted}");
        assert!(origin.requests().is_empty(), "{fronted}");
    }
}

/// All of HTTP, looked into.
const GIT: &str = r#"
@id("look-inside") @inspect("tls")
permit (principal, action == Action::"connect", resource == Host::"open.test");
@id("all-of-http")
permit (principal, action in Action::"http", resource == Host::"open.test");
"#;

/// Beside [`GIT`].
const NO_FETCH: &str = r#"
@id("no-fetch") @reason("nothing is fetched from here")
forbid (principal, action == Action::"http_write", resource == Host::"open.test")
when { context.path like "*/git-upload-pack" };
"#;

/// The service's calls may be made, but for one.
const GRPC: &str = r#"
@id("look-inside") @inspect("tls")
permit (principal, action == Action::"connect", resource == Host::"open.test");
@id("greetings")
permit (principal, action == Action::"http_write", resource == Host::"open.test")
when { context.path like "/cordon.test.Greeter/*" && context.path != "/cordon.test.Greeter/Secret" };
"#;
