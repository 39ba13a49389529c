use std::{
    pin::pin,
    sync::Mutex,
    task::{Context, Poll, Waker},
};

use super::*;
use crate::mcp::{Fate, Listed, definition_digest};

/// Refuses what its name says, hides what its name says, and remembers what it was asked.
#[derive(Default)]
struct Fake {
    asked: Mutex<Vec<Asked>>,
    refused: Mutex<Vec<String>>,
}

impl Judge for Fake {
    async fn decide(&self, asked: Asked) -> Ruling {
        let refused = asked.name.contains("denied");
        self.asked.lock().unwrap().push(asked);
        if refused {
            Ruling::Refused {
                reason: "no".into(),
                data: json!({"decision_id": "d"}),
            }
        } else {
            Ruling::Allowed
        }
    }

    async fn sort(&self, listed: Vec<Listed>) -> Result<Vec<Fate>, String> {
        let fate = |one: &Listed| match &one.name {
            name if name.contains("denied") => Fate::Hidden,
            name if name.contains("changed") => Fate::Changed,
            _other => Fate::Shown,
        };
        Ok(listed.iter().map(fate).collect())
    }

    async fn refuse(&self, what: String, _why: String) {
        self.refused.lock().unwrap().push(what);
    }
}

/// A connection that is asked line by line.
struct Line {
    relay: Relay,
    judge: Fake,
}

impl Line {
    fn new() -> Self {
        let limits = Limits {
            result_bytes: 1000,
            arguments: vec!["repo".into()],
        };
        Self {
            relay: Relay::new(limits),
            judge: Fake::default(),
        }
    }

    fn client(&mut self, line: Value) -> Vec<(char, Value)> {
        read(now(self
            .relay
            .from_client(&self.judge, line.to_string().as_bytes())))
    }

    fn server(&mut self, line: Value) -> Vec<(char, Value)> {
        read(now(self
            .relay
            .from_server(&self.judge, line.to_string().as_bytes())))
    }

    /// With a server that lists these tools.
    fn listing(tools: Value) -> Self {
        let mut line = Self::new();
        let sent = line.client(ask(0, "tools/list", json!({})));
        line.server(json!({"jsonrpc": "2.0", "id": sent[0].1["id"], "result": {"tools": tools}}));
        line
    }
}

fn read(out: Vec<Out>) -> Vec<(char, Value)> {
    let line = |text: &str| serde_json::from_str(text).unwrap();
    out.iter()
        .map(|out| match out {
            Out::Client(text) => ('c', line(text)),
            Out::Server(text) => ('s', line(text)),
        })
        .collect()
}

/// Nothing here waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

fn ask(id: impl Into<Value>, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id.into(), "method": method, "params": params})
}

fn tool(name: &str) -> Value {
    json!({"name": name, "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": true}})
}

#[test]
fn p03_a_call_is_decided_with_what_the_server_listed() {
    let mut line = Line::listing(json!([tool("open"), tool("denied")]));
    let sent = line.client(ask(
        "x",
        "tools/call",
        json!({
            "name": "open", "arguments": {"repo": ["b", "a"], "secret": "s"},
        }),
    ));
    assert_eq!(
        (sent[0].0, &sent[0].1["params"]["name"]),
        ('s', &json!("open"))
    );
    let asked = line.judge.asked.lock().unwrap().pop().unwrap();
    assert_eq!(asked.arguments, ["repo=a", "repo=b"]);
    assert!(asked.hints.read_only && asked.digest.is_some());
    let answered =
        line.server(json!({"jsonrpc": "2.0", "id": sent[0].1["id"], "result": {"x": 1}}));
    assert_eq!(
        answered,
        [(
            'c',
            json!({"jsonrpc": "2.0", "id": "x", "result": {"x": 1}})
        )]
    );
    let refused = line.client(ask(2, "tools/call", json!({"name": "denied"})));
    assert_eq!(refused[0].0, 'c');
    assert_eq!(refused[0].1["error"]["code"], code::REFUSED);
    assert_eq!(refused[0].1["error"]["data"]["decision_id"], "d");
    assert_eq!(refused[0].1["id"], 2);
}

