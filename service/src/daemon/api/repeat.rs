//! Calls that change something and are done once, however often they are sent: `Idempotency-Key`.
//!
//! The same key with the same call gets the answer of the first, also while that is being made;
//! with another call it is refused. A call whose client went away is carried out to its end. What
//! only decides or passes a tool's message on is not among them: an allow holds when it is given,
//! and not after the policy, the session's labels or an approval have changed.
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
    manage::DECISION,
    problem::{Code, Problem},
    sessions::view,
    token::unknown,
};
use crate::daemon::{hosted::Repeatable, live::Live, registry::Registry};

/// The calls that were made with a key, and what came of them: those of all users, or those of
/// whoever asks in the name of one session.
#[derive(Debug, Default)]
pub struct Repeated {
    calls: Mutex<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    known: HashMap<Key, Call>,
    /// Keys in the order in which they came, by caller: one forgets only its own.
    order: HashMap<String, VecDeque<Key>>,
}

/// A key as one caller's: whose it is, and both as they are kept with a session.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Key {
    whose: String,
    whole: String,
}

#[derive(Clone, Debug)]
struct Call {
    asked: String,
    answer: Answered,
}

/// Where the answer of a call goes.
type AnswerTo = watch::Sender<Option<Answer>>;

/// What came of a call, once it is there.
type Answered = watch::Receiver<Option<Answer>>;

/// Who has to carry a call out.
enum Turn {
    /// Whoever asks: nobody has.
    First(Duty),
    /// Somebody did, or is at it.
    Again,
}

/// To carry a call out. Whoever drops it without an answer leaves the key as though it had not come.
struct Duty {
    repeated: Arc<Repeated>,
    key: Key,
    answer_to: AnswerTo,
    done: bool,
}

#[derive(Clone, Debug)]
struct Answer {
    status: StatusCode,
    /// For those who record what was refused without a session.
    code: Option<Code>,
    media: Option<HeaderValue>,
    /// By which decision it was carried out.
    decision: Option<HeaderValue>,
    body: Bytes,
}

/// Calls of one caller that are remembered; beyond it the oldest is forgotten.
const MOST: usize = 10_000;

/// Where sessions are opened. Of one that nobody waits for any more nothing stays.
const SESSIONS: &str = "/v1/sessions";

/// Longest key, in bytes.
const LONGEST_KEY: usize = 255;

/// Carries a call out once.
pub async fn once(State(daemon): State<Arc<Daemon>>, request: Request, next: Next) -> Response {
    let key = request.headers().get(KEY).cloned();
    let is_kept = takes_a_key(request.method().as_str(), request.uri().path());
    let key = match (key, is_kept) {
        (Some(key), true) => key,
        (None, true) if request.uri().path() != SESSIONS => return to_its_end(request, next).await,
        (_, false) if is_of_tokens(request.uri().path()) => return to_its_end(request, next).await,
        _anew => return next.run(request).await,
    };
    let caller = request.extensions().get::<Caller>();
    let Some((whose, repeated)) = kept_with(&daemon.registry, &daemon.repeated, caller) else {
        return unknown();
    };
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
    let (turn, answered) = match begin(&repeated, &key, &asked) {
        Ok(begun) => begun,
        Err(problem) => return problem.into_response(),
    };
    let Turn::First(duty) = turn else {
        return wait(answered, true).await;
    };
    head.extensions.insert(Repeatable {
        key: key.whole,
        asked,
    });
    let request = Request::from_parts(head, Body::from(body));
    tokio::spawn(async move { duty.done(Answer::read(next.run(request).await).await) });
    wait(answered, false).await
}

/// Whose a caller's keys are, and with what they are kept. Whoever has a session's token has keys of
/// its own: the user's are not theirs to use up, and they are let go of with the session. None where
/// that is over.
fn kept_with<'a>(
    registry: &Registry,
    of_users: &Arc<Repeated>,
    caller: Option<&'a Caller>,
) -> Option<(&'a str, Arc<Repeated>)> {
    let Some(caller) = caller else {
        return Some(("", Arc::clone(of_users)));
    };
    let Some(session) = &caller.session else {
        return Some((&caller.user, Arc::clone(of_users)));
    };
    let live = registry.of_id(session)?;
    Some((session, Arc::clone(live.repeated())))
}

