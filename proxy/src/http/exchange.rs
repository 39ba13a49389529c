//! One request in absolute form: decided, sent on over a kept or a new upstream connection, and
//! the head of its response brought back.

use std::sync::Arc;

use cordon_audit::FlowEnd;
use cordon_session::Durability;
use hyper::{Request, Response, StatusCode, body::Incoming};

use super::{
    Connection,
    body::{Body, FlowBody},
    fields, malformed,
    normalize::{self, Asked},
    upstream::{self, Upstream},
};
use crate::{dial::dial, flow::Flow, limits, refuse::Refusal, resolve::resolve};

/// Decides one request and carries it out.
///
/// # Errors
/// Why it was refused, or what kept it from its origin; every outcome is recorded.
pub(super) async fn forward(
    connection: &Connection,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let session = &connection.session;
    let asked = match normalize::forward_target(&request) {
        Ok(asked) => asked,
        Err(problem) => return Err(malformed(session, &request, problem).await),
    };
    let upstreams = &connection.upstreams;
    if upstreams.keeps(&asked.destination) {
        // A further request to the same destination: its record need not be synced to go on.
        let permit = session
            .gate()
            .admit(asked.operation(), Durability::Written)
            .await?;
        if let Some(kept) = upstreams.take(&asked.destination).await {
            let flow = kept.flow(session, permit);
            return exchange(connection, kept, flow, asked, request).await;
        }
        // It closed meanwhile and nothing was sent: that flow ends here, and opening another is
        // asked for as such.
        drop(Flow::open(Arc::clone(session), permit));
    }
    let permit = session
        .gate()
        .admit(asked.operation(), Durability::Synced)
        .await?;
    let flow = Flow::open(Arc::clone(session), permit);
    let (stream, flow) = dial(resolve(flow, &asked.destination).await?).await?;
    let upstream = upstreams
        .open(asked.destination.clone(), stream, &flow)
        .await
        .map_err(|error| upstream::broken(flow.decision(), &error))?;
    exchange(connection, upstream, flow, asked, request).await
}

/// Sends one request and brings the head of its response.
async fn exchange(
    connection: &Connection,
    mut upstream: Upstream,
    mut flow: Flow,
    asked: Asked,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let decision = flow.decision();
    let request = fields::outbound(request, &asked);
    let sent = tokio::select! {
        biased;
        sent = tokio::time::timeout(limits::RESPONSE_DEADLINE, upstream.send(request)) => sent,
        deny = flow.revoked() => return Err(flow.end_revoked(deny).await),
    };
    let response = match sent {
        Ok(Ok(response)) if response.status() != StatusCode::SWITCHING_PROTOCOLS => response,
        Ok(Ok(_switching)) => return Err(upstream::switched(decision)),
        Ok(Err(error)) => return Err(upstream::broken(decision, &error)),
        Err(_elapsed) => {
            flow.close(FlowEnd::TimedOut);
            return Err(upstream::silent(decision));
        }
    };
    flow.answered(response.status().as_u16());
    connection.upstreams.keep(upstream);
    let response = fields::inbound(response);
    Ok(response.map(|body| Body::from(FlowBody::new(body, flow))))
}
