//! What has which label: folders, hosts, connectors and extensions, as data files say.
//!
//! Checked once when the set is loaded; then an operation in, the labels that a session takes on by
//! it out. Goes by what is read: a folder that is granted, a file that is read, a host that
//! answers, a scope or tool whose result comes back.

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use toml::Spanned;

use super::{
    data::{HostGroups, Labelled, Member, Problem, labelled},
    target::check_literal,
};
use crate::{
    Destination, ExtensionFacts, Host, NormalizedHost, Operation,
    check::{Code, Finding, Findings},
    is_label,
    source::PolicyFile,
};

/// The labels of a policy set.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    names: Vec<Arc<str>>,
    /// Of every host and address.
    everywhere: BTreeSet<usize>,
    hosts: HashMap<Box<str>, Places>,
    folders: Vec<(PathBuf, usize)>,
    /// `CONNECTOR` or `CONNECTOR/SCOPE`.
    connectors: HashMap<Box<str>, BTreeSet<usize>>,
    /// `EXTENSION` or `EXTENSION/TOOL`.
    extensions: HashMap<Box<str>, BTreeSet<usize>>,
}

/// Labels that belong to one host name.
#[derive(Debug, Default)]
struct Places {
    exactly: BTreeSet<usize>,
    below: BTreeSet<usize>,
}

/// Most labels of a policy set.
const MAX_LABELS: usize = 64;
/// Most folders that have one: each is looked at for each file that is decided.
const MAX_FOLDERS: usize = 1_000;
/// Longest name of a connector, extension, scope or tool together, in bytes.
const MAX_NAME_BYTES: usize = 513;

impl Labels {
    /// Reads every data file; all findings of all files are reported. A label of several files is
    /// of all that any of them names.
    pub(crate) fn read(
        files: &[&PolicyFile],
        groups: &HostGroups,
        findings: &mut Findings,
    ) -> Self {
        let mut labels = Self::default();
        for file in files {
            for (name, what) in labelled(file) {
                let found = Reading {
                    file,
                    groups,
                    labels: &mut labels,
                };
                found.add(&name, &what, findings);
            }
        }
        labels
    }

    /// Whether something has this label.
    pub(crate) fn are_there(&self, name: &str) -> bool {
        self.names.iter().any(|known| &**known == name)
    }

    /// The labels that a session takes on by this.
    pub(crate) fn of(&self, operation: &Operation) -> Vec<Arc<str>> {
        if self.names.is_empty() {
            return Vec::new();
        }
        let mut found = BTreeSet::new();
        match operation {
            Operation::GrantFolder { path, .. } | Operation::ReadPath { path, .. } => {
                self.of_path(path, &mut found);
            }
            Operation::Connect { destination, .. } | Operation::HttpRequest { destination, .. } => {
                self.of_destination(destination, &mut found);
            }
            Operation::OpenOrigin { origin } | Operation::ActInOrigin { origin, .. } => {
                self.of_destination(&origin.destination, &mut found);
            }
            Operation::UseScope { connector, scope } => {
                named(&self.connectors, connector, scope, &mut found);
            }
            Operation::CallTool {
                extension, tool, ..
            } => self.of_extension(extension, tool, &mut found),
            Operation::UsePermission {
                extension,
                permission,
            } => self.of_extension(extension, permission, &mut found),
            // Nothing is read by these: what comes of them is asked for by itself.
            Operation::StartSession { .. }
            | Operation::ExecInSession { .. }
            | Operation::PublishPort { .. }
            | Operation::DeletePath { .. }
            | Operation::WritePath { .. }
            | Operation::ReachAddress { .. }
            | Operation::EnableConnector { .. }
            | Operation::InstallExtension { .. }
            | Operation::LoadExtension { .. }
            | Operation::EnableBrowser
            | Operation::Approve { .. }
            | Operation::PublishPolicy { .. }
            | Operation::ManageSession { .. }
            | Operation::ReadLog { .. } => {}
        }
        let names = found.into_iter().filter_map(|label| self.names.get(label));
        names.cloned().collect()
    }

    /// A folder has the labels of what is in it too: whoever gets it gets them.
    fn of_path(&self, path: &Path, found: &mut BTreeSet<usize>) {
        for (folder, label) in &self.folders {
            if path.starts_with(folder) || folder.starts_with(path) {
                found.insert(*label);
            }
        }
    }

    fn of_destination(&self, destination: &Destination, found: &mut BTreeSet<usize>) {
        found.extend(&self.everywhere);
        let Host::Name(host) = &destination.host else {
            return;
        };
        let whole = host.as_str().len();
        for suffix in host.suffixes() {
            if let Some(places) = self.hosts.get(suffix) {
                found.extend(if suffix.len() == whole {
                    &places.exactly
                } else {
                    &places.below
                });
            }
        }
    }

