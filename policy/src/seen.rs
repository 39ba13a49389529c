//! What was seen of a connection, and of an HTTP request on it, by the time it is decided.
//!
//! Plain values, filled by whoever read the bytes; bounded here where bytes come in. Never a
//! secret: of a query only its keys, of credentials only that there are some.

use std::{borrow::Cow, sync::Arc};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Destination, Host, NormalizedHost, ProcessFacts, Scheme};

/// What was seen of a connection. Default: nothing yet.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Seen {
    /// The handshake, once the client's first bytes were read.
    pub tls: Option<Arc<TlsFacts>>,
    /// Names that the lookup led to (CNAME targets), in their order. Empty before it.
    pub names: Vec<NormalizedHost>,
    /// Whether somebody else resolves the name (a parent proxy), so that nobody here knows the
    /// address.
    pub address_unverified: bool,
    /// Who inside the session holds it, where that was looked for.
    pub process: Option<Arc<ProcessFacts>>,
}

/// What a client's first bytes say about TLS.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct TlsFacts {
    /// Whether they are a handshake at all.
    pub kind: Handshake,
    /// The server name, as it was sent, lower case.
    pub sni: Option<String>,
    /// Application protocols offered, in their order.
    pub alpn: Vec<String>,
    /// Whether the true server name is encrypted (ECH).
    pub ech: bool,
    /// The client's JA4 fingerprint.
    pub ja4: Option<String>,
    /// The highest version offered: `1.2` or `1.3`.
    pub version: Option<String>,
    /// Whether Cordon ends TLS itself and decides every request inside.
    pub inspected: bool,
}

/// Whether a connection begins with a TLS handshake.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub enum Handshake {
    /// A ClientHello was read.
    #[default]
    #[serde(rename = "hello")]
    Hello,
    /// What came is not TLS.
    #[serde(rename = "not-tls")]
    NoHello,
}

/// What was read of an HTTP request beside its method and path.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct HttpFacts {
    /// Whether it came inside TLS that Cordon ended.
    pub scheme: Scheme,
    /// Keys of its query, from [`query_keys`].
    pub query_keys: Vec<String>,
    /// Media type of its body, lower case, without parameters.
    pub content_type: Option<String>,
    /// Length of its body, where the head tells; at most [`MAX_LENGTH`], which records hold exactly.
    pub content_length: Option<u64>,
    /// Whether the client sent credentials of its own (`Authorization`, `Cookie` and the like).
    pub credential: bool,
    /// The protocol it wants to change to, lower case: `websocket`, say.
    pub upgrade: Option<String>,
    /// What was seen of the connection that it came over.
    pub seen: Seen,
}

impl Default for HttpFacts {
    /// A plain request without query, body and credentials.
    fn default() -> Self {
        Self {
            scheme: Scheme::Http,
            query_keys: Vec::new(),
            content_type: None,
            content_length: None,
            credential: false,
            upgrade: None,
            seen: Seen::default(),
        }
    }
}

/// A query with more keys than are read, so that a rule about keys would not see all.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error(
    "the query has more than {MAX_QUERY_KEYS} keys, or keys of more than {MAX_KEYS_BYTES} bytes together"
)]
pub struct TooManyKeys;

/// Largest length of a body that is told from larger ones: the largest integer that every JSON
/// reader keeps exactly.
pub const MAX_LENGTH: u64 = (1 << 53) - 1;
/// Most keys of one query.
pub const MAX_QUERY_KEYS: usize = 64;
/// Most bytes of all keys of one query together.
pub const MAX_KEYS_BYTES: usize = 2_048;

/// The keys of a query, percent-decoded, sorted, each once. `;` separates as `&` does, because
/// some servers read it so and a rule about keys must see what they see.
///
/// # Errors
/// [`TooManyKeys`]; refuse the request, a part of the keys is not enough to decide by.
///
/// Source: WHATWG URL, section 5.1; RFC 1866 section 8.2.1 for `;`.
pub fn query_keys(query: &str) -> Result<Vec<String>, TooManyKeys> {
    let mut keys = Vec::new();
    let mut bytes = 0_usize;
    for pair in query.split(['&', ';']).filter(|pair| !pair.is_empty()) {
        let key = percent_decoded(pair.split('=').next().unwrap_or_default());
        bytes = bytes.saturating_add(key.len());
        if bytes > MAX_KEYS_BYTES {
            return Err(TooManyKeys);
        }
        if let Err(at) = keys.binary_search_by(|known: &String| known.as_str().cmp(&key)) {
            if keys.len() == MAX_QUERY_KEYS {
                return Err(TooManyKeys);
            }
            keys.insert(at, key);
        }
    }
    Ok(keys)
}

