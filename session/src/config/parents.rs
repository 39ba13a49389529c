//! `[[network.parents]]` and `network.no_proxy`: proxies that connections go through.
//!
//! ```toml
//! [network]
//! no_proxy = "localhost,.corp.example.com,10.0.0.0/8"
//!
//! [[network.parents]]
//! url = "https://proxy.example.com:8443"     # http://, https://, socks5://; the port is named
//! hosts = ["*.example.com"]                  # everything, where absent
//! credentials_file = "/etc/cordon/parent"    # one line `user:password`, 0600
//! resolve = "local"                          # or "parent"
//! ```

use std::{fmt, net::IpAddr, path::PathBuf};

use cordon_policy::{Destination, Host};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{NetworkConfig, canonical, covers};

/// One parent proxy.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParentConfig {
    /// Where it is and what it speaks.
    pub url: ParentUrl,
    /// Destinations that go through it: a name, `*.suffix` for everything below one, an address,
    /// or `*` for everything, which is the default.
    #[serde(default = "everything", deserialize_with = "patterns")]
    pub hosts: Vec<String>,
    /// File with one line `user:password`, readable by its owner alone.
    #[serde(default)]
    pub credentials_file: Option<PathBuf>,
    /// Environment variable that holds `user:password`.
    #[serde(default)]
    pub credentials_env: Option<String>,
    /// Who turns names into addresses.
    #[serde(default)]
    pub resolve: ParentResolve,
}

/// Who turns the names of destinations behind a parent into addresses (N10).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum ParentResolve {
    /// Cordon, and the parent is asked for an address that was classified.
    #[default]
    Local,
    /// The parent: no address is checked. Policy sees that, and a permit must accept it.
    Parent,
}

/// Where a parent is and what it speaks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ParentUrl {
    /// What it speaks.
    pub scheme: ParentScheme,
    /// Where it is.
    pub place: Destination,
}

/// What a parent speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ParentScheme {
    /// HTTP CONNECT.
    Http,
    /// HTTP CONNECT inside TLS.
    Https,
    /// SOCKS5 (RFC 1928), with RFC 1929 where there are credentials.
    Socks5,
}

/// Destinations that go through no parent, as curl reads `NO_PROXY`.
///
/// A list separated by commas or blanks. `*` alone is everything. A name covers itself and
/// everything below it, with a leading dot or without; an address covers itself, and
/// `address/bits` its network. Ports are not looked at.
#[derive(Clone, Debug, Default)]
pub struct NoProxy {
    everything: bool,
    names: Vec<String>,
    networks: Vec<IpNet>,
}

impl NetworkConfig {
    /// The parent that carries connections to `destination`, by its place in the list; `None`
    /// where none does.
    pub fn parent_for(&self, destination: &Destination) -> Option<usize> {
        let host = &destination.host;
        if self.no_proxy.as_ref().is_some_and(|no| no.covers(host)) {
            return None;
        }
        self.parents.iter().position(|parent| parent.carries(host))
    }

    pub(super) fn check_parents(&self) -> Result<(), String> {
        for parent in &self.parents {
            if parent.credentials_file.is_some() && parent.credentials_env.is_some() {
                return Err(format!(
                    "parent `{}` has both `credentials_file` and `credentials_env`; keep one",
                    parent.url
                ));
            }
            if parent.hosts.is_empty() {
                return Err(format!(
                    "parent `{}` has an empty list of `hosts`, so it carries nothing; name some, \
                     or remove it",
                    parent.url
                ));
            }
        }
        Ok(())
    }
}

impl ParentConfig {
    fn carries(&self, host: &Host) -> bool {
        self.hosts
            .iter()
            .any(|pattern| pattern == "*" || covers(pattern, host))
    }
}

impl ParentUrl {
    fn parse(text: &str) -> Result<Self, String> {
        let example = "name it as in `http://proxy.example.com:3128`";
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| format!("it has no scheme; {example}"))?;
        let scheme = match scheme {
            "http" => ParentScheme::Http,
            "https" => ParentScheme::Https,
            "socks5" => ParentScheme::Socks5,
            _ => return Err("its scheme is none of `http`, `https` and `socks5`".into()),
        };
        if rest.contains('@') {
            return Err(
                "it holds credentials; they belong into `credentials_file` or `credentials_env`"
                    .into(),
            );
        }
        let place = rest.strip_suffix('/').unwrap_or(rest);
        let place = Destination::from_authority(place.as_bytes())
            .map_err(|error| format!("{error}; {example}"))?;
        Ok(Self { scheme, place })
    }
}

