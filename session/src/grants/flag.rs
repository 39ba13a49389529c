//! `--grant DIR[:ro|rw|rwd][=NAME]`.

use std::path::{Path, PathBuf};

use cordon_policy::GrantMode;
use thiserror::Error;

use super::names::is_name;

/// One `--grant` as it was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GrantFlag {
    /// Folder or file, as written.
    pub path: PathBuf,
    /// Mode; `ro` when none was written: what nobody asked to change stays as it is.
    pub mode: GrantMode,
    /// Whether one was written.
    pub mode_written: bool,
    /// Name below `mnt/`, where one was written.
    pub name: Option<String>,
}

/// Why a `--grant` was not understood.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum FlagError {
    /// Nothing before the mode.
    #[error("`--grant {text}` names no folder")]
    NoPath {
        /// As written.
        text: String,
    },
    /// What stands after the colon looks like a mode and is none.
    #[error("`{mode}` is not a mode; the modes are `ro`, `rw` and `rwd`")]
    BadMode {
        /// As written.
        mode: String,
    },
    /// `=NAME` is not a plain file name.
    #[error(
        "`{name}` is not a name for a grant: 1-64 letters, digits, `.`, `_` or `-`, not starting \
         with a dot or a dash"
    )]
    BadName {
        /// As written.
        name: String,
    },
}

impl GrantFlag {
    /// Reads one flag. A folder whose own name looks like `dir:rw` or `dir=x` is meant as it
    /// stands when it exists, so `exists` is asked first.
    ///
    /// # Errors
    /// [`FlagError`].
    pub fn parse(text: &str, exists: impl Fn(&Path) -> bool) -> Result<Self, FlagError> {
        if !text.is_empty() && exists(Path::new(text)) {
            return Ok(Self {
                path: text.into(),
                mode: GrantMode::Ro,
                mode_written: false,
                name: None,
            });
        }
        let (rest, name) = match text.rsplit_once('=') {
            Some((rest, name)) if !name.contains('/') => (rest, Some(name)),
            _no_name => (text, None),
        };
        if let Some(name) = name.filter(|name| !is_name(name)) {
            return Err(FlagError::BadName { name: name.into() });
        }
        let (path, mode) = match rest.rsplit_once(':') {
            Some((path, "ro")) => (path, Some(GrantMode::Ro)),
            Some((path, "rw")) => (path, Some(GrantMode::Rw)),
            Some((path, "rwd")) => (path, Some(GrantMode::Rwd)),
            Some((_path, mode)) if looks_like_a_mode(mode) && !exists(Path::new(rest)) => {
                return Err(FlagError::BadMode { mode: mode.into() });
            }
            _no_mode => (rest, None),
        };
        if path.is_empty() {
            return Err(FlagError::NoPath { text: text.into() });
        }
        Ok(Self {
            path: path.into(),
            mode: mode.unwrap_or(GrantMode::Ro),
            mode_written: mode.is_some(),
            name: name.map(Into::into),
        })
    }
}

fn looks_like_a_mode(text: &str) -> bool {
    text.len() <= 4 && text.bytes().all(|b| b.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_as_written() {
        let cases = [
            ("/a/b", "/a/b", GrantMode::Ro, None, false),
            ("/a/b:rw", "/a/b", GrantMode::Rw, None, true),
            ("/a/b:rwd=data", "/a/b", GrantMode::Rwd, Some("data"), true),
            ("/a/b=data", "/a/b", GrantMode::Ro, Some("data"), false),
            (".", ".", GrantMode::Ro, None, false),
            ("/a:b c", "/a:b c", GrantMode::Ro, None, false),
            ("/x=y/b:ro", "/x=y/b", GrantMode::Ro, None, true),
            ("/there:rw", "/there:rw", GrantMode::Ro, None, false),
        ];
        for (text, path, mode, name, mode_written) in cases {
            let flag = GrantFlag::parse(text, |path| path == Path::new("/there:rw")).unwrap();
            let want = GrantFlag {
                path: path.into(),
                mode,
                mode_written,
                name: name.map(Into::into),
            };
            assert_eq!(flag, want, "{text}");
        }
    }

    #[test]
    fn what_is_no_grant_is_refused() {
        for text in [
            "", ":rw", "/a:rx", "/a:", "=x", "/a=", "/a=..", "/a=-x", "/a=a b",
        ] {
            assert!(GrantFlag::parse(text, |_path| false).is_err(), "{text}");
        }
    }
}
