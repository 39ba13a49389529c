//! `[gateway]` of `cordon.toml`: who may use `cordon gateway`, and who they are to policy.
//!
//! ```toml
//! [gateway]
//! drain_seconds = 30
//!
//! [[gateway.listeners]]                      # beside --http, --socks and --mixed
//! name = "edge"
//! address = "0.0.0.0:3443"                   # or: unix = "/run/cordon/ci.sock", systemd = "name"
//! speaks = "mixed"                           # "http", "socks" or "mixed"
//! certificate = "/etc/cordon/proxy.pem"      # HTTPS proxy, with `key`
//! key = "/etc/cordon/proxy.key"
//! client_ca = "/etc/cordon/clients.pem"      # callers show a certificate (mutual TLS)
//! proxy_protocol_from = ["10.0.0.5/32"]      # these peers say who calls, and must
//!
//! [[gateway.callers]]                        # the first that matches is it
//! name = "ci"
//! user = "ci-runner"
//! groups = ["ci"]
//! agent = "claude"
//! listener = "edge"                          # all that are given must hold; at least one is
//! sources = ["10.1.0.0/16"]
//! certificate = "ci.example.com"             # a name in the client's certificate
//! username = "ci"                            # proxy credentials
//! secret_file = "/run/secrets/ci"
//! ```
//!
//! Never opens a file or a socket.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;
use serde::Deserialize;

/// `[gateway]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayConfig {
    /// How long flows may go on after the gateway was asked to stop, in seconds. Default 30.
    pub drain_seconds: Option<u32>,
    /// `[[gateway.listeners]]`.
    pub listeners: Vec<ListenerConfig>,
    /// `[[gateway.callers]]`.
    pub callers: Vec<CallerConfig>,
}

/// One listener.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerConfig {
    /// What callers and records call it.
    pub name: String,
    /// TCP address; port 0 takes any.
    pub address: Option<SocketAddr>,
    /// Path of a unix socket, made 0660.
    pub unix: Option<PathBuf>,
    /// Name of a socket that systemd passes (`FileDescriptorName=`).
    pub systemd: Option<String>,
    /// What is spoken on it.
    #[serde(default)]
    pub speaks: Speaks,
    /// PEM certificates of the proxy itself: then it speaks TLS first.
    pub certificate: Option<PathBuf>,
    /// PEM key of `certificate`.
    pub key: Option<PathBuf>,
    /// PEM certificates that callers' certificates must lead to: then they must show one.
    pub client_ca: Option<PathBuf>,
    /// Peers whose connections begin with a PROXY protocol header (version 1 or 2), and must.
    #[serde(default)]
    pub proxy_protocol_from: Vec<IpNet>,
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Speaks {
    /// HTTP/1.1 and HTTP/2.
    Http,
    /// SOCKS5.
    Socks,
    /// Either, told by the first byte.
    #[default]
    Mixed,
}

/// Who somebody is, and by what they are known.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallerConfig {
    /// Unique name, in records and summaries.
    pub name: String,
    /// The user that policy sees; default: `name`.
    pub user: Option<String>,
    /// The groups that policy sees.
    #[serde(default)]
    pub groups: Vec<String>,
    /// The agent that policy sees.
    pub agent: Option<String>,
    /// Name of the listener they come to.
    pub listener: Option<String>,
    /// Networks they come from; behind a trusted PROXY protocol peer, as it says.
    #[serde(default)]
    pub sources: Vec<IpNet>,
    /// A name in their certificate: a DNS name, URI or e-mail address of its subject alternative
    /// names.
    pub certificate: Option<String>,
    /// Their name in proxy credentials.
    pub username: Option<String>,
    /// File with their secret, its last line end left out; not readable by others.
    pub secret_file: Option<PathBuf>,
}

/// What is known of somebody who calls, before credentials.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claim {
    /// Name of the listener.
    pub listener: String,
    /// Where they come from; none on a unix socket.
    pub source: Option<IpAddr>,
    /// Names in a certificate that was verified.
    pub certificate: Vec<String>,
}

