//! `cordon policy check`: validates and says where and why.
//!
//! A policy set's text in, [`Finding`]s out. Uses the very code that loads a set, so what passes
//! here loads, and what does not is refused with the same words.

mod code;
mod lint;

use std::{fmt, path::PathBuf};

use serde::Serialize;

pub use self::code::Code;
use crate::{engine::compile, source::PolicySource};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The set does not load.
    Error,
    /// The set loads, and probably does not mean what its author meant.
    Warning,
    /// The set is fine; its author may want to know this.
    Note,
}

/// One thing found in a policy set. Lines and columns count from 1; columns count characters.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// What kind it is.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// File, as it was named.
    pub file: PathBuf,
    /// Line, where known.
    pub line: Option<usize>,
    /// Column, where known.
    pub column: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// The line's text, bounded.
    pub source_line: Option<String>,
    /// A change that does away with it, where there is just one.
    pub fix: Option<Fix>,
}

/// Text at a finding's place, and what it should be.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Fix {
    /// What stands there.
    pub old: String,
    /// What should.
    pub new: String,
}

/// Checks a policy set: sizes, syntax, schema, names and groups, and, if it loads, whether its
/// rules can mean what they say. Errors first, then warnings, then notes, each in file order.
pub fn check(source: &PolicySource) -> Vec<Finding> {
    let mut findings = match compile::compile(source) {
        Ok((_compiled, warnings)) => with_lints(source, warnings),
        Err(mut findings) => {
            // What does not fit the schema has no meaning that could be warned about.
            findings.retain(|finding| finding.code != Code::Validator);
            findings
        }
    };
    findings.sort_by(|a, b| {
        (a.severity, &a.file, a.line, a.column).cmp(&(b.severity, &b.file, b.line, b.column))
    });
    findings
}

/// Adds the lints. Of a rule that never matches Cedar says only that it is impossible; a lint that
/// says why stands alone.
fn with_lints(source: &PolicySource, mut warnings: Vec<Finding>) -> Vec<Finding> {
    match compile::on_large_stack(|| lint::lint(source)) {
        Ok(lint::Linting {
            findings,
            explained,
        }) => {
            warnings.retain(|warning| {
                let place = (warning.file.clone(), warning.line.unwrap_or_default());
                warning.code != Code::Validator || !explained.contains(&place)
            });
            warnings.extend(findings);
        }
        Err(message) => warnings.push(Finding::in_file(&source.name, message)),
    }
    warnings
}

impl Finding {
    const SHOWN_CHARS: usize = 160;

    /// A finding about a whole file.
    pub(crate) fn in_file(file: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self {
            code: Code::Rule,
            severity: Severity::Error,
            file: file.into(),
            line: None,
            column: None,
            message: plain(&message.into()),
            help: None,
            source_line: None,
            fix: None,
        }
    }

    /// A finding at a byte offset of a file's text.
    pub(crate) fn at(
        file: impl Into<PathBuf>,
        text: &str,
        offset: usize,
        message: impl Into<String>,
    ) -> Self {
        let (line, column, source_line) = locate(text, offset);
        Self {
            line: Some(line),
            column: Some(column),
            source_line: Some(source_line),
            ..Self::in_file(file, message)
        }
    }

    pub(crate) fn with_code(mut self, code: Code) -> Self {
        self.code = code;
        self
    }

    pub(crate) fn with_fix(mut self, old: impl Into<String>, new: impl Into<String>) -> Self {
        self.fix = Some(Fix {
            old: old.into(),
            new: new.into(),
        });
        self
    }

    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(plain(&help.into()));
        self
    }

    /// As a warning; one that came without a code of its own is Cedar's.
    fn into_warning(mut self) -> Self {
        self.severity = Severity::Warning;
        if self.code == Code::Rule {
            self.code = Code::Validator;
        }
        self
    }

    /// Place and message in one line, without severity and help.
    pub fn headline(&self) -> String {
        let file = plain(&self.file.display().to_string());
        match self.line {
            Some(line) => format!("`{file}` line {line}: {}", self.message),
            None => format!("`{file}`: {}", self.message),
        }
    }
}

/// Findings while a set is compiled. Kept to a bounded number, because finding a line costs time
/// and a hostile file has many mistakes; that there was an error is never forgotten.
#[derive(Default)]
pub(crate) struct Findings {
    list: Vec<Finding>,
    failed: bool,
}

impl Findings {
    /// Most findings that are shown.
    pub(crate) const MOST: usize = 100;

    /// Notes an error; works out its place only if it is shown.
    pub(crate) fn error(&mut self, make: impl FnOnce() -> Finding) {
        self.failed = true;
        if self.list.len() < Self::MOST {
            self.list.push(make());
        }
    }

    /// Notes a finding of any severity but an error, as it is.
    pub(crate) fn note(&mut self, make: impl FnOnce() -> Finding) {
        if self.list.len() < Self::MOST {
            self.list.push(make());
        }
    }

    /// Everything that was noted.
    pub(crate) fn into_list(self) -> Vec<Finding> {
        self.list
    }

    pub(crate) fn warning(&mut self, make: impl FnOnce() -> Finding) {
        if self.list.len() < Self::MOST {
            self.list.push(make().into_warning());
        }
    }

    /// Whether there was an error and no further finding would be shown.
    pub(crate) fn is_full(&self) -> bool {
        self.failed && self.list.len() >= Self::MOST
    }

    /// The warnings, or everything if there was an error.
    pub(crate) fn finish(self) -> Result<Vec<Finding>, Vec<Finding>> {
        if self.failed {
            Err(self.list)
        } else {
            Ok(self.list)
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        write!(f, "{severity}[{}]: {}", self.code.as_str(), self.headline())?;
        if let (Some(line), Some(column), Some(text)) = (self.line, self.column, &self.source_line)
        {
            let number = line.to_string();
            let blank = " ".repeat(number.len());
            write!(f, "\n  {number} | {text}")?;
            if column <= text.chars().count() + 1 {
                write!(f, "\n  {blank} | {}^", " ".repeat(column - 1))?;
            }
        }
        if let Some(help) = &self.help {
            write!(f, "\nhelp: {help}")?;
        }
        Ok(())
    }
}

/// Text that may come from a hostile file, without what a terminal would act on, and bounded.
pub(crate) fn plain(text: &str) -> String {
    const MAX_CHARS: usize = 1_000;
    text.chars()
        .take(MAX_CHARS)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Line and column of a byte offset, from 1, and the line's text, bounded and
/// plain, so that a hostile file cannot write to the terminal of the one who checks it.
pub(crate) fn locate(text: &str, offset: usize) -> (usize, usize, String) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let column = before.get(start..).unwrap_or_default().chars().count() + 1;
    let shown = text
        .get(start..)
        .unwrap_or_default()
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(Finding::SHOWN_CHARS)
        .collect::<String>();
    let shown = plain(&shown);
    (line, column, shown)
}

#[cfg(test)]
mod tests;
