//! `[approvals]`: how long people are waited for, and how they are told.
//!
//! ```toml
//! [approvals]
//! deadline_seconds = 600          # then the answer is no
//! hold_seconds = 600              # in which an approval that says nothing else must be used
//! command = ["notify-send", "Cordon asks"]   # the request as JSON on its standard input
//! url = "https://chat.example.com/hooks/cordon"   # the same, by POST
//! notify_seconds = 10             # for one of either
//! ```

use std::{path::Path, time::Duration};

use serde::{Deserialize, Deserializer, de::Error as _};

use super::{HttpUrl, limits};

/// `[approvals]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApprovalsConfig {
    /// How long a request waits for an answer, in seconds. Default 600, at most a day.
    #[serde(deserialize_with = "limits::seconds")]
    pub deadline_seconds: Option<Duration>,
    /// How long an approval may wait for its use where whoever gives it says nothing else, in
    /// seconds. Default 600, at most a day.
    #[serde(deserialize_with = "limits::seconds")]
    pub hold_seconds: Option<Duration>,
    /// A program that is told of each new request: an absolute path and arguments.
    pub command: Vec<String>,
    /// Where each new request is posted.
    #[serde(deserialize_with = "url")]
    pub url: Option<HttpUrl>,
    /// How long one notice may take, in seconds. Default 10, at most 60.
    #[serde(deserialize_with = "limits::seconds")]
    pub notify_seconds: Option<Duration>,
}

impl ApprovalsConfig {
    /// How long a request waits for an answer.
    pub fn deadline(&self) -> Duration {
        self.deadline_seconds.unwrap_or(Duration::from_secs(600))
    }

    /// How long an approval may wait for its use.
    pub fn hold(&self) -> Duration {
        self.hold_seconds.unwrap_or(Duration::from_secs(600))
    }

    /// How long one notice may take.
    pub fn notify(&self) -> Duration {
        self.notify_seconds.unwrap_or(Duration::from_secs(10))
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let bounds = [
            ("deadline_seconds", self.deadline_seconds, DAY),
            ("hold_seconds", self.hold_seconds, DAY),
            ("notify_seconds", self.notify_seconds, 60),
        ];
        for (name, value, most) in bounds {
            let seconds = value.map_or(1, |value| value.as_secs());
            if !(1..=most).contains(&seconds) {
                return Err(format!("`approvals.{name}` is 1 to {most}"));
            }
        }
        match self.command.first() {
            Some(program) if !Path::new(program).is_absolute() => Err(format!(
                "`approvals.command` begins with {program:?}, which is not an absolute path"
            )),
            _ => Ok(()),
        }
    }

    /// What a later file says counts.
    pub(super) fn extend(&mut self, later: Self) {
        self.deadline_seconds = later.deadline_seconds.or(self.deadline_seconds);
        self.hold_seconds = later.hold_seconds.or(self.hold_seconds);
        self.notify_seconds = later.notify_seconds.or(self.notify_seconds);
        if !later.command.is_empty() {
            self.command = later.command;
        }
        if later.url.is_some() {
            self.url = later.url;
        }
    }
}

fn url<'de, D: Deserializer<'de>>(from: D) -> Result<Option<HttpUrl>, D::Error> {
    let Some(text) = Option::<String>::deserialize(from)? else {
        return Ok(None);
    };
    if !text.starts_with("https://") && !text.starts_with("http://") {
        return Err(D::Error::custom(
            "`url` is no web address; name one as in `https://chat.example.com/hooks/cordon`",
        ));
    }
    HttpUrl::parse(&text).map(Some).map_err(D::Error::custom)
}

/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_named() {
        let read = |text: &str| -> Result<ApprovalsConfig, String> {
            let config: ApprovalsConfig =
                toml::from_str(text).map_err(|error| error.to_string())?;
            config.check().map(|()| config)
        };
        let config = read("deadline_seconds = 5\ncommand = [\"/bin/true\"]").unwrap();
        assert_eq!(config.deadline(), Duration::from_secs(5));
        assert_eq!(config.hold(), Duration::from_secs(600));
        for (text, named) in [
            ("deadline_seconds = 0", "deadline_seconds"),
            ("hold_seconds = 86401", "hold_seconds"),
            ("notify_seconds = 61", "notify_seconds"),
            ("command = [\"notify\"]", "absolute"),
            ("url = \"ftp://example.com\"", "url"),
            ("dead_line = 5", "dead_line"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
