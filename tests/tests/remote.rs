//! A connector's own endpoint behind the gateway: a real server of the official SDK over https, real
//! clients, and servers that do what they should not.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

use std::{
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use cordon_tests::{
    Outcome, World,
    api::{curl, only_session, send},
    for_both,
    origin::program::Program,
    process,
};
use serde_json::{Value, json};

for_both! {
    /// The SDK's client and server speak through the gate: what is enabled, mapped and allowed is done
    /// and recorded, nothing else; the server sees the connector's credential and nothing of the client.
    fn p10_a_connectors_endpoint_is_used_scope_by_scope(world) {
        let Some(notes) = Notes::start(world, &[]) else { return };
        world.policy.rule(RULES);
        let running = world.session(&["sleep", "600"]).start();
        let id = only_session(world);
        let refused = notes.stdio(world, &id, &[]);
        refused.expect_stderr("not enabled in this session");
        notes.enable(world, &id, &["read"]);
        let steps = [
            json!({"do": "tools"}),
            json!({"do": "call", "name": "add", "with": {"a": 2, "b": 3}}),
            json!({"do": "call", "name": "publish", "with": {"repo": "a", "text": "b"}}),
            json!({"do": "call", "name": "look", "with": {"path": "/etc/passwd"}}),
            json!({"do": "call", "name": "secret"}),
            json!({"do": "read", "name": "notes://one"}),
            json!({"do": "prompt", "name": "summary"}),
        ];
        let done = lines(&notes.stdio(world, &id, &steps));
        // Hidden: one whose scope is not enabled, one that policy forbids, those that no scope is named for.
        assert_eq!(done[1]["ok"], json!(["add", "large"]), "{done:?}");
        assert_eq!(done[2]["ok"], "5");
        for (at, why) in [(3, "without this scope"), (4, "names no scope"), (5, "names no scope"), (7, "names no scope")] {
            assert_eq!(done[at]["code"], -32010, "{}", done[at]);
            assert!(done[at]["message"].as_str().unwrap().contains(why), "{}", done[at]);
            assert!(done[at]["data"]["decision_id"].is_string(), "{}", done[at]);
        }
        assert_eq!(done[6]["ok"], "first");
        // By Streamable HTTP the same, whatever the client sends along.
        let done = notes.listening(world, &id, &steps[..3]);
        assert_eq!(done[1]["ok"], json!(["add", "large"]), "{done:?}");
        assert_eq!(done[2]["ok"], "5");
        assert_eq!(done[3]["code"], -32010);
        // And by the daemon's own endpoint.
        let place = format!("/v1/sessions/{id}/connectors/notes/mcp");
        let (code, _) = send(world, "POST", &place, r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
        assert_eq!(code, 400);
        let accept = "accept: application/json, text/event-stream";
        let other = ["-X", "POST", "-H", accept, "-H", "content-type: application/json", "-H", "mcp-session-id: 1", "-d", HELLO];
        assert_eq!(curl(world, &place, &other).0, 404);
        let other = place.replace("notes", "nothing");
        assert_eq!(send(world, "POST", &other, HELLO).0, 404);
        let seen = notes.seen();
        assert!(seen.len() > 6, "{seen:?}");
        for request in &seen {
            let fields = request["fields"].as_object().unwrap();
            assert_eq!(fields["authorization"], format!("Bearer {SECRET}"), "{request}");
            assert_eq!(fields["host"], notes.authority(), "{request}");
            assert_eq!(request["path"], "/mcp");
            for name in fields.keys() {
                assert!(KNOWN_FIELDS.contains(&name.as_str()), "{name}: {request}");
            }
        }
        assert!(seen.iter().any(|one| one["method"] == "DELETE"));
        assert!(seen.iter().any(|one| one["fields"]["mcp-protocol-version"].is_string()));
        notes.enable(world, &id, &["read", "write"]);
        let done = lines(&notes.stdio(world, &id, &steps[..3]));
        assert_eq!(done[1]["ok"], json!(["add", "large", "publish"]));
        assert_eq!(done[3]["ok"], "published to a: b");
        let records = world.records(&id);
        let connects = records.iter().filter(|one| one["action"] == "net.connect" && one["effect"] == "allow");
        assert!(connects.count() >= 3);
        let all = serde_json::to_string(&records).unwrap();
        assert!(!all.contains(SECRET));
        world.cordon(&["session", "end", &id]).expect_code(0);
        running.finish();
    }

    /// Every way in gives the same answer about a tool of a connector.
    fn p03_a_connectors_tools_are_the_same_by_every_way(world) {
        let Some(notes) = Notes::start(world, &["json"]) else { return };
        world.policy.rule(RULES);
        let running = world.session(&["sleep", "600"]).start();
        let id = only_session(world);
        notes.enable(world, &id, &["read"]);
        let asked = [("add", json!({"a": 1, "b": 1}), true), ("publish", json!({"repo": "a", "text": "b"}), false),
            ("secret", json!({}), false), ("large", json!({"size": 1}), true)];
        let steps: Vec<Value> = asked.iter()
            .map(|(name, with, _)| json!({"do": "call", "name": name, "with": with})).collect();
        let done = lines(&notes.stdio(world, &id, &steps));
        for (at, (tool, _, allowed)) in asked.iter().enumerate() {
            assert_eq!(done[at + 1]["ok"].is_string(), *allowed, "{tool}: {}", done[at + 1]);
            let question = json!({
                "subject": {"type": "Session", "id": id},
                "action": {"name": "call_tool"},
                "resource": {"type": "ExtensionTool", "id": format!("notes/{tool}")},
            });
            let told = send(world, "POST", "/access/v1/evaluation", &question.to_string()).1;
            assert_eq!(told["decision"], *allowed, "{tool}: {told}");
            let words = world.cordon(&["decide", "--session", &id, "call", tool, "of", "notes"]);
            assert_eq!(words.code == 0, *allowed, "{tool}: {words}");
        }
        world.cordon(&["session", "end", &id]).expect_code(0);
        running.finish();
    }

    /// A server that changes what a tool says is caught over its endpoint as well.
    fn p08_a_connector_that_changes_a_tool_is_caught(world) {
        let Some(notes) = Notes::start(world, &[]) else { return };
        world.policy.rule(RULES);
        let running = world.session(&["sleep", "600"]).start();
        let id = only_session(world);
        notes.enable(world, &id, &["read"]);
        let add = [json!({"do": "tools"}), json!({"do": "call", "name": "add", "with": {"a": 2, "b": 3}})];
        assert_eq!(lines(&notes.stdio(world, &id, &add))[2]["ok"], "5");
        let notes = notes.changed(world);
        let done = lines(&notes.stdio(world, &id, &add));
        assert_eq!(done[1]["ok"], json!(["large"]));
        assert!(done[2]["message"].as_str().unwrap().contains("cordon mcp accept notes"), "{}", done[2]);
        world.cordon(&["session", "end", &id]).expect_code(0);
        running.finish();
    }
}

const RULES: &str = r#"
permit (principal, action in [Action::"enable_connector", Action::"use_scope", Action::"load_extension"], resource);
permit (principal, action == Action::"call_tool", resource);
forbid (principal, action == Action::"call_tool", resource == ExtensionTool::"notes/secret");
"#;

/// The first message of a client.
const HELLO: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}"#;

const SECRET: &str = "the-servers-own-secret";

/// What a server may see of us.
const KNOWN_FIELDS: [&str; 7] = [
    "host",
    "accept",
    "content-type",
    "content-length",
    "authorization",
    "mcp-session-id",
    "mcp-protocol-version",
];

/// The notes server at an endpoint, and the connector for it.
struct Notes {
    sdk: String,
    program: Program,
    seen: PathBuf,
    pem: [PathBuf; 2],
}

impl Notes {
    /// None where the SDK is not installed.
    fn start(world: &mut World, options: &[&str]) -> Option<Self> {
        let Ok(sdk) = std::env::var("CORDON_TEST_CLIENTS") else {
            eprintln!("not run: set CORDON_TEST_CLIENTS, or run tests/all.sh, which installs it");
            return None;
        };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/mcp");
        for file in ["server.py", "remote.py", "client.py"] {
            world.project_file(file, std::fs::read(source.join(file)).unwrap());
        }
        let (key, certificate) = world.authority().server_pem("notes.test");
        let pem = [("key.pem", key), ("certificate.pem", certificate)]
            .map(|(name, text)| world.project_file(name, text));
        let seen = world.project_file("seen", "");
        let program = Program::on_a_port(|port| server(world, &sdk, &pem, &seen, options, port));
        world.policy.allow("notes.test");
        world.route("notes.test", program.address());
        let secret = secret_file(world);
        world.config.push_str(&format!(
            r#"
[[credentials]]
name = "notes"
hosts = ["notes.test"]
path = "/mcp"
as = "bearer"
from = "file:{}"

[connectors.notes]
kind = "mcp"
endpoint = "https://notes.test:{}/mcp"
credential = "notes"
resources = "read"
[connectors.notes.scopes]
"read" = "Read"
"write" = "Write"
[connectors.notes.tools]
add = "read"
large = "read"
publish = "write"
"#,
            secret.display(),
            program.address().port()
        ));
        Some(Self {
            sdk,
            program,
            seen,
            pem,
        })
    }

    /// The same server, at the same place, after somebody got at it.
    fn changed(self, world: &World) -> Self {
        let port = self.program.address().port();
        drop(self.program);
        let mut command = server(world, &self.sdk, &self.pem, &self.seen, &[], port);
        command.env("NOTES_MOOD", "changed");
        let program = Program::on_port(port, command);
        Self { program, ..self }
    }

    fn authority(&self) -> String {
        format!("notes.test:{}", self.program.address().port())
    }

    fn enable(&self, world: &World, id: &str, scopes: &[&str]) {
        let mut words = vec!["connector", "enable", "notes", "--session", id];
        for scope in scopes {
            words.extend(["--scope", scope]);
        }
        world.cordon(&words).expect_code(0);
    }

    /// What the SDK's client gets over standard input and output.
    fn stdio(&self, world: &World, id: &str, steps: &[Value]) -> Outcome {
        // The world's own command writes the configuration and knows the program.
        let product = world.command();
        let mut client = self.client(world);
        client.arg(product_of(&product));
        client.args(["mcp", "wrap", "--connector", "notes", "--session", id]);
        process::finish(client, text(steps).as_bytes())
    }

    /// The same by Streamable HTTP on loopback.
    fn listening(&self, world: &World, id: &str, steps: &[Value]) -> Vec<Value> {
        let mut product = world.command();
        product.args(["mcp", "wrap", "--connector", "notes", "--session", id]);
        product
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped());
        let mut product = product.spawn().unwrap();
        let mut told = String::new();
        BufReader::new(product.stdout.take().unwrap())
            .read_line(&mut told)
            .unwrap();
        let told: Value = serde_json::from_str(&told).unwrap();
        let mut client = self.client(world);
        client.args([
            told["url"].as_str().unwrap(),
            told["token"].as_str().unwrap(),
        ]);
        let done = process::finish(client, text(steps).as_bytes());
        assert_eq!(product.wait().unwrap().code(), Some(0), "{done}");
        lines(&done)
    }

    fn client(&self, world: &World) -> Command {
        let mut client = world.as_account(format!("{}/mcp/bin/python", self.sdk));
        client.current_dir(world.project()).arg("client.py");
        client
    }

    fn seen(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.seen).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

fn server(
    world: &World,
    sdk: &str,
    pem: &[PathBuf; 2],
    seen: &Path,
    options: &[&str],
    port: u16,
) -> Command {
    let mut command = world.as_account(format!("{sdk}/mcp/bin/python"));
    command
        .current_dir(world.project())
        .arg("remote.py")
        .arg(port.to_string());
    command.args(pem).arg(seen).arg(SECRET).args(options);
    command
}

fn secret_file(world: &World) -> PathBuf {
    let secret = world.write("home/secret", SECRET);
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    secret
}

fn text(steps: &[Value]) -> String {
    steps.iter().map(|step| format!("{step}\n")).collect()
}

#[track_caller]
fn lines(outcome: &Outcome) -> Vec<Value> {
    outcome.expect_code(0);
    let text = outcome.text();
    let read = |line: &str| serde_json::from_str(line).unwrap();
    text.lines().map(read).collect()
}

/// The product's path: a world's command may become the account first.
fn product_of(command: &Command) -> String {
    let mut words = std::iter::once(command.get_program()).chain(command.get_args());
    let product = words.find(|word| word.to_string_lossy().ends_with("/cordon"));
    product.unwrap().to_string_lossy().into_owned()
}