impl GatewayConfig {
    /// How long flows may go on after the gateway was asked to stop.
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds.unwrap_or(30).into())
    }

    /// Callers that this claim fits, credentials aside, in their order.
    pub fn fitting<'a, 'c>(
        &'a self,
        claim: &'c Claim,
    ) -> impl Iterator<Item = &'a CallerConfig> + use<'a, 'c> {
        self.callers.iter().filter(move |caller| caller.fits(claim))
    }

    pub(super) fn check(&self) -> Result<(), String> {
        for (at, listener) in self.listeners.iter().enumerate() {
            listener.check()?;
            let earlier = self.listeners.get(..at).unwrap_or_default();
            if earlier.iter().any(|other| other.name == listener.name) {
                return Err(format!(
                    "two listeners are called `{}`; callers are known by those names, so they are \
                     unique",
                    listener.name
                ));
            }
        }
        for (at, caller) in self.callers.iter().enumerate() {
            caller.check()?;
            let earlier = self.callers.get(..at).unwrap_or_default();
            if earlier.iter().any(|other| other.name == caller.name) {
                return Err(format!(
                    "two callers are called `{}`; names are unique",
                    caller.name
                ));
            }
        }
        Ok(())
    }

    pub(super) fn extend(&mut self, later: Self) {
        self.drain_seconds = later.drain_seconds.or(self.drain_seconds);
        self.listeners.extend(later.listeners);
        self.callers.extend(later.callers);
    }
}

impl ListenerConfig {
    fn check(&self) -> Result<(), String> {
        let name = &self.name;
        let places = [
            self.address.is_some(),
            self.unix.is_some(),
            self.systemd.is_some(),
        ];
        if places.into_iter().filter(|named| *named).count() != 1 {
            return Err(format!(
                "listener `{name}` needs exactly one of `address`, `unix` and `systemd`"
            ));
        }
        if self.certificate.is_some() != self.key.is_some() {
            return Err(format!(
                "listener `{name}` needs `certificate` and `key` together"
            ));
        }
        if self.client_ca.is_some() && self.certificate.is_none() {
            return Err(format!(
                "listener `{name}` asks for client certificates without TLS; name its own \
                 `certificate` and `key`"
            ));
        }
        if self.unix.is_some()
            && (self.certificate.is_some() || !self.proxy_protocol_from.is_empty())
        {
            return Err(format!(
                "listener `{name}` is a unix socket: it takes no TLS and no PROXY protocol"
            ));
        }
        Ok(())
    }
}

impl CallerConfig {
    /// The user that policy sees.
    pub fn user(&self) -> &str {
        self.user.as_deref().unwrap_or(&self.name)
    }

    fn fits(&self, claim: &Claim) -> bool {
        let listener = self
            .listener
            .as_ref()
            .is_none_or(|name| *name == claim.listener);
        let source = self.sources.is_empty()
            || claim.source.is_some_and(|source| {
                let source = source.to_canonical();
                self.sources.iter().any(|net| net.contains(&source))
            });
        let certificate = self
            .certificate
            .as_ref()
            .is_none_or(|name| claim.certificate.contains(name));
        listener && source && certificate
    }