#[test]
fn lists_show_what_could_be_allowed_page_by_page() {
    let mut line = Line::new();
    for (method, list, name) in [
        ("tools/list", "tools", "name"),
        ("resources/list", "resources", "uri"),
        (
            "resources/templates/list",
            "resourceTemplates",
            "uriTemplate",
        ),
        ("prompts/list", "prompts", "name"),
    ] {
        let sent = line.client(ask(1, method, json!({"cursor": "c"})));
        assert_eq!(sent[0].1["params"]["cursor"], "c", "{method}");
        let entries = json!([{name: "open"}, {name: "denied"}, {name: "changed"}]);
        let result = json!({list: entries, "nextCursor": "n", "more": 1});
        let shown = line.server(json!({"jsonrpc": "2.0", "id": sent[0].1["id"], "result": result}));
        let expected = json!({list: [{name: "open"}], "nextCursor": "n"});
        assert_eq!(shown[0].1["result"], expected, "{method}");
    }
    for bad in [
        json!([]),
        json!({"tools": {}}),
        json!({"tools": [{"title": "x"}]}),
        json!({"tools": [tool("a"), tool("a")]}),
        json!({"tools": [tool("resource:file:///etc/passwd")]}),
        json!({"tools": [], "nextCursor": 1}),
        json!({"tools": vec![json!({"name": "a"}); 2000]}),
    ] {
        let sent = line.client(ask(1, "tools/list", json!({})));
        let shown = line.server(json!({"jsonrpc": "2.0", "id": sent[0].1["id"], "result": bad}));
        assert_eq!(shown[0].1["error"]["data"]["code"], json!("not_listed"));
    }
}

#[test]
fn p08_a_call_of_a_tool_that_was_not_listed_waits_for_the_listing() {
    let mut line = Line::new();
    let first = line.client(ask(1, "tools/call", json!({"name": "late"})));
    assert_eq!(
        (first[0].0, &first[0].1["method"]),
        ('s', &json!("tools/list"))
    );
    // A second one waits with it; the id of one that waits is in use.
    assert_eq!(
        line.client(ask(2, "tools/call", json!({"name": "never"}))),
        []
    );
    let reused = line.client(ask(2, "ping", json!({})));
    assert_eq!(reused[0].1["error"]["code"], code::INVALID);
    let page = json!({"tools": [tool("other")], "nextCursor": "2"});
    let next = line.server(json!({"jsonrpc": "2.0", "id": first[0].1["id"], "result": page}));
    assert_eq!(next[0].1["params"]["cursor"], "2");
    let page = json!({"tools": [tool("late")]});
    let done = line.server(json!({"jsonrpc": "2.0", "id": next[0].1["id"], "result": page}));
    assert_eq!(
        (done[0].0, &done[0].1["params"]["name"]),
        ('s', &json!("late"))
    );
    assert_eq!(
        (done[1].0, &done[1].1["error"]["code"]),
        ('c', &json!(code::PARAMS))
    );
    assert_eq!(line.judge.asked.lock().unwrap().len(), 1);
    // From now on it is known that there is no such tool, until the server says otherwise.
    let none = line.client(ask(3, "tools/call", json!({"name": "never"})));
    assert_eq!(none[0].1["error"]["code"], code::PARAMS);
    line.server(json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}));
    let again = line.client(ask(4, "tools/call", json!({"name": "never"})));
    assert_eq!(again[0].1["method"], "tools/list");
}

#[test]
fn neither_side_answers_or_cancels_what_is_not_its_own() {
    let mut line = Line::listing(json!([tool("open")]));
    let call = line.client(ask("same", "tools/call", json!({"name": "open"})));
    let sampling = line.server(ask(
        "same",
        "sampling/createMessage",
        json!({"messages": []}),
    ));
    assert_eq!(sampling[0].0, 'c');
    let reused = line.client(ask("same", "ping", json!({})));
    assert_eq!(reused[0].1["error"]["code"], code::INVALID);
    let reused = line.server(ask("same", "roots/list", json!({})));
    assert_eq!(
        (reused[0].0, &reused[0].1["error"]["code"]),
        ('s', &json!(code::INVALID))
    );
    let ours = call[0].1["id"].clone();
    let cancel = json!({"requestId": "same", "reason": "r"});
    let cancelled = line.client(json!({
        "jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancel,
    }));
    assert_eq!(
        cancelled[0].1["params"],
        json!({"requestId": ours, "reason": "r"})
    );
    for id in [ours, json!("same"), json!(999), json!(null)] {
        assert_eq!(
            line.server(json!({"jsonrpc": "2.0", "id": id, "result": {}})),
            []
        );
    }
    let answer = json!({"jsonrpc": "2.0", "id": sampling[0].1["id"], "result": {"role": "x"}});
    let back = line.client(answer.clone());
    assert_eq!((back[0].0, &back[0].1["id"]), ('s', &json!("same")));
    assert_eq!(line.client(answer), []);
}

