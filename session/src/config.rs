//! `cordon.toml`: read once at start, checked, nothing opened.
//!
//! ```toml
//! [resolve]
//! nameservers = ["192.0.2.53"]           # instead of the system's
//!
//! [resolve.overrides]
//! "api.example.com" = ["127.0.0.1"]      # instead of DNS; classified like any other answer
//!
//! [[network.permit_addresses]]           # special-use addresses, for one host or group
//! host = "api.example.com"               # or "*.example.com", or an address; or: group = "..."
//! addresses = ["127.0.0.1/32"]
//!
//! [tls]
//! extra_ca_certificates = ["/etc/ssl/corp.pem"]
//! ports = [443, 8443]                    # where TLS is expected, instead of the usual ports
//! ```

mod api;
mod approvals;
mod check;
mod connectors;
mod credentials;
mod policy;

use std::{
    collections::BTreeMap,
    fs, io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

mod extensions;
mod gateway;
mod limits;
mod log;
mod mcp;
mod originals;
mod parents;
mod resolve;
mod sandbox;
mod secrets;
mod sinks;
mod telemetry;

use cordon_audit::LogOptions;
use cordon_policy::{Host, NormalizedHost};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de::Error as _};
use thiserror::Error;

pub use self::policy::{Adopt, BundleConfig, BundleSource, HttpUrl, OciReference, PolicyConfig};
pub use api::{ApiCaller, ApiConfig, ApiLimits};
pub use approvals::ApprovalsConfig;
pub use check::CheckConfig;
pub use connectors::{ConnectorConfig, ConnectorKind, Endpoint};
pub use credentials::{CredentialConfig, CredentialPlace, CredentialSource, EchoedValue};
pub use extensions::{ExtensionsConfig, PublisherConfig};
pub use gateway::{CallerConfig, Claim, GatewayConfig, ListenerConfig, Speaks};
pub use limits::{LimitsConfig, SessionLimits};
pub use log::LogConfig;
pub use mcp::{McpConfig, McpServerConfig};
pub use originals::OriginalsConfig;
pub use parents::{NoProxy, ParentConfig, ParentResolve, ParentScheme, ParentUrl};
pub use resolve::{DnsTransport, Nameserver, ResolveConfig, SplitDns};
pub use sandbox::{ContainerConfig, RootUids, SandboxConfig, SandboxLimits};
pub use sinks::{
    CheckpointConfig, FileSink, OtlpSink, S3Sink, SinkConfig, SinkFormat, SinkTarget, SyslogSink,
    WebhookSink,
};
pub use telemetry::TelemetryConfig;

/// The whole configuration. Unknown keys are errors.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `[resolve]`.
    pub resolve: ResolveConfig,
    /// `[network]`.
    pub network: NetworkConfig,
    /// `[limits]`.
    pub limits: LimitsConfig,
    /// `[metrics]`.
    pub metrics: MetricsConfig,
    /// `[telemetry]`.
    pub telemetry: TelemetryConfig,
    /// `[tls]`.
    pub tls: TlsConfig,
    /// `[service]`.
    pub service: ServiceConfig,
    /// `[log]`.
    pub log: LogConfig,
    /// `[[sinks]]`.
    pub sinks: Vec<SinkConfig>,
    /// `[policy]`.
    pub policy: PolicyConfig,
    /// `[gateway]`.
    pub gateway: GatewayConfig,
    /// `[[credentials]]`.
    pub credentials: Vec<CredentialConfig>,
    /// `[sandbox]`.
    pub sandbox: SandboxConfig,
    /// `[check]`.
    pub check: CheckConfig,
    /// `[connectors]`.
    pub connectors: BTreeMap<String, ConnectorConfig>,
    /// `[mcp]`.
    pub mcp: McpConfig,
    /// `[approvals]`.
    pub approvals: ApprovalsConfig,
    /// `[extensions]`.
    pub extensions: ExtensionsConfig,
    /// `[api]`.
    pub api: ApiConfig,
}

/// `[network]`: what an admin opens by hand.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkConfig {
    /// `[[network.permit_addresses]]`: special-use addresses that may be dialled, per host.
    pub permit_addresses: Vec<PermitAddresses>,
    /// PEM files of authorities that Cordon itself trusts beside the system's when it speaks TLS.
    /// Sessions do not: that is `tls.extra_ca_certificates`.
    pub extra_roots: Vec<PathBuf>,
    /// `[[network.parents]]`: proxies that connections go through. The first that covers a
    /// destination carries it, and nothing else does when that fails.
    pub parents: Vec<ParentConfig>,
    /// Destinations that go through no parent, as curl reads `NO_PROXY`.
    pub no_proxy: Option<NoProxy>,
    /// The local address that connections leave from; the system's choice where absent.
    pub source_address: Option<IpAddr>,
}

