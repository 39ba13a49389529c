//! Takes a credential's value out of an answer that sends it back.
//!
//! The fields and the parts of an answer in; the same with every value that was put into its request
//! overwritten by as many `*` out, or word that one was found. A value that is cut into parts is found
//! too: what may be the beginning of one waits for the next part, and nothing else does. Looks at
//! bytes as they are: what is compressed, or spelt in another way than [`Echo::expect`] says, is not
//! found.

use bytes::{Bytes, BytesMut};
use cordon_audit::RecordId;
use hyper::{
    HeaderMap, Response,
    ext::ReasonPhrase,
    header::{HeaderName, HeaderValue},
};
use memchr::memmem;
use zeroize::Zeroizing;

use crate::metrics;

/// What an answer must not say.
#[derive(Default)]
pub(crate) struct Echo {
    spellings: Vec<Zeroizing<Vec<u8>>>,
    /// The end of what went before, where a value may have begun.
    held: BytesMut,
    found: bool,
    refuses: bool,
}

/// Shorter values cannot be told from ordinary text.
const SHORTEST: usize = 6;

impl Echo {
    /// A value that goes out with the request: as it is, as the usual writers of JSON escape it,
    /// percent-encoded, in hexadecimal, and in both alphabets of base64, wherever in a text it stands.
    pub(crate) fn expect(&mut self, value: &str) {
        let hex = |letters: &[u8; 16]| -> String {
            let digits = value.bytes().flat_map(|b| [b >> 4, b & 15]);
            let letter = |digit: u8| letters.get(usize::from(digit)).copied();
            digits.filter_map(letter).map(char::from).collect()
        };
        let percent = super::target::encoded(value);
        let further = [lower_escapes(&percent), percent, hex(LOWER), hex(UPPER)];
        let forms = super::placeholder::forms(value);
        // One form may have what JSON escapes in it: the `/` and `+` of base64.
        let json: Vec<String> = forms.iter().flat_map(|form| in_json(form)).collect();
        for spelling in forms.into_iter().chain(further).chain(json) {
            let spelling = Zeroizing::new(spelling.into_bytes());
            if spelling.len() >= SHORTEST && !self.spellings.contains(&spelling) {
                self.spellings.push(spelling);
            }
        }
        // A longer spelling may begin with a shorter one.
        self.spellings
            .sort_by_key(|spelling| std::cmp::Reverse(spelling.len()));
    }

    /// From now on an answer with a value in it is refused.
    pub(super) fn refuse(&mut self) {
        self.refuses = true;
    }

    /// Whether an answer with a value in it is refused, not masked.
    pub(crate) fn refuses(&self) -> bool {
        self.refuses
    }

    /// Whether there is nothing to look for.
    pub(super) fn is_empty(&self) -> bool {
        self.spellings.is_empty()
    }

    /// Overwrites values in the head of an answer. A field whose name has one goes, and so does a
    /// phrase behind the status: nobody needs it, and it is the origin's own text.
    pub(crate) fn head<B>(&mut self, response: &mut Response<B>) {
        if let Some(phrase) = response.extensions_mut().remove::<ReasonPhrase>() {
            self.found |= self.is_in(phrase.as_bytes());
        }
        self.fields(response.headers_mut());
    }

