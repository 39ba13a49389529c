//! A platform's baseline: hosts, mounts with their modes, variables that are taken away; and what
//! changed since the one before.

mod facts;
mod pack;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    Imported, NoteKind, is_off, object,
    rules::{Effect, Rules},
};
use facts::{Facts, Mount};

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
    /// A policy pack: the pack `cowork-parity` with the hosts and read-only mounts of the baseline,
    /// each file by its place in the bundle.
    pub pack: Vec<(String, String)>,
    /// Session defaults for `cordon run --defaults`.
    pub defaults: String,
}

/// Reads a baseline, and compares it with the one before. `name` is the name of the pack.
///
/// # Errors
/// One of them is no such file.
pub fn cowork_baseline(
    text: &[u8],
    previous: Option<&[u8]>,
    name: &str,
) -> Result<Baseline, String> {
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
    unknown(&mut rules, &fields);
    let place = "network.allowDomains";
    let hosts = rules.domains(
        Effect::Allow,
        place,
        fields
            .get("network")
            .and_then(|network| network.get("allowDomains")),
    );
    let grants = grants(&mut rules, &facts.mounts);
    variables(&mut rules, &fields, &facts);
    let version = fields.get("appVersion").and_then(Value::as_str);
    let made = pack::Made {
        name,
        version: version.unwrap_or_default(),
        hosts: &hosts,
        grants: &grants,
        env: &facts.env,
    };
    for (name, _mode) in grants.iter().filter(|(_, mode)| *mode != "ro") {
        if let Some(other) = made.taken_from(name) {
            let what = format!(
                "it is not written: a second folder of the read-only mount `{other}` is called so"
            );
            rules.note(NoteKind::Narrower, &format!("mountLayout {name}"), what);
        }
    }
    let (pack, defaults) = (made.pack()?, made.defaults());
    Ok(Baseline {
        imported: rules.finish(),
        mounts: facts.by_path(),
        env_strip: facts.env.into_iter().collect(),
        changes,
        pack,
        defaults,
    })
}

/// The mounts as grants: each a name and a mode.
fn grants(rules: &mut Rules, mounts: &[Mount]) -> Vec<(String, &'static str)> {
    let mut grants: Vec<(String, &'static str)> = Vec::new();
    for mount in mounts {
        let place = format!("mountLayout {}", mount.path);
        let Some(mode) = mount.mode() else {
            let what = format!("its mode {:?} is not known here", mount.mode);
            rules.note(NoteKind::Lost, &place, what);
            continue;
        };
        let Some(name) = mount.grant_name() else {
            let what = "its name is none for a grant; `--grant DIR:MODE=NAME` shows it under one";
            rules.note(NoteKind::Narrower, &place, what);
            continue;
        };
        if grants.iter().any(|(other, _)| *other == name) {
            let what = format!("another mount has the name `{name}`, and its mode holds");
            rules.note(NoteKind::Lost, &place, what);
            continue;
        }
        if mode == "rwd" {
            let what = "the pack asks a person before a grant `rwd`";
            rules.note(NoteKind::Narrower, &place, what);
        }
        let what =
            format!("`--grant DIR={name}` is `{mode}` by the session defaults, at `mnt/{name}`");
        rules.note(NoteKind::Other, &place, what);
        grants.push((name, mode));
    }
    grants
}

fn variables(rules: &mut Rules, fields: &Map<String, Value>, facts: &Facts) {
    let what = "the session defaults take them away, whoever names them";
    rules.note(NoteKind::Other, "bgEnvStrip", what);
    let count = fields
        .get("bgEnvStrip")
        .and_then(|strip| strip.get("count"));
    let (count, named) = (count.and_then(Value::as_u64), facts.env.len());
    if count.is_some_and(|count| usize::try_from(count) != Ok(named)) {
        let what = format!(
            "it counts {} and names {named}: the others go in where the profile of an agent or \
             `--env` names them",
            count.unwrap_or_default()
        );
        rules.note(NoteKind::Wider, "bgEnvStrip.count", what);
    }
    for name in &facts.unusable {
        let what = format!("{name:?} is no name of a variable");
        rules.note(NoteKind::Lost, "bgEnvStrip", what);
    }
}

/// What is not known may refuse something. What is neutral is named here, and nothing else is.
fn unknown(rules: &mut Rules, fields: &Map<String, Value>) {
    let mut report = |place: &str, fields: &Map<String, Value>, known: &[&str]| {
        for (name, value) in fields {
            let is_known = known.contains(&name.as_str()) || name.starts_with("$comment");
            if !is_known && !value.is_null() {
                let place = format!("{place}{name}");
                rules.note(NoteKind::Lost, &place, "it is not known here");
            }
        }
    };
    report("", fields, &TOP);
    for (name, known) in [
        ("network", &NETWORK[..]),
        ("mountLayout", &LAYOUT[..]),
        ("bgEnvStrip", &STRIP[..]),
    ] {
        if let Some(Value::Object(fields)) = fields.get(name) {
            report(&format!("{name}."), fields, known);
        }
    }
    let mounts = fields
        .get("mountLayout")
        .and_then(|layout| layout.get("mounts"));
    for (at, mount) in mounts
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .enumerate()
    {
        if let Value::Object(mount) = mount {
            report(&format!("mountLayout.mounts[{at}]."), mount, &MOUNT);
        }
    }
    let network = fields.get("network").and_then(Value::as_object);
    if network.and_then(|network| network.get("allowKind")) != Some(&Value::from("allowlist")) {
        rules.note(NoteKind::Lost, "network.allowKind", "it is not `allowlist`");
    }
    if network.is_some_and(|network| network.contains_key("userOverrideKey")) {
        let what = "hosts that a user adds are for the host group `cowork-added`";
        rules.note(NoteKind::Narrower, "network.userOverrideKey", what);
    }
    for (name, setting) in fields
        .get("settings")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        if !setting.get("default").is_none_or(is_off) {
            let what = "a setting of the platform's own: nothing is granted by itself here";
            rules.note(NoteKind::Narrower, &format!("settings.{name}"), what);
        }
    }
}

/// What a baseline has at its top, and what of it restricts nothing.
const TOP: [&str; 12] = [
    "baselineVersion",
    "appVersion",
    "capturedAt",
    "platform",
    "agentVersion",
    "agentBinary",
    "guest",
    "mountLayout",
    "network",
    "settings",
    "bgEnvStrip",
    "provenance",
];
const NETWORK: [&str; 6] = [
    "mode",
    "configKey_networkMode",
    "configKey_requireFullVmSandbox",
    "allowKind",
    "allowDomains",
    "userOverrideKey",
];
const LAYOUT: [&str; 3] = ["sessionRoot", "cwd", "mounts"];
const MOUNT: [&str; 4] = ["name", "mountPath", "mode", "purpose"];
const STRIP: [&str; 2] = ["count", "knownVars"];
