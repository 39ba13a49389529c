//! Times on the command line: so long ago, a day, or RFC 3339.
//!
//! Text in, a duration or a moment out.

use std::time::{Duration, SystemTime};

use cordon_policy::moment;

/// What a time looks like.
pub const SHAPE: &str = "a time is `90s`, `30m`, `2h`, `7d` or `4w` ago, a day like `2026-11-21`, \
                         or RFC 3339 like `2026-11-21T14:00:00Z`";

/// A time before `now`, or of the calendar (without an offset in UTC).
pub fn before(now: SystemTime, text: &str) -> Option<SystemTime> {
    match duration(text) {
        Some(ago) => now.checked_sub(ago),
        None => moment::parse_utc(text),
    }
}

/// `90s`, `30m`, `2h`, `7d`, `4w`.
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 604_800,
        _other => return None,
    };
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(Duration::from_secs(
        number.parse::<u64>().ok()?.checked_mul(seconds)?,
    ))
}

/// As records have it: microseconds since the epoch; nothing for what was before it.
pub fn micros(at: SystemTime) -> Option<u64> {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    u64::try_from(since.as_micros()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        for (text, seconds) in [
            ("0s", Some(0)),
            ("90s", Some(90)),
            ("2h", Some(7_200)),
            ("7d", Some(604_800)),
            ("4w", Some(2_419_200)),
            ("d", None),
            ("7", None),
            ("2x", None),
            ("-7d", None),
            ("+7d", None),
            ("7 d", None),
            ("99999999999999999999d", None),
            ("\u{e9}", None),
            ("", None),
        ] {
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(duration(text), expected, "{text}");
        }
    }

    #[test]
    fn a_time_is_ago_or_of_the_calendar() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_763_683_200);
        for (text, seconds) in [
            ("90s", Some(1_763_683_110)),
            ("7d", Some(1_763_078_400)),
            ("2025-11-21", Some(1_763_683_200)),
            ("2025-11-21T00:00:01Z", Some(1_763_683_201)),
            ("2025-11-21T00:00:01", Some(1_763_683_201)),
            ("2025-11-21T01:00:00+01:00", Some(1_763_683_200)),
            ("99999999999999w", None),
            ("yesterday", None),
            ("2025-13-01", None),
        ] {
            let expected = seconds.map(|s| SystemTime::UNIX_EPOCH + Duration::from_secs(s));
            assert_eq!(before(now, text), expected, "{text}");
        }
        let old = before(now, "1960-01-01").unwrap();
        assert_eq!(
            (micros(old), micros(now)),
            (None, Some(1_763_683_200_000_000))
        );
    }
}
