//! The client's side as Streamable HTTP, whoever listens for it: one session of the protocol, one
//! server behind it.
//!
//! Requests in, lines for the relay out, and its lines back as server-sent events. Who may ask is for
//! whoever takes the requests.
//!
//! Source: MCP 2025-11-25, "Transports", "Streamable HTTP".

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use cordon_runtime::mcp::{Id, Message, code, error};
use futures_util::stream;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader, DuplexStream, split},
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore, mpsc, watch},
};

use super::{SESSION, VERSION, VERSIONS};

/// One client of a server.
#[derive(Debug)]
pub struct Front {
    state: Mutex<State>,
    /// Lines to the relay.
    lines: mpsc::Sender<String>,
    /// Bytes of answers that may wait to be read.
    answers: Arc<Semaphore>,
    /// Bytes of all else that may wait to be read, so that it keeps no answer waiting.
    told: Arc<Semaphore>,
    over: watch::Sender<bool>,
}

/// A message to the client, which holds its share of what may wait until it is read.
type Waiting = (String, OwnedSemaphorePermit);

#[derive(Debug, Default)]
struct State {
    /// The client's session of the protocol, once it has said who it is.
    session: Option<String>,
    /// Who waits for which answer.
    waiting: HashMap<Id, mpsc::Sender<Waiting>>,
    /// The stream for what the server says by itself.
    stream: Option<mpsc::Sender<Waiting>>,
}

impl Front {
    /// For a client that is to come; with what [`Front::serve`] sends on.
    pub fn new() -> (Self, mpsc::Receiver<String>) {
        let (lines, for_relay) = mpsc::channel(WAITING);
        let front = Self {
            state: Mutex::default(),
            lines,
            answers: Arc::new(Semaphore::new(ANSWER_BYTES)),
            told: Arc::new(Semaphore::new(TOLD_BYTES)),
            over: watch::Sender::new(false),
        };
        (front, for_relay)
    }

    /// Carries between the client and `relay`, its end, until one of them is done.
    pub async fn serve(&self, mut lines: mpsc::Receiver<String>, relay: DuplexStream) {
        let (from_relay, mut to_relay) = split(relay);
        let written = async {
            while let Some(mut line) = lines.recv().await {
                line.push('\n');
                if to_relay.write_all(line.as_bytes()).await.is_err() {
                    return;
                }
            }
        };
        let mut over = self.over.subscribe();
        tokio::select! {
            () = written => {}
            () = self.deliver(BufReader::new(from_relay)) => {}
            _ended = over.wait_for(|over| *over) => {}
        }
    }

    /// Brings what the relay has for the client to whoever waits for it.
    async fn deliver(&self, mut lines: BufReader<impl AsyncRead + Unpin>) {
        let mut line = String::new();
        loop {
            line.clear();
            // Bounded by the relay, which writes them.
            if !matches!(lines.read_line(&mut line).await, Ok(read) if read > 0) {
                return;
            }
            let text = line.trim_end().to_owned();
            match Message::read(text.as_bytes()) {
                Ok(Message::Response { id, .. }) => {
                    let waiting = self.state().waiting.remove(&id);
                    if let Some(waiting) = waiting {
                        let Ok(share) = share(&self.answers, &text).await else {
                            return;
                        };
                        // It may have gone; then nobody wants it. A place is kept for it.
                        let _gone = waiting.try_send((text, share));
                    }
                }
                Ok(Message::Request { id, .. }) if !self.tell(&text) => {
                    let outcome = Err(error(code::INTERNAL, "no client listens", None));
                    let _over = self
                        .lines
                        .try_send(Message::Response { id, outcome }.line());
                }
                Ok(Message::Request { .. }) => {}
                Ok(Message::Notification { .. }) => {
                    let _told = self.tell(&text);
                }
                // An answer to what had no id: whoever sent it was told already.
                Err(_malformed) => {}
            }
        }
    }

