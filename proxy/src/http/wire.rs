//! An upstream connection as bytes, with or without TLS, that counts what moves.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::flow::Meter;

/// What an upstream is reached over.
pub(crate) enum Wire {
    /// Nothing but TCP.
    Plain(TcpStream),
    /// The same, in HTTP/2 without having asked for it: its client spoke so to this destination.
    Prior(TcpStream),
    /// TLS whose server was verified.
    Tls(Box<TlsStream<TcpStream>>),
}

/// An upstream connection that counts.
pub(crate) struct Metered {
    pub(super) wire: Wire,
    pub(super) meter: Arc<Meter>,
    pub(super) activity: Arc<AtomicU64>,
}

impl Wire {
    /// Without TLS, in this version.
    pub(crate) fn clear(stream: TcpStream, http2: bool) -> Self {
        match http2 {
            true => Self::Prior(stream),
            false => Self::Plain(stream),
        }
    }

    /// Whether HTTP/2 is spoken.
    pub(crate) fn is_http2(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Prior(_) => true,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }
}

/// Room for a small message in one piece: sending that is cheaper to the kernel than gathering it.
pub(crate) struct Small([u8; 1024]);

impl Default for Small {
    fn default() -> Self {
        Self([0; 1024])
    }
}

impl Small {
    /// All slices together, where they are small.
    pub(crate) fn join<'a>(&'a mut self, slices: &[io::IoSlice<'_>]) -> Option<&'a [u8]> {
        let mut len = 0;
        for slice in slices {
            self.0
                .get_mut(len..len + slice.len())?
                .copy_from_slice(slice);
            len += slice.len();
        }
        self.0.get(..len)
    }
}

impl Metered {
    fn sent(&self, bytes: usize) {
        self.meter.count_out(bytes);
        self.activity.fetch_add(1, Relaxed);
    }
}

/// Calls the same on whichever of the two it is.
macro_rules! on_wire {
    ($this:expr, $stream:ident => $call:expr) => {
        match &mut $this.wire {
            Wire::Plain($stream) | Wire::Prior($stream) => $call,
            Wire::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(on_wire!(self, stream => Pin::new(stream).poll_read(cx, buffer)))?;
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
        let sent = ready!(on_wire!(self, stream => Pin::new(stream).poll_write(cx, bytes)))?;
        self.sent(sent);
        Poll::Ready(Ok(sent))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut small = Small::default();
        let written = match small.join(slices) {
            Some(bytes) => on_wire!(self, stream => Pin::new(stream).poll_write(cx, bytes)),
            None => on_wire!(self, stream => Pin::new(stream).poll_write_vectored(cx, slices)),
        };
        let sent = ready!(written)?;
        self.sent(sent);
        Poll::Ready(Ok(sent))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.wire {
            Wire::Plain(stream) | Wire::Prior(stream) => stream.is_write_vectored(),
            Wire::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_wire!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_wire!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
