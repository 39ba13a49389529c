//! Answers `GET /metrics` with the numbers of this process, where the configuration says so.
//!
//! Reads nothing of a request but method and path, and asks for no credentials: loopback, or
//! behind something that does. No session reaches it: the egress refuses it as a destination.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, LazyLock},
    time::Duration,
};

use cordon_session::metrics::{self, gauge, seconds};
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{Gauge, IntGauge};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tracing::{info, warn};

use super::Daemon;
use crate::error::Failure;

/// Scrapers that are answered at the same time; further ones wait.
const SCRAPERS: usize = 8;

/// Time for one connection, from its first byte to its last.
const CONNECTION: Duration = Duration::from_secs(10);

/// A bound listener, not yet serving.
#[derive(Debug)]
pub struct Endpoint {
    listener: TcpListener,
}

impl Endpoint {
    /// Binds it, and says where.
    ///
    /// # Errors
    /// [`Failure`] when the address is in use or not this machine's.
    pub async fn bind(address: SocketAddr) -> Result<(Self, SocketAddr), Failure> {
        let bound = TcpListener::bind(address).await;
        let listener = bound.map_err(|error| {
            Failure::new(format!("metrics not served on `{address}`: {error}"))
                .help("correct `metrics.listen` in `cordon.toml`, or remove it")
        })?;
        let address = listener.local_addr()?;
        if !address.ip().is_loopback() {
            warn!(%address, "metrics are open to the network, without credentials");
        }
        Ok((Self { listener }, address))
    }

    /// Serves until `stopped` resolves.
    pub(super) async fn serve(self, daemon: Arc<Daemon>, stopped: impl Future<Output = ()>) {
        let room = Arc::new(Semaphore::new(SCRAPERS));
        let mut connections = JoinSet::new();
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                () = &mut stopped => break,
                Some(_done) = connections.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _peer)) => {
                        let (daemon, room) = (Arc::clone(&daemon), Arc::clone(&room));
                        connections.spawn(async move {
                            let _room = room.acquire_owned().await;
                            let answered = converse(&daemon, stream);
                            // Too slow: closed.
                            let _late = tokio::time::timeout(CONNECTION, answered).await;
                        });
                    }
                    Err(error) => {
                        warn!(%error, "accept of a scraper failed");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
            }
        }
        info!("metrics are served no longer");
    }
}

async fn converse(daemon: &Daemon, stream: TcpStream) {
    let service = service_fn(|request: Request<Incoming>| async move {
        Ok::<_, Infallible>(answer(daemon, request.method(), request.uri().path()))
    });
    // A scraper that breaks off asks again.
    let _gone = http1::Builder::new()
        .timer(TokioTimer::new())
        .max_buf_size(16 * 1024)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn answer(daemon: &Daemon, method: &Method, path: &str) -> Response<Full<Bytes>> {
    let (status, text) = match (method, path) {
        (&Method::GET | &Method::HEAD, "/metrics") => match text(daemon) {
            Ok(text) => (StatusCode::OK, text),
            Err(problem) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{problem}\n")),
        },
        (&Method::GET | &Method::HEAD, _) => {
            (StatusCode::NOT_FOUND, "only /metrics is here\n".into())
        }
        _ => (StatusCode::METHOD_NOT_ALLOWED, "use GET\n".into()),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let media = if status == StatusCode::OK {
        metrics::MEDIA_TYPE
    } else {
        "text/plain"
    };
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        fields.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

/// All numbers, with those that are only looked at when somebody asks.
///
/// # Errors
/// In words, when they cannot be encoded.
pub(super) fn text(daemon: &Daemon) -> Result<String, String> {
    let sessions = i64::try_from(daemon.registry.len()).unwrap_or(i64::MAX);
    LOOKED_AT.sessions.set(sessions);
    let takes_records = daemon.log.healthy().is_ok();
    LOOKED_AT.log_healthy.set(takes_records.into());
    let log = daemon.log.stats();
    let records = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    LOOKED_AT.log_queued.set(records(log.queued));
    let not_durable = log.written.saturating_sub(log.durable);
    LOOKED_AT.log_not_durable.set(records(not_durable));
    let not_signed = log.written.saturating_sub(log.covered);
    LOOKED_AT.log_not_signed.set(records(not_signed));
    LOOKED_AT.log_behind.set(daemon.log.behind().as_secs_f64());
    metrics::text()
}

struct LookedAt {
    sessions: IntGauge,
    log_healthy: IntGauge,
    log_queued: IntGauge,
    log_not_durable: IntGauge,
    log_not_signed: IntGauge,
    log_behind: Gauge,
}

static LOOKED_AT: LazyLock<LookedAt> = LazyLock::new(|| LookedAt {
    sessions: gauge("cordon_sessions", "Sessions that run now."),
    log_healthy: gauge(
        "cordon_log_healthy",
        "1 while the log takes records; 0: nothing is allowed.",
    ),
    log_queued: gauge(
        "cordon_log_records_queued",
        "Records that wait to be written.",
    ),
    log_not_durable: gauge(
        "cordon_log_records_not_durable",
        "Records that are written and not on stable storage.",
    ),
    log_not_signed: gauge(
        "cordon_log_records_not_signed",
        "Records that no signed checkpoint covers.",
    ),
    log_behind: seconds(
        "cordon_log_behind_seconds",
        "How long the oldest record waits that is written and not on stable storage.",
    ),
});
