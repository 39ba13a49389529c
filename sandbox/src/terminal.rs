//! The command's standard streams: what each of ours is, and what the session gets for it.
//!
//! | ours | the session's |
//! |---|---|
//! | a terminal | a terminal of the sandbox's own, relayed |
//! | a pipe, a regular file, a character device | the same, as it is |
//! | a socket | a pipe, relayed: no descriptor can be received over it |
//! | anything else | refused |
//!
//! A session that has no terminal among its streams has no controlling terminal either.

mod join;
mod pump;
mod user;

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use rustix::fs::{FileType, OFlags};
use thiserror::Error;

use crate::init::spec::Slot;
pub use join::Join;
pub(crate) use pump::{End, Pump};
pub(crate) use user::UserTerminal;

/// The three standard streams that the command is to have.
#[derive(Debug)]
pub struct Stdio {
    streams: [Stream; 3],
}

/// One stream of ours, by what it is.
#[derive(Debug)]
enum Stream {
    Terminal(OwnedFd),
    Direct(OwnedFd),
    Socket(OwnedFd),
}

/// Why a stream cannot be given to a session.
#[derive(Debug, Error)]
pub enum StdioError {
    /// A directory would be a way out of the grants, a block device a whole file system.
    #[error("session not started: {stream} is {what}, which no session gets")]
    Refused {
        /// Which stream.
        stream: &'static str,
        /// What it is.
        what: &'static str,
    },
    /// It could not be looked at.
    #[error("session not started: {stream} cannot be used")]
    Unusable {
        /// Which stream.
        stream: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
}

impl StdioError {
    /// What to do; shown after `help:`.
    pub fn hint(&self) -> &'static str {
        "redirect it from or to a file or a pipe, for example `</dev/null`"
    }
}

/// The streams after they were split: what goes in, and what the launcher keeps.
#[derive(Debug)]
pub(crate) struct Split {
    /// What each stream inside is, by the numbers of `inside`.
    pub(crate) slots: [Slot; 3],
    /// Descriptors to hand down.
    pub(crate) inside: Vec<OwnedFd>,
    /// The user's terminal, if one of the streams is one.
    pub(crate) terminal: Option<UserTerminal>,
    /// From the session to the world; drained before the run ends.
    pub(crate) outputs: Vec<Pump>,
    /// From the world to the session.
    pub(crate) inputs: Vec<Pump>,
}

impl Stdio {
    /// This process' own streams.
    ///
    /// # Errors
    /// [`StdioError`] names the stream that no session gets.
    pub fn inherit() -> Result<Self, StdioError> {
        Self::from_descriptors([
            rustix::stdio::stdin(),
            rustix::stdio::stdout(),
            rustix::stdio::stderr(),
        ])
    }

    /// Three streams that someone else chose.
    ///
    /// # Errors
    /// [`StdioError`] names the stream that no session gets.
    pub fn from_descriptors(descriptors: [BorrowedFd<'_>; 3]) -> Result<Self, StdioError> {
        let [stdin, stdout, stderr] = descriptors;
        Ok(Self {
            streams: [
                classify("standard input", stdin)?,
                classify("standard output", stdout)?,
                classify("standard error", stderr)?,
            ],
        })
    }

    pub(crate) fn split(self) -> io::Result<Split> {
        let terminal = UserTerminal::among(self.terminals())?;
        let mut split = Split {
            slots: [Slot::Terminal; 3],
            inside: Vec::new(),
            terminal,
            outputs: Vec::new(),
            inputs: Vec::new(),
        };
        let mut slots = Vec::new();
        for (number, stream) in self.streams.into_iter().enumerate() {
            slots.push(split.add(stream, number == 0)?);
        }
        if let [stdin, stdout, stderr] = *slots {
            split.slots = [stdin, stdout, stderr];
        }
        Ok(split)
    }

    fn terminals(&self) -> [Option<BorrowedFd<'_>>; 3] {
        self.streams.each_ref().map(|stream| match stream {
            Stream::Terminal(descriptor) => Some(descriptor.as_fd()),
            Stream::Direct(_) | Stream::Socket(_) => None,
        })
    }
}

impl Split {
    fn add(&mut self, stream: Stream, input: bool) -> io::Result<Slot> {
        let inside = match stream {
            Stream::Terminal(_) => return Ok(Slot::Terminal),
            Stream::Direct(descriptor) => descriptor,
            Stream::Socket(socket) => self.relay(socket, input)?,
        };
        let slot = Slot::Descriptor(inside.as_raw_fd());
        self.inside.push(inside);
        Ok(slot)
    }

