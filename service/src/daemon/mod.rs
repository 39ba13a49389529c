//! The daemon: owns the state directory, the log and the egress, and hosts sessions.

mod activation;
mod api;
mod approvals;
mod browser;
mod connectors;
mod conversation;
mod described;
mod ending;
mod exec;
mod extensions;
mod gateway;
mod grants;
mod hooks;
mod hosted;
mod late;
mod launch;
mod life;
mod live;
mod mcp;
mod metrics;
mod open;
mod orders;
mod originals;
mod output;
mod policies;
mod processes;
mod publish;
mod registry;
mod remote;
mod retention;
mod session;
mod store;
mod switches;
mod telemetry;
mod withdraw;

use std::{
    collections::BTreeSet, fs::File, io, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc,
    time::Duration,
};

use cordon_audit::{Event, Log};
use cordon_policy::Wall;
use cordon_proxy::{Egress, known_secrets};
use cordon_runtime::extension::Trust;
use cordon_sandbox::callers::Digests;
use cordon_session::{
    Config,
    approvals::Approvals,
    config::{ApiLimits, ApprovalsConfig, GatewayConfig, OriginalsConfig, SandboxLimits},
    grants::Protected,
};
use cordon_sinks::{Places, Sinks, SinksMonitor, Traces};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use tokio::{net::UnixListener, sync::watch, task::JoinSet, time::Instant};
use tracing::{info, warn};

use crate::{control::Connection, error::Failure, paths::Paths, user::User};
pub use activation::Activation;
pub use gateway::GatewayOptions;
pub use mcp::server_name;
pub use policies::is_pack;
use policies::{Policies, watch_policies};
use registry::Registry;

/// What every conversation of the daemon shares.
#[derive(Debug)]
struct Daemon {
    paths: Paths,
    extra_ca: Option<String>,
    user: User,
    log: Log,
    egress: Arc<Egress>,
    policies: Arc<Policies>,
    registry: Registry,
    hosted: hosted::Hosted,
    /// Launchers that the API started.
    launches: launch::Launches,
    connectors: connectors::Connectors,
    browsers: browser::Browsers,
    remotes: remote::Remotes,
    /// What people are asked, and have answered.
    approvals: Arc<Approvals>,
    approvals_config: ApprovalsConfig,
    /// Calls that are done once, however often they are sent.
    repeated: Arc<api::Repeated>,
    mcp: mcp::Servers,
    extensions: extensions::Extensions,
    /// How other machines know the API, where the configuration says.
    api_url: Option<String>,
    /// Sessions of agents that ask by a hook: theirs with their policy, and ours.
    hook_sessions: tokio::sync::Mutex<hooks::Hooks>,
    sinks: SinksMonitor,
    drain: Duration,
    limits: SandboxLimits,
    /// Walls without which no session with walls starts.
    walls: BTreeSet<Wall>,
    originals: OriginalsConfig,
    /// Of programs that connected, whosever session it was.
    digests: Arc<Digests>,
    stop: watch::Sender<bool>,
    /// Whether what a killed daemon held goes on.
    restored: watch::Sender<bool>,
}

/// A daemon whose log is open and whose socket is bound, not yet serving.
#[derive(Debug)]
pub struct Bound {
    daemon: Arc<Daemon>,
    listener: UnixListener,
    api: UnixListener,
    own_sockets: OwnSockets,
    /// What systemd passed and is not taken yet.
    activation: Activation,
    remote: Option<api::Remote>,
    api_limits: ApiLimits,
    idle_exit: Option<Duration>,
    retention: retention::Pruner,
    policy_tasks: policies::Tasks,
    metrics: Option<metrics::Endpoint>,
    sinks: Sinks,
    traces: Option<Traces>,
    gateway_config: GatewayConfig,
    gateway: Option<gateway::Serving>,
    _lock: File,
}

