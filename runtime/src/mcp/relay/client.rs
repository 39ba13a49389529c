//! What the client asks, tells and answers.

use cordon_policy::ToolKind;
use serde_json::{Map, Value, json};

use super::{
    super::{definition::definition_digest, listing::ListKind},
    Asked, Forwarded, Id, Judge, Message, Out, Parked, Relay, answer, code, error, failed,
    notification,
    pending::NotTaken,
    request, ruled,
};

impl Relay {
    pub(super) async fn client_asks(
        &mut self,
        judge: &impl Judge,
        id: Id,
        method: &str,
        params: Option<Map<String, Value>>,
    ) -> Vec<Out> {
        if self.up.has(&id) || self.parked.iter().any(|parked| parked.id == id) {
            return vec![failed(
                id,
                code::INVALID,
                "another request with this id waits for its answer",
            )];
        }
        let params = params.map(of_this_revision);
        match method {
            // How a client of a later revision finds out that it speaks to an earlier one.
            "server/discover" => vec![failed(
                id,
                code::METHOD,
                "this is a gateway of revision 2025-11-25 and before",
            )],
            "initialize" => self.initialize(id, params),
            "ping" | "logging/setLevel" | "resources/unsubscribe" => {
                self.pass(id, method, params, Forwarded::Other)
            }
            "tools/call" => self.call(judge, id, params.unwrap_or_default()).await,
            "resources/read" | "resources/subscribe" => {
                let uri = text(params.as_ref(), "uri");
                self.used(judge, id, method, params, ToolKind::Resource, uri)
                    .await
            }
            "prompts/get" => {
                let name = text(params.as_ref(), "name");
                self.used(judge, id, method, params, ToolKind::Prompt, name)
                    .await
            }
            "completion/complete" => {
                let (kind, name) = completed(params.as_ref());
                self.used(judge, id, method, params, kind, name).await
            }
            _other => match ListKind::of(method) {
                Some(kind) => self.pass(id, method, params, Forwarded::List(kind)),
                None => {
                    let why = format!("the method `{}` is not passed on", method.escape_default());
                    judge.refuse(method.into(), why.clone()).await;
                    vec![failed(id, code::METHOD, &why)]
                }
            },
        }
    }

    /// Once, with the abilities of clients that are decided here.
    fn initialize(&mut self, id: Id, params: Option<Map<String, Value>>) -> Vec<Out> {
        if self.initialised {
            return vec![failed(id, code::INVALID, "it is initialised already")];
        }
        self.initialised = true;
        let params = params.map(|mut params| {
            keep_abilities(&mut params, &["roots", "sampling", "elicitation"]);
            params
        });
        self.pass(id, "initialize", params, Forwarded::Initialize)
    }

    fn pass(
        &mut self,
        id: Id,
        method: &str,
        params: Option<Map<String, Value>>,
        what: Forwarded,
    ) -> Vec<Out> {
        match self.up.open(Some(id.clone()), what) {
            Ok(ours) => vec![Out::Server(request(ours, method, params))],
            Err(not_taken) => vec![failed(id, code::INTERNAL, not_taken.why())],
        }
    }

    /// The recorded refusal of what could not be sent: nothing is recorded as allowed that does not
    /// go out.
    async fn no_room(&self, judge: &impl Judge, id: &Id, name: &str) -> Option<Vec<Out>> {
        if !self.up.is_full() {
            return None;
        }
        let why = NotTaken::Full.why();
        judge.refuse(name.into(), why.into()).await;
        Some(vec![failed(id.clone(), code::INTERNAL, why)])
    }

    /// What is used by the name of a resource or prompt.
    async fn used(
        &mut self,
        judge: &impl Judge,
        id: Id,
        method: &str,
        params: Option<Map<String, Value>>,
        kind: ToolKind,
        name: Option<String>,
    ) -> Vec<Out> {
        let Some(name) = name else {
            let why = format!("`{method}` without the name of what is used");
            judge.refuse(method.into(), why.clone()).await;
            return vec![failed(id, code::PARAMS, &why)];
        };
        let asked = Asked {
            kind,
            name: format!("{}:{name}", kind.as_str()),
            digest: None,
            hints: cordon_policy::ToolHints::default(),
            arguments: Vec::new(),
            input: params
                .clone()
                .map(|params| definition_digest(&params.into())),
        };
        if let Some(refusal) = self.no_room(judge, &id, &asked.name).await {
            return refusal;
        }
        match ruled(judge, asked).await {
            Ok(()) => self.pass(id, method, params, Forwarded::Other),
            Err(refusal) => vec![Out::Client(answer(id, Err(refusal)))],
        }
    }

