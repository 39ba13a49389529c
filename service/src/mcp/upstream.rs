//! A server's side as a client of Streamable HTTP: one endpoint, one session of the protocol.
//!
//! Lines of the relay in, each sent as a request; the answers and what the server says by itself back
//! as lines. Follows no redirect, sends no field that is not its own, and takes an answer for a
//! message only where it is one.
//!
//! Source: MCP 2025-11-25, "Transports", "Streamable HTTP".

mod wire;

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cordon_runtime::mcp::{Id, Message, code, error};
use hyper::{
    HeaderMap, Method, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{self, HeaderValue},
};
use serde_json::Value;
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
        BufReader, DuplexStream, split,
    },
    sync::mpsc,
    task::JoinSet,
};

use self::wire::{Kept, Wire, frame, whole};
use super::{SESSION, VERSION, VERSIONS, sse::Events};

/// A connection to an endpoint.
pub type Stream = Box<dyn Io>;

/// What comes of opening one, or of what else may be asked about on the way.
pub type Opening<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// Reads and writes.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// How an endpoint is reached.
pub trait Way: Send + Sync + 'static {
    /// Opens a connection, decided where that is to be.
    fn open(&self) -> Opening<'_, Stream>;

    /// Fields of each request: what it is spoken to with.
    fn fields(&self) -> Opening<'_, HeaderMap>;

    /// A message of an answer, whole, as it may be passed on.
    ///
    /// # Errors
    /// In words: it may not, and that is recorded.
    fn clean(&self, message: Vec<u8>) -> Opening<'_, Vec<u8>> {
        Box::pin(async { Ok(message) })
    }

    /// Its authority and its path.
    fn target(&self) -> (&str, &str);

    /// Whether an error's own words are ours, and may be told.
    fn is_ours(&self) -> bool;
}

/// One session with an endpoint.
pub struct Upstream<W> {
    wire: Wire<W>,
    agreed: Mutex<Agreed>,
}

/// What the greeting agreed on.
#[derive(Debug, Default)]
struct Agreed {
    session: Option<HeaderValue>,
    version: Option<HeaderValue>,
    /// Whether the server was told that it is over.
    over: bool,
}

impl<W: Way> Upstream<W> {
    /// With an endpoint that is not spoken to yet.
    pub fn new(way: W) -> Self {
        Self {
            wire: Wire::new(way),
            agreed: Mutex::default(),
        }
    }

    /// Carries between `relay`, its end, and the endpoint until the relay is done.
    pub async fn serve(self: Arc<Self>, relay: DuplexStream) {
        let (from_relay, mut to_relay) = split(relay);
        let (back, mut lines) = mpsc::channel::<Vec<u8>>(AHEAD);
        let written = async {
            while let Some(mut line) = lines.recv().await {
                line.push(b'\n');
                if to_relay.write_all(&line).await.is_err() {
                    return;
                }
            }
        };
        let asked = Arc::clone(&self).ask_all(BufReader::new(from_relay), back);
        tokio::select! {
            () = written => {}
            () = asked => {}
        }
        self.goodbye().await;
    }

    /// Tells the server once that its session is over, where there was one.
    pub async fn goodbye(&self) {
        let is_open = {
            let mut agreed = self.agreed();
            agreed.session.is_some() && !std::mem::replace(&mut agreed.over, true)
        };
        if is_open {
            // Where it does not take it, the session ends of idleness there.
            let _ended = tokio::time::timeout(GOODBYE, self.send(&Method::DELETE, "", None)).await;
        }
    }

    async fn ask_all(
        self: Arc<Self>,
        mut from: BufReader<impl AsyncRead + Unpin>,
        back: mpsc::Sender<Vec<u8>>,
    ) {
        let mut tasks = JoinSet::new();
        let mut line = String::new();
        loop {
            line.clear();
            let mut bounded = (&mut from).take(LINE_BYTES);
            if !matches!(bounded.read_line(&mut line).await, Ok(read) if read > 0) {
                return;
            }
            if !line.ends_with('\n') {
                // The last one without its end is no message, and one that is too long neither.
                return;
            }
            let text = line.trim().to_owned();
            while tasks.try_join_next().is_some() {}
            match Message::read(text.as_bytes()) {
                Ok(Message::Request { id, method, .. }) if method == "initialize" => {
                    self.answered(text, id, &back).await;
                    let (up, back) = (Arc::clone(&self), back.clone());
                    tasks.spawn(async move { up.listen(&back).await });
                }
                Ok(Message::Request { id, .. }) if tasks.len() >= AT_ONCE => {
                    let why = format!("{AT_ONCE} requests wait for the server");
                    let _gone = back.send(failed(id, &why)).await;
                }
                Ok(Message::Request { id, .. }) => {
                    let (up, back) = (Arc::clone(&self), back.clone());
                    tasks.spawn(async move { up.answered(text, id, &back).await });
                }
                // In order, and nobody waits for an answer: what goes wrong shows in the next one.
                Ok(Message::Notification { .. } | Message::Response { .. }) => {
                    let sent = self.send(&Method::POST, &text, None);
                    let _told = tokio::time::timeout(HEAD_DEADLINE, sent).await;
                }
                Err(malformed) if !text.is_empty() => {
                    let _gone = back.send(malformed.line().into_bytes()).await;
                }
                Err(_blank) => {}
            }
        }
    }

