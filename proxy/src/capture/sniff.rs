//! Tells a refused captured client the reason in the protocol it speaks.
//!
//! The client's first bytes choose the answer and go nowhere else.

use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{limits, linger, refuse::Refusal, relay::reset};

/// Answers and closes. A client that says nothing, or nothing known, gets a reset.
pub(super) async fn refuse(mut stream: TcpStream, refusal: &Refusal) {
    let answer = match heard(&stream).await {
        Some(Protocol::Http) => refusal.http_answer(None),
        Some(Protocol::Tls) => TLS_ACCESS_DENIED.to_vec(),
        Some(Protocol::Ssh) => ssh(&refusal.line()),
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

fn length(text: &str) -> [u8; 4] {
    u32::try_from(text.len()).unwrap_or_default().to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_the_protocol() {
        let table: [(&[u8], Option<Protocol>); 9] = [
            (b"GET / HT", Some(Protocol::Http)),
            (b"OPTIONS ", Some(Protocol::Http)),
            (b"PROPPATC", Some(Protocol::Http)),
            (b"SSH-2.0-", Some(Protocol::Ssh)),
            (&[0x16, 0x03, 0x01, 0x02], Some(Protocol::Tls)),
            (&[0x16], None),
            (b"", None),
            (b"get / HT", None),
            (&[0, 0, 0, 8, 4, 210, 22, 47], None), // PostgreSQL asking for TLS
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
