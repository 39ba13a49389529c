//! Shows the parsers of this crate to `fuzz/` and to its smoke test. Adds no behaviour, and is no
//! part of the product: only the feature `fuzzing` and the tests compile it.

use std::{
    future::Future,
    io,
    net::IpAddr,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub use crate::{
    credentials::fuzzing::{Placeholder, pieces},
    http::fuzzing::{
        Canonical, Message, Screened, chunks, connect, forward, frames, hops, inside, leaves_http,
        messages, outbound, screen,
    },
    parent::fuzzing::parent,
    tls::fuzzing::{Handshake, handshake},
};

/// Reads a PROXY protocol header that arrives `cut` bytes at a time: whom it names, and how many
/// bytes it took.
pub fn proxy_header(bytes: &[u8], cut: usize) -> (Result<Option<IpAddr>, String>, usize) {
    let mut stream = Pieces::new(bytes, cut);
    let read = now(crate::door::proxy_protocol::read(&mut stream));
    (read, bytes.len() - stream.rest.len())
}

/// A session's synthetic names.
#[derive(Debug, Default)]
pub struct Names(crate::dns::SyntheticNames);

impl Names {
    /// The response to a query, where there is one.
    pub fn respond(&self, query: &[u8]) -> Option<Vec<u8>> {
        crate::dns::reply(&self.0, query)?.0.to_vec().ok()
    }
}

/// Bytes that arrive so many at a time, then the end; what is written is dropped.
pub(crate) struct Pieces<'a> {
    rest: &'a [u8],
    cut: usize,
}

impl<'a> Pieces<'a> {
    pub(crate) fn new(bytes: &'a [u8], cut: usize) -> Self {
        Self { rest: bytes, cut }
    }
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let take = self.rest.len().min(self.cut).min(buffer.remaining());
        let (piece, rest) = self.rest.split_at_checked(take).unwrap_or_default();
        buffer.put_slice(piece);
        self.rest = rest;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The result of a future that waits for nothing but [`Pieces`].
pub(crate) fn now<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
    }
}

#[cfg(test)]
mod smoke;