    /// One request with its answer, or the error that stands for it.
    async fn answered(&self, text: String, id: Id, back: &mpsc::Sender<Vec<u8>>) {
        let exchange = self.exchange(&text, &id, back);
        let done = tokio::time::timeout(CALL_DEADLINE, exchange).await;
        let why = match done {
            Ok(Ok(())) => return,
            Ok(Err(why)) => why,
            Err(_late) => "the server did not answer in time".into(),
        };
        let _gone = back.send(failed(id, &why)).await;
    }

    async fn exchange(
        &self,
        text: &str,
        id: &Id,
        back: &mpsc::Sender<Vec<u8>>,
    ) -> Result<(), String> {
        let (response, kept) = self.send(&Method::POST, text, None).await?;
        let response = self.checked(response).await?;
        self.agree_on_session(response.headers());
        match media(&response) {
            Some("application/json") => {
                let body = whole(response.into_body()).await?;
                self.wire.keep(kept);
                let line: Vec<u8> = body.iter().map(|byte| as_one_line(*byte)).collect();
                match Message::read(&line) {
                    Ok(Message::Response { id: of, outcome }) if of == *id => {
                        self.agree_on_version(&outcome);
                    }
                    _other => return Err("the server's answer is not the answer".into()),
                }
                let line = self.wire.way().clean(line).await?;
                back.send(line).await.map_err(|_| GONE.to_owned())
            }
            Some("text/event-stream") => self.streamed(response, id, back).await,
            _other => Err("the server's answer is neither JSON nor events".into()),
        }
    }

    /// Events until the answer is among them; a stream that ends before is resumed a few times.
    async fn streamed(
        &self,
        response: Response<Incoming>,
        id: &Id,
        back: &mpsc::Sender<Vec<u8>>,
    ) -> Result<(), String> {
        let mut last = None;
        let mut next = Some(response);
        let mut left = RESUMPTIONS;
        while let Some(response) = next.take() {
            if self.events(response, &mut last, Some(id), back).await? {
                return Ok(());
            }
            if last.is_some() && left > 0 {
                left -= 1;
                let (resumed, _kept) = self.send(&Method::GET, "", last.as_deref()).await?;
                let resumed = self.checked(resumed).await?;
                next = (media(&resumed) == Some("text/event-stream")).then_some(resumed);
            }
        }
        Err("the server's stream ended before its answer".into())
    }

    /// What comes on one stream. True once the answer to `wanted` was among it.
    async fn events(
        &self,
        response: Response<Incoming>,
        last: &mut Option<String>,
        wanted: Option<&Id>,
        back: &mpsc::Sender<Vec<u8>>,
    ) -> Result<bool, String> {
        let mut body = response.into_body();
        let mut events = Events::new();
        loop {
            let bytes = match frame(&mut body).await {
                Ok(Some(bytes)) => bytes,
                // Broken off is over, as far as resuming goes.
                Ok(None) | Err(_) => return Ok(false),
            };
            for event in events.feed(&bytes)? {
                if event.id.is_some() {
                    *last = event.id;
                }
                if event.data.is_empty() {
                    continue;
                }
                let read = Message::read(&event.data);
                let is_wanted = match &read {
                    Ok(Message::Response { id, outcome }) if Some(id) == wanted => {
                        self.agree_on_version(outcome);
                        true
                    }
                    _other => false,
                };
                let data = self.wire.way().clean(event.data).await?;
                back.send(data).await.map_err(|_| GONE.to_owned())?;
                if is_wanted {
                    return Ok(true);
                }
            }
        }
    }

    /// What the server says by itself, where it does: one stream, opened again a few times.
    async fn listen(&self, back: &mpsc::Sender<Vec<u8>>) {
        let mut last: Option<String> = None;
        let mut left = RESUMPTIONS;
        while left > 0 {
            left -= 1;
            let Ok((response, _kept)) = self.send(&Method::GET, "", last.as_deref()).await else {
                return;
            };
            let is_stream = media(&response) == Some("text/event-stream");
            if response.status() != StatusCode::OK || !is_stream {
                return;
            }
            let before = last.clone();
            if self.events(response, &mut last, None, back).await.is_err() {
                return;
            }
            if last != before {
                left = RESUMPTIONS;
            }
            tokio::time::sleep(BETWEEN).await;
        }
    }

