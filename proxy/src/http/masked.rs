//! An origin's body with credentials that it sends back taken out.
//!
//! The body of an answer in, the same body out: same length, same parts but where a value may be
//! cut. Says once for each answer that one was found, never what it was.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use cordon_audit::RecordId;
use hyper::{
    HeaderMap,
    body::{Frame, SizeHint},
};

use super::body::{BodyError, FlowBody};
use crate::{credentials::Echo, metrics};

/// See the module.
pub(crate) struct Masked {
    inner: FlowBody,
    echo: Box<Echo>,
    decision: RecordId,
    told: bool,
    /// Come, and behind what still waited.
    trailers: Option<HeaderMap>,
}

impl Masked {
    /// The body of an answer to a request that `echo` was put into.
    pub(super) fn new(inner: FlowBody, echo: Box<Echo>, decision: RecordId) -> Self {
        let mut masked = Self {
            inner,
            echo,
            decision,
            told: false,
            trailers: None,
        };
        // In the fields.
        masked.tell();
        masked
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if let Some(trailers) = self.trailers.take() {
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
            let frame = match ready!(self.inner.poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(self.rest()),
            };
            match frame.into_data() {
                Ok(data) => {
                    let data = self.echo.next(data);
                    self.tell();
                    if !data.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                }
                Err(frame) => {
                    let mut trailers = frame.into_trailers().unwrap_or_default();
                    self.echo.fields(&mut trailers);
                    self.tell();
                    self.trailers = Some(trailers);
                    if let Some(rest) = self.rest() {
                        return Poll::Ready(Some(rest));
                    }
                }
            }
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream() && self.echo.waiting() == 0 && self.trailers.is_none()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let (inner, waiting) = (self.inner.size_hint(), self.echo.waiting() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower().saturating_add(waiting));
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(waiting));
        }
        hint
    }

    fn rest(&mut self) -> Option<Result<Frame<Bytes>, BodyError>> {
        let rest = self.echo.rest();
        (!rest.is_empty()).then(|| Ok(Frame::data(rest)))
    }

    fn tell(&mut self) {
        if self.echo.take_found() && !std::mem::replace(&mut self.told, true) {
            metrics::PROXY.echoed.inc();
            tracing::warn!(decision = %self.decision, "an answer sent a credential back; it was masked");
        }
    }
}
