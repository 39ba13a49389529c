//! What happens, as it happens: records of the log as server-sent events, or page by page.
//!
//! The number of a record is the id of its event, so a client that comes back with
//! `Last-Event-ID` misses nothing, also across a restart of the daemon. The log is read at the
//! client's pace; one that does not read for [`PATIENCE`] is let go, and is told so.
//!
//! Source: the HTML standard, "Server-sent events".

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use cordon_audit::{
    Kind, Record,
    find::{Condition, Field, Order, Query as Find},
    read::Reader,
};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, SemaphorePermit, mpsc},
};
use utoipa::{IntoParams, ToSchema};

use super::{
    Daemon,
    problem::{Code, Problem},
};

/// Where to begin, and how much.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct From {
    /// Only what is after this event; without it a page begins with the first record, and a stream
    /// with what happens from now on.
    #[param(maximum = 9_007_199_254_740_991_u64)]
    after: Option<u64>,
    /// Most events of a page. Default 100, at most 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// Events, in their order.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page {
    /// Records, as `cordon audit query --format json` has them.
    #[schema(value_type = Vec<Object>)]
    events: Vec<Value>,
    /// What to give as `after` for those that follow.
    next: u64,
}

/// Streams at a time, each with a thread that waits for the log.
const STREAMS: usize = 64;

static ROOM: Semaphore = Semaphore::const_new(STREAMS);

/// Events that are on their way to a client.
const AHEAD: usize = 256;

/// Time in which a client must take an event when [`AHEAD`] of them wait for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the log is waited for, until it is looked whether the client or the daemon is gone.
const LOOK: Duration = Duration::from_millis(500);

/// How often a client that nothing happens for is told that the stream lives.
const ALIVE_EVERY: u32 = 30;

/// What happens in all sessions and beside them.
#[utoipa::path(get, path = "/v1/events", tag = "events", params(From),
    responses((status = 200, description = "A page, or a stream where `Accept` asks for \
        `text/event-stream`.", body = Page), (status = 400, body = Problem),
        (status = 503, body = Problem)))]
pub async fn all(
    State(daemon): State<Arc<Daemon>>,
    from: Result<Query<From>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    answer(&daemon, None, from, &headers).await
}

/// What happens in one session, also one that is over.
#[utoipa::path(get, path = "/v1/sessions/{id}/events", tag = "events",
    params(("id" = String, Path, description = "Session id"), From),
    responses((status = 200, description = "A page, or a stream where `Accept` asks for \
        `text/event-stream`; it ends with the session.", body = Page),
        (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 503, body = Problem)))]
pub async fn of_session(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
    from: Result<Query<From>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    answer(&daemon, Some(id), from, &headers).await
}

async fn answer(
    daemon: &Arc<Daemon>,
    session: Option<String>,
    from: Result<Query<From>, QueryRejection>,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let Query(from) = from.map_err(|error| Problem::new(Code::Malformed, error.body_text()))?;
    let field = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let after = match field("last-event-id") {
        Some(last) => {
            let wrong = |_| Problem::new(Code::Malformed, "`Last-Event-ID` is no event's number");
            Some(last.parse().map_err(wrong)?)
        }
        None => from.after,
    };
    if after.is_some_and(|after| after > LARGEST) {
        let why = format!("no event has a number above {LARGEST}");
        return Err(Problem::new(Code::Malformed, why));
    }
    let streams = field(header::ACCEPT.as_str()).is_some_and(|accept| accept.contains(STREAM));
    if streams {
        return stream(daemon, session, after);
    }
    let limit = from.limit.unwrap_or(100);
    if !(1..=1_000).contains(&limit) {
        return Err(Problem::new(Code::Malformed, "`limit` is 1 to 1000"));
    }
    let is_running = |id: &String| daemon.registry.of_id(id).is_some();
    let known = session.as_ref().is_none_or(is_running);
    let page = page(daemon, session, after, limit).await?;
    if page.events.is_empty() && !known && after.is_none() {
        return Err(Problem::new(
            Code::NoSession,
            "the log has no session of this id",
        ));
    }
    Ok(Json(page).into_response())
}

