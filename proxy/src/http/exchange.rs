//! One request on its way: decided, sent on over a kept or a new upstream connection, and the head
//! of its response brought back. Plain or inside TLS that is inspected, it is the same way (N13).
//!
//! What a request takes along is boxed, and so is what most further requests do not need, and all of
//! [`carry`]: a future is moved with every function that hands it on, and hyper moves its own about
//! for each request. One of seven kilobytes was a sixth of a request's cost.

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
    expect::Offered,
    fields, malformed, masked,
    normalize::{self, Asked},
    pause, upgraded,
    upstream::{self, Upstream, Upstreams},
    wire::Wire,
};
use crate::{
    credentials::{self, Applied, Checked, Pending},
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
    match normalize::forward_target(&mut request, &connection.named).map(Box::new) {
        Ok(mut asked) => {
            asked.facts.seen.process = match connection.made_by.known_by_now() {
                Some(known) => known,
                None => Box::pin(connection.made_by.known()).await,
            };
            Box::pin(carry(session, &connection.upstreams, asked, request)).await
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
    // Its own processes stand still then, but not a browser beside the sandbox.
    session.gate().not_paused().await;
    if upstreams.keeps(&asked.destination) {
        // A further request to the same destination: its record need not be synced to go on.
        let permit = session
            .gate()
            .admit(asked.operation(), Durability::Written)
            .await?;
        if let Some(kept) = upstreams.take(&asked.destination).await {
            let mut flow = kept.flow(session, permit, upstreams.are_inside());
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
    let flow = match upstreams.are_inside() {
        false => Flow::open(Arc::clone(session), permit),
        // The tunnel counts what moves; this is a part of it.
        true => Flow::open_on(Arc::clone(session), permit, Meter::within(), None),
    };
    let (stream, flow) = dial(resolve(flow, &asked.destination).await?).await?;
    // Plain from the proxy itself it is always HTTP/1.1.
    let http2 = version == Version::HTTP_2 && upstreams.are_inside();
    let (wire, flow) = match asked.scheme() {
        Scheme::Http => (Wire::clear(stream, http2), flow),
        Scheme::Https => crate::tls::reach(stream, flow, &asked.destination, http2).await?,
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
    mut flow: Flow,
    asked: Box<Asked>,
    mut request: Box<Request<Incoming>>,
) -> Result<Response<Body>, Refusal> {
    let client = asked.upgrade().map(|_protocol| upgrade::on(&mut *request));
    let (request, stop, answer) = if credentials::are_asked(&flow) {
        // Boxed, because most requests go without.
        let put_in = Box::pin(with_credentials(
            flow,
            &asked,
            request,
            upstream.is_http2(),
            upstreams.are_inside(),
        ));
        let put_in = put_in.await?;
        flow = put_in.flow;
        (put_in.request, put_in.stop, Some(put_in.answer))
    } else {
        let (mut parts, body) = request.into_parts();
        let body = Checked::unwatched(body);
        fields::outbound(&mut parts, &asked, upstream.is_http2());
        let (request, stop) = outgoing(parts, body, upstreams.are_inside(), &flow);
        (request, stop, None)
    };
    // Its connection may have taken long to open.
    if flow.session().gate().is_paused() {
        flow = Box::pin(pause::over(flow)).await?;
    }
    let deadline = flow.session().limits().response;
    // Not entered: it is open for as long as it takes, and most flows have none.
    let first_byte = flow.span().map(|parent| {
        let decision = flow.decision();
        tracing::debug_span!(parent: parent, "first_byte", cordon.decision = %decision)
    });
    let sent = upstream.send(request, deadline, flow.session());
    let sent = tokio::select! {
        biased;
        sent = sent => sent,
        deny = flow.revoked_before(deadline) => return Err(Box::pin(flow.end_revoked(deny)).await),
    };
    drop(first_byte);
    let response = match sent {
        Some(Ok(response)) => response,
        Some(Err(error)) => {
            let Some(refusal) = answer.and_then(|answer| answer.late.take()) else {
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
    if flow.session().gate().is_paused() {
        flow = Box::pin(pause::over(flow)).await?;
    }
    if let Some(what) = fields::ambiguous(&response) {
        return Err(upstream::ambiguous(flow.decision(), what));
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let (Some(client), Some(protocol)) = (client, asked.upgrade()) else {
            return Err(upstream::switched(flow.decision()));
        };
        let echo = answer.and_then(|answer| answer.echo);
        return Ok(upgraded::switch(
            upstreams, client, response, protocol, flow, echo,
        ));
    }
    upstreams.keep(upstream);
    let counts = upstreams.are_inside();
    match answer.and_then(|answer| answer.echo) {
        Some(echo) => {
            let hidden = masked::hides(&response);
            let response = fields::inbound(response);
            Box::pin(masked::answer(response, hidden, echo, flow, stop, counts)).await
        }
        None => Ok(
            fields::inbound(response).map(|body| FlowBody::new(body, flow, stop, counts).into())
        ),
    }
}

/// A request that is ready to be sent.
struct PutIn {
    flow: Flow,
    request: Request<Sent>,
    stop: Option<Stop>,
    answer: Box<Pending>,
}

/// The request as its permit asks for: the client's credentials off, the node's in.
async fn with_credentials(
    flow: Flow,
    asked: &Asked,
    request: Box<Request<Incoming>>,
    http2: bool,
    inside: bool,
) -> Result<PutIn, Refusal> {
    let (mut parts, body) = request.into_parts();
    // Else the client could name the field that a credential is put into, and it would go without.
    fields::strip_named(&mut parts.headers);
    let Applied { body, flow, answer } = credentials::apply(flow, asked, &mut parts, body).await?;
    fields::outbound(&mut parts, asked, http2);
    let (request, stop) = outgoing(parts, body, inside, &flow);
    Ok(PutIn {
        flow,
        request,
        stop,
        answer: Box::new(answer),
    })
}

/// The request on its way, and what stops its body.
fn outgoing(
    parts: Parts,
    body: Checked,
    inside: bool,
    flow: &Flow,
) -> (Request<Sent>, Option<Stop>) {
    let (body, stop) = Sent::new(body, flow, inside);
    let mut request = Request::from_parts(parts, body);
    if let Some(offered) = Offered::of(&mut request) {
        request.body_mut().is_offered(offered);
    }
    (request, stop)
}
