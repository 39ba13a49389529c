//! The callers of `cordon gateway`: who fits a claim, and the session that each of them has.
//!
//! A caller's session opens with their first connection, by a decision, and goes on until the
//! gateway ends or policy would not let it start any more. Never serves a connection itself.

mod leaving;
mod reload;

use std::{
    collections::BTreeMap,
    fmt,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, PoisonError},
};

use cordon_audit::{Event, RecordError, SessionEnd, SessionOrigin};
use cordon_policy::{Backend, Operation, SeccompProfile, SessionFacts};
use cordon_proxy::{Caller, Callers, Credentials, Door, DoorSocket, Gateway, Stranger, door_tls};
use cordon_session::{
    Durability, GateError,
    config::{CallerConfig, Claim, GatewayConfig, ListenerConfig},
};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::Mutex;
use tracing::{info, warn};
use uuid::Uuid;

use self::{leaving::Leaving, reload::Reload};
use super::{
    Activation, Daemon,
    live::Live,
    policies::{Brought, Follower},
};
use crate::{control::State, error::Failure};

/// What a gateway is started with, beside the configuration.
#[derive(Debug, Default)]
pub struct GatewayOptions {
    /// Listeners named on the command line.
    pub listeners: Vec<ListenerConfig>,
    /// What `--policy` names.
    pub policy: Vec<PathBuf>,
    /// Who everybody is that no configured caller fits.
    pub everybody: Option<CallerConfig>,
}

/// A gateway that serves.
#[derive(Debug)]
pub struct Serving {
    gateway: Gateway,
    desk: Arc<Desk>,
    strangers: Opened,
    /// Until it is dropped.
    reload: Reload,
    /// Paths of all unix sockets, in their order.
    places: Vec<String>,
    /// Those that were made here.
    sockets: Vec<PathBuf>,
}

/// Where callers are told apart.
struct Desk {
    daemon: Arc<Daemon>,
    config: GatewayConfig,
    everybody: Option<CallerConfig>,
    policy: Vec<PathBuf>,
    /// What that says, as it was read last and could be used.
    brought: std::sync::Mutex<Arc<Brought>>,
    /// SHA-256 of the secrets, by caller.
    secrets: BTreeMap<String, [u8; 32]>,
    open: Mutex<BTreeMap<String, Opened>>,
    /// Those of callers that policy would not let start now.
    leaving: Leaving,
}

/// A caller's session.
#[derive(Clone, Debug)]
struct Opened {
    caller: Caller,
    /// Keeps its policy up to date.
    follower: Arc<Follower>,
}

const COMMAND: &str = "gateway";

/// What the session is called in which refusals of unknown callers are recorded.
const STRANGERS: &str = "unknown";

impl Serving {
    /// Reads secrets and certificates, binds the listeners, then serves.
    ///
    /// # Errors
    /// [`Failure`] says which and what to do; nothing is served then.
    pub(super) async fn start(
        daemon: &Arc<Daemon>,
        config: GatewayConfig,
        options: GatewayOptions,
        activation: &mut Activation,
    ) -> Result<Self, Failure> {
        let listeners: Vec<_> = config.listeners.iter().chain(&options.listeners).collect();
        if listeners.is_empty() {
            return Err(Failure::new("the gateway has no listener").help(
                "say `--http ADDRESS:PORT`, `--socks` or `--mixed`, or name `[[gateway.listeners]]`",
            )
            .usage());
        }
        let mut doors = Vec::new();
        let mut places = Vec::new();
        let mut sockets = Vec::new();
        for listener in listeners {
            sockets.extend(listener.unix.clone());
            let door = door(listener, activation)?;
            if let DoorSocket::Unix(socket) = &door.socket {
                let address = socket.local_addr()?;
                let path = address.as_pathname().unwrap_or(Path::new("unnamed"));
                places.push(path.display().to_string());
            }
            doors.push(door);
        }
        let secrets = secrets(&config.callers)?;
        let brought = Brought::of_paths(&options.policy, None).await?;
        let desk = Arc::new(Desk {
            brought: std::sync::Mutex::new(Arc::new(brought)),
            daemon: Arc::clone(daemon),
            config,
            everybody: options.everybody,
            policy: options.policy,
            secrets,
            open: Mutex::default(),
            leaving: Leaving::default(),
        });
        let strangers = desk.follow(STRANGERS, STRANGERS, &[], None).await?;
        let callers = Arc::clone(&desk);
        let gateway = Gateway::start(doors, callers, &strangers.caller)?;
        for (_name, address) in gateway.addresses() {
            // Never a destination: a caller would reach the proxy as somebody else (N26).
            if let Some(address) = address {
                daemon.egress.protect(*address);
            }
        }
        Ok(Self {
            gateway,
            reload: Reload::start(&desk, &strangers)?,
            desk,
            strangers,
            places,
            sockets,
        })
    }