impl Bound {
    /// Opens the log (and with it takes the lock that makes this the only daemon), then binds the
    /// control socket.
    ///
    /// # Errors
    /// [`Failure`] says which step failed and what to do.
    pub async fn new(
        paths: Paths,
        leave_when_idle: bool,
        mut activation: Activation,
    ) -> Result<Self, Failure> {
        paths.make()?;
        let files = paths.config_files();
        let config = Config::load(&files)?;
        let traces = telemetry::start(&config.telemetry)?;
        let extra_ca = read_certificates(&config)?;
        let lock = alone(&paths, config.service.drain()).await?;
        described::clean(&paths.sessions());
        cordon_sandbox::limits::clean_groups();
        let mut options = config.log_options().map_err(Failure::new)?;
        options
            .secrets
            .extend(known_secrets(&config.credentials).await);
        let log = Log::open(&paths.log(), options)?;
        log.event(Event::ServiceStarted).await?;
        let retention = retention::Pruner::start(&log, config.log.retention());
        let egress = Arc::new(Egress::new(&config)?);
        let user = User::current()?;
        let policies = Arc::new(Policies::new(
            config.policy.clone(),
            &paths.policies(),
            user.clone(),
            log.clone(),
            extra_ca.as_deref(),
        )?);
        let places = Places {
            log: paths.log(),
            state: paths.state.join("sinks"),
        };
        let sinks = Sinks::start(&places, &config.sinks, &config.log.checkpoints)?;
        let stop = watch::channel(false).0;
        let policy_tasks = watch_policies(&policies, &stop).await;
        let idle_exit = leave_when_idle.then(|| config.service.idle_exit());
        let metrics = match config.metrics.listen {
            None => None,
            Some(address) => {
                let (endpoint, address) = metrics::Endpoint::bind(address).await?;
                egress.protect(address);
                Some(endpoint)
            }
        };
        let mut own_sockets = OwnSockets::default();
        let listener = match activation.at(&paths.socket())? {
            Some(passed) => passed,
            None => own_sockets.made(paths.socket(), bind(&paths)?),
        };
        let api = match activation.at(&paths.api_socket())? {
            Some(passed) => passed,
            None => own_sockets.made(paths.api_socket(), api::bind(&paths.api_socket())?),
        };
        let remote = api::Remote::bind(&config.api).await?;
        if let Some(remote) = &remote {
            egress.protect(remote.address()?);
        }
        let approvals = Arc::new(Approvals::new(log.clone(), config.approvals.deadline()));
        let hook_sessions = tokio::sync::Mutex::new(hooks::Hooks::new(paths.ended_hooks()));
        let mcp_folder = paths.mcp();
        let extensions = extensions::Extensions::new(
            paths.extensions(),
            paths.extension_content(),
            read_publishers(&config)?,
        );
        let daemon = Daemon {
            user,
            paths,
            extra_ca,
            log,
            egress,
            policies,
            registry: Registry::default(),
            hosted: hosted::Hosted::default(),
            launches: launch::Launches::default(),
            connectors: connectors::Connectors::new(config.connectors),
            browsers: browser::Browsers::default(),
            remotes: remote::Remotes::default(),
            approvals,
            approvals_config: config.approvals,
            repeated: Arc::default(),
            mcp: mcp::Servers::new(mcp_folder, config.mcp),
            extensions,
            api_url: config.api.url,
            hook_sessions,
            sinks: sinks.monitor(),
            drain: config.service.drain(),
            limits: config.sandbox.limits,
            walls: config.sandbox.walls,
            originals: config.sandbox.originals,
            digests: Arc::default(),
            stop,
            restored: watch::Sender::new(false),
        };
        Ok(Self {
            daemon: Arc::new(daemon),
            listener,
            api,
            own_sockets,
            activation,
            remote,
            api_limits: config.api.limits,
            idle_exit,
            retention,
            policy_tasks,
            metrics,
            sinks,
            traces,
            gateway_config: config.gateway,
            gateway: None,
            _lock: lock,
        })
    }

    /// The gateway of the configuration.
    pub fn gateway_config(&self) -> &GatewayConfig {
        &self.gateway_config
    }

