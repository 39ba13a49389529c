//! Why a bundle, a key or a trust file is not accepted.

use std::path::Path;

use thiserror::Error;

use crate::check::{Finding, plain};

/// What was not accepted, why and where, and what to do. Hostile text in it is escaped and
/// bounded.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{} not accepted: {message}", .what.words())]
pub struct BundleError {
    what: Artefact,
    message: String,
    help: String,
}

/// What an error is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Artefact {
    /// A bundle.
    Bundle,
    /// A key file.
    Key,
    /// A trust file.
    Trust,
}

impl Artefact {
    fn words(self) -> &'static str {
        match self {
            Self::Bundle => "bundle",
            Self::Key => "key",
            Self::Trust => "trust file",
        }
    }

    pub(super) fn error(self, message: impl AsRef<str>, help: impl AsRef<str>) -> BundleError {
        BundleError {
            what: self,
            message: plain(message.as_ref()),
            help: plain(help.as_ref()),
        }
    }

    /// An error at a byte offset of a file's text.
    pub(super) fn error_at(
        self,
        (file, text, offset): (&Path, &str, usize),
        message: impl Into<String>,
        help: impl AsRef<str>,
    ) -> BundleError {
        let finding = Finding::at(file, text, offset, message);
        self.error(finding.headline(), help)
    }

    /// An error of the TOML parser, at its place.
    pub(super) fn toml(
        self,
        (file, text): (&Path, &str),
        error: &toml::de::Error,
        help: impl AsRef<str>,
    ) -> BundleError {
        let offset = error.span().map_or(0, |span| span.start);
        self.error_at((file, text, offset), error.message(), help)
    }
}

impl BundleError {
    /// What it is about.
    pub fn artefact(&self) -> Artefact {
        self.what
    }

    /// What is wrong, and where.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do; shown after `help:`.
    pub fn hint(&self) -> &str {
        &self.help
    }
}
