//! The certification scenario, every level, over TLS as its harness speaks it.

use cordon_tests::{World, for_both};
use serde_json::{Value, json};

use crate::{fixture, ids, serve};

/// The API over TLS, and somebody who is the daemon's user by a token.
pub struct Remote {
    pub base: String,
    pub ca: String,
}

pub const TOKEN: &str = "certification-token";

/// Configures the API's port; the daemon starts with the next command.
pub fn listen(world: &mut World, callers: &[(&str, &str)]) -> Remote {
    let authority = world.authority();
    let (key, certificate) = authority.server_pem("localhost");
    let write = |name: &str, text: &str| {
        let path = world.write(format!("config/{name}"), text);
        path.display().to_string()
    };
    let (key, certificate) = (write("key.pem", &key), write("cert.pem", &certificate));
    let ca = write("ca.pem", &authority.certificate());
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let base = format!("https://localhost:{port}");
    let mut config = format!(
        "[api]\nlisten = \"127.0.0.1:{port}\"\ncertificate = {certificate:?}\nkey = {key:?}\nurl = \"{base}\"\n"
    );
    for (name, token) in callers {
        let script = format!("printf %s {token} | sha256sum | cut -c1-64");
        let digest = world.host("sh", &["-c", &script]).text();
        config.push_str(&format!(
            "[[api.callers]]\nname = \"{name}\"\ntoken_sha256 = \"{}\"\n",
            digest.trim()
        ));
    }
    world.config.push_str(&config);
    Remote { base, ca }
}

/// Status, head and body of an answer.
pub fn call(
    world: &World,
    remote: &Remote,
    token: &str,
    path: &str,
    args: &[&str],
) -> (u16, String, Value) {
    let bearer = format!("authorization: Bearer {token}");
    let url = format!("{}{path}", remote.base);
    let fixed = [
        "-sS",
        "-D",
        "-",
        "--cacert",
        &remote.ca,
        "-H",
        &bearer,
        "-w",
        "\n%{http_code}",
    ];
    let said = world.host("curl", &[&fixed, args, &[&url]].concat()).text();
    let (rest, code) = said.rsplit_once('\n').unwrap();
    let (head, body) = rest.split_once("\r\n\r\n").unwrap_or((rest, ""));
    let body = serde_json::from_str(body).unwrap_or_default();
    (code.parse().unwrap(), head.to_ascii_lowercase(), body)
}

