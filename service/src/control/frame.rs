//! Frames: `u32` little-endian length, then that many bytes of JSON. Descriptors travel with the
//! first byte of a frame.

use std::{collections::VecDeque, io, os::fd::OwnedFd};

/// Longest frame, bytes. A summary of a long session is the largest thing that travels.
pub const MAX_FRAME_BYTES: usize = 8 << 20;

/// Most descriptors that wait beside frames: the five listeners of a session, and room for the
/// three streams of a command.
pub const MAX_DESCRIPTORS: usize = 8;

/// Bytes of the length prefix.
const PREFIX: usize = 4;

/// Makes a frame of a message.
///
/// # Errors
/// When the message cannot be written as JSON or is longer than [`MAX_FRAME_BYTES`].
pub fn encode<T: serde::Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len())
        .ok()
        .filter(|length| *length as usize <= MAX_FRAME_BYTES)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "message too long"))?;
    let mut frame = Vec::with_capacity(PREFIX + body.len());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// Takes one whole message off the front of `buffer`, when it is there.
///
/// # Errors
/// When the length is over the bound or the body is not such a message.
pub fn decode<T: serde::de::DeserializeOwned>(buffer: &mut Vec<u8>) -> io::Result<Option<T>> {
    let Some(prefix) = buffer.first_chunk::<PREFIX>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*prefix) as usize;
    if length > MAX_FRAME_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "message too long",
        ));
    }
    let Some(body) = buffer.get(PREFIX..PREFIX + length) else {
        return Ok(None);
    };
    let message = serde_json::from_slice(body)?;
    buffer.drain(..PREFIX + length);
    Ok(Some(message))
}

/// Takes the descriptors that a frame says came beside it.
///
/// # Errors
/// When fewer came.
pub fn take(arrived: &mut VecDeque<OwnedFd>, count: usize) -> io::Result<Vec<OwnedFd>> {
    if count > arrived.len() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a descriptor is missing",
        ));
    }
    Ok(arrived.drain(..count).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_any_split() {
        let frame = encode(&vec!["a", "b"]).unwrap();
        for cut in 0..frame.len() {
            let mut buffer = frame[..cut].to_vec();
            assert!(
                decode::<Vec<String>>(&mut buffer).unwrap().is_none(),
                "cut at {cut}"
            );
            buffer.extend_from_slice(&frame[cut..]);
            assert_eq!(
                decode::<Vec<String>>(&mut buffer).unwrap().unwrap(),
                ["a", "b"]
            );
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn a_length_over_the_bound_is_refused_before_it_is_read() {
        let mut buffer = u32::MAX.to_le_bytes().to_vec();
        assert!(decode::<Vec<String>>(&mut buffer).is_err());
    }
}