async fn page(
    daemon: &Daemon,
    session: Option<String>,
    after: Option<u64>,
    limit: usize,
) -> Result<Page, Problem> {
    let log = daemon.paths.log();
    let find = Find {
        conditions: session
            .iter()
            .map(|id| Condition::is(Field::Session, id))
            .collect(),
        order: Order::OldestFirst,
        cursor: after.map(|after| after.saturating_add(1)),
        ..Find::default()
    };
    let found = tokio::task::spawn_blocking(move || find.page(&Reader::open(&log)?, limit)).await;
    let unread = |why: String| Problem::new(Code::Late, format!("the log was not read: {why}"));
    let found = found
        .map_err(|error| unread(error.to_string()))?
        .map_err(|error| unread(error.to_string()))?;
    Ok(Page {
        next: found
            .records
            .last()
            .map_or(after.unwrap_or(0), |last| last.seq),
        events: found
            .records
            .iter()
            .map(|record| serde_json::to_value(record).unwrap_or_default())
            .collect(),
    })
}

fn stream(
    daemon: &Arc<Daemon>,
    session: Option<String>,
    after: Option<u64>,
) -> Result<Response, Problem> {
    let Ok(place) = ROOM.try_acquire() else {
        let why = format!("{STREAMS} event streams are open");
        return Err(Problem::new(Code::Busy, why).help(Some("poll with `after` instead".into())));
    };
    let unread = |why: String| Problem::new(Code::Late, format!("the log was not read: {why}"));
    let reader = Reader::open(&daemon.paths.log()).map_err(|error| unread(error.to_string()))?;
    let from = after.map(|after| after.saturating_add(1));
    let follow = reader
        .follow(from)
        .map_err(|error| unread(error.to_string()))?;
    let (frames, received) = mpsc::channel(AHEAD);
    let slow = Arc::new(AtomicBool::new(false));
    let pump = Pump {
        daemon: Arc::clone(daemon),
        session,
        frames,
        slow: Arc::clone(&slow),
        _place: place,
    };
    let handle = Handle::current();
    tokio::task::spawn_blocking(move || pump.run(follow, &handle));
    let body = stream::unfold((received, Some(slow)), |(mut received, slow)| async move {
        if let Some(frame) = received.recv().await {
            return Some((Ok::<_, io::Error>(frame), (received, slow)));
        }
        let frame = slow
            .filter(|slow| slow.load(Relaxed))
            .map(|_slow| dropped())?;
        Some((Ok(frame), (received, None)))
    });
    Ok(([(header::CONTENT_TYPE, STREAM)], Body::from_stream(body)).into_response())
}

/// Reads the log for one client.
struct Pump {
    daemon: Arc<Daemon>,
    session: Option<String>,
    frames: mpsc::Sender<Bytes>,
    slow: Arc<AtomicBool>,
    _place: SemaphorePermit<'static>,
}

impl Pump {
    /// Until the client, the session or the daemon is gone.
    fn run(self, mut follow: cordon_audit::read::Follow, handle: &Handle) {
        let mut quiet = 0;
        while !self.frames.is_closed() && !*self.daemon.stop.borrow() {
            let frame = match follow.next_within(LOOK) {
                Ok(Some(record)) => match self.frame(&record) {
                    Some(frame) => frame,
                    None => continue,
                },
                Ok(None) => {
                    quiet += 1;
                    if quiet % ALIVE_EVERY != 0 {
                        continue;
                    }
                    (Bytes::from_static(b":\n\n"), false)
                }
                Err(error) => return tracing::warn!(%error, "an event stream ends"),
            };
            let (frame, last) = frame;
            match handle.block_on(self.frames.send_timeout(frame, PATIENCE)) {
                Ok(()) if last => return,
                Ok(()) => {}
                Err(_late_or_gone) => return self.slow.store(true, Relaxed),
            }
        }
    }

    /// A record as an event, where the client follows it; whether it is the last.
    fn frame(&self, record: &Record) -> Option<(Bytes, bool)> {
        if self.session.is_some() && self.session != record.session {
            return None;
        }
        let data = serde_json::to_string(record).ok()?;
        let kind = record.kind.as_str();
        let frame = format!("id: {}\nevent: {kind}\ndata: {data}\n\n", record.seq);
        let last = self.session.is_some() && record.kind == Kind::SessionEnd;
        Some((frame.into(), last))
    }
}

/// Said last to a client that was too slow.
fn dropped() -> Bytes {
    let why = "this client did not read for a while; come back with Last-Event-ID";
    format!("event: dropped\ndata: {{\"reason\":\"{why}\"}}\n\n").into()
}

/// The largest number that every reader of JSON keeps exactly.
pub const LARGEST: u64 = (1 << 53) - 1;

const STREAM: &str = "text/event-stream";
