//! Turns an allowed destination into addresses that may be dialled.
//!
//! A [`Flow`] in, so nothing is looked up before the allow (N11); [`CheckedAddrs`] out, which is
//! all that [`crate::dial`] takes. Every address is classified, whether it came from DNS, from
//! configuration or was the destination itself (N09).

mod system;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::SystemTime,
};

use cordon_audit::FlowEnd;
use cordon_policy::{
    Asked, DenyReason, Destination, Host, NormalizedHost, Operation, Request,
    address::{AddressClass, classify},
};

pub(crate) use system::Resolver;

use crate::{
    flow::Flow,
    limits,
    refuse::{Refusal, Trouble},
    session::Session,
};

/// Addresses that were classified and may be dialled, with the flow that was permitted.
#[derive(Debug)]
#[must_use = "dial them"]
pub(crate) struct CheckedAddrs {
    flow: Flow,
    addresses: Vec<SocketAddr>,
}

impl CheckedAddrs {
    /// The flow and its addresses; at least one.
    pub(crate) fn into_parts(self) -> (Flow, Vec<SocketAddr>) {
        (self.flow, self.addresses)
    }
}

/// Resolves the flow's destination and keeps what may be dialled.
///
/// # Errors
/// [`Refusal::Gate`] when every address is special-use and not permitted by configuration
/// (recorded), [`Refusal::Unreachable`] when the name does not resolve.
pub(crate) async fn resolve(
    flow: Flow,
    destination: &Destination,
) -> Result<CheckedAddrs, Refusal> {
    let found = match &destination.host {
        Host::Address(address) => Ok(vec![*address]),
        Host::Name(name) => look_up(flow.session(), name).await,
    };
    let found = match found {
        Ok(found) => found,
        Err(error) => return Err(unresolved(flow, destination, &error.to_string())),
    };
    check(flow, destination, &found).await
}

async fn look_up(session: &Session, name: &NormalizedHost) -> io::Result<Vec<IpAddr>> {
    if let Some(addresses) = session.egress().config().override_for(name) {
        return Ok(addresses.to_vec());
    }
    session.egress().resolver().look_up(name).await
}

async fn check(
    flow: Flow,
    destination: &Destination,
    found: &[IpAddr],
) -> Result<CheckedAddrs, Refusal> {
    let port = destination.port.get();
    let mut refused = None;
    let mut addresses = Vec::with_capacity(found.len().min(limits::ADDRESSES_PER_DESTINATION));
    for address in found {
        let address = address.to_canonical();
        if !may_dial(
            flow.session(),
            &destination.host,
            SocketAddr::new(address, port),
        ) {
            refused.get_or_insert(address);
        } else if addresses.len() < limits::ADDRESSES_PER_DESTINATION {
            addresses.push(SocketAddr::new(address, port));
        }
    }
    match (addresses.is_empty(), refused) {
        // One special-use answer among public ones is left out; alone it is a refusal.
        (false, _) => Ok(CheckedAddrs { flow, addresses }),
        (true, Some(address)) => Err(refuse_address(flow, destination.clone(), address).await),
        (true, None) => Err(unresolved(flow, destination, "it has no address")),
    }
}

/// Whether an address of `host` may be dialled: globally reachable, or named by an admin for
/// exactly this host; never one of the daemon's own listeners.
fn may_dial(session: &Session, host: &Host, address: SocketAddr) -> bool {
    if session.egress().is_own(address) {
        return false;
    }
    if classify(address.ip()) == AddressClass::Global {
        return true;
    }
    let network = &session.egress().config().network;
    if network.permit_addresses.is_empty() {
        return false;
    }
    let groups = match host {
        Host::Name(name) => session.gate().host_groups(name),
        Host::Address(_) => Vec::new(),
    };
    network.permits(host, &groups, address.ip())
}

async fn refuse_address(flow: Flow, destination: Destination, address: IpAddr) -> Refusal {
    let asked = Asked::Request(Request {
        session: Arc::clone(flow.session().gate().session()),
        operation: Operation::ReachAddress {
            destination,
            address,
        },
        at: SystemTime::now(),
    });
    flow.refuse(DenyReason::AddressNotPermitted, asked).await
}

fn unresolved(flow: Flow, destination: &Destination, why: &str) -> Refusal {
    let decision = flow.decision();
    flow.close(FlowEnd::ResolveFailed);
    Refusal::Unreachable {
        decision,
        trouble: Trouble::NotResolved,
        problem: format!("`{}` does not resolve: {why}", destination.host),
    }
}
