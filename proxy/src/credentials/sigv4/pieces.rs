//! A body that is signed piece by piece (`aws-chunked`), with every signature made anew.
//!
//! The client's bytes in; the same pieces, each under the node's key, out, as many bytes as came.
//! Framing that is not exactly what AWS describes is refused. Holds one piece at most, because its
//! signature stands before it.
//!
//! Source: "Signature calculations for the authorization header: transferring payload in multiple
//! chunks", and the same "including trailing headers" (Amazon S3 API reference).

use bytes::{Bytes, BytesMut};
use hyper::{HeaderMap, header::HeaderName};
use memchr::memmem;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{PAYLOAD_FIELD, Problem, hex, hmac};
use crate::limits;

/// How a body in pieces ends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    /// With an empty piece.
    Plain,
    /// With an empty piece and these fields, signed too.
    Trailers(Vec<String>),
}

/// What every piece is signed with: each signature is over the one before.
pub(crate) struct Chain {
    pub(super) key: Zeroizing<Vec<u8>>,
    pub(super) time: String,
    pub(super) scope: String,
    pub(super) last: String,
}

/// A body on its way.
pub(crate) struct Pieces {
    chain: Chain,
    trailers: Option<Vec<String>>,
    /// Bytes of content that are still to come.
    left: u64,
    held: BytesMut,
    state: State,
}

/// A part that can go on.
#[derive(Debug)]
pub(crate) struct Signed {
    /// As it is sent.
    pub(crate) sent: Bytes,
    /// What of it is the client's own: content, or trailers.
    pub(crate) content: Bytes,
}

/// What is wrong with a body, in words.
pub(crate) type Broken = &'static str;

#[derive(Clone, Copy, Eq, PartialEq)]
enum State {
    Piece,
    /// The empty piece has come.
    End,
    Over,
}

/// What comes before a piece, as far as it was read.
struct Head {
    size: usize,
    signature_at: usize,
    end: usize,
}

const PLAIN: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
const WITH_TRAILERS: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
const LENGTH_FIELD: HeaderName = HeaderName::from_static("x-amz-decoded-content-length");
const TRAILER_FIELD: HeaderName = HeaderName::from_static("x-amz-trailer");

const SIGNATURE: &[u8] = b";chunk-signature=";
const TRAILER_SIGNATURE: &[u8] = b"x-amz-trailer-signature:";
const SIGNATURE_BYTES: usize = 64;
/// Digits of a size, in hexadecimal: more than the longest piece needs.
const SIZE_DIGITS: usize = 8;
const TRAILERS_BYTES: usize = 4096;
const EMPTY_HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The form of a body whose field says this; none where it is not signed piece by piece.
///
/// # Errors
/// A way of signing that cannot be made anew.
pub(super) fn form(told: &str, fields: &HeaderMap) -> Result<Option<Form>, Problem> {
    match told {
        PLAIN => Ok(Some(Form::Plain)),
        WITH_TRAILERS => {
            let names = fields.get_all(TRAILER_FIELD).iter();
            let names = names.filter_map(|value| value.to_str().ok());
            let names = names
                .flat_map(|value| value.split(','))
                .map(|name| name.trim().to_ascii_lowercase());
            Ok(Some(Form::Trailers(names.collect())))
        }
        other if other.starts_with("STREAMING-AWS4") => Err(Problem(format!(
            "its body is signed in a way that cannot be made anew ({}); use Signature Version 4 \
             with `{PLAIN}`, or `UNSIGNED-PAYLOAD`",
            PAYLOAD_FIELD.as_str()
        ))),
        _whole => Ok(None),
    }
}

impl Pieces {
    /// # Errors
    /// The head does not say how long the content is.
    pub(crate) fn new(chain: Chain, form: &Form, fields: &HeaderMap) -> Result<Self, Problem> {
        let length = fields.get(LENGTH_FIELD);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let left = length.ok_or_else(|| {
            Problem(format!(
                "its body is signed piece by piece, and `{}` is no length",
                LENGTH_FIELD.as_str()
            ))
        })?;
        let trailers = match form {
            Form::Plain => None,
            Form::Trailers(names) => Some(names.clone()),
        };
        Ok(Self {
            chain,
            trailers,
            left,
            held: BytesMut::new(),
            state: State::Piece,
        })
    }

