//! A session's network that is built ahead, while the launcher still asks and plans: it depends on
//! neither.
//!
//! The session's user in; the listeners and the two namespaces out. A forked child builds them,
//! passes them out and ends; until somebody enters them nothing runs there.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream,
    },
};

use super::{Listeners, NetworkError, enter};
use crate::{
    owners::Owners,
    sys::{
        child::Child,
        fdpass::{recv_with_fds, send_with_fds},
    },
};

/// A network that is being built.
#[derive(Debug)]
pub(crate) struct Ahead {
    socket: UnixStream,
    child: Child,
}

/// A network that stands.
#[derive(Debug)]
pub(crate) struct Built {
    /// For the proxy.
    pub(crate) listeners: Listeners,
    /// The user namespace, and the network namespace that it owns.
    pub(crate) namespaces: [OwnedFd; 2],
    /// Ended, or about to.
    pub(crate) builder: Child,
}

impl Ahead {
    /// Forks the child that builds it: as this process' user, or, started by root, as the
    /// session's.
    ///
    /// # Errors
    /// What socketpair(2) and fork(2) say. Whatever else is wrong is told by [`Ahead::finish`].
    pub(crate) fn begin(owners: Option<&Owners>) -> io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        let child = Child::fork(|| match build(owners, &theirs) {
            Ok(()) => 0,
            Err(_the_launcher_sees_the_end) => 1,
        })?;
        Ok(Self { socket, child })
    }

    /// Waits for it.
    ///
    /// # Errors
    /// As [`Listeners::receive`].
    pub(crate) fn finish(self) -> io::Result<Built> {
        let listeners = Listeners::receive(&self.socket)?;
        let (_byte, namespaces) = recv_with_fds(&self.socket, &mut [0])?;
        let namespaces = namespaces
            .try_into()
            .map_err(|_other| io::Error::new(io::ErrorKind::InvalidData, "not two namespaces"))?;
        Ok(Built {
            listeners,
            namespaces,
            builder: self.child,
        })
    }
}

fn build(owners: Option<&Owners>, launcher: &UnixStream) -> io::Result<()> {
    if let Some(owners) = owners {
        owners.become_process()?;
    }
    match enter() {
        Ok(listeners) => {
            listeners.send(launcher)?;
            let user = File::open("/proc/self/ns/user")?;
            let network = File::open("/proc/self/ns/net")?;
            send_with_fds(launcher, NAMESPACES, &[user.as_fd(), network.as_fd()])
        }
        Err(error) => NetworkError::send(&error, launcher),
    }
}

/// The message that carries the namespaces; the listeners come before it.
const NAMESPACES: &[u8] = b"N";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::userns;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test is both ends")]
    fn who_enters_finds_the_listeners_there_and_no_other_way_out() {
        let built = Ahead::begin(None).unwrap().finish().unwrap();
        let outside = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = outside.local_addr().unwrap();
        let child = Child::fork(|| {
            let entered = userns::enter(&built.namespaces).is_ok();
            let connects = |address| std::net::TcpStream::connect(address).is_ok();
            u8::from(entered && connects(super::super::HTTP)) * 2 + u8::from(connects(address))
        });
        // Loopback inside is the session's own: the outside's listener is not there.
        assert_eq!(child.unwrap().wait().unwrap().exit_status(), Some(2));
        assert!(std::net::TcpStream::connect(address).is_ok(), "the control");
    }
}
