//! One connection's conversation up to the point where it opens a session.

use std::sync::Arc;

use cordon_audit::{
    Order,
    export::{Manifest, exported, sign},
};
use cordon_policy::SessionAct;
use tracing::{debug, info};

use super::{
    Daemon, exec, life,
    live::{Live, Stands},
    metrics, orders,
    policies::{Share, Stopped},
    registry::{Registry, line},
    session,
};
use crate::control::{
    Answer, Ask, Connection, Hello, PolicyAnswer, PolicyAsk, ProtocolError, SessionAnswer,
    SessionAsk, Status, VERSION,
};

/// Talks until the peer hangs up or its session is over.
pub async fn converse(daemon: Arc<Daemon>, mut connection: Connection) {
    match talk(&daemon, &mut connection).await {
        Ok(()) | Err(ProtocolError::Closed) => {}
        Err(error) => debug!(%error, "conversation ended"),
    }
}

async fn talk(daemon: &Arc<Daemon>, connection: &mut Connection) -> Result<(), ProtocolError> {
    let mut stopping = daemon.stop.subscribe();
    loop {
        let ask = tokio::select! {
            ask = connection.next() => ask?,
            // Only talk is cut here: a session ends itself on a stop, with a record.
            _ = stopping.wait_for(|stop| *stop) => return Ok(()),
        };
        if !matches!(ask, Ask::Hello(_)) {
            tokio::select! {
                () = daemon.restored() => {}
                _ = stopping.wait_for(|stop| *stop) => return Ok(()),
            }
        }
        let answer = match ask {
            Ask::Open(open) => return session::host(daemon, connection, *open).await,
            Ask::Hello(theirs) => {
                debug!(version = %theirs.version, pid = theirs.pid, "hello");
                Answer::Hello(Hello {
                    version: VERSION.into(),
                    pid: std::process::id(),
                    sessions: daemon.registry.len(),
                })
            }
            Ask::Follow {
                session,
                token,
                first_process,
                held,
                groups,
                pauses_by,
            } => {
                let stands = Stands {
                    first_process,
                    held,
                    groups,
                    pauses_by,
                };
                return orders::follow(daemon, connection, &session, &token, stands).await;
            }
            Ask::Session(mut ask) => match (permitted(daemon, &mut ask).await, ask) {
                (Err(refusal), _ask) => refusal,
                (
                    Ok(()),
                    SessionAsk::Exec {
                        session,
                        arguments,
                        terminal,
                    },
                ) => return exec::exec(daemon, connection, &session, arguments, terminal).await,
                (Ok(()), ask) => life::answer(daemon, ask).await,
            },
            Ask::Status => Answer::Status(Box::new(status(daemon).await)),
            Ask::Stop { force } => stop(daemon, force),
            Ask::Administer(order) => administer(daemon, *order).await,
            Ask::Policy(ask) => policy(daemon, ask).await,
            Ask::Records { session } => records(daemon, session).await,
            Ask::Export { manifest, sink } => export(daemon, &manifest, sink.as_deref()).await,
            Ask::Metrics => match metrics::text(daemon) {
                Ok(text) => Answer::Metrics(text),
                Err(message) => Answer::Failed {
                    message,
                    help: None,
                },
            },
            Ask::Sinks => Answer::Sinks(Box::new(daemon.sinks.status())),
            Ask::Attach
            | Ask::Publish
            | Ask::RefusedDelete { .. }
            | Ask::RefusedSocket { .. }
            | Ask::Deleted { .. }
            | Ask::NotKept { .. }
            | Ask::ProtectedWrite { .. }
            | Ask::ProtectedPaths { .. }
            | Ask::Ended { .. } => Answer::Failed {
                message: "no session is open on this connection".into(),
                help: None,
            },
        };
        connection.answer(&answer).await?;
    }
}

