//! Reads a PROXY protocol header, version 1 or 2, from a peer that is trusted for it.
//!
//! Exactly the header is taken from the stream. Shape: at most 107 bytes of text, or 16 bytes and at
//! most [`LONGEST`] behind them. Never called for a peer that is not trusted.
//!
//! Source: the PROXY protocol of HAProxy, sections 2.1 and 2.2.

use std::net::IpAddr;

use ppp::{HeaderResult, PartialResult, v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest text header.
const TEXT: usize = 107;

/// Longest rest of a binary header: addresses, and extensions that are passed over.
const LONGEST: usize = 2048;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Who calls, as the peer says; none where it speaks for itself (`UNKNOWN`, `LOCAL`).
pub(crate) async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Option<IpAddr>, String> {
    let header = take(stream).await?;
    let parsed = HeaderResult::parse(&header);
    if parsed.is_incomplete() {
        return Err("the PROXY protocol header is cut off".into());
    }
    match parsed {
        HeaderResult::V1(Ok(header)) => Ok(match header.addresses {
            v1::Addresses::Tcp4(address) => Some(address.source_address.into()),
            v1::Addresses::Tcp6(address) => Some(address.source_address.into()),
            v1::Addresses::Unknown => None,
        }),
        HeaderResult::V2(Ok(header)) => Ok(match (header.command, header.addresses) {
            (v2::Command::Local, _) => None,
            (v2::Command::Proxy, v2::Addresses::IPv4(address)) => {
                Some(address.source_address.into())
            }
            (v2::Command::Proxy, v2::Addresses::IPv6(address)) => {
                Some(address.source_address.into())
            }
            (v2::Command::Proxy, _) => {
                return Err("the PROXY protocol header names no address".into());
            }
        }),
        HeaderResult::V1(Err(error)) => Err(format!("PROXY protocol header: {error}")),
        HeaderResult::V2(Err(error)) => Err(format!("PROXY protocol header: {error}")),
    }
}

/// Takes the bytes of one header and none behind it.
async fn take<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Vec<u8>, String> {
    let missing =
        |_error| "the peer must begin with a PROXY protocol header and does not".to_owned();
    let mut header = vec![0; SIGNATURE.len()];
    stream.read_exact(&mut header).await.map_err(missing)?;
    if header == SIGNATURE {
        header.resize(16, 0);
        let rest = header.get_mut(SIGNATURE.len()..).unwrap_or_default();
        stream.read_exact(rest).await.map_err(missing)?;
        let length = match header.get(14..16) {
            Some([high, low]) => usize::from(u16::from_be_bytes([*high, *low])),
            _ => 0,
        };
        if length > LONGEST {
            return Err(format!(
                "the PROXY protocol header is longer than {LONGEST} bytes"
            ));
        }
        header.resize(16 + length, 0);
        let rest = header.get_mut(16..).unwrap_or_default();
        stream.read_exact(rest).await.map_err(missing)?;
        return Ok(header);
    }
    if !header.starts_with(b"PROXY ") {
        return Err("the peer must begin with a PROXY protocol header and does not".into());
    }
    while !header.ends_with(b"\r\n") {
        if header.len() == TEXT {
            return Err(format!(
                "the PROXY protocol header is longer than {TEXT} bytes"
            ));
        }
        header.push(stream.read_u8().await.map_err(missing)?);
    }
    Ok(header)
}
