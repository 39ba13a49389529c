//! Data files: `[host_groups]` and `[labels]` in TOML, or the groups in JSON.
//!
//! Text in, checked groups out. A member is `"example.com"` (that name alone), `"*.example.com"`
//! (everything below it, not itself) or `"@other-group"` (every host of that group).

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;
use toml::Spanned;

use crate::{
    Layer, NormalizedHost,
    check::{Code, Finding, Findings},
    source::PolicyFile,
};

/// The host groups of a policy set: checked, and free of cycles.
#[derive(Debug, Default)]
pub(crate) struct HostGroups {
    pub(crate) groups: Vec<HostGroup>,
    by_name: HashMap<String, usize>,
}

#[derive(Debug)]
pub(crate) struct HostGroup {
    pub(crate) name: String,
    pub(crate) layer: Layer,
    pub(crate) members: Vec<Member>,
}

#[derive(Clone, Debug)]
pub(crate) enum Member {
    /// One name.
    Exactly(NormalizedHost),
    /// Everything below a name.
    Below(NormalizedHost),
    /// Every host of another group, by its index.
    Group(usize),
}

/// What is wrong, and what to do.
pub(crate) type Problem = (String, String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DataFile {
    #[serde(default)]
    host_groups: BTreeMap<Spanned<String>, Vec<Spanned<String>>>,
    #[serde(default)]
    labels: BTreeMap<Spanned<String>, Labelled>,
}

/// What has a label, as a data file has it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Labelled {
    /// Folders and files; everything below a folder has its label too.
    pub(crate) folders: Vec<Spanned<String>>,
    /// Hosts as in a host group; `*` is every host and address.
    pub(crate) hosts: Vec<Spanned<String>>,
    /// Connectors, or `CONNECTOR/SCOPE`.
    pub(crate) connectors: Vec<Spanned<String>>,
    /// Extensions and tool servers, or `EXTENSION/TOOL`.
    pub(crate) extensions: Vec<Spanned<String>>,
}

const MAX_NAME_BYTES: usize = 64;
/// Most groups of a policy set.
const MAX_GROUPS: usize = 1_000;

impl HostGroups {
    /// Reads every data file; all findings of all files are reported.
    pub(crate) fn read(files: &[&PolicyFile], findings: &mut Findings) -> Self {
        let parsed: Vec<_> = files
            .iter()
            .filter_map(|file| Some((*file, parse(file, findings)?)))
            .collect();
        let mut groups = Self::default();
        for (file, data) in &parsed {
            for name in data.host_groups.keys() {
                groups.declare(file, name, findings);
            }
        }
        for (file, data) in &parsed {
            for (name, members) in &data.host_groups {
                groups.fill(file, name, members, findings);
            }
        }
        groups.check_cycles(files, findings);
        groups
    }