    /// A call of a tool. One that the server has not listed yet waits until it has: nothing is
    /// decided about a definition that nobody saw.
    async fn call(&mut self, judge: &impl Judge, id: Id, params: Map<String, Value>) -> Vec<Out> {
        let name = text(Some(&params), "name").unwrap_or_default();
        if self.tools.contains_key(&name) || self.complete {
            return self.call_known(judge, id, params).await;
        }
        if self.parked.len() >= MOST_PARKED {
            return vec![failed(id, code::INTERNAL, "too many calls wait")];
        }
        let first = self.parked.is_empty();
        self.parked.push(Parked { id, params });
        if first {
            self.list_ourselves(None, 0)
        } else {
            Vec::new()
        }
    }

    /// Asks the server for a page of its tools.
    pub(super) fn list_ourselves(&mut self, cursor: Option<&str>, pages: u32) -> Vec<Out> {
        let params = cursor.map(|cursor| {
            let mut params = Map::new();
            params.insert("cursor".into(), Value::from(cursor));
            params
        });
        match self
            .up
            .open(None, Forwarded::OwnList(pages.saturating_add(1)))
        {
            Ok(ours) => vec![Out::Server(request(ours, "tools/list", params))],
            Err(not_taken) => self
                .parked
                .drain(..)
                .map(|parked| failed(parked.id, code::INTERNAL, not_taken.why()))
                .collect(),
        }
    }

    pub(super) async fn call_known(
        &mut self,
        judge: &impl Judge,
        id: Id,
        params: Map<String, Value>,
    ) -> Vec<Out> {
        let name = text(Some(&params), "name").unwrap_or_default();
        let Some(known) = self.tools.get(&name) else {
            let why = format!("the server lists no tool `{}`", name.escape_default());
            judge.refuse(name, why.clone()).await;
            return vec![failed(id, code::PARAMS, &why)];
        };
        let given = params.get("arguments");
        if given.is_some_and(|given| !given.is_object() || !is_exact(given)) {
            let why = "a tool's arguments are an object, its whole numbers at most 2^53 - 1";
            judge.refuse(name, why.into()).await;
            return vec![failed(id, code::PARAMS, why)];
        }
        let arguments = match facts(&self.limits.arguments, params.get("arguments")) {
            Ok(arguments) => arguments,
            Err(why) => {
                judge.refuse(name, why.clone()).await;
                return vec![failed(id, code::PARAMS, &why)];
            }
        };
        let asked = Asked {
            kind: ToolKind::Tool,
            name,
            digest: Some(known.digest.clone()),
            hints: known.hints,
            arguments,
            input: params.get("arguments").map(definition_digest),
        };
        if let Some(refusal) = self.no_room(judge, &id, &asked.name).await {
            return refusal;
        }
        match ruled(judge, asked).await {
            Ok(()) => self.pass(id, "tools/call", Some(as_decided(params)), Forwarded::Other),
            Err(refusal) => vec![Out::Client(answer(id, Err(refusal)))],
        }
    }

    pub(super) fn client_tells(
        &mut self,
        method: &str,
        params: Option<Map<String, Value>>,
    ) -> Vec<Out> {
        match method {
            "notifications/initialized"
            | "notifications/progress"
            | "notifications/roots/list_changed" => {
                vec![Out::Server(notification(method, params))]
            }
            "notifications/cancelled" => {
                let mut params = params.unwrap_or_default();
                let Some(theirs) = params.get("requestId").and_then(Id::of) else {
                    return Vec::new();
                };
                self.parked.retain(|parked| parked.id != theirs);
                let Some(ours) = self.up.cancel(&theirs) else {
                    return Vec::new();
                };
                params.insert("requestId".into(), Value::from(ours));
                vec![Out::Server(notification(method, Some(params)))]
            }
            // What nobody knows is nobody's to pass on.
            _other => Vec::new(),
        }
    }

