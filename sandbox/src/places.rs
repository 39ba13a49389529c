//! Where what a session sees lies on the host, and the other way round: the one translation of
//! paths, for the guard, for records, and for every message.
//!
//! Grants and a path in, the innermost grant around it and the path on the other side out. Paths are
//! compared as they are: absolute, and without links or dots. Never asks the file system.

use std::path::{Path, PathBuf};

use cordon_policy::GrantMode;

/// A folder or file of the host that a session sees.
pub trait Shown {
    /// Where it lies on the host.
    fn host(&self) -> &Path;

    /// Where it appears inside.
    fn inside(&self) -> &Path;
}

/// By its two paths, the host's first.
impl Shown for (PathBuf, PathBuf) {
    fn host(&self) -> &Path {
        &self.0
    }

    fn inside(&self) -> &Path {
        &self.1
    }
}

/// Without walls: the session sees it where it is.
impl Shown for (PathBuf, GrantMode) {
    fn host(&self) -> &Path {
        &self.0
    }

    fn inside(&self) -> &Path {
        &self.0
    }
}

/// What `path`, as the session sees it, is on the host, and by which grant.
pub fn on_host<'g, S: Shown>(
    grants: impl IntoIterator<Item = &'g S>,
    path: &Path,
) -> Option<(&'g S, PathBuf)> {
    let (grant, below) = innermost(grants, path, S::inside)?;
    Some((grant, join(grant.host(), below)))
}

/// What `path` of the host is inside, and by which grant.
pub fn inside<'g, S: Shown>(
    grants: impl IntoIterator<Item = &'g S>,
    path: &Path,
) -> Option<(&'g S, PathBuf)> {
    let (grant, below) = innermost(grants, path, S::host)?;
    Some((grant, join(grant.inside(), below)))
}

fn innermost<'g, 'p, S: Shown>(
    grants: impl IntoIterator<Item = &'g S>,
    path: &'p Path,
    root: impl Fn(&'g S) -> &'g Path,
) -> Option<(&'g S, &'p Path)> {
    grants
        .into_iter()
        .filter_map(|grant| Some((grant, path.strip_prefix(root(grant)).ok()?)))
        .min_by_key(|(_, below)| below.components().count())
}

/// Without a slash at the end where nothing is below.
fn join(root: &Path, below: &Path) -> PathBuf {
    if below.as_os_str().is_empty() {
        root.into()
    } else {
        root.join(below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_grant_tells_both_ways() {
        let grant = |host: &str, inside: &str| (PathBuf::from(host), PathBuf::from(inside));
        let grants = [
            grant("/home/u/p", "/s/mnt/p"),
            grant("/home/u/p/out", "/s/mnt/out"),
            grant("/srv/file", "/s/mnt/p/file"),
        ];
        for (host, within) in [
            ("/home/u/p", "/s/mnt/p"),
            ("/home/u/p/a/b", "/s/mnt/p/a/b"),
            ("/home/u/p/out/x", "/s/mnt/out/x"),
            ("/srv/file", "/s/mnt/p/file"),
        ] {
            let (_, found) = inside(&grants, Path::new(host)).unwrap();
            assert_eq!(found.as_os_str(), within);
            let (_, found) = on_host(&grants, Path::new(within)).unwrap();
            assert_eq!(found.as_os_str(), host);
        }
        for neither in ["/home/u/pq", "/s/mnt", "/", "p"] {
            assert!(inside(&grants, Path::new(neither)).is_none(), "{neither}");
            assert!(on_host(&grants, Path::new(neither)).is_none(), "{neither}");
        }
        // Hidden inside by what is granted there.
        let (_, shown) = on_host(&grants, Path::new("/s/mnt/p/out/x")).unwrap();
        assert_eq!(shown, Path::new("/home/u/p/out/x"));
    }
}