/// Special-use addresses that one host (or one host group's members) may resolve to.
///
/// Exactly one of `host` and `group` is set.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PermitAddresses {
    /// An exact host name, `*.suffix` for everything below a name, or an address literal.
    #[serde(default, deserialize_with = "canonical_pattern")]
    pub host: Option<String>,
    /// A host group of the policy set.
    #[serde(default)]
    pub group: Option<String>,
    /// Networks, for example `10.20.0.0/16` or `127.0.0.1/32`.
    pub addresses: Vec<IpNet>,
}

/// `[tls]`: what the session trusts, and where TLS is expected.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM files whose certificates sessions trust beside the system's.
    pub extra_ca_certificates: Vec<PathBuf>,
    /// Ports on which a client speaks TLS from its first byte, instead of the usual ones.
    pub ports: Option<Vec<u16>>,
}

impl TlsConfig {
    /// Whether TLS is expected on a port: by the list of the configuration, or else on those that
    /// are registered, or commonly used, for TLS from the first byte on.
    pub fn expects(&self, port: u16) -> bool {
        match &self.ports {
            Some(ports) => ports.contains(&port),
            None => matches!(
                port,
                443 | 465 | 563 | 636 | 853 | 989
                    ..=995 | 5061 | 5671 | 6443 | 6514 | 6697 | 8443 | 8883 | 9443
            ),
        }
    }
}

/// `[metrics]`: numbers for Prometheus.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// Where `GET /metrics` is answered, for example `127.0.0.1:9464`. Nowhere by default. It asks
    /// for no credentials: keep it on loopback, or behind something that does.
    pub listen: Option<SocketAddr>,
}

/// `[service]`: the daemon itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceConfig {
    /// How long a daemon that a launcher started stays without sessions, in seconds. Default 60.
    pub idle_exit_seconds: Option<u32>,
    /// How long open flows may go on once the service is told to stop, in seconds. Default 3.
    #[serde(deserialize_with = "limits::seconds")]
    pub drain_seconds: Option<Duration>,
}

/// Why a configuration was not accepted.
#[derive(Debug, Error)]
#[error("configuration not loaded: `{path}`: {message}", path = path.display())]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// What, where in the file, and what to do.
    pub message: String,
}

impl Config {
    /// Longest file that is read, in bytes.
    pub const MAX_BYTES: u64 = 1 << 20;

