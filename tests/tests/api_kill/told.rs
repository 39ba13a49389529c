//! A session to try calls in, and what the API, the log and the disk say of it.

use std::cell::RefCell;

use cordon_tests::{
    World,
    api::{ask, curl, hosted, send},
};
use serde_json::{Value, json};

/// A connector with one scope.
pub const TRACKER: &str = r#"
[connectors.tracker]
description = "Issues"
kind = "mcp"
[connectors.tracker.scopes]
"read" = "Read issues"
"#;

const RULES: &str = r#"
permit (principal, action in [Action::"enable_connector", Action::"use_scope",
    Action::"load_extension", Action::"enable_browser"], resource);
"#;

/// A session to try things in.
pub struct Told<'a> {
    pub world: &'a World,
    pub id: String,
    /// How many tools were asked for, so that each is another one.
    asked: RefCell<u32>,
}

impl<'a> Told<'a> {
    pub fn new(world: &'a World) -> Self {
        let rules = world.write("home/rules.cedar", RULES).display().to_string();
        for version in ["1", "2"] {
            let manifest = json!({
                "manifest_version": "0.4", "name": "notes", "version": version, "description": "x",
                "author": {"name": "x"}, "server": {"type": "python", "entry_point": "server.py",
                    "mcp_config": {"command": "python3", "args": ["server.py"]}},
            });
            world.folder(format!("home/content-{version}"));
            world.write(
                format!("home/content-{version}/manifest.json"),
                manifest.to_string(),
            );
            world.write(format!("home/content-{version}/server.py"), "");
        }
        let id = hosted(world, &[&rules]);
        Self {
            world,
            id,
            asked: RefCell::new(0),
        }
    }

    /// What is decided or recorded, and changes nothing else.
    pub fn questions(&self) -> Vec<(&'static str, String, String)> {
        let id = &self.id;
        let evaluation = json!({
            "subject": {"type": "Session", "id": id}, "action": {"name": "connect"},
            "resource": {"type": "Host", "id": "a.test"}, "context": {"port": 443},
        });
        let listing =
            json!({"listed": [{"kind": "tool", "name": "add", "definition": {"name": "add"}}]});
        let hook = json!({"session_id": "a", "cwd": "/", "hook_event_name": "PreToolUse", "tool_name": "Read", "tool_input": {}});
        let of = |rest: &str| format!("/v1/sessions/{id}/{rest}");
        let texts = [
            (
                "POST /access/v1/evaluation",
                "/access/v1/evaluation".to_owned(),
                evaluation.clone(),
            ),
            (
                "POST /access/v1/evaluations",
                "/access/v1/evaluations".to_owned(),
                evaluation.clone(),
            ),
            (
                "POST /access/v1/search/subject",
                "/access/v1/search/subject".to_owned(),
                evaluation.clone(),
            ),
            (
                "POST /access/v1/search/resource",
                "/access/v1/search/resource".to_owned(),
                evaluation.clone(),
            ),
            (
                "POST /access/v1/search/action",
                "/access/v1/search/action".to_owned(),
                evaluation,
            ),
            (
                "POST /v1/hooks/claude-code/pre-tool-use",
                "/v1/hooks/claude-code/pre-tool-use".to_owned(),
                hook,
            ),
            (
                "POST /v1/sessions/{id}/browser/actions",
                of("browser/actions"),
                json!({"url": "https://a.test", "kind": "click"}),
            ),
            (
                "POST /v1/sessions/{id}/browser/navigations",
                of("browser/navigations"),
                json!({"url": "https://a.test"}),
            ),
            (
                "POST /v1/sessions/{id}/connectors/{name}/uses",
                of("connectors/tracker/uses"),
                json!({"scope": "read"}),
            ),
            (
                "POST /v1/sessions/{id}/extensions/{name}/permissions",
                of("extensions/notes/permissions"),
                json!({"permission": "x"}),
            ),
            (
                "POST /v1/sessions/{id}/mcp/{server}/decisions",
                of("mcp/tools/decisions"),
                json!({"kind": "tool", "name": "add"}),
            ),
            (
                "POST /v1/sessions/{id}/mcp/{server}/listing",
                of("mcp/tools/listing"),
                listing,
            ),
            (
                "POST /v1/sessions/{id}/mcp/{server}/refusals",
                of("mcp/tools/refusals"),
                json!({"what": "x", "why": "y"}),
            ),
        ];
        texts
            .map(|(operation, path, body)| (operation, path, body.to_string()))
            .into()
    }

