//! Writes JSON piece by piece: fields in the order in which they are given, no white space.
//!
//! Texts and numbers in, bytes out. Every text is escaped as `serde_json` escapes it; one that is
//! longer than a record takes whole, or that holds a known secret, is noted, so that whoever
//! writes can leave it to what cuts and masks.

use std::{fmt::Display, io::Write as _};

use cordon_policy::{Destination, Host};
use serde::Serialize;
use uuid::fmt::Hyphenated;

use super::bounds::LIMITS;
use crate::{RecordId, secrets::Secrets};

/// A field's name as JSON writes it, in one piece.
macro_rules! key {
    ($name:literal) => {
        concat!("\"", $name, "\":")
    };
}
pub(super) use key;

/// JSON that is being written. A field's name is what [`key!`] makes of it; a field ends with a
/// comma, and [`Json::close`] takes the last one back.
pub(super) struct Json<'a> {
    out: Vec<u8>,
    secrets: &'a Secrets,
    ordinary: bool,
}

impl<'a> Json<'a> {
    /// Goes on behind `out`.
    pub(super) fn after(out: Vec<u8>, secrets: &'a Secrets) -> Self {
        Self {
            out,
            secrets,
            ordinary: true,
        }
    }

    /// Whether every text and list may stand as it is.
    pub(super) fn is_ordinary(&self) -> bool {
        self.ordinary
    }

    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// JSON as it is.
    pub(super) fn raw(&mut self, json: &'static str) -> &mut Self {
        self.out.extend_from_slice(json.as_bytes());
        self
    }

    pub(super) fn text(&mut self, key: &'static str, value: &str) -> &mut Self {
        self.raw(key);
        self.value(value);
        self.raw(",")
    }

    pub(super) fn text_if_any(&mut self, key: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    /// A text that is shown without characters that JSON escapes.
    pub(super) fn shown(&mut self, key: &'static str, value: impl Display) -> &mut Self {
        self.written(key, |out| write!(out, "{value}").is_ok())
    }

    pub(super) fn host(&mut self, key: &'static str, host: &Host) -> &mut Self {
        match host {
            Host::Name(name) => self.text(key, name.as_str()),
            Host::Address(_) => self.shown(key, host),
        }
    }

    /// As it is shown; a name, which it mostly is, put together by hand.
    pub(super) fn destination(&mut self, key: &'static str, to: &Destination) -> &mut Self {
        let Host::Name(name) = &to.host else {
            return self.shown(key, to);
        };
        self.written(key, |out| {
            let mut port = itoa::Buffer::new();
            out.extend_from_slice(name.as_str().as_bytes());
            out.push(b':');
            out.extend_from_slice(port.format(to.port.get()).as_bytes());
            true
        })
    }

    pub(super) fn id(&mut self, key: &'static str, id: RecordId) -> &mut Self {
        let mut text = [0; Hyphenated::LENGTH];
        self.raw(key).raw("\"");
        self.bytes(id.0.hyphenated().encode_lower(&mut text).as_bytes());
        self.raw("\",")
    }

    /// A word of a fixed vocabulary.
    pub(super) fn word<T: Serialize>(&mut self, key: &'static str, word: &T) -> &mut Self {
        self.raw(key);
        self.ordinary &= serde_json::to_writer(&mut self.out, word).is_ok();
        self.raw(",")
    }

    pub(super) fn number(&mut self, key: &'static str, value: u64) -> &mut Self {
        self.raw(key);
        let mut digits = itoa::Buffer::new();
        self.out.extend_from_slice(digits.format(value).as_bytes());
        self.raw(",")
    }

    pub(super) fn truth(&mut self, key: &'static str, value: bool) -> &mut Self {
        self.raw(key);
        self.raw(if value { "true," } else { "false," })
    }

    pub(super) fn list<T: AsRef<str>>(
        &mut self,
        key: &'static str,
        values: impl ExactSizeIterator<Item = T>,
    ) {
        let (_, most) = LIMITS[0];
        self.ordinary &= values.len() <= most;
        self.raw(key);
        self.raw("[");
        for value in values {
            self.value(value.as_ref());
            self.raw(",");
        }
        self.drop_comma();
        self.raw("],");
    }

    /// Ends an object.
    pub(super) fn close(&mut self) {
        self.drop_comma();
        self.raw("},");
    }

    /// A text that `write` puts behind what is there, or fails to.
    fn written(
        &mut self,
        key: &'static str,
        write: impl FnOnce(&mut Vec<u8>) -> bool,
    ) -> &mut Self {
        self.raw(key).raw("\"");
        let start = self.out.len();
        self.ordinary &= write(&mut self.out);
        let shown = self.out.get(start..).unwrap_or_default();
        self.ordinary &=
            is_plain(shown) && std::str::from_utf8(shown).is_ok_and(|text| self.may_stand(text));
        self.raw("\",")
    }

    fn drop_comma(&mut self) {
        if self.out.last() == Some(&b',') {
            self.out.pop();
        }
    }

    fn value(&mut self, text: &str) {
        self.ordinary &= self.may_stand(text);
        if is_plain(text.as_bytes()) {
            self.raw("\"");
            self.bytes(text.as_bytes());
            self.raw("\"");
        } else {
            self.ordinary &= serde_json::to_writer(&mut self.out, text).is_ok();
        }
    }

    fn may_stand(&self, text: &str) -> bool {
        let (most, _) = LIMITS[0];
        text.len() <= most && !self.secrets.are_in(text)
    }
}

/// Whether JSON writes a text as it is.
///
/// Source: RFC 8785 section 3.2.2.2.
fn is_plain(text: &[u8]) -> bool {
    let escaped = |byte: &u8| *byte < b' ' || *byte == b'"' || *byte == b'\\';
    // Without a way out in the middle, so that many bytes are looked at together.
    !text.iter().fold(false, |any, byte| any | escaped(byte))
}