    /// Reads files in their order; one that does not exist is passed over. Later files add to
    /// earlier ones: an override of the same host replaces, everything else is appended.
    ///
    /// # Errors
    /// [`ConfigError`] names the file, the line and what is wrong there. Nothing is half loaded.
    pub fn load(paths: &[impl AsRef<Path>]) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        for path in paths.iter().map(AsRef::as_ref) {
            let fail = |message: String| ConfigError {
                path: path.to_path_buf(),
                message,
            };
            if let Some(text) = read(path).map_err(|error| fail(error.to_string()))? {
                let file: Self =
                    toml::from_str(&text).map_err(|error| fail(told(&error, &text)))?;
                file.check().map_err(fail)?;
                config.extend(file).map_err(fail)?;
                // Names are unique over all files.
                config.gateway.check().map_err(fail)?;
            }
        }
        credentials::check(&config.credentials).map_err(|message| ConfigError {
            path: paths
                .last()
                .map_or_else(PathBuf::new, |path| path.as_ref().to_path_buf()),
            message,
        })?;
        // Sinks of one file may be named in another.
        sinks::check(&config.sinks, &config.log.checkpoints).map_err(|message| ConfigError {
            path: paths
                .last()
                .map_or_else(PathBuf::new, |path| path.as_ref().to_path_buf()),
            message,
        })?;
        Ok(config)
    }

    /// How the log is opened: whose it is, and what must never be in it.
    ///
    /// # Errors
    /// In words: a file of secrets cannot be used.
    pub fn log_options(&self) -> Result<LogOptions, String> {
        Ok(LogOptions {
            organisation: self.log.organisation.clone(),
            instance: self.log.instance.clone(),
            secrets: secrets::known(self)?,
            ..LogOptions::default()
        })
    }

    /// Addresses that stand for `host` instead of DNS, where configured.
    pub fn override_for(&self, host: &NormalizedHost) -> Option<&[IpAddr]> {
        self.resolve.overrides.get(host.as_str()).map(Vec::as_slice)
    }

    fn check(&self) -> Result<(), String> {
        self.log.check()?;
        self.resolve.check()?;
        self.limits.check()?;
        self.network.check_parents()?;
        self.gateway.check()?;
        self.approvals.check()?;
        self.api.check()?;
        self.sandbox.limits.check("`sandbox.limits`")?;
        self.sandbox.originals.check()?;
        self.mcp.check()?;
        self.telemetry.check()?;
        for (name, connector) in &self.connectors {
            connector.check(name)?;
        }
        if self.sandbox.container.image.is_some() && self.sandbox.container.rootfs.is_some() {
            return Err("`sandbox.container` has `image` or `rootfs`, and not both".into());
        }
        self.extensions.check()?;
        for entry in &self.network.permit_addresses {
            match (&entry.host, &entry.group) {
                (Some(_), None) | (None, Some(_)) => {}
                _ => {
                    return Err(
                        "an entry of `network.permit_addresses` needs either `host` or \
                                `group`, and not both"
                            .into(),
                    );
                }
            }
            if entry.addresses.is_empty() {
                return Err(
                    "an entry of `network.permit_addresses` has no `addresses`; name a network, \
                     or remove it"
                        .into(),
                );
            }
        }
        self.policy.check()
    }

    fn extend(&mut self, later: Self) -> Result<(), String> {
        self.resolve.extend(later.resolve);
        self.limits = std::mem::take(&mut self.limits).under(later.limits);
        self.sandbox.limits = self.sandbox.limits.tighter(&later.sandbox.limits);
        self.sandbox.originals.extend(&later.sandbox.originals);
        // Whoever asks for a wall gets it: a later file takes none away.
        self.sandbox.walls.extend(later.sandbox.walls);
        // The machine's, where it says so.
        self.sandbox.root_uids = self.sandbox.root_uids.or(later.sandbox.root_uids);
        if later.sandbox.container != ContainerConfig::default() {
            self.sandbox.container = later.sandbox.container;
        }
        if later.metrics.listen.is_some() {
            self.metrics = later.metrics;
        }
        self.network
            .permit_addresses
            .extend(later.network.permit_addresses);
        self.network.extra_roots.extend(later.network.extra_roots);
        self.network.parents.extend(later.network.parents);
        self.network.no_proxy = later.network.no_proxy.or(self.network.no_proxy.take());
        self.network.source_address = later.network.source_address.or(self.network.source_address);
        self.tls
            .extra_ca_certificates
            .extend(later.tls.extra_ca_certificates);
        if later.tls.ports.is_some() {
            self.tls.ports = later.tls.ports;
        }
        self.log.extend(later.log);
        self.gateway.extend(later.gateway);
        self.check.extend(&later.check);
        self.telemetry.extend(later.telemetry);
        self.mcp.extend(later.mcp);
        self.approvals.extend(later.approvals);
        self.extensions.extend(later.extensions)?;
        self.api.extend(later.api);
        connectors::extend(&mut self.connectors, later.connectors)?;
        self.sinks.extend(later.sinks);
        self.credentials.extend(later.credentials);
        let service = &mut self.service;
        service.idle_exit_seconds = later
            .service
            .idle_exit_seconds
            .or(service.idle_exit_seconds);
        service.drain_seconds = later.service.drain_seconds.or(service.drain_seconds);
        self.policy.extend(later.policy)
    }
}

impl ServiceConfig {
    /// How long a daemon that a launcher started stays without sessions.
    pub fn idle_exit(&self) -> Duration {
        Duration::from_secs(self.idle_exit_seconds.unwrap_or(60).into())
    }

    /// How long open flows may go on once the service is told to stop.
    pub fn drain(&self) -> Duration {
        self.drain_seconds.unwrap_or(Duration::from_secs(3))
    }
}

impl NetworkConfig {
    /// Whether an admin has named the special-use `address` for `host`, by its name or by one of
    /// its host `groups`.
    pub fn permits(&self, host: &Host, groups: &[Arc<str>], address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.permit_addresses.iter().any(|entry| {
            let named = match (&entry.host, &entry.group) {
                (Some(pattern), None) => covers(pattern, host),
                (None, Some(name)) => groups.iter().any(|group| **group == **name),
                // Both or neither: refused when loaded, and never a match.
                _ => false,
            };
            named && entry.addresses.iter().any(|net| net.contains(&address))
        })
    }
}

