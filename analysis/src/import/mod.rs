//! Turns allow lists of other programs into the draft of a bundle.
//!
//! Text in, an [`Imported`] out. What cannot be expressed is listed with its line and reason,
//! never dropped silently (F14); where something is left out the draft is narrower than the
//! original, never wider.

mod cases;
mod cedar;
mod lists;
mod members;
mod smokescreen;
mod squid;

use std::{collections::BTreeMap, fmt::Write as _};

use cordon_audit::escape;
use cordon_policy::{
    Snapshot,
    source::{LoadError, PolicyFile, PolicySource},
};
use serde::Serialize;
use thiserror::Error;

pub use self::squid::Squid;

/// Which program the list is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// `squid.conf`: `acl` and `http_access`.
    Squid,
    /// The YAML of smokescreen, version 1.
    Smokescreen,
    /// A hosts file (hosts(5)).
    Hosts,
    /// One host, domain, address or network a line.
    List,
}

/// What to know beside the text.
pub struct Options<'a> {
    /// Ports of entries that name none, for plain lists and hosts files.
    pub ports: Vec<u16>,
    /// Squid's ACLs that hold for every session, because they say who the client is.
    pub holds: Vec<String>,
    /// Reads a file that the text names; the text of it, or why not.
    pub read: &'a dyn Fn(&str) -> Result<String, String>,
}

/// The draft of a bundle, and what is not in it.
#[derive(Debug, Default, Serialize)]
pub struct Imported {
    /// Rules, in the order of the original.
    pub rules: Vec<Rule>,
    /// Host groups by name.
    pub groups: BTreeMap<String, Vec<String>>,
    /// What is not expressed, in the order of the lines.
    pub not_expressed: Vec<NotExpressed>,
}

/// One rule of the draft.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Rule {
    /// Its `@id`.
    pub id: String,
    /// Its text without annotations.
    pub cedar: String,
    /// Where it comes from.
    pub from: String,
}

/// Something of the original that the draft does not say.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct NotExpressed {
    /// Its line, from 1; 0 where it is about the whole file.
    pub line: usize,
    /// The text, bounded and escaped.
    pub text: String,
    /// Why, and what it means for the draft.
    pub reason: String,
}

/// Why nothing was imported.
#[derive(Debug, Error)]
#[error("not imported: {message}")]
pub struct ImportError {
    /// What and where.
    pub message: String,
    /// What to do; shown after `help:`.
    pub help: String,
}

/// Largest text read, in bytes, files that it names included.
pub const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Most lines of a text.
const MAX_LINES: usize = 500_000;
/// Most things listed as not expressed; one more says that there are others.
const MAX_LISTED: usize = 1_000;

/// Imports `text`.
///
/// # Errors
/// [`ImportError`] where the text is too large, is not of this format, or where leaving
/// something out could widen the draft. A draft that does not load is never returned.
pub fn import(format: Format, text: &str, options: &Options<'_>) -> Result<Imported, ImportError> {
    if text.len() > MAX_BYTES || text.lines().count() > MAX_LINES {
        return Err(ImportError::new(
            format!("the text is longer than {MAX_BYTES} bytes or {MAX_LINES} lines"),
            "split it, or import the part that is about access",
        ));
    }
    let imported = match format {
        Format::Squid => Squid::read(text, options.read)?.import(&options.holds)?,
        Format::Smokescreen => smokescreen::import(text)?,
        Format::Hosts => lists::hosts_file(text, &options.ports),
        Format::List => lists::plain(text, &options.ports),
    };
    Snapshot::load(&imported.source()).map_err(|error: LoadError| {
        ImportError::new(
            format!("the draft would not load: {}", error.message),
            "this is a mistake of the importer, or the list is larger than a policy set may be",
        )
    })?;
    Ok(imported)
}

impl Imported {
    /// The draft's rules, as a file of a bundle.
    pub fn cedar(&self) -> String {
        let mut text = String::from(
            "// Imported: a draft. Read it, and the list of what is not in it, before it decides.\n",
        );
        for rule in &self.rules {
            // Writing to a string cannot fail.
            let _infallible = write!(
                text,
                "\n// From {}\n@id({:?})\n{}\n",
                rule.from, rule.id, rule.cedar
            );
        }
        text
    }

    /// The draft's host groups, as a data file of a bundle.
    pub fn data(&self) -> String {
        let mut text = String::from("[host_groups]\n");
        for (name, members) in &self.groups {
            let _infallible = writeln!(text, "{name} = [");
            for member in members {
                let _infallible = writeln!(text, "  {member:?},");
            }
            text.push_str("]\n");
        }
        text
    }

    /// The files of a bundle, by their paths in it. The notes are beside the rules as comments,
    /// because a bundle holds nothing else.
    pub fn bundle(&self) -> Vec<(&'static str, String)> {
        let mut rules = self.cedar();
        for note in &self.not_expressed {
            let _infallible = writeln!(rules, "// Not in the draft: {note}");
        }
        let manifest = "name = \"imported\"\nrevision = 1\nschema = 1\nlayer = \"user\"\n\
                        description = \"Imported: a draft\"\n";
        vec![
            ("bundle.toml", manifest.to_owned()),
            ("imported.cedar", rules),
            ("data/hosts.toml", self.data()),
            ("tests/imported.toml", cases::of(self)),
        ]
    }

    /// As a policy set.
    pub fn source(&self) -> PolicySource {
        let files = vec![
            PolicyFile::new("imported.cedar", self.cedar()),
            PolicyFile::new("hosts.toml", self.data()),
        ];
        PolicySource::new("imported", files)
    }

    fn leave_out(&mut self, line: usize, text: &str, reason: impl Into<String>) {
        let listed = self.not_expressed.len();
        if listed < MAX_LISTED {
            self.not_expressed
                .push(NotExpressed::new(line, text, reason));
        } else if listed == MAX_LISTED {
            let reason = format!("and more: only the first {MAX_LISTED} are listed");
            self.not_expressed.push(NotExpressed::new(line, "", reason));
        }
    }
}

impl NotExpressed {
    const SHOWN_CHARS: usize = 120;

    fn new(line: usize, text: &str, reason: impl Into<String>) -> Self {
        let text: String = text.chars().take(Self::SHOWN_CHARS).collect();
        Self {
            line,
            text: escape(&text).to_string(),
            reason: reason.into(),
        }
    }
}

impl std::fmt::Display for NotExpressed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.line, self.text.is_empty()) {
            (0, _) => f.write_str(&self.reason),
            (line, true) => write!(f, "line {line}: {}", self.reason),
            (line, false) => write!(f, "line {line}: `{}`: {}", self.text, self.reason),
        }
    }
}

impl ImportError {
    fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: help.into(),
        }
    }

    fn at(line: usize, what: &str, why: &str, help: &str) -> Self {
        let shown = NotExpressed::new(line, what, why);
        Self::new(shown.to_string(), help)
    }
}

#[cfg(test)]
mod tests;
