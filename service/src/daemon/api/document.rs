//! The OpenAPI description, with what holds for every operation: how errors look, who may ask, how a
//! call is repeated.
//!
//! What the operations say of themselves in, the whole description out. It describes, and decides
//! nothing.

use serde_json::{Map, Value, json};

use super::{hook::HOOK, manage, repeat};

/// Completes the description made of the operations.
pub fn complete(mut document: Value) -> Value {
    if let Some(paths) = document.get_mut("paths").and_then(Value::as_object_mut) {
        for (path, operations) in paths {
            let operations = operations.as_object_mut().into_iter().flatten();
            for (method, operation) in operations {
                if let Some(operation) = operation.as_object_mut() {
                    completed(operation, method, path);
                }
            }
        }
    }
    if let Some(all) = document.as_object_mut() {
        let bearer = json!({
            "type": "http", "scheme": "bearer",
            "description": "Over TLS: the token of a caller or of a session, or a certificate in \
                its place. The socket knows its user by itself.",
        });
        if let Some(parts) = all.get_mut("components").and_then(Value::as_object_mut) {
            parts.insert("securitySchemes".into(), json!({"bearer": bearer}));
        }
        all.insert("security".into(), json!([{"bearer": []}]));
    }
    document
}

fn completed(operation: &mut Map<String, Value>, method: &str, path: &str) {
    let has_body = operation.contains_key("requestBody");
    let keyed = repeat::takes_a_key(method, path);
    let responses = operation.entry("responses").or_insert_with(|| json!({}));
    let Some(responses) = responses.as_object_mut() else {
        return;
    };
    for response in responses.values_mut() {
        in_its_media_type(response, path);
    }
    if path == DISCOVERY {
        operation.insert("security".into(), json!([]));
        return;
    }
    // An agent takes every answer but 200 for leave to go on, so there is no other.
    if path == HOOK {
        return;
    }
    let mut also = vec![
        ("401", "Over TLS: nobody is known by what was shown."),
        (
            "403",
            "Policy, or the token of a session, does not open it.",
        ),
    ];
    if has_body {
        also.push(("408", "The body came too slowly."));
        also.push(("413", "The body is larger than 1 MiB."));
    }
    if keyed {
        also.push(("422", "The key came with another call before."));
    }
    if method != "get" && path.starts_with("/v1/sessions/{id}/") {
        also.push((
            "409",
            "It cannot be done as things are: the session is paused, for one.",
        ));
    }
    if keyed || has_body || has_a_name(path) {
        also.push(("400", "What was sent is not what is taken here."));
    }
    for (status, why) in also {
        let said = responses
            .entry(status)
            .or_insert_with(|| json!({"description": why}));
        let content = said.as_object_mut().map(|said| {
            let content = said.entry("content").or_insert_with(|| json!({}));
            content.as_object_mut()
        });
        if let Some(Some(content)) = content {
            content
                .entry(PROBLEM)
                .or_insert_with(|| json!({"schema": {"$ref": "#/components/schemas/Problem"}}));
        }
    }
    if manage::is_decided(method, path) {
        names_its_decision(responses);
    }
    parameters(operation, keyed, path);
}

/// By which decision a call was carried out.
fn names_its_decision(responses: &mut Map<String, Value>) {
    let done = responses
        .iter_mut()
        .filter(|(status, _)| status.starts_with('2'));
    for (_, response) in done {
        let Some(response) = response.as_object_mut() else {
            continue;
        };
        let headers = response.entry("headers").or_insert_with(|| json!({}));
        let said = json!({
            "description": "The record of the decision that let it be done.",
            "schema": {"type": "string"},
        });
        if let Some(headers) = headers.as_object_mut() {
            headers.insert(manage::DECISION.as_str().into(), said);
        }
    }
}

/// Problems and texts under the name that they are sent with.
fn in_its_media_type(response: &mut Value, path: &str) {
    let content = response.get_mut("content").and_then(Value::as_object_mut);
    let Some(content) = content else { return };
    let is_problem = |said: &Value| {
        let schema = said.pointer("/schema/$ref").and_then(Value::as_str);
        schema.is_some_and(|schema| schema.ends_with("/Problem"))
    };
    if let Some(said) = content
        .get("application/json")
        .filter(|said| is_problem(said))
    {
        let said = said.clone();
        content.remove("application/json");
        content.insert(PROBLEM.into(), said);
    }
    // The standard's errors are a text, as JSON.
    if path.starts_with("/access/")
        && let Some(said) = content.remove("text/plain")
    {
        content.insert("application/json".into(), said);
    }
}

fn parameters(operation: &mut Map<String, Value>, keyed: bool, path: &str) {
    let all = operation.entry("parameters").or_insert_with(|| json!([]));
    let Some(all) = all.as_array_mut() else {
        return;
    };
    if has_a_name(path) {
        let names = all
            .iter_mut()
            .filter(|one| one["name"] == "name" || one["name"] == "server");
        for name in names {
            if let Some(schema) = name.get_mut("schema").and_then(Value::as_object_mut) {
                schema.insert("pattern".into(), NAME.into());
            }
        }
    }
    if keyed {
        all.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "The call is done once, however often it is sent with this key.",
            "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
        }));
    }
}

/// Whether the name of a server or an extension is part of the path.
fn has_a_name(path: &str) -> bool {
    path.contains("{server}") || path.contains("/extensions/{name}")
}

const DISCOVERY: &str = "/.well-known/authzen-configuration";

const PROBLEM: &str = "application/problem+json";

/// What servers and extensions are called: [`cordon_runtime`] has the rule.
const NAME: &str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_for_every_operation_is_said_of_each() {
        let problem =
            json!({"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}});
        let operation = |body: bool| {
            let mut one = json!({"responses": {"200": {}, "404": {"content": problem}}});
            if body {
                one["requestBody"] = json!({});
            }
            one
        };
        let whole = complete(json!({"components": {}, "paths": {
            "/v1/sessions": {"post": operation(true), "get": operation(false)},
            "/v1/sessions/{id}/decisions": {"post": operation(true)},
            HOOK: {"post": operation(true)},
            DISCOVERY: {"get": operation(false)},
        }}));
        let statuses = |path: &str, method: &str| {
            let responses = whole["paths"][path][method]["responses"]
                .as_object()
                .unwrap();
            let mut all: Vec<_> = responses.keys().cloned().collect();
            all.sort_unstable();
            all.join(" ")
        };
        for (path, method, expected) in [
            ("/v1/sessions", "post", "200 400 401 403 404 408 413 422"),
            ("/v1/sessions", "get", "200 401 403 404"),
            (
                "/v1/sessions/{id}/decisions",
                "post",
                "200 400 401 403 404 408 409 413",
            ),
            (HOOK, "post", "200 404"),
            (DISCOVERY, "get", "200 404"),
        ] {
            assert_eq!(statuses(path, method), expected, "{method} {path}");
        }
        let post = &whole["paths"]["/v1/sessions"]["post"];
        assert!(
            post["responses"]["404"]["content"][PROBLEM].is_object(),
            "{post}"
        );
        assert_eq!(post["parameters"][0]["name"], "Idempotency-Key");
        assert_eq!(whole["paths"][DISCOVERY]["get"]["security"], json!([]));
        assert_eq!(whole["security"], json!([{"bearer": []}]));
    }
}
