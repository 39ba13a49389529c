//! The words of one form, and what is said where one is missing or another.

use super::super::AskError;
use crate::host::shown;

/// The words of one form, taken one after the other.
pub(super) struct Words<'a> {
    pub(super) rest: &'a [&'a str],
    form: &'static str,
}

impl<'a> Words<'a> {
    pub(super) fn new(rest: &'a [&'a str], form: &'static str) -> Self {
        Self { rest, form }
    }

    pub(super) fn take(&mut self, missing: &'static str) -> Result<&'a str, AskError> {
        let (word, rest) = self.rest.split_first().ok_or(AskError::Missing {
            missing,
            form: self.form,
        })?;
        self.rest = rest;
        Ok(word)
    }

    pub(super) fn keyword(&mut self, keyword: &'static str) -> Result<(), AskError> {
        let word = self.take(keyword)?;
        if word == keyword {
            Ok(())
        } else {
            Err(self.unexpected(word, keyword))
        }
    }

    /// A word that follows a keyword, where the keyword is there.
    pub(super) fn option(&mut self, keyword: &'static str) -> Result<Option<&'a str>, AskError> {
        if self.rest.first() != Some(&keyword) {
            return Ok(None);
        }
        self.take(keyword)?;
        self.take("what comes after the last word").map(Some)
    }

    /// Whether a word that says all by itself is there.
    pub(super) fn flag(&mut self, keyword: &'static str) -> bool {
        match self.rest.split_first() {
            Some((first, rest)) if *first == keyword => {
                self.rest = rest;
                true
            }
            _another => false,
        }
    }

    /// The word's value, by the table.
    pub(super) fn one_of<T: Copy>(
        &self,
        word: &str,
        wanted: &'static str,
        values: &[(&str, T)],
    ) -> Result<T, AskError> {
        values
            .iter()
            .find(|(name, _)| *name == word)
            .map(|(_, value)| *value)
            .ok_or_else(|| self.unexpected(word, wanted))
    }

    pub(super) fn end(self) -> Result<(), AskError> {
        match self.rest.first() {
            None => Ok(()),
            Some(word) => Err(self.unexpected(word, "nothing more")),
        }
    }

    pub(super) fn unexpected(&self, word: &str, wanted: &'static str) -> AskError {
        AskError::Unexpected {
            word: shown(word),
            wanted,
            form: self.form,
        }
    }
}
