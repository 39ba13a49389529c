//! Hosts one session: from the launcher's request to the summary, whatever way it ends.

use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::fd::OwnedFd,
    path::PathBuf,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use cordon_audit::{Event, Sensitive, SessionEnd};
use cordon_policy::Backend;
use cordon_proxy::{Listeners, Processes, SessionProxy};
use cordon_sandbox::{
    callers::Callers,
    limits::{self, Used},
    network,
};
use cordon_session::Gate;
use futures_util::future::{join, maybe_done, poll_immediate};
use tracing::{info, warn};

use super::{
    Daemon, api, ending, grants,
    live::Live,
    open::{self, Open},
    policies::observe_of,
    processes,
    publish::{self, Port},
    registry::policy_words,
    withdraw::withdraw,
};
use crate::{
    control::{Answer, Ask, Connection, GrantChanges, OpenSession, ProtocolError, State},
    summary::Summary,
};

/// Decides the session, hosts it, and records its end.
///
/// # Errors
/// [`ProtocolError`] when the launcher went away; the end is recorded all the same.
pub async fn host(
    daemon: &Arc<Daemon>,
    connection: &mut Connection,
    request: OpenSession,
) -> Result<(), ProtocolError> {
    let command = request.command.clone();
    let (profile, loads) = (request.profile, request.loads.clone());
    let published = request.publish.clone();
    let who = daemon.launches.asked_by(connection.peer());
    let who = who.unwrap_or_else(|| daemon.policies.own_user());
    let mut open = match open::open(daemon, request, &who).await {
        Ok(open) => open,
        Err(refusal) => {
            daemon.launches.refused(connection.peer(), &refusal);
            return connection.answer(&refusal).await;
        }
    };
    let started = Instant::now();
    let facts = Arc::clone(open.gate.session());
    let live = Live::new(
        Arc::clone(&open.follower),
        &command,
        connection.peer(),
        open.opened.token.clone(),
        open.opened.grants.clone(),
    );
    let place = daemon.registry.enter(Arc::new(
        live.with_profile(profile)
            .decided_by(&open.opened.decision)
            .by_leave_of(open.leave.map(|id| id.to_string()))
            .from(open.origin.clone(), published)
            .described_below(&daemon.paths.sessions()),
    ));
    daemon.launches.opened(connection.peer(), place.live());
    daemon.ask_people(&open.gate, &[]);
    if let Some(server) = &loads
        && let Err(refusal) = api::load(daemon, place.live(), server).await
    {
        daemon.approvals.leave(&facts.id).await;
        place.live().enter(State::Failed);
        return connection.answer(&refusal).await;
    }
    info!(session = %facts.id, "session opened");

    let withdrawing = tokio::spawn(withdraw(Arc::downgrade(daemon), Arc::clone(place.live())));
    let mut running = Running {
        daemon,
        live: Arc::clone(place.live()),
        ports: std::mem::take(&mut open.ports),
        gate: &open.gate,
        command: &command,
        proxy: None,
    };
    let ended = running.converse(connection, &open).await;
    withdrawing.abort();
    daemon.browsers.off(&facts.id).await;
    daemon.remotes.end(&facts.id).await;
    let proxy = running.proxy.take();

    if let Some(proxy) = proxy {
        match &ended {
            // The service leaves in good order, and what is under way may end by itself.
            Err(Ending::Stopped) => proxy.drain(daemon.drain).await,
            Ok(_) | Err(Ending::Lost(_)) => proxy.shutdown().await,
        };
    }
    let (end, exit_code) = match &ended {
        Ok(Over {
            end: Some(end),
            code,
            ..
        }) => (*end, *code),
        Ok(Over {
            code: Some(code), ..
        }) if place.live().state() == State::Ending => (SessionEnd::Ended, Some(*code)),
        Ok(Over {
            code: Some(code), ..
        }) => (SessionEnd::Exited, Some(*code)),
        Ok(Over { code: None, .. }) => (SessionEnd::Failed, None),
        Err(Ending::Stopped) => (SessionEnd::Stopped, None),
        Err(Ending::Lost(_)) => (SessionEnd::LauncherLost, None),
    };
    let mut totals = open.gate.tally().totals();
    if let Ok(over) = &ended {
        let changes = over.changes.as_deref();
        totals.used = over.used.map(ending::used);
        totals.changes = changes.map(ending::changes);
        ending::record_changes(place.live(), changes.unwrap_or_default());
    }
    daemon.approvals.leave(&facts.id).await;
    let event = Event::SessionEnded {
        session: Arc::clone(&facts),
        end,
        exit_code,
        totals: Some(Box::new(totals)),
    };
    let recorded = maybe_done(async {
        if let Err(error) = open.gate.event(event).await {
            warn!(session = %facts.id, %error, "the end of a session was not recorded");
        }
    });
    let mut recorded = pin!(recorded);
    // That writes it. Nothing hangs on its being on disk, so nobody waits for that.
    let _so_far = poll_immediate(recorded.as_mut()).await;
    info!(session = %facts.id, ?end, "session ended");
    place.live().enter(match end {
        SessionEnd::Exited | SessionEnd::Stopped | SessionEnd::Ended | SessionEnd::OverLimit => {
            State::Ended
        }
        SessionEnd::Failed | SessionEnd::LauncherLost | SessionEnd::Unresponsive => State::Failed,
    });
    tokio::spawn(remove_groups(place.live().take_groups()));
    drop(place);
    // Nobody finds the session any more, so it cannot be switched on again.
    daemon.browsers.off(&facts.id).await;
    let answered = async {
        match ended {
            Ok(over) => {
                let answer = summary(&open, &command, exit_code, over, started);
                connection.answer(&answer).await
            }
            Err(Ending::Stopped) => Ok(()),
            Err(Ending::Lost(error)) => Err(error),
        }
    };
    let ((), answered) = join(recorded, answered).await;
    answered
}

