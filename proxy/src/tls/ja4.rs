//! The JA4 fingerprint of a TLS client: what kind of program says hello, whatever it calls itself.
//!
//! Parts of a ClientHello in, the fingerprint as text out. Never decides: a client can imitate
//! another, so a fingerprint alone must not permit anything.
//!
//! Source: FoxIO, JA4 (TLS client fingerprint), `technical_details/README.md`.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::hello::{ALPN, SERVER_NAME, is_grease};

/// What a fingerprint is made of, as it stood in the ClientHello.
pub(super) struct Parts<'a> {
    /// Highest version offered.
    pub(super) version: u16,
    /// Whether a server name is asked for.
    pub(super) named: bool,
    /// Cipher suites.
    pub(super) ciphers: &'a [u16],
    /// Extensions.
    pub(super) extensions: &'a [u16],
    /// Signature algorithms.
    pub(super) signatures: &'a [u16],
    /// The first protocol offered.
    pub(super) alpn: Option<&'a [u8]>,
}

/// The fingerprint: over TCP, 36 characters.
pub(super) fn fingerprint(parts: &Parts<'_>) -> String {
    let ciphers = plain(parts.ciphers);
    let extensions = plain(parts.extensions);
    let version = match parts.version {
        0x0304 => "13",
        0x0303 => "12",
        0x0302 => "11",
        0x0301 => "10",
        0x0300 => "s3",
        0x0002 => "s2",
        _other => "00",
    };
    format!(
        "t{version}{}{:02}{:02}{}_{}_{}",
        if parts.named { 'd' } else { 'i' },
        ciphers.len().min(99),
        extensions.len().min(99),
        ends(parts.alpn),
        hashed(&sorted(ciphers)),
        hashed_extensions(extensions, parts.signatures),
    )
}

fn hashed_extensions(mut extensions: Vec<u16>, signatures: &[u16]) -> String {
    let none = extensions.is_empty();
    // These two are told by the first part.
    extensions.retain(|kind| !matches!(*kind, SERVER_NAME | ALPN));
    let mut text = sorted(extensions);
    let signatures = plain(signatures);
    if !signatures.is_empty() {
        text.push('_');
        text.push_str(&listed(&signatures));
    }
    if none { NOTHING.into() } else { hashed(&text) }
}

/// First and last character of the first protocol; of its hexadecimal form where it is no text.
fn ends(alpn: Option<&[u8]>) -> String {
    let Some((&[first, ..], &[.., last])) = alpn.map(|name| (name, name)) else {
        return "00".into();
    };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        return [first, last].map(char::from).iter().collect();
    }
    let text = format!("{first:02x}{last:02x}");
    text.chars().next().into_iter().chain(text.chars().last()).collect()
}

fn plain(values: &[u16]) -> Vec<u16> {
    values.iter().copied().filter(|value| !is_grease(*value)).collect()
}

fn sorted(mut values: Vec<u16>) -> String {
    values.sort_unstable();
    listed(&values)
}

fn listed(values: &[u16]) -> String {
    let all: Vec<String> = values.iter().map(|value| format!("{value:04x}")).collect();
    all.join(",")
}

fn hashed(text: &str) -> String {
    if text.is_empty() {
        return NOTHING.into();
    }
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(6).fold(String::new(), |mut hex, byte| {
        // A text takes any text.
        let _written = write!(hex, "{byte:02x}");
        hex
    })
}

const NOTHING: &str = "000000000000";

#[cfg(test)]
mod tests {
    use super::*;

    /// A browser's hello, as the specification prints it.
    const CIPHERS: [u16; 16] = [
        0x1a1a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013,
        0xc014, 0x009c, 0x009d, 0x002f, 0x0035,
    ];
    const EXTENSIONS: [u16; 18] = [
        0x3a3a, 0x001b, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002d, 0x000d, 0x0005, 0x0023,
        0x0012, 0x002b, 0xff01, 0x000b, 0x000a, 0x0015, 0x5a5a,
    ];
    const SIGNATURES: [u16; 8] = [
        0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601,
    ];

    #[test]
    fn the_example_of_the_specification() {
        let parts = Parts {
            version: 0x0304,
            named: true,
            ciphers: &CIPHERS,
            extensions: &EXTENSIONS,
            signatures: &SIGNATURES,
            alpn: Some(b"h2"),
        };
        assert_eq!(fingerprint(&parts), "t13d1516h2_8daaf6152771_e5627efa2ab1");
    }

    #[test]
    fn nothing_at_all_has_a_fingerprint_too() {
        let parts = Parts {
            version: 0x0301,
            named: false,
            ciphers: &[],
            extensions: &[],
            signatures: &[],
            alpn: None,
        };
        assert_eq!(fingerprint(&parts), "t10i000000_000000000000_000000000000");
    }

    #[test]
    fn protocols_are_told_by_their_ends() {
        let table: [(&[u8], &str); 6] = [
            (b"h2", "h2"),
            (b"http/1.1", "h1"),
            (b"x", "xx"),
            (&[0xab], "ab"),
            (&[0xab, 0xcd], "ad"),
            (&[0x30, 0x31, 0xab, 0xcd], "3d"),
        ];
        for (name, expected) in table {
            assert_eq!(ends(Some(name)), expected, "{name:?}");
        }
    }
}
