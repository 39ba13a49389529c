//! Ids of requests.

use serde_json::{Number, Value};

/// The id of a request: a text or a whole number.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Id {
    /// A text of at most [`Id::MAX_BYTES`].
    Text(String),
    /// A number.
    Number(i64),
}

impl Id {
    /// Longest text, in bytes.
    pub const MAX_BYTES: usize = 256;

    /// Reads one; none of anything else, fractions and `null` included.
    pub fn of(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) if text.len() <= Self::MAX_BYTES => Some(Self::Text(text.clone())),
            Value::Number(number) => number.as_i64().map(Self::Number),
            _other => None,
        }
    }

    /// As it stands in a message.
    pub fn value(&self) -> Value {
        match self {
            Self::Text(text) => Value::from(text.as_str()),
            Self::Number(number) => Value::Number(Number::from(*number)),
        }
    }
}