struct Running<'a> {
    daemon: &'a Arc<Daemon>,
    live: Arc<Live>,
    /// Ports that are to be served once its launcher gives the way in.
    ports: Vec<Port>,
    gate: &'a Gate,
    /// The command and its arguments, as text.
    command: &'a str,
    proxy: Option<SessionProxy>,
}

/// How a session ended, as its launcher says.
struct Over {
    /// What ended it, where that was not the command.
    end: Option<SessionEnd>,
    code: Option<i32>,
    used: Option<Used>,
    /// What it did to files, where that was counted.
    changes: Option<Vec<GrantChanges>>,
}

/// How a session ended without its launcher saying so.
enum Ending {
    /// The daemon stops.
    Stopped,
    /// The launcher is gone.
    Lost(ProtocolError),
}

impl Running<'_> {
    /// Until the launcher says that the command ended.
    async fn converse(&mut self, connection: &mut Connection, open: &Open) -> Result<Over, Ending> {
        let mut stopping = self.daemon.stop.subscribe();
        let mut answer = Answer::Opened(Box::new(open.opened.clone()));
        loop {
            connection.answer(&answer).await.map_err(Ending::Lost)?;
            let ask = tokio::select! {
                ask = connection.next() => ask.map_err(Ending::Lost)?,
                _ = stopping.wait_for(|stop| *stop) => return Err(Ending::Stopped),
            };
            answer = match ask {
                Ask::Attach => self.attach(connection.take_descriptors()),
                Ask::Publish => self.publish(connection.take_descriptors()),
                Ask::RefusedDelete { path, why } => {
                    grants::refused_delete(&self.live, path, why).await
                }
                Ask::RefusedSocket { path, why } => {
                    grants::refused_socket(&self.live, path, why).await
                }
                Ask::NotKept { path, written, why } => {
                    grants::not_kept(&self.live, path, written, why).await
                }
                Ask::Deleted { paths } => {
                    ending::record_deleted(&self.live, &paths);
                    Answer::Noted
                }
                Ask::ProtectedPaths { paths } => grants::protected_paths(&self.live, paths).await,
                Ask::ProtectedWrite { path, why } => {
                    grants::protected_write(&self.live, path, why).await
                }
                Ask::Ended {
                    exit_code,
                    end,
                    used,
                    changes,
                } => {
                    return Ok(Over {
                        end,
                        code: exit_code,
                        used,
                        changes,
                    });
                }
                _other => Answer::Failed {
                    message: "a session is open on this connection".into(),
                    help: None,
                },
            };
        }
    }

    /// Serves the session's listeners. Until then nothing in the session reaches anything: the
    /// command starts only after the answer.
    fn attach(&mut self, descriptors: Vec<OwnedFd>) -> Answer {
        let arrived = match self.gate.session().backend {
            Backend::None => unwalled_listeners(descriptors),
            Backend::Bubblewrap | Backend::Container | Backend::Gateway => {
                self.listeners(descriptors)
            }
        };
        let attached = arrived.and_then(|listeners| {
            self.daemon
                .egress
                .attach(self.gate.clone(), listeners)
                .map_err(|error| error.to_string())
        });
        match attached {
            Ok(proxy) if self.proxy.is_none() => {
                self.live.leads_out_by(proxy.caller());
                self.proxy = Some(proxy);
                let event = Event::SessionStarted {
                    session: Arc::clone(self.gate.session()),
                    origin: self.live.origin().clone(),
                };
                // Arguments may hold secrets: the record commits to them, and the side store keeps
                // them until they are redacted.
                let command = Sensitive {
                    pointer: "/command".into(),
                    value: self.command.as_bytes().to_vec(),
                };
                self.gate.tally().happened(&event);
                self.daemon.log.event_later_with(&event, vec![command]);
                Answer::Attached
            }
            Ok(_second) => failed("this session has its listeners already"),
            Err(message) => failed(message),
        }
    }

    fn listeners(&self, descriptors: Vec<OwnedFd>) -> Result<Listeners, String> {
        let arrived =
            network::Listeners::from_fds(descriptors).map_err(|error| error.to_string())?;
        let capture = std::iter::once(arrived.capture_v4).chain(arrived.capture_v6);
        let digests = &self.daemon.digests;
        let callers = arrived.diagnostics.map(|socket| {
            let callers = Arc::new(Callers::new(socket, Arc::clone(digests)));
            self.live.ask_processes_by(Arc::clone(&callers));
            Arc::new(processes::Asked(callers)) as Arc<dyn Processes>
        });
        Ok(Listeners {
            http: arrived.http.into(),
            socks: arrived.socks.into(),
            dns: arrived.dns.into(),
            capture: capture.map(Into::into).collect(),
            processes: callers,
        })
    }

    /// Serves what is published.
    fn publish(&mut self, line: Vec<OwnedFd>) -> Answer {
        let ports = std::mem::take(&mut self.ports);
        match &mut self.proxy {
            None => failed("this session has no listeners yet"),
            Some(proxy) => match publish::serve(proxy, ports, line) {
                Ok(()) => Answer::Noted,
                Err(message) => failed(message),
            },
        }
    }
}

