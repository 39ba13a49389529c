//! Where a network request goes: a canonical host and a port.

use std::{fmt, net::IpAddr, num::NonZeroU16};

use thiserror::Error;

use crate::{HostError, NormalizedHost};

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
    /// Reads the target of a CONNECT request.
    ///
    /// Shape: `host ":" port` or `"[" IPv6 "]:" port`, ASCII, at most 261 bytes.
    ///
    /// # Errors
    /// [`TargetError`]; answer 400, never guess.
    ///
    /// Source: RFC 9110 section 9.3.6, RFC 3986 section 3.2.
    pub fn from_authority(_raw: &[u8]) -> Result<Self, TargetError> {
        unreachable!("skeleton")
    }

    /// Joins a host as SOCKS5 carries it (name or literal, any bytes) with its port.
    ///
    /// # Errors
    /// [`TargetError`]; port 0 is refused.
    ///
    /// Source: RFC 1928 section 5.
    pub fn from_parts(_raw_host: &[u8], _port: u16) -> Result<Self, TargetError> {
        unreachable!("skeleton")
    }
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

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port.0)
    }
}