/// Carries out a change also where whoever asks goes away meanwhile: what is half done nobody would
/// know of.
async fn to_its_end(request: Request, next: Next) -> Response {
    let done = tokio::spawn(next.run(request)).await;
    done.unwrap_or_else(|_panicked| Problem::new(Code::Late, "the call broke off").into_response())
}

/// Whether a call of this method, whatever its case, to this path is done once with a key.
pub fn takes_a_key(method: &str, path: &str) -> bool {
    let changes = ["POST", "PATCH", "DELETE"];
    let changes = changes.iter().any(|one| one.eq_ignore_ascii_case(method));
    changes && is_kept(path)
}

/// Whether what came of a call to this path is kept. What is not listed is carried out each time: it
/// decides, passes on a tool's message, or gives out a secret.
fn is_kept(path: &str) -> bool {
    let Some(path) = path.strip_prefix("/v1/") else {
        return false;
    };
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        ["sessions"] | ["extensions"] => true,
        ["sessions" | "approvals" | "extensions", _id] => true,
        ["sessions", _id, what] => {
            ["browser", "cancel", "grants", "pause", "resume"].contains(what)
        }
        ["sessions", _id, "connectors" | "mcp", _name] => true,
        ["mcp", _server] | ["mcp", _server, "accept"] => true,
        ["extensions", _name, "approve"] => true,
        _anew => false,
    }
}

/// Whether a call makes or takes back tokens, which it does each time, and the whole of it.
fn is_of_tokens(path: &str) -> bool {
    let session = path.strip_prefix(SESSIONS);
    let session = session.and_then(|rest| rest.strip_prefix('/')?.strip_suffix("/tokens"));
    session.is_some_and(|id| !id.contains('/'))
}

impl Duty {
    fn done(mut self, answer: Answer) {
        self.done = true;
        if answer.status.is_server_error() {
            // It may be tried again.
            self.repeated.forget(&self.key);
        }
        self.answer_to.send_replace(Some(answer));
    }
}

impl Drop for Duty {
    fn drop(&mut self) {
        if !self.done {
            self.repeated.forget(&self.key);
        }
    }
}