    /// With any key, for `fuzz/`.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn sample(left: u64, trailers: bool) -> Self {
        let chain = Chain {
            key: Zeroizing::default(),
            time: String::new(),
            scope: String::new(),
            last: String::new(),
        };
        Self {
            chain,
            trailers: trailers.then(|| vec!["x-amz-checksum-crc32c".into()]),
            left,
            held: BytesMut::new(),
            state: State::Piece,
        }
    }

    /// Takes what has come.
    pub(crate) fn push(&mut self, data: &[u8]) {
        self.held.extend_from_slice(data);
    }

    /// Bytes that wait for what follows them.
    pub(crate) fn waiting(&self) -> usize {
        self.held.len()
    }

    /// Whether its last part was given out.
    pub(crate) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// The next piece, once all of it has come.
    pub(crate) fn next(&mut self) -> Result<Option<Signed>, Broken> {
        match self.state {
            State::Piece => self.piece(),
            State::End if self.held.len() > TRAILERS_BYTES => Err("its trailers are too long"),
            State::End | State::Over => Ok(None),
        }
    }

    /// The last part, at the end of the body: nothing may be left over, and nothing missing.
    pub(crate) fn finish(&mut self) -> Result<Option<Signed>, Broken> {
        match self.state {
            State::Piece => Err("it ends in the middle"),
            State::End => self.end().map(Some),
            State::Over => Ok(None),
        }
    }

    fn piece(&mut self) -> Result<Option<Signed>, Broken> {
        let Some(head) = head(&self.held)? else {
            return Ok(None);
        };
        if head.size > limits::SIGNED_BODY_BYTES {
            return Err("a piece is longer than 1 MiB");
        }
        let whole = if head.size == 0 {
            // What comes behind is the body's end.
            head.end
        } else {
            head.end + head.size + 2
        };
        if self.held.len() < whole {
            return Ok(None);
        }
        let size = u64::try_from(head.size).unwrap_or(u64::MAX);
        self.left = (self.left.checked_sub(size)).ok_or("it is longer than its head says")?;
        let mut piece = self.held.split_to(whole);
        let content = head.end..head.end + head.size;
        if head.size == 0 {
            if self.left != 0 {
                return Err("it is shorter than its head says");
            }
            self.state = State::End;
        } else if piece.get(content.end..) != Some(b"\r\n") {
            return Err("a piece has another length than it says");
        }
        let signature = self
            .chain
            .piece(piece.get(content.clone()).unwrap_or_default());
        write(&mut piece, head.signature_at, &signature);
        let sent = piece.freeze();
        Ok(Some(Signed {
            content: sent.slice(content),
            sent,
        }))
    }

    fn end(&mut self) -> Result<Signed, Broken> {
        self.state = State::Over;
        let mut end = std::mem::take(&mut self.held);
        let Some(names) = &self.trailers else {
            return match &*end {
                b"\r\n" => Ok(Signed {
                    sent: end.freeze(),
                    content: Bytes::new(),
                }),
                _other => Err("something stands behind its end"),
            };
        };
        let at = memmem::find(&end, TRAILER_SIGNATURE).ok_or("its trailers are not signed")?;
        let signature_at = at + TRAILER_SIGNATURE.len();
        let told = end.get(signature_at..).unwrap_or_default();
        let is_last = told
            .split_at_checked(SIGNATURE_BYTES)
            .is_some_and(|(signature, rest)| is_signature(signature) && rest == b"\r\n\r\n");
        if !is_last {
            return Err("its trailers do not end with their signature");
        }
        let lines = trailers(end.get(..at).unwrap_or_default(), names)?;
        let signature = self.chain.trailers(&lines);
        write(&mut end, signature_at, &signature);
        Ok(Signed {
            sent: end.freeze(),
            content: lines.into(),
        })
    }
}

impl Chain {
    fn piece(&mut self, content: &[u8]) -> String {
        let hash = hex(&Sha256::digest(content));
        self.sign("AWS4-HMAC-SHA256-PAYLOAD", &format!("{EMPTY_HASH}\n{hash}"))
    }

    fn trailers(&mut self, lines: &str) -> String {
        let hash = hex(&Sha256::digest(lines));
        self.sign("AWS4-HMAC-SHA256-TRAILER", &hash)
    }

    fn sign(&mut self, algorithm: &str, what: &str) -> String {
        let Self {
            time, scope, last, ..
        } = self;
        let text = format!("{algorithm}\n{time}\n{scope}\n{last}\n{what}");
        self.last = hex(&hmac(&self.key, &text));
        self.last.clone()
    }
}

/// `400;chunk-signature=...` and a line end; none where more has to come.
fn head(held: &[u8]) -> Result<Option<Head>, Broken> {
    let longest = SIZE_DIGITS + SIGNATURE.len() + SIGNATURE_BYTES + 2;
    let seen = held.get(..held.len().min(longest)).unwrap_or_default();
    let Some(end) = memmem::find(seen, b"\r\n") else {
        return match seen.len() < longest {
            true => Ok(None),
            false => Err("a piece does not begin with its size and signature"),
        };
    };
    let line = seen.get(..end).unwrap_or_default();
    let parsed = memmem::find(line, SIGNATURE).and_then(|at| {
        let (size, signature_at) = (line.get(..at)?, at + SIGNATURE.len());
        let is_size = (1..=SIZE_DIGITS).contains(&at) && size.iter().all(u8::is_ascii_hexdigit);
        let size = usize::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()?;
        (is_size && is_signature(line.get(signature_at..)?)).then_some(Head {
            size,
            signature_at,
            end: end + 2,
        })
    });
    match parsed {
        Some(head) => Ok(Some(head)),
        None => Err("a piece does not begin with its size and signature"),
    }
}

/// The trailers as they are signed. Clients end a line with a line feed, with CRLF, or with both.
fn trailers(text: &[u8], names: &[String]) -> Result<String, Broken> {
    let text = std::str::from_utf8(text).map_err(|_| "its trailers are not text")?;
    let mut signed = String::new();
    for line in text.split('\n') {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        let (name, value) = line.split_once(':').ok_or("a trailer is no field")?;
        let name = name.to_ascii_lowercase();
        let value = value.trim_matches(' ');
        if !names.contains(&name) {
            return Err("a trailer is not announced in `x-amz-trailer`");
        }
        if !value.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
            return Err("a trailer's value is no text");
        }
        signed.extend([&name, ":", value, "\n"]);
    }
    Ok(signed)
}

fn is_signature(text: &[u8]) -> bool {
    let is_hex = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    text.len() == SIGNATURE_BYTES && text.iter().all(is_hex)
}

/// Puts a signature where another one stood.
fn write(bytes: &mut BytesMut, at: usize, signature: &str) {
    if let Some(place) = bytes.get_mut(at..at + SIGNATURE_BYTES)
        && place.len() == signature.len()
    {
        place.copy_from_slice(signature.as_bytes());
    }
}

#[cfg(test)]
mod tests;
