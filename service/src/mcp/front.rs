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
    sync::{Mutex, MutexGuard, PoisonError},
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use cordon_runtime::mcp::{Id, Message, code, error};
use futures_util::stream;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader, DuplexStream, split},
    sync::{mpsc, watch},
};

use super::{SESSION, VERSION, VERSIONS};

/// One client of a server.
#[derive(Debug)]
pub struct Front {
    state: Mutex<State>,
    /// Lines to the relay.
    lines: mpsc::Sender<String>,
    over: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    /// The client's session of the protocol, once it has said who it is.
    session: Option<String>,
    /// Who waits for which answer.
    waiting: HashMap<Id, mpsc::Sender<String>>,
    /// The stream for what the server says by itself.
    stream: Option<mpsc::Sender<String>>,
}

impl Front {
    /// For a client that is to come; with what [`Front::serve`] sends on.
    pub fn new() -> (Self, mpsc::Receiver<String>) {
        let (lines, for_relay) = mpsc::channel(WAITING);
        let front = Self {
            state: Mutex::default(),
            lines,
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
                        // It may have gone; then nobody wants it.
                        let _gone = waiting.try_send(text);
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
                let line = String::from_utf8_lossy(body).replace(['\n', '\r'], " ");
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
            let why = "this endpoint has its client: `cordon mcp wrap --listen` opens another";
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
        places.any(|place| place.try_send(text.to_owned()).is_ok())
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

/// Lines as server-sent events, until nobody sends any more.
fn events(receiver: mpsc::Receiver<String>) -> Response {
    let events = stream::unfold(receiver, |mut receiver| async {
        let line = receiver.recv().await?;
        let event = format!("event: message\ndata: {line}\n\n");
        Some((Ok::<_, Infallible>(event), receiver))
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
