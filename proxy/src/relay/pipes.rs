//! Pipes that bytes of big tunnels go through, so that they are never copied to this process.
//!
//! Source: splice(2), pipe(7). A pipe is taken while bytes move and given back empty; a pipe that
//! still holds bytes when its tunnel ends is closed with them, never reused.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::{io::Interest, net::TcpStream};

use crate::limits;

/// Empty pipes waiting for their next use, and a bound on all there are.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    spare: Mutex<Vec<Pipe>>,
    open: Arc<AtomicUsize>,
}

/// One pipe and how much is in it.
#[derive(Debug)]
pub(crate) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    held: usize,
    open: Arc<AtomicUsize>,
}

impl Pipes {
    /// A pipe, or nothing where there are as many as may be, or no descriptor is left for one:
    /// then bytes go through buffers.
    pub(crate) fn take(&self) -> Option<Pipe> {
        let spare = self
            .spare
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        spare.or_else(|| self.make())
    }

    /// Gives a pipe back. One that is not empty is closed instead: its bytes are somebody's.
    pub(crate) fn give_back(&self, pipe: Pipe) {
        if pipe.held == 0 {
            let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
            spare.push(pipe);
        }
    }

    fn make(&self) -> Option<Pipe> {
        let open = Arc::clone(&self.open);
        let counted = open.fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| {
            (open < limits::RELAY_PIPES).then_some(open + 1)
        });
        counted.ok()?;
        match pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK) {
            Ok((read, write)) => {
                // A user who has many pipes already gets a smaller one; it works all the same.
                let _smaller = fcntl_setpipe_size(&write, limits::RELAY_PIPE_BYTES);
                Some(Pipe {
                    read,
                    write,
                    held: 0,
                    open,
                })
            }
            Err(_none_left) => {
                open.fetch_sub(1, Ordering::AcqRel);
                None
            }
        }
    }
}

impl Pipe {
    /// Fills the empty pipe with what `from` has. Nothing means that it has nothing now, 0 that it
    /// has ended.
    ///
    /// # Errors
    /// What the socket or the kernel says.
    pub(crate) fn fill(&mut self, from: &TcpStream) -> io::Result<Option<usize>> {
        let moved = from.try_io(Interest::READABLE, || {
            Ok(splice(
                from,
                None,
                &self.write,
                None,
                limits::RELAY_PIPE_BYTES,
                FLAGS,
            )?)
        });
        match moved {
            Ok(moved) => {
                self.held = moved;
                Ok(Some(moved))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Empties the pipe into `to`, waiting while that takes nothing.
    ///
    /// # Errors
    /// What the socket or the kernel says.
    pub(crate) async fn empty(&mut self, to: &TcpStream) -> io::Result<()> {
        while self.held > 0 {
            to.writable().await?;
            let moved = to.try_io(Interest::WRITABLE, || {
                Ok(splice(&self.read, None, to, None, self.held, FLAGS)?)
            });
            match moved {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(moved) => self.held = self.held.saturating_sub(moved),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

impl Drop for Pipe {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "the test is the client here")]
    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap());
        let (near, far) = tokio::join!(near, listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    #[tokio::test]
    async fn bytes_come_out_as_they_went_in_and_ends_are_seen() {
        let pipes = Pipes::default();
        let (mut source, from) = pair().await;
        let (to, mut sink) = pair().await;
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let copy = sent.clone();
        let writing = tokio::spawn(async move {
            source.write_all(&copy).await.unwrap();
        });
        let reading = tokio::spawn(async move {
            let mut got = Vec::new();
            sink.read_to_end(&mut got).await.unwrap();
            got
        });
        let mut pipe = pipes.take().unwrap();
        loop {
            from.readable().await.unwrap();
            match pipe.fill(&from).unwrap() {
                Some(0) => break,
                Some(_some) => pipe.empty(&to).await.unwrap(),
                None => {}
            }
        }
        drop(to);
        writing.await.unwrap();
        assert_eq!(reading.await.unwrap(), sent);
        pipes.give_back(pipe);
        assert_eq!(pipes.open.load(Ordering::Acquire), 1);
    }

    /// What one tunnel left in a pipe must never come out of another.
    #[tokio::test]
    async fn a_pipe_with_bytes_in_it_is_not_used_again() {
        let pipes = Pipes::default();
        let (mut source, from) = pair().await;
        source.write_all(b"secret").await.unwrap();
        let mut pipe = pipes.take().unwrap();
        from.readable().await.unwrap();
        assert_eq!(pipe.fill(&from).unwrap(), Some(6));
        pipes.give_back(pipe);
        assert_eq!(pipes.open.load(Ordering::Acquire), 0, "closed");
        assert!(pipes.spare.lock().unwrap().is_empty());
    }

    #[test]
    fn there_are_so_many_and_no_more() {
        let pipes = Pipes::default();
        let taken: Vec<_> = (0..limits::RELAY_PIPES)
            .map(|_| pipes.take().unwrap())
            .collect();
        assert!(pipes.take().is_none());
        drop(taken);
        assert!(pipes.take().is_some());
    }
}
