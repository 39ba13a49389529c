//! The policy packs that are shipped: built into the binary, so that a name is enough.
//!
//! A name in, the pack's files out. Packs are bundles in `policies/`; nothing is read from a disk.

use serde::Serialize;

use crate::{
    Layer,
    source::{PolicyFile, PolicySource},
};

/// One shipped pack.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Pack {
    /// Its name, as `--policy` takes it.
    pub name: &'static str,
    /// Its files with their paths in the bundle: manifest, rules, data and tests.
    #[serde(skip)]
    pub files: &'static [(&'static str, &'static str)],
}

macro_rules! pack {
    ($name:literal: $($file:literal),* $(,)?) => {
        Pack {
            name: $name,
            files: &[$((
                $file,
                include_str!(concat!("../../policies/", $name, "/", $file)),
            )),*],
        }
    };
}

/// Every shipped pack; the first is what decides where no policy is named.
pub const PACKS: &[Pack] = &[
    pack!("default": "bundle.toml", "default.cedar", "data/hosts.toml", "tests/default.toml"),
    pack!("locked-down": "bundle.toml", "locked-down.cedar", "tests/locked-down.toml"),
    pack!("developer":
        "bundle.toml", "developer.cedar", "data/hosts.toml", "tests/developer.toml"),
    pack!("research-browsing":
        "bundle.toml", "research.cedar", "data/hosts.toml", "tests/research.toml"),
    pack!("cowork-parity":
        "bundle.toml", "cowork.cedar", "data/hosts.toml", "tests/cowork.toml"),
    pack!("confidential-data":
        "bundle.toml", "confidential.cedar", "data/hosts.toml", "tests/confidential.toml"),
    pack!("host-tools":
        "bundle.toml", "host-tools.cedar", "data/hosts.toml", "tests/host-tools.toml"),
    pack!("trifecta-guard":
        "bundle.toml", "trifecta.cedar", "data/labels.toml", "tests/trifecta.toml"),
    pack!("administration":
        "bundle.toml", "administration.cedar", "tests/administration.toml"),
];

/// The pack of this name.
pub fn find(name: &str) -> Option<&'static Pack> {
    PACKS.iter().find(|pack| pack.name == name)
}

/// The names of all packs, for help.
pub fn names() -> String {
    let names: Vec<&str> = PACKS.iter().map(|pack| pack.name).collect();
    names.join(", ")
}

impl Pack {
    /// What it is for, in a sentence: the manifest's `description`.
    pub fn description(&self) -> String {
        let manifest = self.file("bundle.toml").unwrap_or_default();
        let table: Option<toml::Table> = manifest.parse().ok();
        table
            .and_then(|table| Some(table.get("description")?.as_str()?.to_owned()))
            .unwrap_or_default()
    }

    /// The text of one of its files.
    pub fn file(&self, path: &str) -> Option<&'static str> {
        let found = self.files.iter().find(|(name, _)| *name == path);
        found.map(|(_, text)| *text)
    }

    /// Its test files, each with its name.
    pub fn tests(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let files = self.files.iter().copied();
        files.filter(|(path, _)| path.starts_with("tests/"))
    }

    /// Its rules and data as a policy set of the organisation.
    pub fn source(&self) -> PolicySource {
        let is_policy = |path: &str| path.ends_with(".cedar") || path.starts_with("data/");
        let files = self.files.iter().filter(|(path, _)| is_policy(path));
        let file = |(path, text): &(&str, &str)| PolicyFile {
            layer: Layer::Organisation,
            ..PolicyFile::new(format!("{}/{path}", self.name), *text)
        };
        PolicySource::new(self.name, files.map(file).collect())
    }
}

impl PolicySource {
    /// The shipped pack of this name.
    pub fn pack(name: &str) -> Option<Self> {
        find(name).map(Pack::source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Effect, Snapshot, plain_words,
        testing::{self, TestFile},
    };

    fn test_files(pack: &Pack) -> Vec<(String, TestFile)> {
        pack.tests()
            .map(|(path, text)| {
                let file = testing::parse(text)
                    .unwrap_or_else(|error| panic!("{}/{path}: {error}", pack.name));
                (format!("{}/{path}", pack.name), file)
            })
            .collect()
    }

    #[test]
    fn every_pack_passes_its_tests_and_they_cover_every_rule_and_clause() {
        for pack in PACKS {
            let snapshot = Snapshot::load(&pack.source()).unwrap();
            assert_eq!(snapshot.warnings(), [], "{}", pack.name);
            let report = testing::run(&snapshot, &test_files(pack), None);
            for test in &report.tests {
                assert!(test.passed(), "{}: {:#?}", test.name, test.failures);
            }
            assert!(
                report.tests.len() >= snapshot.rules().len(),
                "{}",
                pack.name
            );
            assert_eq!(
                report.coverage.rules.percent(),
                100,
                "{}: {:#?}",
                pack.name,
                report.coverage
            );
            assert_eq!(report.coverage.gaps, [], "{}", pack.name);
        }
    }

    #[test]
    fn every_rule_has_an_id_a_reason_and_words() {
        for pack in PACKS {
            assert!(pack.description().ends_with('.'), "{}", pack.name);
            for rule in Snapshot::load(&pack.source()).unwrap().rules() {
                assert!(!rule.id.contains(".cedar:"), "{}", rule.id);
                assert!(rule.reason.is_some(), "{}", rule.id);
                let words = plain_words::rule(rule);
                let forbids = words.contains(" may not ") || words.starts_with("No");
                assert_eq!(
                    forbids,
                    rule.effect == Effect::Forbid,
                    "{}: {words}",
                    rule.id
                );
                assert!(
                    words.contains(" may ") && words.ends_with('.'),
                    "{}: {words}",
                    rule.id
                );
                assert!(!words.contains("Action::"), "{}: {words}", rule.id);
            }
        }
    }

    /// Names, layers and texts of a set's files, whatever their order.
    fn texts(source: &PolicySource) -> Vec<(String, Layer, String)> {
        let mut files: Vec<_> = source
            .files
            .iter()
            .map(|file| {
                let name = file
                    .path
                    .file_name()
                    .unwrap()
                    .to_string_lossy()
                    .into_owned();
                (name, file.layer, file.text.clone())
            })
            .collect();
        files.sort();
        files
    }

    #[test]
    fn the_pack_s_folder_and_the_built_in_pack_are_the_same_set() {
        for pack in PACKS {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../policies")
                .join(pack.name);
            let bundle = crate::bundle::Bundle::read_directory(&folder).unwrap();
            assert_eq!(
                texts(&bundle.source()),
                texts(&pack.source()),
                "{}",
                pack.name
            );
            let tests = std::fs::read_dir(folder.join("tests")).unwrap().count();
            assert_eq!(tests, pack.tests().count(), "{}", pack.name);
        }
        assert_eq!(
            PolicySource::pack("default").unwrap().digest(),
            PolicySource::default_pack().digest()
        );
        assert!(PolicySource::pack("no-such-pack").is_none());
    }

    #[test]
    fn administration_stands_beside_any_other_pack() {
        for pack in PACKS.iter().filter(|pack| pack.name != "administration") {
            let both = pack
                .source()
                .join(PolicySource::pack("administration").unwrap());
            Snapshot::load(&both).unwrap_or_else(|error| panic!("{}: {error}", pack.name));
        }
    }
}
