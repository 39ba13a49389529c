//! One entry of a list: a name, a domain, an address or a network, in the spellings that lists use.

use std::net::IpAddr;

use cordon_policy::NormalizedHost;
use ipnet::IpNet;

/// What an entry stands for.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Entry {
    /// That name alone.
    Host(NormalizedHost),
    /// Everything below it, not itself.
    Below(NormalizedHost),
    /// The name and everything below it.
    Domain(NormalizedHost),
    /// An address by number.
    Address(IpAddr),
    /// A range of addresses, by number.
    Network(IpNet),
}

impl Entry {
    /// `example.com`, `*.example.com` (below), `.example.com` (itself and below), `192.0.2.1`,
    /// `192.0.2.0/24`.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Address(address.to_canonical()));
        }
        if let Ok(network) = text.parse::<IpNet>() {
            return Ok(Self::Network(network.trunc()));
        }
        let host = |name: &str| name.parse::<NormalizedHost>().map_err(|e| e.to_string());
        if let Some(name) = text.strip_prefix("*.") {
            return host(name).map(Self::Below);
        }
        if let Some(name) = text.strip_prefix('.') {
            return host(name).map(Self::Domain);
        }
        host(text).map(Self::Host)
    }

    /// As members of a host group; none for an address.
    pub(super) fn members(&self) -> Vec<String> {
        match self {
            Self::Host(name) => vec![name.to_string()],
            Self::Below(name) => vec![format!("*.{name}")],
            Self::Domain(name) => vec![name.to_string(), format!("*.{name}")],
            Self::Address(_) | Self::Network(_) => Vec::new(),
        }
    }

    /// As a condition, for an address.
    pub(super) fn condition(&self) -> Option<String> {
        match self {
            Self::Address(address) => Some(format!("resource == Address::\"{address}\"")),
            Self::Network(network) => Some(format!("resource in Network::\"{network}\"")),
            Self::Host(_) | Self::Below(_) | Self::Domain(_) => None,
        }
    }
}
