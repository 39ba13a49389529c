//! What the server answers, tells and asks.

use cordon_policy::{ToolHints, ToolKind};
use serde_json::{Map, Value};

use super::{
    super::{
        Fate, INSTRUCTIONS, Listed, definition_digest, hints_of,
        listing::{ListKind, Page},
        pins::Pins,
    },
    Asked, Forwarded, Id, Judge, Known, Message, Out, Relay, answer,
    client::{keep_abilities, too_large},
    code, error, not_listed, notification, request, ruled,
};

impl Relay {
    pub(super) async fn server_answers(
        &mut self,
        judge: &impl Judge,
        id: &Id,
        outcome: Result<Value, Value>,
        bytes: usize,
    ) -> Vec<Out> {
        let Some((theirs, what)) = self.up.close(id) else {
            return Vec::new();
        };
        let most = match what {
            Forwarded::OwnList(_) | Forwarded::List(_) => LIST_BYTES,
            Forwarded::Initialize | Forwarded::Other => self.limits.result_bytes,
        };
        let outcome = if bytes > most {
            Err(too_large(bytes, most))
        } else {
            outcome.map_err(|theirs| plain(&theirs))
        };
        let outcome = match (what, outcome) {
            (Forwarded::OwnList(pages), outcome) => {
                return self.own_page(judge, outcome, pages).await;
            }
            (_, Err(error)) => Err(error),
            (Forwarded::Initialize, Ok(result)) => self.welcomed(judge, result).await,
            (Forwarded::List(kind), Ok(result)) => self
                .listed(judge, kind, result)
                .await
                .map(|page| page.value()),
            (Forwarded::Other, Ok(result)) if is_whole(&result) => Ok(result),
            (Forwarded::Other, Ok(_result)) => {
                let why = "the server's answer is of a revision that is not passed on";
                Err(error(code::INTERNAL, why, None))
            }
        };
        match theirs {
            Some(theirs) => vec![Out::Client(answer(theirs, outcome))],
            None => Vec::new(),
        }
    }

    /// The server's greeting: the abilities that are decided here, and instructions that are what
    /// they were.
    async fn welcomed(&self, judge: &impl Judge, result: Value) -> Result<Value, Value> {
        let Value::Object(mut fields) = result else {
            return Err(error(
                code::INTERNAL,
                "the server's greeting is not an object",
                None,
            ));
        };
        let abilities = ["tools", "resources", "prompts", "logging", "completions"];
        keep_abilities(&mut fields, &abilities);
        if let Some(instructions) = fields.remove("instructions") {
            let listed = Listed {
                kind: ToolKind::Prompt,
                name: INSTRUCTIONS.into(),
                definition: Some(instructions.clone()),
            };
            let fates = judge.sort(vec![listed]).await;
            if fates.as_deref() == Ok(&[Fate::Shown]) {
                fields.insert("instructions".into(), instructions);
            }
        }
        Ok(Value::Object(fields))
    }

    /// A page of a list with what may be shown of it.
    async fn listed(
        &mut self,
        judge: &impl Judge,
        kind: ListKind,
        result: Value,
    ) -> Result<Page, Value> {
        let mut page = Page::read(kind, result).map_err(|why| not_listed(&why))?;
        let fates = judge.sort(page.entries()).await;
        let fates = fates.map_err(|why| not_listed(&why))?;
        if kind == ListKind::Tools {
            for (name, definition) in page.definitions() {
                if self.tools.len() < Pins::MAX_TOOLS || self.tools.contains_key(name) {
                    let known = Known {
                        digest: definition_digest(definition),
                        hints: hints_of(definition),
                    };
                    self.tools.insert(name.to_owned(), known);
                }
            }
        }
        page.keep(&fates);
        Ok(page)
    }

    /// A page of our own listing; after the last one the calls that waited are decided.
    async fn own_page(
        &mut self,
        judge: &impl Judge,
        outcome: Result<Value, Value>,
        pages: u32,
    ) -> Vec<Out> {
        let page = match outcome {
            Ok(result) => self.listed(judge, ListKind::Tools, result).await.ok(),
            Err(_error) => None,
        };
        let next = page.as_ref().and_then(Page::next);
        if let (Some(cursor), true) = (next, pages < MOST_PAGES) {
            return self.list_ourselves(Some(cursor), pages);
        }
        self.complete = page.is_some();
        let mut out = Vec::new();
        for parked in std::mem::take(&mut self.parked) {
            out.extend(self.call_known(judge, parked.id, parked.params).await);
        }
        out
    }

