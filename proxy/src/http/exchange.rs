//! One request on its way: decided, sent on over a kept or a new upstream connection, and the head
//! of its response brought back. Plain or inside TLS that is inspected, it is the same way (N13).
//!
//! What a request takes along is boxed, and so is what most further requests do not need: a future
//! of hyper's is moved about for each request, and one of seven kilobytes was a sixth of its cost.

use std::sync::Arc;

use cordon_audit::FlowEnd;
use cordon_policy::Scheme;
use cordon_session::Durability;
use hyper::{
    Request, Response, StatusCode, Version, body::Incoming, http::request::Parts, upgrade,
};

use super::{
    Connection,
    body::{Body, FlowBody, Sent, Stop},
    fields, malformed,
    masked::Masked,
    normalize::{self, Asked},
    upgraded,
    upstream::{self, Upstream, Upstreams},
    wire::Wire,
};
use crate::{
    credentials::{self, Applied, Checked, Echo, Late},
    dial::dial,
    flow::{Flow, Meter},
    refuse::Refusal,
    resolve::{self, resolve},
    session::Session,
};

/// Decides one plain request and carries it out.
///
/// # Errors
/// Why it was refused, or what kept it from its origin; every outcome is recorded.
pub(super) async fn forward(
    connection: &Connection,
    mut request: Box<Request<Incoming>>,
) -> Result<Response<Body>, Refusal> {
    let session = &connection.session;
    match normalize::forward_target(&mut request).map(Box::new) {
        Ok(mut asked) => {
            asked.facts.seen.process = match connection.made_by.known_by_now() {
                Some(known) => known,
                None => Box::pin(connection.made_by.known()).await,
            };
            carry(session, &connection.upstreams, asked, request).await
        }
        Err(problem) => Err(Box::pin(malformed(session, &request, problem)).await),
    }
}

/// Decides one request in its one spelling and carries it out.
///
/// # Errors
/// As [`forward`].
pub(crate) async fn carry(
    session: &Arc<Session>,
    upstreams: &Upstreams,
    mut asked: Box<Asked>,
    request: Box<Request<Incoming>>,
) -> Result<Response<Body>, Refusal> {
    // A placeholder is not the client's own.
    asked.facts.credential = credentials::client_has_own(session, request.headers());
    if upstreams.keeps(&asked.destination) {
        // A further request to the same destination: its record need not be synced to go on.
        let permit = session
            .gate()
            .admit(asked.operation(), Durability::Written)
            .await?;
        if let Some(kept) = upstreams.take(&asked.destination).await {
            let mut flow = kept.flow(session, permit, asked.scheme());
            if !resolve::is_as_before(&flow) {
                flow = Box::pin(resolve::again(flow)).await?;
            }
            return exchange(upstreams, kept, flow, asked, request).await;
        }
        // It closed meanwhile and nothing was sent: that flow ends here, and opening another is
        // asked for as such.
        drop(Flow::open(Arc::clone(session), permit));
    }
    // Boxed, so that further requests, which are most, do not carry the memory of an opening along.
    let opened = Box::pin(open(session, upstreams, &asked, request.version())).await;
    let (upstream, flow) = opened?;
    Box::pin(exchange(upstreams, upstream, flow, asked, request)).await
}

/// Decides a request that needs a connection, and opens that.
async fn open(
    session: &Arc<Session>,
    upstreams: &Upstreams,
    asked: &Asked,
    version: Version,
) -> Result<(Upstream, Flow), Refusal> {
    let permit = session
        .gate()
        .admit(asked.operation(), Durability::Synced)
        .await?;
    let flow = match asked.scheme() {
        Scheme::Http => Flow::open(Arc::clone(session), permit),
        // The tunnel counts what moves; this is a part of it.
        Scheme::Https => Flow::open_on(Arc::clone(session), permit, Meter::within(), None),
    };
    let (stream, flow) = dial(resolve(flow, &asked.destination).await?).await?;
    let (wire, flow) = match asked.scheme() {
        Scheme::Http => (Wire::Plain(stream), flow),
        Scheme::Https => {
            let http2 = version == Version::HTTP_2;
            crate::tls::reach(stream, flow, &asked.destination, http2).await?
        }
    };
    let upstream = upstreams
        .open(asked.destination.clone(), wire, &flow)
        .await
        .map_err(|error| upstream::broken(flow.decision(), &error))?;
    Ok((upstream, flow))
}

