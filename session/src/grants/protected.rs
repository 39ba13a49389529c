//! Folders that are never granted, in either direction (F16, A01): neither a protected folder,
//! nor anything inside it, nor anything that contains it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// Below the home directory: credentials, keys, and what steers shells and agents.
const IN_HOME: [&str; 40] = [
    ".aws",
    ".azure",
    ".bash_history",
    ".bash_login",
    ".bash_logout",
    ".bash_profile",
    ".bashrc",
    ".cargo/credentials.toml",
    ".claude",
    ".claude.json",
    ".codex",
    ".config/autostart",
    ".config/claude",
    ".config/fish",
    ".config/gcloud",
    ".config/gh",
    ".config/git",
    ".config/google-chrome",
    ".config/chromium",
    ".config/powershell",
    ".config/systemd",
    ".docker",
    ".git-credentials",
    ".gitconfig",
    ".gnupg",
    ".kube",
    ".local/share/keyrings",
    ".mozilla",
    ".netrc",
    ".npmrc",
    ".password-store",
    ".pgpass",
    ".profile",
    ".pypirc",
    ".ssh",
    ".vault-token",
    ".zlogin",
    ".zprofile",
    ".zshenv",
    ".zshrc",
];

/// Of the system. `/usr` and a made-up `/etc` are inside anyway.
const OF_SYSTEM: &[&str] = &[
    "/boot",
    "/dev",
    "/etc",
    "/proc",
    "/root/.ssh",
    "/run",
    "/sys",
    "/var/lib/cordon",
    "/var/run",
];

/// What one user's sessions may never be granted.
#[derive(Clone, Debug)]
pub struct Protected {
    homes: Vec<PathBuf>,
    own: Vec<PathBuf>,
}

/// Why a path may not be granted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Protection {
    /// It is `/`.
    Root,
    /// It is the home directory or contains it.
    Home,
    /// It is, lies in, or contains this protected path.
    Path(PathBuf),
    /// It is, lies in, or contains a directory of Cordon's own (its log above all).
    Own(PathBuf),
}

impl Protected {
    /// For a user's homes (what `HOME` says may not be what the system says; both count) and the
    /// directories of Cordon itself. Paths are resolved where they exist, so that a symlinked
    /// home or state directory protects its target.
    pub fn new(homes: &[&Path], own: &[PathBuf]) -> Self {
        let resolve = |path: &Path| path.canonicalize().unwrap_or_else(|_absent| path.into());
        // Nearly always one home by two ways.
        let homes: BTreeSet<PathBuf> = homes.iter().map(|path| resolve(path)).collect();
        Self {
            homes: homes.into_iter().collect(),
            own: own.iter().map(|path| resolve(path)).collect(),
        }
    }

    /// Why the canonical `path` may not be granted; `None` when nothing stands against it.
    pub fn check(&self, path: &Path) -> Option<Protection> {
        if path == Path::new("/") {
            return Some(Protection::Root);
        }
        if self.homes.iter().any(|home| home.starts_with(path)) {
            return Some(Protection::Home);
        }
        if let Some(own) = self.check_own(path) {
            return Some(own);
        }
        let below = |home: &PathBuf| IN_HOME.map(|relative| home.join(relative));
        let in_home = self.homes.iter().flat_map(below);
        let of_system = OF_SYSTEM.iter().map(PathBuf::from);
        in_home
            .chain(of_system)
            // Both the path as spelled and what it resolves to, should it be a symlink.
            .flat_map(|path| resolved(&path).into_iter().chain([path]))
            .find(|protected| touches(path, protected))
            .map(Protection::Path)
    }

    /// Only Cordon's own directories: the check that even a profile's grants must pass (A01).
    pub fn check_own(&self, path: &Path) -> Option<Protection> {
        self.own
            .iter()
            .find(|own| touches(path, own))
            .cloned()
            .map(Protection::Own)
    }
}

impl Protection {
    /// Why, in words.
    pub fn why(&self) -> String {
        match self {
            Self::Root => "`/` is never granted".into(),
            Self::Home => "the home directory, or what contains it, is never granted".into(),
            Self::Path(path) => format!(
                "it is, lies in, or contains `{}`, which is protected",
                path.display()
            ),
            Self::Own(path) => format!(
                "it is, lies in, or contains `{}`, which is Cordon's own",
                path.display()
            ),
        }
    }
}

/// `None` where there is nothing, which is the rule here: one look tells that, and resolving looks
/// at every folder on the way.
fn resolved(path: &Path) -> Option<PathBuf> {
    path.symlink_metadata().ok()?;
    path.canonicalize().ok()
}

fn touches(path: &Path, protected: &Path) -> bool {
    path.starts_with(protected) || protected.starts_with(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protected() -> Protected {
        Protected {
            homes: vec!["/home/u".into(), "/var/lib/u".into()],
            own: vec![
                "/home/u/.local/state/cordon".into(),
                "/run/user/7/cordon".into(),
            ],
        }
    }

    #[test]
    fn f16_protected_folders_are_refused_both_ways_round() {
        let refused = [
            "/",
            "/home",
            "/home/u",
            "/var/lib",
            "/var/lib/u/.aws",
            "/home/u/.ssh",
            "/home/u/.ssh/keys",
            "/home/u/.config",
            "/home/u/.config/gh",
            "/home/u/.claude/projects",
            "/home/u/.bashrc",
            "/etc",
            "/etc/ssl",
            "/proc/1",
            "/dev/shm",
            "/run/user/7",
            "/home/u/.local",
            "/home/u/.local/state/cordon/log",
        ];
        for path in refused {
            assert!(protected().check(Path::new(path)).is_some(), "{path}");
        }
    }

    #[test]
    fn ordinary_folders_are_not_in_the_way() {
        let free = [
            "/home/u/project",
            "/home/u/project/.claude",
            "/home/u/.sshx",
            "/home/other/project",
            "/srv/data",
            "/tmp/x",
            "/home/u/.config/nvim",
        ];
        for path in free {
            assert_eq!(protected().check(Path::new(path)), None, "{path}");
        }
    }

    #[test]
    fn a01_no_grant_contains_the_log() {
        for path in [
            "/home/u/.local/state",
            "/home/u/.local/state/cordon/log/journal",
        ] {
            let own = protected().check_own(Path::new(path));
            assert!(matches!(own, Some(Protection::Own(_))), "{path}");
        }
        assert_eq!(protected().check_own(Path::new("/home/u/project")), None);
    }
}
