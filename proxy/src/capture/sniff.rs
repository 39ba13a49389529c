//! Tells a refused captured client the reason in the protocol it speaks.
//!
//! The client's first bytes choose the answer and go nowhere else.

use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{limits, linger, refuse::Refusal, relay::reset, session::Session};

/// Answers and closes. A client that says nothing, or nothing known, gets a reset.
pub(super) async fn refuse(session: &Session, mut stream: TcpStream, refusal: &Refusal) {
    let contact = session.contact();
    let answer = match heard(&stream).await {
        Some(Protocol::Http) => refusal.http_answer(contact, None),
        Some(Protocol::Tls) => TLS_ACCESS_DENIED.to_vec(),
        Some(Protocol::Ssh) => ssh(&refusal.line(contact)),
        Some(Protocol::Redis) => redis(&refusal.line(contact)),
        Some(Protocol::Postgres) => {
            let greeted = tokio::time::timeout(limits::SNIFF_DEADLINE, greet_postgres(&mut stream));
            if !matches!(greeted.await, Ok(Ok(()))) {
                return reset(stream);
            }
            postgres(&refusal.line(contact))
        }
        None => return reset(stream),
    };
    // A client that is gone needs no answer.
    let _gone = stream.write_all(&answer).await;
    linger::close(stream).await;
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Protocol {
    Http,
    Tls,
    Ssh,
    Redis,
    Postgres,
}

async fn heard(stream: &TcpStream) -> Option<Protocol> {
    let mut first = [0; 8];
    let read = tokio::time::timeout(limits::SNIFF_DEADLINE, stream.peek(&mut first))
        .await
        .ok()?
        .ok()?;
    protocol(first.get(..read)?)
}

fn protocol(first: &[u8]) -> Option<Protocol> {
    if first.starts_with(b"SSH-") {
        return Some(Protocol::Ssh);
    }
    if first.starts_with(&[0x16, 0x03]) {
        return Some(Protocol::Tls);
    }
    if matches!(first, [b'*', b'1'..=b'9', ..]) {
        return Some(Protocol::Redis);
    }
    if postgres_request(first).is_some() {
        return Some(Protocol::Postgres);
    }
    // A method and a space; the longest that anybody uses is far longer than what was peeked.
    let method = first.iter().take_while(|byte| byte.is_ascii_uppercase());
    let letters = method.count();
    let http = letters >= 3 && matches!(first.get(letters), None | Some(b' '));
    http.then_some(Protocol::Http)
}

/// A fatal `access_denied` alert in a TLS 1.2 record, which every version reads.
///
/// Source: RFC 8446 section 6.2: "a valid certificate or PSK was received, but when access
/// control was applied, the sender decided not to proceed"; the nearest to the truth there is.
const TLS_ACCESS_DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

/// Our version line, then SSH_MSG_DISCONNECT in clear, as is due before keys are agreed. OpenSSH
/// prints its text.
///
/// Source: RFC 4253 sections 4.2, 6 and 11.1.
fn ssh(reason: &str) -> Vec<u8> {
    const DISCONNECT: u8 = 1;
    const HOST_NOT_ALLOWED_TO_CONNECT: u32 = 1;
    const LONGEST: usize = 400;
    let text: String = reason
        .chars()
        .filter(char::is_ascii)
        .take(LONGEST)
        .collect();

    let mut payload = vec![DISCONNECT];
    payload.extend(HOST_NOT_ALLOWED_TO_CONNECT.to_be_bytes());
    payload.extend(length(&text));
    payload.extend(text.as_bytes());
    payload.extend([0; 4]); // language tag: none

    // Length, padding length and payload fill blocks of 8; at least 4 bytes are padding.
    let padding = 4 + (8 - (4 + 1 + payload.len() + 4) % 8) % 8;
    let mut packet = b"SSH-2.0-Cordon\r\n".to_vec();
    packet.extend(
        u32::try_from(1 + payload.len() + padding)
            .unwrap_or_default()
            .to_be_bytes(),
    );
    packet.push(u8::try_from(padding).unwrap_or_default());
    packet.extend(payload);
    packet.extend(std::iter::repeat_n(0, padding));
    packet
}

/// An error reply, which every client of the protocol prints.
///
/// Source: Redis serialization protocol (RESP), simple errors.
fn redis(reason: &str) -> Vec<u8> {
    format!("-NOPERM {reason}\r\n").into_bytes()
}

/// What a PostgreSQL client begins with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum PostgresRequest {
    /// It asks whether the connection may be encrypted, before it says who it is.
    Encryption,
    /// It says who it is; so many bytes in all.
    Startup(usize),
}

