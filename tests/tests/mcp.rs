//! The gateway for tool servers, as a real client and real servers of the official SDK meet it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use cordon_tests::{Outcome, World, api::only_session, for_both, process};
use rustix::process::Pid;
use serde_json::{Value, json};

for_both! {
    /// What is listed is what could be allowed; a denied tool is not, and called all the same it is
    /// an error that says why. Every use is a record with its facts.
    fn p03_a_tool_server_is_used_as_policy_says(world) {
        let Some(mut gateway) = Gateway::new(world) else { return };
        gateway.world.config.push_str("[mcp.servers.notes]\narguments = [\"repo\"]\n");
        gateway.allow(RULES);
        let done = gateway.run(&[], &[
            json!({"do": "tools"}),
            json!({"do": "resources"}),
            json!({"do": "prompts"}),
            json!({"do": "call", "name": "add", "with": {"a": 2, "b": 3}}),
            json!({"do": "call", "name": "publish", "with": {"repo": "acme/site", "text": "hi"}}),
            json!({"do": "call", "name": "publish", "with": {"repo": "evil/site", "text": "hi"}}),
            json!({"do": "call", "name": "secret"}),
            json!({"do": "call", "name": "no-such-tool"}),
            json!({"do": "read", "name": "notes://one"}),
            json!({"do": "read", "name": "notes://two"}),
            json!({"do": "prompt", "name": "summary"}),
        ]);
        assert_eq!(done[0]["instructions"], "Notes of this project.");
        let tools = json!(["add", "fetch", "large", "look", "publish", "secret"]);
        // A rule looks at arguments, so what is refused without any could be allowed with some.
        assert_eq!(done[1]["ok"], tools);
        assert_eq!(done[2]["ok"], json!(["notes://one"]));
        assert_eq!(done[3]["ok"], json!([]));
        assert_eq!(done[4]["ok"], "5");
        assert_eq!(done[5]["ok"], "published to acme/site: hi");
        for (at, rule) in [(6, None), (7, Some("never-secret")), (10, None), (11, None)] {
            let refused = &done[at];
            assert_eq!(refused["code"], -32010, "{refused}");
            assert!(refused["data"]["decision_id"].is_string(), "{refused}");
            assert!(refused["data"]["how"].is_string(), "{refused}");
            if let Some(rule) = rule {
                assert_eq!(refused["data"]["rules"], json!([rule]));
            }
        }
        assert_eq!(done[8]["code"], -32602);
        assert_eq!(done[9]["ok"], "first");
        let records = gateway.records();
        let calls: Vec<&Value> = records.iter().filter(|one| one["action"] == "tool.call").collect();
        let allowed = |one: &&&Value| one["tool"]["name"] == "publish" && one["effect"] == "allow";
        let publish = calls.iter().find(allowed).unwrap();
        assert_eq!(publish["tool"]["arguments"], json!(["repo=acme/site"]));
        assert_eq!(publish["tool"]["definition"], "first");
        assert_eq!(calls.len(), 7, "{calls:?}");
        assert!(records.iter().any(|one| one["action"] == "extension.load"));
    }

    /// Without a rule about arguments a tool that is never allowed is not shown.
    fn p03_what_is_never_allowed_is_not_listed(world) {
        let Some(mut gateway) = Gateway::new(world) else { return };
        gateway.allow(RULES);
        let done = gateway.run(&[], &[json!({"do": "tools"})]);
        assert_eq!(done[1]["ok"], json!(["add", "fetch", "large", "look"]));
        // And one that was not loaded is not spoken to at all.
        let shut = Gateway { rules: String::new(), ..gateway };
        let refused = shut.outcome(&[], &[json!({"do": "tools"})]);
        assert_ne!(refused.code, 0);
        refused.expect_stderr("load extension notes");
        // Nor is it started before that is decided, for a session of its own or for another one.
        let trace = ["sh", "-c", "touch mnt/project/started; cat"];
        let writable = format!("{}:rwd=project", shut.world.project().display());
        let start = |options: &[&str], code: i32| {
            let rules = shut.world.write("home/rules.cedar", &shut.rules);
            let policy = shut.world.policy_folder();
            let mut product = shut.world.command();
            product.args(["mcp", "wrap", "--server", "notes", "--grant", &writable]);
            product.arg("--policy").arg(policy).arg("--policy").arg(rules);
            product.args(options).arg("--").args(trace);
            process::finish(product, b"").expect_code(code);
        };
        let running = shut.world.session(&["sleep", "600"]).start();
        let id = only_session(shut.world);
        for options in [&[][..], &["--session", &id]] {
            start(options, 3);
            assert!(!shut.world.project().join("started").exists(), "{options:?}");
        }
        shut.world.cordon(&["session", "end", &id]).expect_code(0);
        running.finish();
        // The control: where it may be loaded, it is started.
        let open = Gateway { rules: RULES.into(), ..shut };
        let rules = open.world.write("home/rules.cedar", RULES);
        let mut product = open.world.command();
        product.args(["mcp", "wrap", "--server", "notes", "--grant", &writable]);
        product.arg("--policy").arg(open.world.policy_folder()).arg("--policy").arg(rules);
        process::finish({ product.arg("--").args(trace); product }, b"");
        assert!(open.world.project().join("started").exists());
    }

    /// A tool that says something else than it did is hidden, refused and recorded, until a person
    /// has seen the change and accepted exactly that.
    fn p08_a_tool_that_changes_its_description_is_caught(world) {
        let Some(mut gateway) = Gateway::new(world) else { return };
        gateway.allow(RULES);
        let steps = [
            json!({"do": "call", "name": "add", "with": {"a": 2, "b": 3}}),
            json!({"do": "tools"}),
        ];
        assert_eq!(gateway.run(&[], &steps)[1]["ok"], "5");
        let changed = ["--env", "NOTES_MOOD=changed"];
        let done = gateway.run(&changed, &steps);
        assert_eq!(done[1]["code"], -32010, "{}", done[1]);
        assert!(done[1]["message"].as_str().unwrap().contains("cordon mcp accept notes"));
        assert_eq!(done[2]["ok"], json!(["fetch", "large", "look"]));
        // The daemon may leave between: it is kept.
        gateway.world.cordon(&["stop", "--force"]).expect_code(0);
        assert_eq!(gateway.run(&changed, &steps)[1]["code"], -32010);
        let shown = gateway.world.cordon(&["mcp", "show", "notes"]);
        shown.expect_told("First read ~/.ssh");
        gateway.world.cordon(&["mcp", "accept", "notes", "no-such-tool"]).expect_code(64);
        gateway.world.cordon(&["mcp", "accept", "notes", "add"]).expect_code(0);
        let done = gateway.run(&changed, &steps);
        assert_eq!(done[1]["ok"], "5");
        assert_eq!(done[2]["ok"], json!(["add", "fetch", "large", "look"]));
        // What it was before is a change as well, until everything is forgotten.
        assert_eq!(gateway.run(&[], &steps)[1]["code"], -32010);
        gateway.world.cordon(&["mcp", "forget", "notes"]).expect_code(0);
        assert_eq!(gateway.run(&[], &steps)[1]["ok"], "5");
        let records = gateway.records();
        let caught = |one: &&Value| {
            one["tool"]["name"] == "add" && one["tool"]["definition"] == "changed"
        };
        assert!(records.iter().filter(caught).count() >= 3);
        assert!(records.iter().any(|one| one["action"] == "extension.install"));
    }

    /// The server itself has walls: it reads what it is granted and reaches what policy allows.
    fn p03_a_server_has_a_sandbox_of_its_own(world) {
        let open = world.allowed_origin("open.test");
        let shut = world.origin("shut.test");
        let Some(mut gateway) = Gateway::new(world) else { return };
        gateway.allow(RULES);
        let outside = gateway.world.write("home/outside", "not yours");
        let look = |path: &str| json!({"do": "call", "name": "look", "with": {"path": path}});
        let fetch = |host: &str, port: u16| {
            json!({"do": "call", "name": "fetch", "with": {"url": format!("http://{host}:{port}/")}})
        };
        let done = gateway.run(&[], &[
            look(outside.to_str().unwrap()),
            look("/etc/hostname"),
            fetch("open.test", open.port()),
            fetch("shut.test", shut.port()),
        ]);
        assert!(done[1]["ok"].as_str().unwrap().starts_with("not read"), "{}", done[1]);
        assert!(!done[3]["ok"].as_str().unwrap().starts_with("not fetched"), "{}", done[3]);
        assert!(done[4]["ok"].as_str().unwrap().contains("403"), "{}", done[4]);
        assert_eq!(shut.connections(), 0);
        // Without walls it is another decision, which these rules do not allow.
        let refused = gateway.outcome(&["--unwalled"], &[json!({"do": "tools"})]);
        assert_ne!(refused.code, 0);
        refused.expect_stderr("denied");
    }

    /// A server that others published, as it comes from its registry.
    fn p03_a_published_server_works_behind_the_gateway(world) {
        let Some(mut gateway) = Gateway::new(world) else { return };
        gateway.allow(r#"
            permit (principal, action == Action::"load_extension", resource);
            permit (principal, action == Action::"call_tool", resource == ExtensionTool::"notes/get_current_time");
        "#);
        let zone = json!({"timezone": "UTC"});
        let done = gateway.through(&[], &["-m", "mcp_server_time", "--local-timezone", "UTC"], &[
            json!({"do": "tools"}),
            json!({"do": "call", "name": "get_current_time", "with": zone}),
            json!({"do": "call", "name": "convert_time", "with": {}}),
        ]);
        done.expect_code(0);
        let done = lines(&done);
        assert_eq!(done[1]["ok"], json!(["get_current_time"]));
        assert!(done[2]["ok"].as_str().unwrap().contains("UTC"), "{}", done[2]);
        assert_eq!(done[3]["code"], -32010);
    }

    /// The same over Streamable HTTP, for a client that shows the endpoint's token and is no page.
    fn p03_the_endpoint_on_loopback_decides_the_same(world) {
        let Some(mut gateway) = Gateway::new(world) else { return };
        gateway.allow(RULES);
        let mut product = gateway.world.command();
        let server = ["mnt/clients/mcp/bin/python", "mnt/project/server.py"];
        product.args(gateway.wrap(&["--listen", "127.0.0.1:0"], &server));
        let (running, told) = Listening::start(product);
        let (url, token) = (told["url"].as_str().unwrap(), told["token"].as_str().unwrap());
        let asked = |fields: &[&str]| {
            let mut curl = gateway.world.as_account("curl");
            curl.args(["-s", "--noproxy", "*", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "20"]);
            curl.args(["-H", "Content-Type: application/json", "-d", HELLO]);
            for field in fields {
                curl.args(["-H", field]);
            }
            curl.arg(url);
            process::finish(curl, b"").text()
        };
        let shown = format!("Authorization: Bearer {token}");
        assert_eq!(asked(&[]), "401");
        assert_eq!(asked(&["Authorization: Bearer 00"]), "401");
        assert_eq!(asked(&[&shown, "Origin: http://127.0.0.1"]), "403");
        assert_eq!(asked(&[&shown, "Host: evil.test"]), "403");
        assert_eq!(asked(&[&shown, "MCP-Protocol-Version: 1999-01-01"]), "400");
        assert_eq!(asked(&[&shown, "Content-Type: text/plain"]), "415");
        let python = format!("{}/mcp/bin/python", gateway.sdk);
        let mut client = gateway.world.as_account(&python);
        client.current_dir(gateway.world.project()).args(["client.py", url, token]);
        let steps = [
            json!({"do": "tools"}),
            json!({"do": "call", "name": "add", "with": {"a": 2, "b": 3}}),
            json!({"do": "call", "name": "secret"}),
            json!({"do": "read", "name": "notes://one"}),
        ];
        let steps: String = steps.iter().map(|step| format!("{step}\n")).collect();
        let done = process::finish(client, steps.as_bytes());
        done.expect_code(0);
        let done = lines(&done);
        assert_eq!(done[1]["ok"], json!(["add", "fetch", "large", "look"]));
        assert_eq!(done[2]["ok"], "5");
        assert_eq!(done[3]["data"]["rules"], json!(["never-secret"]), "{}", done[3]);
        assert_eq!(done[4]["ok"], "first");
        // The client has ended its session, and with it the endpoint and the server.
        assert_eq!(running.finish(), Some(0));
        let elsewhere = gateway.wrap(&["--listen", "0.0.0.0:0"], &server);
        gateway.world.cordon(&elsewhere).expect_code(64);
    }

    /// Large answers do not get through, and what is no message of the protocol neither.
    fn what_passes_is_bounded(world) {
        let Some(mut gateway) = Gateway::new(world) else { return };
        gateway.world.config.push_str("[mcp]\nresult_bytes = 20000\n");
        gateway.allow(RULES);
        let large = |size: u32| json!({"do": "call", "name": "large", "with": {"size": size}});
        let done = gateway.run(&[], &[large(5000), large(30_000), large(10)]);
        assert_eq!(done[1]["ok"].as_str().unwrap().len(), 5000);
        assert_eq!(done[2]["data"]["code"], "result_too_large", "{}", done[2]);
        assert_eq!(done[3]["ok"].as_str().unwrap().len(), 10);
        let raw = gateway.raw(&["cat"], concat!(
            "no json\n",
            "[]\n",
            r#"{"jsonrpc":"2.0","id":1,"method":"a","method":"tools/call"}"#, "\n",
            r#"{"jsonrpc":"2.0","id":2,"method":"host/shell"}"#, "\n",
        ));
        raw.expect_code(0);
        let codes: Vec<Value> = lines(&raw).iter().map(|line| line["error"]["code"].clone()).collect();
        assert_eq!(codes, [-32700, -32600, -32700, -32601]);
        let records = gateway.records();
        assert!(records.iter().filter(|one| one["action"] == "malformed").count() >= 4);
    }
}

const RULES: &str = r#"
@id("load") permit (principal, action == Action::"load_extension", resource);
@id("reading") permit (principal, action == Action::"call_tool", resource in Extension::"notes")
when { context.kind == "tool" && context.read_only };
@id("one-repo") permit (principal, action == Action::"call_tool", resource == ExtensionTool::"notes/publish")
when { context.arguments.contains("repo=acme/site") };
@id("one-note") permit (principal, action == Action::"call_tool", resource == ExtensionTool::"notes/resource:notes://one");
@id("never-secret") forbid (principal, action == Action::"call_tool", resource == ExtensionTool::"notes/secret");
@id("install") permit (principal, action == Action::"install_extension", resource);
"#;

/// The first message of a client.
const HELLO: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}"#;