    /// The answer to something that the server asked; any other is dropped.
    pub(super) fn client_answers(&mut self, id: &Id, outcome: Result<Value, Value>) -> Vec<Out> {
        match self.down.close(id) {
            Some((Some(theirs), ())) => {
                let outcome = Message::Response {
                    id: theirs,
                    outcome,
                };
                vec![Out::Server(outcome.line())]
            }
            Some((None, ())) | None => Vec::new(),
        }
    }
}

/// What was decided, and nothing beside it but where progress is told.
fn as_decided(mut params: Map<String, Value>) -> Map<String, Value> {
    params.retain(|key, _| matches!(key.as_str(), "name" | "arguments" | "_meta"));
    if let Some(meta) = params.get_mut("_meta") {
        let token = meta.get("progressToken").cloned();
        *meta = token.map_or_else(|| json!({}), |token| json!({"progressToken": token}));
    }
    params
}

/// Whether every number is one that a digest tells from its neighbours (RFC 7493, section 2.2).
fn is_exact(value: &Value) -> bool {
    match value {
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => whole.unsigned_abs() <= MOST_EXACT,
            (None, Some(_larger)) => false,
            (None, None) => true,
        },
        Value::Array(values) => values.iter().all(is_exact),
        Value::Object(fields) => fields.values().all(is_exact),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

/// Without what makes a request one of a later revision, where servers ask back inside their answers.
fn of_this_revision(mut params: Map<String, Value>) -> Map<String, Value> {
    if let Some(Value::Object(meta)) = params.get_mut("_meta") {
        meta.retain(|key, _| !key.starts_with("io.modelcontextprotocol/"));
    }
    params
}

/// What a completion is about.
fn completed(params: Option<&Map<String, Value>>) -> (ToolKind, Option<String>) {
    let Some(Value::Object(about)) = params.and_then(|params| params.get("ref")) else {
        return (ToolKind::Prompt, None);
    };
    match about.get("type").and_then(Value::as_str) {
        Some("ref/resource") => (ToolKind::Resource, text(Some(about), "uri")),
        Some("ref/prompt") => (ToolKind::Prompt, text(Some(about), "name")),
        _unknown => (ToolKind::Prompt, None),
    }
}

/// The named arguments as facts: texts as they are, other values as JSON, each of a list.
fn facts(names: &[String], arguments: Option<&Value>) -> Result<Vec<String>, String> {
    let mut facts = Vec::new();
    for name in names {
        let values = match arguments.and_then(|arguments| arguments.get(name)) {
            None | Some(Value::Null) => continue,
            Some(Value::Array(values)) => values.as_slice(),
            Some(value) => std::slice::from_ref(value),
        };
        for value in values {
            let fact = match value {
                Value::String(text) => format!("{name}={text}"),
                other => format!("{name}={other}"),
            };
            if fact.len() > MAX_FACT_BYTES || facts.len() >= MOST_FACTS {
                return Err(format!(
                    "the argument `{name}` is decided by policy, and is too long for that"
                ));
            }
            facts.push(fact);
        }
    }
    facts.sort_unstable();
    facts.dedup();
    Ok(facts)
}

fn text(fields: Option<&Map<String, Value>>, name: &str) -> Option<String> {
    fields?.get(name)?.as_str().map(str::to_owned)
}

/// Leaves of `capabilities` what is known here: others could carry what nobody decides.
pub(super) fn keep_abilities(fields: &mut Map<String, Value>, known: &[&str]) {
    if let Some(Value::Object(abilities)) = fields.get_mut("capabilities") {
        abilities.retain(|name, _| known.contains(&name.as_str()));
    }
}

/// The error for an answer that is too large to be passed on.
pub(super) fn too_large(bytes: usize, most: usize) -> Value {
    let reason = format!("the answer has {bytes} bytes, and {most} are passed on");
    let data = json!({
        "code": "result_too_large",
        "reason": reason,
        "how": "ask for less; `[mcp] result_bytes` in the configuration is the limit",
    });
    error(code::REFUSED, &reason, Some(data))
}

/// The largest whole number that is one in every reader: 2^53 - 1.
const MOST_EXACT: u64 = (1 << 53) - 1;

const MOST_PARKED: usize = 64;
const MAX_FACT_BYTES: usize = 2048;
const MOST_FACTS: usize = 64;
