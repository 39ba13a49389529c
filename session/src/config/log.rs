//! `[log]` of `cordon.toml`: whose records they are, what is never in them, how long they are kept.
//!
//! ```toml
//! [log]
//! organisation = "example.com"      # in every record; absent: none
//! instance = "build-7"              # in every record; absent: the log's name
//! secret_files = ["/etc/cordon/known-secrets"]
//!                                   # one value a line, 0600: never in a record
//! retention_days = 365              # for all records; absent: for ever
//!
//! [log.retention]                   # instead, by what records tell
//! decisions_days = 365
//! flows_days = 90
//! ```

use std::path::{Path, PathBuf};

use cordon_audit::Retention;
use serde::Deserialize;

use super::CheckpointConfig;

/// `[log]`: the log.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// The organisation, as every record names it. The first file that says so counts: the
    /// machine's own.
    pub organisation: Option<String>,
    /// Which installation this is, as every record names it; absent: the log's name. As above.
    pub instance: Option<String>,
    /// Files with values that no record may hold, one a line, at least 6 bytes each. Read when the
    /// log is opened.
    pub secret_files: Vec<PathBuf>,
    /// Days that every record is kept; absent: for ever. At least 1.
    pub retention_days: Option<u32>,
    /// `[log.retention]`: by class, over `retention_days`.
    pub retention: Retention,
    /// `[log.checkpoints]`: where checkpoints go beside the log.
    pub checkpoints: CheckpointConfig,
}

impl LogConfig {
    /// How long records are kept.
    pub fn retention(&self) -> Retention {
        Retention {
            administration_days: self.retention.administration_days.or(self.retention_days),
            decisions_days: self.retention.decisions_days.or(self.retention_days),
            flows_days: self.retention.flows_days.or(self.retention_days),
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        for (key, name) in [
            ("organisation", &self.organisation),
            ("instance", &self.instance),
        ] {
            if name.as_deref().is_some_and(|name| !is_name(name)) {
                return Err(format!(
                    "`log.{key}` is not 1 to {MAX_NAME} bytes of text in one line"
                ));
            }
        }
        self.checkpoints.check()?;
        if let Some(path) = self.secret_files.iter().find(|path| path.is_relative()) {
            return Err(relative(path));
        }
        let retention = self.retention();
        let all = [
            retention.administration_days,
            retention.decisions_days,
            retention.flows_days,
        ];
        if all.contains(&Some(0)) {
            return Err(
                "a record is kept for a day at least: leave `log.retention_days` out to \
                        keep records for ever"
                    .into(),
            );
        }
        Ok(())
    }

    pub(super) fn extend(&mut self, later: Self) {
        self.organisation = self.organisation.take().or(later.organisation);
        self.instance = self.instance.take().or(later.instance);
        self.secret_files.extend(later.secret_files);
        self.retention_days = later.retention_days.or(self.retention_days);
        let (mine, theirs) = (&mut self.retention, later.retention);
        mine.administration_days = theirs.administration_days.or(mine.administration_days);
        mine.decisions_days = theirs.decisions_days.or(mine.decisions_days);
        mine.flows_days = theirs.flows_days.or(mine.flows_days);
        if !later.checkpoints.is_empty() {
            self.checkpoints = later.checkpoints;
        }
    }
}

fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len()) && !text.contains(char::is_control)
}

fn relative(path: &Path) -> String {
    format!(
        "`{}` of `log.secret_files` is not an absolute path; begin it with `/`",
        path.display()
    )
}

/// Longest name of an organisation or an instance, in bytes.
const MAX_NAME: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_log_it_is_says_the_first_file_and_secrets_add_up() {
        let text = "organisation = \"a\"\nsecret_files = [\"/a\"]";
        let mut config: LogConfig = toml::from_str(text).unwrap();
        config.check().unwrap();
        let text = "organisation = \"b\"\ninstance = \"i\"\nsecret_files = [\"/b\"]";
        config.extend(toml::from_str(text).unwrap());
        assert_eq!(config.organisation.as_deref(), Some("a"));
        assert_eq!(config.instance.as_deref(), Some("i"));
        assert_eq!(config.secret_files.len(), 2);
        for (text, expected) in [
            ("organisation = \"\"", "log.organisation"),
            ("instance = \"a\\nb\"", "log.instance"),
            ("secret_files = [\"a\"]", "absolute"),
            ("[checkpoints]\nevery_seconds = 5", "every_seconds` has no"),
            ("[checkpoints]\nwitness_key = \"k\"", "witness_key` has no"),
            ("[checkpoints]\nca = \"/a\"", "ca` has no"),
        ] {
            let config: LogConfig = toml::from_str(text).unwrap();
            assert!(config.check().unwrap_err().contains(expected), "{text}");
        }
        let text = "[checkpoints]\nevery_seconds = 5\nca = \"/a\"\nurl = \"https://a\"";
        let config: LogConfig = toml::from_str(text).unwrap();
        assert_eq!(config.check(), Ok(()), "the control");
    }

    #[test]
    fn classes_go_before_the_number_for_all_and_later_files_before_earlier_ones() {
        let mut config: LogConfig =
            toml::from_str("retention_days = 10\n[retention]\nflows_days = 3").unwrap();
        config.check().unwrap();
        assert_eq!(config.retention().flows_days, Some(3));
        assert_eq!(config.retention().decisions_days, Some(10));
        config.extend(toml::from_str("[retention]\ndecisions_days = 20").unwrap());
        assert_eq!(config.retention().decisions_days, Some(20));
        assert_eq!(config.retention().administration_days, Some(10));
        assert!(LogConfig::default().retention().is_forever());

        let none: LogConfig = toml::from_str("retention_days = 0").unwrap();
        assert!(none.check().unwrap_err().contains("at least"));
        assert!(toml::from_str::<LogConfig>("retention_hours = 1").is_err());
    }
}
