//! A platform's baseline: hosts, mounts with their modes, variables that are taken away; and what
//! changed since the one before.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{
    Imported, NoteKind, object,
    rules::{Effect, Rules},
};

/// What a baseline says beside its rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    /// Rules and notes.
    pub imported: Imported,
    /// Places inside, each with its mode.
    pub mounts: BTreeMap<String, String>,
    /// Variables that are taken away before an agent starts, sorted.
    pub env_strip: Vec<String>,
    /// What differs from the baseline before: `+` and `-` lines.
    pub changes: Vec<String>,
}

/// Reads a baseline, and compares it with the one before.
///
/// # Errors
/// One of them is no such file.
pub fn cowork_baseline(text: &[u8], previous: Option<&[u8]>) -> Result<Baseline, String> {
    let fields = object(text)?;
    let facts = Facts::of(&fields)?;
    let changes = match previous {
        None => Vec::new(),
        Some(text) => {
            let before = object(text).and_then(|fields| Facts::of(&fields));
            facts.changes(&before.map_err(|why| format!("the previous baseline: {why}"))?)
        }
    };
    let mut rules = Rules::new("baseline");
    let place = "network.allowDomains";
    let network = fields.get("network").and_then(Value::as_object);
    rules.domains(
        Effect::Allow,
        place,
        network.and_then(|network| network.get("allowDomains")),
    );
    for (mount, mode) in &facts.mounts {
        let what = match mode.as_str() {
            "r" => "granted `ro`".to_owned(),
            "rw" => {
                "granted `rw`: nothing that was there disappears; `rwd` needs an approval".into()
            }
            "rwd" => "granted `rwd`".into(),
            other => {
                let what = format!("its mode {other:?} is not known here");
                rules.note(NoteKind::Lost, &format!("mountLayout {mount}"), what);
                continue;
            }
        };
        rules.note(NoteKind::Other, &format!("mountLayout {mount}"), what);
    }
    let what = "nothing of the environment is inside unless it is named, so they are not there";
    rules.note(NoteKind::Other, "bgEnvStrip", what);
    if network.and_then(|network| network.get("allowKind")) != Some(&Value::from("allowlist")) {
        rules.note(NoteKind::Lost, "network.allowKind", "it is not `allowlist`");
    }
    Ok(Baseline {
        imported: rules.finish(),
        mounts: facts.mounts,
        env_strip: facts.env.into_iter().collect(),
        changes,
    })
}

struct Facts {
    domains: BTreeSet<String>,
    mounts: BTreeMap<String, String>,
    env: BTreeSet<String>,
}

impl Facts {
    fn of(fields: &Map<String, Value>) -> Result<Self, String> {
        if fields.get("baselineVersion").and_then(Value::as_u64) != Some(1) {
            return Err("`baselineVersion` is not 1".into());
        }
        let domains = fields
            .get("network")
            .and_then(|network| network.get("allowDomains"));
        let domains = texts(domains).ok_or("`network.allowDomains` is no list of texts")?;
        let mounts = fields
            .get("mountLayout")
            .and_then(|layout| layout.get("mounts"));
        let mounts = mounts.and_then(Value::as_array);
        let mut by_path = BTreeMap::new();
        for mount in mounts.ok_or("`mountLayout.mounts` is no list")? {
            let text = |name: &str| mount.get(name).and_then(Value::as_str);
            let (Some(path), Some(mode)) = (text("mountPath"), text("mode")) else {
                return Err("a mount has no `mountPath` or no `mode`".into());
            };
            by_path.insert(path.to_owned(), mode.to_owned());
        }
        let mut env = BTreeSet::new();
        if let Some(Value::Object(strip)) = fields.get("bgEnvStrip") {
            for (name, value) in strip {
                if !name.starts_with('$') {
                    env.extend(texts(Some(value)).unwrap_or_default());
                }
            }
        }
        Ok(Self {
            domains,
            mounts: by_path,
            env,
        })
    }

    fn changes(&self, before: &Self) -> Vec<String> {
        let mounts = |facts: &Self| -> BTreeSet<String> {
            let line = |(path, mode): (&String, &String)| format!("{path} ({mode})");
            facts.mounts.iter().map(line).collect()
        };
        let mut lines = Vec::new();
        for (what, now, was) in [
            ("host", self.domains.clone(), before.domains.clone()),
            ("mount", mounts(self), mounts(before)),
            ("variable", self.env.clone(), before.env.clone()),
        ] {
            lines.extend(now.difference(&was).map(|one| format!("+ {what} {one}")));
            lines.extend(was.difference(&now).map(|one| format!("- {what} {one}")));
        }
        lines
    }
}

fn texts(value: Option<&Value>) -> Option<BTreeSet<String>> {
    let values = value?.as_array()?.iter();
    values
        .map(|value| value.as_str().map(str::to_owned))
        .collect()
}
