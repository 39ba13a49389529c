//! Credentials: the client's own taken off, the node's put in, placeholders kept where they belong.
//! Over plain HTTP and inside TLS alike, because it is one way.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::Request;
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::{
    common::{
        House, Origin, ask, bounded, decisions, flows, house_under, message, socks_name, status,
    },
    inspect::house::{Inside, Version, empty},
};

const SECRET: &str = "r3al-forge-t0ken-value";

const RULES: &str = r#"
@id("own") @credential("forge") @strip("client")
permit (principal, action == Action::"http_read", resource == Host::"allowed.example")
when { context.path like "/own/*" };
@id("named") @credential("named")
permit (principal, action == Action::"http_read", resource == Host::"allowed.example")
when { context.path like "/named/*" };
@id("query") @credential("query")
permit (principal, action == Action::"http_read", resource == Host::"allowed.example")
when { context.path like "/query/*" };
@id("basic") @credential("basic")
permit (principal, action == Action::"http_read", resource == Host::"allowed.example")
when { context.path like "/basic/*" };
@id("passed") @credential("passed")
permit (principal, action == Action::"http_read", resource == Host::"allowed.example")
when { context.path like "/passed/*" };
@id("unknown") @credential("nowhere")
permit (principal, action == Action::"http_read", resource == Host::"allowed.example")
when { context.path like "/unknown/*" };
@id("secure") @credential("secure")
permit (principal, action == Action::"http_read", resource == Host::"allowed.example")
when { context.path like "/secure/*" };
@id("strip") @strip("client")
permit (principal, action == Action::"http_read", resource == Host::"allowed.example")
when { context.path like "/strip/*" };
@id("open")
permit (principal, action in Action::"http", resource == Host::"allowed.example")
when { context.path like "/open/*" && !context.credential };
@id("else") @credential("forge")
permit (principal, action == Action::"http_read", resource == Host::"lab.example");
"#;

fn config(folder: &Path) -> String {
    let file = folder.join("token");
    std::fs::write(&file, format!("{SECRET}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let one = |name: &str, place: &str, further: &str| {
        format!(
            "[[credentials]]\nname = {name:?}\nhosts = [\"allowed.example\"]\nas = {place:?}\n\
             from = \"file:{}\"\n{further}\n",
            file.display()
        )
    };
    [
        one(
            "forge",
            "bearer",
            "plain = true\nenv_in_session = \"FORGE_TOKEN\"\npath = \"/own\"",
        ),
        one(
            "named",
            "header:X-Api-Key",
            "plain = true\nenv_in_session = \"NAMED_KEY\"",
        ),
        one(
            "query",
            "query:key",
            "plain = true\nenv_in_session = \"QUERY_KEY\"",
        ),
        one(
            "basic",
            "basic:x-token",
            "plain = true\nenv_in_session = \"BASIC_TOKEN\"",
        ),
        one("secure", "bearer", ""),
        one("passed", "bearer", "plain = true\necho = \"allow\""),
    ]
    .concat()
}

/// A session, its origin, and its placeholders by variable.
struct Scene {
    house: House,
    origin: Origin,
    _folder: tempfile::TempDir,
}

impl Scene {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            house: house_under(RULES, &config(folder.path())),
            origin: Origin::start().await,
            _folder: folder,
        }
    }

    fn placeholder(&self, variable: &str) -> String {
        placeholder(&self.house, variable)
    }

    /// A request with these fields; the status, and the answer's body.
    async fn ask(&self, host: &str, target: &str, fields: &str, body: &str) -> (u16, String) {
        let authority = format!("{host}:{}", self.origin.port());
        let method = if body.is_empty() { "GET" } else { "POST" };
        let length = if body.is_empty() {
            String::new()
        } else {
            format!("content-length: {}\r\n", body.len())
        };
        let request = format!(
            "{method} http://{authority}{target} HTTP/1.1\r\nhost: {authority}\r\n{fields}{length}\r\n{body}"
        );
        let (status, _, answer) = ask(self.house.http, request.as_bytes()).await;
        (status, answer)
    }

    async fn end(self) -> Vec<Value> {
        let records = self.house.end().await;
        no_secret(&records);
        records
    }
}

fn placeholder(house: &House, variable: &str) -> String {
    let all = house.egress.placeholders(&house.session());
    let found = all.iter().find(|(name, _)| name == variable);
    found.unwrap().1.clone()
}

/// A08: the value is in no record, in no form.
fn no_secret(records: &[Value]) {
    let text = serde_json::to_string(records).unwrap();
    for form in [
        SECRET.to_owned(),
        STANDARD.encode(SECRET),
        STANDARD.encode(format!("x-token:{SECRET}")),
    ] {
        assert!(!text.contains(&form), "{text}");
    }
}

