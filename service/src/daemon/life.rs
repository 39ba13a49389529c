//! Carries out what commands ask about running sessions: decides it, records it, has the launcher
//! do it.

use std::{sync::Arc, time::Duration};

use cordon_audit::{Event, SessionEnd, SessionState};
use cordon_session::Gate;
use futures_util::future::join_all;
use tracing::info;

use super::{
    Daemon, grants, hosted,
    late::{DEADLINE, LATE},
    live::Live,
    originals,
};
use crate::control::{
    Answer, CarriedResult, LaunchOrder, SessionAnswer, SessionAsk, SessionStatus, State,
};

/// Answers one question. Who asks is this daemon's user: nobody else reaches the socket.
pub async fn answer(daemon: &Arc<Daemon>, ask: SessionAsk) -> Answer {
    let answered = match ask {
        SessionAsk::List { used } => {
            let all = seen(daemon).await;
            let lines = join_all(all.iter().map(|live| status(live, used))).await;
            Ok(SessionAnswer::List(lines))
        }
        SessionAsk::Show { session } => match daemon.registry.find(&session) {
            Ok(live) => Ok(SessionAnswer::Show(Box::new(status(&live, true).await))),
            Err(unknown) => Err(unknown),
        },
        SessionAsk::Pause { session } => match daemon.registry.find(&session) {
            Ok(live) => pause(&live).await,
            Err(unknown) => Err(unknown),
        },
        SessionAsk::Resume { session } => match daemon.registry.find(&session) {
            Ok(live) => resume(&live).await,
            Err(unknown) => Err(unknown),
        },
        SessionAsk::Grant {
            session,
            grant,
            home,
        } => match daemon.registry.find(&session) {
            Ok(live) => {
                let by = of_a_command(daemon);
                return grants::grant(daemon, &live, &grant, &home, &by).await;
            }
            Err(unknown) => Err(unknown),
        },
        SessionAsk::Revoke {
            session,
            grant,
            kill,
        } => match daemon.registry.find(&session) {
            Ok(live) => return grants::revoke(&live, &grant, kill, &of_a_command(daemon)).await,
            Err(unknown) => Err(unknown),
        },
        SessionAsk::Changes { session } => match daemon.registry.find(&session) {
            Ok(live) => grants::changes(&live).await,
            Err(unknown) => Err(unknown),
        },
        SessionAsk::Purge { session } => originals::purge(daemon, session.as_deref()).await,
        SessionAsk::Mode {
            session,
            grant,
            mode,
            kill,
        } => match daemon.registry.find(&session) {
            Ok(live) => {
                let by = of_a_command(daemon);
                return grants::mode(daemon, &live, &grant, mode, kill, &by).await;
            }
            Err(unknown) => Err(unknown),
        },
        // With descriptors on its connection; `exec` answers it.
        SessionAsk::Exec { .. } => Err("a command is started on a connection of its own".into()),
        SessionAsk::End { session, now } => match daemon.registry.find(&session) {
            Ok(live) if hosted::end(daemon, live.id(), SessionEnd::Ended).await => {
                Ok(state_of(&live))
            }
            Ok(live) => end(&live, now).await,
            Err(unknown) => Err(unknown),
        },
    };
    match answered {
        Ok(answer) => Answer::Session(answer),
        Err(message) => unknown(message),
    }
}

/// What is said of a session that is not there, or not as it would have to be.
pub fn unknown(message: String) -> Answer {
    Answer::Failed {
        message,
        help: Some("`cordon session list` shows the running sessions".into()),
    }
}

/// The sessions that this daemon's own user may see, oldest first.
pub async fn seen(daemon: &Daemon) -> Vec<Arc<Live>> {
    let who = daemon.policies.own_user();
    let mut seen = Vec::new();
    for live in daemon.registry.all() {
        if daemon.policies.may_read(&who, live.facts()).await {
            seen.push(live);
        }
    }
    seen
}

/// Who changes what a session has, for the record.
fn of_a_command(daemon: &Daemon) -> String {
    format!("{} by the command line", daemon.user.name)
}

