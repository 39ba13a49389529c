//! HTTP CONNECT towards a parent: one request head out, one bounded response head in.
//!
//! Reads not one byte beyond the head: what follows is the destination's.
//!
//! Source: RFC 9110 section 9.3.6.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Credentials, Refused, Target};
use crate::{limits, parent::link::Link, refuse::Trouble};

/// Asks for a tunnel to `target`.
pub(super) async fn connect(
    link: &mut Link,
    target: Target<'_>,
    credentials: Option<&Credentials>,
) -> Result<(), Refused> {
    let broken = |error: io::Error| {
        (
            Trouble::from(error.kind()),
            format!("it broke off: {error}"),
        )
    };
    let request = request(target, credentials);
    link.write_all(request.as_bytes()).await.map_err(broken)?;
    link.flush().await.map_err(broken)?;
    let mut left = limits::PARENT_HEAD_BYTES;
    loop {
        let head = head(link, &mut left).await.map_err(broken)?;
        match status(&head) {
            // An interim response; the final one follows.
            Some(100..200) => {}
            Some(200..300) => return Ok(()),
            Some(status) => return Err(refused(status)),
            None => return Err((Trouble::Broken, "its answer is not HTTP/1".into())),
        }
    }
}

/// The request head: an authority, and base64; nothing that a session wrote.
fn request(target: Target<'_>, credentials: Option<&Credentials>) -> String {
    let mut head = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n");
    if let Some(credentials) = credentials {
        head.push_str("proxy-authorization: ");
        head.push_str(&credentials.basic());
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    head
}

/// What a status of the parent means. Its own words are not passed on.
fn refused(status: u16) -> Refused {
    match status {
        407 => (
            Trouble::Refused,
            "it does not accept the credentials of its entry under `network.parents` (407)".into(),
        ),
        504 => (
            Trouble::TimedOut,
            "the destination did not answer it in time (504)".into(),
        ),
        502 | 503 => (
            Trouble::NoRoute,
            format!("it does not reach the destination ({status})"),
        ),
        _ => (Trouble::Refused, format!("it refused with {status}")),
    }
}

/// One head, to the empty line that ends it. `left` is what all heads together may still take.
async fn head(link: &mut Link, left: &mut usize) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(256);
    loop {
        let more = match link {
            Link::Tcp(stream) => peeked(stream, &head).await?,
            // The TLS session holds what it has decrypted: a byte costs no system call.
            Link::Tls(_) => 1,
        };
        if more == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *left = left.checked_sub(more).ok_or_else(|| {
            io::Error::other(format!(
                "its head is over {} bytes",
                limits::PARENT_HEAD_BYTES
            ))
        })?;
        let have = head.len();
        head.resize(have + more, 0);
        link.read_exact(head.get_mut(have..).unwrap_or_default())
            .await?;
        if head.ends_with(b"\r\n\r\n") {
            return Ok(head);
        }
    }
}

/// How many of the bytes that wait in the socket still belong to the head; 0 at its end.
async fn peeked(stream: &tokio::net::TcpStream, head: &[u8]) -> io::Result<usize> {
    let mut waiting = [0; 2048];
    let seen = stream.peek(&mut waiting).await?;
    let waiting = waiting.get(..seen).unwrap_or_default();
    // The end may lie across what was read before and what waits.
    let tail = head.get(head.len().saturating_sub(3)..).unwrap_or_default();
    let joined = [tail, waiting].concat();
    let end = joined.windows(4).position(|four| four == b"\r\n\r\n");
    Ok(end.map_or(seen, |at| (at + 4).saturating_sub(tail.len())))
}

/// The status of a response head: `HTTP/1.`, a digit, a blank, three digits.
fn status(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/1.")?;
    let (&[minor, blank, ref code @ ..], after) = rest.split_first_chunk::<5>()?;
    let plain = minor.is_ascii_digit() && blank == b' ' && code.iter().all(u8::is_ascii_digit);
    let ended = matches!(after.first(), Some(b' ' | b'\r'));
    if !plain || !ended {
        return None;
    }
    std::str::from_utf8(code).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n03_a_request_is_made_of_checked_parts() {
        let name = "api.example.com".parse().unwrap();
        assert_eq!(
            request(Target::Name(&name, 443), None),
            "CONNECT api.example.com:443 HTTP/1.1\r\nhost: api.example.com:443\r\n\r\n"
        );
        let six = Target::Address("[2001:db8::1]:443".parse().unwrap());
        assert!(request(six, None).starts_with("CONNECT [2001:db8::1]:443 HTTP/1.1\r\n"));
        // What would break out of a head is no host to begin with.
        for wrong in ["a\r\nx: y", "a b", "a\0", "a:80 HTTP/1.1"] {
            assert!(
                wrong.parse::<cordon_policy::NormalizedHost>().is_err(),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn a_status_line_is_read_or_refused() {
        let table: [(&[u8], Option<u16>); 9] = [
            (b"HTTP/1.1 200 OK\r\n\r\n", Some(200)),
            (b"HTTP/1.0 407\r\n\r\n", Some(407)),
            (b"HTTP/1.1 200\r\n\r\n", Some(200)),
            (b"HTTP/2 200 OK\r\n\r\n", None),
            (b"HTTP/1.1  200 OK\r\n\r\n", None),
            (b"HTTP/1.1 2000 OK\r\n\r\n", None),
            (b"HTTP/1.1 20x OK\r\n\r\n", None),
            (b"SSH-2.0-x\r\n\r\n", None),
            (b"", None),
        ];
        for (head, expected) in table {
            assert_eq!(
                status(head),
                expected,
                "{:?}",
                String::from_utf8_lossy(head)
            );
        }
    }
}
