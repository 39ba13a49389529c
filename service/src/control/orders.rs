//! Orders: what the daemon asks of a session's launcher, on a second connection that the launcher
//! opened for it with [`Ask::Follow`](super::Ask::Follow).
//!
//! Each order has a number; the launcher answers each with that number, when it is carried out,
//! and not always in the order asked. Descriptors travel beside the frame that names their count.

use std::{
    collections::VecDeque,
    io::{self, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use cordon_policy::GrantMode;
use cordon_sandbox::{fdpass, limits::Used};
use serde::{Deserialize, Serialize};

use super::{GrantChanges, GrantMade, frame};

/// One thing to do to a running session.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum LaunchOrder {
    /// Say that you are there.
    Ping,
    /// Say what the session uses.
    Sample,
    /// Stop every process of the session.
    Pause,
    /// Let them run again.
    Resume,
    /// Start a further command. Its streams that are no terminal come beside it; its terminal's
    /// other end comes back with [`CarriedResult::Began`], and its end under the same number.
    Exec {
        /// Program and arguments, as bytes.
        arguments: Vec<Vec<u8>>,
        /// Which of its streams are a terminal of the session's own.
        terminal: [bool; 3],
    },
    /// Show one grant more.
    Mount {
        /// As it was decided.
        grant: Box<GrantMade>,
    },
    /// Take a grant away.
    Unmount {
        /// As it was decided.
        grant: Box<GrantMade>,
        /// End the processes that still use it.
        kill: bool,
    },
    /// Change what may be done beneath a grant.
    Remount {
        /// As it was decided for the new mode, with the mode it has now.
        grant: Box<GrantMade>,
        /// The mode it is to have.
        mode: GrantMode,
        /// End the processes that have files open for writing, where it is to be read-only.
        kill: bool,
    },
    /// Say what was done to the files of the grants so far.
    Changes,
    /// End the session: ask its command to, or at once.
    End {
        /// Without asking the command.
        now: bool,
    },
}

/// A process that uses a grant which was taken from it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    /// As the host numbers it.
    pub pid: u32,
    /// What it calls itself.
    pub name: String,
    /// Files and folders that it has open there.
    pub files: u32,
    /// Files that it has mapped from there.
    pub mapped: u32,
    /// It works in there.
    pub directory: bool,
    /// It was ended.
    pub ended: bool,
}

/// An order as it travels.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ordered {
    /// Its number on this connection.
    pub id: u64,
    /// How many descriptors come beside it.
    #[serde(default)]
    pub descriptors: usize,
    /// What to do.
    pub order: LaunchOrder,
}

/// What came of an order.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CarriedResult {
    /// It was carried out.
    Done,
    /// What the session uses.
    Sampled(Used),
    /// The command runs; another answer follows when it has ended.
    Began,
    /// The command ended, with the code that a shell would show.
    Ended {
        /// 128 and the signal's number for one that was killed.
        code: u8,
    },
    /// A grant was changed, and these processes still use it, or were ended for that.
    Used {
        /// Which.
        by: Vec<Holder>,
    },
    /// What was done to the files of the grants so far.
    Changes {
        /// One for each grant in which something changed.
        grants: Vec<GrantChanges>,
    },
    /// It was not.
    Failed {
        /// What and why, in words.
        why: String,
    },
}

/// The answer to an order as it travels.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Carried {
    /// The number of the order.
    pub id: u64,
    /// How many descriptors come beside it.
    #[serde(default)]
    pub descriptors: usize,
    /// What came of it.
    pub result: CarriedResult,
}

/// The launcher's end of the connection that orders come over.
#[derive(Debug)]
pub struct OrderStream {
    stream: UnixStream,
    buffer: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

impl OrderStream {
    /// Takes over a connection on which following was agreed.
    pub(super) fn new(stream: UnixStream, buffer: Vec<u8>) -> Self {
        Self {
            stream,
            buffer,
            descriptors: VecDeque::new(),
        }
    }

