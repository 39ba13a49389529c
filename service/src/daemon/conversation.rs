//! One connection's conversation up to the point where it opens a session.

use std::sync::Arc;

use cordon_audit::{
    Order,
    export::{Manifest, exported, sign},
};
use tracing::{debug, info};

use super::{
    Daemon, exec, life,
    live::Stands,
    metrics, orders,
    policies::{Share, Stopped},
    session,
};
use crate::control::{
    Answer, Ask, Connection, Hello, PolicyAnswer, PolicyAsk, ProtocolError, SessionAsk, Status,
    VERSION,
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
            Ask::Session(SessionAsk::Exec {
                session,
                arguments,
                terminal,
            }) => return exec::exec(daemon, connection, &session, arguments, terminal).await,
            Ask::Session(ask) => life::answer(daemon, ask).await,
            Ask::Status => Answer::Status(Box::new(status(daemon))),
            Ask::Stop { force } => stop(daemon, force),
            Ask::Administer(order) => administer(daemon, *order).await,
            Ask::Policy(ask) => policy(daemon, ask).await,
            Ask::Records { session } => records(daemon, &session),
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
            | Ask::ProtectedWrite { .. }
            | Ask::ProtectedPaths { .. }
            | Ask::Changed { .. }
            | Ask::Ended { .. } => Answer::Failed {
                message: "no session is open on this connection".into(),
                help: None,
            },
        };
        connection.answer(&answer).await?;
    }
}

fn status(daemon: &Daemon) -> Status {
    Status {
        version: VERSION.into(),
        pid: std::process::id(),
        log_fault: daemon.log.healthy().err().map(|error| error.to_string()),
        log: daemon.paths.log(),
        log_stats: daemon.log.stats(),
        sessions: daemon.registry.lines(),
        policy: daemon.policies.status(),
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

/// Records an export and signs what it holds, in this order.
async fn export(daemon: &Daemon, manifest: &Manifest, sink: Option<&str>) -> Answer {
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

/// Records of the one session whose id starts with `prefix`.
fn records(daemon: &Daemon, prefix: &str) -> Answer {
    let records = daemon
        .log
        .session(prefix)
        .map_err(|error| error.to_string())
        .and_then(|found| {
            found
                .iter()
                .map(|record| serde_json::to_string(record).map_err(|error| error.to_string()))
                .collect::<Result<Vec<_>, _>>()
        });
    match records {
        Ok(records) => Answer::Records(records),
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
        PolicyAsk::Status => Ok(PolicyAnswer::Status(Box::new(policies.status()))),
        PolicyAsk::Effective { session } => match policies.effective(&session) {
            Some(effective) => Ok(PolicyAnswer::Effective(Box::new(effective))),
            None => Err(Stopped::Failed(
                format!(
                    "no one running session begins with `{}`",
                    session.escape_default()
                ),
                Some("`cordon status` shows the running sessions".into()),
            )),
        },
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
    match changed {
        Ok(answer) | Err(Stopped::Denied(answer)) => Answer::Policy(answer),
        Err(Stopped::Failed(message, help)) => Answer::Failed { message, help },
        Err(Stopped::OnePerson) => Answer::Failed {
            message: "two people must have signed it, and one has".into(),
            help: None,
        },
    }
}
