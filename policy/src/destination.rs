//! Where a network request goes: a canonical host and a port.
//!
//! Bytes from the sandbox in, [`Destination`] out; every door uses these readers, so equal
//! destinations are equal values whatever way they came (N13). Never resolves names.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU16,
};

use thiserror::Error;

use crate::{
    HostError, NormalizedHost, Scheme,
    host::{ends_in_number, shown, without_root},
};

/// A canonical host and port. Equal destinations are equal values, whatever their spelling was.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Destination {
    /// Name or address.
    pub host: Host,
    /// Port, 1-65535.
    pub port: Port,
}

/// A name or an address, never a name that looks like an address.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Host {
    /// A DNS name.
    Name(NormalizedHost),
    /// An address literal. IPv4-mapped IPv6 is already its IPv4 form.
    Address(IpAddr),
}

/// A TCP port, 1-65535.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Port(pub NonZeroU16);

/// Why a target is not a destination.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum TargetError {
    /// No `:port`; a port is never guessed.
    #[error("target {text:?} has no port")]
    NoPort {
        /// The target, bounded.
        text: String,
    },
    /// Not plain decimal digits from 1 to 65535 without a leading zero.
    #[error("port {text:?} is not a decimal number from 1 to 65535")]
    BadPort {
        /// The port, bounded.
        text: String,
    },
    /// User information, a path, or anything else that does not belong into an authority.
    #[error("target {text:?} is not host and port alone")]
    NotAuthority {
        /// The target, bounded.
        text: String,
    },
    /// The host is not accepted.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl Destination {
    /// Longest authority read: a name of 253 bytes, a trailing dot, a colon and five digits.
    pub const MAX_AUTHORITY_BYTES: usize = 261;

    /// Reads the target of a CONNECT request.
    ///
    /// Shape: `host ":" port` or `"[" IPv6 "]:" port`, ASCII, at most 261 bytes.
    ///
    /// # Errors
    /// [`TargetError`]; answer 400, never guess.
    ///
    /// Source: RFC 9110 section 9.3.6, RFC 3986 section 3.2.
    pub fn from_authority(raw: &[u8]) -> Result<Self, TargetError> {
        let text = authority(raw)?;
        let (host, port) = split(text)?;
        let port = port.ok_or_else(|| TargetError::NoPort { text: shown(text) })?;
        Ok(Self {
            host: Host::read(host)?,
            port: Port::read(port)?,
        })
    }

    /// Reads the authority of an absolute-form `http` target: as [`Self::from_authority`], and
    /// without a port it is 80, which the scheme says.
    ///
    /// # Errors
    /// [`TargetError`]; answer 400. A colon without digits is refused, not read as absent.
    ///
    /// Source: RFC 9110 section 4.2.1, RFC 9112 section 3.2.2.
    pub fn from_http_authority(raw: &[u8]) -> Result<Self, TargetError> {
        Self::from_url_authority(raw, Scheme::Http)
    }

    /// Reads the authority of a URL of this scheme, which says the port where none stands there.
    ///
    /// # Errors
    /// [`TargetError`], as [`Self::from_http_authority`].
    pub fn from_url_authority(raw: &[u8], scheme: Scheme) -> Result<Self, TargetError> {
        let (host, port) = split(authority(raw)?)?;
        let host = Host::read(host)?;
        let port = match port {
            Some(port) => Port::read(port)?,
            None => Port::new(scheme.default_port())?,
        };
        Ok(Self { host, port })
    }

    /// Joins a host as SOCKS5 carries it (name or literal, any bytes) with its port.
    ///
    /// # Errors
    /// [`TargetError`]; port 0 is refused.
    ///
    /// Source: RFC 1928 section 5.
    pub fn from_parts(raw_host: &[u8], port: u16) -> Result<Self, TargetError> {
        let text = ascii(raw_host)?;
        Ok(Self {
            host: Host::read(text)?,
            port: Port::new(port)?,
        })
    }

    /// A destination known by address, as a captured connection or a SOCKS5 literal names it.
    ///
    /// # Errors
    /// [`TargetError::BadPort`] for port 0.
    pub fn from_address(address: IpAddr, port: u16) -> Result<Self, TargetError> {
        Ok(Self {
            host: Host::Address(address.to_canonical()),
            port: Port::new(port)?,
        })
    }
}

impl Host {
    /// Reads a name or an address in any spelling that some resolver accepts.
    fn read(text: &str) -> Result<Self, HostError> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner
                .strip_suffix(']')
                .ok_or_else(|| HostError::BadIpv6 { text: shown(text) })?;
            return ipv6(inner, text);
        }
        if text.contains(':') {
            return ipv6(text, text);
        }
        let bare = without_root(text);
        if ends_in_number(bare) {
            let address =
                ipv4(bare).ok_or_else(|| HostError::EndsInNumber { text: shown(text) })?;
            return Ok(Self::Address(address.into()));
        }
        text.parse().map(Self::Name)
    }
}

