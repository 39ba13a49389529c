//! Upstream connections of one client connection, kept per destination.
//!
//! In HTTP/1 they are driven by the client connection's own task: no other task, no channel between
//! cores, and nothing to clean up when it ends. A client that speaks HTTP/2 has tasks of its own, and
//! then so have they. They are never shared between clients.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use cordon_audit::{Permit, RecordId};
use cordon_policy::Destination;
use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    body::Sent,
    pause::Pause,
    tasks::Tasks,
    wire::{Metered, Wire},
};
use crate::{
    flow::{Flow, Meter},
    limits,
    refuse::{Refusal, Trouble},
    session::Session,
};

type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The kept connections, and what drives them.
#[derive(Default)]
pub(crate) struct Upstreams {
    kept: Mutex<Vec<Upstream>>,
    drivers: Mutex<Vec<Driver>>,
    /// Whether one of them was never polled.
    fresh: AtomicBool,
    /// Drives them where the client's requests have tasks of their own.
    tasks: Option<Tasks>,
    /// What goes on as another protocol.
    aside: Tasks,
    /// Counts the tunnel's bytes, where these connections are inside one.
    tunnel: Option<Arc<Meter>>,
    activity: Arc<AtomicU64>,
}

/// One open upstream connection.
pub(crate) struct Upstream {
    destination: Destination,
    sender: Sender,
    meter: Arc<Meter>,
    peer: Option<SocketAddr>,
    /// Set anew for each request: that is cheaper than a timer for each.
    timer: Option<Pin<Box<Sleep>>>,
}

/// How requests go out on a connection.
enum Sender {
    /// One after the other.
    Http1(http1::SendRequest<Sent>),
    /// Many at once.
    Http2(http2::SendRequest<Sent>),
}

/// A request that was handed over.
enum Sending<One, Two> {
    Http1(One),
    Http2(Pin<Box<Two>>),
}

impl Upstreams {
    /// Those of an inspected tunnel, whose bytes `tunnel` counts. With `tasks` they are driven by
    /// them.
    pub(crate) fn inside(tunnel: Arc<Meter>, tasks: Option<Tasks>) -> Self {
        Self {
            tasks,
            tunnel: Some(tunnel),
            ..Self::default()
        }
    }

    /// Whether these connections are inside a tunnel, which counts their bytes.
    pub(super) fn are_inside(&self) -> bool {
        self.tunnel.is_some()
    }

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
            match kept.get(index).and_then(Upstream::another) {
                Some(another) => another,
                None => kept.remove(index),
            }
        };
        upstream.sender.ready().await.ok()?;
        Some(upstream)
    }

    /// Puts a connection back for further requests; the oldest goes when there are too many.
    pub(crate) fn keep(&self, upstream: Upstream) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.iter().any(|other| other.is_same(&upstream)) {
            return;
        }
        if kept.len() >= limits::UPSTREAMS_PER_CONNECTION {
            drop(kept.remove(0));
        }
        kept.push(upstream);
    }

    /// Begins to speak HTTP on a connection that was just dialled.
    pub(crate) async fn open(
        &self,
        destination: Destination,
        wire: Wire,
        flow: &Flow,
    ) -> hyper::Result<Upstream> {
        let meter = self.tunnel.as_ref().unwrap_or(flow.meter());
        let meter = Arc::clone(meter);
        let peer = flow.peer();
        let http2 = wire.is_http2();
        let metered = TokioIo::new(Metered {
            wire,
            meter: Arc::clone(&meter),
            activity: Arc::clone(&self.activity),
        });
        let sender = if http2 {
            self.open_http2(metered).await?
        } else {
            self.open_http1(metered).await?
        };
        Ok(Upstream {
            destination,
            sender,
            meter,
            peer,
            timer: None,
        })
    }

    async fn open_http1(&self, stream: TokioIo<Metered>) -> hyper::Result<Sender> {
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(limits::HEAD_BYTES)
            .max_header_size(limits::HEAD_BYTES)
            .handshake(stream)
            .await?;
        self.run(async move {
            // How one ended is told to whoever waits for its response.
            let _told = driver.with_upgrades().await;
        });
        Ok(Sender::Http1(sender))
    }

    async fn open_http2(&self, stream: TokioIo<Metered>) -> hyper::Result<Sender> {
        let tasks = self.tasks.clone().unwrap_or_default();
        let (sender, driver) = http2::Builder::new(tasks)
            .timer(TokioTimer::new())
            .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW)
            .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW)
            .max_frame_size(limits::HTTP2_FRAME)
            .max_header_list_size(limits::HTTP2_HEADER_LIST)
            .max_send_buf_size(limits::HTTP2_SEND_BUFFER)
            .handshake(stream)
            .await?;
        self.run(async move {
            let _told = driver.await;
        });
        Ok(Sender::Http2(sender))
    }

    fn run(&self, driver: impl Future<Output = ()> + Send + 'static) {
        if let Some(tasks) = &self.tasks {
            return tasks.spawn(driver);
        }
        self.drivers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Box::pin(driver));
        self.fresh.store(true, Release);
    }

    /// Runs something beside the requests, that ends with the connection.
    pub(super) fn aside(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.aside.spawn(task);
    }

    /// Waits until what runs beside the requests has ended.
    pub(crate) async fn finish(&self) {
        self.aside.finish().await;
    }

    /// Moves connections forward where they were woken, or one of them is new.
    pub(crate) fn drive_woken(&self, cx: &mut Context<'_>, woken: bool) {
        let fresh = self.fresh.load(Acquire) && self.fresh.swap(false, AcqRel);
        if woken || fresh {
            self.drive(cx);
        }
    }

    /// Moves every connection forward, and lets go of those that are over.
    pub(crate) fn drive(&self, cx: &mut Context<'_>) {
        let mut drivers = self.drivers.lock().unwrap_or_else(PoisonError::into_inner);
        drivers.retain_mut(|driver| driver.as_mut().poll(cx).is_pending());
    }

    /// Grows whenever bytes move, and while the session is paused: that is no rest.
    pub(crate) fn activity(&self, session: &Session) -> u64 {
        if session.gate().is_paused() {
            self.activity.fetch_add(1, Relaxed);
        }
        self.activity.load(Relaxed)
    }
}

