//! Threads for what may wait for somebody else, perhaps for ever: the other end of a named pipe or of
//! a connection, and whoever has to read what a socket still sends when it is closed. Bounded.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Sender, channel},
    },
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use super::{Stop, sockets::Waiting};
use crate::sys::notify;

/// What may wait.
pub(super) enum Work {
    /// Open this anew with these flags, and give it to the caller.
    Open(OwnedFd, OFlags, bool),
    /// Connect.
    Connect(Waiting),
}

/// The threads of one supervisor.
pub(super) struct Elsewhere {
    busy: Arc<AtomicUsize>,
    lent: Arc<AtomicUsize>,
    closer: Sender<Returned>,
}

/// A copy of a descriptor of the session's. It is closed on a thread for that: where the session has
/// closed its own meanwhile ours is the last, and the kernel waits as long as the session asked it to
/// (`SO_LINGER`, socket(7)).
pub(super) struct Lent {
    returned: Option<Returned>,
    closer: Sender<Returned>,
}

/// One that is to be closed, before its place is another's.
struct Returned {
    file: OwnedFd,
    _place: Place,
}

/// One of [`COPIES`].
struct Place(Arc<AtomicUsize>);

impl Elsewhere {
    /// # Errors
    /// The system has no thread for it.
    pub(super) fn new() -> io::Result<Self> {
        let (closer, returned) = channel::<Returned>();
        let thread = std::thread::Builder::new().name("guard-closes".into());
        thread.spawn(move || returned.iter().for_each(drop))?;
        Ok(Self {
            busy: Arc::default(),
            lent: Arc::default(),
            closer,
        })
    }

    /// What `copy` makes.
    ///
    /// # Errors
    /// Its own; `ENFILE`: too many are not closed yet.
    pub(super) fn lend(&self, copy: impl FnOnce() -> Result<OwnedFd, Stop>) -> Result<Lent, Stop> {
        let place = Place(Arc::clone(&self.lent));
        if self.lent.fetch_add(1, Ordering::AcqRel) >= COPIES {
            return Err(Errno::NFILE.into());
        }
        let returned = Returned {
            file: copy()?,
            _place: place,
        };
        Ok(Lent {
            returned: Some(returned),
            closer: self.closer.clone(),
        })
    }

    /// Does `work` for the call behind `id`, and answers it.
    ///
    /// # Errors
    /// `ENFILE`: too many wait already. `EAGAIN`, `EMFILE`: no thread, no descriptor.
    pub(super) fn answer(&self, listener: &OwnedFd, id: u64, work: Work) -> Result<(), Errno> {
        let listener = listener.try_clone().map_err(|_| Errno::MFILE)?;
        let busy = Arc::clone(&self.busy);
        if busy.fetch_add(1, Ordering::AcqRel) >= THREADS {
            busy.fetch_sub(1, Ordering::AcqRel);
            return Err(Errno::NFILE);
        }
        let run = {
            let busy = Arc::clone(&busy);
            move || {
                // Whoever asked may be gone when it is done.
                let _gone = work.carry_out(listener.as_fd(), id);
                busy.fetch_sub(1, Ordering::AcqRel);
            }
        };
        let thread = std::thread::Builder::new().name("guard-waits".into());
        thread.spawn(run).map(|_thread| ()).map_err(|_| {
            busy.fetch_sub(1, Ordering::AcqRel);
            Errno::AGAIN
        })
    }
}

impl Lent {
    /// # Errors
    /// `EBADF`: it is given back; nobody has one that is.
    pub(super) fn file(&self) -> Result<BorrowedFd<'_>, Errno> {
        let returned = self.returned.as_ref().ok_or(Errno::BADF)?;
        Ok(returned.file.as_fd())
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(returned) = self.returned.take() {
            // The thread is there for as long as there is one to send to.
            let _closed = self.closer.send(returned);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Work {
    fn carry_out(self, listener: BorrowedFd<'_>, id: u64) -> Result<(), Errno> {
        match self {
            Self::Open(file, flags, close_on_exec) => {
                let own = format!("/proc/self/fd/{}", file.as_raw_fd());
                match rustix::fs::open(own, flags, Mode::empty()) {
                    Ok(opened) => give(listener, id, &opened, close_on_exec),
                    Err(errno) => notify::answer(listener, id, Err(errno)),
                }
            }
            Self::Connect(waiting) => notify::answer(listener, id, waiting.connect()),
        }
    }
}

/// Gives a file to the waiting thread, or says why it cannot have it (`EMFILE`).
pub(super) fn give(
    listener: BorrowedFd<'_>,
    id: u64,
    file: &OwnedFd,
    cloexec: bool,
) -> Result<(), Errno> {
    match notify::answer_with_file(listener, id, file.as_fd(), cloexec) {
        Err(Errno::NOENT) | Ok(()) => Ok(()),
        Err(errno) => notify::answer(listener, id, Err(errno)),
    }
}

/// Of one supervisor, at most.
const THREADS: usize = 32;

/// Copies of descriptors that are not closed yet, at most: more than there can be threads with one.
const COPIES: usize = 64;

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        net::{TcpListener, TcpStream},
        time::{Duration, Instant},
    };

    use super::*;

    #[expect(
        clippy::disallowed_methods,
        reason = "a test may reach its own listener"
    )]
    /// A socket whose last close waits for as long as the session likes.
    fn lingering() -> (OwnedFd, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut full = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        full.set_nonblocking(true).unwrap();
        while full.write(&[0; 65_536]).is_ok() {}
        full.set_nonblocking(false).unwrap();
        rustix::net::sockopt::set_socket_linger(&full, Some(Duration::from_secs(3_600))).unwrap();
        (full.into(), peer)
    }

    #[test]
    fn f09_closing_what_the_session_lets_linger_keeps_nobody_waiting() {
        let elsewhere = Elsewhere::new().unwrap();
        let (socket, peer) = lingering();
        let begun = Instant::now();
        let lent = elsewhere
            .lend(|| Ok(socket))
            .unwrap_or_else(|_| panic!("there is a place"));
        assert!(lent.file().is_ok());
        drop(lent);
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "it waited for the peer"
        );
        // It is bounded: what is not closed yet takes places. None of them is the peer.
        let other = std::fs::File::open("/dev/null").unwrap();
        let many: Vec<_> = (1..COPIES)
            .map(|_| elsewhere.lend(|| Ok(other.try_clone().unwrap().into())))
            .collect();
        assert!(many.iter().all(Result::is_ok));
        let further = elsewhere.lend(|| Ok(other.try_clone().unwrap().into()));
        assert!(matches!(further, Err(Stop::Errno(Errno::NFILE))));
        // A peer that is gone lets it be closed, and all are free again.
        drop((many, peer));
        while elsewhere.lent.load(Ordering::Acquire) > 0 {
            std::thread::yield_now();
        }
    }
}