    /// Where it listens: name, and address or path.
    pub fn listeners(&self) -> Vec<(String, String)> {
        let mut places = self.places.iter();
        let listeners = self.gateway.addresses().iter();
        listeners
            .map(|(name, address)| {
                let place = match address {
                    Some(address) => address.to_string(),
                    None => places.next().cloned().unwrap_or_default(),
                };
                (name.clone(), place)
            })
            .collect()
    }

    /// Lets what goes on end, then ends every session.
    pub(super) async fn end(self) {
        drop(self.reload);
        let open = std::mem::take(&mut *self.desk.open.lock().await);
        let sessions: Vec<Opened> = open.into_values().chain([self.strangers]).collect();
        let leaving = self.desk.leaving.sessions();
        let all = sessions.iter().chain(&leaving);
        let callers = all.map(|open| open.caller.clone()).collect();
        let grace = self.desk.config.drain();
        info!(seconds = grace.as_secs(), "gateway drains");
        if !self.gateway.drain(callers, grace).await {
            warn!("connections were cut off: the time to drain is over");
        }
        for path in &self.sockets {
            // Another gateway may have taken its place already.
            let _gone = std::fs::remove_file(path);
        }
        for open in &sessions {
            open.end(&self.desk.daemon).await;
        }
        // Cut off by now, so they end.
        self.desk.leaving.over().await;
    }
}

impl Desk {
    fn brought(&self) -> Arc<Brought> {
        Arc::clone(&self.lock_brought())
    }

    /// From now on sessions open by this.
    fn bring(&self, brought: Arc<Brought>) {
        *self.lock_brought() = brought;
    }