impl Port {
    /// Checks a port that came as a number.
    ///
    /// # Errors
    /// [`TargetError::BadPort`] for 0.
    pub fn new(port: u16) -> Result<Self, TargetError> {
        NonZeroU16::new(port)
            .map(Self)
            .ok_or_else(|| TargetError::BadPort { text: "0".into() })
    }

    /// The port as a number.
    pub fn get(self) -> u16 {
        self.0.get()
    }

    /// One to five digits without a leading zero or sign, nothing else (N08).
    fn read(text: &str) -> Result<Self, TargetError> {
        let plain = (1..=5).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_digit())
            && !text.starts_with('0');
        plain
            .then(|| text.parse().ok().map(Self))
            .flatten()
            .ok_or_else(|| TargetError::BadPort { text: shown(text) })
    }
}

impl TargetError {
    /// What to do; shown after `help:`.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoPort { .. } => "name the port, for example `example.com:443`",
            Self::BadPort { .. } => "write the port as a plain decimal number from 1 to 65535",
            Self::NotAuthority { .. } => {
                "send host and port alone, without user, path or scheme; IPv6 in brackets"
            }
            Self::Host(error) => error.hint(),
        }
    }
}

fn authority(raw: &[u8]) -> Result<&str, TargetError> {
    let text = ascii(raw)?;
    let foreign = |b: u8| matches!(b, b'@' | b'/' | b'\\' | b'?' | b'#');
    if raw.len() > Destination::MAX_AUTHORITY_BYTES || text.bytes().any(foreign) {
        return Err(TargetError::NotAuthority { text: shown(text) });
    }
    Ok(text)
}

/// ASCII text, or the refusal; control bytes are refused with the host they are in.
fn ascii(raw: &[u8]) -> Result<&str, HostError> {
    match std::str::from_utf8(raw) {
        Ok(text) if text.is_ascii() => Ok(text),
        Ok(text) => Err(HostError::NotAscii { text: shown(text) }),
        Err(_) => Err(HostError::NotAscii {
            text: shown(&String::from_utf8_lossy(raw)),
        }),
    }
}

/// Splits an authority by its grammar, once: brackets first, then exactly one colon.
fn split(text: &str) -> Result<(&str, Option<&str>), TargetError> {
    let not_authority = || TargetError::NotAuthority { text: shown(text) };
    if text.starts_with('[') {
        let end = text.find(']').ok_or_else(not_authority)?;
        let (host, rest) = text.split_at_checked(end + 1).ok_or_else(not_authority)?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(not_authority()),
        };
    }
    match text.split_once(':') {
        Some((_, port)) if port.contains(':') => Err(not_authority()),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((text, None)),
    }
}

fn ipv6(inner: &str, text: &str) -> Result<Host, HostError> {
    if inner.contains('%') {
        return Err(HostError::Zone { text: shown(text) });
    }
    let address: Ipv6Addr = inner
        .parse()
        .map_err(|_| HostError::BadIpv6 { text: shown(text) })?;
    Ok(Host::Address(IpAddr::V6(address).to_canonical()))
}

/// Reads an IPv4 address as `inet_aton` does: one to four parts, each decimal, octal (`0`) or
/// hexadecimal (`0x`), the last one filling what is left.
fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u32> = text.split('.').map(number).collect::<Option<_>>()?;
    let (last, leading) = parts.split_last()?;
    let free_bits = 32_u32.checked_sub(8 * u32::try_from(leading.len()).ok()?)?;
    if free_bits == 0 || (free_bits < 32 && last >> free_bits != 0) {
        return None;
    }
    let mut address = *last;
    for (part, shift) in leading.iter().zip([24_u32, 16, 8]) {
        address |= u32::from(u8::try_from(*part).ok()?) << shift;
    }
    Some(Ipv4Addr::from(address))
}

fn number(part: &str) -> Option<u32> {
    let (digits, radix) = match part.strip_prefix("0x").or_else(|| part.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None if part.len() > 1 && part.starts_with('0') => (part, 8),
        None => (part, 10),
    };
    // `from_str_radix` takes a sign, which no address has.
    let plain = digits.bytes().all(|b| b.is_ascii_hexdigit());
    plain
        .then(|| u32::from_str_radix(digits, radix).ok())
        .flatten()
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(IpAddr::V4(a)) => a.fmt(f),
            Self::Address(IpAddr::V6(a)) => write!(f, "[{a}]"),
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests;