    fn check(&self) -> Result<(), String> {
        let name = &self.name;
        let plain = |text: &str| !text.is_empty() && !text.chars().any(char::is_control);
        let all = [Some(name), self.user.as_ref(), self.agent.as_ref()];
        if !all
            .into_iter()
            .flatten()
            .chain(&self.groups)
            .all(|text| plain(text))
        {
            return Err(format!(
                "caller {name:?}: names, users, groups and agents are plain text and not empty"
            ));
        }
        if self.username.is_some() != self.secret_file.is_some() {
            return Err(format!(
                "caller `{name}` needs `username` and `secret_file` together"
            ));
        }
        let by_something = self.listener.is_some()
            || !self.sources.is_empty()
            || self.certificate.is_some()
            || self.username.is_some();
        if !by_something {
            return Err(format!(
                "caller `{name}` would be everybody; say by what they are known: `listener`, \
                 `sources`, `certificate`, or `username` with `secret_file`"
            ));
        }
        if self
            .username
            .as_ref()
            .is_some_and(|name| name.contains(':'))
        {
            return Err(format!(
                "caller `{name}`: a user name of proxy credentials has no colon"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<GatewayConfig, String> {
        let config: GatewayConfig = toml::from_str(text).map_err(|error| error.to_string())?;
        config.check()?;
        Ok(config)
    }

    const CALLERS: &str = r#"
        [[callers]]
        name = "cert"
        certificate = "ci.example.com"
        [[callers]]
        name = "lab"
        listener = "edge"
        sources = ["192.0.2.0/24"]
        [[callers]]
        name = "anyone-with-a-secret"
        username = "u"
        secret_file = "/s"
    "#;

    #[test]
    fn all_that_is_given_must_hold_and_the_first_counts() {
        let config = config(CALLERS).unwrap();
        let claim = |listener: &str, source: &str, certificate: &[&str]| Claim {
            listener: listener.into(),
            source: source.parse().ok(),
            certificate: certificate.iter().map(|name| (*name).into()).collect(),
        };
        let table = [
            (
                claim("edge", "192.0.2.7", &[]),
                vec!["lab", "anyone-with-a-secret"],
            ),
            (
                claim("edge", "::ffff:192.0.2.7", &[]),
                vec!["lab", "anyone-with-a-secret"],
            ),
            (
                claim("http", "192.0.2.7", &[]),
                vec!["anyone-with-a-secret"],
            ),
            (
                claim("edge", "198.51.100.1", &[]),
                vec!["anyone-with-a-secret"],
            ),
            (claim("edge", "", &[]), vec!["anyone-with-a-secret"]),
            (
                claim("http", "", &["x", "ci.example.com"]),
                vec!["cert", "anyone-with-a-secret"],
            ),
            (
                claim("http", "", &["a.ci.example.com"]),
                vec!["anyone-with-a-secret"],
            ),
        ];
        for (claim, expected) in table {
            let found: Vec<_> = config.fitting(&claim).map(|caller| &*caller.name).collect();
            assert_eq!(found, expected, "{claim:?}");
        }
    }

    #[test]
    fn what_would_let_everybody_in_or_means_nothing_is_refused() {
        for (text, words) in [
            ("[[callers]]\nname = \"a\"", "everybody"),
            ("[[callers]]\nname = \"\"\nlistener = \"l\"", "not empty"),
            ("[[callers]]\nname = \"a\"\nusername = \"u\"", "together"),
            (
                "[[callers]]\nname = \"a\"\nusername = \"u:v\"\nsecret_file = \"/s\"",
                "colon",
            ),
            (
                "[[callers]]\nname = \"a\"\nlistener = \"l\"\n[[callers]]\nname = \"a\"\nlistener = \"l\"",
                "two callers",
            ),
            (
                "[[callers]]\nname = \"a\"\npassword = \"x\"",
                "unknown field",
            ),
            ("[[listeners]]\nname = \"l\"", "exactly one of"),
            (
                "[[listeners]]\nname = \"l\"\naddress = \"127.0.0.1:0\"\n[[listeners]]\nname = \"l\"\nunix = \"/s\"",
                "two listeners",
            ),
            (
                "[[listeners]]\nname = \"l\"\naddress = \"127.0.0.1:0\"\ncertificate = \"/c\"",
                "together",
            ),
            (
                "[[listeners]]\nname = \"l\"\naddress = \"127.0.0.1:0\"\nclient_ca = \"/c\"",
                "without TLS",
            ),
            (
                "[[listeners]]\nname = \"l\"\nunix = \"/s\"\nproxy_protocol_from = [\"::1/128\"]",
                "unix socket",
            ),
        ] {
            let refused = config(text).unwrap_err();
            assert!(refused.contains(words), "{text}: {refused}");
        }
        assert!(config(CALLERS).is_ok());
    }
}