    fn relay(&mut self, socket: OwnedFd, input: bool) -> io::Result<OwnedFd> {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        if input {
            set_nonblocking(&writer)?;
            self.inputs
                .push(Pump::new(End::Socket(socket), End::File(writer)));
            Ok(reader)
        } else {
            set_nonblocking(&reader)?;
            self.outputs
                .push(Pump::new(End::File(reader), End::Socket(socket)));
            Ok(writer)
        }
    }
}

/// For a descriptor whose open file is ours alone; others would see the change too.
pub(crate) fn set_nonblocking(descriptor: impl AsFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&descriptor)?;
    Ok(rustix::fs::fcntl_setfl(
        &descriptor,
        flags | OFlags::NONBLOCK,
    )?)
}

fn classify(stream: &'static str, descriptor: BorrowedFd<'_>) -> Result<Stream, StdioError> {
    let unusable = |errno: rustix::io::Errno| StdioError::Unusable {
        stream,
        source: errno.into(),
    };
    let refused = |what| Err(StdioError::Refused { stream, what });
    let flags = rustix::fs::fcntl_getfl(descriptor).map_err(unusable)?;
    if flags.contains(OFlags::PATH) {
        return refused("a descriptor of a path only");
    }
    let mode = rustix::fs::fstat(descriptor).map_err(unusable)?.st_mode;
    // Above the standard numbers, so that setting up the standard ones overwrites none.
    let own = || rustix::io::fcntl_dupfd_cloexec(descriptor, 3).map_err(unusable);
    match FileType::from_raw_mode(mode) {
        FileType::CharacterDevice if rustix::termios::isatty(descriptor) => {
            Ok(Stream::Terminal(own()?))
        }
        FileType::CharacterDevice | FileType::RegularFile | FileType::Fifo => {
            Ok(Stream::Direct(own()?))
        }
        FileType::Socket => Ok(Stream::Socket(own()?)),
        FileType::Directory => refused("a directory"),
        FileType::BlockDevice => refused("a block device"),
        FileType::Symlink | FileType::Unknown => refused("no file, pipe, socket or terminal"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn kind(descriptor: impl AsFd) -> Result<&'static str, String> {
        match classify("standard input", descriptor.as_fd()) {
            Ok(Stream::Terminal(_)) => Ok("terminal"),
            Ok(Stream::Direct(_)) => Ok("direct"),
            Ok(Stream::Socket(_)) => Ok("socket"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn f12_each_stream_is_what_it_is_and_a_directory_is_refused() {
        let open = |path: &str| std::fs::File::open(path).unwrap();
        let (reader, _writer) = std::io::pipe().unwrap();
        let (socket, _peer) = UnixStream::pair().unwrap();
        let pty = rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR).unwrap();
        assert_eq!(kind(reader), Ok("direct"));
        assert_eq!(kind(open("/dev/null")), Ok("direct"));
        assert_eq!(kind(open("/etc/passwd")), Ok("direct"));
        assert_eq!(kind(socket), Ok("socket"));
        assert_eq!(kind(pty), Ok("terminal"));
        assert!(kind(open("/")).unwrap_err().contains("a directory"));
        let path =
            rustix::fs::open("/etc/passwd", OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
        assert!(kind(path).unwrap_err().contains("path only"));
        let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::empty()).unwrap();
        assert!(kind(event).is_err());
    }
}