#[test]
fn what_is_not_known_is_not_passed_on() {
    let mut line = Line::new();
    let sent = line.client(ask(1, "tasks/result", json!({"taskId": "1"})));
    assert_eq!(
        (sent[0].0, &sent[0].1["error"]["code"]),
        ('c', &json!(code::METHOD))
    );
    let sent = line.server(ask(1, "host/shell", json!({})));
    assert_eq!(
        (sent[0].0, &sent[0].1["error"]["code"]),
        ('s', &json!(code::METHOD))
    );
    for method in ["notifications/own", "exit"] {
        let told = json!({"jsonrpc": "2.0", "method": method});
        assert_eq!(line.client(told.clone()), [], "{method}");
        assert_eq!(line.server(told), [], "{method}");
    }
    for (method, params) in [
        ("resources/read", json!({})),
        ("prompts/get", json!({"name": 1})),
        (
            "completion/complete",
            json!({"ref": {"type": "ref/other", "name": "x"}}),
        ),
    ] {
        let sent = line.client(ask(1, method, params));
        assert_eq!(sent[0].1["error"]["code"], code::PARAMS, "{method}");
    }
    let batch = read(now(line.relay.from_client(&line.judge, b"[{}]")));
    assert_eq!(batch[0].1["error"]["code"], code::INVALID);
    assert!(batch[0].1["id"].is_null());
    assert!(now(line.relay.from_server(&line.judge, b"Listening on stdio")).is_empty());
    assert_eq!(line.judge.refused.lock().unwrap().len(), 7);
}

#[test]
fn every_use_has_its_name_in_policy() {
    let mut line = Line::new();
    for (method, params, name) in [
        (
            "resources/read",
            json!({"uri": "file:///a"}),
            "resource:file:///a",
        ),
        ("resources/subscribe", json!({"uri": "x:y"}), "resource:x:y"),
        ("prompts/get", json!({"name": "p"}), "prompt:p"),
        (
            "completion/complete",
            json!({"ref": {"type": "ref/resource", "uri": "u"}}),
            "resource:u",
        ),
    ] {
        assert_eq!(line.client(ask(name, method, params))[0].0, 's');
        assert_eq!(line.judge.asked.lock().unwrap().pop().unwrap().name, name);
    }
    for (method, name) in [
        ("sampling/createMessage", "client:sampling"),
        ("elicitation/create", "client:elicitation"),
        ("roots/list", "client:roots"),
    ] {
        assert_eq!(line.server(ask(name, method, json!({})))[0].0, 'c');
        assert_eq!(line.judge.asked.lock().unwrap().pop().unwrap().name, name);
    }
    let refused = line.client(ask(1, "resources/read", json!({"uri": "denied"})));
    assert_eq!(refused[0].1["error"]["code"], code::REFUSED);
}

#[test]
fn large_answers_and_greetings_are_cut_to_what_passes() {
    let mut line = Line::listing(json!([tool("open")]));
    for (bytes, passes) in [(100, true), (2000, false)] {
        let sent = line.client(ask(1, "tools/call", json!({"name": "open"})));
        let result = json!({"content": "x".repeat(bytes)});
        let got = line.server(json!({"jsonrpc": "2.0", "id": sent[0].1["id"], "result": result}));
        assert_eq!(got[0].1.get("result").is_some(), passes, "{bytes}");
        assert_eq!(got[0].1.get("error").is_none(), passes, "{bytes}");
        // The same bound holds for what the server says and asks by itself.
        let data = json!({"data": "x".repeat(bytes)});
        let method = "notifications/message";
        let told = json!({"jsonrpc": "2.0", "method": method, "params": data});
        assert_eq!(!line.server(told).is_empty(), passes, "{bytes}");
        let asked = json!({"jsonrpc": "2.0", "id": bytes, "method": "ping", "params": data});
        let to = if passes { 'c' } else { 's' };
        assert_eq!(line.server(asked)[0].0, to, "{bytes}");
    }
    assert_eq!(
        *line.judge.refused.lock().unwrap(),
        ["notifications/message", "ping"]
    );
    let hello = ask(
        2,
        "initialize",
        json!({"capabilities": {"roots": {}, "tasks": {}}}),
    );
    let sent = line.client(hello.clone());
    assert_eq!(sent[0].1["params"]["capabilities"], json!({"roots": {}}));
    let result = json!({"capabilities": {"tools": {}, "tasks": {}}, "instructions": "be kind"});
    let got = line.server(json!({"jsonrpc": "2.0", "id": sent[0].1["id"], "result": result}));
    let expected = json!({"capabilities": {"tools": {}}, "instructions": "be kind"});
    assert_eq!(got[0].1["result"], expected);
    assert_eq!(line.client(hello)[0].1["error"]["code"], code::INVALID);
}

