//! A connection that a client must go on taking from: a write that waits longer than its time ends
//! it.
//!
//! Any stream in, the same stream out, with that bound. Reading has its own bounds elsewhere.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// A stream whose writes wait no longer than a time.
#[derive(Debug)]
pub struct Patient<S> {
    stream: S,
    time: Duration,
    /// Made by the first write that waits, and used again.
    sleep: Option<Pin<Box<Sleep>>>,
    /// Whether a write waits now.
    waits: bool,
}

impl<S> Patient<S> {
    /// Waits so long for the client to take something.
    pub fn new(stream: S, time: Duration) -> Self {
        Self {
            stream,
            time,
            sleep: None,
            waits: false,
        }
    }

    /// What a write came to, or the end where it has waited too long.
    fn timed<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waits = false;
            return written;
        }
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(self.time)));
        if !self.waits {
            self.waits = true;
            sleep.as_mut().reset(Instant::now() + self.time);
        }
        match sleep.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.timed(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.timed(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.timed(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.timed(cx, shut)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Who takes nothing for the time is let go; who takes a little each time is not.
    #[tokio::test]
    async fn a_client_must_go_on_taking() {
        let time = Duration::from_secs(1);
        let (near, mut far) = tokio::io::duplex(16);
        let mut patient = Patient::new(near, time);
        let slow = tokio::spawn(async move {
            let mut taken = [0; 16];
            for _ in 0..5 {
                tokio::time::sleep(time / 4).await;
                far.read_exact(&mut taken).await.unwrap();
            }
            far
        });
        patient.write_all(&[0; 16 * 6]).await.unwrap();
        let stays = slow.await.unwrap();
        let before = Instant::now();
        let error = patient.write_all(&[0]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(before.elapsed() >= time);
        drop(stays);
    }
}
