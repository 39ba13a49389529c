//! Reads one request head by the letter of RFC 9112, before `hyper` does (N22).
//!
//! The bytes of one head in, how the message is framed out. `hyper` repairs some things and lets
//! others pass that a second reader may understand in another way; here every such head is
//! refused, so that policy, `hyper` and the origin read the same message. Never keeps a byte.

use crate::{http::normalize::Problem, limits, refuse::Fault};

/// How a message goes on behind its head.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Framing {
    /// There is no body.
    Empty,
    /// A body of so many bytes.
    Length(u64),
    /// A body in chunks.
    Chunked,
    /// No HTTP any more, if it is granted: CONNECT, or an upgrade to another protocol.
    Tunnel,
}

/// Reads a head: request line, fields, empty line.
pub(super) fn read(head: &[u8]) -> Result<Framing, Problem> {
    let mut lines = lines(head);
    let line = lines.next().unwrap_or_default();
    let request = request_line(line)?;
    let mut fields = Fields::default();
    let mut count = 0;
    for line in lines {
        count += 1;
        if count > limits::HEAD_FIELDS {
            let most = limits::HEAD_FIELDS;
            return Err(large(format!("more than {most} header fields; send fewer")));
        }
        let (name, value) = field(line)?;
        fields.note(name, value)?;
    }
    fields.framing(&request)
}

/// The lines of a head that ends with an empty one, each without its line end.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let head = head.strip_suffix(b"\r\n\r\n").unwrap_or(head);
    let mut rest = Some(head);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut ends = memchr::memchr_iter(b'\n', text).filter_map(|at| at.checked_sub(1));
        let end = ends.find(|end| text.get(*end) == Some(&b'\r'));
        let (line, after) = match end {
            Some(end) => (text.get(..end)?, text.get(end + 2..)),
            None => (text, None),
        };
        rest = after;
        Some(line)
    })
}

/// What of a request line decides the framing.
struct RequestLine {
    connect: bool,
    version_10: bool,
}

/// `method SP target SP HTTP/1.x`, single spaces, nothing else.
///
/// Source: RFC 9112 section 3.
fn request_line(line: &[u8]) -> Result<RequestLine, Problem> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (method, target, version) = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(method), Some(target), Some(version), None) => (method, target, version),
        (Some(method), Some(_), None, None) if method.iter().all(|byte| is_token(*byte)) => {
            return Err(Problem::new(
                Fault::Version,
                "a request line without a version is HTTP/0.9; use HTTP/1.1",
            ));
        }
        _ => {
            return Err(Problem::malformed(
                "the request line is not `METHOD target HTTP/1.1` with single spaces",
            ));
        }
    };
    if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
        return Err(Problem::malformed(
            "the method has a byte that no method may have",
        ));
    }
    target_bytes(target)?;
    let version_10 = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ if version.starts_with(b"HTTP/") => {
            return Err(Problem::new(
                Fault::Version,
                "this proxy speaks HTTP/1.1, HTTP/1.0 and, with its own preface, HTTP/2",
            ));
        }
        _ => return Err(Problem::malformed("the request line names no HTTP version")),
    };
    if method == b"OPTIONS" && is_whole_server(target) {
        return Err(Problem::malformed(
            "OPTIONS about a whole server is not carried; send a path",
        ));
    }
    Ok(RequestLine {
        connect: method == b"CONNECT",
        version_10,
    })
}

/// Source: RFC 3986 appendix A: visible ASCII; a fragment is never sent (RFC 9112 section 3.2).
fn target_bytes(target: &[u8]) -> Result<(), Problem> {
    if target.len() > limits::TARGET_BYTES {
        let longest = limits::TARGET_BYTES;
        return Err(Problem::new(
            Fault::TargetTooLong,
            format!("the request target is longer than {longest} bytes"),
        ));
    }
    if target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
        return Err(Problem::malformed(
            "the request target has a byte that is not visible ASCII; percent-encode it",
        ));
    }
    if target.contains(&b'#') {
        return Err(Problem::malformed(
            "the request target has a fragment; leave `#` and what follows out",
        ));
    }
    if target.contains(&b'\\') {
        return Err(Problem::malformed(
            "the request target has a backslash; percent-encode it",
        ));
    }
    Ok(())
}

/// `http://host` without a path would have to become `*` (RFC 9112 section 3.2.4), which no rule
/// about a path means.
fn is_whole_server(target: &[u8]) -> bool {
    let after_scheme = memchr::memmem::find(target, b"://").and_then(|at| target.get(at + 3..));
    after_scheme.is_some_and(|rest| !rest.contains(&b'/') && !rest.contains(&b'?'))
}

/// One field line as name and value.
///
/// Source: RFC 9112 section 5; RFC 9110 sections 5.1 and 5.5.
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Problem> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Problem::malformed(
            "a field is folded over two lines; send it on one",
        ));
    }
    let colon = memchr::memchr(b':', line)
        .ok_or_else(|| Problem::malformed("a header line has no colon"))?;
    let (name, value) = line.split_at_checked(colon).unwrap_or((line, b""));
    if matches!(name.last(), Some(b' ' | b'\t')) {
        return Err(Problem::malformed(
            "there is whitespace between a field's name and its colon",
        ));
    }
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Err(Problem::malformed(
            "a field name has a byte that no name may have",
        ));
    }
    let value = value.get(1..).unwrap_or_default();
    if value.iter().any(|byte| is_control(*byte)) {
        return Err(Problem::malformed("a field value has a control byte"));
    }
    Ok((name, value.trim_ascii()))
}

