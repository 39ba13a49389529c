//! Where a search goes on: a token that fits one question, one caller and one revision of policy.
//!
//! The last id that was looked at, with a MAC over it and everything that it depends on, under a
//! key that this daemon made when it started and tells nobody.

use std::sync::OnceLock;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Longest token that is looked at, in bytes.
const MAX_TOKEN: usize = 8 * 1024;
const MAC_BYTES: usize = 32;

/// What a token fits.
pub(super) struct Bound<'a> {
    /// The caller.
    pub(super) caller: &'a str,
    /// Digest of the policy set.
    pub(super) policy: &'a str,
    /// Every field of the question but `page`, in one spelling.
    pub(super) question: &'a str,
}

impl Bound<'_> {
    /// The token for what comes after `after`.
    pub(super) fn token(&self, after: &str) -> Option<String> {
        let mut bytes = self.mac(after)?.finalize().into_bytes().to_vec();
        bytes.extend_from_slice(after.as_bytes());
        Some(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Where a token says to go on; `None` where it is not one of this question.
    pub(super) fn after(&self, token: &str) -> Option<String> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (mac, after) = bytes.split_at_checked(MAC_BYTES)?;
        let after = std::str::from_utf8(after).ok()?;
        self.mac(after)?.verify_slice(mac).ok()?;
        Some(after.to_owned())
    }

    fn mac(&self, after: &str) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(key()?).ok()?;
        for part in [self.caller, self.policy, self.question, after] {
            mac.update(&u64::try_from(part.len()).ok()?.to_be_bytes());
            mac.update(part.as_bytes());
        }
        Some(mac)
    }
}

/// `None` where the system has no randomness to give: then there are no further pages.
fn key() -> Option<&'static [u8; 32]> {
    static KEY: OnceLock<Option<[u8; 32]>> = OnceLock::new();
    KEY.get_or_init(|| {
        let mut key = [0; 32];
        getrandom::fill(&mut key).ok()?;
        Some(key)
    })
    .as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_fits_its_own_question_caller_and_policy_alone() {
        let bound = |caller, policy, question| Bound {
            caller,
            policy,
            question,
        };
        let own = bound("ann", "p", "q");
        let token = own.token("id 7").unwrap();
        assert_eq!(own.after(&token).as_deref(), Some("id 7"));
        for other in [
            bound("bob", "p", "q"),
            bound("ann", "o", "q"),
            bound("ann", "p", "r"),
        ] {
            assert_eq!(other.after(&token), None);
        }
        // Parts cannot be moved from one into the next.
        assert_eq!(bound("annp", "", "q").after(&token), None);
        let mut forged = URL_SAFE_NO_PAD.decode(&token).unwrap();
        *forged.last_mut().unwrap() = b'8';
        let forged = URL_SAFE_NO_PAD.encode(forged);
        for wrong in [
            forged.as_str(),
            "",
            "x",
            "AAAA",
            &token[1..],
            &"A".repeat(MAX_TOKEN + 1),
        ] {
            assert_eq!(own.after(wrong), None, "{wrong}");
        }
    }
}
