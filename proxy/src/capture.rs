//! Connections of programs that know no proxy: captured inside the session, decided by the name
//! behind their original destination.
//!
//! The decision comes first; only a refused client is listened to, to tell it the reason in its
//! own protocol.

mod sniff;

use std::{io, net::SocketAddr, sync::Arc};

use cordon_policy::{Destination, Host, TargetError, Transport};
use tokio::net::TcpStream;

use crate::{
    dns::SyntheticNames,
    flow::Flow,
    process::MadeBy,
    refuse::{Fault, Refusal},
    relay::relay,
    session::Session,
    status, tunnel,
};

const DOOR: &str = "capture";

/// Where a captured connection was meant to go.
pub(crate) type OriginalDestination = fn(&TcpStream) -> io::Result<SocketAddr>;

/// Asks the kernel's connection tracking.
///
/// # Errors
/// `ENOENT` when the connection was not redirected (`getsockopt` SO_ORIGINAL_DST).
pub(crate) fn from_kernel(stream: &TcpStream) -> io::Result<SocketAddr> {
    let destination: SocketAddr = match stream.local_addr()? {
        SocketAddr::V4(_) => rustix::net::sockopt::ip_original_dst(stream)?.into(),
        SocketAddr::V6(_) => rustix::net::sockopt::ipv6_original_dst(stream)?.into(),
    };
    Ok(destination)
}

/// Serves one captured connection to its end.
pub(crate) async fn serve(session: Arc<Session>, stream: TcpStream, original: OriginalDestination) {
    // Boxed, as a tunnel at rest needs none of the rest.
    match Box::pin(open(&session, &stream, original)).await {
        Ok(Opened::Flow(upstream, flow)) => {
            let buffers = session.egress().buffers();
            relay(stream, upstream, Vec::new(), buffers, flow).await;
        }
        Ok(Opened::Own) => Box::pin(status::serve(session, Vec::new(), stream)).await,
        Err(refusal) => Box::pin(sniff::refuse(&session, stream, &refusal)).await,
    }
}

/// Where a captured connection leads.
enum Opened {
    Flow(TcpStream, Flow),
    /// To the proxy's own page.
    Own,
}

async fn open(
    session: &Arc<Session>,
    stream: &TcpStream,
    original: OriginalDestination,
) -> Result<Opened, Refusal> {
    let address = match original(stream) {
        // Connecting to the listener itself is asking for nothing.
        Ok(address) if stream.local_addr().is_ok_and(|own| own == address) => {
            return Err(fault(
                session,
                address,
                "this listener is for captured connections",
            )
            .await);
        }
        Ok(address) => address,
        Err(error) => {
            let problem = format!("the original destination is not known: {error}");
            return Err(tunnel::fault(session, DOOR, &[], Fault::Malformed, problem).await);
        }
    };
    match destination(session, address) {
        // The proxy itself: nothing is opened, so nothing is decided.
        Ok(destination) if status::is_reserved(&destination) => Ok(Opened::Own),
        Ok(destination) => {
            let made_by = MadeBy::of(session, stream, Some(address));
            let opened = tunnel::open(session, destination, Transport::Capture, &made_by).await;
            opened.map(|(upstream, flow)| Opened::Flow(upstream, flow))
        }
        Err(error) => Err(fault(session, address, &error.to_string()).await),
    }
}

/// The name behind a synthetic address; any other address stands for itself.
fn destination(session: &Session, address: SocketAddr) -> Result<Destination, Unnamed> {
    let literal = Destination::from_address(address.ip(), address.port())?;
    if !SyntheticNames::covers(address.ip()) {
        return Ok(literal);
    }
    let name = session
        .names()
        .name_of(address.ip())
        .ok_or(Unnamed::NeverAsked)?;
    Ok(Destination {
        host: Host::Name(name),
        port: literal.port,
    })
}

async fn fault(session: &Session, address: SocketAddr, problem: &str) -> Refusal {
    let raw = address.to_string();
    tunnel::fault(
        session,
        DOOR,
        raw.as_bytes(),
        Fault::Malformed,
        problem.into(),
    )
    .await
}

/// Why an original destination is none.
#[derive(Debug, thiserror::Error)]
enum Unnamed {
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("no name of this session has this synthetic address; look the name up again")]
    NeverAsked,
}

#[cfg(test)]
mod tests;
