//! Names below `mnt/`: the last path component, numbered on collision, stable for the session.

use std::{collections::BTreeSet, path::Path};

/// Longest name, bytes.
const MAX_NAME: usize = 64;

/// Names taken in one session.
#[derive(Debug, Default)]
pub struct Names {
    taken: BTreeSet<String>,
}

impl Names {
    /// With these taken already.
    pub fn with(taken: impl IntoIterator<Item = String>) -> Self {
        Self {
            taken: taken.into_iter().collect(),
        }
    }

    /// A free name for `path`: `wanted`, or its last component in safe characters; `name-2`,
    /// `name-3` … when it is taken.
    pub fn take(&mut self, path: &Path, wanted: Option<&str>) -> String {
        let base = match wanted {
            Some(name) if is_name(name) => name.to_owned(),
            _none => safe(path),
        };
        let mut name = base.clone();
        let mut number = 2_u32;
        while !self.taken.insert(name.clone()) {
            name = format!("{base}-{number}");
            number = number.saturating_add(1);
        }
        name
    }
}

/// Whether `name` may be a name below `mnt/` as it stands.
pub fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME
        && !name.starts_with(['.', '-'])
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn safe(path: &Path) -> String {
    let last = path
        .file_name()
        .map(|name| name.to_string_lossy())
        .unwrap_or_default();
    let safe: String = last
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "._-".contains(c) {
                c
            } else {
                '_'
            }
        })
        .take(MAX_NAME)
        .collect();
    let safe = safe.trim_start_matches(['.', '-']);
    if safe.is_empty() {
        "folder".into()
    } else {
        safe.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_and_numbered_on_collision() {
        let mut names = Names::default();
        let cases = [
            ("/home/u/project", None, "project"),
            ("/srv/project", None, "project-2"),
            ("/srv/project", None, "project-3"),
            ("/home/u/.hidden", None, "hidden"),
            ("/home/u/two words", None, "two_words"),
            ("/", None, "folder"),
            ("/srv/x", Some("data"), "data"),
            ("/srv/y", Some("data"), "data-2"),
            ("/srv/z", Some("../up"), "z"),
        ];
        for (path, wanted, want) in cases {
            assert_eq!(
                names.take(Path::new(path), wanted),
                want,
                "{path} {wanted:?}"
            );
        }
    }
}
