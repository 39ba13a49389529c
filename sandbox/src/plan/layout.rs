//! The host's system directories: which exist, which are links, what of `/etc` is safe to show.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rustix::process::geteuid;

use crate::owners::is_host_root;

/// What of the host's system every session sees, read only.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HostLayout {
    /// `/usr`, `/bin`, `/lib64` and their like.
    pub system: Vec<SystemDirectory>,
    /// Existing paths below `/etc` that hold no secret and that programs need.
    pub etc: Vec<SystemDirectory>,
    /// Paths below `/proc` that hold settings of the kernel: mounted over read only, because the
    /// kernel lets its root write many of them without any capability. Of an ordinary user's
    /// session, only what namespaces of its own may set.
    pub kernel: Vec<PathBuf>,
}

/// One path that is shown as the host has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SystemDirectory {
    /// A real file or directory: mounted read only.
    Mount(PathBuf),
    /// A symbolic link into `/usr`: made anew.
    Link {
        /// Where the link is.
        at: PathBuf,
        /// What it says.
        to: PathBuf,
    },
    /// A small file: copied, since each mount makes bubblewrap read the table of all mounts again.
    Copy {
        /// Where it is.
        at: PathBuf,
        /// What was in it.
        bytes: Vec<u8>,
    },
}

impl HostLayout {
    /// Whether `path` lies in a directory of the host that is shown as it is.
    pub fn shows(&self, path: &Path) -> bool {
        self.system
            .iter()
            .chain(&self.etc)
            .any(|entry| match entry {
                SystemDirectory::Mount(shown) => path.starts_with(shown),
                SystemDirectory::Link { .. } | SystemDirectory::Copy { .. } => false,
            })
    }

    /// Whether `path` lies below a link of the host that the session has too.
    pub fn is_below_link(&self, path: &Path) -> bool {
        let mut entries = self.system.iter().chain(&self.etc);
        entries.any(|entry| match entry {
            SystemDirectory::Link { at, .. } => path.starts_with(at),
            SystemDirectory::Mount(_) | SystemDirectory::Copy { .. } => false,
        })
    }

    /// Looks at the host.
    ///
    /// # Errors
    /// When `/usr` or `/etc` cannot be read; everything else may be absent.
    pub fn read() -> io::Result<Self> {
        fs::metadata("/usr")?;
        let mut system = vec![SystemDirectory::Mount("/usr".into())];
        for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
            system.extend(system_directory(&Path::new("/").join(name)));
        }
        Ok(Self {
            system,
            etc: read_etc(Path::new("/etc"))?,
            // A session of the host's root is not root itself.
            kernel: if geteuid().is_root() && !is_host_root() {
                read_kernel(Path::new("/proc"))?
            } else {
                vec!["/proc/sys".into()]
            },
        })
    }
}

