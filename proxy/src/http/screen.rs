//! Stands between a client's socket and `hyper`: lets whole, well-formed messages through and
//! nothing else.
//!
//! A head that arrives in one piece is looked at where it lies; only a head in pieces is kept until
//! it is whole. Where something is wrong, `hyper` is told that the client has ended, so what was
//! asked before is still answered, and the [`Flaw`] waits for whoever owns the connection.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    chunks::Chunks,
    head::{self, Framing},
    normalize::Problem,
};
use crate::{limits, refuse::Fault};

/// A client's stream, screened.
#[derive(Debug)]
pub(crate) struct Screen<S> {
    stream: S,
    at: At,
    /// A head that is not whole yet.
    held: Vec<u8>,
    /// What may go on, from here.
    ready: Vec<u8>,
    given: usize,
    flaw: Option<Flaw>,
    /// Something was written since the last head went through.
    answering: bool,
}

/// What kept a message from going through.
#[derive(Debug)]
pub(crate) enum Flaw {
    /// What is wrong, and the bytes it was found in; unanswered.
    Refused(Problem, Vec<u8>),
    /// As before, in the middle of a body whose answer has begun: only to be recorded.
    Answered(Problem, Vec<u8>),
    /// The client speaks HTTP/2; what it has said so far.
    Http2(Vec<u8>),
}

/// Where in the client's stream the next byte belongs.
#[derive(Debug)]
enum At {
    /// The first head of the connection.
    Start,
    /// A further head.
    Head,
    /// A body of which so many bytes are left.
    Length(u64),
    /// A body in chunks.
    Chunks(Chunks),
    /// Beyond HTTP.
    Tunnel,
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

impl<S> Screen<S> {
    /// Screens a client that has said nothing yet.
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            at: At::Start,
            held: Vec::new(),
            ready: Vec::new(),
            given: 0,
            flaw: None,
            answering: false,
        }
    }

    /// What is wrong, where something is.
    pub(crate) fn take_flaw(&mut self) -> Option<Flaw> {
        self.flaw.take()
    }

    /// A head that was begun and is not whole.
    pub(crate) fn unfinished(&self) -> &[u8] {
        &self.held
    }

    /// The stream, and what was read from it and not given on.
    pub(crate) fn into_parts(mut self) -> (S, Vec<u8>) {
        let rest = self.ready.split_off(self.given.min(self.ready.len()));
        (self.stream, rest)
    }

    /// Looks at new bytes; gives how many of them may go on. What may not is kept or refused.
    fn look(&mut self, new: &[u8]) -> usize {
        let mut done = 0;
        while let Some(rest) = new.get(done..).filter(|rest| !rest.is_empty()) {
            match self.step(rest) {
                Ok(Step::On(taken)) => done += taken,
                Ok(Step::Hold) => {
                    self.held = rest.to_vec();
                    return done;
                }
                Err(problem) => {
                    self.refuse(problem, rest);
                    return done;
                }
            }
            if self.flaw.is_some() {
                return done;
            }
        }
        done
    }

    fn step(&mut self, rest: &[u8]) -> Result<Step, Problem> {
        match &mut self.at {
            At::Tunnel => Ok(Step::On(rest.len())),
            At::Length(left) => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                *left = left.saturating_sub(u64::try_from(take).unwrap_or(u64::MAX));
                if *left == 0 {
                    self.at = At::Head;
                }
                Ok(Step::On(take))
            }
            At::Chunks(chunks) => {
                let (taken, ended) = chunks.take(rest)?;
                if ended {
                    self.at = At::Head;
                }
                Ok(Step::On(taken))
            }
            At::Start | At::Head => self.head(rest),
        }
    }

    fn head(&mut self, rest: &[u8]) -> Result<Step, Problem> {
        if matches!(self.at, At::Start) && rest.starts_with(PREFACE) {
            self.flaw = Some(Flaw::Http2(rest.to_vec()));
            return Ok(Step::On(0));
        }
        // One empty line ahead of a request is passed over (RFC 9112 section 2.2).
        let skipped = if rest.starts_with(b"\r\n") { 2 } else { 0 };
        let text = rest.get(skipped..).unwrap_or_default();
        foreign(text)?;
        let Some(end) = end_of_head(text)? else {
            if text.len() > limits::HEAD_BYTES {
                return Err(too_large());
            }
            return Ok(Step::Hold);
        };
        if end > limits::HEAD_BYTES {
            return Err(too_large());
        }
        let framing = head::read(text.get(..end).unwrap_or_default())?;
        self.at = match framing {
            Framing::Empty => At::Head,
            Framing::Length(length) => At::Length(length),
            Framing::Chunked => At::Chunks(Chunks::default()),
            Framing::Tunnel => At::Tunnel,
        };
        self.answering = false;
        Ok(Step::On(skipped + end))
    }

    fn refuse(&mut self, problem: Problem, seen: &[u8]) {
        let in_body = !matches!(self.at, At::Start | At::Head);
        self.flaw = Some(if in_body && self.answering {
            Flaw::Answered(problem, seen.to_vec())
        } else {
            Flaw::Refused(problem, seen.to_vec())
        });
    }

    /// Whether `hyper` may not write any more: it would answer a message that was broken off.
    fn is_mute(&self) -> bool {
        matches!(self.flaw, Some(Flaw::Refused(..))) && !matches!(self.at, At::Start | At::Head)
    }

    /// Goes on with a kept head and what came behind it.
    fn rejoin(&mut self, new: &[u8]) {
        let mut whole = std::mem::take(&mut self.held);
        whole.extend_from_slice(new);
        let done = self.look(&whole);
        whole.truncate(done);
        self.ready = whole;
        self.given = 0;
    }

    /// Hands out what may go on.
    fn hand_out(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let rest = self.ready.get(self.given..).unwrap_or_default();
        let take = rest.len().min(buffer.remaining());
        buffer.put_slice(rest.get(..take).unwrap_or_default());
        self.given += take;
        if self.given == self.ready.len() {
            self.ready = Vec::new();
            self.given = 0;
        }
        take > 0
    }
}

