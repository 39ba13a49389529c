//! The connection to a parent: TCP, or TLS over it, until it stands for the destination.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional},
    net::{TcpStream, UnixStream},
    sync::oneshot,
};
use tokio_rustls::client::TlsStream;

use crate::{bridge, limits};

/// See the module.
#[derive(Debug)]
pub(crate) enum Link {
    /// Spoken to in the clear.
    Tcp(TcpStream),
    /// Spoken to inside TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Keeps a TLS session to a parent alive. Once dropped, what is under way has
/// [`limits::LINGER_DEADLINE`] left.
#[derive(Debug)]
pub(crate) struct Held {
    _dropped: oneshot::Sender<()>,
}

impl Link {
    /// The socket that stands for the destination from now on. TLS goes on behind a pair of
    /// sockets, so that there is one relay for all.
    ///
    /// # Errors
    /// When there are no descriptors left (`socketpair`).
    pub(crate) fn into_socket(self) -> io::Result<(TcpStream, Option<Held>)> {
        let mut stream = match self {
            Self::Tcp(stream) => return Ok((stream, None)),
            Self::Tls(stream) => stream,
        };
        let (near, mut far) = UnixStream::pair()?;
        let near = bridge::as_tcp(near.into_std()?)?;
        let (held, dropped) = oneshot::channel();
        tokio::spawn(async move {
            let carry = copy_bidirectional(&mut stream, &mut far);
            let over = async {
                // It resolves when the other half is dropped; nothing is ever sent.
                let _dropped = dropped.await;
                tokio::time::sleep(limits::LINGER_DEADLINE).await;
            };
            tokio::select! {
                // How it ended is seen at the near side.
                _ended = carry => {}
                () = over => {}
            }
        });
        Ok((near, Some(Held { _dropped: held })))
    }
}

impl AsyncRead for Link {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