    /// Overwrites values in fields.
    pub(crate) fn fields(&mut self, fields: &mut HeaderMap) {
        let named: Vec<HeaderName> = (fields.keys())
            .filter(|name| self.is_in_any_case(name.as_str()))
            .cloned()
            .collect();
        for name in named {
            self.found = true;
            fields.remove(name);
        }
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

    /// Says that a value was found, in the answer to what this decision allowed; never what it was.
    pub(crate) fn tell(&self, decision: Option<RecordId>) {
        metrics::PROXY.echoed.inc();
        let outcome = if self.refuses { "refused" } else { "masked" };
        let decision = decision.map(tracing::field::display);
        tracing::warn!(decision, outcome, "an answer sent a credential back");
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        let mut spellings = self.spellings.iter();
        spellings.any(|spelling| memmem::find(bytes, spelling).is_some())
    }

    /// Names of fields have lost their case.
    fn is_in_any_case(&self, name: &str) -> bool {
        self.spellings.iter().any(|spelling| {
            let mut windows = name.as_bytes().windows(spelling.len());
            windows.any(|window| window.eq_ignore_ascii_case(spelling))
        })
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

/// A value inside a text of JSON, as writers in use escape it.
fn in_json(value: &str) -> impl Iterator<Item = String> {
    ESCAPED.iter().flat_map(move |(escaped, digits)| {
        [false, true].map(|slash| json_text(value, escaped, digits, slash))
    })
}

/// `escaped` as `\u` with these hexadecimal digits, and `/` as `\/` where `slash` says so.
fn json_text(value: &str, escaped: &str, digits: &[u8; 16], slash: bool) -> String {
    let mut text = String::with_capacity(value.len());
    for letter in value.chars() {
        match letter {
            // All of them are ASCII.
            letter if escaped.contains(letter) => {
                let code = letter as usize;
                let digits = [code >> 4, code & 15].map(|digit| digits.get(digit).copied());
                text.push_str("\\u00");
                text.extend(digits.into_iter().flatten().map(char::from));
            }
            '"' | '\\' => text.extend(['\\', letter]),
            '/' if slash => text.push_str("\\/"),
            letter => text.push(letter),
        }
    }
    text
}

const LOWER: &[u8; 16] = b"0123456789abcdef";
const UPPER: &[u8; 16] = b"0123456789ABCDEF";

/// What writers of JSON escape beyond what they must, so that it can stand in HTML.
const ESCAPED: [(&str, &[u8; 16]); 6] = [
    ("", LOWER),
    // Go, Rails.
    ("<>&", LOWER),
    // Gson.
    ("<>&'=", LOWER),
    // PHP with `JSON_HEX_TAG` and `JSON_HEX_AMP`, then with all of its kind.
    ("<>&", UPPER),
    ("<>&'\"", UPPER),
    // .NET.
    ("<>&'\"+`", UPPER),
];

/// `%2F` as `%2f`.
fn lower_escapes(percent: &str) -> String {
    let mut parts = percent.split('%');
    let mut lower = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (escape, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        lower.extend(["%", &escape.to_ascii_lowercase(), rest]);
    }
    lower
}

impl std::fmt::Debug for Echo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Echo").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use base64::{
        Engine as _,
        engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
    };
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
        let hex: String = VALUE.bytes().map(|b| format!("{b:02x}")).collect();
        for spelling in [
            "tok%2F7f3a%2B91c2%3D%3D".to_owned(),
            "tok%2f7f3a%2b91c2%3d%3d".to_owned(),
            "tok\\/7f3a+91c2==".to_owned(),
            hex.to_ascii_uppercase(),
            hex,
            STANDARD.encode(VALUE),
            URL_SAFE_NO_PAD.encode(VALUE),
            format!("{VALUE}{VALUE}"),
        ] {
            let told = streamed(&[spelling.as_bytes()]);
            assert!(
                told.len() == spelling.len() && told.starts_with("****"),
                "{told}"
            );
        }
        for before in ["", "u", "us", "user:"] {
            let spelling = STANDARD.encode(format!("{before}{VALUE}and more"));
            let told = streamed(&[spelling.as_bytes()]);
            let stars = told.matches('*').count();
            assert!(stars + 2 >= VALUE.len() * 4 / 3, "{before} {told}");
        }
        let other = "tok/7f3a+91c3== and tok/7f3a+91c";
        assert_eq!(streamed(&[other.as_bytes()]), other, "the control");
    }

    /// Else a page that prints the value as JSON would tell it: a session undoes these at no cost.
    #[test]
    fn n21_a_value_is_taken_out_as_any_writer_of_json_escapes_it() {
        let value = r#"a<b>&c='d"e\f/g+h`i"#;
        let mut echo = Echo::default();
        echo.expect(value);
        for (writer, spelling) in [
            ("plain", r#"a<b>&c='d\"e\\f/g+h`i"#),
            ("slash", r#"a<b>&c='d\"e\\f\/g+h`i"#),
            ("go", r#"a\u003cb\u003e\u0026c='d\"e\\f/g+h`i"#),
            ("gson", r#"a\u003cb\u003e\u0026c\u003d\u0027d\"e\\f/g+h`i"#),
            ("php", r#"a\u003Cb\u003E\u0026c='d\"e\\f\/g+h`i"#),
            (
                "php, all",
                r#"a\u003Cb\u003E\u0026c=\u0027d\u0022e\\f\/g+h`i"#,
            ),
            (
                ".net",
                r#"a\u003Cb\u003E\u0026c=\u0027d\u0022e\\f/g\u002Bh\u0060i"#,
            ),
        ] {
            let read: String = serde_json::from_str(&format!("\"{spelling}\"")).unwrap();
            assert_eq!(read, value, "{writer}: the spelling is the value's");
            let text = echo.next(Bytes::from(format!("<{spelling}>")));
            let stars = "*".repeat(spelling.len());
            assert_eq!(text, format!("<{stars}>"), "{writer}");
            assert!(echo.take_found());
        }
        let other = r#"a\u003cb\u003e\u0026d"#;
        assert_eq!(echo.next(Bytes::from(other)), other, "the control");
    }

    /// A field with the credential that a page tells as JSON: some write `/` and `+` of base64 otherwise.
    #[test]
    fn n21_a_value_is_taken_out_where_its_base64_stands_in_json() {
        let value = "tok?7f3a~91c2~~~>>>?";
        let base64 = STANDARD.encode(format!("user:{value}"));
        assert!(base64.contains('/') && base64.contains('+'), "{base64}");
        let mut echo = Echo::default();
        echo.expect(value);
        for (slash, plus) in [
            ("/", "+"),
            ("\\/", "+"),
            ("/", "\\u002B"),
            ("\\/", "\\u002B"),
        ] {
            let spelling = base64.replace('/', slash).replace('+', plus);
            let told = echo.next(Bytes::from(format!("\"Basic {spelling}\"")));
            let told = [told, echo.rest()].concat();
            let stars = told.iter().filter(|byte| **byte == b'*').count();
            assert!(stars + 4 >= value.len() * 4 / 3, "{spelling}: {told:?}");
            assert!(echo.take_found(), "{spelling}");
        }
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
