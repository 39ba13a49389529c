//! A DNS name in its one spelling.
//!
//! Text from the sandbox in, [`NormalizedHost`] out. Never resolves names, never accepts an
//! address in any spelling: what `inet_aton` would read as a number is not a name (N05).

use std::{fmt, str::FromStr, sync::Arc};

use thiserror::Error;

/// A DNS name in its one spelling (lower case, A-labels, no trailing dot), so equal hosts are
/// equal bytes. Only [`FromStr`] makes one; never an address in any spelling.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NormalizedHost(Arc<str>);

/// Why a text is not a host name. Texts are bounded to [`HostError::SHOWN_BYTES`].
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum HostError {
    /// Nothing, or a single dot.
    #[error("host not accepted: it is empty")]
    Empty,
    /// More than 253 bytes.
    #[error("host not accepted: {length} bytes are more than 253")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// A byte outside ASCII: a U-label, a full-width dot, or not text at all.
    #[error("host not accepted: {text:?} has a byte outside ASCII")]
    NotAscii {
        /// The host, bounded.
        text: String,
    },
    /// A byte that no name has: NUL, control, space, `%`, `@`, `/`, `\` and the like.
    #[error(
        "host not accepted: {text:?} has {byte:?}, which is not a letter, digit, `-`, `_` or `.`"
    )]
    BadByte {
        /// The host, bounded.
        text: String,
        /// The first such byte.
        byte: char,
    },
    /// A label that is empty, too long, or starts or ends with `-`.
    #[error(
        "host not accepted: label {label:?} is not 1 to 63 bytes that start and end with a letter, digit or `_`"
    )]
    BadLabel {
        /// The label, bounded.
        label: String,
    },
    /// An `xn--` label that is no A-label.
    #[error("host not accepted: label {label:?} is not a valid A-label")]
    BadALabel {
        /// The label, bounded.
        label: String,
    },
    /// The last label is a number, so some resolvers read it as an IPv4 address.
    #[error("host not accepted: {text:?} ends in a number but is no IPv4 address")]
    EndsInNumber {
        /// The host, bounded.
        text: String,
    },
    /// Brackets or colons without an IPv6 address in them.
    #[error("host not accepted: {text:?} is no IPv6 address")]
    BadIpv6 {
        /// The host, bounded.
        text: String,
    },
    /// An IPv6 address with a zone (`%eth0`).
    #[error("host not accepted: {text:?} carries an IPv6 zone")]
    Zone {
        /// The host, bounded.
        text: String,
    },
}

impl NormalizedHost {
    /// Longest name in bytes, without the trailing dot.
    pub const MAX_BYTES: usize = 253;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name itself and every suffix of it at a label boundary, longest first.
    pub fn suffixes(&self) -> impl Iterator<Item = &str> {
        let mut rest = Some(&*self.0);
        std::iter::from_fn(move || {
            let current = rest?;
            rest = current.split_once('.').map(|(_, tail)| tail);
            Some(current)
        })
    }
}

impl FromStr for NormalizedHost {
    type Err = HostError;

    /// Accepts 1-63 byte labels of letters, digits, `-` and `_`, at most 253 bytes, any case, with
    /// one trailing dot or none.
    ///
    /// Source: RFC 1123 section 2.1, RFC 5890 section 2.3.1; WHATWG URL "ends in a number".
    fn from_str(raw: &str) -> Result<Self, HostError> {
        let name = without_root(raw);
        check_bytes(name)?;
        let lower = name.to_ascii_lowercase();
        for label in lower.split('.') {
            check_label(label)?;
        }
        if ends_in_number(&lower) {
            return Err(HostError::EndsInNumber { text: shown(raw) });
        }
        Ok(Self(lower.into()))
    }
}

impl fmt::Display for NormalizedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl HostError {
    /// Longest untrusted text kept in an error, in bytes.
    pub const SHOWN_BYTES: usize = 300;

    /// What to do; shown after `help:`.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Empty => "name a host",
            Self::TooLong { .. } => "a DNS name has at most 253 bytes; check what built it",
            Self::NotAscii { .. } => "send the A-label (`xn--`) form of an international name",
            Self::BadByte { .. } | Self::BadLabel { .. } => {
                "send the plain name, without user, path, encoding or port"
            }
            Self::BadALabel { .. } => "check the spelling of the international name",
            Self::EndsInNumber { .. } => "write an IPv4 address as four decimal numbers",
            Self::BadIpv6 { .. } => {
                "write an IPv6 address in brackets, for example `[2001:db8::1]`"
            }
            Self::Zone { .. } => "leave the zone out; link-local destinations are out of reach",
        }
    }
}

/// The host without the one trailing dot that marks a name as complete.
pub(crate) fn without_root(raw: &str) -> &str {
    raw.strip_suffix('.').unwrap_or(raw)
}

/// Whether the last label is a number as `inet_aton` or a browser reads one: decimal or octal
/// digits, or `0x` with any hexadecimal digits.
pub(crate) fn ends_in_number(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or(host);
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    match hex {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_hexdigit()),
        None => !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()),
    }
}

/// Cuts untrusted text for an error; escaping is done where it is shown.
pub(crate) fn shown(raw: &str) -> String {
    let mut end = raw.len().min(HostError::SHOWN_BYTES);
    while !raw.is_char_boundary(end) {
        end -= 1;
    }
    raw.get(..end).unwrap_or_default().to_owned()
}

fn check_bytes(name: &str) -> Result<(), HostError> {
    if name.is_empty() {
        return Err(HostError::Empty);
    }
    if !name.is_ascii() {
        return Err(HostError::NotAscii { text: shown(name) });
    }
    if name.len() > NormalizedHost::MAX_BYTES {
        return Err(HostError::TooLong { length: name.len() });
    }
    match name.bytes().find(|b| !is_name_byte(*b)) {
        Some(b'%') if name.contains(':') => Err(HostError::Zone { text: shown(name) }),
        Some(b'[' | b']' | b':') => Err(HostError::BadIpv6 { text: shown(name) }),
        Some(byte) => Err(HostError::BadByte {
            text: shown(name),
            byte: char::from(byte),
        }),
        None => Ok(()),
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

fn check_label(label: &str) -> Result<(), HostError> {
    // A leading `-` is also how a name turns into an option of some client.
    if !(1..=63).contains(&label.len()) || label.starts_with('-') || label.ends_with('-') {
        return Err(HostError::BadLabel {
            label: shown(label),
        });
    }
    if label.starts_with("xn--") && idna::domain_to_unicode(label).1.is_err() {
        return Err(HostError::BadALabel {
            label: shown(label),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
