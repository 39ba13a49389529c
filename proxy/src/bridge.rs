//! Gives any stream a socket's face.
//!
//! A tunnel is relayed between sockets. A client that comes inside TLS, or as one stream of an
//! HTTP/2 connection, gets a pair of sockets with us between it and one of them, so that there is
//! one relay, with one set of checks, for all.

use std::{
    io, os::fd::OwnedFd, os::unix::net::UnixStream as StdUnixStream, pin::pin, time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    net::{TcpStream, UnixStream},
};

use crate::limits;

/// A unix socket under the type of a TCP socket: reading, writing and shutting down are the same.
/// What only TCP has (no delay, resets) is not there, and nothing here depends on it.
///
/// # Errors
/// When the runtime cannot take it.
pub(crate) fn as_tcp(socket: StdUnixStream) -> io::Result<TcpStream> {
    socket.set_nonblocking(true)?;
    TcpStream::from_std(OwnedFd::from(socket).into())
}

/// Runs `serve` with a socket that leads to `stream`, until both are done; what is left to carry
/// after `serve` has [`limits::HALF_CLOSED`], as a client that never leaves would keep it for ever.
pub(crate) async fn bridge<S, F, T>(stream: S, serve: F)
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: FnOnce(TcpStream) -> T,
    T: Future<Output = ()>,
{
    bridge_until(stream, limits::HALF_CLOSED, serve).await;
}

async fn bridge_until<S, F, T>(mut stream: S, after: Duration, serve: F)
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: FnOnce(TcpStream) -> T,
    T: Future<Output = ()>,
{
    let Ok((near, mut far)) = pair() else {
        // Out of descriptors: the client sees its stream close.
        return;
    };
    let carry = async {
        // How it ended is seen at the near side.
        let _ended = copy_bidirectional(&mut stream, &mut far).await;
        drop(far);
    };
    let (mut serve, mut carry) = (pin!(serve(near)), pin!(carry));
    tokio::select! {
        () = &mut carry => serve.await,
        () = &mut serve => {
            let _elapsed = tokio::time::timeout(after, carry).await;
        }
    }
}

/// Two ends of a socket, one of them under the type of a TCP socket.
pub(crate) fn pair() -> io::Result<(TcpStream, UnixStream)> {
    let (near, far) = StdUnixStream::pair()?;
    far.set_nonblocking(true)?;
    Ok((as_tcp(near)?, UnixStream::from_std(far)?))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn n24_a_client_that_never_leaves_does_not_keep_a_bridge() {
        let (mut client, stream) = tokio::io::duplex(64);
        let serve = |mut near: TcpStream| async move {
            near.write_all(b"bye").await.unwrap();
        };
        bridge_until(stream, Duration::from_millis(50), serve).await;
        // What was said arrived all the same.
        let mut said = Vec::new();
        client.read_to_end(&mut said).await.unwrap();
        assert_eq!(said, b"bye");
    }

    #[tokio::test]
    async fn a_client_that_leaves_ends_what_is_served() {
        let (client, stream) = tokio::io::duplex(64);
        drop(client);
        let serve = |mut near: TcpStream| async move {
            assert_eq!(near.read(&mut [0]).await.unwrap(), 0);
        };
        bridge_until(stream, Duration::from_secs(3600), serve).await;
    }
}
