//! The facts of a baseline, and how those of two differ.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// What is compared, and made use of.
pub(super) struct Facts {
    domains: BTreeSet<String>,
    /// In their order.
    pub mounts: Vec<Mount>,
    /// Variables that are taken away.
    pub env: BTreeSet<String>,
    /// What stands among them and is no name.
    pub unusable: BTreeSet<String>,
    /// Everything else, a line for each value.
    others: BTreeSet<String>,
}

/// One place inside.
pub(super) struct Mount {
    name: Option<String>,
    /// As the baseline writes it.
    pub path: String,
    /// As the baseline writes it.
    pub mode: String,
}

impl Mount {
    /// Its mode as a grant has it.
    pub fn mode(&self) -> Option<&'static str> {
        match self.mode.as_str() {
            "r" => Some("ro"),
            "rw" => Some("rw"),
            "rwd" => Some("rwd"),
            _other => None,
        }
    }

    /// Its name, or the last part of its place, where a grant can have that name.
    pub fn grant_name(&self) -> Option<String> {
        let last = self.path.rsplit('/').next();
        let name = self.name.as_deref().or(last)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let is_name = (1..=64).contains(&name.len())
            && name.chars().all(plain)
            && !name.starts_with(['.', '-']);
        is_name.then(|| name.to_owned())
    }
}

impl Facts {
    pub fn of(fields: &Map<String, Value>) -> Result<Self, String> {
        if fields.get("baselineVersion").and_then(Value::as_u64) != Some(1) {
            return Err("`baselineVersion` is not 1".into());
        }
        let domains = fields
            .get("network")
            .and_then(|network| network.get("allowDomains"));
        let domains = texts(domains).ok_or("`network.allowDomains` is no list of texts")?;
        let layout = fields.get("mountLayout");
        let listed = layout.and_then(|layout| layout.get("mounts"));
        let listed = listed.and_then(Value::as_array);
        let mut mounts = Vec::new();
        for mount in listed.ok_or("`mountLayout.mounts` is no list")? {
            let text = |name: &str| mount.get(name).and_then(Value::as_str);
            let (Some(path), Some(mode)) = (text("mountPath"), text("mode")) else {
                return Err("a mount has no `mountPath` or no `mode`".into());
            };
            mounts.push(Mount {
                name: text("name").map(str::to_owned),
                path: path.to_owned(),
                mode: mode.to_owned(),
            });
        }
        let strip = match fields.get("bgEnvStrip") {
            None | Some(Value::Null) => None,
            Some(Value::Object(strip)) => Some(strip),
            Some(_other) => return Err("`bgEnvStrip` is no object".into()),
        };
        let known = match strip.and_then(|strip| strip.get("knownVars")) {
            None => BTreeSet::new(),
            named => texts(named).ok_or("`bgEnvStrip.knownVars` is no list of texts")?,
        };
        let (env, unusable) = known.into_iter().partition(|name| is_variable(name));
        let mut others = BTreeSet::new();
        for (name, value) in fields {
            if !["capturedAt", "provenance"].contains(&name.as_str()) {
                flatten(name, value, &mut others);
            }
        }
        Ok(Self {
            domains,
            mounts,
            env,
            unusable,
            others,
        })
    }

    pub fn by_path(&self) -> BTreeMap<String, String> {
        let mounts = self.mounts.iter();
        mounts
            .map(|mount| (mount.path.clone(), mount.mode.clone()))
            .collect()
    }

    /// What is here and was not there, and the other way round.
    pub fn changes(&self, before: &Self) -> Vec<String> {
        let mounts = |facts: &Self| -> BTreeSet<String> {
            let line = |mount: &Mount| format!("{} ({})", mount.path, mount.mode);
            facts.mounts.iter().map(line).collect()
        };
        let mut lines = Vec::new();
        for (what, now, was) in [
            ("host", &self.domains, &before.domains),
            ("mount", &mounts(self), &mounts(before)),
            ("variable", &self.env, &before.env),
            ("value", &self.others, &before.others),
        ] {
            lines.extend(now.difference(was).map(|one| format!("+ {what} {one}")));
            lines.extend(was.difference(now).map(|one| format!("- {what} {one}")));
        }
        lines
    }
}

/// Every value that is not compared as a host, a mount or a variable.
fn flatten(place: &str, value: &Value, lines: &mut BTreeSet<String>) {
    let told = [
        "network.allowDomains",
        "mountLayout.mounts",
        "bgEnvStrip.knownVars",
    ];
    if told.contains(&place) {
        return;
    }
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if !name.starts_with("$comment") {
                    flatten(&format!("{place}.{name}"), value, lines);
                }
            }
        }
        Value::Array(values) => {
            for value in values {
                flatten(place, value, lines);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            if !place.starts_with("$comment") {
                lines.insert(format!("{place} = {value}"));
            }
        }
    }
}

fn is_variable(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=256).contains(&name.len())
        && name.bytes().all(plain)
        && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn texts(value: Option<&Value>) -> Option<BTreeSet<String>> {
    let values = value?.as_array()?.iter();
    values
        .map(|value| value.as_str().map(str::to_owned))
        .collect()
}
