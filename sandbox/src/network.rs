//! The session's network: a namespace with nothing in it but loopback, in which every way out
//! leads to a listener of ours.
//!
//! [`enter`] runs in a forked child and yields [`Listeners`], which the child passes out, with the
//! namespaces that the sandbox then enters. It knows addresses and ports, never policy.

mod ahead;
mod error;
mod listeners;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::net::UnixStream;

pub(crate) use ahead::{Ahead, Built};
pub use error::NetworkError;
pub(crate) use error::forbidden_to_everybody;
pub use listeners::Listeners;

use crate::sys::child::Child;
use crate::sys::netlink::{
    Netlink, default_route_v4, default_route_v6, loopback_address, loopback_up,
};
use crate::sys::{nft, userns};

/// Where the session's HTTP proxy listens.
pub const HTTP: SocketAddr = local(3128);
/// Where the session's SOCKS5 proxy listens.
pub const SOCKS: SocketAddr = local(1080);
/// Where captured IPv4 connections arrive.
pub const CAPTURE_V4: SocketAddr = local(3129);
/// Where captured IPv6 connections arrive.
pub const CAPTURE_V6: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::LOCALHOST), 3129);
/// Where the session's name queries arrive, whatever server they were sent to.
pub const DNS: SocketAddr = local(53);

/// The session's own address beside loopback, from the documentation range that no host has.
///
/// Resolvers ask for addresses of a family only when an interface has one that is not loopback
/// (getaddrinfo(3), `AI_ADDRCONFIG`). Traffic to it stays inside, like loopback's.
pub const OWN_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// Moves this process into a user and network namespace of its own and builds the network there.
///
/// Afterwards every TCP connection that is not to the session itself reaches a capture listener
/// (the destination it meant is its `SO_ORIGINAL_DST`), every IPv4 name query reaches the DNS
/// socket, and everything else fails at once. The process keeps its user and group, and holds
/// every capability over the new namespaces until it executes another program.
///
/// Call it in a forked child with one thread. It does not start a new session (setsid(2)).
///
/// # Errors
/// The step that failed; its [`NetworkError::hint`] says how to get what is missing. The process
/// is then of no further use, since it may be half way in.
pub fn enter() -> Result<Listeners, NetworkError> {
    let own = userns::Identity::current();
    userns::unshare_user_and_net().map_err(NetworkError::namespaces)?;
    userns::map_identity(own).map_err(|(file, error)| NetworkError::identity(file, error))?;
    build()
}

/// Builds the network of a session in the network namespace that this process is in, over which it
/// holds every capability.
///
/// # Errors
/// As [`enter`].
pub(crate) fn build() -> Result<Listeners, NetworkError> {
    let mut route = Netlink::open(None).map_err(NetworkError::RouteSocket)?;
    // The first step that needs a capability: refused where the host takes them away.
    route
        .request(vec![loopback_up()])
        .map_err(NetworkError::loopback)?;
    let address = vec![loopback_address(OWN_ADDRESS)];
    route.request(address).map_err(NetworkError::Address)?;

    let listeners = Listeners::open()?;
    nft::load(nft::Capture {
        own: OWN_ADDRESS,
        port_v4: CAPTURE_V4.port(),
        port_v6: listeners.capture_v6.as_ref().map(|_| CAPTURE_V6.port()),
    })
    .map_err(NetworkError::Rules)?;

    // Last: before the rules stand, no destination is reachable at all.
    route
        .request(vec![default_route_v4()])
        .map_err(NetworkError::Route)?;
    if listeners.capture_v6.is_some() {
        route
            .request(vec![default_route_v6()])
            .map_err(NetworkError::Route)?;
    }
    Ok(listeners)
}

/// Checks that this host can build a session's network, by building one and throwing it away.
///
/// Takes a few milliseconds and forks; call it while the process has one thread. [`enter`] finds
/// the same faults, so a launch need not check first.
///
/// # Errors
/// The step that failed, as [`enter`] would tell it.
pub fn check() -> Result<(), NetworkError> {
    let (ours, theirs) = UnixStream::pair().map_err(NetworkError::Trial)?;
    let child = Child::fork(|| match enter() {
        Ok(listeners) => u8::from(listeners.send(&theirs).is_err()),
        Err(error) => u8::from(error.send(&theirs).is_err()),
    })
    .map_err(NetworkError::Trial)?;
    drop(theirs);
    let received = Listeners::receive(&ours);
    child.wait().map_err(NetworkError::Trial)?;
    received.map(drop).map_err(|error| match error.downcast() {
        Ok(told) => told,
        Err(error) => NetworkError::Trial(error),
    })
}

/// A socket error of a listener, with its address.
fn listen_error(address: SocketAddr) -> impl Fn(rustix::io::Errno) -> NetworkError {
    move |errno| NetworkError::Listen {
        address,
        source: io::Error::from(errno),
    }
}
