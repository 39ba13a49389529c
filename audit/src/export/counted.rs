//! What an export's file is made of, counted and hashed while it is written.
//!
//! Bytes in, the same bytes out; their number, their SHA-256, and a leaf hash of each line, of
//! which there is a Merkle tree, so that a line that is changed later can be told from the others.

use std::io::{self, Write};

use sha2::{Digest as _, Sha256};

use crate::verify::tree::{Hash, Tree};

/// A file under way.
pub(super) struct Counted<'a> {
    out: &'a mut dyn Write,
    /// Takes 32 bytes for each line.
    hashes: &'a mut dyn Write,
    bytes: u64,
    sha256: Sha256,
    /// Of the line that is under way.
    line: Sha256,
    lines: Tree,
}

/// What was written.
pub(super) struct Total {
    pub(super) bytes: u64,
    pub(super) sha256: Hash,
    /// Root of the tree over all lines.
    pub(super) lines_root: String,
}

impl<'a> Counted<'a> {
    pub(super) fn new(out: &'a mut dyn Write, hashes: &'a mut dyn Write) -> Self {
        Self {
            out,
            hashes,
            bytes: 0,
            sha256: Sha256::new(),
            line: begin(),
            lines: Tree::default(),
        }
    }

    /// Everything is written; each line has its line feed.
    pub(super) fn end(self) -> io::Result<Total> {
        self.out.flush()?;
        self.hashes.flush()?;
        Ok(Total {
            bytes: self.bytes,
            sha256: self.sha256.finalize().into(),
            lines_root: self.lines.root_text(),
        })
    }

    fn end_line(&mut self) -> io::Result<()> {
        let hash: Hash = std::mem::replace(&mut self.line, begin()).finalize().into();
        self.lines.push(hash);
        self.hashes.write_all(&hash)
    }
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        self.sha256.update(bytes);
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            match part.strip_suffix(b"\n") {
                Some(rest) => {
                    self.line.update(rest);
                    self.end_line()?;
                }
                None => self.line.update(part),
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A leaf hash (RFC 6962) before its first byte.
fn begin() -> Sha256 {
    Sha256::new_with_prefix([0])
}
