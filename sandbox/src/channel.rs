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

use crate::limits::Used;

/// From the first process to the launcher.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Report {
    /// It is there, in a container that is still to be furnished.
    Here,
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
    /// It is there, and what the session uses.
    Pong(Used),
    /// What the session uses, as the order of this number asked.
    Sampled(u64, Used),
    /// The session is above this limit; the first process ends it now.
    Over(String),
    /// No process of the session but the first one runs any more, by the order of this number.
    Paused(u64),
    /// They run again.
    Resumed(u64),
    /// A further command runs, by this number. Carries its terminal's other end if it has one.
    Began(u64),
    /// A further command ended with this code.
    Finished(u64, i32),
    /// A further command was ended by this signal.
    Killed(u64, i32),
    /// The order of this number cannot be carried out, and why.
    Refused(u64, String),
}

/// From the launcher to the first process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Order {
    /// The container is furnished: its network, its files and what is granted are there.
    Furnished,
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
    /// Say that you are there.
    Ping,
    /// Stop every process of the session but the first one.
    Pause(u64),
    /// Let them run again.
    Resume(u64),
    /// Count what the session uses.
    Sample(u64),
    /// Start a further command, by this number. Carries what it is, and its streams.
    Exec(u64),
}

/// The most descriptors beside one order: what the command is, and its streams.
pub(crate) const MAX_ORDER_DESCRIPTORS: usize = 4;

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
        self.order_with(order, &[])
    }

    pub(crate) fn order_with(&self, order: Order, held: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_ORDER_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !held.is_empty() && !control.push(SendAncillaryMessage::ScmRights(held)) {
            return Err(io::Error::other("no room for the descriptors"));
        }
        rustix::net::sendmsg(
            &self.0,
            &[IoSlice::new(&order.encode())],
            &mut control,
            SendFlags::NOSIGNAL,
        )?;
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

    /// The next order with its descriptors; `None` when the launcher is gone. Waits for one.
    pub(crate) fn next_order(&self) -> io::Result<Option<(Order, Vec<OwnedFd>)>> {
        let mut bytes = [0; LONGEST];
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_ORDER_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::io::retry_on_intr(|| {
            rustix::net::recvmsg(
                &self.0,
                &mut [IoSliceMut::new(&mut bytes)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            )
        });
        let got = match received {
            // It ended with reports unread.
            Err(Errno::CONNRESET) => return Ok(None),
            Ok(got) if got.bytes == 0 => return Ok(None),
            Ok(got) => got.bytes,
            Err(error) => return Err(error.into()),
        };
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(held) = message {
                descriptors.extend(held);
            }
        }
        let order = bytes.get(..got).and_then(Order::decode);
        order
            .map(|order| Some((order, descriptors)))
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
            Self::Here => (b'h', vec![]),
            Self::Ready => (b'r', vec![]),
            Self::Guard => (b'g', vec![]),
            Self::Exited(code) => (b'e', code.to_le_bytes().to_vec()),
            Self::Signaled(number) => (b'k', number.to_le_bytes().to_vec()),
            Self::Stopped(number) => (b's', number.to_le_bytes().to_vec()),
            Self::Failed(why) => (b'f', why.bytes().take(LONGEST - 1).collect()),
            Self::Pong(used) => (b'o', used.encode()),
            Self::Sampled(order, used) => (b'a', numbered(*order, &used.encode())),
            Self::Over(what) => (b'v', what.bytes().take(LONGEST - 1).collect()),
            Self::Paused(order) => (b'p', order.to_le_bytes().to_vec()),
            Self::Resumed(order) => (b'u', order.to_le_bytes().to_vec()),
            Self::Began(order) => (b'b', order.to_le_bytes().to_vec()),
            Self::Finished(order, code) => (b'F', numbered(*order, &code.to_le_bytes())),
            Self::Killed(order, number) => (b'K', numbered(*order, &number.to_le_bytes())),
            Self::Refused(order, why) => {
                let why: Vec<u8> = why.bytes().take(LONGEST - 9).collect();
                (b'x', numbered(*order, &why))
            }
        };
        [vec![tag], rest].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (tag, rest) = bytes.split_first()?;
        let number = || Some(i32::from_le_bytes(rest.try_into().ok()?));
        Some(match tag {
            b'h' => Self::Here,
            b'r' => Self::Ready,
            b'g' => Self::Guard,
            b'e' => Self::Exited(number()?),
            b'k' => Self::Signaled(number()?),
            b's' => Self::Stopped(number()?),
            b'f' => Self::Failed(String::from_utf8_lossy(rest).into_owned()),
            b'o' => Self::Pong(Used::decode(rest)?),
            b'a' => {
                let (order, used) = rest.split_at_checked(8)?;
                Self::Sampled(whole(order)?, Used::decode(used)?)
            }
            b'v' => Self::Over(String::from_utf8_lossy(rest).into_owned()),
            b'p' => Self::Paused(whole(rest)?),
            b'u' => Self::Resumed(whole(rest)?),
            b'b' => Self::Began(whole(rest)?),
            b'F' | b'K' => {
                let (order, rest) = rest.split_at_checked(8)?;
                let (order, number) = (whole(order)?, i32::from_le_bytes(rest.try_into().ok()?));
                match tag {
                    b'F' => Self::Finished(order, number),
                    _ => Self::Killed(order, number),
                }
            }
            b'x' => {
                let (order, why) = rest.split_at_checked(8)?;
                Self::Refused(whole(order)?, String::from_utf8_lossy(why).into_owned())
            }
            _ => return None,
        })
    }
}

