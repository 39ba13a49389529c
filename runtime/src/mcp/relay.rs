//! Stands between one client and one server, and lets through what is decided.
//!
//! A line of either side in, the lines to send out, in order. Ids are our own towards both sides, so
//! that neither can answer, cancel or repeat what is not its own. Never reads or writes by itself.

mod client;
mod pending;
mod server;

use std::collections::BTreeMap;

use cordon_policy::ToolHints;
use serde_json::{Map, Value, json};

use self::pending::Pending;
use super::{Asked, Id, Judge, Malformed, Message, Ruling, code, error, listing::ListKind};

/// The state of one connection.
#[derive(Debug)]
pub struct Relay {
    limits: Limits,
    /// Requests to the server.
    up: Pending<Forwarded>,
    /// Requests to the client.
    down: Pending<()>,
    /// What the server said of its tools, last.
    tools: BTreeMap<String, Known>,
    /// Whether all of them are in `tools`.
    complete: bool,
    /// Calls of tools that the server did not list yet, while our own listing is under way.
    parked: Vec<Parked>,
    initialised: bool,
    /// Malformed lines that were recorded.
    noise: u32,
}

/// How much passes, and what is shown to policy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Largest answer of a server that is passed on, in bytes.
    pub result_bytes: usize,
    /// Names of arguments that are facts for policy.
    pub arguments: Vec<String>,
}

/// A line to send, without its end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Out {
    /// To the client.
    Client(String),
    /// To the server.
    Server(String),
}

/// What a request to the server was.
#[derive(Clone, Debug, PartialEq)]
enum Forwarded {
    Initialize,
    List(ListKind),
    /// Our own listing of tools, and how many pages it has so far.
    OwnList(u32),
    Other,
}

/// A tool as the server listed it.
#[derive(Clone, Debug, PartialEq)]
struct Known {
    digest: String,
    hints: ToolHints,
}

/// A call that waits for our own listing.
#[derive(Clone, Debug)]
struct Parked {
    id: Id,
    params: Map<String, Value>,
}

impl Relay {
    /// For a new connection.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            up: Pending::default(),
            down: Pending::default(),
            tools: BTreeMap::new(),
            complete: false,
            parked: Vec::new(),
            initialised: false,
            noise: 0,
        }
    }

    /// Takes a line of the client.
    pub async fn from_client(&mut self, judge: &impl Judge, line: &[u8]) -> Vec<Out> {
        match Message::read(line) {
            Ok(Message::Request { id, method, params }) => {
                self.client_asks(judge, id, &method, params).await
            }
            Ok(Message::Notification { method, params }) => self.client_tells(&method, params),
            Ok(Message::Response { id, outcome }) => self.client_answers(&id, outcome),
            Err(malformed) => {
                self.record_noise(judge, "client", line, &malformed).await;
                vec![Out::Client(malformed.line())]
            }
        }
    }

    /// Takes a line of the server.
    pub async fn from_server(&mut self, judge: &impl Judge, line: &[u8]) -> Vec<Out> {
        match Message::read(line) {
            Ok(Message::Request { id, method, params }) => {
                self.server_asks(judge, id, &method, params, line.len())
                    .await
            }
            Ok(Message::Notification { method, params }) => {
                self.server_tells(judge, &method, params, line.len()).await
            }
            Ok(Message::Response { id, outcome }) => {
                self.server_answers(judge, &id, outcome, line.len()).await
            }
            Err(malformed) => {
                // Servers print by mistake; nothing of it reaches the client.
                self.record_noise(judge, "server", line, &malformed).await;
                Vec::new()
            }
        }
    }

    /// The server is gone: whoever waits is told.
    pub fn server_is_gone(&mut self) -> Vec<Out> {
        let waiting = self.up.drain();
        let parked = self.parked.drain(..).map(|parked| parked.id);
        let gone = |id| failed(id, code::INTERNAL, "the server has ended");
        waiting.into_iter().chain(parked).map(gone).collect()
    }

    async fn record_noise(
        &mut self,
        judge: &impl Judge,
        who: &str,
        line: &[u8],
        malformed: &Malformed,
    ) {
        self.noise = self.noise.saturating_add(1);
        if self.noise <= MOST_NOISE {
            let start = line.get(..line.len().min(NOISE_BYTES)).unwrap_or(line);
            let text = String::from_utf8_lossy(start).into_owned();
            let why = format!(
                "a message of the {who} is not well-formed: {}",
                malformed.why
            );
            judge.refuse(text, why).await;
        }
    }
}

/// Asks, and makes a refusal into what whoever asked is told.
async fn ruled(judge: &impl Judge, asked: Asked) -> Result<(), Value> {
    match judge.decide(asked).await {
        Ruling::Allowed => Ok(()),
        Ruling::Refused { reason, data } => {
            let message = format!("refused by policy: {reason}");
            Err(error(code::REFUSED, &message, Some(data)))
        }
    }
}

fn failed(id: Id, code: i64, why: &str) -> Out {
    Out::Client(answer(id, Err(error(code, why, None))))
}

fn answer(id: Id, outcome: Result<Value, Value>) -> String {
    Message::Response { id, outcome }.line()
}

fn request(ours: i64, method: &str, params: Option<Map<String, Value>>) -> String {
    Message::Request {
        id: Id::Number(ours),
        method: method.into(),
        params,
    }
    .line()
}

fn notification(method: &str, params: Option<Map<String, Value>>) -> String {
    Message::Notification {
        method: method.into(),
        params,
    }
    .line()
}

/// The error of a listing that is refused whole.
fn not_listed(why: &str) -> Value {
    let data = json!({"code": "not_listed", "reason": why});
    error(code::REFUSED, &format!("not listed: {why}"), Some(data))
}

/// Malformed lines of one connection that are recorded. All are refused.
const MOST_NOISE: u32 = 64;

/// How much of one is kept.
const NOISE_BYTES: usize = 256;

#[cfg(test)]
mod tests;
