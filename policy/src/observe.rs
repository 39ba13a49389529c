//! Observe mode: a rule or a whole set is tried out on live requests, until a moment that is
//! named. What it would refuse is let through and noted; from that moment it enforces by itself.
//!
//! Text of a date in, a moment out. Reads no clock: what time it is comes with the request.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use thiserror::Error;

use crate::moment;

/// Until when a rule or a set only observes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Observe {
    /// From this moment it enforces.
    pub until: SystemTime,
}

/// Why a text is no end of observe mode.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("not a date, or not one of the years 1970 to 9999")]
pub struct ObserveError;

impl Observe {
    /// Whether it only observes at this moment.
    pub fn is_on(self, at: SystemTime) -> bool {
        at < self.until
    }
}

impl ObserveError {
    /// What to do; shown after `help:`.
    pub fn hint(self) -> &'static str {
        "write a day (`2026-12-31`: it enforces from midnight UTC, when that day begins) \
         or a moment (`2026-12-31T18:00:00Z`)"
    }
}

impl FromStr for Observe {
    type Err = ObserveError;

    /// Shape: `2026-12-31`, or RFC 3339 with an offset. A moment without an offset could be
    /// anybody's and is refused.
    fn from_str(text: &str) -> Result<Self, ObserveError> {
        let until = moment::parse(text).ok_or(ObserveError)?;
        let since = until
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_err(|_before| ObserveError)?;
        // To the second, as it is written down again; what cannot be is no date either.
        let until = SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs());
        moment::cedar_datetime(until).ok_or(ObserveError)?;
        Ok(Self { until })
    }
}

impl fmt::Display for Observe {
    /// The moment in UTC, to the second: `2026-12-31T00:00:00Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&moment::to_second(self.until))
    }
}

impl Serialize for Observe {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Observe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map_err(|error: ObserveError| D::Error::custom(format!("{error}; {}", error.hint())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_day_or_a_moment_in_utc() {
        let cases = [
            ("1970-01-01", Some("1970-01-01T00:00:00Z")),
            ("2026-12-31", Some("2026-12-31T00:00:00Z")),
            ("2028-02-29", Some("2028-02-29T00:00:00Z")),
            ("9999-12-31T23:59:59Z", Some("9999-12-31T23:59:59Z")),
            ("2026-12-31T18:30:15Z", Some("2026-12-31T18:30:15Z")),
            ("2026-12-31T18:30:00+02:00", Some("2026-12-31T16:30:00Z")),
            ("2026-12-31T23:30:00-02:00", Some("2027-01-01T01:30:00Z")),
            ("2026-12-31T18:30:00", None),
            ("9999-12-31T23:59:59-01:00", None),
            ("1969-12-31", None),
            ("2027-02-29", None),
            ("2026-13-01", None),
            ("18:30:00", None),
            ("tomorrow", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let read = text.parse::<Observe>().ok().map(|end| end.to_string());
            assert_eq!(read.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn it_enforces_from_its_end() {
        let observe: Observe = "2026-12-31".parse().unwrap();
        let second = Duration::from_secs(1);
        assert!(observe.is_on(observe.until - second));
        assert!(!observe.is_on(observe.until));
        assert!(!observe.is_on(observe.until + second));
    }
}
