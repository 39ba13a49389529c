//! Policy bundles of a world: written as an admin writes them, with their revision.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::World;

/// What every bundle here allows: to start, to open what the command line names, to delete there.
const BASE: &str = r#"@id("start") @reason("sessions may run")
permit (principal, action in [Action::"start_session", Action::"exec"], resource);

@id("grants")
permit (principal, action in Action::"grant", resource);
"#;

/// A bundle to be written.
#[derive(Clone, Debug)]
pub struct Bundle {
    revision: u64,
    layer: &'static str,
    head: String,
    rules: String,
}

impl Bundle {
    /// The organisation's bundle `house`: sessions start, grants are given, nothing else.
    pub fn house(revision: u64) -> Self {
        Self {
            revision,
            layer: "organisation",
            head: String::new(),
            rules: BASE.into(),
        }
    }

    /// Is the team's instead, with no rule yet.
    #[must_use]
    pub fn of_team(mut self) -> Self {
        self.layer = "team";
        self.rules.clear();
        self
    }

    /// Adds lines to `bundle.toml`.
    #[must_use]
    pub fn head(mut self, lines: &str) -> Self {
        self.head.push_str(lines);
        self.head.push('\n');
        self
    }

    /// Has these rules and no other.
    #[must_use]
    pub fn only(mut self, text: &str) -> Self {
        self.rules.clear();
        self.rule(text)
    }

    /// Adds rules.
    #[must_use]
    pub fn rule(mut self, text: &str) -> Self {
        self.rules.push_str(text);
        self.rules.push('\n');
        self
    }

    /// Allows every kind of network request to a host, by the rule `allow-HOST`.
    #[must_use]
    pub fn allow(self, host: &str) -> Self {
        let rule = format!(
            "@id(\"allow-{host}\") permit (principal, action in Action::\"network\", \
             resource == Host::\"{host}\");"
        );
        self.rule(&rule)
    }

    /// Writes it into a folder of the world, over what is there. The manifest comes last and by
    /// renaming, as a careful admin's tool would do.
    pub fn write(&self, world: &World, folder: impl AsRef<Path>) -> PathBuf {
        let folder = world.folder(folder);
        world.write(folder.join("rules.cedar"), &self.rules);
        let manifest = format!(
            "name = \"house\"\nschema = 1\nrevision = {}\nlayer = \"{}\"\n{}",
            self.revision, self.layer, self.head
        );
        let beside = world.write(folder.join(".bundle.toml"), manifest);
        fs::rename(beside, folder.join("bundle.toml")).expect("same folder");
        folder
    }
}

impl World {
    /// Says in `cordon.toml` that the organisation's bundle comes from here; `keys` are further
    /// lines of its `[[policy.bundle]]`.
    pub fn organisation(&mut self, source: &str, keys: &str) {
        self.source_of("organisation", source, keys);
    }

    /// As [`Self::organisation`], of the team's.
    pub fn team(&mut self, source: &str, keys: &str) {
        self.source_of("team", source, keys);
    }

    fn source_of(&mut self, layer: &str, source: &str, keys: &str) {
        self.config.push_str(&format!(
            "\n[[policy.bundle]]\nlayer = \"{layer}\"\nsource = \"{source}\"\n{keys}\n"
        ));
    }

    /// Asks about policies.
    #[track_caller]
    pub fn policy_status(&self) -> serde_json::Value {
        let asked = self.cordon(&["policy", "status", "--format", "json"]);
        asked.expect_code(0);
        serde_json::from_str(&asked.text()).unwrap_or_else(|error| panic!("{error}: {asked}"))
    }

    /// The revision of the organisation's bundle that is in force.
    #[track_caller]
    pub fn live_revision(&self) -> Option<u64> {
        self.policy_status()["layers"][0]["live"]["revision"].as_u64()
    }

    /// Records of one kind, of the whole log, in order.
    #[track_caller]
    pub fn records_of(&self, kind: &str) -> Vec<serde_json::Value> {
        let tail = self.cordon(&["audit", "tail", "--format", "json", "-n", "1000"]);
        tail.expect_code(0);
        tail.text()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}")))
            .filter(|record: &serde_json::Value| record["kind"] == kind)
            .collect()
    }
}