    /// An extension's tools are also a connector's, where it is one by that name.
    fn of_extension(&self, facts: &ExtensionFacts, name: &str, found: &mut BTreeSet<usize>) {
        named(&self.extensions, &facts.id, name, found);
        named(&self.connectors, &facts.id, name, found);
    }
}

fn named(
    all: &HashMap<Box<str>, BTreeSet<usize>>,
    owner: &str,
    name: &str,
    found: &mut BTreeSet<usize>,
) {
    for key in [owner, &format!("{owner}/{name}")] {
        found.extend(all.get(key).into_iter().flatten());
    }
}

/// One data file while it is read.
struct Reading<'a> {
    file: &'a PolicyFile,
    groups: &'a HostGroups,
    labels: &'a mut Labels,
}

impl Reading<'_> {
    fn add(mut self, name: &Spanned<String>, what: &Labelled, findings: &mut Findings) {
        let label = match self.declare(name.get_ref()) {
            Ok(label) => label,
            Err(problem) => return self.report(name, problem, Code::Data, findings),
        };
        for folder in &what.folders {
            if let Err(problem) = self.folder(folder.get_ref(), label) {
                self.report(folder, problem, Code::Spelling, findings);
            }
        }
        for host in &what.hosts {
            if let Err(problem) = self.host(host.get_ref(), label) {
                let code = match host.get_ref().starts_with('@') {
                    true => Code::UnknownGroup,
                    false => Code::Spelling,
                };
                self.report(host, problem, code, findings);
            }
        }
        for (names, kind) in [(&what.connectors, 0), (&what.extensions, 1)] {
            for name in names {
                if let Err(problem) = check_name(name.get_ref()) {
                    self.report(name, problem, Code::Data, findings);
                    continue;
                }
                let all = match kind {
                    0 => &mut self.labels.connectors,
                    _ => &mut self.labels.extensions,
                };
                all.entry(name.get_ref().as_str().into())
                    .or_default()
                    .insert(label);
            }
        }
    }

    fn declare(&mut self, name: &str) -> Result<usize, Problem> {
        let names = &mut self.labels.names;
        if let Some(known) = names.iter().position(|known| &**known == name) {
            return Ok(known);
        }
        if !is_label(name) {
            return Err((
                format!("{name:.100?} is not the name of a label"),
                "use 1 to 64 lower-case letters, digits and `-`".into(),
            ));
        }
        if names.len() >= MAX_LABELS {
            return Err((
                format!("a policy set has more than {MAX_LABELS} labels"),
                "use one label for what rules treat alike".into(),
            ));
        }
        names.push(name.into());
        Ok(names.len() - 1)
    }

    fn folder(&mut self, path: &str, label: usize) -> Result<(), Problem> {
        let spelt = |help| (format!("{path:.100?} is not a canonical path"), help);
        check_literal("Folder", path).map_err(spelt)?;
        if self.labels.folders.len() >= MAX_FOLDERS {
            return Err((
                format!("a policy set has more than {MAX_FOLDERS} folders with a label"),
                "name the folder that they are in".into(),
            ));
        }
        self.labels.folders.push((path.into(), label));
        Ok(())
    }

    fn host(&mut self, text: &str, label: usize) -> Result<(), Problem> {
        if text == "*" {
            self.labels.everywhere.insert(label);
            return Ok(());
        }
        let mut open = vec![self.groups.member(text, self.file.layer)?];
        let mut seen = BTreeSet::new();
        // A group's members, and those of the groups in it, each group once.
        while let Some(member) = open.pop() {
            match member {
                Member::Exactly(host) => self.place(&host).exactly.insert(label),
                Member::Below(host) => self.place(&host).below.insert(label),
                Member::Group(index) => {
                    if seen.insert(index)
                        && let Some(group) = self.groups.groups.get(index)
                    {
                        open.extend(group.members.iter().cloned());
                    }
                    true
                }
            };
        }
        Ok(())
    }

    fn place(&mut self, host: &NormalizedHost) -> &mut Places {
        self.labels.hosts.entry(host.as_str().into()).or_default()
    }

    fn report(
        &self,
        at: &Spanned<String>,
        (message, help): Problem,
        code: Code,
        findings: &mut Findings,
    ) {
        findings.error(|| {
            Finding::at(&self.file.path, &self.file.text, at.span().start, message)
                .with_code(code)
                .with_help(help)
        });
    }
}

/// `OWNER` or `OWNER/NAME`, as these ids are in the schema.
fn check_name(name: &str) -> Result<(), Problem> {
    let (owner, rest) = name.split_once('/').unwrap_or((name, "-"));
    let is_name = !owner.is_empty() && !rest.is_empty() && name.len() <= MAX_NAME_BYTES;
    if is_name && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err((
        format!("{name:.100?} is neither a name nor `OWNER/NAME`"),
        "write `tracker`, or `tracker/read:issues`".into(),
    ))
}
