//! The search for placeholders, for `fuzz/`.

use super::placeholder::Placeholders;

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