    /// Opens a gateway, to be served with everything else; gives its listeners by name and place.
    ///
    /// # Errors
    /// [`Failure`] says what is missing.
    pub async fn open_gateway(
        &mut self,
        options: GatewayOptions,
    ) -> Result<Vec<(String, String)>, Failure> {
        let config = self.gateway_config.clone();
        let serving =
            gateway::Serving::start(&self.daemon, config, options, &mut self.activation).await?;
        Ok(self.gateway.insert(serving).listeners())
    }

    /// Serves until `shutdown` resolves, someone asks it to stop, or it has been idle for long
    /// enough. Ends what still runs and closes the log last.
    ///
    /// # Errors
    /// When the log cannot take the last record.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), Failure> {
        let Self {
            daemon,
            listener,
            api,
            own_sockets,
            activation,
            remote,
            api_limits,
            idle_exit,
            retention,
            mut policy_tasks,
            metrics,
            sinks,
            traces,
            gateway_config: _,
            gateway,
            _lock,
        } = self;
        activation.all_taken()?;
        let scrapes = metrics.map(|endpoint| {
            let mut stop = daemon.stop.subscribe();
            let stopped = async move {
                let _stopped = stop.wait_for(|stop| *stop).await;
            };
            tokio::spawn(endpoint.serve(Arc::clone(&daemon), stopped))
        });
        // Before anybody can ask about them; whoever greets is greeted meanwhile.
        let restoring = tokio::spawn({
            let daemon = Arc::clone(&daemon);
            async move {
                hosted::restore(&daemon).await;
                daemon.restored.send_replace(true);
            }
        });
        let api = tokio::spawn({
            let (daemon, stop) = (Arc::clone(&daemon), daemon.stop.subscribe());
            async move {
                daemon.restored().await;
                api::serve(daemon, api, remote, api_limits, stop).await;
            }
        });
        let asking = tokio::spawn({
            let daemon = Arc::clone(&daemon);
            async move {
                daemon.restored().await;
                approvals::tend(daemon).await;
            }
        });
        let tidying = tokio::spawn(originals::tend(Arc::clone(&daemon)));
        let mut conversations = JoinSet::new();
        let mut stopped = daemon.stop.subscribe();
        let mut last_busy = Instant::now();
        tokio::pin!(shutdown);
        loop {
            let busy = !conversations.is_empty() || daemon.hosted.len() > 0;
            if busy {
                last_busy = Instant::now();
            }
            let idle_at = idle_exit.map(|idle| last_busy + idle);
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => match Connection::new(stream) {
                        Ok(connection) => {
                            conversations
                                .spawn(conversation::converse(Arc::clone(&daemon), connection));
                        }
                        Err(error) => warn!(%error, "connection refused"),
                    },
                    Err(error) => warn!(%error, "accept failed"),
                },
                Some(_ended) = conversations.join_next() => {}
                () = &mut shutdown => break,
                _ = stopped.wait_for(|stop| *stop) => break,
                () = sleep_until(idle_at) => {
                    if !conversations.is_empty() || daemon.hosted.len() > 0 {
                        continue;
                    }
                    info!("no sessions for a while, leaving");
                    break;
                }
            }
        }
        // The socket goes first, so that a launcher that comes now starts a new daemon.
        drop(listener);
        drop(own_sockets);
        if let Some(gateway) = gateway {
            gateway.end().await;
        }
        daemon.stop.send_replace(true);
        while conversations.join_next().await.is_some() {}
        // Panics in them were reported already.
        let _ended = restoring.await;
        daemon.restored.send_replace(true);
        let _ended = api.await;
        api::tell_left_out(&daemon).await;
        hosted::end_all(&daemon).await;
        for task in [asking, tidying] {
            task.abort();
            let _cancelled = task.await;
        }
        if let Some(scrapes) = scrapes {
            // It ends by the same word; a panic in it was reported already.
            let _ended = scrapes.await;
        }
        retention.stop().await;
        while policy_tasks.join_next().await.is_some() {}
        daemon.log.event(Event::ServiceStopped).await?;
        daemon.log.close();
        if let Some(traces) = traces {
            traces.stop(SINKS_GRACE).await;
        }
        // Last, so that the checkpoint over the last record leaves the host too.
        sinks.stop(SINKS_GRACE).await;
        Ok(())
    }
}

