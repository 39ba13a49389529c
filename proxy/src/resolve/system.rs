//! Asks nameservers: those of the configuration (for all names or for a domain), else the
//! system's, which are read again when they change.

use std::{
    io,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use cordon_policy::NormalizedHost;
use cordon_session::{
    ResolveConfig,
    config::{DnsTransport, Nameserver},
};
use hickory_resolver::{
    ResolverBuilder, TokioResolver,
    config::{
        ConnectionConfig, LookupIpStrategy, NameServerConfig, ProtocolConfig, ResolverConfig,
    },
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::{Name, RData, Record},
};
use rustls::ClientConfig;

use crate::{limits, roots::Roots};

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Looks names up. Where the system's nameservers are used, it follows their changes: a laptop
/// changes networks while a session runs.
pub(crate) struct Resolver {
    common: Source,
    /// Domains with nameservers of their own, the longest first.
    split: Vec<(String, TokioResolver)>,
}

/// What a name leads to.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Its addresses, IPv4 and IPv6.
    pub(crate) addresses: Vec<IpAddr>,
    /// The names that its aliases (CNAME) lead to, in their order.
    pub(crate) names: Vec<NormalizedHost>,
}

enum Source {
    Fixed(TokioResolver),
    System(Mutex<Loaded>, Cache),
}

struct Loaded {
    /// `Err` says in words why there is none; every lookup then fails with it.
    resolver: Result<TokioResolver, String>,
    version: Option<SystemTime>,
    checked: Instant,
}

/// How long answers are kept, and of how many names.
#[derive(Clone, Copy)]
struct Cache {
    entries: u64,
    ttl: Duration,
    negative_ttl: Duration,
}

impl Resolver {
    /// Reads what there is to read; asks nobody. Without usable nameservers on the system every
    /// lookup fails and says so.
    ///
    /// # Errors
    /// When the configured nameservers cannot be used.
    pub(crate) fn new(config: &ResolveConfig, roots: &Roots) -> Result<Self, NetError> {
        let cache = Cache::new(config);
        let common = if config.nameservers.is_empty() {
            Source::System(Mutex::new(Loaded::read(version(), cache)), cache)
        } else {
            Source::Fixed(fixed(&config.nameservers, roots, cache)?)
        };
        let mut split = Vec::with_capacity(config.split.len());
        for entry in &config.split {
            let resolver = fixed(&entry.nameservers, roots, cache)?;
            split.push((entry.domain.clone(), resolver));
        }
        split.sort_by_key(|(domain, _)| std::cmp::Reverse(domain.len()));
        Ok(Self { common, split })
    }

