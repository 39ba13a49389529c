//! Bodies on their way: a client's to its origin, and what the proxy answers with, which is its own
//! text or an origin's stream with its flow.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use cordon_audit::FlowEnd;
use cordon_policy::{Decided, Deny, DenyReason};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};

use tokio::sync::oneshot;

use super::{expect::Offered, masked::Masked, pause::Pause};
use crate::{
    credentials::Checked,
    flow::{Flow, Meter},
    refuse::Refusal,
    session::Session,
};

/// A client's body on its way to the origin. It goes on beside the response, and stops with it when
/// that is refused: policy allows the request no more, or what came back may not go on. It waits
/// while its session is paused.
pub(crate) struct Sent {
    inner: Checked,
    /// Counts it, where nobody else counts this request alone.
    meter: Option<Arc<Meter>>,
    stop: Option<oneshot::Receiver<()>>,
    /// Whose it is; nobody's where there is no body.
    session: Option<Arc<Session>>,
    pause: Pause,
    offered: Option<Box<Offered>>,
}

/// Stops a [`Sent`] body that has not ended.
pub(super) struct Stop(oneshot::Sender<()>);

/// Answers' bodies.
pub(crate) enum Body {
    /// Our own words; empty once sent.
    Own(Bytes),
    /// An origin's. Boxed, because answers are moved about and it is large.
    Flow(Box<FlowBody>),
    /// An origin's that may send a credential back.
    Masked(Box<Masked>),
}

impl Stop {
    /// Stops it; it may have ended already.
    pub(super) fn now(self) {
        let _ended = self.0.send(());
    }
}

/// An origin's body. Its flow ends with it: completed when it came to its end, revoked when policy
/// changed and allows it no more, else reset. It waits while its session is paused.
pub(crate) struct FlowBody {
    inner: Incoming,
    flow: Option<Flow>,
    ended: bool,
    /// Stops the request's body.
    stop: Option<Stop>,
    /// Whether this counts the bytes of the response.
    counts: bool,
    watching: Watching,
    pause: Pause,
}

/// Whether a body is still allowed.
enum Watching {
    /// Nobody asked for a part of it yet.
    NotYet,
    /// Its first part was there at once; most bodies are no longer, and need no watch.
    Started,
    /// Until policy refuses it.
    For(Pin<Box<dyn Future<Output = Decided<Deny>> + Send>>),
    /// It does; its end is being recorded.
    Ending(Pin<Box<dyn Future<Output = Refusal> + Send>>),
    /// It is over.
    Over,
}

/// What breaks a body off.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

impl FlowBody {
    pub(super) fn new(inner: Incoming, flow: Flow, stop: Option<Stop>, counts: bool) -> Self {
        Self {
            inner,
            flow: Some(flow),
            ended: false,
            stop,
            counts,
            watching: Watching::NotYet,
            pause: Pause::default(),
        }
    }

    /// Ends it, recorded as refused: what comes of it next is an error, and its request's body ends.
    pub(super) fn refuse(&mut self, why: &str) {
        self.stop_request();
        self.ended = false;
        self.watching = match self.flow.take() {
            Some(flow) => Watching::Ending(Box::pin(
                flow.end_refused(DenyReason::Credential, why.to_owned()),
            )),
            None => Watching::Over,
        };
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream() && !self.is_refused()
    }

