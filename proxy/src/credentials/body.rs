//! A request's body on its way out, watched for placeholders.
//!
//! The client's body in, the same body out; broken off, and the refusal recorded, when a placeholder
//! of its session is in it. It is looked at as it is: what is compressed is not unpacked. A body that is
//! signed piece by piece is signed anew on its way.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use cordon_policy::{Asked as AskedOf, Basis, Decided, Deny, DenyReason, Request};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};

use super::{
    Late, Problem,
    inject::stray,
    sigv4::{Pieces, Signed},
};
use crate::{
    http::{Asked, BodyError},
    refuse::Refusal,
    session::Session,
};

/// A request's body.
pub(crate) struct Checked {
    from: From,
    /// Signs it on its way.
    pieces: Option<Box<Pieces>>,
    watch: Option<Box<Watch>>,
}

/// Where its bytes come from.
enum From {
    Client(Incoming),
    /// Read already, to be signed; taken when it is sent.
    Read(Bytes),
}

struct Watch {
    session: Arc<Session>,
    request: Request,
    late: Late,
    /// The end of what went before: a placeholder may begin there.
    before: BytesMut,
    /// The refusal, while it is being recorded.
    ending: Option<Pin<Box<dyn Future<Output = Refusal> + Send>>>,
}

impl Checked {
    pub(crate) fn unwatched(body: Incoming) -> Self {
        Self {
            from: From::Client(body),
            pieces: None,
            watch: None,
        }
    }

    /// Watches it from now on, where there is anything to look for.
    pub(super) fn watch(&mut self, session: &Arc<Session>, asked: &Asked, late: Late) {
        if session.placeholders().is_none() || self.is_end_stream() {
            return;
        }
        let request = Request {
            session: Arc::clone(session.gate().session()),
            operation: asked.operation(),
            at: std::time::SystemTime::now(),
        };
        self.watch = Some(Box::new(Watch {
            session: Arc::clone(session),
            request,
            late,
            before: BytesMut::new(),
            ending: None,
        }));
    }

    /// Signs it piece by piece from now on.
    pub(super) fn sign(&mut self, pieces: Pieces) {
        self.pieces = Some(Box::new(pieces));
    }

    /// Reads all of it, to look at before it is sent.
    ///
    /// # Errors
    /// It broke off, or has more than `most` bytes.
    pub(super) async fn whole(&mut self, most: usize) -> Result<&[u8], BodyError> {
        if let From::Client(body) = &mut self.from {
            let mut read = BytesMut::new();
            while let Some(frame) = body.frame().await {
                if let Ok(data) = frame?.into_data() {
                    if read.len() + data.len() > most {
                        return Err("the body is too long".into());
                    }
                    read.extend_from_slice(&data);
                }
            }
            self.from = From::Read(read.freeze());
        }
        match &self.from {
            From::Read(bytes) => Ok(bytes),
            From::Client(_) => Ok(&[]),
        }
    }

    fn poll_from(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.from {
            From::Client(body) => Pin::new(body).poll_frame(cx),
            From::Read(bytes) if bytes.is_empty() => Poll::Ready(None),
            From::Read(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
        }
    }

    /// The next piece, signed; what is wrong with the framing is a refusal.
    fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let Some(pieces) = &mut self.pieces else {
                return Poll::Ready(None);
            };
            let next = match pieces.next() {
                Ok(None) if pieces.is_over() => return Poll::Ready(None),
                Ok(None) => {
                    let data = match ready!(self.poll_from(cx)) {
                        Some(frame) => frame?.into_data(),
                        None => return self.last_piece(cx),
                    };
                    // Trailers of HTTP are nothing that AWS signs: they go no further.
                    if let (Some(pieces), Ok(data)) = (&mut self.pieces, data) {
                        pieces.push(&data);
                    }
                    continue;
                }
                next => next,
            };
            return self.piece(next, cx);
        }
    }

    fn last_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let last = match &mut self.pieces {
            Some(pieces) => pieces.finish(),
            None => Ok(None),
        };
        self.piece(last, cx)
    }

    fn piece(
        &mut self,
        signed: Result<Option<Signed>, &'static str>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let signed = match (signed, &mut self.watch) {
            (Ok(None), _) => return Poll::Ready(None),
            (Ok(Some(signed)), watch) => {
                if let Some(watch) = watch {
                    // Its content, which the framing may not hide a placeholder in.
                    watch.look(&signed.content);
                }
                signed.sent
            }
            (Err(problem), Some(watch)) => {
                watch.broken(problem);
                Bytes::new()
            }
            (Err(problem), None) => return Poll::Ready(Some(Err(problem.into()))),
        };
        if let Some(watch) = &mut self.watch {
            ready!(watch.poll_ending(cx))?;
        }
        Poll::Ready(Some(Ok(Frame::data(signed))))
    }
}

