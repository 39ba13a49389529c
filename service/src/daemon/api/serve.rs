//! Accepts the API's connections and answers on them, within bounds of number and time: the same for
//! the socket and for TLS.
//!
//! A request is read within its deadlines and an answer is taken within one, so that nobody holds a
//! connection by being slow. On `stop` nothing new is accepted, and what is in hand is answered.

use std::{future::Future, io, pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{Extensions, HeaderValue, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use cordon_session::config::ApiLimits;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{
    body::{Body as _, Incoming},
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tracing::warn;

use super::{
    BODY_BYTES,
    patient::Patient,
    problem::{Code, Problem},
};

/// The times that a client has.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// For the head of a request, and to rest before it. Then the connection closes.
    pub head: Duration,
    /// For the body of a request, from its head on. Then 408 and the connection closes.
    pub body: Duration,
    /// To take a part of an answer when nothing more fits. Then the connection closes.
    pub answer: Duration,
}

impl Times {
    /// Those that the configuration names, and the defaults for the rest.
    pub fn new(limits: &ApiLimits) -> Self {
        Self {
            head: limits.head_seconds.unwrap_or(Duration::from_secs(60)),
            body: limits.body_seconds.unwrap_or(Duration::from_secs(30)),
            answer: limits.answer_seconds.unwrap_or(Duration::from_secs(60)),
        }
    }
}

/// What connections come from.
pub trait Listen {
    /// A connection.
    type Stream: Send + 'static;

    /// The next one.
    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listen for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        Ok(self.accept().await?.0)
    }
}

impl Listen for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        Ok(self.accept().await?.0)
    }
}

/// Accepts until `stop`, at most `room` at a time, further ones wait; and returns once all are over.
pub async fn accept<L, C, F>(listener: L, room: usize, mut stop: watch::Receiver<bool>, converse: C)
where
    L: Listen,
    C: Fn(L::Stream) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(room));
    let mut connections = JoinSet::new();
    loop {
        let place = tokio::select! {
            () = stopped(&mut stop) => break,
            Some(_done) = connections.join_next() => continue,
            place = Arc::clone(&room).acquire_owned() => place,
        };
        tokio::select! {
            () = stopped(&mut stop) => break,
            Some(_done) = connections.join_next() => {}
            accepted = listener.next() => match accepted {
                Ok(stream) => {
                    let talk = converse(stream);
                    connections.spawn(async move {
                        talk.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    warn!(%error, "accept for the API failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    while connections.join_next().await.is_some() {}
}

/// Answers on one connection until it closes, or until `leave`: then what is in hand is still
/// answered. `known` says with each request what is known of the connection.
pub async fn talk<S>(
    router: Router,
    stream: S,
    times: Times,
    known: impl Fn(&mut Extensions) + Send + 'static,
    leave: impl Future<Output = ()>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        known(request.extensions_mut());
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(times.head)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(Patient::new(stream, times.answer)), service);
    let mut connection = pin!(connection);
    tokio::select! {
        // A client that breaks off asks again.
        _gone = connection.as_mut() => {}
        () = leave => {
            connection.as_mut().graceful_shutdown();
            let _gone = connection.await;
        }
    }
}

/// Resolves once the daemon leaves.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _left = stop.wait_for(|stop| *stop).await;
}

/// Reads a request to its end before anything is done with it: within its time, and its size.
pub async fn whole(State(times): State<Times>, request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let (head, body) = request.into_parts();
    let told = head.headers.get(header::CONTENT_LENGTH);
    let told = told.and_then(|told| told.to_str().ok()?.parse::<usize>().ok());
    if told.is_some_and(|told| told > BODY_BYTES) {
        return too_large();
    }
    let body = Limited::new(body, BODY_BYTES).collect();
    match tokio::time::timeout(times.body, body).await {
        Ok(Ok(body)) => {
            let body = Body::from(body.to_bytes());
            next.run(Request::from_parts(head, body)).await
        }
        Ok(Err(error)) if error.is::<LengthLimitError>() => too_large(),
        Ok(Err(_broken)) => {
            Problem::new(Code::Malformed, "the body of the request broke off").into_response()
        }
        Err(_late) => too_slow(times.body),
    }
}

fn too_large() -> Response {
    let most = format!("a body is at most {BODY_BYTES} bytes");
    Problem::new(Code::TooLarge, most).into_response()
}

fn too_slow(time: Duration) -> Response {
    let why = format!("the body was not there within {} s", time.as_secs_f64());
    let help = "send it faster, or raise `body_seconds` in `[api.limits]`";
    let problem = Problem::new(Code::Slow, why).help(Some(help.into()));
    let mut response = problem.into_response();
    // What is left of the body must not be taken for another request.
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}