/// A part of a query as a server reads it: `%XX` and `+`; what is not UTF-8 then is replaced.
pub fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = match (first, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _plain => None,
        };
        rest = match escaped {
            Some((high, low)) => {
                bytes.push(high << 4 | low);
                after.get(2..).unwrap_or_default()
            }
            None => {
                bytes.push(if *first == b'+' { b' ' } else { *first });
                after
            }
        };
    }
    match String::from_utf8_lossy(&bytes) {
        Cow::Borrowed(text) => text.to_owned(),
        Cow::Owned(text) => text,
    }
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

impl TlsFacts {
    /// Whether the server name is the host that was asked for, byte by byte: a name in a handshake
    /// has no trailing dot. For an address, whether there is none: an address is never a server
    /// name.
    ///
    /// Source: RFC 6066 section 3.
    pub fn sni_matches(&self, destination: &Destination) -> bool {
        match (&destination.host, &self.sni) {
            (Host::Name(host), Some(sni)) => sni == host.as_str(),
            (Host::Address(_), None) => self.kind == Handshake::Hello,
            (Host::Name(_), None) | (Host::Address(_), Some(_)) => false,
        }
    }
}

impl Handshake {
    /// As it stands in records and in policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::NoHello => "not-tls",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n21_query_keys_are_read_as_servers_read_them() {
        for (query, expected) in [
            ("", &[] as &[&str]),
            ("a=1", &["a"]),
            ("b=1&a=2&b=3", &["a", "b"]),
            ("a=1;b=2", &["a", "b"]),
            ("&&;", &[]),
            ("=v", &[""]),
            ("flag", &["flag"]),
            ("tok%65n=1", &["token"]),
            ("a+b=1&a%20b=2", &["a b"]),
            ("100%=1&%zz", &["%zz", "100%"]),
            ("%ff=1", &["\u{fffd}"]),
            ("a=b=c", &["a"]),
        ] {
            assert_eq!(query_keys(query).unwrap(), expected, "{query:?}");
        }
    }

    #[test]
    fn n24_a_query_is_bounded_and_never_read_in_part() {
        let many = |count: usize| (0..count).map(|n| format!("k{n}=1&")).collect::<String>();
        assert_eq!(
            query_keys(&many(MAX_QUERY_KEYS)).unwrap().len(),
            MAX_QUERY_KEYS
        );
        assert_eq!(query_keys(&many(MAX_QUERY_KEYS + 1)), Err(TooManyKeys));
        assert_eq!(query_keys(&"a".repeat(MAX_KEYS_BYTES)).unwrap().len(), 1);
        assert_eq!(
            query_keys(&"a".repeat(MAX_KEYS_BYTES + 1)),
            Err(TooManyKeys)
        );
    }

    #[test]
    fn n12_the_server_name_is_compared_in_its_one_spelling() {
        let tls = |sni: Option<&str>| TlsFacts {
            sni: sni.map(str::to_owned),
            ..TlsFacts::default()
        };
        for (target, sni, matches) in [
            ("a.example.com:443", Some("a.example.com"), true),
            ("A.Example.com.:443", Some("a.example.com"), true),
            ("a.example.com:443", Some("a.example.com."), false),
            ("a.example.com:443", Some("b.example.com"), false),
            ("a.example.com:443", Some("a.example.com.evil.com"), false),
            ("a.example.com:443", None, false),
            ("192.0.2.7:443", None, true),
            ("192.0.2.7:443", Some("a.example.com"), false),
        ] {
            let destination = Destination::from_authority(target.as_bytes()).unwrap();
            assert_eq!(
                tls(sni).sni_matches(&destination),
                matches,
                "{target} {sni:?}"
            );
        }
    }
}