impl Watch {
    /// Refuses a body whose pieces cannot be told apart.
    fn broken(&mut self, problem: &str) {
        let why = format!("its body, signed piece by piece, cannot be signed anew: {problem}");
        self.ending = Some(self.refuse(why));
    }

    /// Whether it may go on; else the refusal begins to be recorded.
    fn look(&mut self, data: &Bytes) {
        let Some(placeholders) = self.session.placeholders() else {
            return;
        };
        let overlap = placeholders.overlap();
        // What spans the border, then what is in this part alone.
        let reach = data.len().min(overlap);
        let mut border = std::mem::take(&mut self.before);
        border.extend_from_slice(data.get(..reach).unwrap_or(data));
        let found = placeholders
            .find(&border)
            .or_else(|| placeholders.find(data));
        if let Some(name) = found {
            let Problem(why) = stray(name, "the body");
            self.ending = Some(self.refuse(why));
            return;
        }
        if data.len() < overlap {
            let whole = border.len();
            self.before = border.split_off(whole.saturating_sub(overlap));
        } else {
            let end = data.get(data.len() - overlap..).unwrap_or_default();
            self.before = BytesMut::from(end);
        }
    }

    fn refuse(&self, why: String) -> Pin<Box<dyn Future<Output = Refusal> + Send>> {
        let deny = Decided::<Deny>::deny(
            AskedOf::Request(self.request.clone()),
            DenyReason::Credential,
            Basis {
                errors: vec![why],
                ..Basis::default()
            },
        );
        let gate = self.session.gate().clone();
        Box::pin(async move { Refusal::from(gate.refuse(deny).await) })
    }

    /// Pending while the refusal is recorded, then an error; ready as long as there is none.
    fn poll_ending(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let Some(ending) = &mut self.ending else {
            return Poll::Ready(Ok(()));
        };
        let refusal = ready!(ending.as_mut().poll(cx));
        self.late.set(refusal);
        self.ending = None;
        Poll::Ready(Err("a credential's placeholder stands in the body".into()))
    }
}

impl HttpBody for Checked {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(watch) = &mut this.watch {
            ready!(watch.poll_ending(cx))?;
        }
        if this.pieces.is_some() {
            return this.poll_piece(cx);
        }
        let frame = ready!(this.poll_from(cx));
        if let (Some(watch), Some(Ok(frame))) = (&mut this.watch, &frame) {
            if let Some(data) = frame.data_ref() {
                watch.look(data);
            }
            for (name, value) in frame.trailers_ref().into_iter().flatten() {
                watch.look(&Bytes::copy_from_slice(name.as_ref()));
                watch.look(&Bytes::copy_from_slice(value.as_bytes()));
            }
            ready!(watch.poll_ending(cx))?;
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        if self.pieces.is_some() {
            // Whether it ended well is not known before it was asked for its end.
            return false;
        }
        match &self.from {
            From::Client(body) => body.is_end_stream(),
            From::Read(bytes) => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let exact = |bytes: usize| SizeHint::with_exact(u64::try_from(bytes).unwrap_or(u64::MAX));
        match (&self.from, &self.pieces) {
            // Signatures are as long as those that they replace.
            (From::Client(body), Some(pieces)) => {
                let (left, waiting) = (body.size_hint().exact(), pieces.waiting() as u64);
                left.map_or_else(SizeHint::default, |left| {
                    SizeHint::with_exact(left.saturating_add(waiting))
                })
            }
            (From::Client(body), None) => body.size_hint(),
            (From::Read(bytes), pieces) => {
                exact(bytes.len() + pieces.as_ref().map_or(0, |pieces| pieces.waiting()))
            }
        }
    }
}