/// Decides whether this daemon's user, who alone reaches the socket, may do this with a session.
async fn permitted(daemon: &Daemon, ask: &mut SessionAsk) -> Result<(), Answer> {
    let named = named(&daemon.registry, ask).map_err(life::unknown)?;
    let Some((act, live)) = named else {
        return Ok(());
    };
    let who = daemon.policies.own_user();
    match daemon.policies.manage(&who, act, live.facts()).await {
        Ok(_decision) => Ok(()),
        Err(Answer::Refused(refused)) => Err(Answer::Session(SessionAnswer::Refused(refused))),
        Err(failed) => Err(failed),
    }
}

/// What is to be done, with which session; none where it is about none, or not about one that runs.
/// Its whole id is in the ask from here on: the beginning of one may be another's by the time when it
/// is decided and on record.
fn named(
    registry: &Registry,
    ask: &mut SessionAsk,
) -> Result<Option<(SessionAct, Arc<Live>)>, String> {
    use SessionAct::{Change, End, Read, Steer};
    let (act, session) = match ask {
        // Of each that is listed.
        SessionAsk::List { .. } => return Ok(None),
        // Of sessions that are over, whose originals are this user's files.
        SessionAsk::Purge { .. } => return Ok(None),
        SessionAsk::Show { session } | SessionAsk::Changes { session } => (Read, session),
        SessionAsk::Pause { session } | SessionAsk::Resume { session } => (Steer, session),
        SessionAsk::Exec { session, .. }
        | SessionAsk::Grant { session, .. }
        | SessionAsk::Revoke { session, .. }
        | SessionAsk::Mode { session, .. } => (Change, session),
        SessionAsk::End { session, .. } => (End, session),
    };
    let live = registry.find(session)?;
    live.id().clone_into(session);
    Ok(Some((act, live)))
}

/// With the sessions that may be seen.
async fn status(daemon: &Daemon) -> Status {
    let seen = life::seen(daemon).await;
    Status {
        version: VERSION.into(),
        pid: std::process::id(),
        log_fault: daemon.log.healthy().err().map(|error| error.to_string()),
        log: daemon.paths.log(),
        log_stats: daemon.log.stats(),
        sessions: seen.iter().map(|live| line(live)).collect(),
        policy: daemon.policies.status().await,
        sinks: daemon.sinks.status(),
    }
}

fn stop(daemon: &Daemon, force: bool) -> Answer {
    let running = daemon.registry.len();
    if running > 0 && !force {
        return Answer::Failed {
            message: format!("{running} session(s) still run"),
            help: Some("wait for them, or end them with `cordon stop --force`".into()),
        };
    }
    info!(force, running, "asked to stop");
    daemon.stop.send_replace(true);
    Answer::Stopping
}

