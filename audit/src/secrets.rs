//! Known secrets, and how they are kept out of the log (A08).
//!
//! Values in, texts without them out. The values are never shown, not even in a debug print.

use std::fmt;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::{Engine as _, engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD}};

/// A value that no record may hold.
#[derive(Clone)]
pub struct Secret(String);

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

/// The secrets that are known. Their values, their percent-encoded and their base64 forms are
/// found wherever they stand in a text.
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
            if value.len() < MIN_BYTES || value.len() > MAX_BYTES {
                return Err(format!(
                    "a known secret is not {MIN_BYTES} to {MAX_BYTES} bytes long: a shorter one \
                     cannot be told from ordinary text"
                ));
            }
            forms.push(value.clone());
            forms.push(percent_encoded(value));
            forms.push(STANDARD_NO_PAD.encode(value));
            forms.push(URL_SAFE_NO_PAD.encode(value));
        }
        AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(forms)
            .map(|found| Self(Some(found)))
            .map_err(|error| format!("known secrets cannot be searched for: {error}"))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Replaces every secret in `text`; whether there was one.
    pub(crate) fn mask(&self, text: &mut String) -> bool {
        let Some(found) = self.0.as_ref().filter(|known| known.is_match(text.as_str())) else {
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
        f.write_str(if self.is_empty() { "no secrets" } else { "secrets" })
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

/// What stands in place of a secret.
pub(crate) const MASK: &str = "[secret]";

/// Shortest secret. A shorter one would be found in ordinary texts.
const MIN_BYTES: usize = 6;

const MAX_BYTES: usize = 64 * 1024;

const MAX_SECRETS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a08_each_form_of_a_secret_is_masked_and_nothing_else() {
        let secrets = ["p@ss/w0rd+1", "token-abcdef"].map(|text| Secret(text.into()));
        let known = Secrets::new(&secrets).unwrap();
        let base64 = STANDARD_NO_PAD.encode("p@ss/w0rd+1");
        for (text, want) in [
            ("nothing here", "nothing here"),
            ("p@ss/w0rd", "p@ss/w0rd"),
            ("/a/p@ss/w0rd+1/b", "/a/[secret]/b"),
            ("/a/p%40ss%2Fw0rd%2B1", "/a/[secret]"),
            ("token-abcdef,token-abcdef", "[secret],[secret]"),
            (&format!("Basic {base64}=="), "Basic [secret]=="),
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
