//! The channel between the launcher and the sandbox's first process: one packet, one message.
//!
//! A `SOCK_SEQPACKET` pair, inherited, known to no one else. The kernel stamps each packet with
//! the sender's process id as the launcher sees it.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sockopt,
    },
    process::Pid,
};

/// From the first process to the launcher.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Report {
    /// The walls stand; nothing runs yet. Carries the terminal's other end if one was asked for.
    Ready,
    /// The command is about to start and its removals must be supervised. Carries the listener.
    Guard,
    /// The command ended with this code.
    Exited(i32),
    /// The command was ended by this signal.
    Signaled(i32),
    /// The command was stopped by this signal.
    Stopped(i32),
    /// It cannot start, and why.
    Failed(String),
}

/// From the launcher to the first process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Order {
    /// Start the command, in the terminal's foreground or behind it.
    Go {
        /// Whether it may read the terminal.
        foreground: bool,
    },
    /// Send this signal to the command, or to all of its process group.
    Signal {
        /// Its number.
        number: i32,
        /// To the whole group, as a terminal does.
        group: bool,
    },
    /// Move the command to the foreground or behind it, and wake it if it is stopped.
    Continue {
        /// Whether it may read the terminal.
        foreground: bool,
        /// Whether it was stopped.
        wake: bool,
    },
}

/// One end of the channel.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

/// A report as it arrived.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) report: Report,
    pub(crate) descriptor: Option<OwnedFd>,
    pub(crate) sender: Option<Pid>,
}

