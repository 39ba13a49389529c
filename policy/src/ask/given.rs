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

use crate::{
    Backend, DestinationPast, History, Operation, Past, Request, SessionFacts, SessionPast, moment,
};

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
    /// What the session did before; without it nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionPast>,
    /// What it did with the destination before; without it nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<DestinationPast>,
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
            session: self.session.or(defaults.session),
            destination: self.destination.or(defaults.destination),
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

    /// What the session did before.
    pub fn history(&self) -> History {
        History::Known(Box::new(Past {
            session: self.session.clone().unwrap_or_default(),
            destination: self.destination.unwrap_or_default(),
        }))
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
        moment::parse_utc(text.trim()).map(Self).ok_or_else(bad)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = moment::cedar_datetime(self.0);
        f.write_str(text.as_deref().unwrap_or("outside years 1 to 9999"))
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
            Either::Datetime(datetime) => {
                let text = datetime.to_string();
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    }
}
