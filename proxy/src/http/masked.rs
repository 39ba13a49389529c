//! An origin's answer with credentials that it sends back taken out, or refused for them.
//!
//! The answer in, the same answer out: same length, same parts but where a value may be cut. Where it
//! is to be refused, the head alone is read before any of it goes on; a value further behind breaks it
//! off. Says once for each answer that one was found, never what it was.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use cordon_audit::RecordId;
use cordon_policy::DenyReason;
use hyper::{
    HeaderMap, Response, StatusCode,
    body::{Frame, Incoming, SizeHint},
    header::{self, HeaderName},
};

use super::{
    body::{Body, BodyError, FlowBody, Stop},
    grpc,
    messages::Messages,
};
use crate::{credentials::Echo, flow::Flow, refuse::Refusal};

/// The answer to a request that `echo` was put into. `hidden` is what [`hides`] says of it.
///
/// # Errors
/// The recorded refusal, where the credential wants it: a value in its fields, or a body that cannot
/// be looked into.
pub(super) async fn answer(
    mut response: Response<Incoming>,
    hidden: Option<&'static str>,
    mut echo: Echo,
    flow: Flow,
    stop: Option<Stop>,
    counts: bool,
) -> Result<Response<Body>, Refusal> {
    let messages = grpc::is_grpc(response.headers()).then(Messages::default);
    echo.head(&mut response);
    if echo.refuses() {
        let why = match echo.take_found() {
            true => Some(SENT_BACK),
            false => hidden,
        };
        if let Some(why) = why {
            if why == SENT_BACK {
                echo.tell(Some(flow.decision()));
            }
            if let Some(stop) = stop {
                stop.now();
            }
            let refusal = flow.end_refused(DenyReason::Credential, why.to_owned());
            return Err(refusal.await);
        }
    }
    Ok(response.map(|body| {
        let decision = flow.decision();
        let body = FlowBody::new(body, flow, stop, counts);
        Masked::new(body, echo, decision, messages).into()
    }))
}

/// Why the body of an answer cannot be looked into, in words. The answer is as its origin sent it:
/// without the fields of its hop nothing tells of a coding that they name.
pub(super) fn hides<B>(response: &Response<B>) -> Option<&'static str> {
    let fields = response.headers();
    let codings = [header::CONTENT_ENCODING, GRPC_ENCODING].map(|name| fields.get_all(name));
    if codings
        .iter()
        .flatten()
        .any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        return Some(COMPRESSED);
    }
    (response.status() == StatusCode::PARTIAL_CONTENT)
        .then_some("its answer is a range, which may have a part of its credential")
}

const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const COMPRESSED: &str = "its answer is compressed, and cannot be looked into for its credential";
const SENT_BACK: &str = "its answer sends its credential back";

/// See the module.
pub(crate) struct Masked {
    inner: FlowBody,
    echo: Echo,
    decision: RecordId,
    told: bool,
    /// Where its messages end, where that is known: a value does not go on in the next one.
    messages: Option<Messages>,
    /// Come, and behind what still waited.
    trailers: Option<HeaderMap>,
}

impl Masked {
    /// The body of an answer to a request that `echo` was put into.
    fn new(inner: FlowBody, echo: Echo, decision: RecordId, messages: Option<Messages>) -> Self {
        let mut masked = Self {
            inner,
            echo,
            decision,
            told: false,
            messages,
            trailers: None,
        };
        // In the fields.
        masked.found();
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
                    let whole = self
                        .messages
                        .as_mut()
                        .is_some_and(|messages| messages.end_with(&data));
                    let mut data = self.echo.next(data);
                    if self.found() {
                        continue;
                    }
                    if whole && self.echo.waiting() > 0 {
                        // Whoever reads this message answers only once it is whole.
                        data = [data, self.echo.rest()].concat().into();
                    }
                    if !data.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                }
                Err(frame) => {
                    let mut trailers = frame.into_trailers().unwrap_or_default();
                    self.echo.fields(&mut trailers);
                    if self.found() {
                        continue;
                    }
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

    /// Looks whether a value was found; whether the answer ends with that.
    fn found(&mut self) -> bool {
        if !self.echo.take_found() {
            return false;
        }
        if !std::mem::replace(&mut self.told, true) {
            self.echo.tell(Some(self.decision));
        }
        if self.echo.refuses() {
            // Nothing of what waited goes on.
            drop(self.echo.rest());
            self.inner.refuse(SENT_BACK);
        }
        self.echo.refuses()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n21_what_is_coded_in_any_way_hides_its_body() {
        let with = |name: &str, value: &str| {
            let mut response = Response::new(());
            let name: HeaderName = name.parse().unwrap();
            response.headers_mut().append(name, value.parse().unwrap());
            hides(&response).is_some()
        };
        for (name, value) in [("content-encoding", "gzip"), ("grpc-encoding", "gzip")] {
            assert!(with(name, value), "{name}: {value}");
        }
        for (name, value) in [("content-encoding", "Identity"), ("x-other", "gzip")] {
            assert!(!with(name, value), "the control: {name}: {value}");
        }
    }
}