#[tokio::test]
async fn n21_the_clients_credentials_go_and_the_nodes_come_and_none_is_recorded() {
    let mut scene = Scene::start().await;
    let forge = scene.placeholder("FORGE_TOKEN");
    for sent in [
        String::new(),
        "authorization: Bearer the-clients-own\r\ncookie: session=1\r\n".into(),
        format!("authorization: Bearer {forge}\r\n"),
        format!(
            "authorization: Basic {}\r\n",
            STANDARD.encode(format!("me:{forge}"))
        ),
    ] {
        let (status, answer) = scene.ask("allowed.example", "/own/a", &sent, "").await;
        assert_eq!(status, 200, "{sent} {answer}");
        let head = scene.origin.head().await.to_ascii_lowercase();
        assert!(
            head.contains(&format!("authorization: bearer {SECRET}\r\n")),
            "{head}"
        );
        assert_eq!(head.matches("authorization:").count(), 1, "{head}");
        for gone in ["the-clients-own", "cookie", "placeholder"] {
            assert!(!head.contains(gone), "{head}");
        }
    }
    let records = scene.end().await;
    let allowed = decisions(&records, "allow");
    assert_eq!(allowed.len(), 4);
    assert_eq!(
        allowed[0]["obligations"],
        serde_json::json!(["credential=forge", "strip=client"])
    );
    // A placeholder is not the client's own; its own is.
    let own: Vec<_> = allowed
        .iter()
        .map(|r| r["http"]["credential"] == true)
        .collect();
    assert_eq!(own, [false, true, false, false]);
}

#[tokio::test]
async fn n21_each_place_gets_its_value() {
    let mut scene = Scene::start().await;
    let named = scene.placeholder("NAMED_KEY");
    let query = scene.placeholder("QUERY_KEY");
    let basic = STANDARD.encode(format!("x-token:{SECRET}"));
    for (target, fields, expected) in [
        (
            "/named/a".to_owned(),
            format!("X-API-KEY: {named}\r\n"),
            format!("x-api-key: {SECRET}\r\n"),
        ),
        // A field that the client says is for this connection alone is still put in.
        (
            "/named/a".to_owned(),
            "Connection: x-api-key, keep-alive\r\nX-Api-Key: own\r\n".into(),
            format!("x-api-key: {SECRET}\r\n"),
        ),
        (
            format!("/query/a?b=1&key={query}&c"),
            String::new(),
            format!("GET /query/a?b=1&c&key={SECRET} "),
        ),
        (
            "/query/a".into(),
            String::new(),
            format!("GET /query/a?key={SECRET} "),
        ),
        (
            "/basic/a".into(),
            String::new(),
            format!("Basic {basic}\r\n"),
        ),
    ] {
        let (status, answer) = scene.ask("allowed.example", &target, &fields, "").await;
        assert_eq!(status, 200, "{answer}");
        let head = scene.origin.head().await;
        assert!(head.contains(&expected), "{expected}: {head}");
        assert!(!head.contains("placeholder"), "{head}");
    }
    scene.end().await;
}

/// The origin answers with the head that it got.
#[tokio::test]
async fn n21_a_value_that_comes_back_is_masked() {
    let mut scene = Scene::start().await;
    for (target, shown) in [
        ("/own/a", "authorization: Bearer **********************\r\n"),
        ("/named/a", "x-api-key: **********************\r\n"),
        ("/query/a", "GET /query/a?key=********************** "),
    ] {
        let asked = "accept-encoding: gzip\r\n";
        let (status, answer) = scene.ask("allowed.example", target, asked, "").await;
        assert_eq!(status, 200, "{answer}");
        assert!(!answer.contains(SECRET), "{answer}");
        let lower = answer.to_ascii_lowercase();
        assert!(lower.contains(&shown.to_ascii_lowercase()), "{answer}");
        assert!(lower.contains("accept-encoding: identity\r\n"), "{answer}");
        assert!(scene.origin.head().await.contains(SECRET), "it arrived");
    }
    let (_, answer) = scene.ask("allowed.example", "/basic/a", "", "").await;
    let basic = STANDARD.encode(format!("x-token:{SECRET}"));
    assert!(!answer.contains(&basic[..basic.len() - 4]), "{answer}");
    let asked = "accept-encoding: gzip\r\n";
    let (_, answer) = scene.ask("allowed.example", "/passed/a", asked, "").await;
    let told = answer.contains(SECRET) && answer.contains("gzip");
    assert!(told, "the control: {answer}");
    scene.end().await;
}

