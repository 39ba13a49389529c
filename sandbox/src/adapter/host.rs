//! What this host has of what walls are made of. Looks, and tries in children; changes nothing.

use std::{fs, io, path::Path, process::Command};

use crate::{launch::BUBBLEWRAP_PATHS, sys::landlock};

/// The oldest bubblewrap that will do: the first with `--disable-userns`.
pub const OLDEST_BUBBLEWRAP: &str = "0.8.0";

/// The installed bubblewrap.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Installed {
    /// Where it is.
    pub path: &'static str,
    /// What it says it is, for example `bubblewrap 0.8.0`.
    pub version: String,
}

impl Installed {
    /// The one that sessions use; `None` where none is at a trusted place.
    pub fn find() -> Option<Self> {
        let path = BUBBLEWRAP_PATHS
            .into_iter()
            .find(|path| Path::new(path).is_file())?;
        let output = Command::new(path).arg("--version").env_clear().output();
        let said = output.map(|output| output.stdout).unwrap_or_default();
        Some(Self {
            path,
            version: String::from_utf8_lossy(&said).trim().to_owned(),
        })
    }

    /// Whether it is before [`OLDEST_BUBBLEWRAP`]. What cannot be read is not called old.
    pub fn is_too_old(&self) -> bool {
        is_older(&self.version, OLDEST_BUBBLEWRAP)
    }

    /// Builds the smallest sandbox of the kind that sessions need, and says why it cannot.
    ///
    /// # Errors
    /// In bubblewrap's own words.
    pub fn try_it(&self) -> Result<(), String> {
        let output = Command::new(self.path)
            .args(["--unshare-all", "--unshare-user", "--disable-userns"])
            .args(["--die-with-parent", "--cap-drop", "ALL"])
            .args(["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"])
            .args(["--", "/bin/true"])
            .env_clear()
            .output()
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(if said.is_empty() {
            format!("it ended with {}", output.status)
        } else {
            said
        })
    }
}

/// Whether the version that ends `text` is before `oldest`, as numbers.
pub(crate) fn is_older(text: &str, oldest: &str) -> bool {
    let numbers = |text: &str| -> Option<Vec<u32>> {
        let number = text.rsplit(' ').next()?;
        number.split('.').map(|part| part.parse().ok()).collect()
    };
    match (numbers(text), numbers(oldest)) {
        (Some(found), Some(oldest)) => found < oldest,
        _ => false,
    }
}

/// The kernel's version of the Landlock interface, from 1.
///
/// # Errors
/// `ENOSYS` or `EOPNOTSUPP` where it has none, or it is not switched on.
pub fn landlock_version() -> io::Result<i64> {
    landlock::version()
}

/// What seccomp of this kernel lacks of what the filters and the guard answer with.
///
/// # Errors
/// When the kernel does not say, which means that it has none.
pub fn seccomp_lacks() -> io::Result<Vec<&'static str>> {
    let there = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail")?;
    let there: Vec<&str> = there.split_whitespace().collect();
    let needed = ["kill_process", "errno", "user_notif", "allow"];
    Ok(needed
        .into_iter()
        .filter(|action| !there.contains(action))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f15_this_machine_builds_the_smallest_sandbox_or_says_why() {
        let found = Installed::find().unwrap();
        assert!(!found.is_too_old(), "{found:?}");
        assert_eq!(found.try_it(), Ok(()));
        let broken = Installed {
            path: "/bin/false",
            version: "bubblewrap 0.4.1".into(),
        };
        assert!(broken.is_too_old());
        assert!(broken.try_it().unwrap_err().contains("exit status: 1"));
    }
}
