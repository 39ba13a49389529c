//! The server by the protocol, over a connection in memory.

use std::{collections::BTreeMap, path::Path, thread, time::Duration};

use lsp_server::{Connection, Message, Notification, Request, RequestId};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::serve_on;

/// An editor with a folder open.
struct Editor {
    connection: Connection,
    server: Option<thread::JoinHandle<Result<(), String>>>,
    folder: TempDir,
    requests: i32,
    diagnostics: BTreeMap<String, Vec<Value>>,
}

impl Editor {
    fn start(files: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let (ours, theirs) = Connection::memory();
        let server = thread::spawn(move || serve_on(&theirs, None).map_err(|e| e.to_string()));
        let mut editor = Self {
            connection: ours,
            server: Some(server),
            folder,
            requests: 0,
            diagnostics: BTreeMap::new(),
        };
        let answer = editor.ask("initialize", json!({ "capabilities": {} }));
        assert_eq!(answer["serverInfo"]["name"], "cordon");
        editor.tell("initialized", json!({}));
        editor
    }

    fn uri(&self, name: &str) -> String {
        format!("file://{}", self.folder.path().join(name).display())
    }

    fn open(&mut self, name: &str, text: &str) {
        let document = json!({
            "uri": self.uri(name), "languageId": "cedar", "version": 1, "text": text,
        });
        self.tell("textDocument/didOpen", json!({ "textDocument": document }));
    }

    fn change(&mut self, name: &str, text: &str) {
        let params = json!({
            "textDocument": { "uri": self.uri(name), "version": 2 },
            "contentChanges": [{ "text": text }],
        });
        self.tell("textDocument/didChange", params);
    }

    fn tell(&self, method: &str, params: Value) {
        let message = Notification::new(method.into(), params);
        self.connection.sender.send(message.into()).unwrap();
    }

    /// Sends a request and takes everything until its answer.
    fn ask(&mut self, method: &str, params: Value) -> Value {
        match self.ask_whole(method, params) {
            Ok(result) => result,
            Err(error) => panic!("{method}: {error}"),
        }
    }

    fn ask_whole(&mut self, method: &str, params: Value) -> Result<Value, String> {
        self.requests += 1;
        let id = RequestId::from(self.requests);
        let request = Request::new(id.clone(), method.into(), params);
        self.connection.sender.send(request.into()).unwrap();
        loop {
            match self.next() {
                Message::Response(response) if response.id == id => {
                    return response.response_result.map_err(|error| error.message);
                }
                message => self.take(message),
            }
        }
    }

    fn next(&self) -> Message {
        let patience = Duration::from_secs(60);
        self.connection.receiver.recv_timeout(patience).unwrap()
    }

    fn take(&mut self, message: Message) {
        if let Message::Notification(notification) = message {
            let uri = notification.params["uri"].as_str().unwrap().to_owned();
            let list = notification.params["diagnostics"].as_array().unwrap();
            self.diagnostics.insert(uri, list.clone());
        }
    }

