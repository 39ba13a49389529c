//! Reads a TLS ClientHello and says what it shows.
//!
//! Bytes as they arrive from the client in, [`Progress`] out. A total function on any bytes: it
//! never panics, and holds no more than [`limits::HELLO_BYTES`]. What a server could read in two
//! ways (a repeated extension, two names, bytes after the end) is malformed, never repaired.
//!
//! Source: RFC 8446 sections 4.1.2, 4.2 and 5.1, RFC 6066 section 3, RFC 7301 section 3.1.

use std::str::FromStr;

use cordon_policy::{Handshake, NormalizedHost, TlsFacts};

use super::{fields::Fields, ja4};
use crate::limits;

/// Collects what a client says first, until it is a ClientHello or cannot become one.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// Everything received, to be sent on unchanged.
    received: Vec<u8>,
    /// How much of it is records that were read.
    read: usize,
    /// Handshake bytes out of those records.
    message: Vec<u8>,
}

/// What came of the bytes so far.
#[derive(Debug)]
pub(crate) enum Progress {
    /// It may become a ClientHello.
    More,
    /// It is one.
    Hello(Box<Hello>),
    /// It is not TLS.
    NotTls,
    /// It began as TLS and is not well-formed, or too long.
    Malformed(&'static str),
}

/// What a ClientHello shows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Hello {
    /// Name of the server that is asked for.
    pub(crate) sni: Option<NormalizedHost>,
    /// Protocols offered, in order; such with bytes that are not visible ASCII are escaped.
    pub(crate) alpn: Vec<String>,
    /// Whether there is an encrypted ClientHello in it, or something that looks like one.
    pub(crate) ech: bool,
    /// Highest version offered, for example `1.3`.
    pub(crate) version: Option<&'static str>,
    /// Fingerprint of the client.
    pub(crate) ja4: String,
}

impl Reader {
    /// Takes further bytes; those received so far are judged together.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Progress {
        self.received.extend_from_slice(bytes);
        match self.records() {
            // Judged before it is said to be too long: what follows a hello is not part of it.
            Progress::More if self.received.len() >= limits::HELLO_BYTES => {
                Progress::Malformed("the ClientHello is longer than any client's")
            }
            progress => progress,
        }
    }

    /// Everything received.
    pub(crate) fn received(&self) -> &[u8] {
        &self.received
    }

    /// Everything received, to keep.
    pub(crate) fn into_received(self) -> Vec<u8> {
        self.received
    }

    /// Reads records until the message in them is whole.
    fn records(&mut self) -> Progress {
        loop {
            if let Some(progress) = self.message() {
                return progress;
            }
            let rest = self.received.get(self.read..).unwrap_or_default();
            let (high, low) = match *rest {
                [_, _, _, high, low, ..] => (high, low),
                _ if self.may_be_record(rest) => return Progress::More,
                _ => return self.foreign(rest),
            };
            if !self.may_be_record(rest) {
                return self.foreign(rest);
            }
            let length = usize::from(u16::from_be_bytes([high, low]));
            if length == 0 || length > LONGEST_RECORD {
                return self.broken("a TLS record of the ClientHello has no valid length");
            }
            let begin = self.read + RECORD_HEAD;
            // Of a record that is not whole yet, too: a client may stop in the middle of one.
            let Some(fragment) = self.received.get(begin..begin + length) else {
                return Progress::More;
            };
            self.message.extend_from_slice(fragment);
            self.read = begin + length;
        }
    }

    /// Whether a handshake record may begin like this, to the most lenient server: none looks at the
    /// minor version (RFC 8446, section 5.1), and Go's at no more than half a byte of the major one.
    /// Where the first has another than TLS's, the first byte of a ClientHello has to follow: other
    /// protocols begin with a length of 22.
    fn may_be_record(&self, head: &[u8]) -> bool {
        let is_known = |major: &u8| *major == 3 || self.read != 0;
        let is_hello = || head.get(5).is_none_or(|kind| *kind == CLIENT_HELLO);
        head.first().is_none_or(|kind| *kind == HANDSHAKE)
            && head
                .get(1)
                .is_none_or(|major| *major < 0x10 && (is_known(major) || is_hello()))
    }

    /// What does not look like a handshake record.
    fn foreign(&self, rest: &[u8]) -> Progress {
        if self.read != 0 {
            let why = "the ClientHello is interrupted by another record";
            match rest.first() {
                // Servers drop a warning wherever it comes.
                Some(&ALERT) => Progress::Malformed(why),
                _other => self.broken(why),
            }
        } else if may_be_in_an_old_frame(rest) {
            match rest.len() {
                ..OLD_HEAD => Progress::More,
                _whole => Progress::Malformed("the ClientHello is in a record of SSL 2"),
            }
        } else if may_be_a_warning(rest) {
            match rest.len() {
                ..WARNING_HEAD => Progress::More,
                _whole => Progress::Malformed("an alert comes before the ClientHello"),
            }
        } else {
            Progress::NotTls
        }
    }

    /// What no server takes for a hello. Where its first record has the version of no TLS, it is
    /// another protocol's: many begin with a length of 22.
    fn broken(&self, why: &'static str) -> Progress {
        match self.is_odd() {
            true => Progress::NotTls,
            false => Progress::Malformed(why),
        }
    }

    fn is_odd(&self) -> bool {
        self.received.get(1).is_some_and(|major| *major != 3)
    }

    /// The message, where it is whole or wrong already.
    fn message(&self) -> Option<Progress> {
        let &[kind, a, b, c] = self.message.get(..4)? else {
            return None;
        };
        if kind != CLIENT_HELLO {
            return Some(Progress::Malformed("the first message is no ClientHello"));
        }
        let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
        if self.is_odd() && !(SHORTEST..=LONGEST).contains(&length) {
            return Some(Progress::NotTls);
        }
        if length > limits::HELLO_BYTES {
            return Some(Progress::Malformed(
                "the ClientHello is longer than any client's",
            ));
        }
        let body = self.message.get(4..)?;
        if body.len() > length {
            return Some(Progress::Malformed(
                "a message follows in the ClientHello's record",
            ));
        }
        if body.len() < length {
            return None;
        }
        Some(match hello(body) {
            Ok(hello) => Progress::Hello(Box::new(hello)),
            Err(Wrong(why)) => Progress::Malformed(why),
        })
    }
}