/// Whether a canonical pattern names `host`. `*.suffix` covers what is below it, not itself, and
/// never an address (N04).
fn covers(pattern: &str, host: &Host) -> bool {
    match host {
        Host::Address(address) => pattern.parse::<IpAddr>() == Ok(*address),
        Host::Name(name) => match pattern.strip_prefix("*.") {
            Some(suffix) => name
                .as_str()
                .strip_suffix(suffix)
                .is_some_and(|below| below.len() > 1 && below.ends_with('.')),
            None => name.as_str() == pattern,
        },
    }
}

/// What is wrong with a file, with the line itself; without it among credentials, where somebody may
/// have written the secret (A08).
fn told(error: &toml::de::Error, text: &str) -> String {
    let start = error.span().map_or(text.len(), |span| span.start);
    let before = text.get(..start).unwrap_or(text);
    let is_header = |line: &&str| line.trim_start().starts_with('[');
    let in_table = before.lines().rev().find(is_header).unwrap_or_default();
    // `credentials = [ { … } ]` has no header of its own, and may begin on any line before.
    let begins = |line: &str| {
        line.trim_start().starts_with(['c', '"', '\'']) && line.contains("credentials")
    };
    if in_table.contains("credentials") || before.lines().any(begins) {
        let line = before.matches('\n').count() + 1;
        format!("line {line}: {}", error.message())
    } else {
        error.to_string()
    }
}

fn read(path: &Path) -> io::Result<Option<String>> {
    let length = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if length > Config::MAX_BYTES {
        let limit = Config::MAX_BYTES;
        return Err(io::Error::other(format!("larger than {limit} bytes")));
    }
    fs::read_to_string(path).map(Some)
}

fn canonical_pattern<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let Some(raw) = Option::<String>::deserialize(from)? else {
        return Ok(None);
    };
    if let Ok(address) = raw.parse::<IpAddr>() {
        return Ok(Some(address.to_canonical().to_string()));
    }
    let pattern = match raw.strip_prefix("*.") {
        Some(suffix) => canonical(suffix).map(|suffix| format!("*.{suffix}")),
        None => canonical(&raw),
    };
    pattern.map(Some).map_err(D::Error::custom)
}