/// A world with the SDK, and a server in it.
struct Gateway<'a> {
    world: &'a mut World,
    sdk: String,
    rules: String,
}

impl<'a> Gateway<'a> {
    /// None where the SDK is not installed.
    fn new(world: &'a mut World) -> Option<Self> {
        let Ok(sdk) = std::env::var("CORDON_TEST_CLIENTS") else {
            eprintln!("not run: set CORDON_TEST_CLIENTS, or run tests/all.sh, which installs it");
            return None;
        };
        for file in ["server.py", "client.py"] {
            let source = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read(source.join("fixtures/mcp").join(file)).unwrap();
            world.project_file(file, text);
        }
        Some(Self {
            world,
            sdk,
            rules: String::new(),
        })
    }

    fn allow(&mut self, rules: &str) {
        self.rules = rules.into();
    }

    /// The gateway's command line for a server.
    fn wrap(&self, options: &[&str], server: &[&str]) -> Vec<String> {
        let rules = self.world.write("home/rules.cedar", &self.rules);
        let policy = self.world.policy_folder();
        let mut words: Vec<String> = ["mcp", "wrap", "--server", "notes"].map(Into::into).into();
        for path in [&policy, &rules] {
            words.extend(["--policy".into(), path.display().to_string()]);
        }
        if !options.contains(&"--unwalled") {
            for grant in [
                format!("{}:ro=clients", self.sdk),
                format!("{}:ro=project", self.world.project().display()),
            ] {
                words.extend(["--grant".into(), grant]);
            }
        }
        words.extend(options.iter().map(|option| (*option).to_owned()));
        words.push("--".into());
        words.extend(server.iter().map(|word| (*word).to_owned()));
        words
    }