impl Hello {
    /// As policy sees it.
    pub(crate) fn facts(self) -> TlsFacts {
        TlsFacts {
            kind: Handshake::Hello,
            sni: self.sni.map(|name| name.to_string()),
            alpn: self.alpn,
            ech: self.ech,
            ja4: Some(self.ja4),
            version: self.version.map(str::to_owned),
            inspected: false,
        }
    }
}

/// Whether the record of SSL 2 may begin like this in which a client may say that it speaks TLS, and
/// OpenSSL still reads it (RFC 5246, appendix E.2): a length of 9 bytes to 16 KiB, the message, the
/// version.
fn may_be_in_an_old_frame(head: &[u8]) -> bool {
    let is_long = |low: &u8| head.first() != Some(&0x80) || *low >= 9;
    head.first().is_none_or(|high| (0x80..=0xbf).contains(high))
        && head.get(1).is_none_or(is_long)
        && head.get(2).is_none_or(|kind| *kind == CLIENT_HELLO)
        && head.get(3).is_none_or(|major| *major == 3)
}

/// Bytes by which that is known.
const OLD_HEAD: usize = 4;

/// Whether a warning may begin like this, which Go's server and rustls drop before a hello.
fn may_be_a_warning(head: &[u8]) -> bool {
    const WARNING: u8 = 1;
    let length = [(0, 3), (2, 4), (WARNING, 5)];
    head.first().is_none_or(|kind| *kind == ALERT)
        && head.get(1).is_none_or(|major| *major < 0x10)
        && length
            .into_iter()
            .all(|(meant, at)| head.get(at).is_none_or(|seen| *seen == meant))
}

/// Bytes by which that is known.
const WARNING_HEAD: usize = 6;

/// The record's type.
const ALERT: u8 = 21;

/// Bytes of a ClientHello that a server may take: the version, what is random and one cipher at
/// least, and what Go's takes at most.
const SHORTEST: usize = 38;
const LONGEST: usize = 1 << 16;

/// What is wrong with a ClientHello.
struct Wrong(&'static str);

impl From<super::fields::Short> for Wrong {
    fn from(_short: super::fields::Short) -> Self {
        Self("a length in the ClientHello does not fit")
    }
}

fn hello(body: &[u8]) -> Result<Hello, Wrong> {
    let mut fields = Fields(body);
    let legacy_version = fields.u16()?;
    let _random = fields.take(32)?;
    let session_id = fields.vector8()?;
    if session_id.len() > 32 {
        return Err(Wrong("the session id of the ClientHello is too long"));
    }
    let ciphers = Fields(fields.vector16()?).all_u16()?;
    let _compression = fields.vector8()?;
    let mut extensions = Extensions::default();
    // Before TLS 1.2 there may be none at all.
    if !fields.0.is_empty() {
        extensions.read(fields.vector16()?)?;
    }
    if !fields.0.is_empty() {
        return Err(Wrong("bytes follow the extensions of the ClientHello"));
    }
    let version = extensions.highest(legacy_version);
    Ok(Hello {
        ja4: ja4::fingerprint(&ja4::Parts {
            version,
            named: extensions.kinds.contains(&SERVER_NAME),
            ciphers: &ciphers,
            extensions: &extensions.kinds,
            signatures: &extensions.signatures,
            alpn: extensions.alpn.first().copied(),
        }),
        version: words(version),
        sni: extensions.sni,
        alpn: extensions
            .alpn
            .iter()
            .filter(|name| !is_grease_name(name))
            .map(|name| name.escape_ascii().to_string())
            .collect(),
        ech: extensions.ech,
    })
}

/// The extensions of a ClientHello, as far as anything here depends on them.
#[derive(Default)]
struct Extensions<'a> {
    /// All of them, in order.
    kinds: Vec<u16>,
    sni: Option<NormalizedHost>,
    alpn: Vec<&'a [u8]>,
    versions: Vec<u16>,
    signatures: Vec<u16>,
    ech: bool,
}

