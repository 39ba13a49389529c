//! Turns an allowed destination into a route that may be dialled.
//!
//! A [`Flow`] in, so nothing is looked up before the allow (N11); a [`CheckedRoute`] out, which is
//! all that [`crate::dial`] takes. Every address is classified, whether it came from DNS, from
//! configuration or was the destination itself (N09). Where a parent proxy resolves, that is a
//! fact for policy and needs a permit that accepts it (N10).

mod system;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Instant, SystemTime},
};

use cordon_audit::FlowEnd;
use cordon_policy::{
    Asked, DenyReason, Destination, Host, LateFact, NormalizedHost, Operation, Request, Seen,
    address::{AddressClass, classify},
};
use cordon_session::config::ParentResolve;

use tracing::Instrument;

pub(crate) use system::{Found, Resolver};

use crate::{
    flow::Flow,
    limits, metrics,
    parent::Parent,
    refuse::{Refusal, Trouble},
    session::Session,
};

/// A route that was checked and may be dialled, with the flow that was permitted.
#[derive(Debug)]
#[must_use = "dial it"]
pub(crate) struct CheckedRoute {
    flow: Flow,
    route: Route,
}

/// How a destination is reached.
#[derive(Debug)]
pub(crate) enum Route {
    /// By one of these classified addresses; at least one.
    Direct(Vec<SocketAddr>),
    /// Through a parent, to one of these classified addresses; at least one.
    Through(Arc<Parent>, Vec<SocketAddr>),
    /// Through a parent that resolves the name itself.
    Unverified(Arc<Parent>, NormalizedHost, u16),
}

impl CheckedRoute {
    /// The flow and its route.
    pub(crate) fn into_parts(self) -> (Flow, Route) {
        (self.flow, self.route)
    }
}

/// Resolves the flow's destination and keeps what may be dialled.
///
/// # Errors
/// [`Refusal::Gate`] when a limit is used up, when every address is special-use and not permitted
/// by configuration, or when policy refuses what the name leads to (all recorded);
/// [`Refusal::Unreachable`] when the name does not resolve.
pub(crate) async fn resolve(
    flow: Flow,
    destination: &Destination,
) -> Result<CheckedRoute, Refusal> {
    let span =
        tracing::debug_span!(parent: flow.span(), "resolve", cordon.decision = %flow.decision());
    route(flow, destination).instrument(span).await
}

async fn route(flow: Flow, destination: &Destination) -> Result<CheckedRoute, Refusal> {
    let flow = flow.within_limits().await?;
    let parent = flow.session().egress().parent_for(destination);
    if let (Some(parent), Host::Name(name)) = (&parent, &destination.host)
        && parent.resolves() == ParentResolve::Parent
    {
        let route = Route::Unverified(Arc::clone(parent), name.clone(), destination.port.get());
        let flow = Box::pin(accept_unverified(flow)).await?;
        return Ok(CheckedRoute { flow, route });
    }
    let found = match &destination.host {
        Host::Address(address) => Ok(Found {
            addresses: vec![*address],
            names: Vec::new(),
        }),
        Host::Name(name) => look_up(flow.session(), name).await,
    };
    let found = match found {
        Ok(found) => found,
        Err(error) => return Err(unresolved(flow, destination, &error.to_string())),
    };
    let flow = if found.names.is_empty() {
        flow
    } else {
        let names = found.names;
        Box::pin(flow.review(LateFact::Names, |seen| seen.names = names)).await?
    };
    let (flow, addresses) = check(flow, destination, &found.addresses).await?;
    let route = match parent {
        None => Route::Direct(addresses),
        Some(parent) => Route::Through(parent, addresses),
    };
    Ok(CheckedRoute { flow, route })
}

async fn look_up(session: &Session, name: &NormalizedHost) -> io::Result<Found> {
    let resolved = &metrics::PROXY.resolved;
    if let Some(addresses) = session.egress().config().override_for(name) {
        resolved.overridden.inc();
        return Ok(Found {
            addresses: addresses.to_vec(),
            names: Vec::new(),
        });
    }
    let since = Instant::now();
    let deadline = session.limits().resolve;
    // Boxed, as all here that is large and not always needed.
    let found = Box::pin(session.egress().resolver().look_up(name, deadline)).await;
    let waited = since.elapsed().as_secs_f64();
    metrics::PROXY.resolve.observe(waited);
    match &found {
        Ok(_) => resolved.answered.inc(),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => resolved.no_name.inc(),
            io::ErrorKind::TimedOut => resolved.timed_out.inc(),
            _ => resolved.failed.inc(),
        },
    }
    found
}

/// Whether nothing has to be asked again for a further request on a connection: its limits leave
/// room, and there is nothing that resolving showed.
pub(crate) fn is_as_before(flow: &Flow) -> bool {
    let shows = |route: &Seen| route.address_unverified || !route.names.is_empty();
    flow.excess().is_none() && !flow.route().is_some_and(shows)
}

/// What resolving made sure of for a connection, once more for a further request on it.
///
/// # Errors
/// The recorded refusal.
pub(crate) async fn again(flow: Flow) -> Result<Flow, Refusal> {
    let flow = flow.within_limits().await?;
    let Some(route) = flow.route().cloned() else {
        return Ok(flow);
    };
    if route.address_unverified {
        return Box::pin(accept_unverified(flow)).await;
    }
    let names = route.names;
    flow.review(LateFact::Names, |seen| seen.names = names)
        .await
}

/// Goes on without an address of its own only where a permit that determines the decision with
/// this fact accepts it (`@address("unverified")`), and no rule that looks at it refuses (N10).
async fn accept_unverified(mut flow: Flow) -> Result<Flow, Refusal> {
    flow.note(|seen| seen.address_unverified = true);
    let (flow, basis) = flow.reviewed().await?;
    if basis.asks("address", "unverified") {
        return Ok(flow);
    }
    let detail = "a parent proxy resolves this name, so its address is not checked, and no \
                  determining permit accepts that with `@address(\"unverified\")`";
    let reason = DenyReason::AddressNotPermitted;
    Err(flow.refuse_saying(reason, detail.into()).await)
}

async fn check(
    flow: Flow,
    destination: &Destination,
    found: &[IpAddr],
) -> Result<(Flow, Vec<SocketAddr>), Refusal> {
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
        (false, _) => Ok((flow, addresses)),
        (true, Some(address)) => {
            Err(Box::pin(refuse_address(flow, destination.clone(), address)).await)
        }
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
