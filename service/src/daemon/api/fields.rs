//! JSON objects with each key once: what every body of the API is read as.

pub use cordon_runtime::Fields;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;

/// Reads a field that is an object or absent. What serde derives takes a list too, by position, which
/// another reader of the same text does not see.
///
/// # Errors
/// It is neither an object nor `null`, or not what `T` takes.
pub fn object<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let fields = Option::<Fields>::deserialize(deserializer)?;
    fields
        .map(|fields| T::deserialize(Value::Object(fields.0)).map_err(D::Error::custom))
        .transpose()
}
