//! The journal's bytes: one header per file, then one frame per record.
//!
//! Header, 40 bytes, integers little-endian: magic `CORDONJ1`, u64 sequence of the first record,
//! 16 bytes origin, u32 version, u32 CRC-32C of what is before it.
//! Frame: u32 length of the leaf, u32 CRC-32C of everything else in the frame, u64 sequence, u64
//! `synced`, leaf. `synced` is how much of this file was on stable storage when the frame was
//! written: it tells a write that a power cut tore (nothing after it was synced) from damage to
//! what had been durable.

use std::io::{self, Read};

use crate::Record;

/// Bytes before the first frame.
pub(crate) const HEADER: u64 = 40;

/// Bytes of a frame before its leaf.
pub(crate) const FRAME: usize = 24;

const MAGIC: &[u8; 8] = b"CORDONJ1";
const VERSION: u32 = 1;

/// What a journal file says about itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    pub(crate) first_seq: u64,
    pub(crate) origin: [u8; 16],
}

/// One frame as read.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) seq: u64,
    pub(crate) leaf: Vec<u8>,
}

/// What stands at a place of a journal.
#[derive(Debug)]
pub(crate) enum Next {
    Frame(Frame),
    /// The file ends here.
    End,
    /// No valid frame: torn or damaged.
    Bad(&'static str),
}

impl Header {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(40);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.first_seq.to_le_bytes());
        bytes.extend_from_slice(&self.origin);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(crate) fn read(from: &mut impl Read) -> io::Result<Result<Self, &'static str>> {
        let mut bytes = [0; 40];
        if read_up_to(from, &mut bytes)? < bytes.len() {
            return Ok(Err("its header is cut short"));
        }
        Ok(Self::decode(&bytes))
    }

    fn decode(bytes: &[u8; 40]) -> Result<Self, &'static str> {
        let (body, crc) = bytes.split_at(36);
        if !body.starts_with(MAGIC) {
            return Err("it is not a journal");
        }
        if u32_at(crc, 0) != Some(crc32c::crc32c(body)) {
            return Err("its header is damaged");
        }
        if u32_at(body, 32) != Some(VERSION) {
            return Err("it is of another version: read it with the program that wrote it");
        }
        let origin = body.get(16..32).and_then(|bytes| bytes.try_into().ok());
        match (u64_at(body, 8), origin) {
            (Some(first_seq), Some(origin)) => Ok(Self { first_seq, origin }),
            _ => Err("its header is cut short"),
        }
    }
}

/// Makes room for a frame at the end of `out`; [`seal`] fills it in once the leaf follows.
pub(crate) fn reserve(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.resize(start + FRAME, 0);
    start
}