#[test]
fn a_later_revision_is_told_to_speak_this_one() {
    let mut line = Line::listing(json!([tool("open")]));
    let found = line.client(ask(1, "server/discover", json!({})));
    assert_eq!(
        (found[0].0, &found[0].1["error"]["code"]),
        ('c', &json!(code::METHOD))
    );
    assert!(line.judge.refused.lock().unwrap().is_empty());
    let later =
        json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28", "progressToken": 1});
    let call = json!({"name": "open", "_meta": later});
    for (kind, passes) in [("complete", true), ("input_required", false)] {
        let sent = line.client(ask(1, "tools/call", call.clone()));
        assert_eq!(sent[0].1["params"]["_meta"], json!({"progressToken": 1}));
        let result = json!({"resultType": kind});
        let got = line.server(json!({"jsonrpc": "2.0", "id": sent[0].1["id"], "result": result}));
        assert_eq!(got[0].1.get("result").is_some(), passes, "{kind}");
    }
}

#[test]
fn whoever_waits_is_told_that_the_server_is_gone() {
    let mut line = Line::new();
    line.client(ask(1, "ping", json!({})));
    line.client(ask("b", "tools/call", json!({"name": "x"})));
    let told = read(line.relay.server_is_gone());
    let ids: Vec<&Value> = told.iter().map(|(_, message)| &message["id"]).collect();
    assert_eq!(ids, [&json!(1), &json!("b")]);
    assert!(
        told.iter()
            .all(|(to, message)| *to == 'c' && message["error"].is_object())
    );
    assert!(line.relay.server_is_gone().is_empty());
}

/// What a server says beside number and text of an error could ask the user for something.
#[test]
fn p03_a_servers_error_is_its_number_and_its_text() {
    let mut line = Line::listing(json!([tool("open")]));
    let elicited = json!({"elicitations": [{"url": "https://evil.test/"}]});
    for (error, number, text) in [
        (
            json!({"code": 7, "message": "busy", "data": elicited}),
            7,
            "busy",
        ),
        (
            json!({"code": -32042, "message": "go there", "data": elicited}),
            code::INTERNAL,
            "not passed on",
        ),
        (
            json!({"code": -32042, "message": "go there"}),
            code::INTERNAL,
            "not passed on",
        ),
        (
            json!({"message": "no number"}),
            code::INTERNAL,
            "not passed on",
        ),
        (
            json!({"code": 1, "message": {"a": 1}}),
            code::INTERNAL,
            "not passed on",
        ),
    ] {
        let sent = line.client(ask(1, "tools/call", json!({"name": "open"})));
        let got = line.server(json!({"jsonrpc": "2.0", "id": sent[0].1["id"], "error": error}));
        let told = got[0].1["error"].as_object().unwrap();
        assert_eq!((told.len(), &told["code"]), (2, &json!(number)), "{error}");
        assert!(told["message"].as_str().unwrap().contains(text), "{told:?}");
    }
}

