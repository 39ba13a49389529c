//! What is open in the editor, and what is wrong with the sets that it is part of.
//!
//! A set is a folder: the files on disk, with what is open in place of what is saved.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use cordon_policy::{
    Layer,
    check::{self, Finding, Severity},
    editor::{Lines, MAX_DOCUMENT_BYTES, Place},
    source::{ApplicationSource, PolicyFile, PolicySource},
};
use lsp_types::{
    Diagnostic, DiagnosticSeverity, NumberOrString, Position, PublishDiagnosticsParams, Range, Uri,
};

use super::uri;

/// Open documents by path.
#[derive(Debug, Default)]
pub struct Documents {
    open: BTreeMap<PathBuf, String>,
    /// Folders that changed since they were checked.
    dirty: BTreeSet<PathBuf>,
    /// Files that were told something, by folder, so that it can be taken back.
    told: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
    /// What was found last, by file, for code actions.
    findings: BTreeMap<PathBuf, Vec<Finding>>,
}

impl Documents {
    /// A document was opened or changed. One that is no policy file, or too long, is let be.
    pub fn set(&mut self, uri: &Uri, text: String) {
        let Some(path) = uri::path_of(uri).filter(|path| is_policy(path)) else {
            return;
        };
        self.mark(&path);
        if text.len() > MAX_DOCUMENT_BYTES {
            self.open.remove(&path);
        } else {
            self.open.insert(path, text);
        }
    }

    /// A document was saved.
    pub fn touch(&mut self, uri: &Uri) {
        if let Some(path) = uri::path_of(uri) {
            self.mark(&path);
        }
    }

    /// A document was closed: what is on disk counts again.
    pub fn close(&mut self, uri: &Uri) {
        if let Some(path) = uri::path_of(uri) {
            self.mark(&path);
            self.open.remove(&path);
        }
    }

    /// The text of an open document.
    pub fn text(&self, uri: &Uri) -> Option<(PathBuf, &str)> {
        let path = uri::path_of(uri)?;
        let text = self.open.get(&path)?;
        Some((path, text))
    }

    /// What was found last in a file.
    pub fn findings(&self, path: &Path) -> &[Finding] {
        self.findings.get(path).map_or(&[], Vec::as_slice)
    }

    /// The files of the folder that a file lies in, as the editor has them.
    pub fn set_of(&self, path: &Path) -> PolicySource {
        let folder = path.parent().unwrap_or(path);
        let mut files = saved(folder);
        for (path, text) in &self.open {
            if path.parent() == Some(folder) {
                files.insert(path.clone(), text.clone());
            }
        }
        let files = files
            .into_iter()
            .map(|(path, text)| PolicyFile::new(path, text))
            .collect();
        let name = folder.display().to_string();
        if !is_application(folder) {
            return PolicySource::new(name, files);
        }
        let mut source = PolicySource::new(name.clone(), Vec::new());
        source.applications.push(ApplicationSource {
            bundle: name,
            // Which layers may have one is the whole bundle's to check.
            layer: Layer::Organisation,
            files,
        });
        source
    }

    /// The text of a file beside another one, as the editor has it; empty where there is none.
    pub fn beside(&self, path: &Path, is_it: impl Fn(&Path) -> bool) -> String {
        let source = self.set_of(path);
        let mut files = source.applications.iter().flat_map(|one| &one.files);
        let found = files.find(|file| is_it(&file.path));
        found.map(|file| file.text.clone()).unwrap_or_default()
    }

    /// Checks the folders that changed: for each of their files what is wrong with it now, also
    /// where that is nothing any more.
    pub fn diagnose(&mut self) -> Vec<PublishDiagnosticsParams> {
        let mut told = Vec::new();
        for folder in std::mem::take(&mut self.dirty) {
            told.extend(self.diagnose_folder(&folder));
        }
        told
    }

    fn diagnose_folder(&mut self, folder: &Path) -> Vec<PublishDiagnosticsParams> {
        let source = self.set_of(&folder.join("any"));
        let mut by_file: BTreeMap<PathBuf, Vec<Finding>> = BTreeMap::new();
        for finding in check::check(&source) {
            // A finding about the set as a whole stands at its first file.
            let file = if finding.file.parent() == Some(folder) {
                finding.file.clone()
            } else {
                match files_of(&source).next() {
                    Some(first) => first.path.clone(),
                    None => continue,
                }
            };
            by_file.entry(file).or_default().push(finding);
        }
        let before = self.told.remove(folder).unwrap_or_default();
        let now: BTreeSet<PathBuf> = by_file.keys().cloned().collect();
        let mut published = Vec::new();
        for path in before.union(&now) {
            let findings = by_file.remove(path).unwrap_or_default();
            let text = files_of(&source).find(|file| file.path == *path);
            let text = text.map_or("", |file| file.text.as_str());
            let lines = Lines::new(text);
            let diagnostics = findings
                .iter()
                .map(|f| diagnostic(f, text, &lines))
                .collect();
            if let Some(uri) = uri::of_path(path) {
                published.push(PublishDiagnosticsParams::new(uri, diagnostics, None));
            }
            self.findings.insert(path.clone(), findings);
        }
        self.told.insert(folder.to_owned(), now);
        published
    }