/// Records an export and signs what it holds, in this order, where the log may be read.
async fn export(daemon: &Daemon, manifest: &Manifest, sink: Option<&str>) -> Answer {
    let policies = &daemon.policies;
    if let Err(stopped) = policies.authorise_reading(&policies.own_user()).await {
        return not_done(stopped);
    }
    let signed = match daemon
        .log
        .event(exported(&daemon.user.name, manifest, sink))
        .await
    {
        Ok(_recorded) => sign(daemon.log.directory(), manifest).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match signed {
        Ok(note) => Answer::Exported(note),
        Err(message) => Answer::Failed {
            message,
            help: None,
        },
    }
}

/// Whoever can talk on this socket is the user whose log it is.
async fn administer(daemon: &Arc<Daemon>, mut order: Order) -> Answer {
    order.by = Some(daemon.user.name.clone());
    let log = daemon.log.clone();
    let done = tokio::task::spawn_blocking(move || log.administer(order)).await;
    let failed = match done {
        Ok(Ok(done)) => return Answer::Done(Box::new(done)),
        Ok(Err(error)) => error.message,
        Err(error) => error.to_string(),
    };
    Answer::Failed {
        message: failed,
        help: None,
    }
}

/// Records of the session with this id, where the log may be read. Where there are none nothing is
/// told, and nothing is decided.
async fn records(daemon: &Daemon, session: String) -> Answer {
    let log = daemon.log.clone();
    // It waits for the index, and may read whole journals.
    let read = tokio::task::spawn_blocking(move || {
        let found = log.session(&session).map_err(|error| error.to_string())?;
        found
            .iter()
            .map(|record| serde_json::to_string(record).map_err(|error| error.to_string()))
            .collect::<Result<Vec<_>, _>>()
    });
    let records = read.await.unwrap_or_else(|error| Err(error.to_string()));
    let policies = &daemon.policies;
    match records {
        Ok(records) if records.is_empty() => Answer::Records(records),
        Ok(records) => match policies.authorise_reading(&policies.own_user()).await {
            Ok(()) => Answer::Records(records),
            Err(stopped) => not_done(stopped),
        },
        Err(message) => Answer::Failed {
            message,
            help: None,
        },
    }
}

/// What is asked about policies. Who asks is this daemon's user: nobody else reaches the socket.
async fn policy(daemon: &Daemon, ask: PolicyAsk) -> Answer {
    let policies = &daemon.policies;
    let changed = match ask {
        PolicyAsk::Status => Ok(PolicyAnswer::Status(Box::new(policies.status().await))),
        PolicyAsk::Effective { session } => policies
            .effective(&session)
            .await
            .map(|effective| PolicyAnswer::Effective(Box::new(effective))),
        PolicyAsk::Try {
            bundle,
            layer,
            seconds,
        } => policies.try_out(bundle, layer, seconds).await,
        PolicyAsk::Rollout {
            bundle,
            layer,
            per_mille,
            groups,
            users,
            bound,
        } => {
            let to = Share {
                per_mille,
                groups,
                users,
            };
            policies.roll_out(bundle, layer, to, bound).await
        }
        PolicyAsk::Promote { layer } => policies.promote(layer).await,
        PolicyAsk::Publish { bundle, second } => policies.publish(bundle, second).await,
        PolicyAsk::Rollback { layer, to } => policies.roll_back(layer, to).await,
    };
    changed.map_or_else(not_done, Answer::Policy)
}

fn not_done(stopped: Stopped) -> Answer {
    match stopped {
        Stopped::Denied(answer) => Answer::Policy(answer),
        Stopped::Failed(message, help) => Answer::Failed { message, help },
        Stopped::OnePerson => Answer::Failed {
            message: "two people must have signed it, and one has".into(),
            help: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::live::of_tests::{policies, session};

    #[tokio::test]
    async fn what_is_decided_about_a_session_is_carried_out_on_that_one() {
        let folder = tempfile::tempdir().unwrap();
        let (policies, _log) = policies(folder.path());
        let registry = Registry::default();
        let enter = async |id| registry.stay(Arc::new(session(&policies, id).await));
        for id in ["0193-a", "0193-b", "0194-c"] {
            enter(id).await;
        }
        let pause = |session: &str| SessionAsk::Pause {
            session: session.into(),
        };
        let told = |ask: &SessionAsk| match ask {
            SessionAsk::Pause { session } => session.clone(),
            other => panic!("{other:?}"),
        };
        // The beginning of an id is decided and carried out as the whole of it.
        let mut ask = pause("0194");
        let (act, live) = named(&registry, &mut ask).unwrap().unwrap();
        assert_eq!((act, live.id()), (SessionAct::Steer, "0194-c"));
        assert_eq!(told(&ask), "0194-c");
        // What names two, or none, is refused here: a moment later it may name one.
        let mut ask = pause("0193");
        let why = named(&registry, &mut ask).unwrap_err();
        assert!(why.contains("more than one"), "{why}");
        registry.leave("0193-a");
        assert!(named(&registry, &mut ask).unwrap().is_some(), "the control");
        assert_eq!(told(&ask), "0193-b");
        registry.leave("0193-b");
        enter("0193-d").await;
        let why = named(&registry, &mut ask).unwrap_err();
        assert!(why.contains("no running session"), "{why}");
    }
}
