//! The callers of `cordon gateway`: who fits a claim, and the session that each of them has.
//!
//! A caller's session opens with their first connection, by a decision, and goes on until the
//! gateway ends or policy would not let it start any more. Never serves a connection itself.

mod leaving;
mod openings;
mod reload;
mod sessions;

use std::{
    collections::BTreeMap,
    fmt,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
};

use cordon_proxy::{Caller, Callers, Credentials, Door, DoorSocket, Gateway, Stranger, door_tls};
use cordon_session::config::{CallerConfig, Claim, GatewayConfig, ListenerConfig};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tracing::{info, warn};

use self::{
    leaving::Leaving,
    openings::{NotOpened, Openings},
    reload::Reload,
    sessions::{Opened, Opener},
};
use super::{Activation, Daemon, policies::Brought};
use crate::error::Failure;

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
    opener: Arc<Opener>,
    /// SHA-256 of the secrets, by caller.
    secrets: BTreeMap<String, [u8; 32]>,
    /// The sessions, by the names of their callers.
    open: Openings<Opened>,
    /// Those of callers that policy would not let start now.
    leaving: Leaving,
}

/// What the session is called in which refusals of unknown callers are recorded.
const STRANGERS: &str = "unknown";

const ENDS: &str = "the gateway ends and opens no session any more";

const BROKEN: &str = "your session could not be opened; the log of the gateway says why";

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
        let opener = Arc::new(Opener::new(daemon, brought));
        let strangers = opener.follow(STRANGERS, STRANGERS, &[], None).await?;
        let callers = config.callers.iter().chain(&options.everybody);
        let desk = Arc::new(Desk {
            open: Openings::new(callers.map(|caller| caller.name.clone())),
            daemon: Arc::clone(daemon),
            config,
            everybody: options.everybody,
            policy: options.policy,
            opener,
            secrets,
            leaving: Leaving::default(),
        });
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
        // Before anybody is drained: who comes now, by a connection that is accepted already, would
        // open a session that nobody ends.
        let open = self.desk.open.close().await;
        let sessions: Vec<Opened> = open.into_iter().chain([self.strangers]).collect();
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
        let turn = self.open.turn(&caller.name).await;
        // Each that is found by its configuration has one.
        let turn = turn.ok_or(Stranger::Unknown)?;
        if let Some(found) = turn.found() {
            if found.may_start() {
                return Ok(found.caller);
            }
            found.caller.drain();
            turn.give(|left| self.leaving.add(&self.daemon, left));
        }
        let opening = Arc::clone(&self.opener).open(caller.clone());
        let opened = turn.open(opening).await;
        opened.map(|opened| opened.caller).map_err(|why| match why {
            NotOpened::Refused(stranger) => stranger,
            NotOpened::Closed => Stranger::Unavailable(ENDS),
            NotOpened::Broken => Stranger::Unavailable(BROKEN),
        })
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
