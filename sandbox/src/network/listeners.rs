//! The sockets through which a session reaches the outside, and their way out of it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink;
use rustix::net::sockopt::{set_ipv6_v6only, socket_acceptconn, socket_domain, socket_protocol};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with};

use super::error::MAX_TOLD_BYTES;
use super::{CAPTURE_V4, CAPTURE_V6, DNS, HTTP, NetworkError, SOCKS, listen_error};
use crate::sys::fdpass::{recv_with_fds, send_with_fds};
use crate::sys::netlink::open_diagnostics;

/// The listeners inside one session's network namespace; which of them a connection came through
/// tells whose it is.
///
/// A program inside can also connect to a capture listener directly; the original destination of
/// such a connection is the listener itself, which must be refused as a destination.
#[derive(Debug)]
pub struct Listeners {
    /// TCP on [`HTTP`].
    pub http: OwnedFd,
    /// TCP on [`SOCKS`].
    pub socks: OwnedFd,
    /// TCP on [`CAPTURE_V4`].
    pub capture_v4: OwnedFd,
    /// TCP on [`CAPTURE_V6`]; none where the host has no IPv6.
    pub capture_v6: Option<OwnedFd>,
    /// UDP on [`DNS`]. An answer sent from it appears to come from the server that was asked.
    pub dns: OwnedFd,
    /// Tells what sockets there are inside; none where the kernel does not.
    pub diagnostics: Option<OwnedFd>,
}

impl Listeners {
    /// Opens all of them in the current network namespace.
    pub(super) fn open() -> Result<Self, NetworkError> {
        Ok(Self {
            http: listen_tcp(HTTP).map_err(listen_error(HTTP))?,
            socks: listen_tcp(SOCKS).map_err(listen_error(SOCKS))?,
            capture_v4: listen_tcp(CAPTURE_V4).map_err(listen_error(CAPTURE_V4))?,
            capture_v6: listen_v6().map_err(listen_error(CAPTURE_V6))?,
            dns: bound(DNS, SocketType::DGRAM).map_err(listen_error(DNS))?,
            // Without it, the programs behind connections are not known, and policy sees none.
            diagnostics: open_diagnostics().ok(),
        })
    }

    /// Sends copies over a unix socket. Shape: the byte `L`, with the descriptors in the order
    /// of [`Listeners::into_fds`].
    ///
    /// # Errors
    /// What sendmsg(2) says.
    pub fn send(&self, over: impl AsFd) -> io::Result<()> {
        let mut fds: Vec<BorrowedFd<'_>> = vec![
            self.http.as_fd(),
            self.socks.as_fd(),
            self.capture_v4.as_fd(),
            self.dns.as_fd(),
        ];
        fds.extend(self.capture_v6.as_ref().map(AsFd::as_fd));
        fds.extend(self.diagnostics.as_ref().map(AsFd::as_fd));
        send_with_fds(over, &[LISTENERS], &fds)
    }

    /// Receives what [`Listeners::send`] or [`NetworkError::send`] sent.
    ///
    /// # Errors
    /// A [`NetworkError`] inside the error when the child sent one (get it by
    /// `error.downcast::<NetworkError>()`); `UnexpectedEof` when the child ended without a word;
    /// `InvalidData` for anything that is not the listeners.
    pub fn receive(over: impl AsFd) -> io::Result<Self> {
        let mut buffer = [0; MAX_TOLD_BYTES];
        let (length, fds) = recv_with_fds(over, &mut buffer)?;
        match buffer.get(..length).unwrap_or_default() {
            [] => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the sandbox's network ended before it was ready",
            )),
            [LISTENERS] => Self::from_fds(fds),
            message => Err(NetworkError::told(message).map_or_else(
                || io::Error::new(io::ErrorKind::InvalidData, "not the listeners"),
                io::Error::other,
            )),
        }
    }

    /// The descriptors in a fixed order: HTTP, SOCKS, capture IPv4, DNS, and, of what there is,
    /// capture IPv6 and diagnostics.
    #[must_use]
    pub fn into_fds(self) -> Vec<OwnedFd> {
        let mut fds = vec![self.http, self.socks, self.capture_v4, self.dns];
        fds.extend(self.capture_v6);
        fds.extend(self.diagnostics);
        fds
    }

    /// Takes the descriptors in the order of [`Listeners::into_fds`].
    ///
    /// # Errors
    /// `InvalidData` when their number is wrong, or one is not the socket that its place says.
    pub fn from_fds(fds: Vec<OwnedFd>) -> io::Result<Self> {
        let mut fds = fds.into_iter();
        let mut next = |address| {
            let fd = fds.next().ok_or_else(|| wrong(address))?;
            check_socket(fd, address)
        };
        let (http, socks, capture_v4, dns) =
            (next(HTTP)?, next(SOCKS)?, next(CAPTURE_V4)?, next(DNS)?);
        let mut rest = fds.peekable();
        let is_other = |fd: &OwnedFd| socket_domain(fd) != Ok(AddressFamily::NETLINK);
        let capture_v6 = rest.next_if(is_other);
        let capture_v6 = capture_v6.map(|fd| check_socket(fd, CAPTURE_V6));
        let diagnostics = rest.next();
        let tells = |fd: &OwnedFd| socket_protocol(fd) == Ok(Some(netlink::SOCK_DIAG));
        if rest.next().is_some() || !diagnostics.as_ref().is_none_or(tells) {
            return Err(wrong(CAPTURE_V6));
        }
        Ok(Self {
            http,
            socks,
            capture_v4,
            capture_v6: capture_v6.transpose()?,
            dns,
            diagnostics,
        })
    }
}

/// First byte of the message that carries the listeners.
const LISTENERS: u8 = b'L';

/// Connections that may wait to be accepted; the kernel's own default for its upper bound.
const BACKLOG: i32 = 4096;

/// A descriptor in the wrong place would hand one protocol's bytes to another's parser.
fn check_socket(fd: OwnedFd, address: SocketAddr) -> io::Result<OwnedFd> {
    let bound_to = SocketAddr::try_from(getsockname(&fd)?);
    let as_listener = address != DNS;
    if bound_to == Ok(address) && socket_acceptconn(&fd)? == as_listener {
        Ok(fd)
    } else {
        Err(wrong(address))
    }
}

fn wrong(address: SocketAddr) -> io::Error {
    let text = format!("the socket for {address} is missing, not the last, or another one");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// None where the namespace has no IPv6.
fn listen_v6() -> Result<Option<OwnedFd>, Errno> {
    match listen_tcp(CAPTURE_V6) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn listen_tcp(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let fd = bound(address, SocketType::STREAM)?;
    listen(&fd, BACKLOG)?;
    Ok(fd)
}

/// Without `SO_REUSEADDR` or `SO_REUSEPORT`: nothing inside can bind the same port beside ours.
fn bound(address: SocketAddr, kind: SocketType) -> Result<OwnedFd, Errno> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let fd = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    if address.is_ipv6() {
        set_ipv6_v6only(&fd, true)?;
    }
    bind(&fd, &address)?;
    Ok(fd)
}
