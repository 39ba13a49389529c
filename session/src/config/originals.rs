//! `[sandbox.originals]`: for how long what sessions removed, replaced or wrote is kept where policy
//! preserves it.
//!
//! ```toml
//! [sandbox.originals]
//! keep_days = 30                   # after a session's last change
//! keep_bytes = 34_359_738_368      # of all sessions together; the oldest go first
//! ```

use std::time::Duration;

use serde::Deserialize;

/// `[sandbox.originals]`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct OriginalsConfig {
    /// Days after a session's last change. Default 30.
    pub keep_days: Option<u32>,
    /// Bytes of all sessions together. Default 32 GiB.
    pub keep_bytes: Option<u64>,
}

impl OriginalsConfig {
    /// How old what is kept may be.
    pub fn age(&self) -> Duration {
        Duration::from_secs(u64::from(self.keep_days.unwrap_or(30)) * DAY)
    }

    /// How much there may be.
    pub fn bytes(&self) -> u64 {
        self.keep_bytes.unwrap_or(32 << 30)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.keep_days == Some(0) || self.keep_bytes == Some(0) {
            return Err(
                "`sandbox.originals` keeps 1 day and 1 byte at least; leave `@preserve` out of the \
                 policy to keep nothing"
                    .into(),
            );
        }
        Ok(())
    }

    /// A later file's values count.
    pub(super) fn extend(&mut self, later: &Self) {
        self.keep_days = later.keep_days.or(self.keep_days);
        self.keep_bytes = later.keep_bytes.or(self.keep_bytes);
    }
}

/// In seconds.
const DAY: u64 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_file_counts_and_nothing_is_no_bound() {
        let mut config = OriginalsConfig::default();
        assert_eq!(config.age(), Duration::from_secs(30 * DAY));
        assert_eq!(config.bytes(), 32 << 30);
        let text = "keep_days = 2";
        config.extend(&toml::from_str(text).unwrap());
        config.extend(&toml::from_str("keep_bytes = 7").unwrap());
        assert_eq!((config.age().as_secs(), config.bytes()), (2 * DAY, 7));
        for wrong in ["keep_days = 0", "keep_bytes = 0"] {
            let wrong: OriginalsConfig = toml::from_str(wrong).unwrap();
            assert!(wrong.check().is_err());
        }
        assert!(toml::from_str::<OriginalsConfig>("days = 1").is_err());
    }
}
