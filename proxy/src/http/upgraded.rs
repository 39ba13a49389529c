//! What was HTTP and goes on as another protocol (WebSocket, say) inside an inspected tunnel.
//!
//! The upgrade was a decision of its own; from here on bytes move until both sides have ended,
//! nothing moves for the session's idle time, or policy allows it no more. Never looks at them.

use std::{io, sync::Arc};

use cordon_audit::FlowEnd;
use hyper::{
    Response,
    body::Incoming,
    upgrade::{self, OnUpgrade},
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{body::Body, fields, upstream::Upstreams};
use crate::{flow::Flow, relay::Activity};

/// Answers that the protocol changes, and carries what follows in a task of the connection.
pub(super) fn switch(
    upstreams: &Upstreams,
    client: OnUpgrade,
    mut response: Response<Incoming>,
    protocol: &str,
    flow: Flow,
) -> Response<Body> {
    let origin = upgrade::on(&mut response);
    upstreams.aside(async move {
        // Either fails only where its connection is gone.
        if let (Ok(client), Ok(origin)) = tokio::join!(client, origin) {
            carry(TokioIo::new(client), TokioIo::new(origin), flow).await;
        }
    });
    fields::switching(response, protocol).map(|_no_body| Body::empty())
}

async fn carry<S: AsyncRead + AsyncWrite + Unpin>(client: S, origin: S, flow: Flow) {
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_origin, mut to_origin) = tokio::io::split(origin);
    let meter = Arc::clone(flow.meter());
    let activity = Activity::of(&flow);
    let there = |bytes| {
        activity.note();
        meter.count_out(bytes);
    };
    let back = |bytes| {
        activity.note();
        meter.count_in(bytes);
    };
    let both = async {
        tokio::try_join!(
            run(&mut from_client, &mut to_origin, &activity, there),
            run(&mut from_origin, &mut to_client, &activity, back),
        )
    };
    let end = tokio::select! {
        done = both => match done {
            Ok(((), ())) => FlowEnd::Completed,
            Err(_broken) => FlowEnd::Reset,
        },
        () = activity.idle_for(flow.session().limits().idle) => FlowEnd::TimedOut,
        deny = flow.revoked() => {
            // Both sides close with this task, so there is nobody left to tell.
            let _told = flow.end_revoked(deny).await;
            return;
        }
    };
    flow.close(end);
}

async fn run(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    activity: &Activity,
    count: impl Fn(usize),
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = from.read(&mut buffer).await?;
        activity.not_paused().await;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(buffer.get(..read).unwrap_or_default()).await?;
        to.flush().await?;
        count(read);
    }
}

const BUFFER_BYTES: usize = 16 * 1024;