    fn stop_request(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.now();
        }
    }

    fn is_refused(&self) -> bool {
        matches!(self.watching, Watching::Ending(_) | Watching::Over)
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = if matches!(self.watching, Watching::NotYet) {
            self.watching = Watching::Started;
            let frame = self.poll_inner(cx);
            if frame.is_pending() {
                // So that the watch wakes us too.
                ready!(self.poll_allowed(cx))?;
            }
            frame
        } else {
            ready!(self.poll_allowed(cx))?;
            self.poll_inner(cx)
        };
        let frame = ready!(frame);
        self.ended = frame.is_none();
        if let (true, Some(flow), Some(Ok(frame))) = (self.counts, &self.flow, &frame)
            && let Some(data) = frame.data_ref()
        {
            flow.meter().count_in(data.len());
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn poll_inner(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(flow) = &self.flow {
            ready!(self.pause.poll(flow.session().gate(), cx));
        }
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn watch(&mut self) {
        if let Some(mut watch) = self.flow.as_ref().and_then(Flow::watch) {
            self.watching = Watching::For(Box::pin(async move { watch.revoked().await }));
        }
    }

    /// Ready as long as it is allowed; pending while its end is recorded, then an error.
    fn poll_allowed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        if matches!(self.watching, Watching::Started) {
            self.watch();
        }
        if let Watching::For(revoked) = &mut self.watching {
            let Poll::Ready(deny) = revoked.as_mut().poll(cx) else {
                return Poll::Ready(Ok(()));
            };
            self.stop_request();
            self.watching = match self.flow.take() {
                Some(flow) => Watching::Ending(Box::pin(flow.end_revoked(deny))),
                None => Watching::Over,
            };
        }
        match &mut self.watching {
            Watching::NotYet | Watching::Started | Watching::For(_) => {
                return Poll::Ready(Ok(()));
            }
            Watching::Ending(recorded) => {
                let _head_is_sent = ready!(recorded.as_mut().poll(cx));
                self.watching = Watching::Over;
            }
            Watching::Over => {}
        }
        Poll::Ready(Err(NO_MORE.into()))
    }
}

impl Sent {
    /// The body of `flow`'s request; `counts` says whether its bytes are counted there.
    pub(super) fn new(inner: Checked, flow: &Flow, counts: bool) -> (Self, Option<Stop>) {
        // Most requests have no body, and then there is nothing to stop or to wait with.
        let (stop, stopped, session) = if inner.is_end_stream() {
            (None, None, None)
        } else {
            let (stop, stopped) = oneshot::channel();
            let session = Arc::clone(flow.session());
            (Some(Stop(stop)), Some(stopped), Some(session))
        };
        let sent = Self {
            inner,
            meter: counts.then(|| Arc::clone(flow.meter())),
            stop: stopped,
            session,
            pause: Pause::default(),
            offered: None,
        };
        (sent, stop)
    }

    /// Holds it until its origin asks for it.
    pub(super) fn is_offered(&mut self, offered: Box<Offered>) {
        self.offered = Some(offered);
    }

    /// Ready where it may be read.
    fn poll_wanted(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        if let Some(offered) = &mut self.offered {
            if ready!(offered.poll(cx)) {
                self.offered = None;
            } else if self.stop.is_none() {
                // The answer has ended too, and with it the connection: its length was announced.
                return Poll::Ready(Err(NOT_ASKED_FOR.into()));
            } else {
                // Woken by the end of the answer.
                return Poll::Pending;
            }
        }
        match &self.session {
            Some(session) => self.pause.poll(session.gate(), cx).map(Ok),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(stop) = &mut this.stop {
            match Pin::new(stop).poll(cx) {
                Poll::Ready(Ok(())) => return Poll::Ready(Some(Err(NO_MORE.into()))),
                // The response has ended, and may do so before the request.
                Poll::Ready(Err(_ended)) => this.stop = None,
                Poll::Pending => {}
            }
        }
        ready!(this.poll_wanted(cx))?;
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(cx));
        if let (Some(meter), Some(Ok(frame))) = (&this.meter, &frame)
            && let Some(data) = frame.data_ref()
        {
            meter.count_out(data.len());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

const NOT_ASKED_FOR: &str = "its origin answered without it";
const NO_MORE: &str = "it was refused on its way: policy or its credential allows it no more";

impl Drop for FlowBody {
    fn drop(&mut self) {
        if (self.ended || self.inner.is_end_stream())
            && let Some(flow) = self.flow.take()
        {
            flow.close(FlowEnd::Completed);
        }
    }
}

impl Body {
    pub(super) fn empty() -> Self {
        Self::Own(Bytes::new())
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::Own(text.into())
    }
}

impl From<FlowBody> for Body {
    fn from(body: FlowBody) -> Self {
        Self::Flow(Box::new(body))
    }
}

impl From<Masked> for Body {
    fn from(body: Masked) -> Self {
        Self::Masked(Box::new(body))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Own(text) if text.is_empty() => Poll::Ready(None),
            Self::Own(text) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(text))))),
            Self::Flow(body) => body.poll_frame(cx),
            Self::Masked(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(text) => text.is_empty(),
            Self::Flow(body) => body.is_end_stream(),
            Self::Masked(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(text) => SizeHint::with_exact(u64::try_from(text.len()).unwrap_or(u64::MAX)),
            Self::Flow(body) => body.size_hint(),
            Self::Masked(body) => body.size_hint(),
        }
    }
}
