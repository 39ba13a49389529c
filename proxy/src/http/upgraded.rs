//! What was HTTP and goes on as another protocol (WebSocket, say) inside an inspected tunnel.
//!
//! The upgrade was a decision of its own; from here on bytes move until both sides have ended,
//! nothing moves for the session's idle time, or policy allows it no more. Looks at them only where the
//! upgrade carried a credential: what a WebSocket sends back of it is masked ([`Frames`]), and one
//! that cannot be looked into is cut, on record.

use std::{io, sync::Arc};

use bytes::BytesMut;
use cordon_audit::FlowEnd;
use cordon_policy::DenyReason;
use hyper::{
    Response,
    body::Incoming,
    upgrade::{self, OnUpgrade},
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{
    body::Body,
    fields,
    frames::{Frames, Unreadable},
    upstream::Upstreams,
};
use crate::{credentials::Echo, flow::Flow, relay::Activity};

/// Answers that the protocol changes, and carries what follows in a task of the connection.
pub(super) fn switch(
    upstreams: &Upstreams,
    client: OnUpgrade,
    mut response: Response<Incoming>,
    protocol: &str,
    flow: Flow,
    mut echo: Option<Echo>,
) -> Response<Body> {
    let origin = upgrade::on(&mut response);
    if let Some(echo) = &mut echo {
        echo.head(&mut response);
        if echo.take_found() {
            echo.tell(Some(flow.decision()));
        }
    }
    // Of any other protocol nobody knows where its messages end.
    let frames = echo
        .filter(|_| protocol == "websocket")
        .map(|echo| Frames::new(echo, flow.decision()));
    upstreams.aside(async move {
        // Either fails only where its connection is gone.
        if let (Ok(client), Ok(origin)) = tokio::join!(client, origin) {
            carry(TokioIo::new(client), TokioIo::new(origin), flow, frames).await;
        }
    });
    fields::switching(response, protocol).map(|_no_body| Body::empty())
}

async fn carry<S: AsyncRead + AsyncWrite + Unpin>(
    client: S,
    origin: S,
    flow: Flow,
    frames: Option<Frames>,
) {
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
            run(&mut from_client, &mut to_origin, &activity, there, None),
            run(&mut from_origin, &mut to_client, &activity, back, frames),
        )
    };
    let end = tokio::select! {
        done = both => match done {
            Ok(((), ())) => FlowEnd::Completed,
            Err(Broken::Reset(_)) => FlowEnd::Reset,
            Err(Broken::Unreadable(what)) => {
                let why = format!("its WebSocket cannot be looked into for its credential: {what}");
                // As below: both sides close with this task.
                let _told = flow.end_refused(DenyReason::Credential, why).await;
                return;
            }
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

/// Why bytes move no more.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Reset(#[from] io::Error),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

async fn run(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    activity: &Activity,
    count: impl Fn(usize),
    mut frames: Option<Frames>,
) -> Result<(), Broken> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut masked = BytesMut::new();
    loop {
        let read = from.read(&mut buffer).await?;
        activity.not_paused().await;
        if read == 0 {
            return Ok(to.shutdown().await?);
        }
        let mut bytes = buffer.get(..read).unwrap_or_default();
        if let Some(frames) = &mut frames {
            masked.clear();
            frames.next(bytes, &mut masked)?;
            bytes = &masked;
        }
        to.write_all(bytes).await?;
        to.flush().await?;
        count(read);
    }
}

const BUFFER_BYTES: usize = 16 * 1024;