    pub(super) async fn server_tells(
        &mut self,
        judge: &impl Judge,
        method: &str,
        params: Option<Map<String, Value>>,
        bytes: usize,
    ) -> Vec<Out> {
        if let Some(why) = self.over_bound(bytes) {
            judge.refuse(method.into(), why).await;
            return Vec::new();
        }
        match method {
            "notifications/tools/list_changed" => {
                self.complete = false;
                vec![Out::Client(notification(method, params))]
            }
            "notifications/progress"
            | "notifications/message"
            | "notifications/resources/updated"
            | "notifications/resources/list_changed"
            | "notifications/prompts/list_changed"
            | "notifications/elicitation/complete" => {
                vec![Out::Client(notification(method, params))]
            }
            "notifications/cancelled" => {
                let mut params = params.unwrap_or_default();
                let theirs = params.get("requestId").and_then(Id::of);
                let Some(ours) = theirs.and_then(|theirs| self.down.cancel(&theirs)) else {
                    return Vec::new();
                };
                params.insert("requestId".into(), Value::from(ours));
                vec![Out::Client(notification(method, Some(params)))]
            }
            _other => Vec::new(),
        }
    }

    /// Why a message of the server's own is not passed on, where it is larger than an answer may be.
    fn over_bound(&self, bytes: usize) -> Option<String> {
        let most = self.limits.result_bytes;
        (bytes > most).then(|| format!("a message of {bytes} bytes; {most} are passed on"))
    }

    /// What the server wants of the client's model, user or folders.
    pub(super) async fn server_asks(
        &mut self,
        judge: &impl Judge,
        id: Id,
        method: &str,
        params: Option<Map<String, Value>>,
        bytes: usize,
    ) -> Vec<Out> {
        let refused = |id, error| {
            let outcome = Err(error);
            vec![Out::Server(Message::Response { id, outcome }.line())]
        };
        if let Some(why) = self.over_bound(bytes) {
            judge.refuse(method.into(), why.clone()).await;
            return refused(id, error(code::INVALID, &why, None));
        }
        let kind = match method {
            "ping" => None,
            "sampling/createMessage" => Some(ToolKind::Sampling),
            "elicitation/create" => Some(ToolKind::Elicitation),
            "roots/list" => Some(ToolKind::Roots),
            _other => {
                let why = format!("the method `{}` is not passed on", method.escape_default());
                judge.refuse(method.into(), why.clone()).await;
                return refused(id, error(code::METHOD, &why, None));
            }
        };
        if let Some(kind) = kind {
            // Nothing is recorded as allowed that does not go out.
            if let Some(not_taken) = self.down.would_not_take(&id) {
                let why = not_taken.why();
                judge.refuse(method.into(), why.into()).await;
                return refused(id, error(code::INVALID, why, None));
            }
            let asked = Asked {
                kind,
                name: format!("client:{}", kind.as_str()),
                digest: None,
                hints: ToolHints::default(),
                arguments: Vec::new(),
                input: params
                    .clone()
                    .map(|params| definition_digest(&params.into())),
            };
            if let Err(refusal) = ruled(judge, asked).await {
                return refused(id, refusal);
            }
        }
        match self.down.open(Some(id.clone()), ()) {
            Ok(ours) => vec![Out::Client(request(ours, method, params))],
            Err(not_taken) => refused(id, error(code::INVALID, not_taken.why(), None)),
        }
    }
}

/// A server's error by its number and its text alone. What else stands in it could ask the user for
/// something (`data.elicitations`), which only a decision lets through; -32042 does nothing else.
fn plain(theirs: &Value) -> Value {
    let number = theirs.get("code").and_then(Value::as_i64);
    let said = theirs.get("message").and_then(Value::as_str);
    match (number, said) {
        (Some(number), Some(said)) if number != WANTS_THE_USER => error(number, said, None),
        _ => error(
            code::INTERNAL,
            "the server's answer is an error that is not passed on",
            None,
        ),
    }
}

/// The error by which a server has the client send its user to a page.
const WANTS_THE_USER: i64 = -32042;

/// Whether a result is an answer, and not a question back in the shape of one.
fn is_whole(result: &Value) -> bool {
    match result.get("resultType") {
        None => true,
        Some(kind) => kind == "complete",
    }
}

/// Largest page of a list, in bytes: it is shown to the judge whole.
const LIST_BYTES: usize = 768 * 1024;

/// Pages of our own listing.
const MOST_PAGES: u32 = 64;
