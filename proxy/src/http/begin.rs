//! Tells whether what a client says first in a tunnel is an HTTP request.
//!
//! Bytes as they arrive in, yes or no out. Goes by what the laxest server would take for a request
//! (Python's takes any word for a method), so that what is let through as something else is served
//! as a request by nobody: whether it is well-formed is for whoever serves it then. Holds no more than
//! [`limits::HEAD_BYTES`].
//!
//! | first line, after blanks | is HTTP |
//! |---|---|
//! | not begun by a word of printable ASCII | no |
//! | begun by a length or tag as git and LDAP have it, or by `<?xml version=` as XMPP has | no |
//! | its last word begins with `HTTP/`, the preface of HTTP/2 among them | yes |
//! | it begins with `RTSP/` or `ICE/`, which a server for both serves as HTTP | yes |
//! | two words, the other a path, a URL or `*`, as HTTP/0.9 has it | yes |
//! | two words, the first of them `GET` as it is written, which Python's server takes | yes |
//! | a common method and a path or URL, whatever follows | yes |
//! | the first word no method, and none of the first three | no |
//! | any other | no |
//! | not whole in time, or too long | yes: who serves it says so |
//!
//! Where the client says no more, what it said is a line.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::timeout,
};

use super::head;
use crate::limits;

/// What is known by the bytes so far.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Begin {
    More,
    Http,
    Other,
}

/// Reads on behind `first` until it is known, at most for `deadline`. What was read is added to it.
pub(crate) async fn is_http(
    client: &mut (impl AsyncRead + Unpin),
    first: &mut Vec<u8>,
    deadline: Duration,
) -> bool {
    let known = async {
        let mut buffer = [0; 2048];
        loop {
            match begin(first) {
                Begin::Http => return true,
                Begin::Other => return false,
                Begin::More => {}
            }
            match client.read(&mut buffer).await {
                Ok(0) | Err(_) => return is_http_at_end(first),
                Ok(read) => first.extend_from_slice(buffer.get(..read).unwrap_or_default()),
            }
        }
    };
    timeout(deadline, known).await.unwrap_or(true)
}

/// As [`begin`], of all that its client will ever say: the end is a line end to some servers, as
/// Python's serves a request line that nothing follows.
fn is_http_at_end(said: &[u8]) -> bool {
    begin(&[said, b"\n"].concat()) == Begin::Http
}

/// Looks at what came so far.
pub(crate) fn begin(first: &[u8]) -> Begin {
    let begun = first.iter().position(|byte| !is_blank(*byte));
    let text = begun.and_then(|at| first.get(at..)).unwrap_or_default();
    let end = memchr::memchr(b'\n', text);
    let line = text.get(..end.unwrap_or(text.len())).unwrap_or_default();
    let mut words = line
        .split(|byte| is_blank(*byte))
        .filter(|word| !word.is_empty());
    let method = words.next().unwrap_or_default();
    // Behind the first word a server may take any byte: Python's serves a path with a NUL in it.
    if !method.iter().all(u8::is_ascii_graphic)
        || is_known_as_other(text, method, words.clone().next())
    {
        return Begin::Other;
    }
    if end.is_none() {
        return match first.len() < limits::HEAD_BYTES {
            true => Begin::More,
            false => Begin::Http,
        };
    }
    let Some(target) = words.next() else {
        return Begin::Other;
    };
    let last = words.next_back();
    let is_common = || {
        METHODS
            .iter()
            .any(|known| method.eq_ignore_ascii_case(known))
    };
    let is_old = match last {
        None => is_target(target) && is_method(method) || method == b"GET",
        Some(_) => is_target(target) && is_common(),
    };
    let last = last.unwrap_or(target);
    match VERSIONS.iter().any(|begin| starts_with(last, begin)) || is_old {
        true => Begin::Http,
        false => Begin::Other,
    }
}

/// What need never come to a line end: git's length before its command, LDAP's tag with a length that
/// is a blank, XMPP's header.
fn is_known_as_other(text: &[u8], first: &[u8], second: Option<&[u8]>) -> bool {
    let is_git = || {
        let (length, command) = first.split_at_checked(4).unwrap_or_default();
        command.starts_with(b"git-") && length.iter().all(u8::is_ascii_hexdigit)
    };
    let is_binary = |word: &[u8]| word.first().is_some_and(u8::is_ascii_control);
    let is_tag = || first.first().is_some_and(u8::is_ascii_digit) && second.is_some_and(is_binary);
    text.starts_with(b"<?xml version=") || is_git() || is_tag()
}

