//! HTTP/2 with the client: CONNECT by stream, and ordinary requests with an absolute target.
//!
//! Each stream is answered as a request of HTTP/1.1 is, with an upstream connection of its own;
//! whatever follows differs only in how it is carried. Extended CONNECT (RFC 8441) is not offered,
//! so the protocol itself refuses it.
//!
//! Source: RFC 9113 sections 8.3, 8.5.

use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::{
    HeaderMap, Request, Response,
    body::{Body as HttpBody, Frame, Incoming, SizeHint},
    header::{self, HeaderValue},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{
    Connection, Tunnel, answer,
    body::{Body, BodyError},
    drive, refused,
    tasks::Tasks,
};
use crate::{bridge::bridge, door::Who, limits, relay::relay, session::Session, status::Reached};

/// Serves one client connection that has begun HTTP/2 with `preface`.
pub(super) async fn serve(who: Who, stream: TcpStream, preface: Vec<u8>) {
    let streams = Tasks::default();
    let serving = streams.clone();
    let rest = who.recording().limits().head;
    let whose = who.clone();
    let reached = Reached::of(&who, &stream);
    let service = service_fn(move |request| {
        let (who, reached, streams) = (who.clone(), reached.clone(), serving.clone());
        async move { Ok::<_, Infallible>(one(&who, reached, &streams, request).await) }
    });
    let mut client = http2::Builder::new(streams.clone())
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::STREAMS_PER_CONNECTION)
        .max_header_list_size(u32::try_from(limits::HEAD_BYTES).unwrap_or(u32::MAX))
        .keep_alive_interval(rest)
        .serve_connection(TokioIo::new(Resumed { preface, stream }), service);
    let mut over = pin!(async {
        tokio::select! {
            () = whose.draining() => {}
            () = streams.resting(rest) => {}
        }
    });
    let mut closing = false;
    // How it ended is the client's business; each of its flows records its own end.
    let _ended = poll_fn(|cx| {
        if !closing && over.as_mut().poll(cx).is_ready() {
            // Streams in hand come to their end; no further one is taken.
            closing = true;
            Pin::new(&mut client).graceful_shutdown();
        }
        Pin::new(&mut client).poll(cx)
    })
    .await;
    // What is left gets a moment to come to its own end, then it is cut off.
    let _elapsed = tokio::time::timeout(limits::LINGER_DEADLINE, streams.finish()).await;
}

/// Answers one stream.
async fn one(
    who: &Who,
    reached: Option<Reached>,
    streams: &Tasks,
    mut request: Request<Incoming>,
) -> Response<Driven> {
    join_cookies(request.headers_mut());
    let (session, stranger) = match who.of_request(&request).await {
        Ok(session) => (session, None),
        Err(refusal) => (Arc::clone(who.recording()), Some(refusal)),
    };
    let connection = Arc::new(Connection::new(session, reached, who.made_by()));
    if let Some(refusal) = stranger {
        let accept = request.headers().get(header::ACCEPT);
        let response = refused(&connection.session, &refusal, accept);
        return response.map(|body| Driven { body, connection });
    }
    let response = {
        let mut answered = pin!(answer(&connection, Box::new(request)));
        poll_fn(|cx| drive(&connection.upstreams, answered.as_mut(), cx)).await
    };
    if let Some(tunnel) = connection.take_tunnel() {
        streams.spawn(run_tunnel(Arc::clone(&connection.session), tunnel));
    }
    response.map(|body| Driven { body, connection })
}

async fn run_tunnel(session: Arc<Session>, tunnel: Tunnel) {
    // Err: the client left before the tunnel stood; dropping the flow says so.
    let Ok(upgraded) = tunnel.client.await else {
        return;
    };
    bridge(TokioIo::new(upgraded), |client| async move {
        let buffers = session.egress().buffers();
        relay(client, tunnel.upstream, Vec::new(), buffers, tunnel.flow).await;
    })
    .await;
}

/// HTTP/2 may cut a cookie field up; HTTP/1.1 has one.
///
/// Source: RFC 9113 section 8.2.3.
fn join_cookies(fields: &mut HeaderMap) {
    let mut crumbs = fields.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else {
        return;
    };
    let all = [first, second].into_iter().chain(crumbs);
    let whole: Vec<&[u8]> = all.map(HeaderValue::as_bytes).collect();
    if let Ok(whole) = HeaderValue::from_bytes(&whole.join(b"; ".as_slice())) {
        fields.insert(header::COOKIE, whole);
    }
}

/// A body that moves its own upstream connection forward.
struct Driven {
    body: Body,
    connection: Arc<Connection>,
}

impl HttpBody for Driven {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let frame = Pin::new(&mut this.body).poll_frame(cx);
        if frame.is_pending() {
            this.connection.upstreams.drive(cx);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A socket of which some bytes were read already.
struct Resumed {
    preface: Vec<u8>,
    stream: TcpStream,
}

impl AsyncRead for Resumed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.preface.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let take = self.preface.len().min(buffer.remaining());
        let rest = self.preface.split_off(take);
        buffer.put_slice(&self.preface);
        self.preface = rest;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Resumed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