/// What goes to the server is what the digest was made of: byte for byte the same arguments, and
/// nothing beside them but where progress is told.
#[test]
fn p04_what_is_sent_is_what_was_decided() {
    let mut line = Line::listing(json!([tool("open")]));
    let arguments = r#"{"b":1,"a":[{"z":null,"y":"\u00e9"}],"n":9007199254740991,"f":1.5}"#;
    let given: Value = serde_json::from_str(arguments).unwrap();
    let call = json!({"name": "open", "arguments": given, "task": {"ttl": 1}, "extra": "x",
        "_meta": {"progressToken": "p", "other": "y"}});
    let sent = line.client(ask(1, "tools/call", call));
    let params = &sent[0].1["params"];
    let asked = line.judge.asked.lock().unwrap().pop().unwrap();
    assert_eq!(asked.input, Some(definition_digest(&params["arguments"])));
    assert_eq!(asked.input, Some(definition_digest(&given)));
    assert_eq!(params["arguments"].to_string(), given.to_string());
    assert_eq!(params["_meta"], json!({"progressToken": "p"}));
    let keys: Vec<&String> = params.as_object().unwrap().keys().collect();
    assert_eq!(keys.len(), 3, "{keys:?}");
}

/// A digest cannot tell whole numbers apart that are too large to be exact.
#[test]
fn p04_arguments_are_an_object_with_exact_whole_numbers() {
    let mut line = Line::listing(json!([tool("open")]));
    for (arguments, taken) in [
        (r#"{"n":9007199254740991}"#, true),
        (r#"{"n":-9007199254740991}"#, true),
        (r#"{"n":0.1}"#, true),
        (r"{}", true),
        (r#"{"n":9007199254740992}"#, false),
        (r#"{"n":-9007199254740992}"#, false),
        (r#"{"n":[{"deep":18446744073709551615}]}"#, false),
        (r"[]", false),
        (r#""text""#, false),
        (r"null", false),
    ] {
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"open","arguments":{arguments}}}}}"#
        );
        let sent = read(now(line.relay.from_client(&line.judge, text.as_bytes())));
        assert_eq!(sent[0].0 == 's', taken, "{arguments}: {sent:?}");
        if taken {
            let id = &sent[0].1["id"];
            line.server(json!({"jsonrpc": "2.0", "id": id, "result": {}}));
        } else {
            assert_eq!(sent[0].1["error"]["code"], code::PARAMS);
        }
    }
    assert_eq!(line.judge.asked.lock().unwrap().len(), 4);
    assert_eq!(line.judge.refused.lock().unwrap().len(), 6);
}

/// Nothing is recorded as allowed that has no place any more: it is refused, and not decided.
#[test]
fn p03_what_cannot_be_sent_is_not_allowed() {
    let mut line = Line::listing(json!([tool("open")]));
    let call = |id: usize| ask(id, "tools/call", json!({"name": "open"}));
    for id in 0..pending::MOST {
        assert_eq!(line.client(call(id))[0].0, 's');
    }
    let read = ask("r", "resources/read", json!({"uri": "x:y"}));
    for one in [call(pending::MOST), read] {
        let refused = line.client(one);
        assert_eq!(refused[0].0, 'c');
        assert_eq!(refused[0].1["error"]["code"], code::INTERNAL);
    }
    assert_eq!(line.judge.asked.lock().unwrap().len(), pending::MOST);
    assert_eq!(
        line.judge.refused.lock().unwrap().as_slice(),
        ["open", "resource:x:y"]
    );
}

#[test]
fn p03_what_cannot_be_asked_of_the_client_is_not_allowed() {
    let mut line = Line::new();
    let sampling = |id: usize| ask(id, "sampling/createMessage", json!({"messages": []}));
    assert_eq!(line.server(sampling(0))[0].0, 'c');
    let refused = |line: &mut Line, one: Value| {
        let sent = line.server(one);
        assert_eq!(sent[0].0, 's');
        assert_eq!(sent[0].1["error"]["code"], code::INVALID);
    };
    // One with this id waits.
    refused(&mut line, sampling(0));
    assert_eq!(line.judge.asked.lock().unwrap().len(), 1);
    for id in 1..pending::MOST {
        assert_eq!(line.server(sampling(id))[0].0, 'c');
    }
    refused(&mut line, sampling(pending::MOST));
    refused(&mut line, ask("r", "roots/list", json!({})));
    assert_eq!(line.judge.asked.lock().unwrap().len(), pending::MOST);
    assert_eq!(
        line.judge.refused.lock().unwrap().as_slice(),
        [
            "sampling/createMessage",
            "sampling/createMessage",
            "roots/list"
        ]
    );
}
