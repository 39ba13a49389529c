//! A client's socket that can be watched while `hyper` has it.
//!
//! While a request waits for its origin nobody reads from the client, so nobody would see it leave.
//! The kernel tells without a read: an end or a reset of the other side is a readiness of its own.
//! Reads and writes go through as they are; never looks at a byte.

use std::{
    io,
    net::Shutdown,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::{resting, wire::Small};

/// See the module.
#[derive(Debug)]
pub(crate) struct Socket {
    read: OwnedReadHalf,
    shared: Arc<Shared>,
}

/// Watches a [`Socket`] from beside it.
#[derive(Debug)]
pub(crate) struct Leaving(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    write: OwnedWriteHalf,
    /// Grows with every write.
    written: AtomicU64,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream) -> Self {
        let (read, write) = stream.into_split();
        let written = AtomicU64::new(0);
        let shared = Arc::new(Shared { write, written });
        Self { read, shared }
    }

    /// To be told when the client leaves. To be dropped before [`Self::into_inner`].
    pub(crate) fn leaving(&self) -> Leaving {
        Leaving(Arc::clone(&self.shared))
    }

    /// The socket alone; `None` while somebody watches it.
    pub(crate) fn into_inner(self) -> Option<TcpStream> {
        let shared = Arc::try_unwrap(self.shared).ok()?;
        self.read.reunite(shared.write).ok()
    }
}

impl Leaving {
    /// Resolves when nobody waits for an answer any more: at once when the client resets the
    /// connection, and when it ended its side and since then neither `activity` nor what is
    /// written to it has changed for `grace`, at the latest twice that.
    pub(crate) async fn gone(self, activity: impl Fn() -> u64, grace: Duration) {
        let socket: &TcpStream = self.0.write.as_ref();
        // Nothing is asked for that has priority; with this interest the kernel tells the end
        // of the other side alone, not what there is to read. An error is that of a runtime that ends.
        let _ended = socket.ready(Interest::PRIORITY).await;
        let moved = || activity().wrapping_add(self.0.written.load(Relaxed));
        tokio::select! {
            _reset = socket.ready(Interest::ERROR) => {}
            () = resting(moved, grace) => {}
        }
    }
}

impl Shared {
    fn poll_write(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let socket: &TcpStream = self.write.as_ref();
        loop {
            ready!(socket.poll_write_ready(cx))?;
            match write(socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => {
                    self.written.fetch_add(1, Relaxed);
                    return Poll::Ready(done);
                }
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().read).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.shared.poll_write(cx, |socket| socket.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut small = Small::default();
        match small.join(slices) {
            Some(bytes) => self.shared.poll_write(cx, |socket| socket.try_write(bytes)),
            None => self
                .shared
                .poll_write(cx, |socket| socket.try_write_vectored(slices)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket keeps nothing back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket: &TcpStream = self.shared.write.as_ref();
        Poll::Ready(match SockRef::from(socket).shutdown(Shutdown::Write) {
            // The client was first, and altogether.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            done => done,
        })
    }
}
