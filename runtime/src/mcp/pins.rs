//! What tools of a server were when they were seen, so that a change is noticed (P08).
//!
//! Text in and out; whoever holds it keeps it on disk. Never decides.

use std::collections::BTreeMap;

use cordon_policy::Definition;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use super::definition::definition_digest;

/// The definitions of one server's tools, by name.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Pins {
    /// Version of this text: 1.
    v: u32,
    tools: BTreeMap<String, Pin>,
}

/// What one tool was.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// Its digest.
    pub digest: String,
    /// Whether a person accepted it.
    pub accepted: bool,
    /// The whole definition, to show what changed.
    pub definition: Value,
    /// What the server says now, where that is something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered: Option<Value>,
}

/// How a definition compares with what was seen before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// Never seen: it is held on to from now on.
    New,
    /// The same.
    Same,
    /// Not the same.
    Changed,
}

/// Why pins are not usable.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum PinsError {
    /// It is not what was written.
    #[error("the pinned definitions cannot be read: {0}")]
    Unreadable(String),
    /// More than [`Pins::MAX_TOOLS`].
    #[error("a server has at most {} tools", Pins::MAX_TOOLS)]
    TooMany,
    /// A definition is larger than [`Pins::MAX_DEFINITION_BYTES`].
    #[error("the definition of {0:?} has more than {max} bytes", max = Pins::MAX_DEFINITION_BYTES)]
    TooLarge(String),
    /// The tool is not known, or what was shown of it is not what is there.
    #[error("{0:?} is not as it was shown: look again")]
    Stale(String),
}

impl Pins {
    /// Most tools of one server.
    pub const MAX_TOOLS: usize = 1024;

    /// Largest definition, in bytes.
    pub const MAX_DEFINITION_BYTES: usize = 256 * 1024;

    /// Reads what [`Pins::text`] wrote.
    ///
    /// # Errors
    /// [`PinsError::Unreadable`]: nothing is taken for known then.
    pub fn read(text: &[u8]) -> Result<Self, PinsError> {
        let unreadable = |why: String| PinsError::Unreadable(why);
        let pins: Self =
            serde_json::from_slice(text).map_err(|error| unreadable(error.to_string()))?;
        if pins.v == VERSION {
            Ok(pins)
        } else {
            Err(unreadable(format!("version {} is not {VERSION}", pins.v)))
        }
    }

    /// As it is kept.
    pub fn text(&self) -> String {
        let mut pins = self.clone();
        pins.v = VERSION;
        // Maps with texts as keys always serialise.
        serde_json::to_string(&pins).unwrap_or_default()
    }

    /// Compares a definition with what was seen, and holds on to it: a new one as it is, a changed
    /// one beside the old.
    ///
    /// # Errors
    /// [`PinsError::TooMany`], [`PinsError::TooLarge`].
    pub fn see(&mut self, name: &str, definition: &Value) -> Result<Standing, PinsError> {
        let digest = definition_digest(definition);
        let known = self.tools.len();
        if let Some(pin) = self.tools.get_mut(name) {
            if pin.digest == digest {
                pin.offered = None;
                return Ok(Standing::Same);
            }
            bounded(name, definition)?;
            pin.offered = Some(definition.clone());
            return Ok(Standing::Changed);
        }
        if known >= Self::MAX_TOOLS {
            return Err(PinsError::TooMany);
        }
        bounded(name, definition)?;
        let pin = Pin {
            digest,
            accepted: false,
            definition: definition.clone(),
            offered: None,
        };
        self.tools.insert(name.into(), pin);
        Ok(Standing::New)
    }

    /// What is known of a definition by its digest.
    pub fn standing(&self, name: &str, digest: &str) -> Definition {
        match self.tools.get(name) {
            None => Definition::Unseen,
            Some(pin) if pin.digest != digest => Definition::Changed,
            Some(pin) if pin.accepted => Definition::Accepted,
            Some(_pin) => Definition::First,
        }
    }

    /// A person accepts what was shown to them: the definition of this digest, and no other (P04).
    ///
    /// # Errors
    /// [`PinsError::Stale`] when it is another by now.
    pub fn accept(&mut self, name: &str, digest: &str) -> Result<(), PinsError> {
        let stale = || PinsError::Stale(name.into());
        let pin = self.tools.get_mut(name).ok_or_else(stale)?;
        let shown = pin.offered.as_ref().unwrap_or(&pin.definition);
        if definition_digest(shown) != digest {
            return Err(stale());
        }
        if let Some(offered) = pin.offered.take() {
            pin.definition = offered;
            digest.clone_into(&mut pin.digest);
        }
        pin.accepted = true;
        Ok(())
    }

    /// All tools, by name.
    pub fn tools(&self) -> impl Iterator<Item = (&str, &Pin)> {
        self.tools.iter().map(|(name, pin)| (name.as_str(), pin))
    }
}

fn bounded(name: &str, definition: &Value) -> Result<(), PinsError> {
    if definition.to_string().len() > Pins::MAX_DEFINITION_BYTES {
        return Err(PinsError::TooLarge(name.into()));
    }
    Ok(())
}

const VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn p08_a_changed_definition_stays_changed_until_it_is_accepted() {
        let (first, second) = (json!({"description": "a"}), json!({"description": "b"}));
        let (one, two) = (definition_digest(&first), definition_digest(&second));
        let mut pins = Pins::default();
        assert_eq!(pins.standing("t", &one), Definition::Unseen);
        assert_eq!(pins.see("t", &first), Ok(Standing::New));
        assert_eq!(pins.see("t", &first), Ok(Standing::Same));
        assert_eq!(pins.standing("t", &one), Definition::First);
        assert_eq!(pins.see("t", &second), Ok(Standing::Changed));
        assert_eq!(pins.standing("t", &two), Definition::Changed);
        // What was shown before the change is not what would be accepted now.
        assert!(matches!(pins.accept("t", &one), Err(PinsError::Stale(_))));
        let mut again = Pins::read(pins.text().as_bytes()).unwrap();
        assert_eq!(again.standing("t", &two), Definition::Changed);
        again.accept("t", &two).unwrap();
        assert_eq!(again.standing("t", &two), Definition::Accepted);
        assert_eq!(again.see("t", &first), Ok(Standing::Changed));
        assert_eq!(again.standing("t", &one), Definition::Changed);
        // And back: what was accepted is still accepted.
        assert_eq!(again.see("t", &second), Ok(Standing::Same));
        assert_eq!(again.standing("t", &two), Definition::Accepted);
        assert!(matches!(again.accept("u", &two), Err(PinsError::Stale(_))));
    }

    #[test]
    fn pins_are_bounded_and_a_damaged_text_is_no_pins() {
        let mut pins = Pins::default();
        let large = json!({"description": "x".repeat(Pins::MAX_DEFINITION_BYTES)});
        assert_eq!(pins.see("t", &large), Err(PinsError::TooLarge("t".into())));
        for at in 0..Pins::MAX_TOOLS {
            pins.see(&at.to_string(), &json!({})).unwrap();
        }
        assert_eq!(pins.see("more", &json!({})), Err(PinsError::TooMany));
        assert_eq!(
            Pins::read(pins.text().as_bytes()).unwrap().tools().count(),
            1024
        );
        for text in [
            "",
            "{}",
            r#"{"v":2,"tools":{}}"#,
            r#"{"v":1,"tools":{},"x":1}"#,
        ] {
            assert!(Pins::read(text.as_bytes()).is_err(), "{text}");
        }
    }
}
