//! `app/authzen.toml`: how callers name the types and actions of an application.
//!
//! Text in, a bounded [`Mapping`] out. It says nothing about Cedar's side: `load` looks there.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

/// What the file says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mapping {
    /// The namespace of the schema that it is about.
    pub(super) namespace: Spanned<String>,
    /// Callers of the API, beside the daemon's user, who may ask.
    #[serde(default)]
    pub(super) callers: Vec<String>,
    #[serde(default)]
    pub(super) types: BTreeMap<Spanned<String>, TypeEntry>,
    #[serde(default)]
    pub(super) actions: BTreeMap<Spanned<String>, ActionEntry>,
    #[serde(default)]
    pub(super) context: ContextEntry,
}

/// `[types.NAME]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TypeEntry {
    /// Its entity type within the namespace.
    pub(super) entity: Spanned<String>,
    #[serde(default)]
    pub(super) trusted: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) unknown: bool,
}

/// `[actions.NAME]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ActionEntry {
    /// Its id within the namespace.
    pub(super) action: Spanned<String>,
    #[serde(default)]
    pub(super) trusted: Vec<Spanned<String>>,
}

/// `[context]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ContextEntry {
    #[serde(default)]
    pub(super) trusted: Vec<String>,
}

/// Most types, actions, callers or trusted names.
pub(super) const MAX_NAMES: usize = 1_000;
/// Longest name that callers use, in bytes.
const MAX_NAME_BYTES: usize = 256;

impl Mapping {
    /// Reads it.
    ///
    /// # Errors
    /// The byte offset of what is wrong, and what it is.
    pub(super) fn read(text: &str) -> Result<Self, (usize, String)> {
        let mapping: Self = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            (at, error.message().to_owned())
        })?;
        mapping.check()?;
        Ok(mapping)
    }

    fn check(&self) -> Result<(), (usize, String)> {
        let names = self.types.keys().chain(self.actions.keys());
        for name in names {
            let text = name.get_ref();
            let plain = !text.is_empty() && text.len() <= MAX_NAME_BYTES;
            if !plain || text.chars().any(char::is_control) {
                let why =
                    format!("{text:.100?} is not a name: 1 to {MAX_NAME_BYTES} bytes of text");
                return Err((name.span().start, why));
            }
            if text == SESSION && self.types.contains_key(name) {
                let why = format!("the type `{SESSION}` is Cordon's own");
                return Err((name.span().start, why));
            }
        }
        let trusted = self.types.values().map(|entry| entry.trusted.len());
        let trusted = trusted.chain(self.actions.values().map(|entry| entry.trusted.len()));
        let most = [
            self.types.len(),
            self.actions.len(),
            self.callers.len(),
            self.context.trusted.len(),
        ];
        if most
            .into_iter()
            .chain(trusted)
            .any(|count| count > MAX_NAMES)
        {
            return Err((0, format!("a list of it has more than {MAX_NAMES} names")));
        }
        if self.types.is_empty() || self.actions.is_empty() {
            let why = "it needs at least one `[types.NAME]` and one `[actions.NAME]`";
            return Err((0, why.into()));
        }
        Ok(())
    }
}

/// The type of subject that Cordon's own questions are about.
const SESSION: &str = "Session";