impl Channel {
    /// Makes both ends: the launcher's, and the one to hand down. Both close on exec.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        sockopt::set_socket_passcred(&ours, true)?;
        Ok((Self(ours), Self(theirs)))
    }

    /// The end that was handed down.
    pub(crate) fn from_inherited(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    /// The bare descriptor, for handing down.
    pub(crate) fn into_descriptor(self) -> OwnedFd {
        self.0
    }

    pub(crate) fn report(
        &self,
        report: &Report,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let bytes = report.encode();
        let held: Vec<BorrowedFd<'_>> = descriptor.into_iter().collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !held.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&held)) {
            return Err(io::Error::other("no room for a descriptor"));
        }
        rustix::net::sendmsg(
            &self.0,
            &[IoSlice::new(&bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        )?;
        Ok(())
    }

    pub(crate) fn order(&self, order: Order) -> io::Result<()> {
        rustix::net::send(&self.0, &order.encode(), SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The next report; `None` when the other side is gone. Waits for one.
    pub(crate) fn next_report(&self) -> io::Result<Option<Arrived>> {
        let mut bytes = [0; LONGEST];
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1), ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = loop {
            let got = rustix::net::recvmsg(
                &self.0,
                &mut [IoSliceMut::new(&mut bytes)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            );
            match got {
                // Reset: it ended with orders unread. The kernel says so once, before what the
                // other side still sent.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                other => break other?,
            }
        };
        if got.bytes == 0 {
            return Ok(None);
        }
        let (mut descriptor, mut sender) = (None, None);
        for message in control.drain() {
            match message {
                RecvAncillaryMessage::ScmRights(mut held) => descriptor = held.next(),
                RecvAncillaryMessage::ScmCredentials(who) => sender = Some(who.pid),
                _ => {}
            }
        }
        let report = bytes
            .get(..got.bytes)
            .and_then(Report::decode)
            .ok_or_else(|| io::Error::other("a report of the first process cannot be read"))?;
        Ok(Some(Arrived {
            report,
            descriptor,
            sender,
        }))
    }

    /// The next order; `None` when the launcher is gone. Waits for one.
    pub(crate) fn next_order(&self) -> io::Result<Option<Order>> {
        let mut bytes = [0; LONGEST];
        let received = rustix::io::retry_on_intr(|| {
            rustix::net::recv(&self.0, &mut bytes, RecvFlags::empty())
        });
        let got = match received {
            // It ended with reports unread.
            Ok((0, _)) | Err(Errno::CONNRESET) => return Ok(None),
            Ok((got, _)) => got,
            Err(error) => return Err(error.into()),
        };
        let order = bytes.get(..got).and_then(Order::decode);
        order
            .map(Some)
            .ok_or_else(|| io::Error::other("an order of the launcher cannot be read"))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Report {
    fn encode(&self) -> Vec<u8> {
        let (tag, rest) = match self {
            Self::Ready => (b'r', vec![]),
            Self::Guard => (b'g', vec![]),
            Self::Exited(code) => (b'e', code.to_le_bytes().to_vec()),
            Self::Signaled(number) => (b'k', number.to_le_bytes().to_vec()),
            Self::Stopped(number) => (b's', number.to_le_bytes().to_vec()),
            Self::Failed(why) => (b'f', why.bytes().take(LONGEST - 1).collect()),
        };
        [vec![tag], rest].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (tag, rest) = bytes.split_first()?;
        let number = || Some(i32::from_le_bytes(rest.try_into().ok()?));
        Some(match tag {
            b'r' => Self::Ready,
            b'g' => Self::Guard,
            b'e' => Self::Exited(number()?),
            b'k' => Self::Signaled(number()?),
            b's' => Self::Stopped(number()?),
            b'f' => Self::Failed(String::from_utf8_lossy(rest).into_owned()),
            _ => return None,
        })
    }
}

impl Order {
    fn encode(self) -> Vec<u8> {
        match self {
            Self::Go { foreground } => vec![b'g', u8::from(foreground)],
            Self::Signal { number, group } => {
                [vec![b's', u8::from(group)], number.to_le_bytes().to_vec()].concat()
            }
            Self::Continue { foreground, wake } => vec![b'c', u8::from(foreground), u8::from(wake)],
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        Some(match bytes {
            [b'g', foreground] => Self::Go {
                foreground: *foreground == 1,
            },
            [b's', group, number @ ..] => Self::Signal {
                number: i32::from_le_bytes(number.try_into().ok()?),
                group: *group == 1,
            },
            [b'c', foreground, wake] => Self::Continue {
                foreground: *foreground == 1,
                wake: *wake == 1,
            },
            _ => return None,
        })
    }
}

/// The longest message, in bytes. A longer reason of a failure is cut.
const LONGEST: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_arrives_as_it_was_sent() {
        let (ours, theirs) = Channel::pair().unwrap();
        for report in [
            Report::Ready,
            Report::Guard,
            Report::Exited(255),
            Report::Signaled(9),
            Report::Stopped(20),
            Report::Failed("no".into()),
        ] {
            theirs.report(&report, None).unwrap();
            let arrived = ours.next_report().unwrap().unwrap();
            assert_eq!(arrived.report, report);
            assert_eq!(
                arrived.sender,
                Some(rustix::process::getpid()),
                "{report:?}"
            );
            assert!(arrived.descriptor.is_none());
        }
        for order in [
            Order::Go { foreground: true },
            Order::Signal {
                number: 15,
                group: false,
            },
            Order::Continue {
                foreground: false,
                wake: true,
            },
        ] {
            ours.order(order).unwrap();
            assert_eq!(theirs.next_order().unwrap(), Some(order));
        }
    }

    #[test]
    fn a_descriptor_travels_with_its_report() {
        let (ours, theirs) = Channel::pair().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        theirs.report(&Report::Guard, Some(null.as_fd())).unwrap();
        assert!(ours.next_report().unwrap().unwrap().descriptor.is_some());
    }

    #[test]
    fn a_closed_channel_and_a_wrong_message_are_told_apart() {
        let (ours, theirs) = Channel::pair().unwrap();
        rustix::net::send(&theirs.0, b"?", SendFlags::empty()).unwrap();
        assert!(ours.next_report().is_err());
        rustix::net::send(&ours.0, b"s", SendFlags::empty()).unwrap();
        assert!(theirs.next_order().is_err());
        drop(theirs);
        assert!(ours.next_report().unwrap().is_none());
    }

    #[test]
    fn a_long_reason_is_cut_to_fit() {
        let (ours, theirs) = Channel::pair().unwrap();
        theirs
            .report(&Report::Failed("x".repeat(9000)), None)
            .unwrap();
        let Report::Failed(why) = ours.next_report().unwrap().unwrap().report else {
            panic!("another report");
        };
        assert_eq!(why.len(), LONGEST - 1);
    }
}
