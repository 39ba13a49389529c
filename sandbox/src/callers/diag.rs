//! Which socket is at the other end of a connection: one exact question to the kernel of the
//! session's network namespace (sock_diag(7)).
//!
//! The netlink socket was opened inside and passed out with the listeners. It can only read.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
};

use rustix::net::{RecvFlags, SendFlags, netlink::SocketAddrNetlink, recv, sendto};

use crate::sys::netlink::{Message, answer_of};

/// The inode of the socket that is bound to `from` and connected to `to`. `None` when there is
/// none, or nobody has it open any more.
///
/// # Errors
/// What the kernel says, but that there is none.
pub(super) fn inode(socket: &OwnedFd, from: SocketAddr, to: SocketAddr) -> io::Result<Option<u32>> {
    let request = question(from, to).finish(0)?;
    let kernel = SocketAddrNetlink::new(0, 0);
    sendto(socket, &request, SendFlags::empty(), &kernel)?;
    let mut buffer = [0; 1024];
    // The kernel answers inside our send.
    let (length, _) = recv(socket, &mut buffer, RecvFlags::DONTWAIT)?;
    match answer_of(buffer.get(..length).unwrap_or_default()) {
        Ok(answer) => Ok(found(answer, from, to)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Fixed part, `struct inet_diag_req_v2`: family, protocol, extensions, padding, states (32), then
/// `struct inet_diag_sockid`: both ports (big endian), both addresses (128 each), interface (32),
/// cookie (64).
fn question(from: SocketAddr, to: SocketAddr) -> Message {
    let family = if from.is_ipv4() { AF_INET } else { AF_INET6 };
    let mut fixed = vec![family, IPPROTO_TCP, 0, 0];
    fixed.extend_from_slice(&u32::MAX.to_ne_bytes());
    fixed.extend_from_slice(&ends(from, to));
    fixed.extend_from_slice(&[0; 4]);
    fixed.extend_from_slice(&[0xff; 8]);
    Message::new(SOCK_DIAG_BY_FAMILY, 0, &fixed)
}

fn ends(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(36);
    bytes.extend_from_slice(&from.port().to_be_bytes());
    bytes.extend_from_slice(&to.port().to_be_bytes());
    for address in [from.ip(), to.ip()] {
        match address {
            IpAddr::V4(address) => {
                bytes.extend_from_slice(&address.octets());
                bytes.extend_from_slice(&[0; 12]);
            }
            IpAddr::V6(address) => bytes.extend_from_slice(&address.octets()),
        }
    }
    bytes
}

/// Shape, `struct inet_diag_msg`: family, state, timer, retransmissions, the socket's id as in the
/// question (48), expiry, queues, user, inode (32 each). Where there is no such socket the kernel
/// tells of one that listens on the same port.
fn found(answer: &[u8], from: SocketAddr, to: SocketAddr) -> Option<u32> {
    let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    let listens = answer.get(1) == Some(&TCP_LISTEN);
    if listens || answer.get(4..8)? != ports {
        return None;
    }
    let inode = answer.get(68..72)?.try_into().ok().map(u32::from_ne_bytes);
    inode.filter(|inode| *inode != 0)
}

// From linux/sock_diag.h, linux/socket.h, linux/in.h and net/tcp_states.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const TCP_LISTEN: u8 = 10;

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::unix::fs::MetadataExt as _,
    };

    use super::*;
    use crate::{callers::testing::soon, sys::netlink::open_diagnostics};

    fn inode_of(socket: &impl std::os::fd::AsRawFd) -> u64 {
        let path = format!("/proc/self/fd/{}", socket.as_raw_fd());
        std::fs::metadata(path).unwrap().ino()
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test is both ends")]
    fn the_clients_socket_is_found_and_a_listener_is_not_taken_for_it() {
        let diagnostics = open_diagnostics().unwrap();
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                continue;
            };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (from, to) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
            let found = inode(&diagnostics, from, to).unwrap();
            assert_eq!(found.map(u64::from), Some(inode_of(&client)), "{address}");
            // Nobody is connected from the listener's own port to this one.
            assert_eq!(inode(&diagnostics, to, to).unwrap(), None, "{address}");
            let (accepted, _) = listener.accept().unwrap();
            drop(client);
            soon(|| {
                inode(&diagnostics, from, to)
                    .unwrap()
                    .is_none()
                    .then_some(())
            });
            drop(accepted);
        }
    }
}