impl Upstream {
    /// Spends a permit on a further request over this connection.
    pub(super) fn flow(&self, session: &Arc<Session>, permit: Permit, inside: bool) -> Flow {
        let meter = match inside {
            false => Arc::clone(&self.meter),
            // Of the tunnel's bytes these are a part.
            true => Meter::within(),
        };
        Flow::open_on(Arc::clone(session), permit, meter, self.peer)
    }

    /// Whether requests go out in HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    /// Hands a request over to be sent, and waits for the head of its response; `None` when there
    /// is none in time. Where that would be over in a pause of the session, it begins anew after it.
    pub(super) fn send(
        &mut self,
        request: Request<Sent>,
        deadline: Duration,
        session: &Session,
    ) -> impl Future<Output = Option<hyper::Result<Response<Incoming>>>> {
        let Self { sender, timer, .. } = self;
        let at = Instant::now() + deadline;
        let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        timer.as_mut().reset(at);
        // Not within the future: that would carry the request along.
        let sent = match sender {
            Sender::Http1(sender) => Sending::Http1(sender.send_request(request)),
            Sender::Http2(sender) => Sending::Http2(Box::pin(sender.send_request(request))),
        };
        async move {
            match sent {
                Sending::Http1(sent) => within(timer, deadline, session, pin!(sent)).await,
                Sending::Http2(mut sent) => within(timer, deadline, session, sent.as_mut()).await,
            }
        }
    }

    /// The same connection once more, where it carries several requests at once.
    fn another(&self) -> Option<Self> {
        match &self.sender {
            Sender::Http1(_) => None,
            Sender::Http2(sender) => Some(Self {
                destination: self.destination.clone(),
                sender: Sender::Http2(sender.clone()),
                meter: Arc::clone(&self.meter),
                peer: self.peer,
                timer: None,
            }),
        }
    }

    /// Whether both are one connection, as far as that can be.
    fn is_same(&self, other: &Self) -> bool {
        self.is_http2() && other.is_http2() && self.destination == other.destination
    }
}

impl Sender {
    fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }

    async fn ready(&mut self) -> hyper::Result<()> {
        match self {
            Self::Http1(sender) => sender.ready().await,
            Self::Http2(sender) => sender.ready().await,
        }
    }
}

/// What comes of `work`, where that is before `timer` ends, which is after `deadline`.
fn within<F: Future>(
    timer: &mut Pin<Box<Sleep>>,
    deadline: Duration,
    session: &Session,
    mut work: Pin<&mut F>,
) -> impl Future<Output = Option<F::Output>> {
    let mut pause = Pause::default();
    poll_fn(move |cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(done));
        }
        while timer.as_mut().poll(cx).is_ready() {
            if !pause.holds(session.gate()) {
                return Poll::Ready(None);
            }
            ready!(pause.poll(session.gate(), cx));
            timer.as_mut().reset(Instant::now() + deadline);
        }
        Poll::Pending
    })
}

/// Refuses a request whose origin broke off or made no sense.
pub(crate) fn broken(decision: RecordId, error: &hyper::Error) -> Refusal {
    trouble(
        decision,
        Trouble::Broken,
        format!("the destination did not answer with HTTP: {error}"),
    )
}

/// Refuses a request whose origin changed protocols unasked.
pub(crate) fn switched(decision: RecordId) -> Refusal {
    let problem = "the destination switched protocols without being asked to";
    trouble(decision, Trouble::Broken, problem.into())
}

/// Refuses a request whose origin's answer can be read in two ways.
pub(crate) fn ambiguous(decision: RecordId, what: &str) -> Refusal {
    trouble(decision, Trouble::Broken, what.into())
}

/// Refuses a request whose origin never began to answer.
pub(crate) fn silent(decision: RecordId, deadline: Duration) -> Refusal {
    let seconds = deadline.as_secs_f64();
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
