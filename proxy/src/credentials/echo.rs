//! Takes a credential's value out of an answer that sends it back.
//!
//! The fields and the parts of an answer in; the same with every value that was put into its request
//! overwritten by as many `*` out. A value that is cut into parts is found too: what may be the
//! beginning of one waits for the next part, and nothing else does. Looks at bytes as they are: what
//! is compressed, or spelt in another way than [`Echo::expect`] says, is not found.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use hyper::{HeaderMap, header::HeaderValue};
use memchr::memmem;
use zeroize::Zeroizing;

/// What an answer must not say.
#[derive(Default)]
pub(crate) struct Echo {
    spellings: Vec<Zeroizing<Vec<u8>>>,
    /// The end of what went before, where a value may have begun.
    held: BytesMut,
    found: bool,
}

/// Shorter values cannot be told from ordinary text.
const SHORTEST: usize = 6;

impl Echo {
    /// A value that goes out with the request: as it is, percent-encoded, and in base64.
    pub(super) fn expect(&mut self, value: &str) {
        let encoded = super::target::encoded(value);
        let base64 = STANDARD.encode(value);
        // Without the last group, which depends on what comes behind.
        let base64 = base64.get(..value.len() / 3 * 4).unwrap_or_default();
        for spelling in [value, &encoded, base64] {
            let spelling = Zeroizing::new(spelling.as_bytes().to_vec());
            if spelling.len() >= SHORTEST && !self.spellings.contains(&spelling) {
                self.spellings.push(spelling);
            }
        }
    }

    /// Whether there is nothing to look for.
    pub(super) fn is_empty(&self) -> bool {
        self.spellings.is_empty()
    }

    /// Overwrites values in fields.
    pub(crate) fn fields(&mut self, fields: &mut HeaderMap) {
        for value in fields.values_mut() {
            let mut bytes = BytesMut::from(value.as_bytes());
            if self.overwrite(&mut bytes) {
                // Stars are what a field can carry.
                if let Ok(masked) = HeaderValue::from_maybe_shared(bytes.freeze()) {
                    *value = masked;
                }
            }
        }
    }

    /// What of the stream may go on with this part.
    pub(crate) fn next(&mut self, part: Bytes) -> Bytes {
        let whole = self.held.is_empty() && !self.is_in(&part) && self.begun(&part) == 0;
        if whole {
            return part;
        }
        let mut stream = std::mem::take(&mut self.held);
        stream.extend_from_slice(&part);
        self.overwrite(&mut stream);
        let begun = self.begun(&stream);
        self.held = stream.split_off(stream.len() - begun);
        stream.freeze()
    }

    /// What still waits, once the stream is over: no value has come of it.
    pub(crate) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.held).freeze()
    }

    /// Bytes that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.held.len()
    }

    /// Whether a value was found since this was asked last.
    pub(crate) fn take_found(&mut self) -> bool {
        std::mem::take(&mut self.found)
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        let mut spellings = self.spellings.iter();
        spellings.any(|spelling| memmem::find(bytes, spelling).is_some())
    }

    fn overwrite(&mut self, bytes: &mut [u8]) -> bool {
        let mut found = false;
        for spelling in &self.spellings {
            let mut from = 0;
            while let Some(at) = bytes
                .get(from..)
                .and_then(|rest| memmem::find(rest, spelling))
            {
                let (start, end) = (from + at, from + at + spelling.len());
                if let Some(value) = bytes.get_mut(start..end) {
                    value.fill(b'*');
                }
                (found, from) = (true, end);
            }
        }
        self.found |= found;
        found
    }

    /// Length of the longest end of `bytes` that a value begins with.
    fn begun(&self, bytes: &[u8]) -> usize {
        let longest = |spelling: &Zeroizing<Vec<u8>>| {
            let most = bytes.len().min(spelling.len() - 1);
            let (start, first) = (bytes.len() - most, *spelling.first()?);
            let end = bytes.get(start..)?;
            memchr::memchr_iter(first, end)
                .find(|at| {
                    end.get(*at..)
                        .is_some_and(|tail| spelling.starts_with(tail))
                })
                .map(|at| most - at)
        };
        self.spellings.iter().filter_map(longest).max().unwrap_or(0)
    }
}

impl std::fmt::Debug for Echo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Echo").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALUE: &str = "tok/7f3a+91c2==";

    fn echo() -> Echo {
        let mut echo = Echo::default();
        echo.expect(VALUE);
        echo
    }

    /// What comes out of a stream in these parts.
    fn streamed(parts: &[&[u8]]) -> String {
        let mut echo = echo();
        let mut out = Vec::new();
        for part in parts {
            out.extend(echo.next(Bytes::copy_from_slice(part)));
        }
        out.extend(echo.rest());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn n21_a_value_is_taken_out_however_it_is_spelt() {
        let stars = "*".repeat(VALUE.len());
        let told = streamed(&[format!("{{\"auth\": \"Bearer {VALUE}\"}}").as_bytes()]);
        assert_eq!(told, format!("{{\"auth\": \"Bearer {stars}\"}}"));
        for spelling in [
            "tok%2F7f3a%2B91c2%3D%3D".to_owned(),
            STANDARD.encode(VALUE),
            format!("{VALUE}{VALUE}"),
        ] {
            let told = streamed(&[spelling.as_bytes()]);
            assert!(
                told.len() == spelling.len() && told.starts_with("****"),
                "{told}"
            );
        }
        let other = "tok/7f3a+91c3== and tok/7f3a+91c";
        assert_eq!(streamed(&[other.as_bytes()]), other, "the control");
    }

    #[test]
    fn n21_fields_are_looked_at_too() {
        let mut fields = HeaderMap::new();
        let location = format!("https://a.test/?key={VALUE}&x=1");
        fields.insert("location", location.parse().unwrap());
        fields.insert("x-other", "text".parse().unwrap());
        let mut echo = echo();
        echo.fields(&mut fields);
        let stars = "*".repeat(VALUE.len());
        assert_eq!(
            fields["location"],
            format!("https://a.test/?key={stars}&x=1")
        );
        assert_eq!(fields["x-other"], "text");
        assert!(echo.take_found() && !echo.take_found());
    }

    #[test]
    fn only_what_may_be_a_value_waits() {
        let mut echo = echo();
        assert_eq!(
            echo.next(Bytes::from_static(b"event: 1\n\n")),
            "event: 1\n\n"
        );
        assert_eq!(echo.waiting(), 0);
        assert_eq!(echo.next(Bytes::from_static(b"a tok/7")), "a ");
        assert_eq!(echo.waiting(), 5);
        assert_eq!(echo.next(Bytes::from_static(b" b")), "tok/7 b");
    }

    proptest! {
        /// However a stream is cut, what comes out is what would come out of it whole.
        #[test]
        fn n21_the_cuts_make_no_difference(
            text in "(tok/7f3a\\+91c2==|tok/7f|tok|t|==|x){0,12}",
            cuts in prop::collection::vec(0_usize..120, 0..8),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < text.len()).collect();
            cuts.sort_unstable();
            let mut parts = Vec::new();
            let mut from = 0;
            for cut in cuts {
                parts.push(&text.as_bytes()[from..cut]);
                from = cut;
            }
            parts.push(&text.as_bytes()[from..]);
            let told = streamed(&parts);
            prop_assert_eq!(told.as_str(), streamed(&[text.as_bytes()]));
            prop_assert!(!told.contains(VALUE));
            prop_assert_eq!(told.len(), text.len());
        }
    }
}
