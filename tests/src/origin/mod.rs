//! Origins on loopback that count what reaches them.

pub mod dns;
pub mod git;
pub mod http;
pub mod parent;
pub mod program;
pub mod raw;
pub mod ssh;
mod tls;

pub use http::Origin;
pub use tls::Authority;

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use rustix::net::{Shutdown, shutdown};

/// A listener whose connections are served by a thread each; it ends with its owner.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Listens on a free port of `address` and serves every connection.
    pub(crate) fn start(address: &str, serve: impl Fn(TcpStream) + Clone + Send + 'static) -> Self {
        let socket = TcpListener::bind(address).expect("loopback has free ports");
        let address = socket.local_addr().expect("it is bound");
        let accepting = socket.try_clone().expect("descriptors are left");
        thread::spawn(move || {
            while let Ok((stream, _peer)) = accepting.accept() {
                let serve = serve.clone();
                thread::spawn(move || serve(stream));
            }
        });
        Self { socket, address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listener {
    /// A listener that is shut down wakes its accept with an error.
    fn drop(&mut self) {
        let _ = shutdown(&self.socket, Shutdown::Both);
    }
}