#[tokio::test]
async fn n21_a_placeholder_anywhere_else_is_refused_and_recorded() {
    let mut scene = Scene::start().await;
    let forge = scene.placeholder("FORGE_TOKEN");
    let named = scene.placeholder("NAMED_KEY");
    let encoded: String = forge.bytes().map(|b| format!("%{b:02X}")).collect();
    let base64 = STANDARD.encode(format!("{{\"token\": \"{forge}\"}}"));
    for (host, target, fields, body, problem) in [
        (
            "allowed.example",
            "/open/a".to_owned(),
            format!("authorization: Bearer {forge}\r\n"),
            String::new(),
            "authorization",
        ),
        (
            "allowed.example",
            "/own/a".into(),
            format!("x-other: {forge}\r\n"),
            String::new(),
            "another field",
        ),
        (
            "allowed.example",
            "/own/a".into(),
            format!("authorization: Bearer {named}\r\n"),
            String::new(),
            "the place of credential `forge`",
        ),
        (
            "allowed.example",
            format!("/open/a?t={forge}"),
            String::new(),
            String::new(),
            "the target",
        ),
        (
            "allowed.example",
            format!("/open/a?t={encoded}"),
            String::new(),
            String::new(),
            "the target",
        ),
        (
            "allowed.example",
            format!("/own/{forge}"),
            String::new(),
            String::new(),
            "the target",
        ),
        (
            "allowed.example",
            "/open/a".into(),
            String::new(),
            format!("x{forge}y"),
            "the body",
        ),
        (
            "allowed.example",
            "/open/a".into(),
            String::new(),
            base64,
            "the body",
        ),
        // Another host, though a rule names the credential: the configuration does not.
        (
            "lab.example",
            "/own/a".into(),
            format!("authorization: Bearer {forge}\r\n"),
            String::new(),
            "not configured for lab.example",
        ),
    ] {
        let (status, answer) = scene.ask(host, &target, &fields, &body).await;
        assert_eq!(status, 403, "{target} {fields} {body}: {answer}");
        assert!(
            answer.contains("reason: credential\n") && answer.contains(problem),
            "{problem}: {answer}"
        );
    }
    assert!(scene.origin.is_quiet(), "nothing of them arrived");
    let (status, answer) = scene
        .ask("allowed.example", "/open/a", "", "no placeholder")
        .await;
    assert_eq!(status, 200, "the control: {answer}");
    let records = scene.end().await;
    let denied = decisions(&records, "deny");
    assert_eq!(denied.len(), 9);
    for record in denied {
        assert_eq!(record["reason"], "credential", "{record}");
        assert!(
            record["err"][0].as_str().unwrap().contains("credential `"),
            "{record}"
        );
    }
}

