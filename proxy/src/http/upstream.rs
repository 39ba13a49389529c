//! Upstream connections of one client connection, kept per destination.
//!
//! They are driven by the client connection's own task: no other task, no channel between cores,
//! and nothing to clean up when it ends. They are never shared between clients.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use cordon_audit::{Permit, RecordId};
use cordon_policy::Destination;
use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    flow::{Flow, Meter},
    limits,
    refuse::{Refusal, Trouble},
    session::Session,
    wire::Wire,
};

type Driver = http1::Connection<TokioIo<Metered>, Incoming>;

/// The kept connections, and what drives them.
#[derive(Default)]
pub(super) struct Upstreams {
    kept: Mutex<Vec<Upstream>>,
    drivers: Mutex<Vec<Driver>>,
    activity: Arc<AtomicU64>,
}

/// One open upstream connection.
pub(super) struct Upstream {
    destination: Destination,
    sender: SendRequest<Incoming>,
    meter: Arc<Meter>,
    peer: Option<SocketAddr>,
}

impl Upstreams {
    /// Whether a connection to `destination` is kept, as far as is known.
    pub(super) fn keeps(&self, destination: &Destination) -> bool {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|upstream| !upstream.sender.is_closed());
        kept.iter()
            .any(|upstream| upstream.destination == *destination)
    }

    /// Takes the kept connection to `destination` once it is ready for another request.
    pub(super) async fn take(&self, destination: &Destination) -> Option<Upstream> {
        let mut upstream = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let index = kept
                .iter()
                .position(|upstream| upstream.destination == *destination)?;
            kept.remove(index)
        };
        upstream.sender.ready().await.ok()?;
        Some(upstream)
    }

    /// Puts a connection back for further requests; the oldest goes when there are too many.
    pub(super) fn keep(&self, upstream: Upstream) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= limits::UPSTREAMS_PER_CONNECTION {
            drop(kept.remove(0));
        }
        kept.push(upstream);
    }

    /// Begins to speak HTTP on a connection that was just dialled.
    pub(super) async fn open(
        &self,
        destination: Destination,
        stream: Wire,
        flow: &Flow,
    ) -> hyper::Result<Upstream> {
        let meter = Arc::clone(flow.meter());
        let peer = flow.peer();
        let metered = Metered {
            stream,
            meter: Arc::clone(&meter),
            activity: Arc::clone(&self.activity),
        };
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(limits::HEAD_BYTES)
            .max_header_size(limits::HEAD_BYTES)
            .handshake(TokioIo::new(metered))
            .await?;
        self.drivers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(driver);
        Ok(Upstream {
            destination,
            sender,
            meter,
            peer,
        })
    }

    /// Moves every connection forward, and lets go of those that are over.
    pub(super) fn drive(&self, cx: &mut Context<'_>) {
        let mut drivers = self.drivers.lock().unwrap_or_else(PoisonError::into_inner);
        // How one ended is told to whoever waits for its response.
        drivers.retain_mut(|driver| Pin::new(driver).poll(cx).is_pending());
    }

    /// Grows whenever bytes move.
    pub(super) fn activity(&self) -> u64 {
        self.activity.load(Relaxed)
    }
}

impl Upstream {
    /// Spends a permit on a further request over this connection.
    pub(super) fn flow(&self, session: &Arc<Session>, permit: Permit) -> Flow {
        Flow::open_on(
            Arc::clone(session),
            permit,
            Arc::clone(&self.meter),
            self.peer,
        )
    }

    /// Sends a request and waits for the head of its response.
    pub(super) async fn send(
        &mut self,
        request: Request<Incoming>,
    ) -> hyper::Result<Response<Incoming>> {
        self.sender.send_request(request).await
    }
}

/// Refuses a request whose origin broke off or made no sense.
pub(super) fn broken(decision: RecordId, error: &hyper::Error) -> Refusal {
    trouble(
        decision,
        Trouble::Broken,
        format!("the destination did not answer with HTTP: {error}"),
    )
}

/// Refuses a request whose origin changed protocols unasked.
pub(super) fn switched(decision: RecordId) -> Refusal {
    let problem = "the destination switched protocols without being asked to";
    trouble(decision, Trouble::Broken, problem.into())
}

/// Refuses a request whose origin never began to answer.
pub(super) fn silent(decision: RecordId) -> Refusal {
    let seconds = limits::RESPONSE_DEADLINE.as_secs();
    let problem = format!("the destination did not begin to answer within {seconds} s");
    trouble(decision, Trouble::TimedOut, problem)
}

fn trouble(decision: RecordId, trouble: Trouble, problem: String) -> Refusal {
    Refusal::Unreachable {
        decision,
        trouble,
        problem,
    }
}

/// An upstream socket that counts.
struct Metered {
    stream: Wire,
    meter: Arc<Meter>,
    activity: Arc<AtomicU64>,
}

impl Metered {
    fn sent(&self, bytes: usize) {
        self.meter.count_out(bytes);
        self.activity.fetch_add(1, Relaxed);
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.meter
            .count_in(buffer.filled().len().saturating_sub(before));
        self.activity.fetch_add(1, Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.sent(sent);
        Poll::Ready(Ok(sent))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        self.sent(sent);
        Poll::Ready(Ok(sent))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
