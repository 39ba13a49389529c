//! A baseline as files: the pack `cowork-parity` with its hosts and read-only mounts, and session
//! defaults.
//!
//! Checked names in, text out: nothing of the baseline gets into a file that is not a host, a plain
//! name, or a version.

use std::{collections::BTreeSet, fmt::Write as _};

use cordon_policy::packs;

use super::super::rules::HostPattern;

/// What files are made of.
pub(super) struct Made<'a> {
    /// The pack's name.
    pub name: &'a str,
    /// The platform's version.
    pub version: &'a str,
    /// Hosts that are allowed.
    pub hosts: &'a [HostPattern],
    /// Names of mounts, each with its mode.
    pub grants: &'a [(String, &'static str)],
    /// Variables that are taken away.
    pub env: &'a BTreeSet<String>,
}

impl Made<'_> {
    /// The bundle's files, each by its place in it.
    pub fn pack(&self) -> Result<Vec<(String, String)>, String> {
        let shipped = packs::find(PACK).ok_or("the pack `cowork-parity` is not there")?;
        let mut files = Vec::new();
        for (path, text) in shipped.files {
            let text = match *path {
                "bundle.toml" => self.manifest(),
                "data/hosts.toml" => self.hosts(text)?,
                "tests/cowork.toml" => without(text, &REPLACED),
                _rules => (*text).to_owned(),
            };
            files.push(((*path).to_owned(), text));
        }
        if !self.read_only().is_empty() {
            files.push(("mounts.cedar".into(), self.mounts()));
        }
        files.push(("tests/baseline.toml".into(), self.tests()));
        Ok(files)
    }

    /// Session defaults.
    pub fn defaults(&self) -> String {
        let mut text = format!(
            "# Session defaults of a platform's baseline{}, for `cordon run --defaults`.\n\n\
             # Variables that never go in: of the host, of an agent's profile, or by --env.\n\
             strip_env = {}\n",
            self.of_version(),
            list(self.env)
        );
        for (name, mode) in self.grants {
            let _infallible = write!(
                text,
                "\n# `--grant DIR={name}` shows a folder at mnt/{name}; with a path it is always \
                 there.\n[[grant]]\nname = \"{name}\"\nmode = \"{mode}\"\n# path = \"/path/to/it\"\n"
            );
        }
        text
    }

    fn manifest(&self) -> String {
        format!(
            "name = \"{}\"\nrevision = 1\nlayer = \"organisation\"\nschema = 1\ndescription = \"What \
             a platform's baseline{} says, on the rules of the pack cowork-parity.\"\n",
            self.name,
            self.of_version()
        )
    }

    fn of_version(&self) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let is_plain = self.version.len() <= 64 && self.version.chars().all(plain);
        match self.version {
            "" => String::new(),
            version if is_plain => format!(" of {version}"),
            _odd => String::new(),
        }
    }

    fn hosts(&self, shipped: &str) -> Result<String, String> {
        let written = format!("cowork-baseline = {}", list(self.hosts));
        let mut found = 0;
        let lines = shipped.lines().map(|line| {
            if line.starts_with("cowork-baseline = ") {
                found += 1;
                written.as_str()
            } else {
                line
            }
        });
        let text = lines.map(|line| format!("{line}\n")).collect();
        if found == 1 {
            Ok(text)
        } else {
            Err("the pack `cowork-parity` has no host group `cowork-baseline`".into())
        }
    }

    fn read_only(&self) -> Vec<&str> {
        let grants = self.grants.iter();
        grants
            .filter(|(_, mode)| *mode == "ro")
            .map(|(name, _)| name.as_str())
            .collect()
    }

    fn mounts(&self) -> String {
        let names = self.read_only();
        // A second folder of a name is called `NAME-2` inside.
        let further = names.iter();
        let further = further.map(|name| format!("\n  || context.name like \"{name}-*\""));
        let further: String = further.collect();
        format!(
            "@id(\"baseline-read-only\")\n@reason(\"the baseline mounts it read-only\")\nforbid (\n  \
             principal,\n  action in [Action::\"grant_rw\", Action::\"grant_rwd\"],\n  resource\n)\n\
             when {{ {}.contains(context.name){further} }};\n",
            list(names.clone())
        )
    }

    /// One for every host and mount, in place of those about the shipped list.
    fn tests(&self) -> String {
        let mut text = String::from("[given]\nuser = \"alice\"\nagent = \"claude\"\n");
        let mut test = |name: &str, given: &str, when: Vec<String>, then: &str| {
            if !when.is_empty() {
                let when = list(&when);
                let _infallible = write!(
                    text,
                    "\n[[test]]\nname = \"{name}\"\n{given}when = {when}\n{then}\n"
                );
            }
        };
        let hosts = self.hosts.iter().map(|host| match host.below {
            false => format!("connect {}:443", host.name),
            true => format!("connect any.{}:443", host.name),
        });
        test(
            "hosts of the baseline",
            "",
            hosts.collect(),
            "then = \"allow\"\nrule = \"cowork-hosts\"",
        );
        test(
            "no other host",
            "",
            vec![
                "connect not-listed.invalid:443".into(),
                "connect 192.0.2.7:443".into(),
            ],
            "then = \"deny\"\nreason = \"default_deny\"",
        );
        let each = |mode: &str| {
            let names = self.read_only().into_iter();
            names
                .flat_map(|name| {
                    let own = format!("grant {mode} /home/alice/{name}");
                    [own, format!("grant {mode} /home/alice/files named {name}")]
                })
                .collect()
        };
        test(
            "read-only mounts are read",
            "",
            each("ro"),
            "then = \"allow\"",
        );
        test(
            "read-only mounts are not written",
            "",
            each("rw"),
            "then = \"deny\"\nrule = \"baseline-read-only\"",
        );
        test(
            "nor with an approval",
            "given = { approved = true }\n",
            each("rwd"),
            "then = \"deny\"\nrule = \"baseline-read-only\"",
        );
        text
    }
}

/// Tests of the shipped pack, but for these.
fn without(text: &str, names: &[&str]) -> String {
    let is = |test: &str, name: &str| test.contains(&format!("\nname = \"{name}\"\n"));
    let is_kept = |test: &&str| !names.iter().any(|name| is(test, name));
    let kept: Vec<&str> = text.split("[[test]]").filter(is_kept).collect();
    kept.join("[[test]]")
}

/// A list, as Cedar and TOML both write it: none of its texts needs an escape.
fn list<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let quoted: Vec<String> = items
        .into_iter()
        .map(|item| format!("\"{item}\""))
        .collect();
    format!("[{}]", quoted.join(", "))
}

const PACK: &str = "cowork-parity";

/// Tests of the shipped pack about its own host list, and one about what is refused here by a rule.
const REPLACED: [&str; 3] = [
    "hosts of the list",
    "no other host",
    "uploads are not written",
];