impl<'a> Extensions<'a> {
    fn read(&mut self, bytes: &'a [u8]) -> Result<(), Wrong> {
        let mut fields = Fields(bytes);
        while !fields.0.is_empty() {
            let kind = fields.u16()?;
            let data = fields.vector16()?;
            // RFC 8446 section 4.2: there must be one of each. With two, which counts?
            if self.kinds.contains(&kind) {
                return Err(Wrong("an extension of the ClientHello is there twice"));
            }
            if self.kinds.len() >= limits::HELLO_EXTENSIONS {
                return Err(Wrong(
                    "the ClientHello has more extensions than any client's",
                ));
            }
            self.kinds.push(kind);
            self.one(kind, data)?;
        }
        Ok(())
    }

    fn one(&mut self, kind: u16, data: &'a [u8]) -> Result<(), Wrong> {
        match kind {
            SERVER_NAME => self.sni = Some(server_name(data)?),
            ALPN => self.alpn = protocols(data)?,
            SUPPORTED_VERSIONS => {
                let mut fields = Fields(data);
                self.versions = Fields(fields.vector8()?).all_u16()?;
                fields.end()?;
            }
            SIGNATURE_ALGORITHMS => {
                let mut fields = Fields(data);
                self.signatures = Fields(fields.vector16()?).all_u16()?;
                fields.end()?;
            }
            ENCRYPTED_CLIENT_HELLO | ENCRYPTED_SNI => self.ech = true,
            _other => {}
        }
        Ok(())
    }

    /// The highest version that is offered; before TLS 1.3 the message itself says it.
    fn highest(&self, legacy: u16) -> u16 {
        let offered = self.versions.iter().copied();
        offered
            .filter(|version| !is_grease(*version))
            .max()
            .unwrap_or(legacy)
    }
}

/// Exactly one host name, which is no address.
fn server_name(data: &[u8]) -> Result<NormalizedHost, Wrong> {
    let mut fields = Fields(data);
    let mut names = Fields(fields.vector16()?);
    fields.end()?;
    if names.u8()? != HOST_NAME {
        return Err(Wrong("the server name of the ClientHello is no host name"));
    }
    let name = names.vector16()?;
    if !names.0.is_empty() {
        return Err(Wrong("the ClientHello has more than one server name"));
    }
    let text = std::str::from_utf8(name).map_err(|_bytes| Wrong(NOT_A_NAME))?;
    NormalizedHost::from_str(text).map_err(|_error| Wrong(NOT_A_NAME))
}

fn protocols(data: &[u8]) -> Result<Vec<&[u8]>, Wrong> {
    let mut fields = Fields(data);
    let mut list = Fields(fields.vector16()?);
    fields.end()?;
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        let name = list.vector8()?;
        if name.is_empty() || protocols.len() >= limits::HELLO_PROTOCOLS {
            return Err(Wrong(
                "the protocols of the ClientHello are not a valid list",
            ));
        }
        protocols.push(name);
    }
    Ok(protocols)
}

/// Values that clients send so that servers learn to pass over what they do not know.
///
/// Source: RFC 8701 section 2.
pub(super) fn is_grease(value: u16) -> bool {
    let [high, low] = value.to_be_bytes();
    high == low && low & 0x0f == 0x0a
}

fn is_grease_name(name: &[u8]) -> bool {
    <[u8; 2]>::try_from(name).is_ok_and(|pair| is_grease(u16::from_be_bytes(pair)))
}

fn words(version: u16) -> Option<&'static str> {
    match version {
        0x0304 => Some("1.3"),
        0x0303 => Some("1.2"),
        0x0302 => Some("1.1"),
        0x0301 => Some("1.0"),
        _other => None,
    }
}

const NOT_A_NAME: &str = "the server name of the ClientHello is no DNS name";

const RECORD_HEAD: usize = 5;
const LONGEST_RECORD: usize = 1 << 14;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const HOST_NAME: u8 = 0;

pub(super) const SERVER_NAME: u16 = 0;
pub(super) const SIGNATURE_ALGORITHMS: u16 = 13;
pub(super) const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;
/// Source: RFC 9849 section 5.
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
/// What came before it, which some servers still read.
const ENCRYPTED_SNI: u16 = 0xffce;

#[cfg(test)]
mod tests;
