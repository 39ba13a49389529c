//! Moments as text: RFC 3339, or a day. The one place that does the arithmetic of dates.
//!
//! Text in, a moment out, and back. Reads no clock.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveTime, SecondsFormat, Utc};

/// Reads RFC 3339 with an offset (`2026-12-31T18:30:00+02:00`), or a [`day`].
pub fn parse(text: &str) -> Option<SystemTime> {
    match DateTime::parse_from_rfc3339(text) {
        Ok(moment) => system_time(moment.to_utc()),
        Err(_) => day(text),
    }
}

/// As [`parse`]; a moment without an offset is in UTC.
pub fn parse_utc(text: &str) -> Option<SystemTime> {
    parse(text).or_else(|| parse(&format!("{text}Z")))
}

/// Reads a day, as `2026-12-31` and in no other spelling: its first moment, in UTC.
pub fn day(text: &str) -> Option<SystemTime> {
    let day: NaiveDate = text.parse().ok()?;
    let plain = day.to_string() == text;
    system_time(day.and_time(NaiveTime::MIN).and_utc()).filter(|_| plain)
}

/// Microseconds since the epoch, to the microsecond: `2026-12-31T18:30:00.000001Z`.
pub fn rfc3339(us: u64) -> String {
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_micros(us))
        .and_then(utc)
        .map_or_else(outside, |moment| {
            moment.to_rfc3339_opts(SecondsFormat::Micros, true)
        })
}

/// To the second: `2026-12-31T18:30:00Z`.
pub fn to_second(at: SystemTime) -> String {
    utc(at).map_or_else(outside, |moment| {
        moment.to_rfc3339_opts(SecondsFormat::Secs, true)
    })
}

/// As Cedar's `datetime` spells it, `2026-11-20T08:30:00.125Z`; nothing for a moment outside the
/// years 1 to 9999.
pub(crate) fn cedar_datetime(at: SystemTime) -> Option<String> {
    Some(utc(at)?.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// What stands where there is no text for a moment.
fn outside() -> String {
    "outside years 1 to 9999".into()
}

fn utc(at: SystemTime) -> Option<DateTime<Utc>> {
    let moment = match at.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => {
            DateTime::from_timestamp(i64::try_from(after.as_secs()).ok()?, after.subsec_nanos())
        }
        Err(before) => {
            let nanos = i64::try_from(before.duration().as_nanos()).ok()?;
            Some(DateTime::from_timestamp_nanos(nanos.checked_neg()?))
        }
    };
    moment.filter(|moment| (1..=9_999).contains(&moment.year()))
}

fn system_time(moment: DateTime<Utc>) -> Option<SystemTime> {
    let seconds = Duration::from_secs(moment.timestamp().unsigned_abs());
    let nanos = Duration::from_nanos(moment.timestamp_subsec_nanos().into());
    let epoch = SystemTime::UNIX_EPOCH;
    let second = match moment.timestamp() {
        0.. => epoch.checked_add(seconds)?,
        _ => epoch.checked_sub(seconds)?,
    };
    second.checked_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
    }

    #[test]
    fn moments_are_spelled_in_utc() {
        let cases = [
            (0_u64, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
            (1_763_683_597_123, "2025-11-21T00:06:37.123Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ];
        for (millis, expected) in cases {
            assert_eq!(cedar_datetime(at(millis)).as_deref(), Some(expected));
            let (second, fraction) = expected.split_once('.').unwrap();
            assert_eq!(to_second(at(millis)), format!("{second}Z"));
            let micros = format!("{second}.{}000Z", &fraction[..3]);
            assert_eq!(rfc3339(millis * 1_000), micros);
            assert_eq!(parse(expected), Some(at(millis)));
        }
        assert_eq!(rfc3339(951_782_400_000_001), "2000-02-29T00:00:00.000001Z");
        let before = SystemTime::UNIX_EPOCH - Duration::from_millis(1);
        assert_eq!(
            cedar_datetime(before).as_deref(),
            Some("1969-12-31T23:59:59.999Z")
        );
        assert_eq!(parse("1969-12-31T23:59:59.999Z"), Some(before));
    }

    #[test]
    fn what_has_no_text_is_said_to_have_none() {
        let far = at(253_402_300_800_000);
        assert_eq!(cedar_datetime(far), None);
        assert_eq!(to_second(far), "outside years 1 to 9999");
        assert_eq!(rfc3339(u64::MAX), "outside years 1 to 9999");
    }

    #[test]
    fn days_and_moments_are_read_and_nothing_else_is() {
        for (text, with_offset, as_utc) in [
            ("1970-01-01", Some(0), Some(0)),
            ("2026-01-31", Some(1_769_817_600), Some(1_769_817_600)),
            ("2000-02-29", Some(951_782_400), Some(951_782_400)),
            ("1970-01-01T01:00:00+01:00", Some(0), Some(0)),
            ("1970-01-01T00:00:00", None, Some(0)),
            ("2026-02-30", None, None),
            ("2026-13-01", None, None),
            ("2026-1-1", None, None),
            ("26-1-1", None, None),
            ("12:00:00", None, None),
            ("2026-01-01Z", None, None),
            ("2026-01-01T00:00:00Z x", None, None),
            ("", None, None),
        ] {
            let seconds = |seconds: Option<u64>| seconds.map(|seconds| at(seconds * 1_000));
            assert_eq!(parse(text), seconds(with_offset), "{text}");
            assert_eq!(parse_utc(text), seconds(as_utc), "{text}");
        }
    }
}