/// Sockets that were bound here, removed when this is dropped; one of systemd's stays.
#[derive(Debug, Default)]
struct OwnSockets(Vec<PathBuf>);

impl OwnSockets {
    fn made(&mut self, path: PathBuf, listener: UnixListener) -> UnixListener {
        self.0.push(path);
        listener
    }
}

impl Drop for OwnSockets {
    fn drop(&mut self) {
        for path in &self.0 {
            let _gone = std::fs::remove_file(path);
        }
    }
}

/// Waits for a daemon that is about to leave.
async fn alone(paths: &Paths, drain: Duration) -> Result<File, Failure> {
    let ours = paths.clone();
    let lock = tokio::task::spawn_blocking(move || ours.lock_daemon());
    match tokio::time::timeout(LEAVING + drain, lock).await {
        Ok(lock) => Ok(lock??),
        Err(_late) => Err(Failure::new(format!(
            "another daemon still runs with `{}`",
            paths.state.display()
        ))
        .help("end it with `cordon stop --force`")),
    }
}

/// How long the sinks may take to end.
const SINKS_GRACE: Duration = Duration::from_secs(3);

/// How long a daemon may take to leave once its flows are drained: its sessions end, its log is
/// closed.
const LEAVING: Duration = Duration::from_secs(15);

/// Binds the control socket, 0600 in a 0700 directory. Whoever holds the log's lock may remove a
/// socket that a killed daemon left.
fn bind(paths: &Paths) -> io::Result<UnixListener> {
    let socket = paths.socket();
    match std::fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _gone => {}
    }
    let listener = UnixListener::bind(&socket)?;
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Certificates that sessions trust beside the system's, read once: a session never sees a file
/// that is not a certificate because somebody swapped it.
fn read_certificates(config: &Config) -> Result<Option<String>, Failure> {
    let mut pem = String::new();
    for path in &config.tls.extra_ca_certificates {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::new(format!(
                "certificate `{}` not read: {error}",
                path.display()
            ))
            .help("correct `extra_ca_certificates` in `cordon.toml`")
        })?;
        if !text.contains("-----BEGIN CERTIFICATE-----") || text.contains("PRIVATE KEY") {
            return Err(Failure::new(format!(
                "`{}` is not a file of PEM certificates alone",
                path.display()
            ))
            .help("`extra_ca_certificates` takes certificates, never keys"));
        }
        pem.push_str(text.trim_end());
        pem.push('\n');
    }
    Ok((!pem.is_empty()).then_some(pem))
}

/// Whose signatures of extensions are trusted, read once.
fn read_publishers(config: &Config) -> Result<Trust, Failure> {
    let mut publishers = Vec::new();
    for (name, publisher) in &config.extensions.publishers {
        for path in &publisher.certificates {
            let unusable = |why: String| {
                Failure::new(format!("certificate `{}` not read: {why}", path.display())).help(
                    format!("correct `extensions.publishers.{name}` in `cordon.toml`"),
                )
            };
            let text = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
            let before = publishers.len();
            for certificate in CertificateDer::pem_slice_iter(&text) {
                let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
                publishers.push((name.clone(), certificate.to_vec()));
            }
            if publishers.len() == before {
                return Err(unusable("there is no certificate in it".into()));
            }
        }
    }
    Ok(Trust { publishers })
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Daemon {
    /// Resolves once all that a killed daemon held goes on.
    async fn restored(&self) {
        let mut restored = self.restored.subscribe();
        // The sender is ours, so it is still there.
        let _gone = restored.wait_for(|restored| *restored).await;
    }

    /// What this user's sessions may never be granted.
    fn protected(&self, home: &std::path::Path) -> Protected {
        let homes: Vec<&std::path::Path> = self
            .user
            .home
            .as_deref()
            .into_iter()
            .chain([home])
            .collect();
        Protected::new(&homes, &self.paths.own())
    }
}