/// What is known of it, with what its processes use where that is `wanted` and it can tell.
pub async fn status(live: &Live, wanted: bool) -> SessionStatus {
    let mut status = live.status();
    if wanted && status.connected {
        let sampled = live.orders().give(LaunchOrder::Sample, Vec::new()).await;
        if let Ok((CarriedResult::Sampled(used), _)) = sampled {
            status.used = Some(used);
        }
    }
    status
}

/// Its flows wait from the moment when it is to stop until it runs again.
async fn pause(live: &Arc<Live>) -> Result<SessionAnswer, String> {
    let _turn = live.turn().await;
    if live.state() == State::Paused {
        // A resume that was given up on may have been carried out all the same.
        order(live, LaunchOrder::Pause).await?;
        return Ok(state_of(live));
    }
    if live.state() != State::Running {
        return Err(format!(
            "a session that is {} cannot be paused",
            live.state().as_str()
        ));
    }
    // First its flows, so that none brings anything in that nobody can read.
    let waits = Waits::begin(live.gate());
    order(live, LaunchOrder::Pause).await?;
    waits.stay();
    live.enter(State::Paused);
    recorded(live, SessionState::Paused).await?;
    Ok(state_of(live))
}

/// A session whose flows wait, until this is dropped or they are to go on waiting: also where
/// whoever asked for a pause goes away before it stands.
struct Waits<'a>(Option<&'a Gate>);

impl<'a> Waits<'a> {
    fn begin(gate: &'a Gate) -> Self {
        gate.pause(true);
        Self(Some(gate))
    }

    fn stay(mut self) {
        self.0 = None;
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if let Some(gate) = self.0 {
            gate.pause(false);
        }
    }
}

async fn resume(live: &Arc<Live>) -> Result<SessionAnswer, String> {
    let _turn = live.turn().await;
    let was = live.state();
    // One that runs is resumed too: a pause that was given up on may have been carried out all the
    // same.
    if !matches!(was, State::Paused | State::Running) {
        return Err(format!(
            "a session that is {} cannot be resumed",
            was.as_str()
        ));
    }
    // On record before anything of it runs.
    recorded(live, SessionState::Running).await?;
    if let Err(why) = order(live, LaunchOrder::Resume).await {
        // It stands still, as it is shown, and its flows go on waiting.
        if was == State::Paused {
            recorded(live, SessionState::Paused).await?;
        }
        return Err(why);
    }
    live.enter(State::Running);
    live.gate().pause(false);
    Ok(state_of(live))
}

/// Has its processes stopped or let run. A session that a runtime holds has none here: of that one
/// what is asked waits, and what goes through its proxy.
async fn order(live: &Live, order: LaunchOrder) -> Result<(), String> {
    if live.is_hosted() {
        return Ok(());
    }
    live.orders().give(order, Vec::new()).await.map(drop)
}

/// Records a change of state.
async fn recorded(live: &Live, state: SessionState) -> Result<(), String> {
    let event = Event::SessionChanged {
        session: Arc::clone(live.facts()),
        state,
        why: None,
    };
    let event = live.gate().event(event).await;
    event.map(drop).map_err(|error| error.to_string())
}

fn state_of(live: &Live) -> SessionAnswer {
    SessionAnswer::State {
        session: live.id().into(),
        state: live.state(),
    }
}

/// Has the launcher end it, and waits until it has.
///
/// # Errors
/// In words: it takes no orders, or has not ended in time.
pub async fn end(live: &Arc<Live>, now: bool) -> Result<SessionAnswer, String> {
    let mut states = live.watch();
    if !live.orders().followed() {
        return Err(format!(
            "session {} takes no orders: it is starting, or a gateway's, which ends with the gateway",
            live.id()
        ));
    }
    // To end only takes: it is done also where the log does not take that.
    live.enter(State::Ending);
    let recorded = tokio::time::timeout(DEADLINE, recorded(live, SessionState::Ending));
    let recorded = recorded.await.unwrap_or_else(|_late| Err(LATE.into()));
    // Its command may want to say goodbye.
    live.gate().pause(false);
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
    recorded.map_err(|why| format!("it has ended, and that it was to is not on record: {why}"))?;
    Ok(SessionAnswer::State {
        session: live.id().into(),
        state,
    })
}

/// How long a session may take to end: its command's grace, and what its flows take to close.
const PATIENCE: Duration = Duration::from_secs(20);