/// What becomes of bytes.
enum Step {
    /// So many go on.
    On(usize),
    /// They are a part of a head.
    Hold,
}

/// The length of a whole head with its empty line; nothing while it is not whole.
///
/// A line that ends in LF alone, or has a CR within, is read differently by different readers.
fn end_of_head(text: &[u8]) -> Result<Option<usize>, Problem> {
    let mut from = 0;
    for end in memchr::memchr_iter(b'\n', text) {
        let line = text.get(from..end).unwrap_or_default();
        let line = line.strip_suffix(b"\r").ok_or_else(bare)?;
        if memchr::memchr(b'\r', line).is_some() {
            return Err(bare());
        }
        if line.is_empty() {
            return Ok(Some(end + 1));
        }
        from = end + 1;
    }
    Ok(None)
}

/// Says by its first byte what speaks something else (N28).
fn foreign(text: &[u8]) -> Result<(), Problem> {
    let problem = match text.first() {
        None => return Ok(()),
        Some(0x16) => "TLS on the plain HTTP listener; its URL begins with `http://`",
        Some(4 | 5) => "SOCKS on the HTTP listener; use the SOCKS listener, or HTTP",
        Some(b'\r' | b'\n') => "more than one empty line ahead of a request",
        Some(first) if !head::is_token(*first) => "not HTTP: no method begins with this byte",
        Some(_) => return Ok(()),
    };
    // A CR may be the first half of the one empty line that is passed over.
    if text == b"\r" {
        return Ok(());
    }
    Err(Problem::malformed(problem))
}

fn bare() -> Problem {
    Problem::malformed("a line of the request head does not end with CR LF")
}

fn too_large() -> Problem {
    Problem::new(
        Fault::HeadTooLarge,
        format!(
            "the request head is longer than {} bytes",
            limits::HEAD_BYTES
        ),
    )
}

impl<S: AsyncRead + Unpin> AsyncRead for Screen<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.hand_out(buffer) {
                return Poll::Ready(Ok(()));
            }
            if this.flaw.is_some() || buffer.remaining() == 0 {
                // To `hyper`: the client has ended.
                return Poll::Ready(Ok(()));
            }
            let before = buffer.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
            let new = buffer.filled().get(before..).unwrap_or_default();
            if new.is_empty() {
                if !this.held.is_empty() {
                    let held = std::mem::take(&mut this.held);
                    this.refuse(Problem::malformed("the client ended within a head"), &held);
                }
                return Poll::Ready(Ok(()));
            }
            if this.held.is_empty() {
                let done = this.look(new);
                buffer.set_filled(before + done);
                if done > 0 {
                    return Poll::Ready(Ok(()));
                }
            } else {
                this.rejoin(new);
                buffer.set_filled(before);
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Screen<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_mute() {
            return Poll::Ready(Ok(bytes.len()));
        }
        this.answering = true;
        Pin::new(&mut this.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_mute() {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        this.answering = true;
        Pin::new(&mut this.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.flaw.is_some() {
            // There is more to say, or to hear.
            return Pin::new(&mut this.stream).poll_flush(cx);
        }
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
