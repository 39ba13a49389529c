//! Where a path lies in a session's grants, by the file system as it is now (F07, F16).
//!
//! A path and the grants in; its one spelling and the mode that holds there out. Whoever acts on
//! the answer opens the path that stands in it, not the one that was asked about.

use std::{
    ffi::OsString,
    io,
    path::{Component, Path, PathBuf},
};

use cordon_policy::GrantMode;
use cordon_sandbox::places;

use super::operation::Access;

/// Why there is no place.
#[derive(Debug)]
pub enum Unplaced {
    /// It cannot be looked at, or is no path to begin with.
    Unusable(String),
    /// No grant has it.
    Outside(PathBuf),
    /// Its grant's mode does not include this.
    Mode(PathBuf, GrantMode),
}

/// The place of `path`, for `access`.
///
/// # Errors
/// [`Unplaced`]; each is a refusal.
pub fn place(
    path: &Path,
    access: Access,
    grants: &[(PathBuf, GrantMode)],
) -> Result<(PathBuf, GrantMode), Unplaced> {
    let spelled = spelled(path, access).map_err(|error| Unplaced::Unusable(error.to_string()))?;
    let Some(((_, mode), _)) = places::on_host(grants, &spelled) else {
        return Err(Unplaced::Outside(spelled));
    };
    let included = match access {
        Access::Read => true,
        Access::Write => *mode != GrantMode::Ro,
        Access::Delete => *mode == GrantMode::Rwd,
    };
    if included {
        Ok((spelled, *mode))
    } else {
        Err(Unplaced::Mode(spelled, *mode))
    }
}

/// Symlinks resolved as the access would: what is deleted is the link itself, what is read or
/// written is what it leads to. Of what does not exist yet the part that does is resolved.
fn spelled(path: &Path, access: Access) -> io::Result<PathBuf> {
    if access != Access::Delete {
        match path.canonicalize() {
            Err(error) if error.kind() == io::ErrorKind::NotFound && access == Access::Write => {}
            resolved => return resolved,
        }
        // A link that leads nowhere would be followed when it is written.
        if path.symlink_metadata().is_ok() {
            return Err(io::Error::other("a symbolic link that leads nowhere"));
        }
    }
    let mut missing: Vec<OsString> = Vec::new();
    let mut at = path;
    loop {
        let (Some(parent), Some(Component::Normal(name))) =
            (at.parent(), at.components().next_back())
        else {
            return Err(io::Error::other("not a path to a file or folder"));
        };
        missing.push(name.into());
        match parent.canonicalize() {
            Ok(mut spelled) => {
                spelled.extend(missing.iter().rev());
                return Ok(spelled);
            }
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && parent.symlink_metadata().is_err() =>
            {
                at = parent;
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn f07_f16_a_path_is_where_it_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for folder in ["own/src", "read", "other"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        for file in ["own/a", "read/b", "other/secret"] {
            std::fs::write(root.join(file), "x").unwrap();
        }
        symlink(root.join("other/secret"), root.join("own/leak")).unwrap();
        symlink(root.join("other"), root.join("own/way")).unwrap();
        symlink(root.join("other/new"), root.join("own/dangling")).unwrap();
        let grants = [
            (root.join("own"), GrantMode::Rw),
            (root.join("read"), GrantMode::Ro),
            (root.join("own/src"), GrantMode::Rwd),
        ];
        let ask = |path: &str, access| place(&root.join(path), access, &grants);
        let allowed = |path: &str, access| ask(path, access).unwrap();
        assert_eq!(
            allowed("own/a", Access::Read),
            (root.join("own/a"), GrantMode::Rw)
        );
        assert_eq!(
            allowed("read/../own/a", Access::Write).0,
            root.join("own/a")
        );
        assert_eq!(
            allowed("own/new/deep/file", Access::Write).0,
            root.join("own/new/deep/file")
        );
        assert_eq!(allowed("own/src/x", Access::Delete).1, GrantMode::Rwd);
        assert_eq!(allowed("read/b", Access::Read).1, GrantMode::Ro);
        for (path, access) in [
            ("other/secret", Access::Read),
            ("own/leak", Access::Read),
            ("own/leak", Access::Write),
            ("own/way/secret", Access::Read),
            ("own/way/new", Access::Write),
            ("own/../other/secret", Access::Read),
            ("owner", Access::Write),
        ] {
            assert!(
                matches!(ask(path, access), Err(Unplaced::Outside(_))),
                "{path} {access:?}"
            );
        }
        for (path, access) in [
            ("read/b", Access::Write),
            ("own/a", Access::Delete),
            ("own/leak", Access::Delete),
        ] {
            assert!(
                matches!(ask(path, access), Err(Unplaced::Mode(..))),
                "{path} {access:?}"
            );
        }
        for (path, access) in [
            ("own/dangling", Access::Write),
            ("own/nothing", Access::Read),
            ("own/new/..", Access::Write),
            ("own/nothing/../../other/x", Access::Write),
        ] {
            assert!(
                matches!(ask(path, access), Err(Unplaced::Unusable(_))),
                "{path} {access:?}"
            );
        }
    }
}