fn canonical(name: &str) -> Result<String, String> {
    NormalizedHost::from_str(name)
        .map(|host| host.to_string())
        .map_err(|error| format!("{error}; name a host as in `api.example.com`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        Config::load(&[file.path()]).map_err(|error| error.to_string())
    }

    fn host(name: &str) -> Host {
        name.parse()
            .map_or_else(|_| Host::Name(name.parse().unwrap()), Host::Address)
    }

    #[test]
    fn missing_files_are_fine_and_empty_ones_too() {
        let absent = Path::new("/nonexistent/cordon.toml");
        assert!(
            Config::load(&[absent])
                .unwrap()
                .resolve
                .overrides
                .is_empty()
        );
        assert!(load("").is_ok());
    }

    #[test]
    fn mistakes_are_named_with_file_and_line() {
        let table = [
            ("[resolve]\noverride = {}\n", "line 2"),
            ("[nonsense]\n", "line 1"),
            ("[resolve]\nnameservers = [\"ns.example\"]\n", "ns.example"),
            ("[resolve.overrides]\n\"a b\" = [\"192.0.2.1\"]\n", "a b"),
            ("[resolve.overrides]\na = [\"192.0.2.256\"]\n", "line 2"),
            ("[resolve.overrides]\na = []\n", "no addresses"),
            (
                "[resolve.overrides]\na = [\"::1\"]\nA = [\"::1\"]\n",
                "twice",
            ),
            (
                "[[network.permit_addresses]]\naddresses = [\"::1/128\"]\n",
                "either",
            ),
            (
                "[[network.permit_addresses]]\nhost = \"a\"\ngroup = \"b\"\naddresses = [\"::1/128\"]\n",
                "not both",
            ),
            (
                "[[network.permit_addresses]]\nhost = \"a\"\naddresses = []\n",
                "no `addresses`",
            ),
            (
                "[[network.permit_addresses]]\nhost = \"*\"\naddresses = [\"::1/128\"]\n",
                "line 2",
            ),
        ];
        for (text, expected) in table {
            let error = load(text).unwrap_err();
            assert!(error.contains(expected), "{text:?} gave {error:?}");
        }
    }

    #[test]
    fn a08_a_secret_that_was_written_among_credentials_is_not_told() {
        for text in [
            "[[credentials]]\nname = \"forge\"\nfrom = \"ghp_REAL\"\nin = 7\n",
            "credentials = [ { name = \"forge\", in = 7, from = \"ghp_REAL\" } ]\n",
            "\"credentials\" = [\n  { from = \"ghp_REAL\", in = 7 } ]\n",
            "[sandbox]\n[[ credentials ]]\nin = 7 # ghp_REAL\n",
        ] {
            let told = load(text).unwrap_err();
            assert!(
                told.contains("line") && !told.contains("ghp_REAL"),
                "{told}"
            );
        }
        // The control: elsewhere the line is shown.
        assert!(
            load("[resolve]\nodd = \"shown\"\n")
                .unwrap_err()
                .contains("shown")
        );
    }

    #[test]
    fn names_of_callers_and_listeners_are_unique_over_all_files() {
        let folder = tempfile::tempdir().unwrap();
        let written = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let caller = "[[gateway.callers]]\nname = \"ci\"\nlistener = \"l\"\n";
        let other = caller.replace("\"ci\"", "\"cd\"");
        let files = [
            written("a", caller),
            written("b", caller),
            written("c", &other),
        ];
        let load = |files: &[&PathBuf]| Config::load(files).map_err(|error| error.to_string());
        let twice = load(&[&files[0], &files[1]]).unwrap_err();
        assert!(twice.contains("two callers are called `ci`"), "{twice}");
        assert!(load(&[&files[0], &files[2]]).is_ok(), "the control");
    }

    #[test]
    fn n06_an_override_is_found_by_the_one_spelling() {
        let config = load("[resolve.overrides]\n\"API.Example.com.\" = [\"127.0.0.1\"]\n").unwrap();
        let found = config.override_for(&"api.example.com".parse().unwrap());
        assert_eq!(found, Some(&["127.0.0.1".parse().unwrap()][..]));
        assert_eq!(
            config.override_for(&"other.example.com".parse().unwrap()),
            None
        );
    }

    #[test]
    fn n09_an_address_is_permitted_for_the_host_it_was_named_for() {
        let config = load(
            "[[network.permit_addresses]]\nhost = \"A.example\"\naddresses = [\"127.0.0.1/32\"]\n\
             [[network.permit_addresses]]\nhost = \"*.b.example\"\naddresses = [\"10.0.0.0/8\"]\n\
             [[network.permit_addresses]]\nhost = \"10.1.1.1\"\naddresses = [\"10.1.1.1/32\"]\n\
             [[network.permit_addresses]]\ngroup = \"lab\"\naddresses = [\"fd00::/8\"]\n",
        )
        .unwrap();
        let lab: Arc<str> = "lab".into();
        let table = [
            ("a.example", "", "127.0.0.1", true),
            ("a.example", "", "::ffff:127.0.0.1", true),
            ("a.example", "", "127.0.0.2", false),
            ("x.a.example", "", "127.0.0.1", false),
            ("x.b.example", "", "10.9.9.9", true),
            ("b.example", "", "10.9.9.9", false),
            ("evilb.example", "", "10.9.9.9", false),
            ("10.1.1.1", "", "10.1.1.1", true),
            ("10.1.1.2", "", "10.1.1.2", false),
            ("c.example", "lab", "fd00::1", true),
            ("c.example", "", "fd00::1", false),
        ];
        for (name, group, address, expected) in table {
            let groups = [Arc::clone(&lab)];
            let groups = if group.is_empty() {
                &[][..]
            } else {
                &groups[..]
            };
            let permitted = config
                .network
                .permits(&host(name), groups, address.parse().unwrap());
            assert_eq!(permitted, expected, "{name} {group} {address}");
        }
    }

    #[test]
    fn later_files_add_and_their_overrides_win() {
        let (first, second) = (
            tempfile::NamedTempFile::new().unwrap(),
            tempfile::NamedTempFile::new().unwrap(),
        );
        fs::write(
            first.path(),
            "[resolve.overrides]\na = [\"192.0.2.1\"]\nb = [\"192.0.2.2\"]\n[tls]\nextra_ca_certificates = [\"/a\"]\n",
        )
        .unwrap();
        fs::write(
            second.path(),
            "[resolve.overrides]\na = [\"192.0.2.9\"]\n[tls]\nextra_ca_certificates = [\"/b\"]\n",
        )
        .unwrap();
        let config = Config::load(&[first.path(), second.path()]).unwrap();
        let text = |name: &str| {
            let host = name.parse().unwrap();
            config.override_for(&host).unwrap()[0].to_string()
        };
        assert_eq!(
            (text("a"), text("b")),
            ("192.0.2.9".into(), "192.0.2.2".into())
        );
        assert_eq!(config.tls.extra_ca_certificates.len(), 2);
    }
}
