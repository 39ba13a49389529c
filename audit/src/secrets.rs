//! Known secrets, and how they are kept out of the log (A08).
//!
//! Values in, texts without them out. The values are never shown, not even in a debug print.

use std::fmt;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::{
    Engine as _,
    engine::general_purpose::{GeneralPurpose, STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};

use crate::draft::hex;

/// A value that no record may hold.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// Shortest secret. A shorter one would be found in ordinary texts.
    pub const MIN_BYTES: usize = 6;

    /// Longest secret.
    pub const MAX_BYTES: usize = 64 * 1024;
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The secrets that are known. Their values, their percent-encoded, hexadecimal and base64 forms
/// (also as a part of what was encoded) are found wherever they stand in a text, in upper and
/// lower case: host names lose it.
#[derive(Default)]
pub(crate) struct Secrets(Option<AhoCorasick>);

impl Secrets {
    /// Knows `values`.
    ///
    /// # Errors
    /// Says what is wrong: a value too short to be told from ordinary text, or too many.
    pub(crate) fn new(values: &[Secret]) -> Result<Self, String> {
        if values.is_empty() {
            return Ok(Self::default());
        }
        if values.len() > MAX_SECRETS {
            return Err(format!("more than {MAX_SECRETS} known secrets"));
        }
        let mut forms = Vec::new();
        for Secret(value) in values {
            if !(Secret::MIN_BYTES..=Secret::MAX_BYTES).contains(&value.len()) {
                return Err(format!(
                    "a known secret is not {} to {} bytes long: a shorter one cannot be told from \
                     ordinary text",
                    Secret::MIN_BYTES,
                    Secret::MAX_BYTES
                ));
            }
            forms.push(value.clone());
            forms.push(percent_encoded(value));
            forms.push(hex(value.as_bytes()));
            for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
                forms.extend((0..3).map(|before| inner_base64(engine, before, value)));
            }
        }
        AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .ascii_case_insensitive(true)
            .build(forms)
            .map(|found| Self(Some(found)))
            .map_err(|error| format!("known secrets cannot be searched for: {error}"))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether a secret is in `text`.
    pub(crate) fn are_in(&self, text: &str) -> bool {
        self.0.as_ref().is_some_and(|known| known.is_match(text))
    }

    /// Replaces every secret in `text`; whether there was one.
    pub(crate) fn mask(&self, text: &mut String) -> bool {
        let Some(found) = self
            .0
            .as_ref()
            .filter(|known| known.is_match(text.as_str()))
        else {
            return false;
        };
        let mut masked = String::with_capacity(text.len());
        found.replace_all_with(text, &mut masked, |_, _, out| {
            out.push_str(MASK);
            true
        });
        *text = masked;
        true
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() {
            "no secrets"
        } else {
            "secrets"
        })
    }
}

/// As a careful client writes it into a URL: everything but the unreserved characters encoded.
fn percent_encoded(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _infallible = fmt::Write::write_fmt(&mut encoded, format_args!("%{byte:02X}"));
        }
    }
    encoded
}

/// The characters of base64 that a secret alone decides when so many bytes stand before it.
fn inner_base64(engine: &GeneralPurpose, before: usize, value: &str) -> String {
    let mut bytes = vec![0; before];
    bytes.extend_from_slice(value.as_bytes());
    let whole = bytes.len() * 8 / 6;
    let first = (before * 8).div_ceil(6);
    let encoded = engine.encode(&bytes);
    encoded.get(first..whole).unwrap_or_default().to_owned()
}

/// What stands in place of a secret.
pub(crate) const MASK: &str = "[secret]";

const MAX_SECRETS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a08_each_form_of_a_secret_is_masked_and_nothing_else() {
        let secrets = ["p@ss/w0rd+1", "token-abcdef"].map(|text| Secret(text.into()));
        let known = Secrets::new(&secrets).unwrap();
        let base64 = STANDARD_NO_PAD.encode("p@ss/w0rd+1");
        let login = STANDARD_NO_PAD.encode("ann:token-abcdef");
        let hex = hex(b"token-abcdef");
        for (text, want) in [
            ("nothing here", "nothing here"),
            ("p@ss/w0rd", "p@ss/w0rd"),
            ("/a/p@ss/w0rd+1/b", "/a/[secret]/b"),
            ("/a/p%40ss%2Fw0rd%2B1", "/a/[secret]"),
            ("token-abcdef,token-abcdef", "[secret],[secret]"),
            ("/a/p%40ss%2fw0rd%2b1", "/a/[secret]"),
            (&format!("{hex}.example.com"), "[secret].example.com"),
            ("TOKEN-ABCDEF.example.com", "[secret].example.com"),
            // What is left of the base64 of one is less than a byte of it.
            (&format!("Basic {base64}=="), "Basic [secret]E=="),
            (&format!("Basic {login}=="), "Basic YW5uOn[secret]g=="),
        ] {
            let mut masked = text.to_owned();
            assert_eq!(known.mask(&mut masked), masked != text, "{text}");
            assert_eq!(masked, want);
        }
        assert!(!format!("{known:?} {secrets:?}").contains("token"));
    }

    #[test]
    fn a08_a_secret_that_cannot_be_told_from_text_is_refused() {
        let of = |text: &str, count| Secrets::new(&vec![Secret(text.into()); count]);
        assert!(of("short", 1).unwrap_err().contains("6 to"));
        assert!(of("longer", 1).is_ok());
        assert!(of("longer", MAX_SECRETS + 1).is_err());
        assert!(Secrets::new(&[]).unwrap().is_empty());
    }
}
