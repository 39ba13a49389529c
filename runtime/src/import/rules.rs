//! Rules as they are written down, one after the other, each with an id.

use std::{
    fmt::{self, Write as _},
    path::{Component, Path, PathBuf},
};

use cordon_policy::NormalizedHost;
use serde_json::Value;

use super::{Imported, Note, NoteKind, Places};

/// Rules on their way.
pub(super) struct Rules {
    prefix: &'static str,
    count: usize,
    imported: Imported,
}

/// A host, or everything below it and not itself.
pub(super) struct HostPattern {
    pub below: bool,
    pub name: NormalizedHost,
}

impl HostPattern {
    fn read(pattern: &str) -> Option<Self> {
        let (below, name) = match pattern.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, pattern),
        };
        let name = name.parse().ok()?;
        Some(Self { below, name })
    }
}

impl fmt::Display for HostPattern {
    /// As a host group names it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.below { "*." } else { "" };
        write!(f, "{star}{}", self.name)
    }
}

/// Whether something is allowed, asked about or refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Effect {
    Allow,
    Ask,
    Deny,
}

/// What lifts the refusal of a grant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unless {
    /// Nothing.
    Never,
    /// An approval of that grant.
    Approved,
}

impl Unless {
    fn condition(self) -> &'static str {
        match self {
            Self::Never => "",
            Self::Approved => WITHOUT_APPROVAL,
        }
    }
}

impl Rules {
    pub(super) fn new(prefix: &'static str) -> Self {
        Self {
            prefix,
            count: 0,
            imported: Imported::default(),
        }
    }

    pub(super) fn finish(self) -> Imported {
        self.imported
    }

    /// A rule with this effect; asking is a permit with an approval, and no other.
    pub(super) fn rule(&mut self, effect: Effect, place: &str, action: &str, resource: &str) {
        match effect {
            Effect::Allow => self.write("permit", place, action, resource, ""),
            Effect::Deny => self.write("forbid", place, action, resource, ""),
            Effect::Ask => {
                let with = "\nwhen { context has approval }";
                self.write("permit", place, action, resource, with);
                self.write("forbid", place, action, resource, WITHOUT_APPROVAL);
            }
        }
    }

    /// With a condition.
    pub(super) fn write(
        &mut self,
        effect: &str,
        place: &str,
        action: &str,
        resource: &str,
        condition: &str,
    ) {
        self.count += 1;
        let (prefix, count) = (self.prefix, self.count);
        let _infallible = write!(
            self.imported.rules,
            "@id(\"{prefix}-{count}\")\n@reason({})\n{effect} (principal, {action}, \
             {resource}){condition};\n\n",
            text(place)
        );
    }

    pub(super) fn note(&mut self, kind: NoteKind, place: &str, what: impl Into<String>) {
        self.imported.notes.push(Note {
            place: place.into(),
            what: what.into(),
            kind,
        });
    }

    /// What is not expressed: an allowance is not given, a refusal is lost.
    pub(super) fn not_expressed(&mut self, effect: Effect, place: &str, why: &str) {
        let kind = match effect {
            Effect::Allow => NoteKind::Narrower,
            Effect::Ask | Effect::Deny => NoteKind::Lost,
        };
        self.note(kind, place, why);
    }

    /// Hosts as sandboxes list them: a name, or `*.` and a name for everything below it. Gives back
    /// those that could be read.
    pub(super) fn domains(
        &mut self,
        effect: Effect,
        place: &str,
        value: Option<&Value>,
    ) -> Vec<HostPattern> {
        let mut hosts = Vec::new();
        for (place, pattern) in self.texts(effect, place, value) {
            match HostPattern::read(&pattern) {
                Some(host) => {
                    self.domain(effect, &place, &host);
                    hosts.push(host);
                }
                None => {
                    let why = format!("{pattern:?} is no name of a host; write its rule by hand");
                    self.not_expressed(effect, &place, &why);
                }
            }
        }
        hosts
    }