/// What is wrong with the answer to a case, if anything.
fn wrong(case: &Value, code: u16, head: &str, answer: &Value) -> Option<String> {
    let expected = case["status"].as_u64().unwrap();
    if u64::from(code) != expected {
        return Some(format!("status {code}, not {expected}"));
    }
    if !head.contains("content-type: application/json") {
        return Some("it is not application/json".into());
    }
    if code != 200 {
        return (!answer.is_string()).then(|| "an error is a text".into());
    }
    if let Some(decision) = case.get("decision") {
        return (answer["decision"] != *decision).then(|| format!("not {decision}"));
    }
    if let Some(expected) = case["decisions"].as_array() {
        let given = answer["evaluations"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let fits = |(given, expected): (&Value, &Value)| match expected {
            Value::Null => given["decision"].is_boolean(),
            expected => given["decision"] == *expected,
        };
        let all = given.len() == expected.len() && given.iter().zip(expected).all(fits);
        let alone = answer.get("decision").is_none();
        return (!all || !alone).then(|| format!("not {expected:?}"));
    }
    let found = ids(answer);
    let wanted = ids(&json!({"results": case["results"]}));
    if wanted.iter().any(|id| !found.contains(id)) {
        return Some(format!("not with all of {wanted:?}"));
    }
    if case["empty"] == true && !found.is_empty() {
        return Some("not empty".into());
    }
    let asked = case["path"].as_str().unwrap().trim_start_matches("search/");
    let kind = &case["body"][asked]["type"];
    let typed = |one: &Value| asked == "action" || one["type"] == *kind;
    if !answer["results"].as_array().unwrap().iter().all(typed) {
        return Some(format!("not all of type {kind}"));
    }
    let pages = case["page"] == true && !answer["page"]["next_token"].is_string();
    pages.then(|| "no `page.next_token`".into())
}

for_both! {
    /// Every case of the scenario, and what holds of all of them: headers, repetition, pages.
    fn every_case_of_the_certification_scenario_passes_over_tls(world) {
        serve(world, "certification");
        let name = world.account().name.clone();
        let remote = listen(world, &[(&name, TOKEN)]);
        world.session(&["true"]).run().expect_code(0);
        let cases: Value =
            serde_json::from_slice(&std::fs::read(fixture("certification/cases.json")).unwrap()).unwrap();
        let cases = cases.as_array().unwrap();
        assert!(cases.len() >= 50, "{}", cases.len());
        let mut failed = Vec::new();
        for case in cases {
            let path = format!("/access/v1/{}", case["path"].as_str().unwrap());
            let body = match case.get("raw") {
                Some(raw) => raw.as_str().unwrap().to_owned(),
                None => case["body"].to_string(),
            };
            let kind = case["content_type"].as_str().unwrap_or("application/json");
            let kind = format!("content-type: {kind}");
            let args = ["-X", "POST", "-H", &kind, "--data-binary", &body];
            let (code, head, answer) = call(world, &remote, TOKEN, &path, &args);
            if let Some(why) = wrong(case, code, &head, &answer) {
                failed.push(format!("{}: {why}: {answer}", case["section"]));
            }
        }
        assert_eq!(failed, [""; 0], "{} of {}", failed.len(), cases.len());
        // 2.5: the caller's id comes back as it was; without one nothing fails (that was above).
        let body = cases[0]["body"].to_string();
        let args = ["-H", "content-type: application/json", "-H", "X-Request-ID: bfe9eb29-ab87", "-d", &body];
        for _again in 0..3 {
            // 2.6: and the answer is the same each time.
            let (code, head, answer) = call(world, &remote, TOKEN, "/access/v1/evaluation", &args);
            assert_eq!((code, &answer["decision"]), (200, &json!(true)));
            assert!(head.contains("x-request-id: bfe9eb29-ab87"), "{head}");
        }
        discovery(world, &remote);
        pages(world, &remote);
        // 2: who is nobody learns nothing, and how to be somebody.
        let (code, head, _) = call(world, &remote, "wrong", "/access/v1/evaluation", &args);
        assert_eq!(code, 401);
        assert!(head.contains("www-authenticate: bearer"), "{head}");
    }
}

/// Section 6: what is there, and where, all of it over https.
fn discovery(world: &World, remote: &Remote) {
    let path = "/.well-known/authzen-configuration";
    let (code, head, metadata) = call(world, remote, TOKEN, path, &[]);
    assert_eq!(code, 200);
    assert!(head.contains("content-type: application/json"), "{head}");
    assert_eq!(metadata["policy_decision_point"], remote.base);
    let endpoints = metadata.as_object().unwrap();
    assert_eq!(endpoints.len(), 6, "{metadata}");
    for (name, url) in endpoints {
        let url = url.as_str().unwrap();
        assert!(url.starts_with(&remote.base), "{name}: {url}");
    }
}

/// 4.5: pages one after the other are all there is, and their token fits nothing else.
fn pages(world: &World, remote: &Remote) {
    let ask = |page: Value, action: &str| {
        let body = json!({
            "subject": {"type": "user"}, "action": {"name": action},
            "resource": {"type": "record", "id": "record-1"}, "page": page,
        })
        .to_string();
        let args = ["-H", "content-type: application/json", "-d", &body];
        let (code, _, answer) = call(world, remote, TOKEN, "/access/v1/search/subject", &args);
        (code, answer)
    };
    let (_, first) = ask(json!({"limit": 1}), "read");
    assert_eq!(ids(&first), ["alice"]);
    assert_eq!(first["page"]["count"], 1);
    let token = first["page"]["next_token"].as_str().unwrap();
    let (_, second) = ask(json!({"limit": 1, "token": token}), "read");
    assert_eq!(ids(&second), ["bob"]);
    assert_eq!(second["page"]["next_token"], "", "the end: {second}");
    let mut forged = token.to_owned();
    forged.replace_range(0..1, if token.starts_with('A') { "B" } else { "A" });
    for (page, action) in [
        (json!({"token": token}), "write"),
        (json!({"token": forged}), "read"),
        (json!({"token": "x"}), "read"),
        (json!({"limit": 0}), "read"),
        (json!({"limit": -1}), "read"),
        (json!({"limit": "all"}), "read"),
    ] {
        let (code, answer) = ask(page.clone(), action);
        assert_eq!(code, 400, "{page} {action}: {answer}");
    }
}