    /// Takes what has come, once; call it when the descriptor is readable.
    ///
    /// # Errors
    /// `UnexpectedEof` when the daemon is gone; what recvmsg(2) says.
    pub fn fill(&mut self) -> io::Result<()> {
        let mut chunk = [0; 16 << 10];
        let (n, descriptors) = fdpass::recv_with_fds(&self.stream, &mut chunk)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.descriptors.extend(descriptors);
        if self.descriptors.len() > frame::MAX_DESCRIPTORS {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "too many descriptors",
            ));
        }
        self.buffer
            .extend_from_slice(chunk.get(..n).unwrap_or_default());
        Ok(())
    }

    /// The next whole order with its descriptors, where one is there. Does not wait.
    ///
    /// # Errors
    /// When what came is not an order, or a descriptor is missing.
    pub fn next(&mut self) -> io::Result<Option<(Ordered, Vec<OwnedFd>)>> {
        let Some(ordered) = frame::decode::<Ordered>(&mut self.buffer)? else {
            return Ok(None);
        };
        let descriptors = frame::take(&mut self.descriptors, ordered.descriptors)?;
        Ok(Some((ordered, descriptors)))
    }

    /// Says what came of an order.
    ///
    /// # Errors
    /// When the daemon is gone.
    pub fn carried(
        &mut self,
        id: u64,
        result: CarriedResult,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let carried = Carried {
            id,
            descriptors: descriptors.len(),
            result,
        };
        let frame = frame::encode(&carried)?;
        let (first, rest) = frame.split_at(1);
        fdpass::send_with_fds(self.stream.as_fd(), first, descriptors)?;
        self.stream.write_all(rest)
    }
}

impl AsFd for OrderStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (UnixStream, OrderStream) {
        let (daemon, launcher) = UnixStream::pair().unwrap();
        (daemon, OrderStream::new(launcher, Vec::new()))
    }

    #[test]
    fn an_order_arrives_with_its_descriptors_and_is_answered_by_number() {
        let (mut daemon, mut launcher) = pair();
        let null = std::fs::File::open("/dev/null").unwrap();
        let ordered = Ordered {
            id: 7,
            descriptors: 1,
            order: LaunchOrder::End { now: true },
        };
        let frame = frame::encode(&ordered).unwrap();
        fdpass::send_with_fds(&daemon, &frame[..1], &[null.as_fd()]).unwrap();
        launcher.fill().unwrap();
        assert!(launcher.next().unwrap().is_none(), "half of it is none");
        daemon.write_all(&frame[1..]).unwrap();
        launcher.fill().unwrap();
        let (arrived, descriptors) = launcher.next().unwrap().unwrap();
        assert!(matches!(arrived.order, LaunchOrder::End { now: true }));
        assert_eq!((arrived.id, descriptors.len()), (7, 1));

        launcher.carried(7, CarriedResult::Done, &[]).unwrap();
        // In as many pieces as the socket likes.
        let mut buffer = Vec::new();
        let carried: Carried = loop {
            if let Some(carried) = frame::decode(&mut buffer).unwrap() {
                break carried;
            }
            let mut chunk = [0; 4096];
            let (n, _) = fdpass::recv_with_fds(&daemon, &mut chunk).unwrap();
            assert_ne!(n, 0, "the answer is whole");
            buffer.extend_from_slice(&chunk[..n]);
        };
        assert_eq!(carried.id, 7);
        assert!(matches!(carried.result, CarriedResult::Done));
    }

    #[test]
    fn a_missing_descriptor_and_a_gone_daemon_are_errors() {
        let (mut daemon, mut launcher) = pair();
        let ordered = Ordered {
            id: 1,
            descriptors: 2,
            order: LaunchOrder::Ping,
        };
        daemon.write_all(&frame::encode(&ordered).unwrap()).unwrap();
        launcher.fill().unwrap();
        assert!(launcher.next().is_err());
        drop(daemon);
        assert_eq!(
            launcher.fill().unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
    }
}
