//! Opens a connection whose content is not looked into: decide and record, resolve, dial.
//!
//! CONNECT, SOCKS5 and capture all come through here, so they cannot be judged apart (N13).

use std::{net::SocketAddr, num::NonZeroU16, sync::Arc};

use cordon_policy::{Destination, Host, Operation, Port, TargetError, Transport};
use cordon_session::Durability;
use tokio::net::TcpStream;

use crate::{
    dial::dial,
    flow::Flow,
    refuse::{Fault, Refusal},
    resolve::resolve,
    session::Session,
};

/// Opens a connection to `destination`, or says why not. Every outcome is recorded when this
/// resolves.
pub(crate) async fn open(
    session: &Arc<Session>,
    destination: Destination,
    transport: Transport,
) -> Result<(TcpStream, Flow), Refusal> {
    let operation = Operation::Connect {
        destination: destination.clone(),
        transport,
    };
    let permit = session.gate().admit(operation, Durability::Synced).await?;
    let checked = resolve(session, permit, &destination).await?;
    dial(session, checked).await
}

/// Records that something came in which is no request that may be asked. `problem` says what is
/// wrong and what to do.
pub(crate) async fn fault(
    session: &Session,
    door: &'static str,
    raw: &[u8],
    fault: Fault,
    problem: String,
) -> Refusal {
    Refusal::Fault(fault, session.gate().refuse_raw(door, raw, problem).await)
}

/// An address as a destination.
///
/// # Errors
/// [`TargetError::BadPort`] for port 0.
pub(crate) fn literal(address: SocketAddr) -> Result<Destination, TargetError> {
    let port = NonZeroU16::new(address.port()).ok_or_else(|| TargetError::BadPort {
        text: address.port().to_string(),
    })?;
    Ok(Destination {
        host: Host::Address(address.ip().to_canonical()),
        port: Port(port),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n05_n08_a_literal_is_one_address_and_has_a_port() {
        let mapped: SocketAddr = "[::ffff:169.254.169.254]:80".parse().unwrap();
        let plain: SocketAddr = "169.254.169.254:80".parse().unwrap();
        assert_eq!(literal(mapped), literal(plain));
        assert!(literal("192.0.2.1:0".parse().unwrap()).is_err());
        assert!(literal("192.0.2.1:1".parse().unwrap()).is_ok());
    }
}
