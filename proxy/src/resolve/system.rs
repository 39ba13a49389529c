//! Asks nameservers: those of the configuration, else the system's, which are read again when
//! they change.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::{Instant, SystemTime},
};

use cordon_policy::NormalizedHost;
use cordon_session::ResolveConfig;
use hickory_resolver::{
    ResolverBuilder, TokioResolver,
    config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::Name,
};

use crate::limits;

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Looks names up. Where the system's nameservers are used, it follows their changes: a laptop
/// changes networks while a session runs.
pub(crate) struct Resolver(Source);

enum Source {
    Fixed(TokioResolver),
    System(Mutex<Loaded>),
}

struct Loaded {
    /// `Err` says in words why there is none; every lookup then fails with it.
    resolver: Result<TokioResolver, String>,
    version: Option<SystemTime>,
    checked: Instant,
}

impl Resolver {
    /// Reads what there is to read; asks nobody. Without usable nameservers on the system every
    /// lookup fails and says so.
    ///
    /// # Errors
    /// When the configured nameservers cannot be used.
    pub(crate) fn new(config: &ResolveConfig) -> Result<Self, NetError> {
        let source = if config.nameservers.is_empty() {
            Source::System(Mutex::new(Loaded::read(version())))
        } else {
            Source::Fixed(fixed(&config.nameservers)?)
        };
        Ok(Self(source))
    }

    /// All addresses of `name`, IPv4 and IPv6.
    ///
    /// # Errors
    /// When the name has none, or nobody answered within [`limits::RESOLVE_DEADLINE`].
    pub(crate) async fn look_up(&self, name: &NormalizedHost) -> io::Result<Vec<IpAddr>> {
        let resolver = self.current().map_err(io::Error::other)?;
        let mut query = Name::from_ascii(name.as_str()).map_err(io::Error::other)?;
        // Rooted: a search list would turn the name that was decided into another one (N06).
        query.set_fqdn(true);
        let answer = tokio::time::timeout(limits::RESOLVE_DEADLINE, resolver.lookup_ip(query))
            .await
            .map_err(|_elapsed| {
                let seconds = limits::RESOLVE_DEADLINE.as_secs();
                io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no answer within {seconds} s"),
                )
            })?
            .map_err(|error| {
                if error.is_no_records_found() {
                    io::Error::new(
                        io::ErrorKind::NotFound,
                        "no such name, or it has no address",
                    )
                } else {
                    io::Error::other(error)
                }
            })?;
        Ok(answer.iter().collect())
    }

    fn current(&self) -> Result<TokioResolver, String> {
        let loaded = match &self.0 {
            Source::Fixed(resolver) => return Ok(resolver.clone()),
            Source::System(loaded) => loaded,
        };
        let mut loaded = loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.checked.elapsed() >= limits::RESOLV_CONF_CHECK {
            let now = version();
            if now == loaded.version {
                loaded.checked = Instant::now();
            } else {
                tracing::info!("resolver configuration changed, read again");
                *loaded = Loaded::read(now);
            }
        }
        loaded.resolver.clone()
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

impl Loaded {
    fn read(version: Option<SystemTime>) -> Self {
        let resolver = system().map_err(|error| {
            tracing::warn!(%error, "no resolver: only overrides and literal addresses work");
            format!("`{RESOLV_CONF}` names no usable resolver: {error}")
        });
        Self {
            resolver,
            version,
            checked: Instant::now(),
        }
    }
}

fn system() -> Result<TokioResolver, NetError> {
    build(TokioResolver::builder_tokio()?)
}

fn fixed(nameservers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let servers = nameservers.iter().map(|server| {
        let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
        for connection in &mut connections {
            connection.port = server.port();
        }
        NameServerConfig::new(server.ip(), true, connections)
    });
    let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
    build(TokioResolver::builder_with_config(
        config,
        TokioRuntimeProvider::default(),
    ))
}

fn build(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> Result<TokioResolver, NetError> {
    builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    builder.build()
}

fn version() -> Option<SystemTime> {
    std::fs::metadata(RESOLV_CONF).ok()?.modified().ok()
}