    fn mark(&mut self, path: &Path) {
        if let Some(folder) = path.parent() {
            self.dirty.insert(folder.to_owned());
        }
    }
}

/// The policy files of a folder as they are on disk; what cannot be read is left out.
fn saved(folder: &Path) -> BTreeMap<PathBuf, String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return BTreeMap::new();
    };
    entries
        .take(MOST_ENTRIES)
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| is_policy(path))
        .filter(|path| {
            let limit = u64::try_from(MAX_DOCUMENT_BYTES).unwrap_or(u64::MAX);
            fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() <= limit)
        })
        .filter_map(|path| fs::read_to_string(&path).ok().map(|text| (path, text)))
        .collect()
}

/// Most entries of a folder that are looked at.
const MOST_ENTRIES: usize = 10_000;

/// Whether it is a file that policies are made of; an application's are its schema and entities too.
pub fn is_policy(path: &Path) -> bool {
    let is_one = |e: &std::ffi::OsStr| e == "cedar" || e == "toml";
    let is_applications = |e: &std::ffi::OsStr| e == "cedarschema" || e == "json";
    path.extension().is_some_and(|e| {
        is_one(e) || is_applications(e) && path.parent().is_some_and(is_application)
    })
}

/// Whether a folder has the application of a bundle.
pub fn is_application(folder: &Path) -> bool {
    folder.file_name().is_some_and(|name| name == "app")
        && folder
            .parent()
            .is_some_and(|bundle| bundle.join("bundle.toml").is_file())
}

fn files_of(source: &PolicySource) -> impl Iterator<Item = &PolicyFile> {
    let of_applications = source.applications.iter().flat_map(|one| &one.files);
    source.files.iter().chain(of_applications)
}

/// Whether it is a data file.
pub fn is_data(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "toml")
}

/// A position as the protocol has it.
pub fn position(place: Place) -> Position {
    Position::new(place.line, place.character)
}

/// A range of bytes as the protocol has it.
pub fn range(lines: &Lines<'_>, bytes: std::ops::Range<usize>) -> Range {
    Range::new(
        position(lines.place(bytes.start)),
        position(lines.place(bytes.end)),
    )
}

/// Where a finding stands, in bytes: what its fix replaces, else to the end of the word.
pub fn bytes_of(finding: &Finding, text: &str) -> std::ops::Range<usize> {
    let (Some(line), Some(column)) = (finding.line, finding.column) else {
        return 0..text.lines().next().map_or(0, str::len);
    };
    let before: usize = text
        .split_inclusive('\n')
        .take(line - 1)
        .map(str::len)
        .sum();
    let rest = text.get(before..).unwrap_or_default();
    let start = rest
        .char_indices()
        .nth(column - 1)
        .map_or(text.len(), |(at, _)| before + at);
    let rest = text.get(start..).unwrap_or_default();
    let length = match &finding.fix {
        Some(fix) if rest.starts_with(&fix.old) => fix.old.len(),
        _ => {
            let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '"' | '.' | ':' | '-');
            rest.find(|c| !is_word(c)).unwrap_or(rest.len()).max(1)
        }
    };
    start..(start + length).min(text.len())
}

fn diagnostic(finding: &Finding, text: &str, lines: &Lines<'_>) -> Diagnostic {
    let mut message = finding.message.clone();
    if let Some(help) = &finding.help {
        message.push_str("\nhelp: ");
        message.push_str(help);
    }
    Diagnostic {
        range: range(lines, bytes_of(finding, text)),
        severity: Some(match finding.severity {
            Severity::Error => DiagnosticSeverity::ERROR,
            Severity::Warning => DiagnosticSeverity::WARNING,
            Severity::Note => DiagnosticSeverity::INFORMATION,
        }),
        code: Some(NumberOrString::String(finding.code.as_str().into())),
        source: Some("cordon".into()),
        message,
        ..Diagnostic::default()
    }
}