/// Of a session without a network of its own: HTTP, SOCKS5 and a socket for names, on loopback of
/// the host. Nothing is captured.
fn unwalled_listeners(descriptors: Vec<OwnedFd>) -> Result<Listeners, String> {
    let wrong = || "not the listeners of a session without walls".to_owned();
    let arrived: [OwnedFd; 3] = descriptors.try_into().map_err(|_other| wrong())?;
    let [http, socks, dns] = arrived;
    let (http, socks) = (TcpListener::from(http), TcpListener::from(socks));
    let dns = UdpSocket::from(dns);
    let addresses = [http.local_addr(), socks.local_addr(), dns.local_addr()];
    let on_loopback = |address: &io::Result<SocketAddr>| {
        address
            .as_ref()
            .is_ok_and(|address| address.ip().is_loopback())
    };
    if !addresses.iter().all(on_loopback) {
        return Err(wrong());
    }
    Ok(Listeners {
        http,
        socks,
        dns,
        capture: Vec::new(),
        processes: None,
    })
}

fn summary(
    open: &Open,
    command: &str,
    exit_code: Option<i32>,
    over: Over,
    started: Instant,
) -> Answer {
    let mut summary = Summary::counted(&open.gate.session().id, &open.gate.tally().lines());
    summary.command = command.into();
    summary.agent.clone_from(&open.gate.session().agent);
    summary.exit_code = exit_code;
    summary.unwalled = open.gate.session().backend == Backend::None;
    summary.used = over.used;
    summary.policy = policy_words(&open.follower);
    summary.observe = observe_of(&open.follower.current().live);
    summary.name_grants(&open.opened.grants);
    summary.changes = over.changes.unwrap_or_default();
    summary.seconds = started.elapsed().as_secs_f64();
    Answer::Summary(Box::new(summary))
}

/// Removes a session's control group once its last process is gone, which a launcher that was
/// killed cannot, and which the kernel may take a moment for. What is busy all the same is left to
/// the next session.
async fn remove_groups(groups: Vec<PathBuf>) {
    for group in groups {
        for _try in 0..REMOVALS {
            if limits::remove_group(&group).is_ok() {
                break;
            }
            tokio::time::sleep(BETWEEN_REMOVALS).await;
        }
    }
}

/// How often the removal of a control group is tried, and how long between.
const REMOVALS: usize = 50;
const BETWEEN_REMOVALS: Duration = Duration::from_millis(20);

fn failed(message: impl Into<String>) -> Answer {
    Answer::Failed {
        message: message.into(),
        help: None,
    }
}
