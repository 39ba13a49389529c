//! The system's resolver, read again when its configuration changes.

use std::{
    io,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Instant, SystemTime},
};

use cordon_policy::NormalizedHost;
use hickory_resolver::{TokioResolver, config::LookupIpStrategy, proto::rr::Name};

use crate::limits;

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Looks names up as the system is configured to. Follows changes of that configuration: a
/// laptop changes networks while a session runs.
pub(crate) struct Resolver(Mutex<Loaded>);

struct Loaded {
    /// `Err` says in words why there is none; every lookup then fails with it.
    resolver: Result<TokioResolver, String>,
    version: Option<SystemTime>,
    checked: Instant,
}

impl Resolver {
    /// Reads the system's configuration. Without a usable one every lookup fails and says so.
    pub(crate) fn system() -> Self {
        Self(Mutex::new(Loaded::read(version())))
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
            .map_err(io::Error::other)?;
        Ok(answer.iter().collect())
    }

    fn current(&self) -> Result<TokioResolver, String> {
        let mut loaded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
        let resolver = build().map_err(|error| {
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

fn build() -> Result<TokioResolver, hickory_resolver::net::NetError> {
    let mut builder = TokioResolver::builder_tokio()?;
    builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    builder.build()
}

fn version() -> Option<SystemTime> {
    std::fs::metadata(RESOLV_CONF).ok()?.modified().ok()
}