/// Sends one request and brings the head of its response.
async fn exchange(
    upstreams: &Upstreams,
    mut upstream: Upstream,
    flow: Flow,
    asked: Box<Asked>,
    mut request: Box<Request<Incoming>>,
) -> Result<Response<Body>, Refusal> {
    let decision = flow.decision();
    let client = asked.upgrade().map(|_protocol| upgrade::on(&mut *request));
    let http2 = upstream.is_http2();
    let Outgoing {
        request,
        stop,
        late,
        echo,
        mut flow,
    } = if credentials::are_asked(&flow) {
        // Boxed, because most requests go without.
        Box::pin(with_credentials(flow, &asked, request, http2)).await?
    } else {
        let (parts, body) = request.into_parts();
        outgoing(parts, Checked::unwatched(body), &asked, flow, http2)
    };
    let deadline = flow.session().limits().response;
    let sent = upstream.send(request, deadline);
    let sent = tokio::select! {
        biased;
        sent = sent => sent,
        deny = flow.revoked_before(deadline) => return Err(Box::pin(flow.end_revoked(deny)).await),
    };
    let response = match sent {
        Some(Ok(response)) => response,
        Some(Err(error)) => {
            let Some(refusal) = late.and_then(|late| late.take()) else {
                return Err(upstream::broken(flow.decision(), &error));
            };
            flow.close(FlowEnd::Refused);
            return Err(refusal);
        }
        None => {
            let decision = flow.decision();
            flow.close(FlowEnd::TimedOut);
            return Err(upstream::silent(decision, deadline));
        }
    };
    flow.answered(response.status().as_u16());
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let (Some(client), Some(protocol)) = (client, asked.upgrade()) else {
            return Err(upstream::switched(flow.decision()));
        };
        return Ok(upgraded::switch(
            upstreams, client, response, protocol, flow,
        ));
    }
    upstreams.keep(upstream);
    let mut response = fields::inbound(response);
    let counts = asked.scheme() == Scheme::Https;
    let Some(mut echo) = echo else {
        return Ok(response.map(|body| Body::from(FlowBody::new(body, flow, stop, counts))));
    };
    echo.fields(response.headers_mut());
    Ok(response.map(|body| {
        let body = FlowBody::new(body, flow, stop, counts);
        Masked::new(body, echo, decision).into()
    }))
}

/// A request on its way.
struct Outgoing {
    request: Request<Sent>,
    /// What stops its body.
    stop: Option<Stop>,
    /// Where a refusal comes that its body leads to.
    late: Option<Late>,
    /// What its answer must not say.
    echo: Option<Box<Echo>>,
    flow: Flow,
}

/// The request as its permit asks for: the client's credentials off, the node's in.
async fn with_credentials(
    flow: Flow,
    asked: &Asked,
    request: Box<Request<Incoming>>,
    http2: bool,
) -> Result<Outgoing, Refusal> {
    let (mut parts, body) = request.into_parts();
    let applied = credentials::apply(flow, asked, &mut parts, body).await?;
    let Applied {
        body,
        late,
        echo,
        flow,
    } = applied;
    Ok(Outgoing {
        late: Some(late),
        echo,
        ..outgoing(parts, body, asked, flow, http2)
    })
}

fn outgoing(mut parts: Parts, body: Checked, asked: &Asked, flow: Flow, http2: bool) -> Outgoing {
    fields::outbound(&mut parts, asked, http2);
    let counts = asked.scheme() == Scheme::Https;
    let (body, stop) = Sent::new(body, counts.then_some(&flow));
    Outgoing {
        request: Request::from_parts(parts, body),
        stop,
        late: None,
        echo: None,
        flow,
    }
}
