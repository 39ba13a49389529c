//! What the commands about change read: policy sets, times, and the log.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use cordon_audit::read::Reader;
use cordon_policy::{ask::Moment, source::PolicySource};

use super::set;
use crate::{error::Failure, paths::Paths};

/// What `--policy` and its like name; nothing named is the shipped pack `default`.
pub fn policy(paths: &[PathBuf]) -> Result<PolicySource, Failure> {
    if paths.is_empty() {
        Ok(PolicySource::default_pack())
    } else {
        set::read(paths)
    }
}

/// The log in `directory`, or the user's own.
pub fn log(directory: Option<&PathBuf>) -> Result<Reader, Failure> {
    let directory = match directory {
        Some(directory) => directory.clone(),
        None => Paths::from_env(|name| std::env::var_os(name))?.log(),
    };
    Reader::open(&directory).map_err(|error| {
        Failure::from(error).help("the first `cordon run` makes the log; `--log DIR` names another")
    })
}

/// A time on the command line: `90s`, `30m`, `2h`, `7d`, `4w` ago, a day, or RFC 3339.
pub fn time(text: &str) -> Result<SystemTime, String> {
    if let Some(ago) = duration(text) {
        return SystemTime::now()
            .checked_sub(ago)
            .ok_or_else(|| format!("`{text}` is too long ago"));
    }
    text.parse::<Moment>().map(|Moment(at)| at).map_err(|_| {
        "a time is `90s`, `30m`, `2h`, `7d` or `4w` ago, a day like `2026-11-21`, or RFC 3339 \
         like `2026-11-21T14:00:00Z`"
            .to_owned()
    })
}

/// `90s`, `30m`, `2h`, `7d`, `4w`.
fn duration(text: &str) -> Option<Duration> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        for (text, seconds) in [
            ("90s", Some(90)),
            ("2h", Some(7_200)),
            ("7d", Some(604_800)),
            ("4w", Some(2_419_200)),
            ("d", None),
            ("7", None),
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
    fn a_time_is_ago_or_a_moment() {
        let day = time("2026-11-21").unwrap();
        assert_eq!(time("2026-11-21T00:00:00Z").unwrap(), day);
        assert!(time("1h").unwrap() < SystemTime::now());
        for text in ["yesterday", "99999999999999w", "2026-13-01"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