    /// A message of the client.
    ///
    /// # Errors
    /// [`Refusal`]: it is not taken.
    pub async fn posted(&self, headers: &HeaderMap, body: &[u8]) -> Result<Response, Refusal> {
        check_version(headers)?;
        let media = headers.get_all(header::CONTENT_TYPE);
        let is_json = |value: &HeaderValue| value.as_bytes().starts_with(b"application/json");
        if media.iter().next().is_none() || !media.iter().all(is_json) {
            return Err(Refusal(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "a message is `application/json`",
            ));
        }
        let message = match Message::read(body) {
            Ok(message) => message,
            Err(malformed) => {
                // The relay records it; line breaks of JSON outside of texts are only space.
                let mut line = String::from_utf8_lossy(body).replace(['\n', '\r'], " ");
                if Message::read(line.as_bytes()).is_ok() {
                    // It is one now, and is refused all the same: as a text it stays what it is.
                    line = Value::from(line).to_string();
                }
                let _recorded = self.lines.send(line).await;
                return Ok((StatusCode::BAD_REQUEST, malformed.line()).into_response());
            }
        };
        let line = message.line();
        let Message::Request { id, method, .. } = message else {
            self.check_session(headers)?;
            let sent = self.lines.send(line).await;
            return sent
                .map(|()| StatusCode::ACCEPTED.into_response())
                .map_err(|_| GONE);
        };
        let begun = if method == "initialize" {
            Some(self.begin()?)
        } else {
            self.check_session(headers)?;
            None
        };
        let (sender, receiver) = mpsc::channel(WAITING);
        {
            let mut state = self.state();
            state.waiting.retain(|_, waiting| !waiting.is_closed());
            if state.waiting.len() >= MOST_WAITING || state.waiting.contains_key(&id) {
                let why = "another request with this id waits, or too many do";
                return Err(Refusal(StatusCode::CONFLICT, why));
            }
            state.waiting.insert(id, sender);
        }
        self.lines.send(line).await.map_err(|_| GONE)?;
        let mut response = events(receiver);
        if let Some(value) = begun.and_then(|id| HeaderValue::from_str(&id).ok()) {
            response.headers_mut().insert(SESSION, value);
        }
        Ok(response)
    }

    /// The client's own stream.
    ///
    /// # Errors
    /// [`Refusal`]: it is not opened.
    pub fn listened(&self, headers: &HeaderMap) -> Result<Response, Refusal> {
        check_version(headers)?;
        self.check_session(headers)?;
        let (sender, receiver) = mpsc::channel(WAITING);
        // The newest counts: a client that lost its stream opens another.
        self.state().stream = Some(sender);
        Ok(events(receiver))
    }

    /// The client is done.
    ///
    /// # Errors
    /// [`Refusal`]: it is another's to say.
    pub fn ended(&self, headers: &HeaderMap) -> Result<StatusCode, Refusal> {
        check_version(headers)?;
        self.check_session(headers)?;
        self.over.send_replace(true);
        Ok(StatusCode::NO_CONTENT)
    }

    /// The client's session of the protocol, once there is one.
    pub fn session(&self) -> Option<String> {
        self.state().session.clone()
    }

    /// The one session of an endpoint.
    fn begin(&self) -> Result<String, Refusal> {
        let mut state = self.state();
        if state.session.is_some() {
            let why = "another client has this endpoint: open one of your own";
            return Err(Refusal(StatusCode::CONFLICT, why));
        }
        let id = uuid::Uuid::new_v4().to_string();
        state.session = Some(id.clone());
        Ok(id)
    }

    /// Says something that is no answer: on the client's own stream, or with the answer that
    /// somebody waits for. False when nobody listens.
    fn tell(&self, text: &str) -> bool {
        let state = self.state();
        let mut places = state.stream.iter().chain(state.waiting.values());
        places.any(|place| {
            let Ok(share) = Arc::clone(&self.told).try_acquire_many_owned(cost(text, TOLD_BYTES))
            else {
                return false;
            };
            // The last place is the answer's.
            place.capacity() > 1 && place.try_send((text.to_owned(), share)).is_ok()
        })
    }

    fn check_session(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let asked = headers.get(SESSION).map(HeaderValue::as_bytes);
        match (asked, &self.state().session) {
            (None, _) => Err(Refusal(
                StatusCode::BAD_REQUEST,
                "`Mcp-Session-Id` is missing",
            )),
            (Some(asked), Some(known)) if asked == known.as_bytes() => Ok(()),
            (Some(_), _) => Err(Refusal(StatusCode::NOT_FOUND, "there is no such session")),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check_version(headers: &HeaderMap) -> Result<(), Refusal> {
    match headers.get(VERSION) {
        Some(version) if !VERSIONS.iter().any(|known| version == known) => Err(Refusal(
            StatusCode::BAD_REQUEST,
            "the protocol's version is not known here",
        )),
        _known => Ok(()),
    }
}

/// Its share of what may wait for a client that does not read; waits until there is one.
async fn share(all: &Arc<Semaphore>, text: &str) -> Result<OwnedSemaphorePermit, AcquireError> {
    let cost = cost(text, ANSWER_BYTES);
    Arc::clone(all).acquire_many_owned(cost).await
}

/// What is longer than everything that may wait takes all of it.
fn cost(text: &str, all: usize) -> u32 {
    u32::try_from(text.len().min(all)).unwrap_or(u32::MAX)
}

/// Lines as server-sent events, until nobody sends any more.
fn events(receiver: mpsc::Receiver<Waiting>) -> Response {
    let events = stream::unfold((receiver, None), |(mut receiver, read)| async {
        // Asked for the next one, the client has taken the last.
        drop(read);
        let (line, share) = receiver.recv().await?;
        let event = format!("event: message\ndata: {line}\n\n");
        Some((Ok::<_, Infallible>(event), (receiver, Some(share))))
    });
    let fields = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (fields, Body::from_stream(events)).into_response()
}

/// A request that is not taken, and why.
#[derive(Debug)]
pub struct Refusal(pub StatusCode, pub &'static str);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.0, format!("{}\n", self.1)).into_response();
        if self.0 == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, bearer);
        }
        response
    }
}