    /// Words of a request that nobody has made yet, and that waits for an approval.
    pub fn tool(&self) -> String {
        *self.asked.borrow_mut() += 1;
        format!("t{}", self.asked.borrow())
    }

    /// The approval that a new tool waits for, given where that is said.
    pub fn approval(&self, given: bool) -> (String, String) {
        let tool = self.tool();
        let told = ask(self.world, &self.id, &["call", &tool, "of", "issues"]);
        let approval = told["approval"]["id"].as_str().unwrap().to_owned();
        if given {
            let said = send(
                self.world,
                "POST",
                &format!("/v1/approvals/{approval}"),
                "{\"answer\": \"approve\"}",
            );
            assert_eq!(said.0, 200, "{}", said.1);
        }
        (tool, approval)
    }

    pub fn get(&self, path: &str) -> (u16, Value) {
        curl(self.world, path, &[])
    }

    pub fn at(&self, rest: &str) -> String {
        format!("/v1/sessions/{}/{rest}", self.id)
    }

    /// Records of the session, or of administration, that are so.
    pub fn count(&self, of: &str, is: impl Fn(&Value) -> bool) -> usize {
        self.world
            .records(of)
            .iter()
            .filter(|record| is(record))
            .count()
    }

    /// Records whose message begins so.
    pub fn said(&self, words: &str) -> usize {
        let begins = |record: &Value| {
            let message = record["message"].as_str();
            message.is_some_and(|message| message.starts_with(words))
        };
        self.count(&self.id, begins)
    }

    pub fn allowed(&self, action: &str) -> usize {
        self.count(&self.id, |record| {
            record["action"] == action && record["effect"] == "allow"
        })
    }

    /// The installed extension.
    pub fn notes(&self) -> Value {
        self.get("/v1/extensions/notes").1
    }

    pub fn installed(&self, version: &str, update: bool) -> Value {
        let path = self.world.home().join(format!("content-{version}"));
        let (code, made) = send(
            self.world,
            "POST",
            "/v1/extensions",
            &json!({"path": path, "update": update}).to_string(),
        );
        assert_eq!(code, 201, "{made}");
        made
    }

    pub fn without_extension(&self) {
        let code = curl(self.world, "/v1/extensions/notes", &["-X", "DELETE"]).0;
        assert!(matches!(code, 204 | 404), "{code}");
    }

    /// Decisions about installing, approving and removing: they are asked of the same action.
    pub fn about_extensions(&self) -> usize {
        let words = [
            "audit",
            "query",
            "--format",
            "json",
            "--limit",
            "1000",
            "--action",
            "extension.install",
        ];
        let found: Value = serde_json::from_str(&self.world.cordon(&words).text()).unwrap();
        found["records"].as_array().unwrap().len()
    }

    pub fn loaded(&self) -> bool {
        self.get(&self.at("mcp/tools")).0 == 200
    }

    /// What the server `tools` lists is taken down, with another definition than before.
    pub fn listed(&self) {
        if !self.loaded() {
            assert_eq!(send(self.world, "POST", &self.at("mcp/tools"), "").0, 200);
        }
        let definition = json!({"name": "add", "description": self.tool()});
        let body = json!({"listed": [{"kind": "tool", "name": "add", "definition": definition}]});
        let (code, told) = send(
            self.world,
            "POST",
            &self.at("mcp/tools/listing"),
            &body.to_string(),
        );
        assert_eq!(code, 200, "{told}");
    }

    pub fn tools(&self) -> Value {
        self.get("/v1/mcp/tools").1["tools"][0].clone()
    }

    pub fn connected(&self) -> bool {
        let (code, listed) = self.get(&self.at("connectors"));
        assert_eq!(code, 200, "{listed}");
        listed[0]["enabled"]
            .as_array()
            .is_some_and(|scopes| !scopes.is_empty())
    }
}