impl NoProxy {
    /// Whether `host` goes through no parent.
    pub fn covers(&self, host: &Host) -> bool {
        if self.everything {
            return true;
        }
        match host {
            Host::Address(address) => self.networks.iter().any(|net| net.contains(address)),
            Host::Name(name) => self.names.iter().any(|known| {
                name.as_str()
                    .strip_suffix(known.as_str())
                    .is_some_and(|below| below.is_empty() || below.ends_with('.'))
            }),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut no_proxy = Self {
            everything: text.trim() == "*",
            ..Self::default()
        };
        if no_proxy.everything {
            return Ok(no_proxy);
        }
        let words = text.split([',', ' ', '\t']).filter(|word| !word.is_empty());
        for word in words {
            let bare = word.trim_start_matches('[').trim_end_matches(']');
            if let Ok(network) = word.parse::<IpNet>() {
                no_proxy.networks.push(network);
            } else if let Ok(address) = bare.parse::<IpAddr>() {
                no_proxy.networks.push(address.to_canonical().into());
            } else {
                let name = canonical(word.strip_prefix('.').unwrap_or(word))?;
                no_proxy.names.push(name);
            }
        }
        Ok(no_proxy)
    }
}

impl fmt::Display for ParentUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            ParentScheme::Http => "http",
            ParentScheme::Https => "https",
            ParentScheme::Socks5 => "socks5",
        };
        write!(f, "{scheme}://{}", self.place)
    }
}

impl<'de> Deserialize<'de> for ParentUrl {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        // The text is not shown: it may hold a password that should not be there.
        Self::parse(&text)
            .map_err(|problem| D::Error::custom(format!("url of a parent not usable: {problem}")))
    }
}

impl<'de> Deserialize<'de> for NoProxy {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text)
            .map_err(|problem| D::Error::custom(format!("`no_proxy` not usable: {problem}")))
    }
}

fn everything() -> Vec<String> {
    vec!["*".into()]
}

fn patterns<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let pattern = |raw: String| {
        if raw == "*" {
            return Ok(raw);
        }
        if let Ok(address) = raw.parse::<IpAddr>() {
            return Ok(address.to_canonical().to_string());
        }
        match raw.strip_prefix("*.") {
            Some(suffix) => canonical(suffix).map(|suffix| format!("*.{suffix}")),
            None => canonical(&raw),
        }
        .map_err(D::Error::custom)
    };
    Vec::<String>::deserialize(from)?
        .into_iter()
        .map(pattern)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Host {
        text.parse()
            .map_or_else(|_| Host::Name(text.parse().unwrap()), Host::Address)
    }

    #[test]
    fn no_proxy_means_what_it_means_to_curl() {
        let table = [
            ("example.com", "example.com", true),
            ("example.com", "a.example.com", true),
            (".example.com", "example.com", true),
            (".example.com", "a.b.example.com", true),
            ("example.com", "evilexample.com", false),
            ("a.example.com", "example.com", false),
            ("EXAMPLE.com.", "example.com", true),
            ("one.test, two.test\tthree.test", "x.three.test", true),
            ("one.test two.test", "two.test", true),
            ("*", "anything.test", true),
            ("*", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.10", false),
            ("192.0.2.0/24", "192.0.2.77", true),
            ("192.0.2.0/24", "192.0.3.1", false),
            ("[2001:db8::1]", "2001:db8::1", true),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2", "192.0.2.2", false),
            ("", "example.com", false),
        ];
        for (list, name, expected) in table {
            let no_proxy = NoProxy::parse(list).unwrap_or_default();
            assert_eq!(no_proxy.covers(&host(name)), expected, "{list:?} {name}");
        }
        assert!(NoProxy::parse("a b\0c").is_err());
    }

    #[test]
    fn n03_a_parent_is_a_scheme_a_host_and_a_port_and_nothing_else() {
        for good in [
            "http://proxy.example.com:3128",
            "https://192.0.2.1:8443",
            "socks5://[2001:db8::1]:1080",
        ] {
            assert_eq!(ParentUrl::parse(good).unwrap().to_string(), good);
        }
        for wrong in [
            "proxy.example.com:3128",
            "http://proxy.example.com",
            "ftp://proxy.example.com:21",
            "http://user:secret@proxy.example.com:3128",
            "http://proxy.example.com:3128/path",
            "http://proxy.example.com:3128\r\nx: y",
            "http://a b:3128",
        ] {
            let error = ParentUrl::parse(wrong).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn the_first_parent_that_covers_a_destination_carries_it() {
        let network: NetworkConfig = toml::from_str(
            "no_proxy = \"direct.example.com\"\n\
             [[parents]]\nurl = \"http://one.test:1\"\nhosts = [\"*.example.com\", \"192.0.2.1\"]\n\
             [[parents]]\nurl = \"socks5://two.test:2\"\nhosts = [\"a.test\", \"*.example.com\"]\n",
        )
        .unwrap();
        let table = [
            ("x.example.com", Some(0)),
            ("192.0.2.1", Some(0)),
            ("a.test", Some(1)),
            ("example.com", None),
            ("direct.example.com", None),
            ("x.direct.example.com", None),
            ("192.0.2.2", None),
        ];
        for (name, expected) in table {
            let destination = Destination::from_parts(name.as_bytes(), 443).unwrap();
            assert_eq!(network.parent_for(&destination), expected, "{name}");
        }
        let all: NetworkConfig =
            toml::from_str("[[parents]]\nurl = \"http://one.test:1\"\n").unwrap();
        assert_eq!(all.parents[0].hosts, ["*"]);
    }
}
