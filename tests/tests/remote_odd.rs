//! Connectors' own endpoints that do what they should not, and those with sessions of their own.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

use std::{
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use cordon_tests::{
    Origin, World,
    api::only_session,
    for_both,
    origin::http::{Reply, Request},
    process,
};
use serde_json::{Value, json};

for_both! {
    /// Where policy does not let the session reach it, or the server sends elsewhere, says too much or
    /// nothing of use, the client has an error that says so, and nothing else is reached.
    fn p10_an_endpoint_that_misbehaves_leads_nowhere(world) {
        let decoy = Origin::http(|_request| Reply::ok("decoy"));
        let elsewhere = decoy.url("127.0.0.1", "/");
        let authority = world.authority();
        let odd = Origin::https(&authority, "odd.test", move |request| answer(request, &elsewhere));
        world.route("odd.test", odd.address());
        world.policy.rule(RULES);
        world.config.push_str("[mcp]\nresult_bytes = 4096\n");
        let secret = world.write("home/secret", SECRET);
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
        for (path, echo) in [("echo", "mask"), ("told", "mask"), ("refused", "refuse")] {
            let text = format!(
                "[[credentials]]\nname = \"{path}\"\nhosts = [\"odd.test\"]\npath = \"/{path}\"\n\
                 as = \"bearer\"\nfrom = \"file:{}\"\necho = \"{echo}\"\n\
                 [connectors.{path}]\nkind = \"mcp\"\nendpoint = \"https://odd.test:{}/{path}\"\n\
                 credential = \"{path}\"\n[connectors.{path}.scopes]\n\"read\" = \"Read\"\n",
                secret.display(), odd.port());
            world.config.push_str(&text);
        }
        for path in ["redirect", "html", "large", "huge", "other-id", "cut", "resumed", "fine"] {
            let text = format!(
                "[connectors.{path}]\nkind = \"mcp\"\nendpoint = \"https://odd.test:{}/{path}\"\n\
                 [connectors.{path}.scopes]\n\"read\" = \"Read\"\n", odd.port());
            world.config.push_str(&text);
        }
        let running = world.session(&["sleep", "600"]).start();
        let id = only_session(world);
        let greet = |name: &str| enabled(world, &id, name);
        let why = |name: &str| message(&greet(name));
        let denied = why("fine");
        assert!(denied.contains("403") && denied.contains("odd.test"), "{denied}");
        assert_eq!(odd.connections(), 0);
        world.cordon(&["session", "end", &id]).expect_code(0);
        running.finish();
        world.policy.allow("odd.test");
        let running = world.session(&["sleep", "600"]).start();
        let id = only_session(world);
        let greet = |name: &str| enabled(world, &id, name);
        let why = |name: &str| message(&greet(name));
        assert_eq!(greet("fine")["result"]["serverInfo"]["name"], "odd");
        assert_eq!(greet("resumed")["result"]["serverInfo"]["name"], "odd");
        // What it was shown does not come back by its answers (N21).
        let masked = format!("Bearer {}", "*".repeat(SECRET.len()));
        for name in ["echo", "told"] {
            assert_eq!(greet(name)["result"]["serverInfo"]["version"], masked, "{name}");
        }
        let shown = odd.requests().iter().filter(|one| one.header("authorization").is_some_and(|value| value.ends_with(SECRET))).count();
        assert!(shown >= 2, "the control: it was shown");
        let cases = [("redirect", "not followed"), ("html", "neither JSON nor events"),
            ("refused", "sends its credential back"), ("large", "4096 are passed on"), ("huge", "length limit"), ("other-id", "is not the answer"), ("cut", "ended before its answer")];
        for (name, expected) in cases {
            let told = why(name);
            assert!(told.contains(expected), "{name}: {told}");
        }
        assert_eq!(decoy.connections(), 0);
        // What was refused for what it says is on record, and what was masked is no refusal.
        let records = world.records(&id);
        let refused: Vec<&Value> = records.iter().filter(|one| one["effect"] == "deny" && one["reason"] == "credential").collect();
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert!(refused[0].to_string().contains("its answer sends its credential back"), "{}", refused[0]);
        assert!(refused[0].to_string().contains("odd.test"), "{}", refused[0]);
        let asked_again = |one: &Request| one.method == "GET" && one.target == "/cut" && one.header("last-event-id").is_some();
        assert_eq!(odd.requests().iter().filter(|one| asked_again(one)).count(), 3);
        world.cordon(&["session", "end", &id]).expect_code(0);
        running.finish();
    }

    /// The server is told when its session is over, however that comes; what a client listens to is
    /// cut at once; and of too many sessions of the protocol the oldest makes place, and is told so.
    fn p10_the_servers_own_session_ends_with_ours(world) {
        let authority = world.authority();
        let server = Origin::https(&authority, "held.test", held);
        world.route("held.test", server.address());
        world.policy.allow("held.test");
        world.policy.rule(RULES);
        world.config.push_str(&format!(
            "[connectors.held]\nkind = \"mcp\"\nendpoint = \"https://held.test:{}/mcp\"\n\
             [connectors.held.scopes]\n\"read\" = \"Read\"\n", server.port()));
        let running = world.session(&["sleep", "600"]).start();
        let id = only_session(world);
        let enable = || world.cordon(&["connector", "enable", "held", "--session", &id, "--scope", "read"]);
        enable().expect_code(0);
        let told = |count: usize| {
            let goodbyes = || {
                let requests = server.requests();
                let is = |one: &&Request| one.method == "DELETE" && one.header("mcp-session-id") == Some("theirs");
                requests.iter().filter(is).count()
            };
            process::eventually("the server is told", || goodbyes() >= count);
            assert_eq!(goodbyes(), count);
        };
        let ours = begun(world, &id);
        let listening = process::start(listening(world, &id, &ours), b"");
        let is_listening = || server.requests().iter().any(|one| one.method == "GET");
        process::eventually("the server is listened to", is_listening);
        let since = Instant::now();
        world.cordon(&["connector", "disable", "held", "--session", &id]).expect_code(0);
        listening.finish();
        // Unaided it ends after `LISTENS`.
        assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
        told(1);
        assert_eq!(said(world, &id, &ours).0, 404);
        enable().expect_code(0);
        let first = begun(world, &id);
        let others: Vec<String> = (0..15).map(|_| begun(world, &id)).collect();
        assert_eq!(said(world, &id, &first).0, 202, "sixteen are open");
        // Used just now, so another one is the oldest.
        begun(world, &id);
        told(2);
        let (code, why) = said(world, &id, &others[0]);
        assert_eq!(code, 404);
        assert!(why["detail"].as_str().unwrap().contains("at most 16"), "{why}");
        assert!(why.to_string().contains("DELETE"), "{why}");
        assert_eq!(said(world, &id, &first).0, 202);
        assert_eq!(said(world, &id, &others[1]).0, 202);
        world.cordon(&["session", "end", &id]).expect_code(0);
        running.finish();
        told(18);
        // Telling them is a part of the session, and decided before its end; a connection may be a
        // moment longer in closing.
        let records = world.records(&id);
        let mut after = records.iter().skip_while(|one| one["kind"] != "session.end");
        assert_eq!(after.next().unwrap()["kind"], "session.end");
        assert!(after.all(|one| one["kind"] == "flow.close"), "{records:?}");
    }
}

const RULES: &str = r#"
permit (principal, action in [Action::"enable_connector", Action::"use_scope", Action::"load_extension"], resource);
"#;

const SECRET: &str = "the-servers-own-secret";

/// The first message of a client.
const HELLO: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}"#;