fn begin(repeated: &Arc<Repeated>, key: &Key, asked: &str) -> Result<(Turn, Answered), Problem> {
    Ok(match repeated.begin(key, asked)? {
        (None, answered) => (Turn::Again, answered),
        (Some(answer_to), answered) => {
            let duty = Duty {
                repeated: Arc::clone(repeated),
                key: key.clone(),
                answer_to,
                done: false,
            };
            (Turn::First(duty), answered)
        }
    })
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
            code: None,
            media: Some(HeaderValue::from_static("application/json")),
            decision: live.leave().and_then(|id| HeaderValue::from_str(id).ok()),
            body: body.into(),
        };
        let (_answer_to, answer) = watch::channel(Some(answer));
        let asked = call.asked;
        self.lock()
            .enter(Key::kept(call.key), Call { asked, answer });
    }

    /// With where the answer goes, where nobody was asked before.
    fn begin(&self, key: &Key, asked: &str) -> Result<(Option<AnswerTo>, Answered), Problem> {
        let mut calls = self.lock();
        if let Some(call) = calls.known.get(key) {
            if call.asked != asked {
                let help = "send another key with another call";
                let why = "it came with another method, path or body before";
                return Err(Problem::new(Code::KeyReused, why).help(Some(help.into())));
            }
            return Ok((None, call.answer.clone()));
        }
        let (answer_to, answer) = watch::channel(None);
        let call = Call {
            asked: asked.into(),
            answer: answer.clone(),
        };
        calls.enter(key.clone(), call);
        Ok((Some(answer_to), answer))
    }

    fn forget(&self, key: &Key) {
        let mut calls = self.lock();
        calls.known.remove(key);
        if let Some(order) = calls.order.get_mut(&key.whose) {
            order.retain(|known| known != key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Calls {
    fn enter(&mut self, key: Key, call: Call) {
        self.known.insert(key.clone(), call);
        let order = self.order.entry(key.whose.clone()).or_default();
        order.push_back(key);
        while order.len() > MOST {
            if let Some(oldest) = order.pop_front() {
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
            code: head.extensions.get().copied(),
            media: head.headers.get(header::CONTENT_TYPE).cloned(),
            decision: head.headers.get(DECISION).cloned(),
            body: body.map_or_else(|_broken| Bytes::new(), |body| body.to_bytes()),
        }
    }

    fn as_response(&self, again: bool) -> Response {
        let mut response = (self.status, self.body.clone()).into_response();
        if let Some(code) = self.code {
            response.extensions_mut().insert(code);
        }
        let fields = response.headers_mut();
        fields.remove(header::CONTENT_TYPE);
        if let Some(media) = &self.media {
            fields.insert(header::CONTENT_TYPE, media.clone());
        }
        fields.extend(self.decision.clone().map(|decision| (DECISION, decision)));
        if again {
            fields.insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

/// The key as one caller's.
fn named(whose: &str, key: &HeaderValue) -> Option<Key> {
    let key = key.to_str().ok()?;
    let visible = key.bytes().all(|byte| byte.is_ascii_graphic());
    ((1..=LONGEST_KEY).contains(&key.len()) && visible).then(|| Key {
        whose: whose.into(),
        whole: format!("{whose} {key}"),
    })
}

impl Key {
    /// As a session has it: no key has a space in it.
    fn kept(whole: String) -> Self {
        let whose = whole.rsplit_once(' ').map_or("", |(whose, _key)| whose);
        Self {
            whose: whose.into(),
            whole,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::live::of_tests::{policies, session};

    fn key(whose: &str, text: &str) -> Key {
        named(whose, &text.parse().unwrap()).unwrap()
    }

    #[test]
    fn one_caller_forgets_only_its_own_keys() {
        let repeated = Repeated::default();
        let first = key("bob", "mine");
        assert!(repeated.begin(&first, "a").unwrap().0.is_some());
        for n in 0..=MOST {
            repeated.begin(&key("eve", &n.to_string()), "a").unwrap();
        }
        assert!(
            repeated.begin(&first, "a").unwrap().0.is_none(),
            "it is still known"
        );
        assert!(repeated.begin(&first, "b").is_err());
        // The oldest of the other caller is not.
        assert!(repeated.begin(&key("eve", "0"), "b").unwrap().0.is_some());
        let kept = Key::kept(first.whole.clone());
        assert_eq!(kept, first);
    }

    /// Whoever waits for an answer gets it all the same.
    #[tokio::test]
    async fn n24_the_keys_of_a_session_s_token_go_with_the_session() {
        let folder = tempfile::tempdir().unwrap();
        let (policies, _log) = policies(folder.path());
        let (registry, of_users) = (Registry::default(), Arc::<Repeated>::default());
        registry.stay(Arc::new(session(&policies, "0193-a").await));
        let caller = |session: Option<&str>| Caller {
            user: "ada".into(),
            groups: Vec::new(),
            pid: None,
            session: session.map(Into::into),
            commands: false,
        };
        let ask = |caller: &Caller, text: &str| {
            let (whose, repeated) = kept_with(&registry, &of_users, Some(caller))?;
            let begun = begin(&repeated, &key(whose, text), "a");
            Some((Arc::downgrade(&repeated), begun.unwrap()))
        };
        let (ada, token) = (caller(None), caller(Some("0193-a")));
        let _opening = ask(&ada, "opened").unwrap();
        let (of_token, (turn, answered)) = ask(&token, "opened").unwrap();
        let Turn::First(duty) = turn else {
            panic!("another caller's key");
        };
        let (_, (turn, _)) = ask(&token, "opened").unwrap();
        assert!(matches!(turn, Turn::Again), "the control");
        registry.leave("0193-a");
        duty.done(Answer::read(StatusCode::NO_CONTENT.into_response()).await);
        assert_eq!(wait(answered, false).await.status(), StatusCode::NO_CONTENT);
        assert!(of_token.upgrade().is_none(), "nothing keeps them");
        assert!(ask(&token, "another").is_none(), "nor takes further ones");
        assert_eq!(of_users.lock().known.len(), 1, "the user's stay");
    }

    /// A handler that panics drops its duty: the key must not stay with nobody at it.
    #[tokio::test]
    async fn a_call_that_broke_off_may_be_made_again() {
        let repeated = Arc::<Repeated>::default();
        let key = key("bob", "mine");
        let (turn, answered) = begin(&repeated, &key, "a").unwrap();
        let again = begin(&repeated, &key, "a").unwrap();
        assert!(matches!(again.0, Turn::Again), "somebody is at it");
        drop(turn);
        for answered in [answered, again.1] {
            let status = wait(answered, true).await.status();
            assert!(status.is_server_error(), "{status}");
        }
        let Turn::First(duty) = begin(&repeated, &key, "a").unwrap().0 else {
            panic!("the key is stuck");
        };
        let made = Answer::read((StatusCode::CREATED, "made").into_response()).await;
        duty.done(made);
        let (turn, answered) = begin(&repeated, &key, "a").unwrap();
        assert!(matches!(turn, Turn::Again));
        assert_eq!(wait(answered, true).await.status(), StatusCode::CREATED);
    }

    #[test]
    fn what_only_decides_is_answered_anew() {
        for (path, kept) in [
            ("/v1/sessions/x/decisions", false),
            ("/v1/sessions/x/mcp/notes/decisions", false),
            ("/v1/sessions/x/mcp/notes/listing", false),
            ("/v1/sessions/x/mcp/notes/refusals", false),
            ("/v1/sessions/x/connectors/mail/uses", false),
            ("/v1/sessions/x/connectors/mail/mcp", false),
            ("/v1/sessions/x/extensions/notes/permissions", false),
            ("/v1/sessions/x/browser/navigations", false),
            ("/v1/sessions/x/browser/actions", false),
            ("/v1/sessions/x/tokens", false),
            ("/access/v1/evaluation", false),
            ("/access/v1/evaluations", false),
            ("/access/v1/search/action", false),
            ("/v1/hooks/claude-code/pre-tool-use", false),
            ("/v1/hooks/claude-code/session-end", false),
            ("/v1/sessions", true),
            ("/v1/sessions/x", true),
            ("/v1/sessions/x/browser", true),
            ("/v1/sessions/x/cancel", true),
            ("/v1/sessions/x/connectors/mail", true),
            ("/v1/sessions/x/grants", true),
            ("/v1/sessions/x/mcp/notes", true),
            ("/v1/sessions/x/pause", true),
            ("/v1/sessions/x/resume", true),
            ("/v1/approvals/x", true),
            ("/v1/extensions", true),
            ("/v1/extensions/notes", true),
            ("/v1/extensions/notes/approve", true),
            ("/v1/mcp/notes", true),
            ("/v1/mcp/notes/accept", true),
        ] {
            assert_eq!(is_kept(path), kept, "{path}");
        }
    }

    #[test]
    fn what_is_of_tokens_is_carried_to_its_end() {
        for (path, expected) in [
            ("/v1/sessions/x/tokens", true),
            ("/v1/sessions/tokens", false),
            ("/v1/sessions/x/y/tokens", false),
            ("/v1/sessions/x/decisions", false),
            ("/v1/approvals/x/tokens", false),
        ] {
            assert_eq!(is_of_tokens(path), expected, "{path}");
            assert!(!is_kept(path) || !expected, "{path}");
        }
    }
}
