//! A port of a session, reached from outside: each connection is decided and recorded, then carried
//! to what listens inside.
//!
//! Bytes are counted as everywhere, seen from the session: out is what it answers.

use std::{
    fmt::Debug,
    io,
    net::{IpAddr, TcpStream as StdStream},
    os::fd::OwnedFd,
    sync::Arc,
};

use cordon_audit::FlowEnd;
use cordon_policy::Operation;
use cordon_session::Durability;
use tokio::{net::TcpStream, task::spawn_blocking};

use crate::{flow::Flow, relay, session::Session};

/// Makes sockets that are connected to a port of the session's loopback. May take a while.
pub trait Dial: Debug + Send + Sync {
    /// # Errors
    /// What connect(2) says inside, or that the session is over.
    fn connect(&self, port: u16) -> io::Result<OwnedFd>;
}

/// What is reached where.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Published {
    /// The address on the host.
    pub address: IpAddr,
    /// The port there.
    pub port: u16,
    /// The port inside.
    pub inside: u16,
}

impl Published {
    /// What it is to policy.
    pub fn operation(&self) -> Operation {
        Operation::PublishPort {
            address: self.address,
            port: self.port,
            inside: self.inside,
        }
    }
}

/// Serves one connection to its end. Whoever connects is told nothing: a refusal closes.
pub(crate) async fn serve(
    session: Arc<Session>,
    outside: TcpStream,
    published: Published,
    dial: Arc<dyn Dial>,
) {
    // Recorded whichever way it goes.
    let Ok(permit) = session
        .gate()
        .admit(published.operation(), Durability::Synced)
        .await
    else {
        return;
    };
    let mut flow = Flow::open_inwards(Arc::clone(&session), permit);
    if let Ok(peer) = outside.peer_addr() {
        flow.connected(peer);
    }
    let Ok(flow) = flow.within_limits().await else {
        return;
    };
    let connected = spawn_blocking(move || dial.connect(published.inside)).await;
    match connected.map_err(io::Error::other).and_then(from_inside) {
        // Seen from the session, what is outside is the other end.
        Ok(inside) => {
            let buffers = session.egress().buffers();
            relay::unchecked(inside, outside, buffers, flow).await;
        }
        Err(_nobody_listens) => flow.close(FlowEnd::ConnectFailed),
    }
}

fn from_inside(connected: io::Result<OwnedFd>) -> io::Result<TcpStream> {
    let stream = StdStream::from(connected?);
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    TcpStream::from_std(stream)
}
