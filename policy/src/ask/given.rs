//! Who asks, and when: the facts that stand beside a request in words.

use std::{
    fmt,
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use toml::value::Datetime;

use crate::{Backend, Operation, Request, SessionFacts, engine::time::cedar_datetime};

/// Facts about who asks. What is left out is filled from defaults.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Given {
    /// Login name; without one `alice`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Groups of the user; without it none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<String>>,
    /// Agent profile; without it none. Empty: none, also where a default names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Operating system; without it `linux`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// What holds the walls; without it `bubblewrap`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<Backend>,
    /// When it is asked, RFC 3339; without it 2026-01-05T12:00:00Z, a Monday.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Moment>,
    /// Whether a person has approved it; without it nobody has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approved: Option<bool>,
}

/// A moment: RFC 3339 with seconds, or a date, which is its first moment. Without an offset UTC.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Moment(pub SystemTime);

/// A text that is no moment.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{text:?} is not a moment: write `2026-03-02T08:30:00Z` or `2026-03-02`")]
pub struct BadTime {
    text: String,
}

pub(super) const SESSION: &str = "01900000-0000-7000-8000-000000000000";
pub(super) const PLATFORM: &str = "linux";
const USER: &str = "alice";
/// 2026-01-05T12:00:00Z.
const NOON: Duration = Duration::from_secs(1_767_614_400);

impl Given {
    /// These facts, and the defaults' where these say nothing.
    #[must_use]
    pub fn or(self, defaults: &Self) -> Self {
        let defaults = defaults.clone();
        Self {
            user: self.user.or(defaults.user),
            groups: self.groups.or(defaults.groups),
            agent: self.agent.or(defaults.agent),
            platform: self.platform.or(defaults.platform),
            backend: self.backend.or(defaults.backend),
            time: self.time.or(defaults.time),
            approved: self.approved.or(defaults.approved),
        }
    }

    /// The session that these facts describe. Its id is always the same.
    pub fn session(&self) -> SessionFacts {
        SessionFacts {
            id: SESSION.into(),
            user: self.user.clone().unwrap_or_else(|| USER.into()),
            groups: self.groups.clone().unwrap_or_default(),
            agent: self.agent.clone().filter(|agent| !agent.is_empty()),
            platform: self.platform.clone().unwrap_or_else(|| PLATFORM.into()),
            backend: self.backend.unwrap_or(Backend::Bubblewrap),
        }
    }

    /// When it is asked.
    pub fn at(&self) -> SystemTime {
        self.time
            .map_or(SystemTime::UNIX_EPOCH + NOON, |Moment(at)| at)
    }

    /// The request that these facts and an operation make.
    pub fn request(&self, operation: Operation) -> Request {
        Request {
            session: Arc::new(self.session()),
            operation,
            at: self.at(),
        }
    }
}

impl FromStr for Moment {
    type Err = BadTime;

    fn from_str(text: &str) -> Result<Self, BadTime> {
        let bad = || BadTime {
            text: crate::host::shown(text),
        };
        let parsed: Datetime = text.trim().parse().map_err(|_| bad())?;
        Self::from_datetime(parsed).ok_or_else(bad)
    }
}

impl Moment {
    fn from_datetime(parsed: Datetime) -> Option<Self> {
        let date = parsed.date?;
        let days = days_to(date.year.into(), date.month.into(), date.day.into());
        let mut millis = days.checked_mul(86_400_000)?;
        if let Some(time) = parsed.time {
            let seconds =
                u32::from(time.hour) * 3_600 + u32::from(time.minute) * 60 + u32::from(time.second);
            millis += i64::from(seconds) * 1_000 + i64::from(time.nanosecond / 1_000_000);
        }
        if let Some(toml::value::Offset::Custom { minutes }) = parsed.offset {
            millis -= i64::from(minutes) * 60_000;
        }
        let apart = Duration::from_millis(millis.unsigned_abs());
        let at = if millis < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(apart)?
        } else {
            SystemTime::UNIX_EPOCH.checked_add(apart)?
        };
        Some(Self(at))
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar; `engine/time` goes the other way.
fn days_to(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let from_march = (month + 9) % 12;
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&cedar_datetime(self.0).unwrap_or_else(|| "outside years 1 to 9999".into()))
    }
}

impl Serialize for Moment {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A TOML date-time, or a text.
impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Text(String),
            Datetime(Datetime),
        }
        match Either::deserialize(deserializer)? {
            Either::Text(text) => text.parse().map_err(serde::de::Error::custom),
            Either::Datetime(datetime) => Self::from_datetime(datetime)
                .ok_or_else(|| serde::de::Error::custom("a time needs its date")),
        }
    }
}