    pub(crate) fn index_of(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The group that a rule or a group of a layer names. One of a less trusted layer would let
    /// that layer decide what the more trusted one permits.
    pub(crate) fn named(&self, name: &str, layer: Layer) -> Result<usize, Problem> {
        let index = self
            .index_of(name)
            .ok_or_else(|| (format!("there is no host group {name:.100?}"), self.names()))?;
        match self.groups.get(index) {
            Some(group) if group.layer > layer => Err((
                format!(
                    "host group `{name}` is the {}'s, and the {layer}'s layer names it",
                    group.layer
                ),
                format!("define it in the {layer}'s layer or in a more trusted one"),
            )),
            _ => Ok(index),
        }
    }

    /// For each group: itself and every group that it is part of, directly or through others.
    pub(crate) fn containing(&self) -> Vec<Vec<usize>> {
        let mut parents = vec![Vec::new(); self.groups.len()];
        for (outer, group) in self.groups.iter().enumerate() {
            for inner in group.nested() {
                if let Some(list) = parents.get_mut(inner) {
                    list.push(outer);
                }
            }
        }
        (0..self.groups.len())
            .map(|start| reach(start, &parents))
            .collect()
    }

    fn declare(&mut self, file: &PolicyFile, name: &Spanned<String>, findings: &mut Findings) {
        let text = name.get_ref();
        let at = |message: String| {
            Finding::at(&file.path, &file.text, name.span().start, message).with_code(Code::Data)
        };
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if text.is_empty() || text.len() > MAX_NAME_BYTES || !text.bytes().all(plain) {
            findings.error(|| {
                at(format!("{text:.100?} is not the name of a host group"))
                    .with_help("use 1 to 64 letters, digits, `-`, `_` and `.`")
            });
            return;
        }
        if self.groups.len() >= MAX_GROUPS {
            findings.error(|| {
                at(format!(
                    "a policy set has more than {MAX_GROUPS} host groups"
                ))
                .with_help("put hosts that are allowed together into one group")
            });
            return;
        }
        let known = self.index_of(text).and_then(|index| self.groups.get(index));
        if let Some(other) = known.map(|group| group.layer) {
            let message = if other == file.layer {
                format!("host group `{text}` is there twice")
            } else {
                format!("host group `{text}` is the {other}'s, and no other layer may define it")
            };
            findings.error(|| at(message).with_help("keep one of them, or give one another name"));
            return;
        }
        self.by_name.insert(text.clone(), self.groups.len());
        self.groups.push(HostGroup {
            name: text.clone(),
            layer: file.layer,
            members: Vec::new(),
        });
    }

    fn fill(
        &mut self,
        file: &PolicyFile,
        name: &Spanned<String>,
        members: &[Spanned<String>],
        findings: &mut Findings,
    ) {
        let mut read = Vec::with_capacity(members.len());
        let mut nested = HashSet::new();
        for member in members {
            match self.member(member.get_ref(), file.layer) {
                Ok(Member::Group(inner)) if !nested.insert(inner) => {}
                Ok(member) => read.push(member),
                Err((message, help)) => findings.error(|| {
                    let code = if member.get_ref().starts_with('@') {
                        Code::UnknownGroup
                    } else {
                        Code::Spelling
                    };
                    Finding::at(&file.path, &file.text, member.span().start, message)
                        .with_code(code)
                        .with_help(help)
                }),
            }
        }
        if let Some(group) = self
            .index_of(name.get_ref())
            .and_then(|index| self.groups.get_mut(index))
        {
            group.members = read;
        }
    }

    pub(crate) fn member(&self, text: &str, layer: Layer) -> Result<Member, Problem> {
        if let Some(name) = text.strip_prefix('@') {
            return self.named(name, layer).map(Member::Group);
        }
        let (suffix, below) = match text.strip_prefix("*.") {
            Some(suffix) => (suffix, true),
            None => (text, false),
        };
        let host: NormalizedHost = suffix.parse().map_err(|error: crate::HostError| {
            let help = if text.contains('*') {
                "a star stands only in front: `*.example.com` is everything below example.com"
            } else if text.parse::<std::net::IpAddr>().is_ok() || text.contains('/') {
                "addresses are no hosts; name them in a rule: `resource in Network::\"10.0.0.0/8\"`"
            } else {
                error.hint()
            };
            (error.to_string(), help.to_owned())
        })?;
        Ok(if below {
            Member::Below(host)
        } else {
            Member::Exactly(host)
        })
    }

    /// What to say to someone who named a group that is not there.
    pub(crate) fn names(&self) -> String {
        const SHOWN: usize = 20;
        let names: Vec<String> = self
            .groups
            .iter()
            .take(SHOWN)
            .map(|group| format!("`{}`", group.name))
            .collect();
        match self.groups.len() {
            0 => "there are none; add one under `[host_groups]` in a `.toml` file".into(),
            n if n > SHOWN => {
                format!(
                    "the host groups are {} and {} more",
                    names.join(", "),
                    n - SHOWN
                )
            }
            _ => format!("the host groups are {}", names.join(", ")),
        }
    }

    /// Takes away groups whose nested groups are all gone; what is left is in a circle, or holds
    /// one.
    fn check_cycles(&self, files: &[&PolicyFile], findings: &mut Findings) {
        let mut left: Vec<usize> = (0..self.groups.len()).collect();
        let mut is_gone = vec![false; self.groups.len()];
        loop {
            let before = left.len();
            left.retain(|index| {
                let mut nested = self
                    .groups
                    .get(*index)
                    .into_iter()
                    .flat_map(HostGroup::nested);
                let free = nested.all(|inner| is_gone.get(inner).copied().unwrap_or(true));
                if let Some(gone) = is_gone.get_mut(*index) {
                    *gone = free;
                }
                !free
            });
            if left.is_empty() {
                return;
            }
            if left.len() == before {
                break;
            }
        }
        let names: Vec<String> = left
            .iter()
            .filter_map(|index| self.groups.get(*index))
            .take(5)
            .map(|group| format!("`{}`", group.name))
            .collect();
        let file = files.first().map(|file| file.path.clone());
        findings.error(|| {
            Finding::in_file(
                file.unwrap_or_default(),
                format!("a host group contains itself: look at {}", names.join(", ")),
            )
            .with_code(Code::Data)
            .with_help("take one `@` member out of the circle")
        });
    }
}

impl HostGroup {
    pub(crate) fn nested(&self) -> impl Iterator<Item = usize> {
        self.members.iter().filter_map(|member| match member {
            Member::Group(index) => Some(*index),
            Member::Exactly(_) | Member::Below(_) => None,
        })
    }
}

/// What has which label, as a file says it. What is wrong with the file is found where its groups
/// are read.
pub(crate) fn labelled(file: &PolicyFile) -> BTreeMap<Spanned<String>, Labelled> {
    // Most data files have none, and some have ten thousand hosts.
    if !file.text.contains("labels") && !file.text.contains('\\') {
        return BTreeMap::new();
    }
    let read = parse(file, &mut Findings::default());
    read.map(|file| file.labels).unwrap_or_default()
}

fn parse(file: &PolicyFile, findings: &mut Findings) -> Option<DataFile> {
    if file.path.extension().is_some_and(|e| e == "json") {
        return parse_json(file, findings);
    }
    toml::from_str(&file.text)
        .map_err(|error| {
            let message = error.message().to_owned();
            let finding = match error.span() {
                Some(span) => Finding::at(&file.path, &file.text, span.start, message),
                None => Finding::in_file(&file.path, message),
            };
            findings.error(|| {
                finding.with_code(Code::Data).with_help(
                    "a data file has `[host_groups]` with `name = [\"host\", ...]`, and \
                         `[labels.NAME]` with `folders`, `hosts`, `connectors` and `extensions`",
                )
            });
        })
        .ok()
}

fn parse_json(file: &PolicyFile, findings: &mut Findings) -> Option<DataFile> {
    match crate::bundle::json::host_groups(&file.text) {
        Ok(host_groups) => Some(DataFile {
            host_groups,
            labels: BTreeMap::new(),
        }),
        Err((at, message)) => {
            findings.error(|| {
                Finding::at(&file.path, &file.text, at, message)
                    .with_help("a data file is `{\"host_groups\": {\"name\": [\"host\"]}}`")
            });
            None
        }
    }
}

/// Everything that can be reached from `start`, and itself; a loop, so that depth costs no stack.
fn reach(start: usize, edges: &[Vec<usize>]) -> Vec<usize> {
    let mut seen = vec![false; edges.len()];
    let mut found = Vec::new();
    let mut open = vec![start];
    while let Some(current) = open.pop() {
        let Some(is_seen) = seen.get_mut(current).filter(|is_seen| !**is_seen) else {
            continue;
        };
        *is_seen = true;
        found.push(current);
        open.extend(edges.get(current).into_iter().flatten());
    }
    found
}

#[cfg(test)]
mod tests;