/// What the fields say about framing and about what is behind the head.
#[derive(Default)]
struct Fields {
    hosts: u32,
    length: Option<u64>,
    coded: bool,
    /// `Connection` names `upgrade`.
    upgrading: bool,
    /// `Upgrade` names a protocol that is not HTTP itself.
    protocol: bool,
}

impl Fields {
    fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), Problem> {
        // By length first: most fields are none of these.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.host(),
            6 if name.eq_ignore_ascii_case(b"expect") => expect(value),
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                plain(value)?;
                self.protocol |= items(value).any(|item| !is_http(item));
                Ok(())
            }
            10 if name.eq_ignore_ascii_case(b"connection") => self.connection(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => self.content_length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.coding(value),
            _ => Ok(()),
        }
    }

    fn host(&mut self) -> Result<(), Problem> {
        self.hosts += 1;
        if self.hosts > 1 {
            return Err(Problem::malformed("more than one `Host` field"));
        }
        Ok(())
    }

    /// Source: RFC 9110 section 7.6.1: it never names a field that is for the origin.
    fn connection(&mut self, value: &[u8]) -> Result<(), Problem> {
        plain(value)?;
        for option in items(value) {
            self.upgrading |= option.eq_ignore_ascii_case(b"upgrade");
            if let Some(name) = END_TO_END
                .iter()
                .find(|name| option.eq_ignore_ascii_case(name.as_bytes()))
            {
                return Err(Problem::malformed(format!(
                    "`Connection` names `{name}`, which belongs to the whole way"
                )));
            }
        }
        Ok(())
    }

    /// Even two equal lengths are refused: whoever sends them has lost count.
    fn content_length(&mut self, value: &[u8]) -> Result<(), Problem> {
        let plain = (1..=19).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
        let length = plain
            .then(|| std::str::from_utf8(value).ok()?.parse().ok())
            .flatten()
            .ok_or_else(|| {
                Problem::malformed("`Content-Length` is not one plain decimal number")
            })?;
        if self.length.replace(length).is_some() {
            return Err(Problem::malformed("more than one `Content-Length` field"));
        }
        Ok(())
    }

    fn coding(&mut self, value: &[u8]) -> Result<(), Problem> {
        if self.coded {
            return Err(Problem::malformed(
                "more than one `Transfer-Encoding` field",
            ));
        }
        if !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Problem::new(
                Fault::NotCarried,
                "the only transfer coding that is carried is `chunked`, alone and once",
            ));
        }
        self.coded = true;
        Ok(())
    }

    /// Source: RFC 9112 sections 3.2 and 6.
    fn framing(&self, request: &RequestLine) -> Result<Framing, Problem> {
        if self.hosts == 0 && !request.version_10 {
            return Err(Problem::malformed("HTTP/1.1 without a `Host` field"));
        }
        if self.coded && self.length.is_some() {
            return Err(Problem::malformed(
                "both `Transfer-Encoding` and `Content-Length`; send one",
            ));
        }
        if self.coded && request.version_10 {
            return Err(Problem::malformed(
                "`Transfer-Encoding` in HTTP/1.0, which has none",
            ));
        }
        let with_body = self.coded || self.length.is_some_and(|length| length > 0);
        if request.connect {
            return if with_body {
                Err(Problem::malformed("CONNECT with a body"))
            } else {
                Ok(Framing::Tunnel)
            };
        }
        if self.upgrading && self.protocol && !request.version_10 {
            return if with_body {
                Err(Problem::malformed("an upgrade with a body"))
            } else {
                Ok(Framing::Tunnel)
            };
        }
        Ok(match (self.coded, self.length) {
            (true, _) => Framing::Chunked,
            (false, Some(length)) if length > 0 => Framing::Length(length),
            (false, _) => Framing::Empty,
        })
    }
}

/// What decides whether HTTP goes on behind the head is read once more with the request; bytes
/// that only one of the readers takes for text would let what follows pass unread.
fn plain(value: &[u8]) -> Result<(), Problem> {
    if value.is_ascii() {
        return Ok(());
    }
    Err(Problem::malformed(
        "`Connection` or `Upgrade` has a byte that is not ASCII",
    ))
}

/// Source: RFC 9110 section 10.1.1.
fn expect(value: &[u8]) -> Result<(), Problem> {
    if value.eq_ignore_ascii_case(b"100-continue") {
        return Ok(());
    }
    Err(Problem::new(
        Fault::Expectation,
        "the only expectation that is met is `100-continue`",
    ))
}

/// Whether an `Upgrade` item asks for HTTP in another version or over TLS: a proxy may stay with
/// the version that it speaks. One reader for the screen and for the request: what one took for
/// HTTP and the other for another protocol would pass unread.
pub(super) fn is_http(protocol: &[u8]) -> bool {
    let name = protocol.split(|byte| *byte == b'/').next();
    let name = name.unwrap_or_default();
    [b"h2c".as_slice(), b"http", b"tls"]
        .iter()
        .any(|http| name.eq_ignore_ascii_case(http))
}

/// Fields that a request carries to its origin, or that frame it; naming one as a matter of this
/// connection alone would take it away from one reader and not from another.
const END_TO_END: [&str; 9] = [
    "host",
    "content-length",
    "transfer-encoding",
    "content-type",
    "authorization",
    "cookie",
    "expect",
    "max-forwards",
    "via",
];

fn items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|item| !item.is_empty())
}

fn large(text: String) -> Problem {
    Problem::new(Fault::HeadTooLarge, text)
}

/// Source: RFC 9110 section 5.6.2.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

fn is_control(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t') || byte == 0x7f
}

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod tests;