    /// Where `name` leads to.
    ///
    /// # Errors
    /// `NotFound` when it has no address, `TimedOut` when nobody answered within `deadline`, any
    /// other kind when asking failed or the answer makes no sense.
    pub(crate) async fn look_up(
        &self,
        name: &NormalizedHost,
        deadline: Duration,
    ) -> io::Result<Found> {
        let resolver = self.resolver_for(name).map_err(io::Error::other)?;
        let mut query = Name::from_ascii(name.as_str()).map_err(io::Error::other)?;
        // Rooted: a search list would turn the name that was decided into another one (N06).
        query.set_fqdn(true);
        let answer = tokio::time::timeout(deadline, resolver.lookup_ip(query.clone()))
            .await
            .map_err(|_elapsed| {
                let seconds = deadline.as_secs_f64();
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
        Ok(Found {
            addresses: answer.iter().collect(),
            names: aliases(query, answer.as_lookup().answers())?,
        })
    }

    /// The nameservers of the longest domain that covers `name`, else the common ones.
    fn resolver_for(&self, name: &NormalizedHost) -> Result<TokioResolver, String> {
        let covers = |domain: &str| {
            name.as_str()
                .strip_suffix(domain)
                .is_some_and(|below| below.is_empty() || below.ends_with('.'))
        };
        if let Some((_, resolver)) = self.split.iter().find(|(domain, _)| covers(domain)) {
            return Ok(resolver.clone());
        }
        match &self.common {
            Source::Fixed(resolver) => Ok(resolver.clone()),
            Source::System(loaded, cache) => current(loaded, *cache),
        }
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

/// The chain of aliases that begins at `name`, followed record by record: what stands beside it
/// in an answer is not of this name.
fn aliases(name: Name, records: &[Record]) -> io::Result<Vec<NormalizedHost>> {
    let mut chain = Vec::new();
    let mut at = name;
    while let Some(target) = records.iter().find_map(|record| match &record.data {
        RData::CNAME(target) if record.name == at => Some(&target.0),
        _ => None,
    }) {
        if chain.len() >= limits::ALIASES {
            let most = limits::ALIASES;
            return Err(io::Error::other(format!("over {most} aliases in a row")));
        }
        let host = target.to_ascii().parse().map_err(|error| {
            io::Error::other(format!("an alias leads to what is no host name: {error}"))
        })?;
        chain.push(host);
        at = target.clone();
    }
    Ok(chain)
}

/// The system's resolver as it is now.
fn current(loaded: &Mutex<Loaded>, cache: Cache) -> Result<TokioResolver, String> {
    let mut loaded = loaded.lock().unwrap_or_else(PoisonError::into_inner);
    if loaded.checked.elapsed() >= limits::RESOLV_CONF_CHECK {
        let now = version();
        if now == loaded.version {
            loaded.checked = Instant::now();
        } else {
            tracing::info!("resolver configuration changed, read again");
            *loaded = Loaded::read(now, cache);
        }
    }
    loaded.resolver.clone()
}

impl Loaded {
    fn read(version: Option<SystemTime>, cache: Cache) -> Self {
        let resolver = TokioResolver::builder_tokio().and_then(|builder| build(builder, cache));
        Self {
            resolver: resolver.map_err(|error| {
                tracing::warn!(%error, "no resolver: only overrides and literal addresses work");
                format!("`{RESOLV_CONF}` names no usable resolver: {error}")
            }),
            version,
            checked: Instant::now(),
        }
    }
}

impl Cache {
    fn new(config: &ResolveConfig) -> Self {
        Self {
            entries: config
                .cache_entries
                .map_or(limits::CACHE_ENTRIES, u64::from),
            ttl: config.cache_seconds.unwrap_or(limits::CACHE_TTL),
            negative_ttl: config
                .cache_negative_seconds
                .unwrap_or(limits::CACHE_NEGATIVE_TTL),
        }
    }
}

fn fixed(
    nameservers: &[Nameserver],
    roots: &Roots,
    cache: Cache,
) -> Result<TokioResolver, NetError> {
    let servers = nameservers.iter().map(server).collect();
    let config = ResolverConfig::from_parts(None, Vec::new(), servers);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let plain =
        |server: &Nameserver| matches!(server.transport, DnsTransport::Udp | DnsTransport::Tcp);
    if !nameservers.iter().all(plain) {
        builder = builder.with_tls_config(trusting(roots)?);
    }
    build(builder, cache)
}

fn trusting(roots: &Roots) -> Result<ClientConfig, NetError> {
    roots
        .client()
        .map_err(|error| NetError::from(error.to_string()))
}

fn server(nameserver: &Nameserver) -> NameServerConfig {
    let of = |protocol| {
        let mut connection = ConnectionConfig::new(protocol);
        connection.port = nameserver.address.port();
        connection
    };
    let connections = match &nameserver.transport {
        DnsTransport::Udp => vec![of(ProtocolConfig::Udp), of(ProtocolConfig::Tcp)],
        DnsTransport::Tcp => vec![of(ProtocolConfig::Tcp)],
        DnsTransport::Tls { name } => vec![of(ProtocolConfig::Tls {
            server_name: name.as_str().into(),
        })],
        DnsTransport::Https { name, path } => vec![of(ProtocolConfig::Https {
            server_name: name.as_str().into(),
            path: path.as_str().into(),
        })],
    };
    NameServerConfig::new(nameserver.address.ip(), true, connections)
}

fn build(
    mut builder: ResolverBuilder<TokioRuntimeProvider>,
    cache: Cache,
) -> Result<TokioResolver, NetError> {
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    // So that the aliases on the way are seen, whatever the default becomes.
    options.preserve_intermediates = true;
    options.cache_size = cache.entries;
    options.positive_max_ttl = Some(cache.ttl);
    options.negative_max_ttl = Some(cache.negative_ttl);
    builder.build()
}

fn version() -> Option<SystemTime> {
    std::fs::metadata(RESOLV_CONF).ok()?.modified().ok()
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::rr::rdata;

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn alias(from: &str, to: &str) -> Record {
        Record::from_rdata(name(from), 60, RData::CNAME(rdata::CNAME(name(to))))
    }

    fn chain(records: &[Record]) -> io::Result<Vec<String>> {
        let names = aliases(name("a.test."), records)?;
        Ok(names.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn aliases_are_followed_in_order_and_nothing_else_is() {
        let records = [
            alias("B.test.", "c.test."),
            alias("x.test.", "stranger.test."),
            alias("a.test.", "b.TEST."),
        ];
        assert_eq!(chain(&records).unwrap(), ["b.test", "c.test"]);
        assert!(chain(&[]).unwrap().is_empty());
    }

    #[test]
    fn n09_endless_and_malformed_aliases_do_not_resolve() {
        let round = [alias("a.test.", "b.test."), alias("b.test.", "a.test.")];
        assert!(chain(&round).is_err());
        // A label may hold any byte on the wire.
        for label in [&b"a\0b"[..], b"a.b", b"a b"] {
            let target = Name::from_labels([label, b"test"]).unwrap();
            let data = RData::CNAME(rdata::CNAME(target));
            let record = Record::from_rdata(name("a.test."), 60, data);
            assert!(chain(&[record]).is_err(), "{label:?}");
        }
    }
}