    /// Codes of what is wrong with a file, once the server said something new about it.
    fn wrong_with(&mut self, name: &str) -> Vec<String> {
        let uri = self.uri(name);
        self.diagnostics.remove(&uri);
        while !self.diagnostics.contains_key(&uri) {
            let message = self.next();
            self.take(message);
        }
        let severe = self.diagnostics[&uri].iter().filter(|d| d["severity"] != 3);
        severe
            .map(|d| d["code"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The place of `needle` in `text`.
    fn at(&self, name: &str, text: &str, needle: &str) -> Value {
        let offset = text.find(needle).unwrap();
        let before = &text[..offset];
        let line = before.matches('\n').count();
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let character = before[start..].encode_utf16().count() + 1;
        json!({
            "textDocument": { "uri": self.uri(name) },
            "position": { "line": line, "character": character },
        })
    }

    fn end(mut self) {
        self.ask("shutdown", Value::Null);
        self.tell("exit", Value::Null);
        self.server.take().unwrap().join().unwrap().unwrap();
    }
}

const FINE: &str = "@id(\"a\")\npermit (principal, action == Action::\"connect\", \
                    resource in HostGroup::\"g\")\nwhen { context.port == 443 };\n";
const GROUPS: &str = "[host_groups]\ng = [\"a.test\"]\n";

#[test]
fn mistakes_come_while_writing_and_go_when_they_are_corrected() {
    let mut editor = Editor::start(&[("hosts.toml", GROUPS)]);
    editor.open("a.cedar", &FINE.replace("Host", "Hots"));
    assert_eq!(editor.wrong_with("a.cedar"), ["CP002"]);
    editor.change("a.cedar", "permit (");
    assert_eq!(editor.wrong_with("a.cedar"), ["CP001"]);
    editor.change("a.cedar", FINE);
    assert_eq!(editor.wrong_with("a.cedar"), [""; 0]);
    editor.end();
}

#[test]
fn what_is_open_counts_before_what_is_saved() {
    let mut editor = Editor::start(&[("hosts.toml", GROUPS), ("a.cedar", FINE)]);
    editor.open("a.cedar", FINE);
    // The rule names a group that the open data file has lost.
    editor.open("hosts.toml", "[host_groups]\nother = [\"a.test\"]\n");
    assert_eq!(editor.wrong_with("a.cedar"), ["CP005"]);
    let uri = editor.uri("hosts.toml");
    editor.tell(
        "textDocument/didClose",
        json!({ "textDocument": { "uri": uri } }),
    );
    assert_eq!(editor.wrong_with("a.cedar"), [""; 0]);
    editor.end();
}

#[test]
fn hover_completion_definition_symbols_and_formatting_answer() {
    let mut editor = Editor::start(&[("hosts.toml", GROUPS)]);
    let text = format!("// \u{1f600}\n{FINE}");
    editor.open("a.cedar", &text);

    let place = editor.at("a.cedar", &text, "connect");
    let hover = editor.ask("textDocument/hover", place);
    assert!(
        hover["contents"]["value"]
            .as_str()
            .unwrap()
            .contains("not looked into"),
        "{hover}"
    );

    let place = editor.at("a.cedar", &text, "\"g\"");
    let proposals = editor.ask("textDocument/completion", place.clone());
    assert_eq!(proposals[0]["label"], "g", "{proposals}");

    let found = editor.ask("textDocument/definition", place);
    assert_eq!(found["uri"], editor.uri("hosts.toml"));
    assert_eq!(
        found["range"]["start"],
        json!({ "line": 1, "character": 0 })
    );

    let document = json!({ "textDocument": { "uri": editor.uri("a.cedar") } });
    let symbols = editor.ask("textDocument/documentSymbol", document.clone());
    assert_eq!(
        (&symbols[0]["name"], &symbols[0]["detail"]),
        (&json!("a"), &json!("permit"))
    );
    assert_eq!(
        symbols[0]["selectionRange"]["start"],
        json!({ "line": 1, "character": 4 })
    );

    let mut params = document;
    params["options"] = json!({ "tabSize": 4, "insertSpaces": true });
    let edits = editor.ask("textDocument/formatting", params);
    let formatted = edits[0]["newText"].as_str().unwrap();
    assert!(
        formatted.starts_with("// \u{1f600}\n@id(\"a\")\npermit ("),
        "{formatted}"
    );
    editor.end();
}

const SHOP: [(&str, &str); 4] = [
    ("bundle.toml", "name = \"shop\"\n"),
    (
        "app/shop.cedarschema",
        "namespace Shop {\n  entity User = { role?: String };\n  entity Record = { owner: User };\n  \
         action view, edit appliesTo { principal: [User], resource: [Record], context: { soft?: Bool } };\n}",
    ),
    (
        "app/entities.json",
        r#"[{"uid": {"type": "Shop::User", "id": "alice"}, "attrs": {}, "parents": []}]"#,
    ),
    (
        "app/authzen.toml",
        "namespace = \"Shop\"\n[types.user]\nentity = \"User\"\n[types.record]\nentity = \"Record\"\n\
         [actions.view]\naction = \"view\"\n",
    ),
];

#[test]
fn an_application_is_held_against_its_own_schema() {
    let rule = "@id(\"own\") permit (principal == Shop::User::\"alice\", action == \
                Shop::Action::\"view\", resource) when { resource.owner == principal };\n";
    let mut editor = Editor::start(&SHOP);
    editor.open(
        "app/a.cedar",
        &rule.replace("resource.owner", "resource.landlord"),
    );
    assert_eq!(editor.wrong_with("app/a.cedar").len(), 1);
    editor.change("app/a.cedar", rule);
    assert_eq!(editor.wrong_with("app/a.cedar"), [""; 0]);
    // The schema is a part of it, also while it is open.
    let (name, schema) = SHOP[1];
    editor.open(name, &schema.replace("owner", "holder"));
    assert_eq!(editor.wrong_with("app/a.cedar").len(), 1);
    editor.change(name, schema);
    assert_eq!(editor.wrong_with("app/a.cedar"), [""; 0]);

    let labels = |editor: &mut Editor, marked: &str| -> Vec<String> {
        let at = marked.find('|').unwrap();
        let text = marked.replace('|', "");
        editor.change("app/a.cedar", &text);
        let place = json!({
            "textDocument": { "uri": editor.uri("app/a.cedar") },
            "position": { "line": 0, "character": at },
        });
        let found = editor.ask("textDocument/completion", place);
        let label = |one: &Value| one["label"].as_str().unwrap().to_owned();
        found.as_array().unwrap().iter().map(label).collect()
    };
    assert_eq!(
        labels(&mut editor, "permit (principal, action == Shop::|"),
        ["Action", "Record", "User"]
    );
    assert_eq!(
        labels(&mut editor, "permit (principal, action == Shop::Action::|"),
        ["\"edit\"", "\"view\""]
    );
    assert_eq!(
        labels(
            &mut editor,
            "permit (principal == Shop::User::\"|\", action, resource);"
        ),
        ["alice"]
    );
    let when = "permit (principal, action == Shop::Action::\"view\", resource) when { ";
    assert_eq!(labels(&mut editor, &format!("{when}resource.|")), ["owner"]);
    assert_eq!(labels(&mut editor, &format!("{when}context.|")), ["soft"]);
    assert_eq!(labels(&mut editor, &format!("{when}principal.|")), ["role"]);
    assert!(labels(&mut editor, "|").contains(&"Shop::Record".to_owned()));
    assert_eq!(labels(&mut editor, "@|"), ["id", "reason"]);
    editor.end();
}

#[test]
fn a_wrong_spelling_can_be_corrected_by_a_key() {
    let text = "@id(\"a\")\npermit (principal, action, resource == Host::\"A.test\");\n";
    let mut editor = Editor::start(&[]);
    editor.open("a.cedar", text);
    assert_eq!(editor.wrong_with("a.cedar"), ["CP004"]);
    let uri = editor.uri("a.cedar");
    let all = json!({
        "textDocument": { "uri": uri },
        "range": { "start": { "line": 0, "character": 0 }, "end": { "line": 9, "character": 0 } },
        "context": { "diagnostics": [] },
    });
    let actions = editor.ask("textDocument/codeAction", all.clone());
    let edit = &actions[0]["edit"]["changes"][&uri][0];
    assert_eq!(edit["newText"], "Host::\"a.test\"");
    assert_eq!(
        edit["range"]["start"],
        json!({ "line": 1, "character": 39 })
    );
    // What changed meanwhile is not overwritten.
    editor.change("a.cedar", &text.replace("A.test", "B.test"));
    let actions = editor.ask("textDocument/codeAction", all);
    assert_eq!(actions, json!([]), "{actions}");
    editor.end();
}

#[test]
fn strange_messages_get_errors_and_the_server_goes_on() {
    let mut editor = Editor::start(&[]);
    let unknown = editor.ask_whole("cordon/nothing", Value::Null);
    assert!(unknown.is_err());
    let wrong = editor.ask_whole("textDocument/hover", json!({ "textDocument": 7 }));
    assert!(wrong.is_err());
    editor.tell("textDocument/didOpen", json!({ "nonsense": true }));
    editor.tell("$/cancelRequest", json!({ "id": 1 }));
    // A document that is no file of this machine, and one far too large.
    let strange = json!({ "uri": "untitled:1", "languageId": "cedar", "version": 1, "text": "x" });
    editor.tell("textDocument/didOpen", json!({ "textDocument": strange }));
    editor.open("b.cedar", &" ".repeat(5 << 20));
    editor.open("a.cedar", &"(".repeat(200_000));
    assert_eq!(editor.wrong_with("a.cedar"), ["CP003"]);
    let nothing = json!({ "textDocument": { "uri": "untitled:1" }, "position": { "line": 9, "character": 9 } });
    assert_eq!(editor.ask("textDocument/hover", nothing), Value::Null);
    assert!(
        !Path::new(&editor.folder.path().join("a.cedar")).exists(),
        "nothing is written"
    );
    editor.end();
}
