//! Connections from outside to what listens inside a session, on its loopback.
//!
//! A socket belongs to the network it was made in. So a child of the launcher goes into the
//! session's network, makes connected sockets there when it is asked to, and passes them out. It
//! runs no program, keeps one descriptor, and ends when the other end of its socket is closed.
//! Who may connect is not decided here.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt::socket_error},
    process::{Pid, Signal},
    thread::{LinkNameSpaceType, move_into_link_name_space, set_capabilities},
};

use crate::{
    owners::{NO_CAPABILITIES, Owners},
    sys::{
        child::Child,
        fdpass::{recv_with_fds, send_with_fds},
        mount::owner_of,
        process::close_all_but,
    },
};

/// The child in the session's network. It ends when this is dropped.
#[derive(Debug)]
pub struct Dialler {
    _child: Child,
}

/// Asks for connections. Whoever holds it can reach every port of the session's loopback.
#[derive(Debug)]
pub struct Line(UnixStream);

impl Dialler {
    /// Into the network of the session whose first process is `first`, as its user where root
    /// started it. The socket is for a [`Line`].
    ///
    /// # Errors
    /// When the session is gone or another user's, or nothing can be forked.
    pub fn start(first: Pid, owners: Option<&Owners>) -> io::Result<(Self, OwnedFd)> {
        let path = format!("/proc/{}/ns/net", first.as_raw_nonzero());
        let network = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let owner = owner_of(network.as_fd())?;
        let (ours, theirs) = UnixStream::pair()?;
        let parent = rustix::process::getpid();
        let child = Child::fork(|| {
            let there = enter(&owner, &network, owners, parent);
            u8::from(there.and_then(|()| serve(&theirs)).is_err())
        })?;
        Ok((Self { _child: child }, ours.into()))
    }
}

impl Line {
    /// Over the socket of a [`Dialler`].
    ///
    /// # Errors
    /// When it cannot be given a deadline.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        let socket = UnixStream::from(socket);
        // It answers at once, or after its own deadline.
        socket.set_read_timeout(Some(DEADLINE + DEADLINE))?;
        Ok(Self(socket))
    }

    /// A socket that is connected to this port of the session's loopback. One at a time.
    ///
    /// # Errors
    /// What connect(2) said inside; `UnexpectedEof` when the session is over.
    pub fn connect(&mut self, port: u16) -> io::Result<OwnedFd> {
        use io::Write as _;
        self.0.write_all(&port.to_be_bytes())?;
        let mut answer = [0; 4];
        let (length, descriptors) = recv_with_fds(&self.0, &mut answer)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match descriptors.into_iter().next() {
            Some(connected) => Ok(connected),
            None => Err(io::Error::from_raw_os_error(i32::from_be_bytes(answer))),
        }
    }
}

/// The child goes where the session is, with none of its launcher's rights.
fn enter(
    owner: &OwnedFd,
    network: &OwnedFd,
    owners: Option<&Owners>,
    parent: Pid,
) -> io::Result<()> {
    if let Some(owners) = owners {
        owners.become_user()?;
    }
    move_into_link_name_space(owner.as_fd(), Some(LinkNameSpaceType::User))?;
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
    rustix::thread::set_no_new_privs(true)?;
    set_capabilities(None, NO_CAPABILITIES)?;
    // Last: the kernel forgets it whenever a process changes its user or gains capabilities.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if rustix::process::getppid() != Some(parent) {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(())
}

/// The child: until the other end is closed.
fn serve(line: &UnixStream) -> io::Result<()> {
    // The launcher's end, its log and its terminal are not for this process.
    close_all_but(line.as_fd())?;
    loop {
        let mut port = [0; 2];
        // A question is two bytes, sent at once.
        let (length, _none) = recv_with_fds(line, &mut port)?;
        if length != port.len() {
            return Ok(());
        }
        match connected(u16::from_be_bytes(port)) {
            Ok(socket) => send_with_fds(line, &[0; 4], &[socket.as_fd()])?,
            Err(errno) => send_with_fds(line, &errno.raw_os_error().to_be_bytes(), &[])?,
        }
    }
}

/// What listens on IPv4, else on IPv6.
fn connected(port: u16) -> Result<OwnedFd, Errno> {
    let over = |address: SocketAddr| {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        match connect(&socket, &address) {
            Ok(()) => return Ok(socket),
            Err(Errno::INPROGRESS) => {}
            Err(errno) => return Err(errno),
        }
        let mut sources = [PollFd::new(&socket, PollFlags::OUT)];
        if poll(&mut sources, Timespec::try_from(DEADLINE).ok().as_ref())? == 0 {
            return Err(Errno::TIMEDOUT);
        }
        socket_error(&socket)?.map(|()| socket)
    };
    over((Ipv4Addr::LOCALHOST, port).into())
        .or_else(|first| over((Ipv6Addr::LOCALHOST, port).into()).map_err(|_second| first))
}

/// How long something inside may take to accept: its backlog is full for longer than that.
const DEADLINE: Duration = Duration::from_secs(5);