fn is_method(word: &[u8]) -> bool {
    word.iter().all(|byte| head::is_token(*byte))
}

/// Whether it is what a server of HTTP/2 says before its client has said anything, or the begin of
/// that: a SETTINGS frame of the connection.
///
/// Source: RFC 9113 sections 3.4, 4.1 and 6.5.
pub(crate) fn is_settings(said: &[u8]) -> bool {
    const TYPE: u8 = 4;
    let frame = [
        Some(0),
        None,
        None,
        Some(TYPE),
        Some(0),
        Some(0),
        Some(0),
        Some(0),
        Some(0),
    ];
    let mut pairs = said.iter().zip(frame);
    !said.is_empty() && pairs.all(|(byte, expected)| expected.is_none_or(|at| at == *byte))
}

/// Bytes that tell such a frame.
pub(crate) const SETTINGS_HEAD: usize = 9;

/// Whether some server takes the byte for the end of a word: those that split text as their
/// language does take more than blanks (RFC 9112 section 3 names the ASCII ones).
fn is_blank(byte: u8) -> bool {
    matches!(byte, 0x09..=0x0d | 0x1c..=0x20 | 0x85 | 0xa0)
}

/// Whether some server takes the word for what is asked for (RFC 9112 section 3.2).
fn is_target(word: &[u8]) -> bool {
    let scheme = memchr::memmem::find(word, b"://").and_then(|end| word.get(..end));
    let is_url = scheme.is_some_and(|scheme| {
        let is_in_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        scheme.first().is_some_and(u8::is_ascii_alphabetic) && scheme.iter().all(is_in_scheme)
    });
    word.starts_with(b"/") || word.starts_with(b"*") || is_url
}

fn starts_with(word: &[u8], prefix: &[u8]) -> bool {
    let begin = word.get(..prefix.len());
    begin.is_some_and(|begin| begin.eq_ignore_ascii_case(prefix))
}

/// As the parser of Node.js takes them, which serves all of them alike.
const VERSIONS: [&[u8]; 3] = [b"HTTP/", b"RTSP/", b"ICE/"];

