//! The sixty requests, and how each channel says them.

use std::path::Path;

use serde_json::{Value, json};

/// The channels, in the order of a row's cells.
pub const CHANNELS: [&str; 7] = [
    "decide",
    "authzen",
    "hook",
    "can_use_tool",
    "gateway",
    "proxy",
    "sandbox",
];

/// One request.
pub struct Row {
    pub name: String,
    /// How the log names it.
    pub action: &'static str,
    /// `allow`, `deny` or `ask`.
    pub answer: &'static str,
    /// The stable word for why.
    pub reason: &'static str,
    pub rules: Vec<String>,
    pub cells: Vec<(&'static str, Cell)>,
}

/// How a channel says it.
pub enum Cell {
    Says(Value),
    /// The kernel holds it, by these rules about the folder that is mounted.
    Rests(Value, Vec<String>),
    /// It cannot, and why.
    Cannot(&'static str),
}

/// What is expected of a request.
struct Expected(&'static str, &'static str, &'static [&'static str]);

const BY_NO_RULE: Expected = Expected("deny", "default_deny", &[]);
const BY_MODE: Expected = Expected("deny", "grant_mode", &[]);

const NO_TOOL_FOR_TUNNELS: &str = "the agent has a tool for requests and none for bare connections";
const NO_TOOL_FOR_PAGES: &str = "the agent has no browser; what it fetches is a request";
const NO_TOOL_THAT_DELETES: &str = "the agent has no tool that only deletes";
const NO_TOOL_FOR_SCOPES: &str = "a scope is asked for by name through the API alone";
const NO_SERVER: &str = "the gateway stands before tool servers; this is no tool of one";
const NO_NETWORK: &str = "it is no connection, so nothing of it comes to the proxy";
const PARTS_OF_A_PAGE: &str =
    "what a page fetches are requests of their own; that it is opened is the browser's to ask";
const NO_ROUTE: &str = "a session has a route to names alone; an address is asked for by the proxy";
const NO_FILE_OR_HOST: &str = "walls hold files and connections; this is neither";

/// All of them.
pub fn rows(port: u16, project: &Path, outside: &Path) -> Vec<Row> {
    let mut rows = tools();
    rows.extend(requests(port));
    rows.extend(files(project, outside));
    rows.extend(scopes());
    rows.extend(pages());
    rows.extend(tunnels(port));
    rows
}

fn row(name: String, action: &'static str, expected: Expected, cells: [Cell; 7]) -> Row {
    let Expected(answer, reason, rules) = expected;
    Row {
        name,
        action,
        answer,
        reason,
        rules: owned(rules),
        cells: CHANNELS.into_iter().zip(cells).collect(),
    }
}

fn owned(rules: &[&str]) -> Vec<String> {
    rules.iter().map(|rule| (*rule).to_owned()).collect()
}

/// Twenty of a server, two of a connector that is off, four of the agent's own.
fn tools() -> Vec<Row> {
    let of_server = |prefix: &str, expected: fn() -> Expected| -> Vec<Row> {
        let names = (0..5).map(|at| format!("{prefix}{at}"));
        names
            .map(|tool| of_a_server("notes", &tool, expected()))
            .collect()
    };
    let mut rows = of_server("may", || Expected("allow", "rule", &["tools"]));
    rows.extend(of_server("never", || Expected("deny", "rule", &["never"])));
    rows.extend(of_server("ask", || {
        Expected("ask", "approval_required", &["asked"])
    }));
    rows.extend(of_server("other", || BY_NO_RULE));
    // A connector that is not on in this session: a floor, whatever policy says.
    rows.extend(["may", "other"].map(|tool| of_a_server("tracker", tool, BY_NO_RULE)));
    for (tool, expected) in [
        ("Bash", Expected("allow", "rule", &["tools"])),
        ("WebSearch", Expected("deny", "rule", &["never"])),
        ("Skill", Expected("ask", "approval_required", &["asked"])),
        ("Task", BY_NO_RULE),
    ] {
        let own = Cell::Cannot("the agent runs its own tools itself; no server has them");
        rows.push(tool_row("claude-code", tool, tool, expected, own));
    }
    rows
}

fn of_a_server(server: &str, tool: &str, expected: Expected) -> Row {
    let called = Cell::Says(json!([server, tool]));
    tool_row(
        server,
        tool,
        &format!("mcp__{server}__{tool}"),
        expected,
        called,
    )
}

fn tool_row(server: &str, tool: &str, agents: &str, expected: Expected, gateway: Cell) -> Row {
    let asked = json!([agents, {"command": "true", "query": "x"}]);
    let id = format!("{server}/{tool}");
    row(
        format!("{tool} of {server}"),
        "tool.call",
        expected,
        [
            Cell::Says(json!(["call", tool, "of", server])),
            Cell::Says(json!(["call_tool", "ExtensionTool", id, {}])),
            Cell::Says(asked.clone()),
            Cell::Says(asked),
            gateway,
            Cell::Cannot("the proxy sees the connections of a tool, not that it is called"),
            Cell::Cannot(NO_FILE_OR_HOST),
        ],
    )
}

/// Ten pages to fetch.
fn requests(port: u16) -> Vec<Row> {
    let public = || Expected("allow", "rule", &["public"]);
    [
        ("open.test", "public/1", public()),
        ("open.test", "public/2", public()),
        ("open.test", "public/3", public()),
        ("open.test", "public/4", public()),
        ("open.test", "private/1", BY_NO_RULE),
        ("open.test", "private/2", BY_NO_RULE),
        ("open.test", "", BY_NO_RULE),
        ("shut.test", "public/1", BY_NO_RULE),
        ("shut.test", "private/1", BY_NO_RULE),
        ("www.open.test", "public/1", BY_NO_RULE),
    ]
    .map(|(host, path, expected)| {
        let url = format!("https://{host}:{port}/{path}");
        let fetch = json!(["WebFetch", {"url": url, "prompt": "x"}]);
        let facts = json!({"port": port, "path": format!("/{path}")});
        row(
            url.clone(),
            "http.request",
            expected,
            [
                Cell::Says(json!(["GET", url])),
                Cell::Says(json!(["http_read", "Host", host, facts])),
                Cell::Says(fetch.clone()),
                Cell::Says(fetch),
                Cell::Cannot(NO_SERVER),
                Cell::Says(json!(url)),
                Cell::Says(around_the_proxy(&url)),
            ],
        )
    })
    .into()
}

/// A program that knows of no proxy; fails on every refusal.
fn around_the_proxy(url: &str) -> Value {
    json!([
        "curl",
        "-sS",
        "-o",
        "/dev/null",
        "--max-time",
        "20",
        "--noproxy",
        "*",
        "--fail",
        url
    ])
}

/// Twelve of files: three that may be read, three written, three not deleted, three outside.
fn files(project: &Path, outside: &Path) -> Vec<Row> {
    let by_rule = || Expected("allow", "rule", &["files"]);
    [
        ("read", "path.read", Some("f1"), by_rule()),
        ("read", "path.read", Some("f2"), by_rule()),
        ("read", "path.read", Some("f3"), by_rule()),
        ("write", "path.write", Some("f1"), by_rule()),
        ("write", "path.write", Some("f2"), by_rule()),
        ("write", "path.write", Some("f4"), by_rule()),
        ("delete", "path.delete", Some("f2"), BY_MODE),
        ("delete", "path.delete", Some("f3"), BY_MODE),
        ("delete", "path.delete", Some("f4"), BY_MODE),
        ("read", "path.read", None, BY_MODE),
        ("write", "path.write", None, BY_MODE),
        ("delete", "path.delete", None, BY_MODE),
    ]
    .map(|(verb, action, name, expected)| {
        let path = name.map_or_else(|| outside.to_owned(), |name| project.join(name));
        let path = path.display().to_string();
        let inside = name.map_or_else(|| path.clone(), |name| format!("mnt/project/{name}"));
        let (agents, shell) = match verb {
            "read" => (Some(json!(["Read", {"file_path": path}])), "cat"),
            "write" => (
                Some(json!(["Write", {"file_path": path, "content": "y"}])),
                "truncate -c -s 1",
            ),
            _delete => (None, "rm"),
        };
        let shell = json!([
            "sh",
            "-c",
            format!("cd && stat {inside} >/dev/null && {shell} {inside}")
        ]);
        // The kernel is asked for each file; the rule is the one that let the folder in.
        let rests = if expected.0 == "allow" {
            owned(&["grants"])
        } else {
            Vec::new()
        };
        let agents = || {
            agents
                .clone()
                .map_or(Cell::Cannot(NO_TOOL_THAT_DELETES), Cell::Says)
        };
        row(
            format!("{verb} {path}"),
            action,
            expected,
            [
                Cell::Says(json!([verb, path])),
                Cell::Says(json!([verb, "File", path, {}])),
                agents(),
                agents(),
                Cell::Cannot(NO_SERVER),
                Cell::Cannot(NO_NETWORK),
                Cell::Rests(shell, rests),
            ],
        )
    })
    .into()
}

/// Four scopes: one that is on, one that is not, one that no policy allows, one of what is off.
fn scopes() -> Vec<Row> {
    [
        ("read", "mail", Expected("allow", "rule", &["scopes"])),
        ("write", "mail", BY_NO_RULE),
        ("admin", "mail", BY_NO_RULE),
        ("read", "tracker", BY_NO_RULE),
    ]
    .map(|(scope, of, expected)| {
        let id = format!("{of}/{scope}");
        row(
            format!("scope {scope} of {of}"),
            "connector.scope",
            expected,
            [
                Cell::Says(json!(["use", "scope", scope, "of", of])),
                Cell::Says(json!(["use_scope", "ConnectorScope", id, {}])),
                Cell::Cannot(NO_TOOL_FOR_SCOPES),
                Cell::Cannot(NO_TOOL_FOR_SCOPES),
                Cell::Cannot(NO_SERVER),
                Cell::Cannot(NO_NETWORK),
                Cell::Cannot(NO_FILE_OR_HOST),
            ],
        )
    })
    .into()
}

/// Four pages to open.
fn pages() -> Vec<Row> {
    let by_rule = || Expected("allow", "rule", &["pages"]);
    [
        ("https://open.test", by_rule()),
        ("https://www.open.test", by_rule()),
        ("https://shut.test", BY_NO_RULE),
        (
            "http://open.test",
            Expected("deny", "rule", &["no-plain-pages"]),
        ),
    ]
    .map(|(origin, expected)| {
        row(
            format!("open {origin}"),
            "browser.open",
            expected,
            [
                Cell::Says(json!(["open", origin])),
                Cell::Says(json!(["open", "Origin", origin, {}])),
                Cell::Cannot(NO_TOOL_FOR_PAGES),
                Cell::Cannot(NO_TOOL_FOR_PAGES),
                Cell::Cannot(NO_SERVER),
                Cell::Cannot(PARTS_OF_A_PAGE),
                Cell::Cannot(PARTS_OF_A_PAGE),
            ],
        )
    })
    .into()
}

/// Four connections.
fn tunnels(port: u16) -> Vec<Row> {
    [
        ("open.test", "Host", Expected("allow", "rule", &["tunnel"])),
        ("shut.test", "Host", BY_NO_RULE),
        ("www.open.test", "Host", BY_NO_RULE),
        ("192.0.2.1", "Address", BY_NO_RULE),
    ]
    .map(|(host, kind, expected)| {
        let url = format!("https://{host}:{port}/public/tunnel");
        let walls = match kind {
            "Host" => Cell::Says(around_the_proxy(&url)),
            _address => Cell::Cannot(NO_ROUTE),
        };
        row(
            format!("connect {host}"),
            "net.connect",
            expected,
            [
                Cell::Says(json!(["connect", format!("{host}:{port}")])),
                Cell::Says(json!(["connect", kind, host, {"port": port}])),
                Cell::Cannot(NO_TOOL_FOR_TUNNELS),
                Cell::Cannot(NO_TOOL_FOR_TUNNELS),
                Cell::Cannot(NO_SERVER),
                Cell::Says(json!(url)),
                walls,
            ],
        )
    })
    .into()
}