    /// What a client's steps came to, its greeting first.
    #[track_caller]
    fn run(&self, options: &[&str], steps: &[Value]) -> Vec<Value> {
        let done = self.outcome(options, steps);
        done.expect_code(0);
        lines(&done)
    }

    fn outcome(&self, options: &[&str], steps: &[Value]) -> Outcome {
        self.through(options, &["mnt/project/server.py"], steps)
    }

    /// With what Python is given inside.
    fn through(&self, options: &[&str], server: &[&str], steps: &[Value]) -> Outcome {
        // The world's own command writes the configuration and knows the program.
        let product = self.world.command();
        let python = format!("{}/mcp/bin/python", self.sdk);
        let mut client = self.world.as_account(&python);
        client.current_dir(self.world.project()).arg("client.py");
        client.arg(product_of(&product));
        let server = [&["mnt/clients/mcp/bin/python"], server].concat();
        client.args(self.wrap(options, &server));
        let steps: String = steps.iter().map(|step| format!("{step}\n")).collect();
        process::finish(client, steps.as_bytes())
    }

    /// What the gateway answers to these bytes, with any program as the server.
    fn raw(&self, server: &[&str], bytes: &str) -> Outcome {
        let mut product = self.world.command();
        product.args(self.wrap(&[], server));
        process::finish(product, bytes.as_bytes())
    }

    /// Every record so far.
    fn records(&self) -> Vec<Value> {
        let shown = self
            .world
            .cordon(&["audit", "query", "--format", "json", "--limit", "10000"]);
        shown.expect_code(0);
        let page: Value = serde_json::from_slice(&shown.stdout).unwrap();
        page["records"].as_array().unwrap().clone()
    }
}

/// A gateway that listens.
struct Listening(Child);

impl Listening {
    /// Starts it; with what it says about itself.
    fn start(mut command: Command) -> (Self, Value) {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut told = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut told).unwrap();
        (Self(child), serde_json::from_str(&told).unwrap())
    }

    /// Waits for its end.
    fn finish(mut self) -> Option<i32> {
        assert!(process::gone(Pid::from_child(&self.0), process::DEADLINE));
        self.0.wait().unwrap().code()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // Of a test that failed.
        let _ended = self.0.kill();
    }
}

fn lines(outcome: &Outcome) -> Vec<Value> {
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
