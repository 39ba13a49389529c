//! `cordon policy check`: validates and says where and why.
//!
//! A policy set's text in, [`Finding`]s out. Uses the very code that loads a set, so what passes
//! here loads, and what does not is refused with the same words.

use std::{fmt, path::PathBuf};

use serde::Serialize;

use crate::{engine::compile, source::PolicySource};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The set does not load.
    Error,
    /// The set loads, and probably does not mean what its author meant.
    Warning,
}

/// One thing found in a policy set. Lines and columns count from 1; columns count characters.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
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
}

/// Checks a policy set: sizes, syntax, schema, names and groups. Errors first, then in file order.
pub fn check(source: &PolicySource) -> Vec<Finding> {
    let mut findings = match compile::compile(source) {
        Ok((_compiled, warnings)) => warnings,
        Err(findings) => findings,
    };
    findings.sort_by(|a, b| {
        (a.severity, &a.file, a.line, a.column).cmp(&(b.severity, &b.file, b.line, b.column))
    });
    findings
}

impl Finding {
    const SHOWN_CHARS: usize = 160;

    /// A finding about a whole file.
    pub(crate) fn in_file(file: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            file: file.into(),
            line: None,
            column: None,
            message: message.into(),
            help: None,
            source_line: None,
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

    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn into_warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// Place and message in one line, without severity and help.
    pub fn headline(&self) -> String {
        match self.line {
            Some(line) => format!("`{}` line {line}: {}", self.file.display(), self.message),
            None => format!("`{}`: {}", self.file.display(), self.message),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{severity}: {}", self.headline())?;
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

/// Line and column of a byte offset, from 1, and the line's text: bounded, control characters
/// replaced, so that a hostile file cannot write to the terminal of the one who checks it.
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
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    (line, column, shown)
}

#[cfg(test)]
mod tests;