    fn lock_brought(&self) -> std::sync::MutexGuard<'_, Arc<Brought>> {
        self.brought.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The caller that fits, in the order of the configuration.
    fn find<'a>(
        &'a self,
        claim: &Claim,
        credentials: Option<&Credentials>,
    ) -> Result<&'a CallerConfig, Stranger> {
        let offered: Option<[u8; 32]> =
            credentials.map(|credentials| Sha256::digest(&credentials.secret).into());
        let mut asks = false;
        for caller in self.config.fitting(claim) {
            let Some(username) = &caller.username else {
                if asks && credentials.is_some() {
                    break;
                }
                return Ok(caller);
            };
            asks = true;
            if let (Some(credentials), Some(offered)) = (credentials, &offered) {
                let known = self.secrets.get(&caller.name);
                // Compared in constant time, and by digest, so that lengths are equal (N18).
                let right = known.is_some_and(|known| known.ct_eq(offered).into());
                if right && *username == credentials.username {
                    return Ok(caller);
                }
            }
        }
        match (&self.everybody, asks, credentials) {
            (_, true, Some(_)) => Err(Stranger::WrongCredentials),
            (Some(everybody), _, _) => Ok(everybody),
            (None, true, None) => Err(Stranger::NoCredentials),
            (None, false, _) => Err(Stranger::Unknown),
        }
    }

    /// The caller's session, opened if need be, or again where policy would not let it start now.
    async fn session(&self, caller: &CallerConfig) -> Result<Caller, Stranger> {
        let start = || Operation::StartSession {
            command: COMMAND.into(),
            profile: SeccompProfile::Default,
        };
        let mut open = self.open.lock().await;
        if let Some(found) = open.get(&caller.name) {
            if found.caller.gate().review(start()).is_ok() {
                return Ok(found.caller.clone());
            }
            found.caller.drain();
            if let Some(left) = open.remove(&caller.name) {
                self.leaving.add(&self.daemon, left);
            }
        }
        let agent = caller.agent.as_deref();
        let followed = self.follow(caller.user(), &caller.name, &caller.groups, agent);
        let opened = followed.await.map_err(|error| {
            warn!(caller = %caller.name, %error, "no session for a caller");
            Stranger::Refused(GateError::NotRecorded(RecordError {
                message: "the policy is not usable".into(),
            }))
        })?;
        let gate = opened.caller.gate();
        // Spent by the session that starts.
        if let Err(error) = gate.admit(start(), Durability::Synced).await {
            opened.forget(&self.daemon).await;
            return Err(Stranger::Refused(error));
        }
        let session = Arc::clone(gate.session());
        info!(caller = %caller.name, session = %session.id, "session of a caller opened");
        gate.event_later(Event::SessionStarted {
            session,
            origin: SessionOrigin::default(),
        });
        open.insert(caller.name.clone(), opened.clone());
        Ok(opened.caller)
    }

    async fn follow(
        &self,
        user: &str,
        name: &str,
        groups: &[String],
        agent: Option<&str>,
    ) -> Result<Opened, Failure> {
        let facts = Arc::new(SessionFacts {
            id: Uuid::now_v7().to_string(),
            user: user.into(),
            groups: groups.to_vec(),
            agent: agent.map(Into::into),
            platform: std::env::consts::OS.into(),
            backend: Backend::Gateway,
        });
        let follower = self
            .daemon
            .policies
            .follow_by(Arc::clone(&facts), self.brought())
            .await?;
        let live = Live::new(
            Arc::clone(&follower),
            &format!("{COMMAND}: {}", if name.is_empty() { user } else { name }),
            0,
            String::new(),
            Vec::new(),
        );
        live.enter(State::Running);
        self.daemon.ask_people(live.gate(), &[]);
        self.daemon.registry.stay(Arc::new(live));
        let caller = Caller::new(&self.daemon.egress, follower.gate().clone());
        Ok(Opened { caller, follower })
    }
}

impl Opened {
    /// It is over, and that is on record.
    async fn end(&self, daemon: &Daemon) {
        self.forget(daemon).await;
        let gate = self.caller.gate();
        let ended = Event::SessionEnded {
            session: Arc::clone(gate.session()),
            end: SessionEnd::Stopped,
            exit_code: None,
            totals: Some(Box::new(gate.tally().totals())),
        };
        if let Err(error) = gate.event(ended).await {
            warn!(%error, "the end of a caller's session was not recorded");
        }
    }

    /// Nobody is asked about it any more, and it is listed no longer.
    async fn forget(&self, daemon: &Daemon) {
        let id = &self.caller.gate().session().id;
        daemon.approvals.leave(id).await;
        daemon.registry.leave(id);
    }
}

impl Callers for Desk {
    fn asks(&self, claim: &Claim) -> bool {
        let first = self.config.fitting(claim).next();
        first.is_some_and(|caller| caller.username.is_some())
    }

    fn identify<'a>(
        &'a self,
        claim: &'a Claim,
        credentials: Option<&'a Credentials>,
    ) -> Pin<Box<dyn Future<Output = Result<Caller, Stranger>> + Send + 'a>> {
        Box::pin(async move { self.session(self.find(claim, credentials)?).await })
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