/// A server with sessions of its own.
fn held(request: &Request) -> Reply {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let welcome = json!({"jsonrpc": "2.0", "id": body["id"], "result": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "held", "version": "1"}}});
    match (request.method.as_str(), body["method"].as_str()) {
        ("POST", Some("initialize")) => Reply {
            headers: vec![
                "content-type: application/json".into(),
                "mcp-session-id: theirs".into(),
            ],
            ..Reply::ok(welcome.to_string())
        },
        ("POST", _) => Reply::status("202 Accepted", ""),
        ("DELETE", _) => Reply::status("204 No Content", ""),
        _other => Reply::status("405 Method Not Allowed", ""),
    }
}

/// Begins a session of the protocol by the daemon's endpoint; its name.
fn begun(world: &World, id: &str) -> String {
    let mut curl = endpoint(world, id);
    curl.args([
        "-D",
        "-",
        "-o",
        "/dev/null",
        "-H",
        "content-type: application/json",
        "-d",
        HELLO,
    ]);
    let heads = process::finish(curl, b"").text();
    let mut fields = heads
        .lines()
        .filter_map(|line| line.strip_prefix("mcp-session-id: "));
    fields.next().unwrap_or_default().trim().to_owned()
}

/// A message in it; status and answer.
fn said(world: &World, id: &str, ours: &str) -> (u16, Value) {
    let mut curl = endpoint(world, id);
    let named = format!("mcp-session-id: {ours}");
    let message = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    curl.args([
        "-H",
        &named,
        "-H",
        "content-type: application/json",
        "-d",
        message,
        "-w",
        "\n%{http_code}",
    ]);
    let told = process::finish(curl, b"").text();
    let (body, code) = told.rsplit_once('\n').unwrap_or(("", &told));
    (
        code.parse().unwrap(),
        serde_json::from_str(body).unwrap_or_default(),
    )
}

