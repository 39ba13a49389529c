//! Settings of other tools as rules: what they allow, in Cedar, and what cannot be said in it.
//!
//! Text in, rules and notes out. Nothing is widened: what cannot be expressed is not allowed, and a
//! refusal that cannot be expressed is named as one that is lost (F14). Never reads files.

mod baseline;
mod claude;
mod rules;
mod srt;

use std::path::PathBuf;

pub use baseline::{Baseline, cowork_baseline};
pub use claude::claude_settings;
pub use srt::srt_settings;

use serde_json::Value;

use crate::json;

/// What came of reading settings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Imported {
    /// Rules, in Cedar.
    pub rules: String,
    /// What is not in them, or differs.
    pub notes: Vec<Note>,
}

/// Something that is not as it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// Where it stands in the settings.
    pub place: String,
    /// What holds instead, and why.
    pub what: String,
    /// How it differs.
    pub kind: NoteKind,
}

/// How a rule of the settings differs from what holds here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NoteKind {
    /// The settings refuse something that these rules may allow: look at it before they are used.
    Lost,
    /// These rules allow more than the settings say in so many words: look at it too.
    Wider,
    /// The settings allow something that these rules do not.
    Narrower,
    /// It is no question of policy.
    Other,
}

impl NoteKind {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Wider => "wider",
            Self::Narrower => "narrower",
            Self::Other => "other",
        }
    }
}

/// Where relative and home paths begin.
#[derive(Clone, Debug)]
pub struct Places {
    /// The user's home.
    pub home: PathBuf,
    /// The folder of the settings or of the project.
    pub base: PathBuf,
}

impl Imported {
    /// Whether a refusal got lost.
    pub fn loses(&self) -> bool {
        self.notes.iter().any(|note| note.kind == NoteKind::Lost)
    }
}

/// The object of a file.
fn object(text: &[u8]) -> Result<serde_json::Map<String, Value>, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("it has more than {MAX_BYTES} bytes"));
    }
    match json::read(text)? {
        Value::Object(fields) => Ok(fields),
        _other => Err("it is not an object".into()),
    }
}

/// Whether a setting of known meaning is off or empty. What is not known says nothing only as `null`: an
/// empty list of what is allowed refuses everything.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) | Value::Number(_) | Value::String(_) => false,
    }
}

const MAX_BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests;
