//! The client matrix: ordinary clients, with no configuration of their own, reach what policy
//! allows and get their own clear error for the rest.

#![expect(clippy::expect_used, clippy::panic, reason = "tests")]

mod browser;
mod git;
mod inspected;
mod languages;
mod packages;
mod services;
mod web;

use std::{
    fs,
    path::{Path, PathBuf},
};

use cordon_tests::{
    Origin, Outcome, World,
    origin::http::{Reply, Request},
};

/// An HTTPS origin led to by `name`, under the world's authority; policy is not told.
fn tls_origin(world: &mut World, name: &str) -> Origin {
    let authority = world.authority();
    let text = format!("hello from {name}\n");
    let answer = move |_request: &Request| Reply::ok(text.clone());
    let origin = Origin::https(&authority, name, answer);
    world.route(name, origin.address());
    origin
}

/// Runs the command that `client` makes of a URL against an allowed and a denied HTTP origin, and
/// returns what the denied run left: it got nothing through.
#[track_caller]
fn over_http(world: &mut World, client: impl Fn(&str) -> Vec<String>) -> Outcome {
    let open = world.allowed_origin("open.test");
    let shut = world.origin("shut.test");
    both_ways(world, client, &open, &shut, "http")
}

/// As [`over_http`], with TLS.
#[track_caller]
fn over_https(world: &mut World, client: impl Fn(&str) -> Vec<String>) -> Outcome {
    world.policy.allow("open.test");
    let open = tls_origin(world, "open.test");
    let shut = tls_origin(world, "shut.test");
    both_ways(world, client, &open, &shut, "https")
}

#[track_caller]
fn both_ways(
    world: &World,
    client: impl Fn(&str) -> Vec<String>,
    open: &Origin,
    shut: &Origin,
    scheme: &str,
) -> Outcome {
    let url = |name: &str, origin: &Origin| format!("{scheme}://{name}:{}/", origin.port());
    let allowed = run(world, &client(&url("open.test", open)));
    allowed
        .expect_code(0)
        .expect_stdout("hello from open.test")
        .expect_allowed("open.test");
    assert_eq!(open.requests().len(), 1, "{allowed}");
    let denied = run(world, &client(&url("shut.test", shut)));
    denied.expect_denied("shut.test", "default_deny");
    assert_eq!(shut.connections(), 0, "{denied}");
    denied
}

/// `open.test` is looked into: below `/public/` may be read, nothing else.
const INSPECT: &str = r#"
@id("look-inside") @inspect("tls")
permit (principal, action == Action::"connect", resource == Host::"open.test");
@id("read-public")
permit (principal, action == Action::"http_read", resource == Host::"open.test")
when { context.path like "/public/*" };
"#;

/// An HTTPS origin that is `open.test`, under [`INSPECT`].
fn inspected_origin(world: &mut World) -> Origin {
    world.policy.rule(INSPECT);
    tls_origin(world, "open.test")
}

/// Runs the command that `client` makes of a URL against an allowed and a denied path of one host,
/// inside TLS that is looked into, and returns what the denied run left.
#[track_caller]
fn inside_tls(world: &mut World, client: impl Fn(&str) -> Vec<String>) -> Outcome {
    let origin = inspected_origin(world);
    let denied = both_paths(world, origin.port(), client, "hello from open.test");
    let requests = origin.requests();
    assert_eq!(requests.len(), 1, "{denied}");
    let via = requests.first().and_then(|request| request.header("via"));
    assert!(via.is_some_and(|via| via.ends_with("cordon")), "{via:?}");
    denied
}

/// As [`inside_tls`], with a server of your own under [`INSPECT`].
#[track_caller]
fn both_paths(
    world: &World,
    port: u16,
    client: impl Fn(&str) -> Vec<String>,
    expected: &str,
) -> Outcome {
    let at = |path: &str| {
        run(
            world,
            &client(&format!("https://open.test:{port}/{path}/a")),
        )
    };
    let allowed = at("public");
    allowed.expect_code(0);
    assert!(allowed.text().contains(expected), "{allowed}");
    let denied = at("private");
    assert!(!denied.text().contains(expected), "{denied}");
    assert_eq!(denied.reason("GET https://open.test"), "default_deny");
    denied
}

/// Files with a key and a certificate for `open.test`, for a server that is a program.
fn tls_files(world: &mut World) -> [PathBuf; 2] {
    let (key, certificate) = world.authority().server_pem("open.test");
    [
        world.write("server.key", key),
        world.write("server.pem", certificate),
    ]
}

/// Runs one command in a session that has the clients in `mnt/clients` and the project folder in
/// `mnt/project`; without clients, in the project folder.
#[track_caller]
fn run(world: &World, words: &[String]) -> Outcome {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let session = world.session(&words);
    match std::env::var("CORDON_TEST_CLIENTS") {
        Ok(folder) => session
            .grant(format!("{folder}:ro=clients"))
            .grant(format!("{}:ro=project", world.project().display()))
            .run(),
        Err(_unset) => session.run(),
    }
}

/// Whether clients that come from other registries are here (`tests/all.sh` installs them).
fn clients() -> bool {
    let there = std::env::var_os("CORDON_TEST_CLIENTS").is_some();
    if !there {
        eprintln!("not run: set CORDON_TEST_CLIENTS, or run tests/all.sh, which installs them");
    }
    there
}

/// Puts one of `fixtures/clients` into the project folder, where sessions find it.
fn fixture(world: &World, name: &str) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/clients")
        .join(name);
    let text = fs::read(&source).unwrap_or_else(|e| panic!("{}: {e}", source.display()));
    world.project_file(name, text);
}

fn words(command: &str, url: &str) -> Vec<String> {
    let mut words: Vec<String> = command.split(' ').map(str::to_owned).collect();
    words.push(url.to_owned());
    words
}

fn script(interpreter: &str, script: &str, url: &str) -> Vec<String> {
    let flag = if interpreter == "node" { "-e" } else { "-c" };
    [interpreter, flag, script, url].map(str::to_owned).to_vec()
}
