//! `[log]` of `cordon.toml`: how long records are kept.
//!
//! ```toml
//! [log]
//! retention_days = 365              # for all records; absent: for ever
//!
//! [log.retention]                   # instead, by what records tell
//! decisions_days = 365
//! flows_days = 90
//! ```

use cordon_audit::Retention;
use serde::Deserialize;

use super::CheckpointConfig;

/// `[log]`: the log.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
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

#[cfg(test)]
mod tests {
    use super::*;

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
