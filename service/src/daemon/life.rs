//! Carries out what commands ask about running sessions: decides it, records it, has the launcher
//! do it.

use std::{sync::Arc, time::Duration};

use tracing::info;

use super::{Daemon, live::Live};
use crate::control::{Answer, LaunchOrder, SessionAnswer, SessionAsk, State};

/// Answers one question. Who asks is this daemon's user: nobody else reaches the socket.
pub async fn answer(daemon: &Arc<Daemon>, ask: SessionAsk) -> Answer {
    let answered = match ask {
        SessionAsk::List => Ok(SessionAnswer::List(
            daemon
                .registry
                .all()
                .iter()
                .map(|live| live.status())
                .collect(),
        )),
        SessionAsk::Show { session } => daemon
            .registry
            .find(&session)
            .map(|live| SessionAnswer::Show(Box::new(live.status()))),
        SessionAsk::End { session, now } => match daemon.registry.find(&session) {
            Ok(live) => end(&live, now).await,
            Err(unknown) => Err(unknown),
        },
    };
    match answered {
        Ok(answer) => Answer::Session(answer),
        Err(message) => Answer::Failed {
            message,
            help: Some("`cordon session list` shows the running sessions".into()),
        },
    }
}

/// Has the launcher end it, and waits until it has.
async fn end(live: &Arc<Live>, now: bool) -> Result<SessionAnswer, String> {
    let mut states = live.watch();
    if !live.orders().followed() {
        return Err(format!(
            "session {} takes no orders: it is starting, or a gateway's, which ends with the gateway",
            live.id()
        ));
    }
    live.enter(State::Ending);
    info!(session = live.id(), now, "asked to end");
    let ordered = live.orders().give(LaunchOrder::End { now }, Vec::new());
    match ordered.await {
        // A session that ends before it answers has done what was asked.
        Err(why) if live.orders().followed() => return Err(why),
        Ok(_) | Err(_) => {}
    }
    let over = states.wait_for(|state| state.is_over());
    let state = match tokio::time::timeout(PATIENCE, over).await {
        Ok(Ok(state)) => *state,
        Ok(Err(_gone)) => State::Ended,
        Err(_late) => return Err("the session was told to end and has not".into()),
    };
    Ok(SessionAnswer::State {
        session: live.id().into(),
        state,
    })
}

/// How long a session may take to end: its command's grace, and what its flows take to close.
const PATIENCE: Duration = Duration::from_secs(20);