fn numbered(order: u64, rest: &[u8]) -> Vec<u8> {
    [&order.to_le_bytes(), rest].concat()
}

fn whole(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_le_bytes)
}

impl Order {
    fn encode(self) -> Vec<u8> {
        match self {
            Self::Go { foreground } => vec![b'g', u8::from(foreground)],
            Self::Signal { number, group } => {
                [vec![b's', u8::from(group)], number.to_le_bytes().to_vec()].concat()
            }
            Self::Continue { foreground, wake } => vec![b'c', u8::from(foreground), u8::from(wake)],
            Self::Furnished => vec![b'f'],
            Self::Ping => vec![b'o'],
            Self::Pause(order) => [vec![b'p'], order.to_le_bytes().to_vec()].concat(),
            Self::Resume(order) => [vec![b'u'], order.to_le_bytes().to_vec()].concat(),
            Self::Sample(order) => [vec![b'a'], order.to_le_bytes().to_vec()].concat(),
            Self::Exec(order) => [vec![b'x'], order.to_le_bytes().to_vec()].concat(),
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
            [b'f'] => Self::Furnished,
            [b'o'] => Self::Ping,
            [b'p', order @ ..] => Self::Pause(whole(order)?),
            [b'u', order @ ..] => Self::Resume(whole(order)?),
            [b'a', order @ ..] => Self::Sample(whole(order)?),
            [b'x', order @ ..] => Self::Exec(whole(order)?),
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
            Report::Here,
            Report::Ready,
            Report::Guard,
            Report::Exited(255),
            Report::Signaled(9),
            Report::Stopped(20),
            Report::Failed("no".into()),
            Report::Pong(Used::default()),
            Report::Sampled(9, Used::default()),
            Report::Over("memory".into()),
            Report::Paused(1),
            Report::Resumed(u64::MAX),
            Report::Began(3),
            Report::Finished(4, -1),
            Report::Killed(5, 9),
            Report::Refused(6, "no".into()),
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
            Order::Furnished,
            Order::Ping,
            Order::Pause(1),
            Order::Resume(2),
            Order::Exec(u64::MAX),
            Order::Sample(8),
        ] {
            ours.order(order).unwrap();
            assert_eq!(theirs.next_order().unwrap().unwrap().0, order);
        }
    }

    #[test]
    fn a_descriptor_travels_with_its_report() {
        let (ours, theirs) = Channel::pair().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        theirs.report(&Report::Guard, Some(null.as_fd())).unwrap();
        assert!(ours.next_report().unwrap().unwrap().descriptor.is_some());
        let four = [null.as_fd(); MAX_ORDER_DESCRIPTORS];
        ours.order_with(Order::Exec(1), &four).unwrap();
        assert_eq!(theirs.next_order().unwrap().unwrap().1.len(), 4);
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
