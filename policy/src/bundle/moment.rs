//! Moments as people write them in TOML and as statements carry them.

use std::{path::Path, time::SystemTime};

use toml::{Spanned, Value};

use super::{BundleError, error::Artefact};
use crate::Observe;

/// A moment in a TOML file: bare (`2027-01-01T00:00:00Z`) or quoted; a day alone is its first
/// second in UTC.
pub(super) fn read(
    what: Artefact,
    (file, text): (&Path, &str),
    value: Option<&Spanned<Value>>,
) -> Result<Option<SystemTime>, BundleError> {
    let Some(value) = value else {
        return Ok(None);
    };
    let written = match value.get_ref() {
        Value::String(text) => text.clone(),
        Value::Datetime(moment) => moment.to_string(),
        other => other.type_str().to_owned(),
    };
    parse(&written).map(Some).ok_or_else(|| {
        what.error_at(
            (file, text, value.span().start),
            format!("{written:.100?} is no moment"),
            "write a day (`2027-01-01`: from midnight UTC) or a moment (`2027-01-01T08:00:00Z`)",
        )
    })
}

/// RFC 3339 with an offset, or a day.
pub(super) fn parse(text: &str) -> Option<SystemTime> {
    text.parse::<Observe>().ok().map(|observe| observe.until)
}

/// In UTC, to the second: `2027-01-01T00:00:00Z`.
pub(super) fn write(moment: SystemTime) -> String {
    Observe { until: moment }.to_string()
}