const GONE: Refusal = Refusal(StatusCode::BAD_GATEWAY, "the server has ended");

/// Messages that wait for one reader.
const WAITING: usize = 64;

/// Requests that wait for their answers.
const MOST_WAITING: usize = 256;

/// Bytes of answers that wait to be read; then the server waits too.
const ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// Bytes of what the server says by itself that wait to be read; then it is not passed on.
const TOLD_BYTES: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use cordon_runtime::mcp::{Asked, Fate, Judge, Limits, Listed, Out, Relay, Ruling};
    use http_body_util::BodyExt as _;
    use serde_json::json;

    use super::*;

    /// Allows everything, and counts what was refused before it was asked.
    #[derive(Default)]
    struct Lenient(Mutex<usize>);

    impl Judge for Lenient {
        async fn decide(&self, _asked: Asked) -> Ruling {
            Ruling::Allowed
        }

        async fn sort(&self, listed: Vec<Listed>) -> Result<Vec<Fate>, String> {
            Ok(vec![Fate::Shown; listed.len()])
        }

        async fn refuse(&self, _what: String, _why: String) {
            *self.0.lock().unwrap() += 1;
        }
    }

    /// What the relay is told to be recorded could be a message once its line breaks and its bytes
    /// that are no text are gone. The client was told that it is none.
    #[tokio::test]
    async fn p03_what_is_refused_as_malformed_goes_to_no_server() {
        let (front, mut lines) = Front::new();
        let judge = Lenient::default();
        let limits = Limits {
            result_bytes: 1000,
            arguments: Vec::new(),
        };
        let mut relay = Relay::new(limits);
        let fields = HeaderMap::from_iter([(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        )]);
        let asked = |name: &[u8]| {
            let start = br#"{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":""#;
            [start, name, br#""}}"#].concat()
        };
        let bodies = [
            asked(b"a\nb"),
            asked(b"a\rb"),
            asked(b"a\xffb"),
            asked(b"a\tb"),
            b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initia\xfflized\"}".to_vec(),
            b"[]\n".to_vec(),
            b"no\nJSON".to_vec(),
        ];
        for (n, body) in bodies.iter().enumerate() {
            let shown = String::from_utf8_lossy(body);
            let response = front.posted(&fields, body).await.unwrap();
            assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{shown}");
            let line = lines.try_recv().unwrap();
            assert!(!line.contains('\n'), "{line}");
            let out = relay.from_client(&judge, line.as_bytes()).await;
            assert!(
                !out.iter().any(|out| matches!(out, Out::Server(_))),
                "{shown}: {out:?}"
            );
            assert_eq!(*judge.0.lock().unwrap(), n + 1, "{shown}");
        }
        // The relay sends on what is a message.
        let out = relay.from_client(&judge, &asked(b"ab")).await;
        assert!(matches!(&out[..], [Out::Server(_)]), "{out:?}");
    }

    /// A server that says more than its client reads takes no memory for it, and the answer comes all
    /// the same.
    #[tokio::test]
    async fn n24_what_a_server_says_waits_within_bounds_and_keeps_no_answer_waiting() {
        let (front, lines) = Front::new();
        let (relay, own) = tokio::io::duplex(1 << 16);
        let (from_front, mut to_front) = split(own);
        let mut from_front = BufReader::new(from_front).lines();
        let front = Arc::new(front);
        let serving = Arc::clone(&front);
        let served = tokio::spawn(async move { serving.serve(lines, relay).await });
        let fields = HeaderMap::from_iter([(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        )]);
        let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}});
        let hello = hello.to_string();
        let response = front.posted(&fields, hello.as_bytes()).await.unwrap();
        assert!(
            from_front
                .next_line()
                .await
                .unwrap()
                .unwrap()
                .contains("initialize")
        );
        let said = json!({
            "jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "x".repeat(1 << 18)},
        });
        let answer = json!({"jsonrpc": "2.0", "id": 1, "result": {}});
        for line in std::iter::repeat_n(&said, 200).chain([&answer]) {
            to_front
                .write_all(format!("{line}\n").as_bytes())
                .await
                .unwrap();
        }
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&body);
        let told: Vec<Value> = text
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .map(|data| serde_json::from_str(data).unwrap())
            .collect();
        assert_eq!(told.last(), Some(&answer));
        let said = told.len() - 1;
        assert!(
            (1..=TOLD_BYTES >> 18).contains(&said),
            "{said} of 200 waited"
        );
        served.abort();
    }
}