    fn domain(&mut self, effect: Effect, place: &str, host: &HostPattern) {
        let network = "action in Action::\"network\"";
        let keyword = if effect == Effect::Deny {
            "forbid"
        } else {
            "permit"
        };
        let name = &host.name;
        if host.below {
            let resource = format!("resource in Domain::\"{name}\"");
            let apart = format!("\nunless {{ resource == Host::\"{name}\" }}");
            self.write(keyword, place, network, &resource, &apart);
        } else {
            let resource = format!("resource == Host::\"{name}\"");
            self.write(keyword, place, network, &resource, "");
        }
    }

    /// The texts of a list, each with its place.
    pub(super) fn texts(
        &mut self,
        effect: Effect,
        place: &str,
        value: Option<&Value>,
    ) -> Vec<(String, String)> {
        let values = match value {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::Array(values)) => values,
            Some(_other) => {
                self.not_expressed(effect, place, "it is not a list, so nothing of it is here");
                return Vec::new();
            }
        };
        let mut texts = Vec::new();
        for (at, value) in values.iter().enumerate() {
            let place = format!("{place}[{at}]");
            match value.as_str() {
                Some(text) => texts.push((place, text.to_owned())),
                None => self.not_expressed(effect, &place, "it is not a text"),
            }
        }
        texts
    }

    /// A grant of a folder, by any of these actions.
    pub(super) fn grant(&mut self, place: &str, actions: &str, folder: &Path) {
        let resource = format!("resource in Folder::{}", folder_text(folder));
        self.write(
            "permit",
            place,
            &format!("action in [{actions}]"),
            &resource,
            "",
        );
    }

    /// No grant of anything, but for what lifts it.
    pub(super) fn no_grant_at_all(&mut self, place: &str, actions: &str, unless: Unless) {
        let action = format!("action in [{actions}]");
        self.write("forbid", place, &action, "resource", unless.condition());
        let how = match unless {
            Unless::Never => "at all",
            Unless::Approved => "without an approval",
        };
        let what = format!(
            "no folder can be granted so {how}: in a granted folder nothing asks for each file"
        );
        self.note(NoteKind::Narrower, place, what);
    }

    /// No grant that has the folder in it: not of it, of what is below it, nor of what is above it.
    pub(super) fn no_grant(&mut self, place: &str, actions: &str, folder: &Path, unless: Unless) {
        let action = format!("action in [{actions}]");
        let condition = unless.condition();
        let resource = format!("resource in Folder::{}", folder_text(folder));
        self.write("forbid", place, &action, &resource, condition);
        for above in folder.ancestors().skip(1) {
            let resource = format!("resource == Folder::{}", folder_text(above));
            self.write("forbid", place, &action, &resource, condition);
        }
        let how = match unless {
            Unless::Never => "any more",
            Unless::Approved => "without an approval",
        };
        let what = format!(
            "no folder that has `{}` in it can be granted {how}: here a grant is of the whole \
             folder",
            folder.display()
        );
        self.note(NoteKind::Narrower, place, what);
    }
}

/// An absolute path of a plain pattern: `~/x`, `./x`, `/x`, with `/**` or a slash at its end. None
/// where it is a pattern that a folder cannot stand for.
pub(super) fn folder(pattern: &str, places: &Places) -> Option<PathBuf> {
    let plain = pattern.strip_suffix("/**").unwrap_or(pattern);
    if plain.contains(['*', '?', '[', ']', '{', '}', '!', '$']) || plain.is_empty() {
        return None;
    }
    let path = match plain.strip_prefix('~') {
        Some("") => places.home.clone(),
        Some(rest) => places.home.join(rest.strip_prefix('/')?),
        None => places.base.join(plain),
    };
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::RootDir => out.push("/"),
            Component::Normal(part) => out.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    (out.is_absolute() && out.to_str().is_some()).then_some(out)
}

/// A text of Cedar.
pub(super) fn text(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                let _infallible = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn folder_text(folder: &Path) -> String {
    // Read from text, so it is text.
    text(&folder.to_string_lossy())
}

const WITHOUT_APPROVAL: &str = "\nunless { context has approval }";

pub(super) const WRITES: &str = "Action::\"grant_rw\", Action::\"grant_rwd\"";
pub(super) const GRANTS: &str = "Action::\"grant\"";