const METHODS: [&[u8]; 9] = [
    b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT",
];

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: [(&[u8], Begin); 52] = [
        (b"GET / HTTP/1.1\r\n", Begin::Http),
        (b"POST /a?b HTTP/1.0\n", Begin::Http),
        (b"x-any /a http/1.1\r\nhost: a\r\n", Begin::Http),
        (b"\r\n\r\n\r\nPOST / HTTP/1.1\r\n", Begin::Http),
        (b" \tPOST   /\tHTTP/1.1 \r\n", Begin::Http),
        (b"POST\x0b/\xa0HTTP/1.1\n", Begin::Http),
        (b"POST http://a.test/ HTTP/9.9\r\n", Begin::Http),
        (b"CONNECT a.test:443 HTTP/1.1\r\n", Begin::Http),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Begin::Http),
        (b"GET /old\r\n", Begin::Http),
        (b"post HTTP://a.test/\n", Begin::Http),
        (b"GET /a junk\r\n", Begin::Http),
        // Python's server.
        (b"GET secret.txt\r\n", Begin::Http),
        (b"DELETE /thing?\x01 HTTP/1.1\r\nHost: a\r\n", Begin::Http),
        (b"DELETE /thing?\x7f HTTP/1.1\r\n", Begin::Http),
        (b"DELETE /\0thing HTTP/1.1\r\n", Begin::Http),
        (b"M-SEARCH * \x01 HTTP/1.1\r\n", Begin::Http),
        (b"DELETE /thing?\x01 HTTP/1.1", Begin::More),
        (b"1 /secret?\x01 HTTP/1.1\r\nHost: a\r\n", Begin::Http),
        (b"0032git /secret HTTP/1.1\r\n", Begin::Http),
        (b"G@T /secret HTTP/1.1\r\n", Begin::Http),
        (b"<GET> /secret HTTP/1.1\r\n", Begin::Http),
        // What Node.js serves besides.
        (b"OPTIONS rtsp://a.test/ RTSP/1.0\r\n", Begin::Http),
        (b"POST rtsp://a.test/w RTSP/1.1\r\n", Begin::Http),
        (b"DESCRIBE /x RTSP/1.1\r\n", Begin::Http),
        (b"SOURCE /x ICE/1.1\r\n", Begin::Http),
        (b"PURGE /x\r\n", Begin::Http),
        (b"LOCK *\r\n", Begin::Http),
        (b"MKCOL webdav://a.test/x\n", Begin::Http),
        (b"", Begin::More),
        (b"\r\n", Begin::More),
        (b"P", Begin::More),
        (b"POST / HTTP/1.1", Begin::More),
        // What other protocols begin with.
        (b"SSH-2.0-OpenSSH_9.2\r\n", Begin::Other),
        (b"*1\r\n$4\r\nPING\r\n", Begin::Other),
        (b"*1\r", Begin::More),
        (b"PING\r\n", Begin::Other),
        (b"get key\r\n", Begin::Other),
        (b"SET /a /b\r\n", Begin::Other),
        (b"NICK me\r\n", Begin::Other),
        (b"CONNECT {\"url\":\"nats://a.test\"}\r\n", Begin::Other),
        (b"CONNECT\naccept-version:1.2\n", Begin::Other),
        (&[0, 0, 0, 8, 4, 210, 22, 47], Begin::Other),
        (b"AMQP\0\0\x09\x01", Begin::Other),
        (b"0032git-upload-pack /a\0host=a.test\0", Begin::Other),
        (
            b"0\x0c\x02\x01\x01`\x07\x02\x01\x03\x04\0\x80\0",
            Begin::Other,
        ),
        (b"NICK me\x01\r\n", Begin::Other),
        (
            b"<?xml version='1.0'?><stream:stream to='a.test'",
            Begin::Other,
        ),
        (b"<34>1 /a\n", Begin::Other),
        (b"8=FIX.4.2\x019=65\x0135=A", Begin::Other),
        (&[0x16, 3, 1], Begin::Other),
        (b"{\"id\": 1}\n", Begin::Other),
    ];

    #[test]
    fn n13_first_bytes_tell_a_request_as_the_laxest_server_reads_it() {
        for (first, expected) in TABLE {
            let shown = first.escape_ascii();
            assert_eq!(begin(first), expected, "{shown}");
            // Never another answer by fewer bytes: where the cut lies is the client's choice.
            for cut in 0..first.len() {
                let early = begin(first.get(..cut).unwrap_or_default());
                assert!([Begin::More, expected].contains(&early), "{shown} at {cut}");
            }
        }
    }

    #[test]
    fn n13_a_server_of_http2_that_speaks_first_is_no_greeting() {
        let settings = [0, 0, 18, 4, 0, 0, 0, 0, 0];
        for cut in 1..=settings.len() {
            assert!(is_settings(&settings[..cut]), "{cut}");
        }
        for greeting in [
            b"".as_slice(),
            b"220 a.test",
            b"SSH-2.0-",
            &[74, 0, 0, 0, 10],
        ] {
            assert!(!is_settings(greeting), "{greeting:?}");
        }
    }

    #[test]
    fn n13_a_first_line_without_end_is_served_as_a_request() {
        let mut long = b"POST /".to_vec();
        long.resize(limits::HEAD_BYTES - 1, b'a');
        assert_eq!(begin(&long), Begin::More);
        long.push(b'a');
        assert_eq!(begin(&long), Begin::Http);
        let blank = vec![b'\n'; limits::HEAD_BYTES];
        assert_eq!(begin(&blank), Begin::Http);
    }

    #[tokio::test]
    async fn n13_who_stops_within_the_line_is_served_as_a_request() {
        for (said, ends, expected) in [
            (&b"POST / HT"[..], false, true),
            // The end ends the line where Python's server reads it.
            (b"POST / HT", true, true),
            (b"DELETE /thing HTTP/1.1", true, true),
            (b"GET thing", true, true),
            (b"SSH-", false, true),
            (b"SSH-", true, false),
            (b"DELETE", true, false),
            (b"\r\n", true, false),
            (b"SSH-2.0-a\r\n", false, false),
        ] {
            let (mut near, far) = tokio::io::duplex(64);
            let _open = (!ends).then_some(far);
            let mut first = said.to_vec();
            let deadline = Duration::from_millis(20);
            let found = is_http(&mut near, &mut first, deadline).await;
            assert_eq!(found, expected, "{said:?}");
            assert_eq!(first, said);
        }
    }
}
