//! The launcher's half: synchronous, because the launcher forks and must be single-threaded.
//!
//! What the daemon is asked may take long, so no answer has a deadline of its own. While one is
//! waited for, a second connection greets the daemon now and then: one that does not greet back is
//! stopped or stuck, and is not waited for any longer.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, Write},
    net::Shutdown,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use cordon_sandbox::fdpass;
use rustix::net::{
    AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, recv,
    sockopt::{Timeout, set_socket_timeout},
};
use thiserror::Error;

use super::{Answer, Ask, Hello, OrderStream, VERSION, frame};

/// One connection to the daemon.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: UnixStream,
    /// Given up on: what still comes belongs to a question that nobody waits for any more.
    silent: bool,
    buffer: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
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
    /// It runs and does not answer: it is stopped, or stuck.
    #[error("the daemon does not answer")]
    Silent,
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
    /// [`ClientError::NoDaemon`] when nobody listens, [`ClientError::Silent`] when nobody takes the
    /// connection.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = connected(path).map_err(|source| match source.kind() {
            ErrorKind::WouldBlock => ClientError::Silent,
            _nobody => ClientError::NoDaemon {
                path: path.into(),
                source,
            },
        })?;
        Ok(Self {
            path: path.into(),
            stream,
            silent: false,
            buffer: Vec::new(),
            descriptors: VecDeque::new(),
        })
    }

    /// Introduces itself and learns who the daemon is. What greets does nothing else first, so this
    /// is not waited for long.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn hello(&mut self) -> Result<Hello, ClientError> {
        self.say(&greeting(), &[])?;
        match self.answer_while(|_path| Err(ClientError::Silent))? {
            Answer::Hello(theirs) => Ok(theirs),
            _other => Err(ClientError::Unexpected),
        }
    }

    /// Waits until a daemon that said it would leave has left: it closes the connection then.
    ///
    /// # Errors
    /// [`ClientError::Silent`] when it is stuck meanwhile.
    pub fn wait_until_gone(mut self) -> Result<(), ClientError> {
        loop {
            match self.answer() {
                Err(ClientError::Gone(_)) => return Ok(()),
                Err(ClientError::Silent) => return Err(ClientError::Silent),
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// Says one thing and waits for its answer. [`Answer::Failed`] comes back as an error.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn ask(&mut self, ask: &Ask) -> Result<Answer, ClientError> {
        self.tell(ask)?;
        self.answer()
    }

    /// Says one thing; [`Client::answer`] is to be called for what it comes to.
    ///
    /// # Errors
    /// [`ClientError::Gone`].
    pub fn tell(&mut self, ask: &Ask) -> Result<(), ClientError> {
        self.say(ask, &[])
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
            Answer::Following => {
                // Orders come when there are some, and their answers go when they are taken.
                let stream = &self.stream;
                stream
                    .set_read_timeout(None)
                    .and_then(|()| stream.set_write_timeout(None))
                    .map_err(ClientError::Gone)?;
                Ok(OrderStream::new(self.stream, self.buffer))
            }
            _other => Err(ClientError::Unexpected),
        }
    }

    /// The oldest descriptor that came beside an answer and was not taken yet.
    pub fn take_descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptors.pop_front()
    }

    fn say(&mut self, ask: &Ask, fds: &[BorrowedFd<'_>]) -> Result<(), ClientError> {
        if self.silent {
            return Err(ClientError::Silent);
        }
        let frame = frame::encode(ask).map_err(ClientError::Gone)?;
        let said = if fds.is_empty() {
            self.stream.write_all(&frame)
        } else {
            let (first, rest) = frame.split_at(1);
            fdpass::send_with_fds(self.stream.as_fd(), first, fds)
                .and_then(|()| self.stream.write_all(rest))
        };
        said.map_err(|error| self.broken(error))
    }

    /// The next answer, where more than one follows a question.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn answer(&mut self) -> Result<Answer, ClientError> {
        let mut unheard = 0;
        self.answer_while(|path| match Self::connect(path) {
            Ok(mut other) => {
                unheard = 0;
                other.hello().map(drop)
            }
            // One that leaves listens no more, and still answers what it was asked.
            Err(ClientError::NoDaemon { .. }) if unheard < LEAVING => {
                unheard += 1;
                Ok(())
            }
            Err(_nobody) => Err(ClientError::Silent),
        })
    }

    /// The next answer; whenever none has come for [`PATIENCE`], `alive` says whether to wait on.
    fn answer_while(
        &mut self,
        mut alive: impl FnMut(&Path) -> Result<(), ClientError>,
    ) -> Result<Answer, ClientError> {
        if self.silent {
            return Err(ClientError::Silent);
        }
        loop {
            if let Some(answer) = frame::decode(&mut self.buffer).map_err(ClientError::Gone)? {
                return match answer {
                    Answer::Failed { message, help } => Err(ClientError::Failed { message, help }),
                    other => Ok(other),
                };
            }
            match self.fill() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if let Err(error) = alive(&self.path) {
                        self.hang_up();
                        return Err(error);
                    }
                }
                filled => filled.map_err(|error| self.broken(error))?,
            }
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut chunk = [0; 16 << 10];
        let (n, descriptors) = fdpass::recv_with_fds(&self.stream, &mut chunk)?;
        self.descriptors.extend(descriptors);
        if self.descriptors.len() > frame::MAX_DESCRIPTORS {
            return Err(io::Error::other("too many descriptors"));
        }
        if n == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.buffer
            .extend_from_slice(chunk.get(..n).unwrap_or_default());
        Ok(())
    }

    /// Whoever watches the connection learns that it is over: a session of which nothing would be
    /// recorded any more ends. Nothing that came late stays to be read.
    fn hang_up(&mut self) {
        self.silent = true;
        let _over = self.stream.shutdown(Shutdown::Both);
        let mut late = [0; 16 << 10];
        while recv(&self.stream, &mut late, RecvFlags::DONTWAIT).is_ok_and(|(read, _)| read > 0) {}
    }

    fn broken(&mut self, error: io::Error) -> ClientError {
        // A question of which half is said has no answer.
        self.hang_up();
        if error.kind() == ErrorKind::WouldBlock {
            ClientError::Silent
        } else {
            ClientError::Gone(error)
        }
    }
}

