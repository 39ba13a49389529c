//! The same sixty requests by every channel that can say them: the same answer, by the same rule (P03).
//!
//! What a channel cannot say stands in the table with the reason.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

use std::collections::BTreeMap;

use cordon_tests::{
    Origin, World,
    api::{only_session, send},
    for_both,
    origin::http::Reply,
    process,
};
use serde_json::{Value, json};

for_both! {
    /// Files, hosts, tools, connectors, pages and commands: allowed, denied, forbidden, asked about,
    /// and refused by a floor.
    fn p03_every_channel_gives_the_same_answer(world) {
        let authority = world.authority();
        let open = Origin::https(&authority, "open.test", |_request| Reply::ok("hello"));
        world.route("open.test", open.address());
        world.policy.rule(RULES);
        world.config.push_str(TRACKER);
        let outside = world.write("home/outside", "not yours");
        // What is there before the session is what it may not delete.
        for name in ["f1", "f2", "f3", "f4"] {
            world.project_file(name, "x");
        }
        let running = world.session(&["sleep", "600"]).start();
        let id = only_session(world);
        let channels = Channels { world, id: id.clone() };
        for path in ["load", "enable"] {
            let (path, method, body) = match path {
                "load" => (format!("/v1/sessions/{id}/mcp/notes"), "POST", "{}"),
                _enable => (format!("/v1/sessions/{id}/connectors/mail"), "PUT", r#"{"scopes": ["read"]}"#),
            };
            assert_eq!(send(channels.world, method, &path, body).0, 200, "{path}");
        }
        let rows = rows(open.port(), channels.world.project().to_str().unwrap(), outside.to_str().unwrap());
        assert_eq!(rows.len(), 60);
        let mut wrong = Vec::new();
        let mut said = BTreeMap::new();
        for row in &rows {
            for (channel, cell) in &row.cells {
                let Cell::Says(question) = cell else { continue };
                *said.entry(*channel).or_insert(0) += 1;
                let (answer, rules) = channels.ask(channel, question);
                let same_rule = rules.is_none_or(|rules| rules == row.rules);
                if answer != row.answer || !same_rule {
                    wrong.push(format!("{} by {channel}: {answer}, wanted {} by {:?}", row.name, row.answer, row.rules));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        // Every channel was asked, and what it was not asked has its reason.
        for (channel, least) in [("decide", 60), ("authzen", 60), ("hook", 33), ("can_use_tool", 33),
            ("gateway", 22), ("proxy", 8), ("sandbox", 12)] {
            assert!(said[channel] >= least, "{channel}: {said:?}");
        }
        channels.world.cordon(&["session", "end", &id]).expect_code(0);
        running.finish();
        // The session of the hooks stays for the agent.
        channels.world.cordon(&["stop", "--force"]).expect_code(0);
    }
}

const RULES: &str = r#"
permit (principal, action in [Action::"run_without_sandbox", Action::"load_extension", Action::"enable_connector"], resource);
@id("tunnel") @inspect("tls")
permit (principal, action == Action::"connect", resource == Host::"open.test");
@id("public") permit (principal, action == Action::"http_read", resource == Host::"open.test")
when { context.path like "/public/*" };
@id("files") permit (principal, action in [Action::"read", Action::"write", Action::"delete"], resource);
@id("tools") permit (principal, action == Action::"call_tool", resource)
when { resource.name like "may*" || resource.name == "Bash" };
@id("never") forbid (principal, action == Action::"call_tool", resource)
when { resource.name like "never*" || resource.name == "WebSearch" };
@id("asked") permit (principal, action == Action::"call_tool", resource)
when { (resource.name like "ask*" || resource.name == "Skill") && context has approval };
@id("scopes") permit (principal, action == Action::"use_scope", resource) unless { resource.name == "admin" };
@id("pages") permit (principal, action == Action::"open", resource in Domain::"open.test");
"#;

const TRACKER: &str = r#"
[connectors.tracker]
kind = "mcp"
[connectors.tracker.scopes]
"read" = "Read"
[connectors.mail]
kind = "mcp"
[connectors.mail.scopes]
"read" = "Read"
"write" = "Write"
"admin" = "Everything"
"#;

/// One request.
struct Row {
    name: String,
    answer: &'static str,
    rules: Vec<String>,
    cells: Vec<(&'static str, Cell)>,
}

/// How a channel says it.
enum Cell {
    Says(Value),
    /// It cannot, and why.
    #[expect(dead_code, reason = "for whoever reads the table")]
    Cannot(&'static str),
}

fn row(name: &str, answer: &'static str, rules: &[&str], cells: Vec<(&'static str, Cell)>) -> Row {
    Row {
        name: name.into(),
        answer,
        rules: rules.iter().map(|rule| (*rule).to_owned()).collect(),
        cells,
    }
}

const NO_HOST: Cell = Cell::Cannot("a host that is no request has no tool of the agent");
const NO_TOOL: Cell =
    Cell::Cannot("a tool runs where its server is, not in the network or in a file");
const NO_FILE: Cell = Cell::Cannot("a file is no tool of a server and no host");
const NO_DELETE: Cell = Cell::Cannot("the agent has no tool that only deletes");
const NO_SCOPE: Cell = Cell::Cannot("a scope is asked by name through the API alone");

fn rows(port: u16, project: &str, outside: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    let says = |value: Value| Cell::Says(value);
    let both = |cell: fn() -> Cell| vec![("hook", cell()), ("can_use_tool", cell())];
    for (prefix, answer, rules) in [
        ("may", "allow", &["tools"][..]),
        ("never", "deny", &["never"]),
        ("ask", "ask", &["asked"]),
        ("other", "deny", &[]),
    ] {
        for at in 0..5 {
            let tool = format!("{prefix}{at}");
            rows.push(tool_row(
                "notes",
                &tool,
                &format!("mcp__notes__{tool}"),
                answer,
                rules,
                true,
            ));
        }
    }
    // A connector that is not enabled: a floor, whatever policy says.
    for tool in ["may", "other"] {
        rows.push(tool_row(
            "tracker",
            tool,
            &format!("mcp__tracker__{tool}"),
            "deny",
            &[],
            false,
        ));
    }
    for (tool, answer, rules) in [
        ("Bash", "allow", &["tools"][..]),
        ("WebSearch", "deny", &["never"]),
        ("Skill", "ask", &["asked"]),
        ("Task", "deny", &[]),
    ] {
        rows.push(tool_row("claude-code", tool, tool, answer, rules, false));
    }
    for (host, path, answer, rules) in [
        ("open.test", "public/1", "allow", &["public"][..]),
        ("open.test", "public/2", "allow", &["public"]),
        ("open.test", "public/3", "allow", &["public"]),
        ("open.test", "public/4", "allow", &["public"]),
        ("open.test", "private/1", "deny", &[]),
        ("open.test", "private/2", "deny", &[]),
        ("open.test", "", "deny", &[]),
        ("shut.test", "public/1", "deny", &[]),
        ("shut.test", "private/1", "deny", &[]),
        ("www.open.test", "public/1", "deny", &[]),
    ] {
        let url = format!("https://{host}:{port}/{path}");
        let fetch = json!(["WebFetch", {"url": url, "prompt": "x"}]);
        let properties = json!({"port": port, "path": format!("/{path}")});
        rows.push(row(
            &url,
            answer,
            rules,
            vec![
                ("decide", says(json!(["GET", url]))),
                (
                    "authzen",
                    says(json!(["http_read", "Host", host, properties])),
                ),
                ("hook", says(fetch.clone())),
                ("can_use_tool", says(fetch)),
                ("gateway", NO_TOOL),
                ("proxy", says(json!([url]))),
                (
                    "sandbox",
                    Cell::Cannot("the session's way out is the proxy"),
                ),
            ],
        ));
    }
    for (action, name, answer) in [
        ("read", "f1", "allow"),
        ("read", "f2", "allow"),
        ("read", "f3", "allow"),
        ("write", "f1", "allow"),
        ("write", "f2", "allow"),
        ("write", "f4", "allow"),
        ("delete", "f3", "deny"),
        ("delete", "f4", "deny"),
        ("delete", "f2", "deny"),
        ("read", "", "deny"),
        ("write", "", "deny"),
        ("delete", "", "deny"),
    ] {
        let path = if name.is_empty() {
            outside.to_owned()
        } else {
            format!("{project}/{name}")
        };
        let inside = if name.is_empty() {
            outside.to_owned()
        } else {
            format!("mnt/project/{name}")
        };
        let (agents, shell) = match action {
            "read" => (Some(json!(["Read", {"file_path": path}])), "cat"),
            "write" => (
                Some(json!(["Write", {"file_path": path, "content": "y"}])),
                "truncate -s 1",
            ),
            _delete => (None, "rm"),
        };
        let mut cells = vec![
            ("decide", says(json!([action, path]))),
            ("authzen", says(json!([action, "File", path, {}]))),
            ("gateway", NO_FILE),
            ("proxy", NO_FILE),
            ("sandbox", says(json!([format!("cd && {shell} {inside}")]))),
        ];
        cells.extend(match agents {
            Some(asked) => vec![("hook", says(asked.clone())), ("can_use_tool", says(asked))],
            None => both(|| NO_DELETE),
        });
        let rules = if answer == "allow" {
            &["files"][..]
        } else {
            &[]
        };
        rows.push(row(&format!("{action} {path}"), answer, rules, cells));
    }
    for (scope, of, answer, rules) in [
        ("read", "mail", "allow", &["scopes"][..]),
        ("write", "mail", "deny", &[]),
        ("admin", "mail", "deny", &[]),
        ("read", "tracker", "deny", &[]),
    ] {
        let mut cells = vec![
            ("decide", says(json!(["use", "scope", scope, "of", of]))),
            (
                "authzen",
                says(json!([
                    "use_scope",
                    "ConnectorScope",
                    format!("{of}/{scope}"),
                    {}
                ])),
            ),
            ("gateway", NO_SCOPE),
            ("proxy", NO_SCOPE),
            ("sandbox", NO_SCOPE),
        ];
        cells.extend(both(|| NO_SCOPE));
        rows.push(row(&format!("scope {scope} of {of}"), answer, rules, cells));
    }
    // The browser is off: a floor.
    for origin in [
        "https://open.test",
        "https://www.open.test",
        "https://shut.test",
        "http://open.test",
    ] {
        let mut cells = vec![
            ("decide", says(json!(["open", origin]))),
            ("authzen", says(json!(["open", "Origin", origin, {}]))),
            ("gateway", NO_TOOL),
            (
                "proxy",
                Cell::Cannot("what a page fetches is a request of its own"),
            ),
            ("sandbox", NO_HOST),
        ];
        cells.extend(both(|| NO_HOST));
        rows.push(row(&format!("open {origin}"), "deny", &[], cells));
    }
    for (host, answer, rules) in [
        ("open.test", "allow", &["tunnel"][..]),
        ("shut.test", "deny", &[]),
        ("www.open.test", "deny", &[]),
        ("192.0.2.1", "deny", &[]),
    ] {
        let kind = if host.starts_with('1') {
            "Address"
        } else {
            "Host"
        };
        let mut cells = vec![
            ("decide", says(json!(["connect", format!("{host}:{port}")]))),
            (
                "authzen",
                says(json!(["connect", kind, host, {"port": port}])),
            ),
            ("gateway", NO_TOOL),
            (
                "proxy",
                Cell::Cannot("a tunnel is asked for with every request above"),
            ),
            ("sandbox", NO_HOST),
        ];
        cells.extend(both(|| NO_HOST));
        rows.push(row(&format!("connect {host}"), answer, rules, cells));
    }
    rows
}

fn tool_row(
    server: &str,
    tool: &str,
    agents: &str,
    answer: &'static str,
    rules: &[&str],
    gateway: bool,
) -> Row {
    let says = |value: Value| Cell::Says(value);
    let asked = json!([agents, {"command": "true", "query": "x"}]);
    row(
        &format!("{tool} of {server}"),
        answer,
        rules,
        vec![
            ("decide", says(json!(["call", tool, "of", server]))),
            (
                "authzen",
                says(json!([
                    "call_tool",
                    "ExtensionTool",
                    format!("{server}/{tool}"),
                    {}
                ])),
            ),
            ("hook", says(asked.clone())),
            ("can_use_tool", says(asked)),
            (
                "gateway",
                if gateway || server == "tracker" {
                    says(json!([server, tool]))
                } else {
                    Cell::Cannot("the agent's own tools have no server")
                },
            ),
            ("proxy", NO_TOOL),
            ("sandbox", NO_TOOL),
        ],
    )
}

/// The channels of one session.
struct Channels<'a> {
    world: &'a World,
    id: String,
}

impl Channels<'_> {
    /// The answer, and the rules where the channel tells them.
    fn ask(&self, channel: &str, question: &Value) -> (String, Option<Vec<String>>) {
        match channel {
            "decide" => {
                let mut words = vec!["decide", "--format", "json", "--session", &self.id];
                words.extend(
                    question
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|word| word.as_str().unwrap()),
                );
                let told = self.world.cordon(&words);
                of_told(&serde_json::from_slice(&told.stdout).unwrap())
            }
            "authzen" => {
                let asked = json!({
                    "subject": {"type": "Session", "id": self.id},
                    "action": {"name": question[0]},
                    "resource": {"type": question[1], "id": question[2]},
                    "context": question[3],
                });
                let told = send(
                    self.world,
                    "POST",
                    "/access/v1/evaluation",
                    &asked.to_string(),
                )
                .1;
                let mut context = told["context"].clone();
                context["allowed"] = told["decision"].clone();
                of_told(&context)
            }
            "gateway" => {
                let path = format!(
                    "/v1/sessions/{}/mcp/{}",
                    self.id,
                    question[0].as_str().unwrap()
                );
                send(self.world, "POST", &path, "{}");
                let asked = json!({"kind": "tool", "name": question[1]}).to_string();
                of_told(&send(self.world, "POST", &format!("{path}/decisions"), &asked).1)
            }
            "hook" => {
                let asked = json!({"session_id": "agent", "cwd": self.world.project(),
                    "hook_event_name": "PreToolUse", "tool_name": question[0], "tool_input": question[1]});
                let mut product = self.world.command();
                product
                    .args(["hook", "pre-tool-use", "--policy"])
                    .arg(self.world.policy_folder());
                let told = process::finish(product, asked.to_string().as_bytes());
                let told: Value = serde_json::from_slice(&told.stdout).unwrap();
                let told = &told["hookSpecificOutput"];
                (told["permissionDecision"].as_str().unwrap().into(), None)
            }
            "can_use_tool" => {
                let asked = json!({"type": "control_request", "request_id": "1", "request": {
                    "subtype": "can_use_tool", "tool_name": question[0], "input": question[1]}});
                let mut product = self.world.command();
                product.args(["hook", "can-use-tool", "--session-id", "agent", "--policy"]);
                product.arg(self.world.policy_folder());
                let told = process::finish(product, format!("{asked}\n").as_bytes());
                let told: Value = serde_json::from_slice(&told.stdout).unwrap();
                let told = &told["response"]["response"];
                let denied = told["message"].as_str().unwrap_or_default();
                // This is where the agent asks, so what waits for an approval is denied here.
                let answer = match told["behavior"].as_str().unwrap() {
                    "deny" if denied.contains("approval") => "ask",
                    other => other,
                };
                (answer.into(), None)
            }
            "proxy" => {
                let url = question[0].as_str().unwrap();
                let curl = [
                    "curl",
                    "-s",
                    "-o",
                    "/dev/null",
                    "--max-time",
                    "20",
                    "-w",
                    "%{http_code}",
                    url,
                ];
                let done = self
                    .world
                    .cordon(&[&["session", "exec", &self.id, "--"][..], &curl].concat());
                (
                    if done.text() == "200" {
                        "allow"
                    } else {
                        "deny"
                    }
                    .into(),
                    None,
                )
            }
            _sandbox => {
                let shell = ["sh", "-c", question[0].as_str().unwrap()];
                let done = self
                    .world
                    .cordon(&[&["session", "exec", &self.id, "--"][..], &shell].concat());
                (if done.code == 0 { "allow" } else { "deny" }.into(), None)
            }
        }
    }
}

fn of_told(told: &Value) -> (String, Option<Vec<String>>) {
    let answer = match (&told["allowed"], told["code"].as_str()) {
        (Value::Bool(true), _) => "allow",
        (_, Some("approval_required")) => "ask",
        _denied => "deny",
    };
    let rules = told["rules"].as_array();
    let rules = rules.map(|rules| {
        rules
            .iter()
            .map(|rule| rule.as_str().unwrap().to_owned())
            .collect()
    });
    (answer.into(), rules)
}
