//! `[resolve]`: how names become addresses.
//!
//! ```toml
//! [resolve]
//! nameservers = ["192.0.2.53", "tls://192.0.2.1#dns.example.com"]
//! cache_entries = 8192
//!
//! [[resolve.split]]                       # these names, and what is below them, are asked there
//! domain = "corp.example.com"
//! nameservers = ["10.20.0.53"]
//! ```

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use serde::{Deserialize, Deserializer, de::Error as _};

use super::{canonical, limits::seconds};

/// `[resolve]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResolveConfig {
    /// Host name to addresses, used instead of DNS. Classified like any other answer. Names are
    /// in their one spelling.
    #[serde(deserialize_with = "canonical_overrides")]
    pub overrides: BTreeMap<String, Vec<IpAddr>>,
    /// Nameservers asked instead of the system's. Empty: the system's.
    pub nameservers: Vec<Nameserver>,
    /// `[[resolve.split]]`: nameservers for some domains; the longest domain that fits counts.
    pub split: Vec<SplitDns>,
    /// Names whose answers are kept. 0 keeps none. Default 8192.
    pub cache_entries: Option<u32>,
    /// Longest time that an answer is kept, whatever its TTL says. Default 3600.
    #[serde(deserialize_with = "seconds")]
    pub cache_seconds: Option<Duration>,
    /// Longest time that "no such name" is kept. Default 60.
    #[serde(deserialize_with = "seconds")]
    pub cache_negative_seconds: Option<Duration>,
}

/// Nameservers for one domain and everything below it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitDns {
    /// The domain, in its one spelling.
    #[serde(deserialize_with = "canonical_domain")]
    pub domain: String,
    /// Who is asked; nobody else is, also when they do not answer.
    pub nameservers: Vec<Nameserver>,
}

/// One nameserver and the way to ask it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Nameserver {
    /// Where it is.
    pub address: SocketAddr,
    /// How it is asked.
    pub transport: DnsTransport,
}

/// How a nameserver is asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DnsTransport {
    /// UDP, and TCP for long answers: `192.0.2.53`, `[::1]:5353`, `udp://192.0.2.53`.
    Udp,
    /// TCP alone: `tcp://192.0.2.53`.
    Tcp,
    /// DNS over TLS (RFC 7858): `tls://192.0.2.1#dns.example.com`.
    Tls {
        /// The name in its certificate; the address where none is given.
        name: String,
    },
    /// DNS over HTTPS (RFC 8484): `https://192.0.2.1/dns-query#dns.example.com`.
    Https {
        /// The name in its certificate; the address where none is given.
        name: String,
        /// The path, `/dns-query` where none is given.
        path: String,
    },
}

impl ResolveConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        for (host, addresses) in &self.overrides {
            if addresses.is_empty() {
                return Err(format!(
                    "override of `{host}` has no addresses; name one, or remove it"
                ));
            }
        }
        for split in &self.split {
            let domain = &split.domain;
            if split.nameservers.is_empty() {
                return Err(format!(
                    "`resolve.split` of `{domain}` has no `nameservers`; name one, or remove it"
                ));
            }
            if self.split.iter().filter(|s| s.domain == *domain).count() > 1 {
                return Err(format!("`resolve.split` names `{domain}` twice; keep one"));
            }
        }
        Ok(())
    }

    pub(super) fn extend(&mut self, later: Self) {
        self.overrides.extend(later.overrides);
        self.nameservers.extend(later.nameservers);
        for split in later.split {
            self.split.retain(|earlier| earlier.domain != split.domain);
            self.split.push(split);
        }
        self.cache_entries = later.cache_entries.or(self.cache_entries);
        self.cache_seconds = later.cache_seconds.or(self.cache_seconds);
        self.cache_negative_seconds = later.cache_negative_seconds.or(self.cache_negative_seconds);
    }
}