/// Also where no rule speaks of requests: the session holds placeholders.
#[tokio::test]
async fn n21_a_placeholder_inside_a_tunnel_is_refused_and_recorded() {
    for rules in [
        RULES,
        "@id(\"all\") permit (principal, action in Action::\"network\", resource);",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let connect =
            "@id(\"tunnel\") permit (principal, action == Action::\"connect\", resource);";
        let house = house_under(&format!("{rules}{connect}"), &config(folder.path()));
        let mut origin = Origin::start().await;
        let forge = placeholder(&house, "FORGE_TOKEN");
        let authority = format!("allowed.example:{}", origin.port());
        for (field, expected) in [("x: 1".to_owned(), 200), (format!("x: {forge}"), 403)] {
            let (code, mut stream) =
                socks_name(house.socks, b"allowed.example", origin.port()).await;
            assert_eq!(code, 0);
            let request = format!("GET /open/a HTTP/1.1\r\nhost: {authority}\r\n{field}\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let (head, _) = bounded(message(&mut stream)).await.unwrap();
            assert_eq!(status(&head), expected, "{head}");
        }
        assert!(origin.head().await.starts_with("GET /open/a "));
        assert!(origin.is_quiet());
        let records = house.end().await;
        let denied = decisions(&records, "deny");
        assert_eq!(denied.len(), 1);
        assert_eq!(denied[0]["reason"], "credential");
        no_secret(&records);
    }
}

#[tokio::test]
async fn n21_a_placeholder_across_the_border_of_chunks_is_found() {
    let scene = Scene::start().await;
    let forge = scene.placeholder("FORGE_TOKEN");
    let authority = format!("allowed.example:{}", scene.origin.port());
    let chunked = |parts: &[&str]| {
        // A last part that says so stands for a trailer with the placeholder.
        let (parts, trailer) = match parts {
            [parts @ .., "\u{0}trailer"] => (parts, format!("x-note: {forge}\r\n")),
            parts => (parts, String::new()),
        };
        let chunks: String = parts
            .iter()
            .map(|part| format!("{:x}\r\n{part}\r\n", part.len()))
            .collect();
        format!(
            "POST http://{authority}/open/a HTTP/1.1\r\nhost: {authority}\r\n\
             transfer-encoding: chunked\r\ntrailer: x-note\r\n\r\n{chunks}0\r\n{trailer}\r\n"
        )
    };
    let each: Vec<String> = forge.chars().map(String::from).collect();
    let each: Vec<&str> = each.iter().map(String::as_str).collect();
    let (first, second) = forge.split_at(20);
    for (parts, expected) in [
        (vec!["a", first, second, "b"], 403),
        (each, 403),
        (
            vec![
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                first,
                second,
            ],
            403,
        ),
        (vec!["x", "\u{0}trailer"], 403),
        (vec![first, "x", second], 200),
        (vec![second, first], 200),
    ] {
        let (status, _, answer) = ask(scene.house.http, chunked(&parts).as_bytes()).await;
        assert_eq!(status, expected, "{parts:?} {answer}");
    }
    let records = scene.end().await;
    let ends: Vec<_> = flows(&records)
        .iter()
        .map(|flow| flow["end"].to_string())
        .collect();
    assert_eq!(
        ends.iter().filter(|end| *end == "\"refused\"").count(),
        4,
        "{ends:?}"
    );
    assert_eq!(
        ends.iter().filter(|end| *end == "\"completed\"").count(),
        2,
        "{ends:?}"
    );
}

#[tokio::test]
async fn n21_what_cannot_be_put_in_is_refused_and_never_sent_without() {
    let mut scene = Scene::start().await;
    for (target, problem) in [
        (
            "/unknown/a",
            "credential `nowhere` is not in this node's `cordon.toml`",
        ),
        ("/secure/a", "does not go over plain HTTP"),
    ] {
        let (status, answer) = scene.ask("allowed.example", target, "", "").await;
        assert_eq!(status, 403, "{target}");
        assert!(answer.contains(problem), "{answer}");
    }
    assert!(scene.origin.is_quiet());
    scene.end().await;
}

#[tokio::test]
async fn n21_what_is_stripped_is_only_the_clients() {
    let mut scene = Scene::start().await;
    let fields = "authorization: Bearer own\r\ncookie: a=b\r\nx-api-key: own\r\nx-kept: 1\r\n";
    let (status, _) = scene
        .ask("allowed.example", "/strip/a?key=own&b=2", fields, "")
        .await;
    assert_eq!(status, 200);
    let head = scene.origin.head().await;
    assert!(
        head.starts_with("GET /strip/a?b=2 ") && head.contains("x-kept: 1"),
        "{head}"
    );
    assert!(!head.contains("own"), "{head}");
    let (status, _) = scene
        .ask("allowed.example", "/named/a", "cookie: a=b\r\n", "")
        .await;
    assert_eq!(status, 200);
    let head = scene.origin.head().await;
    assert!(
        head.contains("cookie: a=b"),
        "the control: without the annotation it stays: {head}"
    );
    scene.end().await;
}

#[tokio::test]
async fn n21_it_is_the_same_inside_tls() {
    let rules = r#"
        @id("tunnel") @inspect("tls")
        permit (principal, action == Action::"connect", resource == Host::"lab.example");
        @id("own") @credential("forge") @strip("client")
        permit (principal, action == Action::"http_read", resource == Host::"lab.example");"#;
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path())
        .replace("\"allowed.example\"", "\"lab.example\"")
        .replace("plain = true\n", "");
    for version in [Version::Http1, Version::Http2] {
        let mut inside = Inside::start_with("lab.example", rules, &config, version).await;
        let forge = placeholder(&inside.house, "FORGE_TOKEN");
        let mut client = inside.client(version).await;
        for (path, field, expected) in [
            ("/own/a", ("authorization", format!("Bearer {forge}")), 200),
            ("/own/a", ("cookie", "own=1".into()), 200),
            ("/own/a", ("x-other", forge.clone()), 403),
            ("/elsewhere", ("x-other", "1".into()), 403),
        ] {
            let target = match version {
                Version::Http1 => path.to_owned(),
                Version::Http2 => inside.url(path),
            };
            let request = Request::get(target)
                .header(field.0, field.1)
                .body(empty())
                .unwrap();
            let (status, body) = client.send(request).await;
            assert_eq!(status, expected, "{version:?} {path}: {body}");
        }
        drop(client);
        let seen = inside.seen();
        assert_eq!(seen.len(), 2, "{seen:?}");
        for seen in seen {
            assert!(
                seen.fields.contains(&format!("Bearer {SECRET}")),
                "{}",
                seen.fields
            );
            assert!(!seen.fields.contains("own=1"), "{}", seen.fields);
        }
        no_secret(&inside.end().await);
    }
}