fn greeting() -> Ask {
    Ask::Hello(Hello {
        version: VERSION.into(),
        pid: std::process::id(),
        sessions: 0,
    })
}

/// A connection, on which nothing waits longer than [`PATIENCE`]: neither its own making, where a
/// daemon takes no more, nor a step of reading or writing.
fn connected(path: &Path) -> io::Result<UnixStream> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    for direction in [Timeout::Send, Timeout::Recv] {
        set_socket_timeout(&socket, direction, Some(PATIENCE))?;
    }
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket.into())
}

/// How long nothing may come before somebody looks whether the daemon still answers.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 6 });

/// How often nobody may listen, in a row, while an answer of one that leaves is waited for.
const LEAVING: u32 = 20;

impl AsFd for Client {
    /// For polling: readable without a question of ours means that the daemon is gone.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, thread};

    use super::*;

    fn heard(stream: &UnixStream) -> Ask {
        let mut buffer = Vec::new();
        loop {
            if let Some(ask) = frame::decode(&mut buffer).unwrap() {
                return ask;
            }
            let mut chunk = [0; 4096];
            let (n, _descriptors) = fdpass::recv_with_fds(stream, &mut chunk).unwrap();
            buffer.extend_from_slice(&chunk[..n]);
        }
    }

    fn tell(mut stream: &UnixStream, answer: &Answer) {
        stream.write_all(&frame::encode(answer).unwrap()).unwrap();
    }

    #[test]
    fn p02_what_takes_long_is_waited_for_while_the_daemon_greets_and_no_longer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let mut client = Client::connect(&path).unwrap();
        let (ours, _) = listener.accept().unwrap();
        let asked = thread::spawn(move || {
            let first = client.ask(&Ask::Publish);
            (client, first)
        });
        for _greeting in 0..2 {
            let (other, _) = listener.accept().unwrap();
            let Ask::Hello(theirs) = heard(&other) else {
                panic!("it greets");
            };
            tell(&other, &Answer::Hello(theirs));
        }
        tell(&ours, &Answer::Noted);
        let (mut client, first) = asked.join().unwrap();
        assert!(matches!(first, Ok(Answer::Noted)), "{first:?}");
        // Connections are still taken, by the kernel, and nobody greets.
        let second = client.ask(&Ask::Publish);
        assert!(matches!(second, Err(ClientError::Silent)), "{second:?}");
        // Whoever watches the connection knows that nothing would be recorded any more.
        let told = (&ours).write_all(&frame::encode(&Answer::Noted).unwrap());
        assert_eq!(told.unwrap_err().kind(), ErrorKind::BrokenPipe);
        let mut byte = [0; 1];
        let watched = recv(
            client.as_fd(),
            &mut byte,
            RecvFlags::PEEK | RecvFlags::DONTWAIT,
        );
        assert_eq!(watched.unwrap().0, 0, "it has ended");
        let third = client.ask(&Ask::Publish);
        assert!(
            matches!(third, Err(ClientError::Silent)),
            "a late answer is of another question: {third:?}"
        );
        let greeted = Client::connect(&path).unwrap().hello();
        assert!(matches!(greeted, Err(ClientError::Silent)), "{greeted:?}");
        // Until it takes no more connections either, and is still no daemon that is not there.
        rustix::net::listen(&listener, 0).unwrap();
        let full = (0..3).find_map(|_| Client::connect(&path).err());
        assert!(matches!(full, Some(ClientError::Silent)), "{full:?}");
    }

    #[test]
    fn one_that_leaves_answers_what_it_was_asked_and_is_gone_when_it_closes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let mut client = Client::connect(&path).unwrap();
        let (ours, _) = listener.accept().unwrap();
        drop(listener);
        let asked = thread::spawn(move || {
            let answer = client.ask(&Ask::Publish);
            (answer, client.wait_until_gone())
        });
        assert!(matches!(heard(&ours), Ask::Publish));
        // Meanwhile nobody listens.
        let before = Client::connect(&path);
        assert!(
            matches!(before, Err(ClientError::NoDaemon { .. })),
            "{before:?}"
        );
        tell(&ours, &Answer::Noted);
        drop(ours);
        let (answer, gone) = asked.join().unwrap();
        assert!(matches!(answer, Ok(Answer::Noted)), "{answer:?}");
        assert!(gone.is_ok(), "{gone:?}");
    }
}
