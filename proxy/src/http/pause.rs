//! Holds what moves while its session is paused: a request before it is sent, parts of bodies.
//!
//! Where nothing is paused, which is nearly always, it is a look at a flag and makes nothing.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use cordon_session::Gate;

use crate::{flow::Flow, refuse::Refusal};

/// Waits for the end of a pause, where there is one.
#[derive(Default)]
pub(super) struct Pause(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Pause {
    /// Whether there is one that it waits for.
    pub(super) fn holds(&self, gate: &Gate) -> bool {
        self.0.is_some() || gate.is_paused()
    }

    /// Ready as long as the session is not paused.
    pub(super) fn poll(&mut self, gate: &Gate, cx: &mut Context<'_>) -> Poll<()> {
        while self.holds(gate) {
            let over = self.0.get_or_insert_with(|| {
                let gate = gate.clone();
                Box::pin(async move { gate.not_paused().await })
            });
            ready!(over.as_mut().poll(cx));
            self.0 = None;
        }
        Poll::Ready(())
    }
}

/// A flow that may go on now: what came to its turn before a pause waits for the end of that, and
/// for as long as it is allowed.
///
/// # Errors
/// The recorded refusal, where policy or a limit allows it no more meanwhile.
pub(super) async fn over(flow: Flow) -> Result<Flow, Refusal> {
    let allowed = tokio::select! {
        biased;
        deny = flow.revoked() => Err(deny),
        () = flow.session().gate().not_paused() => Ok(()),
    };
    match allowed {
        Ok(()) => Ok(flow),
        Err(deny) => Err(flow.end_revoked(deny).await),
    }
}
