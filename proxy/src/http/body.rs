//! Bodies that the proxy answers with: its own text, or an origin's stream with its flow.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use cordon_audit::FlowEnd;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};

use crate::flow::Flow;

/// Answers' bodies.
pub(super) enum Body {
    /// Our own words; empty once sent.
    Own(Bytes),
    /// An origin's. Boxed, because answers are moved about and it is large.
    Flow(Box<FlowBody>),
}

/// An origin's body. Its flow ends with it: completed when it came to its end, else reset.
pub(super) struct FlowBody {
    inner: Incoming,
    flow: Option<Flow>,
    ended: bool,
}

impl FlowBody {
    pub(super) fn new(inner: Incoming, flow: Flow) -> Self {
        Self {
            inner,
            flow: Some(flow),
            ended: false,
        }
    }
}

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

impl HttpBody for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Own(text) if text.is_empty() => Poll::Ready(None),
            Self::Own(text) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(text))))),
            Self::Flow(body) => {
                let frame = ready!(Pin::new(&mut body.inner).poll_frame(cx));
                body.ended = frame.is_none();
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(text) => text.is_empty(),
            Self::Flow(body) => body.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(text) => SizeHint::with_exact(u64::try_from(text.len()).unwrap_or(u64::MAX)),
            Self::Flow(body) => body.inner.size_hint(),
        }
    }
}