impl Nameserver {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("udp", text));
        let (rest, name) = match rest.split_once('#') {
            Some((rest, name)) => (rest, Some(name)),
            None => (rest, None),
        };
        let (place, path) = match rest.find('/') {
            Some(at) => rest.split_at_checked(at)?,
            None => (rest, ""),
        };
        let port = match scheme {
            "udp" | "tcp" => 53,
            "tls" => 853,
            "https" => 443,
            _ => return None,
        };
        let bare = place.trim_start_matches('[').trim_end_matches(']');
        let address = match (place.parse(), bare.parse::<IpAddr>()) {
            (Ok(address), _) => address,
            (Err(_), Ok(ip)) => SocketAddr::new(ip, port),
            (Err(_), Err(_)) => return None,
        };
        let secure = matches!(scheme, "tls" | "https");
        if (!secure && name.is_some()) || (scheme != "https" && !path.is_empty()) {
            return None;
        }
        // A name is checked like any host; without one the certificate names the address.
        let name = match name {
            Some(name) => match name.parse::<IpAddr>() {
                Ok(address) => address.to_string(),
                Err(_) => canonical(name).ok()?,
            },
            None => address.ip().to_string(),
        };
        let transport = match scheme {
            "tcp" => DnsTransport::Tcp,
            "tls" => DnsTransport::Tls { name },
            "https" => DnsTransport::Https {
                name,
                path: path_of(path)?,
            },
            _ => DnsTransport::Udp,
        };
        Some(Self { address, transport })
    }
}

/// The path of a DNS-over-HTTPS resource: plain characters alone, because it goes into a request.
fn path_of(path: &str) -> Option<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~".contains(&b);
    match path {
        "" | "/" => Some("/dns-query".into()),
        path => path.bytes().all(plain).then(|| path.into()),
    }
}

impl fmt::Display for Nameserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address;
        match &self.transport {
            DnsTransport::Udp => write!(f, "{address}"),
            DnsTransport::Tcp => write!(f, "tcp://{address}"),
            DnsTransport::Tls { name } => write!(f, "tls://{address}#{name}"),
            DnsTransport::Https { name, path } => write!(f, "https://{address}{path}#{name}"),
        }
    }
}

impl<'de> Deserialize<'de> for Nameserver {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| {
            D::Error::custom(format!(
                "nameserver {text:?} is not an address; name it as in `192.0.2.53`, `[::1]:5353`, \
                 `tcp://192.0.2.53`, `tls://192.0.2.1#dns.example.com` or \
                 `https://192.0.2.1/dns-query#dns.example.com`"
            ))
        })
    }
}

fn canonical_domain<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    canonical(&String::deserialize(from)?).map_err(D::Error::custom)
}

fn canonical_overrides<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<BTreeMap<String, Vec<IpAddr>>, D::Error> {
    let raw = BTreeMap::<String, Vec<IpAddr>>::deserialize(from)?;
    let mut overrides = BTreeMap::new();
    for (name, addresses) in raw {
        let host = canonical(&name).map_err(D::Error::custom)?;
        if overrides.insert(host.clone(), addresses).is_some() {
            return Err(D::Error::custom(format!(
                "`{host}` is overridden twice in different spellings; keep one"
            )));
        }
    }
    Ok(overrides)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameservers_have_one_spelling_each() {
        let table = [
            ("192.0.2.53", "192.0.2.53:53"),
            ("udp://192.0.2.53:54", "192.0.2.53:54"),
            ("::1", "[::1]:53"),
            ("[::1]:5353", "[::1]:5353"),
            ("tcp://[::1]", "tcp://[::1]:53"),
            (
                "tls://192.0.2.1#DNS.Example.com",
                "tls://192.0.2.1:853#dns.example.com",
            ),
            ("tls://192.0.2.1:8853", "tls://192.0.2.1:8853#192.0.2.1"),
            (
                "https://192.0.2.1#dns.example.com",
                "https://192.0.2.1:443/dns-query#dns.example.com",
            ),
            (
                "https://[2001:db8::1]:444/a/b#dns.example.com",
                "https://[2001:db8::1]:444/a/b#dns.example.com",
            ),
        ];
        for (text, expected) in table {
            let read = Nameserver::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(read.to_string(), expected, "{text}");
            assert_eq!(
                Nameserver::parse(expected).as_ref(),
                Some(&read),
                "{expected}"
            );
        }
        for wrong in [
            "",
            "dns.example.com",
            "https://dns.example.com/dns-query",
            "quic://192.0.2.1",
            "192.0.2.1#name",
            "192.0.2.1/path",
            "tls://192.0.2.1/path",
            "tls://192.0.2.1#a b",
            "https://192.0.2.1/a b",
            "https://192.0.2.1/a\r\nx: y",
            "https://192.0.2.1/a?b",
        ] {
            assert_eq!(Nameserver::parse(wrong), None, "{wrong:?}");
        }
    }
}
