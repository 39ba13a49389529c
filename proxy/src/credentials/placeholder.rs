//! What a session holds in place of a secret, and how it is found again.
//!
//! A session's id and a credential's name in, a placeholder out: the same for as long as the daemon
//! runs, and not to be guessed from another. Bytes in, the credential whose placeholder is in them
//! out; plain and in base64.

use std::fmt;

use aho_corasick::AhoCorasick;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use cordon_session::config::CredentialConfig;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

/// What placeholders are made with; random for each run of the daemon.
pub(super) struct Key(Zeroizing<[u8; 32]>);

/// The placeholders of one session.
pub(crate) struct Placeholders {
    found: AhoCorasick,
    /// Name of the credential of each pattern.
    names: Vec<String>,
    longest: usize,
}

/// Characters behind the prefix: 144 bits in hexadecimal, as many as the tokens of common services
/// have.
const RANDOM_CHARACTERS: usize = 36;
const PREFIX: &str = "cordon-placeholder-";

impl Key {
    pub(super) fn random() -> Result<Self, getrandom::Error> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *key)?;
        Ok(Self(key))
    }

    pub(super) fn placeholder(&self, session: &str, credential: &CredentialConfig) -> String {
        let prefix = credential.placeholder_prefix.as_deref().unwrap_or(PREFIX);
        // A key of any length is taken; without one there would be no placeholder to find.
        let digest = Hmac::<Sha256>::new_from_slice(&*self.0).map(|mut mac| {
            for part in [session, &credential.name] {
                mac.update(part.as_bytes());
                mac.update(b"\0");
            }
            mac.finalize().into_bytes()
        });
        let digest = digest.unwrap_or_default();
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let random = hex.get(..RANDOM_CHARACTERS).unwrap_or(&hex);
        format!("{prefix}{random}")
    }
}

impl Placeholders {
    /// `None` for none.
    pub(super) fn new(texts: Vec<(String, String)>) -> Option<Self> {
        if texts.is_empty() {
            return None;
        }
        let (mut patterns, mut names) = (Vec::new(), Vec::new());
        for (name, text) in texts {
            let forms = forms(&text);
            names.extend(std::iter::repeat_n(name, forms.len()));
            patterns.extend(forms);
        }
        let longest = patterns.iter().map(String::len).max().unwrap_or_default();
        let found = AhoCorasick::new(patterns).ok()?;
        Some(Self {
            found,
            names,
            longest,
        })
    }

    /// The credential whose placeholder is in these bytes; the first of several.
    pub(super) fn find<'a>(&'a self, bytes: &[u8]) -> Option<&'a str> {
        let found = self.found.find(bytes)?;
        Some(self.names.get(found.pattern().as_usize())?.as_str())
    }

    /// Every credential whose placeholder is in these bytes.
    pub(super) fn all<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = &'a str> {
        let found = self.found.find_iter(bytes);
        found.filter_map(|found| Some(self.names.get(found.pattern().as_usize())?.as_str()))
    }

    /// Bytes that may be the begin of a placeholder and have to be looked at again with what
    /// follows.
    pub(super) fn overlap(&self) -> usize {
        self.longest.saturating_sub(1)
    }
}

/// The text itself, and what every base64 of a text with it inside has: it may stand at any of
/// three places of a group, and only the characters that it fills alone are sure.
pub(super) fn forms(text: &str) -> Vec<String> {
    let mut forms = vec![text.to_owned()];
    for before in 0..3_usize {
        let mut bytes = Zeroizing::new(Vec::with_capacity(before + text.len()));
        bytes.resize(before, 0);
        bytes.extend(text.as_bytes());
        let sure = (before * 8).div_ceil(6)..bytes.len() * 8 / 6;
        for encoded in [
            Zeroizing::new(STANDARD_NO_PAD.encode(&*bytes)),
            Zeroizing::new(URL_SAFE_NO_PAD.encode(&*bytes)),
        ] {
            if let Some(sure) = encoded.get(sure.clone())
                && !forms.iter().any(|form| form == sure)
            {
                forms.push(sure.to_owned());
            }
        }
    }
    forms
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl fmt::Debug for Placeholders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Placeholders({})", self.names.len())
    }
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn credential(name: &str, prefix: &str) -> CredentialConfig {
        let text = format!(
            "[[credentials]]\nname = {name:?}\nhosts = [\"a.test\"]\nas = \"bearer\"\n\
             from = \"env:A\"\n{prefix}"
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mut config = cordon_session::Config::load(&[file.path()]).unwrap();
        config.credentials.remove(0)
    }

    #[test]
    fn n21_a_placeholder_is_of_one_session_one_credential_and_one_run() {
        let (a, b) = (
            credential("a", ""),
            credential("b", "placeholder_prefix = \"ghp_\"\n"),
        );
        let key = Key::random().unwrap();
        let text = key.placeholder("s-1", &a);
        assert_eq!(text, key.placeholder("s-1", &a));
        assert!(
            text.starts_with(PREFIX) && text.len() == PREFIX.len() + 36,
            "{text}"
        );
        let other = key.placeholder("s-1", &b);
        assert!(other.starts_with("ghp_") && other.len() == 40, "{other}");
        assert_ne!(text, key.placeholder("s-2", &a));
        assert_ne!(text, Key::random().unwrap().placeholder("s-1", &a));
    }

    #[test]
    fn n21_a_placeholder_is_found_plain_and_in_base64_wherever_it_stands() {
        let text = "cordon-placeholder-0123456789abcdef0123456789abcdef0123";
        let known = Placeholders::new(vec![("forge".into(), text.into())]).unwrap();
        for before in ["", "u", "us", "use", "user:", "x-access-token:"] {
            for after in ["", "a", "ab", ":tail"] {
                let whole = format!("{before}{text}{after}");
                let forms = [
                    whole.clone(),
                    STANDARD.encode(&whole),
                    URL_SAFE_NO_PAD.encode(&whole),
                ];
                for form in forms {
                    assert_eq!(known.find(form.as_bytes()), Some("forge"), "{form}");
                }
            }
        }
        for other in [
            "",
            "cordon-placeholder-",
            "cordon-placeholder-1123456789abcdef0123456789abcdef0123",
        ] {
            assert_eq!(known.find(other.as_bytes()), None, "{other}");
            assert_eq!(
                known.find(STANDARD.encode(other).as_bytes()),
                None,
                "{other}"
            );
        }
    }
}
