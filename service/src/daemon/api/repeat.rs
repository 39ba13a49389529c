//! Calls that change something and are done once, however often they are sent: `Idempotency-Key`.
//!
//! The same key with the same call gets the answer of the first, also while that is being made;
//! with another call it is refused. A call whose client went away is carried out to its end.
//!
//! Source: the IETF draft on the Idempotency-Key header field.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http_body_util::{BodyExt, Limited};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::{
    BODY_BYTES, Caller, Daemon,
    problem::{Code, Problem},
    sessions::view,
};
use crate::daemon::{hosted::Repeatable, live::Live};

/// The calls that were made with a key, and what came of them.
#[derive(Debug, Default)]
pub struct Repeated {
    calls: Mutex<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    known: HashMap<String, Call>,
    /// In the order in which they came.
    order: VecDeque<String>,
}

#[derive(Clone, Debug)]
struct Call {
    asked: String,
    answer: Answered,
}

/// What came of a call, once it is there.
type Answered = watch::Receiver<Option<Answer>>;

/// Who has to carry a call out.
enum Turn {
    /// Whoever asks: nobody has. The answer goes here.
    First(watch::Sender<Option<Answer>>),
    /// Somebody did, or is at it.
    Again,
}

#[derive(Clone, Debug)]
struct Answer {
    status: StatusCode,
    media: Option<HeaderValue>,
    body: Bytes,
}

/// Calls that are remembered; beyond it the oldest is forgotten.
const MOST: usize = 10_000;

/// Longest key, in bytes.
const LONGEST_KEY: usize = 255;

/// Carries a call out once.
pub async fn once(State(daemon): State<Arc<Daemon>>, request: Request, next: Next) -> Response {
    let changes = matches!(
        *request.method(),
        Method::POST | Method::PATCH | Method::DELETE
    );
    let key = request.headers().get(KEY).cloned();
    let (Some(key), true) = (key, changes) else {
        return next.run(request).await;
    };
    let caller = request.extensions().get::<Caller>();
    let whose = caller.map_or("", |caller| caller.user.as_str());
    let Some(key) = named(whose, &key) else {
        let why = format!("`Idempotency-Key` is 1 to {LONGEST_KEY} visible characters");
        return Problem::new(Code::Malformed, why).into_response();
    };
    let (mut head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_BYTES).collect().await else {
        let most = format!("a body is at most {BODY_BYTES} bytes");
        return Problem::new(Code::TooLarge, most).into_response();
    };
    let body = body.to_bytes();
    let asked = fingerprint(&head.method, &head.uri.to_string(), &body);
    let (turn, answered) = match daemon.repeated.begin(&key, &asked) {
        Ok(begun) => begun,
        Err(problem) => return problem.into_response(),
    };
    let Turn::First(answer_to) = turn else {
        return wait(answered, true).await;
    };
    head.extensions.insert(Repeatable {
        key: key.clone(),
        asked,
    });
    let request = Request::from_parts(head, Body::from(body));
    tokio::spawn(async move {
        let answer = Answer::read(next.run(request).await).await;
        if answer.status.is_server_error() {
            // It may be tried again.
            daemon.repeated.forget(&key);
        }
        answer_to.send_replace(Some(answer));
    });
    wait(answered, false).await
}

/// The answer, once it is there.
async fn wait(mut answered: Answered, again: bool) -> Response {
    match answered.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(answer)) => answer.as_response(again),
        // Whoever was at it broke off.
        Ok(None) | Err(_) => Problem::new(Code::Late, "the call broke off").into_response(),
    }
}

impl Repeated {
    /// Remembers a session that a daemon before opened for a call.
    pub fn opened(&self, call: Repeatable, live: &Live) {
        let body = json!(view(live)).to_string();
        let answer = Answer {
            status: StatusCode::CREATED,
            media: Some(HeaderValue::from_static("application/json")),
            body: body.into(),
        };
        let (_answer_to, answer) = watch::channel(Some(answer));
        let asked = call.asked;
        self.lock().enter(call.key, Call { asked, answer });
    }

    fn begin(&self, key: &str, asked: &str) -> Result<(Turn, Answered), Problem> {
        let mut calls = self.lock();
        if let Some(call) = calls.known.get(key) {
            if call.asked != asked {
                let help = "send another key with another call";
                let why = "it came with another method, path or body before";
                return Err(Problem::new(Code::KeyReused, why).help(Some(help.into())));
            }
            return Ok((Turn::Again, call.answer.clone()));
        }
        let (answer_to, answer) = watch::channel(None);
        let call = Call {
            asked: asked.into(),
            answer: answer.clone(),
        };
        calls.enter(key.into(), call);
        Ok((Turn::First(answer_to), answer))
    }

    fn forget(&self, key: &str) {
        let mut calls = self.lock();
        calls.known.remove(key);
        calls.order.retain(|known| known != key);
    }

    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Calls {
    fn enter(&mut self, key: String, call: Call) {
        self.known.insert(key.clone(), call);
        self.order.push_back(key);
        while self.order.len() > MOST {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }
}

impl Answer {
    async fn read(response: Response) -> Self {
        let (head, body) = response.into_parts();
        let body = body.collect().await;
        Self {
            status: head.status,
            media: head.headers.get(header::CONTENT_TYPE).cloned(),
            body: body.map_or_else(|_broken| Bytes::new(), |body| body.to_bytes()),
        }
    }

    fn as_response(&self, again: bool) -> Response {
        let mut response = (self.status, self.body.clone()).into_response();
        let fields = response.headers_mut();
        fields.remove(header::CONTENT_TYPE);
        if let Some(media) = &self.media {
            fields.insert(header::CONTENT_TYPE, media.clone());
        }
        if again {
            fields.insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

/// The key as one caller's.
fn named(whose: &str, key: &HeaderValue) -> Option<String> {
    let key = key.to_str().ok()?;
    let visible = key.bytes().all(|byte| byte.is_ascii_graphic());
    ((1..=LONGEST_KEY).contains(&key.len()) && visible).then(|| format!("{whose} {key}"))
}

fn fingerprint(method: &Method, target: &str, body: &[u8]) -> String {
    let mut hash = Sha256::new();
    for part in [method.as_str().as_bytes(), target.as_bytes(), body] {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

const KEY: &str = "idempotency-key";

/// On an answer that was made before.
const REPLAYED: &str = "idempotency-replayed";