/// Fills in the frame that begins at `start` and whose leaf ends where `out` ends.
pub(crate) fn seal(out: &mut [u8], start: usize, seq: u64, synced: u64) {
    let Some((head, leaf)) = out
        .get_mut(start..)
        .and_then(|frame| frame.split_at_mut_checked(FRAME))
    else {
        return;
    };
    // A leaf is at most 16 KiB; a length that does not fit gives a frame that no reader accepts.
    let len = u32::try_from(leaf.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut rest = [0; 16];
    let (seq_bytes, synced_bytes) = rest.split_at_mut(8);
    seq_bytes.copy_from_slice(&seq.to_le_bytes());
    synced_bytes.copy_from_slice(&synced.to_le_bytes());
    let crc = crc(&len, &rest, leaf).to_le_bytes();
    for (to, from) in head.iter_mut().zip(len.iter().chain(&crc).chain(&rest)) {
        *to = *from;
    }
}

/// Reads the frame that stands next.
pub(crate) fn read(from: &mut impl Read) -> io::Result<Next> {
    let mut head = [0; FRAME];
    match read_up_to(from, &mut head)? {
        0 => return Ok(Next::End),
        FRAME => {}
        _ => return Ok(Next::Bad("it is cut short")),
    }
    let Some(len) = leaf_len(&head) else {
        return Ok(Next::Bad("its length is impossible"));
    };
    let mut leaf = vec![0; len];
    if read_up_to(from, &mut leaf)? < len {
        return Ok(Next::Bad("it is cut short"));
    }
    Ok(check(&head, leaf))
}

/// Whether any valid frame after position 0 of `tail` was written when more than `durable` bytes
/// of the file were already synced.
pub(crate) fn later_synced(tail: &[u8], durable: u64) -> bool {
    (1..tail.len().saturating_sub(FRAME)).any(|start| {
        let Some((head, rest)) = tail
            .get(start..)
            .and_then(|t| t.split_first_chunk::<FRAME>())
        else {
            return false;
        };
        let Some(leaf) = leaf_len(head).and_then(|len| rest.get(..len)) else {
            return false;
        };
        u64_at(head, 16).is_some_and(|synced| synced > durable)
            && matches!(check(head, leaf.to_vec()), Next::Frame(_))
    })
}

fn leaf_len(head: &[u8; FRAME]) -> Option<usize> {
    let len = usize::try_from(u32_at(head, 0)?).ok()?;
    (1..=Record::MAX_BYTES).contains(&len).then_some(len)
}

fn check(head: &[u8; FRAME], leaf: Vec<u8>) -> Next {
    let (len, rest) = head.split_at(4);
    let (stored, rest) = rest.split_at(4);
    if u32_at(stored, 0) != Some(crc(len, rest, &leaf)) {
        return Next::Bad("its checksum is wrong");
    }
    match u64_at(rest, 0) {
        Some(seq) => Next::Frame(Frame { seq, leaf }),
        None => Next::Bad("it is cut short"),
    }
}

fn crc(len: &[u8], rest: &[u8], leaf: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(len), rest), leaf)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*bytes))
}

/// As `read_exact`, but an end of file is a shorter length instead of an error.
fn read_up_to(from: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut have = 0;
    while let Some(rest) = into.get_mut(have..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(more) => have += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(have)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(leaf: &[u8], seq: u64, synced: u64) -> Vec<u8> {
        let mut out = vec![7; 3];
        let start = reserve(&mut out);
        out.extend_from_slice(leaf);
        seal(&mut out, start, seq, synced);
        out.split_off(3)
    }

    #[test]
    fn frames_come_back_as_written() {
        let bytes = framed(b"{\"a\":1}", 9, 40);
        let Next::Frame(frame) = read(&mut bytes.as_slice()).unwrap() else {
            panic!("no frame");
        };
        assert_eq!(frame.seq, 9);
        assert_eq!(frame.leaf, b"{\"a\":1}");
        assert!(matches!(read(&mut [].as_slice()).unwrap(), Next::End));
    }

    #[test]
    fn a04_every_flipped_bit_of_a_frame_is_seen() {
        let bytes = framed(b"{\"a\":1}", 9, 40);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let next = read(&mut flipped.as_slice()).unwrap();
            assert!(matches!(next, Next::Bad(_)), "bit {bit}: {next:?}");
        }
    }

    #[test]
    fn a_cut_at_any_place_is_bad_but_nothing_at_all_is_the_end() {
        let bytes = framed(b"{\"a\":1}", 9, 40);
        for len in 1..bytes.len() {
            let next = read(&mut &bytes[..len]).unwrap();
            assert!(matches!(next, Next::Bad(_)), "{len}");
        }
    }

    #[test]
    fn headers_come_back_and_every_flipped_bit_is_seen() {
        let header = Header {
            first_seq: 65_536,
            origin: [3; 16],
        };
        let bytes = header.encode();
        assert_eq!(Header::read(&mut bytes.as_slice()).unwrap(), Ok(header));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::read(&mut flipped.as_slice()).unwrap().is_err());
        }
    }

    #[test]
    fn only_a_frame_written_after_a_sync_tells_of_damage() {
        for (synced, damage) in [(100, false), (101, true)] {
            let mut tail = vec![0; 30];
            tail.extend(framed(b"{}", 5, synced));
            tail.extend([0; 7]);
            assert_eq!(later_synced(&tail, 100), damage, "{synced}");
        }
    }
}