/// What of `/proc` is neither a process nor a link, and can be written or is a directory.
fn read_kernel(proc: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(proc)? {
        let entry = entry?;
        let name = entry.file_name();
        if name
            .to_string_lossy()
            .starts_with(|c: char| c.is_ascii_digit())
        {
            continue;
        }
        // What cannot be looked at is not there for the session either.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        let writable = metadata.permissions().mode() & 0o222 != 0;
        if metadata.is_dir() || (metadata.is_file() && writable) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn system_directory(path: &Path) -> Option<SystemDirectory> {
    let metadata = path.symlink_metadata().ok()?;
    if metadata.is_dir() {
        return Some(SystemDirectory::Mount(path.to_path_buf()));
    }
    let to = fs::read_link(path).ok()?;
    leads_into_usr(path, &to).then(|| SystemDirectory::Link {
        at: path.to_path_buf(),
        to,
    })
}

fn read_etc(etc: &Path) -> io::Result<Vec<SystemDirectory>> {
    let mut names: Vec<PathBuf> = SAFE_IN_ETC.iter().map(PathBuf::from).collect();
    for entry in fs::read_dir(etc)? {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        if SAFE_PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
            names.push(name.into());
        }
    }
    names.sort();
    Ok(names
        .iter()
        .filter_map(|name| etc_entry(&etc.join(name)))
        .collect())
}

/// A link into `/usr` stays a link; anything else is shown only if every user may read it, so
/// that starting as root shows no more than starting as anyone.
fn etc_entry(path: &Path) -> Option<SystemDirectory> {
    if let Ok(to) = fs::read_link(path)
        && leads_into_usr(path, &to)
    {
        return Some(SystemDirectory::Link {
            at: path.to_path_buf(),
            to,
        });
    }
    let metadata = fs::metadata(path).ok()?;
    let at = path.to_path_buf();
    let mode = metadata.permissions().mode();
    if metadata.is_dir() {
        return (mode & 0o005 == 0o005).then_some(SystemDirectory::Mount(at));
    }
    if !metadata.is_file() || mode & 0o004 == 0 {
        return None;
    }
    if metadata.len() > COPIED_BYTES {
        return Some(SystemDirectory::Mount(at));
    }
    let bytes = fs::read(path).ok()?;
    Some(SystemDirectory::Copy { at, bytes })
}

/// Whether a link at `at` that says `to` ends below `/usr`, by its words alone.
fn leads_into_usr(at: &Path, to: &Path) -> bool {
    let mut end = PathBuf::new();
    let whole = at.parent().unwrap_or(Path::new("/")).join(to);
    for part in whole.components() {
        if part == std::path::Component::ParentDir {
            end.pop();
        } else {
            end.push(part);
        }
    }
    end.starts_with("/usr")
}

/// What programs read in `/etc` and what holds no secret anywhere. Left out on purpose: `profile`,
/// `environment`, `gitconfig`, `npmrc`, `pip.conf` and the like, where tokens are kept, every
/// private key directory, and `machine-id`.
const SAFE_IN_ETC: [&str; 32] = [
    "alternatives",
    "ca-certificates.conf",
    // Flags that its start script reads.
    "chromium.d",
    "crypto-policies",
    "debian_version",
    "fonts",
    "gai.conf",
    "host.conf",
    "inputrc",
    "ld.so.cache",
    "locale.alias",
    "locale.conf",
    "localtime",
    "lsb-release",
    "magic",
    "magic.mime",
    "mime.types",
    "nanorc",
    "os-release",
    "papersize",
    "pki/ca-trust/extracted",
    "pki/tls/cert.pem",
    "pki/tls/certs",
    "protocols",
    "rpc",
    "services",
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/openssl.cnf",
    "timezone",
    "vim",
    "xattr.conf",
];

/// Names that carry a version.
const SAFE_PREFIXES: [&str; 1] = ["java-"];

/// Files up to this size are copied.
const COPIED_BYTES: u64 = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_by_words() {
        for (at, to, expected) in [
            ("/bin", "usr/bin", true),
            ("/bin", "/usr/bin", true),
            ("/etc/os-release", "../usr/lib/os-release", true),
            ("/etc/localtime", "/usr/../etc/shadow", false),
            ("/etc/x", "passwd", false),
            ("/lib", "/opt/lib", false),
        ] {
            assert_eq!(
                leads_into_usr(Path::new(at), Path::new(to)),
                expected,
                "{at} -> {to}"
            );
        }
    }

    #[test]
    fn f17_nothing_secret_of_etc_is_shown() {
        let layout = HostLayout::read().unwrap();
        let shown: Vec<&Path> = layout
            .etc
            .iter()
            .map(|entry| match entry {
                SystemDirectory::Mount(at)
                | SystemDirectory::Link { at, .. }
                | SystemDirectory::Copy { at, .. } => at.as_path(),
            })
            .collect();
        for secret in [
            "shadow",
            "passwd",
            "ssh",
            "ssl",
            "ssl/private",
            "machine-id",
            "sudoers",
        ] {
            let path = Path::new("/etc").join(secret);
            assert!(!shown.contains(&path.as_path()), "{path:?}");
        }
        assert!(shown.contains(&Path::new("/etc/ld.so.cache")), "{shown:?}");
    }
}
