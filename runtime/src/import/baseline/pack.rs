//! A baseline as files: the pack `cowork-parity` with its hosts and its mounts, and session defaults.
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
                "tests/cowork.toml" => self.still_true(text),
                _rules => (*text).to_owned(),
            };
            files.push(((*path).to_owned(), text));
        }
        let mounts = self.mounts();
        if !mounts.is_empty() {
            files.push(("mounts.cedar".into(), mounts));
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

    /// Mounts that may be written.
    fn written(&self) -> Vec<&str> {
        let grants = self.grants.iter().filter(|(_, mode)| *mode != "ro");
        let names = grants.map(|(name, _)| name.as_str());
        names
            .filter(|name| self.taken_from(name).is_none())
            .collect()
    }

    /// The read-only mount that has another folder called so: then that is not written.
    pub fn taken_from(&self, name: &str) -> Option<&str> {
        let is_further = |other: &&str| {
            let number = below(name, other);
            number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
        };
        self.read_only().into_iter().find(is_further)
    }

    /// Rules about the mounts; none where the shipped pack says it all.
    fn mounts(&self) -> String {
        let rules = [self.never_written(), self.written_here()];
        rules.into_iter().flatten().collect::<Vec<_>>().join("\n")
    }

    fn never_written(&self) -> Option<String> {
        let (read_only, written) = (self.read_only(), self.written());
        // A second folder of a name is called `NAME-2` inside. What another mount is called may begin
        // so too.
        let further = read_only.iter().map(|name| {
            let others = written.iter().filter(|other| below(other, name).is_some());
            let apart = others.map(|other| format!("\n    && !({})", called(other)));
            let apart: String = apart.collect();
            format!("\n  || (context.name like \"{name}-*\"{apart})")
        });
        let further: String = further.collect();
        let rule = format!(
            "@id(\"baseline-read-only\")\n@reason(\"the baseline mounts it read-only\")\nforbid (\n  \
             principal,\n  action in [Action::\"grant_rw\", Action::\"grant_rwd\"],\n  resource\n)\n\
             when {{ {}.contains(context.name){further} }};\n",
            list(&read_only)
        );
        (!read_only.is_empty()).then_some(rule)
    }

    /// What the shipped pack has read-only by its name, and the baseline has not.
    fn written_here(&self) -> Option<String> {
        let written = self.written().into_iter();
        let names = written.filter(|name| *name == UPLOADS || below(name, UPLOADS).is_some());
        let names: Vec<String> = names.map(called).collect();
        let rule = format!(
            "@id(\"baseline-written\")\n@reason(\"the baseline mounts it for writing\")\npermit (\n  \
             principal,\n  action == Action::\"grant_rw\",\n  resource\n)\nwhen {{ {} }};\n",
            names.join("\n  || ")
        );
        (!names.is_empty()).then_some(rule)
    }

    /// Tests of the shipped pack, but for those about its own hosts and what is refused by another
    /// rule here, and those that write what the baseline has read-only.
    fn still_true(&self, text: &str) -> String {
        let is = |test: &str, name: &str| test.contains(&format!("\nname = \"{name}\"\n"));
        let writes = |test: &str, name: &str| {
            let mut modes = ["rw", "rwd"].iter();
            modes.any(|mode| test.contains(&format!("\"grant {mode} /home/alice/{name}\"")))
        };
        let read_only = self.read_only();
        let is_kept = |test: &&str| {
            !REPLACED.iter().any(|name| is(test, name))
                && !read_only.iter().any(|name| writes(test, name))
        };
        let kept: Vec<&str> = text.split("[[test]]").filter(is_kept).collect();
        kept.join("[[test]]")
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
        let each = |mode: &str, names: Vec<&str>| {
            let of = |name| {
                let own = format!("grant {mode} /home/alice/{name}");
                [own, format!("grant {mode} /home/alice/files named {name}")]
            };
            names.into_iter().flat_map(of).collect()
        };
        let read_only = self.read_only();
        // As long as a name may be, with its number.
        let further = read_only.iter().filter(|name| name.len() <= 62);
        let further: Vec<String> = further.map(|name| format!("{name}-2")).collect();
        let further = further.iter().map(String::as_str);
        let read_only: Vec<&str> = read_only.iter().copied().chain(further).collect();
        test(
            "read-only mounts are read",
            "",
            each("ro", read_only.clone()),
            "then = \"allow\"",
        );
        test(
            "read-only mounts are not written",
            "",
            each("rw", read_only.clone()),
            "then = \"deny\"\nrule = \"baseline-read-only\"",
        );
        test(
            "nor with an approval",
            "given = { approved = true }\n",
            each("rwd", read_only),
            "then = \"deny\"\nrule = \"baseline-read-only\"",
        );
        test(
            "mounts for writing are written",
            "",
            each("rw", self.written()),
            "then = \"allow\"",
        );
        text
    }
}

/// The rest of a name that begins with `other` and a dash.
fn below<'a>(name: &'a str, other: &str) -> Option<&'a str> {
    name.strip_prefix(other)?.strip_prefix('-')
}

/// Called so, or as a second folder of that name.
fn called(name: &str) -> String {
    format!("context.name == \"{name}\" || context.name like \"{name}-*\"")
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

/// What the shipped pack has read-only, and all that begins with it and a dash.
const UPLOADS: &str = "uploads";

/// Tests of the shipped pack about its own host list, and one about what is refused here by a rule.
const REPLACED: [&str; 3] = [
    "hosts of the list",
    "no other host",
    "uploads are not written",
];