/// Source: PostgreSQL, "Message Formats": SSLRequest, GSSENCRequest, StartupMessage.
fn postgres_request(first: &[u8]) -> Option<PostgresRequest> {
    let (length, rest) = first.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    match rest.first_chunk::<4>()? {
        [4, 210, 22, 47 | 48] if length == 8 => Some(PostgresRequest::Encryption),
        [0, 3, 0, 0] if (8..=POSTGRES_STARTUP_BYTES).contains(&length) => {
            Some(PostgresRequest::Startup(length))
        }
        _ => None,
    }
}

/// Longest startup message that the server itself takes.
const POSTGRES_STARTUP_BYTES: usize = 10_000;

/// Listens until the client has said who it is, saying no to encryption: an error before that is
/// one it does not print.
async fn greet_postgres(stream: &mut TcpStream) -> io::Result<()> {
    // Each kind of encryption once.
    for _request in 0..3 {
        let mut first = [0; 8];
        stream.read_exact(&mut first).await?;
        match postgres_request(&first) {
            Some(PostgresRequest::Encryption) => stream.write_all(b"N").await?,
            Some(PostgresRequest::Startup(length)) => {
                let mut rest = vec![0; length.saturating_sub(first.len())];
                stream.read_exact(&mut rest).await?;
                return Ok(());
            }
            None => break,
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// An ErrorResponse: severity, code "invalid authorization", message.
///
/// Source: PostgreSQL, "Message Formats", "Error and Notice Message Fields", "Error Codes".
fn postgres(reason: &str) -> Vec<u8> {
    let fields = format!("SFATAL\0VFATAL\0C28000\0M{reason}\0\0");
    let length = u32::try_from(fields.len() + 4).unwrap_or_default();
    let mut message = vec![b'E'];
    message.extend(length.to_be_bytes());
    message.extend(fields.as_bytes());
    message
}

fn length(text: &str) -> [u8; 4] {
    u32::try_from(text.len()).unwrap_or_default().to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_the_protocol() {
        let table: [(&[u8], Option<Protocol>); 15] = [
            (b"GET / HT", Some(Protocol::Http)),
            (b"OPTIONS ", Some(Protocol::Http)),
            (b"PROPPATC", Some(Protocol::Http)),
            (b"SSH-2.0-", Some(Protocol::Ssh)),
            (&[0x16, 0x03, 0x01, 0x02], Some(Protocol::Tls)),
            (&[0x16], None),
            (b"", None),
            (b"get / HT", None),
            (&[0, 0, 0, 8, 4, 210, 22, 47], Some(Protocol::Postgres)), // asking for TLS
            (&[0, 0, 0, 8, 4, 210, 22, 48], Some(Protocol::Postgres)), // asking for GSSAPI
            (&[0, 0, 0, 80, 0, 3, 0, 0], Some(Protocol::Postgres)),
            (&[0, 0, 0, 7, 0, 3, 0, 0], None), // shorter than its own head
            (&[0, 1, 0, 0, 0, 3, 0, 0], None), // longer than any
            (b"*1\r\n$4\r\n", Some(Protocol::Redis)),
            (b"* 1", None),
        ];
        for (first, expected) in table {
            assert_eq!(protocol(first), expected, "{first:?}");
        }
    }

    #[test]
    fn an_ssh_packet_fills_blocks_and_carries_the_reason() {
        for reason in [
            "",
            "x",
            "denied: connection to evil.example:22",
            &"y".repeat(900),
        ] {
            let bytes = ssh(reason);
            let packet = bytes
                .strip_prefix(b"SSH-2.0-Cordon\r\n".as_slice())
                .unwrap();
            assert_eq!(packet.len() % 8, 0, "{reason:?}");
            let stated = u32::from_be_bytes(packet[..4].try_into().unwrap());
            assert_eq!(stated as usize, packet.len() - 4, "{reason:?}");
            assert!((4..=255).contains(&packet[4]), "{reason:?}");
            assert_eq!(packet[5], 1, "{reason:?}");
        }
    }
}