fn door(listener: &ListenerConfig, activation: &mut Activation) -> Result<Door, Failure> {
    let tls = match (&listener.certificate, &listener.key) {
        (Some(certificate), Some(key)) => Some(door_tls(
            certificate,
            key,
            listener.client_ca.as_deref(),
            &[],
        )?),
        _ => None,
    };
    let socket = match (&listener.address, &listener.unix, &listener.systemd) {
        (.., Some(name)) => passed(listener, name, activation)?,
        (Some(address), ..) => {
            let bound = std::net::TcpListener::bind(address);
            DoorSocket::Tcp(bound.map_err(|error| not_bound(&listener.name, address, &error))?)
        }
        (None, Some(path), _) => {
            let bound = bind_unix(path);
            DoorSocket::Unix(
                bound.map_err(|error| not_bound(&listener.name, &path.display(), &error))?,
            )
        }
        (None, None, None) => return Err(Failure::new("a listener without an address")),
    };
    Ok(Door {
        name: listener.name.clone(),
        socket,
        speaks: listener.speaks,
        tls,
        proxy_protocol_from: listener.proxy_protocol_from.clone(),
    })
}

/// A socket that systemd listens on for us. Not ours to remove.
fn passed(
    listener: &ListenerConfig,
    name: &str,
    activation: &mut Activation,
) -> Result<DoorSocket, Failure> {
    let own = &listener.name;
    let socket = activation.named(name).ok_or_else(|| {
        Failure::new(format!(
            "listener `{own}`: systemd passed no socket `{name}`"
        ))
        .help(format!(
            "start the gateway by a socket unit with `FileDescriptorName={name}`"
        ))
    })?;
    let only_tcp = listener.certificate.is_some() || !listener.proxy_protocol_from.is_empty();
    if only_tcp && matches!(socket, DoorSocket::Unix(_)) {
        return Err(Failure::new(format!(
            "listener `{own}` is a unix socket: it takes no TLS and no PROXY protocol"
        ))
        .help("take `certificate`, `key` and `proxy_protocol_from` away, or listen on TCP"));
    }
    Ok(socket)
}

fn not_bound(name: &str, place: &dyn fmt::Display, error: &std::io::Error) -> Failure {
    Failure::new(format!("listener `{name}` not bound to `{place}`: {error}"))
        .help("name an address of this machine and a port that nobody uses; port 0 takes any")
}

/// In place of a socket that a killed gateway left; never in place of anything else.
fn bind_unix(path: &Path) -> std::io::Result<std::os::unix::net::UnixListener> {
    if let Ok(left) = path.symlink_metadata()
        && left.file_type().is_socket()
    {
        std::fs::remove_file(path)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Reads the callers' secrets; what is kept is only good for comparing.
fn secrets(callers: &[CallerConfig]) -> Result<BTreeMap<String, [u8; 32]>, Failure> {
    const LONGEST: u64 = 4096;
    let mut secrets = BTreeMap::new();
    for caller in callers {
        let Some(path) = &caller.secret_file else {
            continue;
        };
        let fail = |why: String| {
            Failure::new(format!(
                "secret of caller `{}`: `{}`: {why}",
                caller.name,
                path.display()
            ))
            .help("a file with one line that others may not read: `chmod o= FILE`")
        };
        let meta = path.metadata().map_err(|error| fail(error.to_string()))?;
        if meta.mode() & 0o007 != 0 {
            return Err(fail("others may read it".into()));
        }
        if !meta.is_file() || meta.len() > LONGEST {
            return Err(fail(format!("not a file of at most {LONGEST} bytes")));
        }
        let secret = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
        let secret = secret.strip_suffix(b"\n").unwrap_or(&secret);
        let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
        if secret.is_empty() {
            return Err(fail("it is empty".into()));
        }
        secrets.insert(caller.name.clone(), Sha256::digest(secret).into());
    }
    Ok(secrets)
}