    async fn send(
        &self,
        method: &Method,
        body: &str,
        last: Option<&str>,
    ) -> Result<(Response<Incoming>, Kept), String> {
        let mut fields = self.wire.way().fields().await?;
        let accept = if *method == Method::GET {
            "text/event-stream"
        } else {
            "application/json, text/event-stream"
        };
        fields.insert(header::ACCEPT, HeaderValue::from_static(accept));
        if *method == Method::POST {
            let json = HeaderValue::from_static("application/json");
            fields.insert(header::CONTENT_TYPE, json);
        }
        if let Some(last) = last.and_then(|last| HeaderValue::from_str(last).ok()) {
            fields.insert("last-event-id", last);
        }
        {
            let agreed = self.agreed();
            for (name, value) in [(SESSION, &agreed.session), (VERSION, &agreed.version)] {
                if let Some(value) = value {
                    fields.insert(name, value.clone());
                }
            }
        }
        let body = Bytes::copy_from_slice(body.as_bytes());
        let sent = self.wire.send(method, fields, body);
        let sent = tokio::time::timeout(HEAD_DEADLINE, sent).await;
        sent.unwrap_or_else(|_late| Err("the server did not answer in time".into()))
    }

    /// An answer that is one.
    async fn checked(&self, response: Response<Incoming>) -> Result<Response<Incoming>, String> {
        let status = response.status();
        if status == StatusCode::OK {
            return Ok(response);
        }
        if self.wire.way().is_ours() {
            let body = whole(response.into_body()).await?;
            let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
            if let Some(detail) = problem.get("detail").and_then(Value::as_str) {
                return Err(detail.to_owned());
            }
        }
        Err(match status.as_u16() {
            300..=399 => format!("the server sends elsewhere ({status}), which is not followed"),
            401 | 403 => format!("the server does not let the connector in ({status})"),
            404 => "the server does not know this session any more (404)".into(),
            _other => format!("the server answered {status}"),
        })
    }

    fn agree_on_session(&self, fields: &HeaderMap) {
        let named = fields.get(SESSION);
        let usable = |value: &&HeaderValue| {
            let bytes = value.as_bytes();
            (1..=LONGEST_SESSION).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
        };
        let mut agreed = self.agreed();
        if agreed.session.is_none() {
            agreed.session = named.filter(usable).cloned();
        }
    }

    fn agree_on_version(&self, outcome: &Result<Value, Value>) {
        let mut agreed = self.agreed();
        let version = outcome.as_ref().ok().and_then(|result| {
            let version = result.get("protocolVersion")?.as_str()?;
            VERSIONS.iter().find(|known| **known == version)
        });
        if let (None, Some(version)) = (&agreed.version, version) {
            agreed.version = Some(HeaderValue::from_static(version));
        }
    }

    fn agreed(&self) -> MutexGuard<'_, Agreed> {
        self.agreed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W> fmt::Debug for Upstream<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").finish_non_exhaustive()
    }
}

fn media(response: &Response<Incoming>) -> Option<&str> {
    let media = response
        .headers()
        .get(header::CONTENT_TYPE)?
        .to_str()
        .ok()?;
    media.split(';').next().map(str::trim)
}

/// Line breaks of JSON outside of texts are only space, and inside there are none.
fn as_one_line(byte: u8) -> u8 {
    match byte {
        b'\n' | b'\r' => b' ',
        other => other,
    }
}

fn failed(id: Id, why: &str) -> Vec<u8> {
    let outcome = Err(error(code::INTERNAL, why, None));
    Message::Response { id, outcome }.line().into_bytes()
}

const GONE: &str = "the client is gone";

/// Longest line of a relay, in bytes.
const LINE_BYTES: u64 = 16 * 1024 * 1024;

/// Requests that wait for the server.
const AT_ONCE: usize = 64;

/// Lines that wait for the relay.
const AHEAD: usize = 8;

/// Times that a stream which ends early is asked for again.
const RESUMPTIONS: u32 = 3;

/// Between two streams of what the server says by itself.
const BETWEEN: Duration = Duration::from_secs(1);

/// Longest name of a server's session, in bytes.
const LONGEST_SESSION: usize = 512;

/// Time until an answer begins, the connection included.
const HEAD_DEADLINE: Duration = Duration::from_secs(120);

/// Time for one request with its whole answer.
const CALL_DEADLINE: Duration = Duration::from_secs(600);

/// Time to say that a session is over.
const GOODBYE: Duration = Duration::from_secs(5);