/// Listens to what the server says by itself.
fn listening(world: &World, id: &str, ours: &str) -> Command {
    let mut curl = endpoint(world, id);
    curl.args([
        "-N",
        "-H",
        &format!("mcp-session-id: {ours}"),
        "-H",
        "accept: text/event-stream",
    ]);
    curl
}

/// Seconds that a client takes at most.
const LISTENS: &str = "60";

fn endpoint(world: &World, id: &str) -> Command {
    let mut curl = world.as_account("curl");
    curl.args(["-sS", "--max-time", LISTENS, "--unix-socket"]);
    curl.arg(world.runtime().join("api.sock"));
    curl.arg(format!(
        "http://localhost/v1/sessions/{id}/connectors/held/mcp"
    ));
    curl
}

/// As [`greeted`], once the connector is enabled.
fn enabled(world: &World, id: &str, name: &str) -> Value {
    let enable = [
        "connector",
        "enable",
        name,
        "--session",
        id,
        "--scope",
        "read",
    ];
    world.cordon(&enable).expect_code(0);
    greeted(world, id, name)
}

fn message(told: &Value) -> String {
    told["error"]["message"].as_str().unwrap().to_owned()
}

/// What a connector's server says to a greeting, through `cordon mcp wrap`.
fn greeted(world: &World, id: &str, name: &str) -> Value {
    let mut product = world.command();
    product.args(["mcp", "wrap", "--connector", name, "--session", id]);
    product.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut product = product.spawn().unwrap();
    let mut input = product.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, format!("{HELLO}\n").as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(product.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    drop(input);
    assert_eq!(product.wait().unwrap().code(), Some(0), "{line}");
    serde_json::from_str(&line).unwrap()
}

/// A server at several paths, each odd in its own way.
fn answer(request: &Request, elsewhere: &str) -> Reply {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let welcome = |id: &Value| {
        json!({"jsonrpc": "2.0", "id": id, "result": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "odd", "version": "1"}}})
    };
    let echo = || {
        let mut welcome = welcome(&body["id"]);
        welcome["result"]["serverInfo"]["version"] = request.header("authorization").into();
        welcome.to_string()
    };
    let with = |media: &str, text: String| Reply {
        headers: vec![format!("content-type: {media}")],
        ..Reply::ok(text)
    };
    let (json, events) = ("application/json", "text/event-stream");
    match (request.method.as_str(), request.path()) {
        ("DELETE", _) => Reply::status("405 Method Not Allowed", ""),
        ("POST", "/redirect") => Reply {
            headers: vec![format!("location: {elsewhere}")],
            ..Reply::status("307 Temporary Redirect", "")
        },
        ("POST", "/html") => with("text/html", "<p>hello".into()),
        ("POST", "/large") => {
            let mut large = welcome(&body["id"]);
            large["result"]["more"] = "x".repeat(8192).into();
            with(json, large.to_string())
        }
        ("POST", "/huge") => with(json, "x".repeat(100 << 20)),
        ("POST", "/echo" | "/refused") => with(json, echo()),
        ("POST", "/told") => with(events, format!("data: {}\n\n", echo())),
        ("POST", "/other-id") => with(json, welcome(&json!("other")).to_string()),
        ("POST", "/cut" | "/resumed") => with(events, "id: 1\ndata: \n\n".into()),
        ("GET", "/resumed") if request.header("last-event-id") == Some("1") => {
            with(events, format!("id: 2\ndata: {}\n\n", welcome(&json!(1))))
        }
        ("GET", "/cut") => with(events, "id: 1\ndata: \n\n".into()),
        ("GET", _) => Reply::status("405 Method Not Allowed", ""),
        (_, _) => with(json, welcome(&body["id"]).to_string()),
    }
}
