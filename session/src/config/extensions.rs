//! `[extensions]`: whose signatures are trusted.
//!
//! ```toml
//! [extensions.publishers.acme]
//! certificates = ["/etc/cordon/acme.pem"]   # its own, or of an authority that signs for it alone
//! ```

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

/// `[extensions]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExtensionsConfig {
    /// Publishers, by the name that policy knows them by. Default none.
    pub publishers: BTreeMap<String, PublisherConfig>,
}

/// `[extensions.publishers.NAME]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublisherConfig {
    /// PEM files of certificates.
    pub certificates: Vec<PathBuf>,
}

impl ExtensionsConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        for (name, publisher) in &self.publishers {
            let usable = (1..=256).contains(&name.len()) && !name.chars().any(char::is_control);
            if !usable || publisher.certificates.is_empty() {
                return Err(format!(
                    "`extensions.publishers.{}` needs a name of at most 256 bytes and at least one \
                     certificate",
                    name.escape_default()
                ));
            }
        }
        Ok(())
    }

    /// A later file adds publishers; it does not change one that is named already.
    pub(super) fn extend(&mut self, later: Self) -> Result<(), String> {
        for (name, publisher) in later.publishers {
            if self.publishers.contains_key(&name) {
                return Err(format!(
                    "`extensions.publishers.{}` is in an earlier file already",
                    name.escape_default()
                ));
            }
            self.publishers.insert(name, publisher);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_file_does_not_change_whom_an_earlier_one_trusts() {
        let read = |text: &str| toml::from_str::<ExtensionsConfig>(text).unwrap();
        let mut config = read("[publishers.acme]\ncertificates = [\"/a\"]");
        assert!(config.check().is_ok());
        assert!(
            config
                .extend(read("[publishers.acme]\ncertificates = [\"/b\"]"))
                .is_err()
        );
        config
            .extend(read("[publishers.other]\ncertificates = [\"/b\"]"))
            .unwrap();
        assert_eq!(config.publishers.len(), 2);
        assert!(
            read("[publishers.acme]\ncertificates = []")
                .check()
                .is_err()
        );
        assert!(toml::from_str::<ExtensionsConfig>("more = 1").is_err());
    }
}
