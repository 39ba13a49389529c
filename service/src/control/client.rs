//! The launcher's half: synchronous, because the launcher forks and must be single-threaded.

use std::{
    io::{self, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
};

use cordon_sandbox::fdpass;
use thiserror::Error;

use super::{Answer, Ask, Hello, OrderStream, VERSION, frame};

/// One connection to the daemon.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    buffer: Vec<u8>,
}

/// Why the daemon could not be talked to.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("no daemon listens on `{path}`", path = path.display())]
    NoDaemon {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection broke; the daemon is gone.
    #[error("the daemon went away")]
    Gone(#[source] io::Error),
    /// It said something that does not belong here.
    #[error("the daemon answered something unexpected")]
    Unexpected,
    /// It refused or failed, and said why.
    #[error("{message}")]
    Failed {
        /// What and why.
        message: String,
        /// What to do.
        help: Option<String>,
    },
}

impl Client {
    /// Connects to the daemon's socket. Says nothing yet.
    ///
    /// # Errors
    /// [`ClientError::NoDaemon`] when nobody listens.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        UnixStream::connect(path)
            .map(|stream| Self {
                stream,
                buffer: Vec::new(),
            })
            .map_err(|source| ClientError::NoDaemon {
                path: path.into(),
                source,
            })
    }

    /// Introduces itself and learns who the daemon is.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn hello(&mut self) -> Result<Hello, ClientError> {
        let mine = Hello {
            version: VERSION.into(),
            pid: std::process::id(),
            sessions: 0,
        };
        match self.ask(&Ask::Hello(mine))? {
            Answer::Hello(theirs) => Ok(theirs),
            _other => Err(ClientError::Unexpected),
        }
    }

    /// Says one thing and waits for its answer. [`Answer::Failed`] comes back as an error.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn ask(&mut self, ask: &Ask) -> Result<Answer, ClientError> {
        self.say(ask, &[])?;
        self.answer()
    }

    /// As [`Client::ask`], with descriptors beside it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn ask_with(&mut self, ask: &Ask, fds: &[BorrowedFd<'_>]) -> Result<Answer, ClientError> {
        self.say(ask, fds)?;
        self.answer()
    }

    /// Follows the orders of the daemon for a session from here on; this connection is for them
    /// alone.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn follow(mut self, follow: &Ask) -> Result<OrderStream, ClientError> {
        match self.ask(follow)? {
            Answer::Following => Ok(OrderStream::new(self.stream, self.buffer)),
            _other => Err(ClientError::Unexpected),
        }
    }

    fn say(&mut self, ask: &Ask, fds: &[BorrowedFd<'_>]) -> Result<(), ClientError> {
        let frame = frame::encode(ask).map_err(ClientError::Gone)?;
        if fds.is_empty() {
            return self.stream.write_all(&frame).map_err(ClientError::Gone);
        }
        let (first, rest) = frame.split_at(1);
        fdpass::send_with_fds(self.stream.as_fd(), first, fds).map_err(ClientError::Gone)?;
        self.stream.write_all(rest).map_err(ClientError::Gone)
    }

    fn answer(&mut self) -> Result<Answer, ClientError> {
        loop {
            if let Some(answer) = frame::decode(&mut self.buffer).map_err(ClientError::Gone)? {
                return match answer {
                    Answer::Failed { message, help } => Err(ClientError::Failed { message, help }),
                    other => Ok(other),
                };
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Result<(), ClientError> {
        let mut chunk = [0; 16 << 10];
        let n = io::Read::read(&mut self.stream, &mut chunk).map_err(ClientError::Gone)?;
        if n == 0 {
            return Err(ClientError::Gone(io::ErrorKind::UnexpectedEof.into()));
        }
        self.buffer
            .extend_from_slice(chunk.get(..n).unwrap_or_default());
        Ok(())
    }
}

impl AsFd for Client {
    /// For polling: readable without a question of ours means that the daemon is gone.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
