//! The search for placeholders, and bodies in signed pieces, for `fuzz/`.

use super::{placeholder::Placeholders, sigv4::Pieces};

/// One placeholder to be looked for.
#[derive(Debug)]
pub struct Placeholder(Option<Placeholders>);

impl Placeholder {
    /// Of a credential called `forge`.
    pub fn new(text: &str) -> Self {
        Self(Placeholders::new(vec![("forge".into(), text.into())]))
    }

    /// Whether it is in these bytes.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        self.0
            .as_ref()
            .is_some_and(|known| known.find(bytes) == Some("forge"))
    }

    /// How many bytes are looked at once more with those that follow.
    pub fn overlap(&self) -> usize {
        self.0.as_ref().map_or(0, Placeholders::overlap)
    }
}

/// What becomes of a body that is signed piece by piece and arrives `cut` bytes at a time.
///
/// # Errors
/// What is wrong with its framing.
pub fn pieces(
    bytes: &[u8],
    length: u16,
    trailers: bool,
    cut: usize,
) -> Result<Vec<u8>, &'static str> {
    let mut pieces = Pieces::sample(length.into(), trailers);
    let mut out = Vec::new();
    for part in bytes.chunks(cut) {
        pieces.push(part);
        while let Some(signed) = pieces.next()? {
            out.extend(signed.sent);
        }
    }
    while let Some(signed) = pieces.finish()? {
        out.extend(signed.sent);
    }
    Ok(out)
}
