//! What a session sees, as data, and the bubblewrap arguments that build it.
//!
//! [`SandboxPlan`] in, argument vector out. Pure: the host is looked at by [`HostLayout::read`]
//! and [`Identity::of`] only, before the plan is made.

mod arguments;
mod etc;
mod layout;

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Component, Path, PathBuf},
};

use cordon_policy::{SeccompProfile, Wall};
use thiserror::Error;

use crate::limits::Limits;
pub(crate) use arguments::{PlanDescriptors, bubblewrap_arguments};
pub(crate) use etc::{Etc, made_up_files};
pub use layout::{HostLayout, SystemDirectory};

/// Everything that decides what a session's processes see and how the first one starts.
#[derive(Clone, Debug)]
pub struct SandboxPlan {
    /// The session's id: `a-z`, `0-9` and `-`, at most 64. Names its directory.
    pub session: String,
    /// The user inside: the one who started us, so that files made through a grant are theirs.
    pub user: User,
    /// The host name inside.
    pub host_name: String,
    /// Our own binary, shown read-only at [`INIT_PROGRAM`] and started there as process 1.
    pub init_program: PathBuf,
    /// The host's system directories.
    pub layout: HostLayout,
    /// Grants and whatever else of the host is shown. Order does not matter.
    pub mounts: Vec<Mount>,
    /// Files written for this session, beside the made-up part of `/etc`.
    pub files: Vec<MadeFile>,
    /// How much the session's own file systems hold.
    pub sizes: Sizes,
    /// What it may use.
    pub limits: Limits,
    /// What runs.
    pub command: Command,
    /// Which system calls the session may make.
    pub profile: SeccompProfile,
    /// Whether removals go through the guard (a grant in mode `rw` is present).
    pub guard: bool,
    /// Walls that policy or configuration asks for, whether the rest of the plan needs them or not.
    pub walls: BTreeSet<Wall>,
}

/// The user as the session sees them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct User {
    /// User id, the same inside and outside. Started by root: one of the session's own.
    pub uid: u32,
    /// Group id, the same inside and outside.
    pub gid: u32,
    /// Login name for the made-up `passwd`.
    pub name: String,
}

/// A file or directory of the host, shown inside.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mount {
    /// Where it is outside: absolute, no symbolic links.
    pub source: PathBuf,
    /// Where it appears inside.
    pub target: PathBuf,
    /// Whether it can be written.
    pub access: Access,
    /// What was decided about. The first process refuses to start when something else is there.
    pub identity: Identity,
}

/// Whether a mount can be written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// Read only.
    ReadOnly,
    /// Read and write; what may be removed is the guard's business.
    ReadWrite,
}

/// Which file or directory it is, whatever its name is now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Identity {
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
}

impl Identity {
    /// The identity of what `path` names now, symbolic links not followed.
    ///
    /// # Errors
    /// What `lstat` says.
    pub fn of(path: &Path) -> io::Result<Self> {
        let metadata = path.symlink_metadata()?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

/// A file whose contents we bring.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MadeFile {
    /// Where it appears inside. Below the session's directory it is the session's own to change,
    /// elsewhere it is read only.
    pub target: PathBuf,
    /// What is in it.
    pub bytes: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
}

/// Sizes of the session's own file systems, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sizes {
    /// The session's directory, its home.
    pub home: u64,
    /// `/tmp`.
    pub tmp: u64,
    /// `/dev/shm`.
    pub shm: u64,
}

impl Sizes {
    /// With `/tmp` of this size, and nothing larger.
    pub fn within(tmp: u64) -> Self {
        let usual = Self::default();
        Self {
            home: usual.home.min(tmp),
            tmp,
            shm: usual.shm.min(tmp),
        }
    }
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            home: 1 << 30,
            tmp: 4 << 30,
            shm: 1 << 30,
        }
    }
}

/// What runs in the session.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Command {
    /// Program and arguments. A program without `/` is looked up in the `PATH` of `environment`,
    /// inside.
    pub arguments: Vec<OsString>,
    /// The whole environment; nothing is inherited.
    pub environment: Vec<(OsString, OsString)>,
    /// Working directory inside.
    pub directory: PathBuf,
}

/// Where our binary is inside. Its name is what it is dispatched by.
pub const INIT_PROGRAM: &str = "/.cordon/cordon-init";

impl SandboxPlan {
    /// The session's directory inside, which is also its home.
    pub fn home(&self) -> PathBuf {
        Path::new("/sessions").join(&self.session)
    }

    /// Checks what the types cannot.
    ///
    /// # Errors
    /// [`PlanError`] names what cannot be built as asked. Nothing is dropped silently.
    pub fn check(&self) -> Result<(), PlanError> {
        check_name("session id", &self.session)?;
        check_name("host name", &self.host_name)?;
        check_user(&self.user)?;
        if self.command.arguments.is_empty() {
            return Err(PlanError::NoCommand);
        }
        let words = self.command.arguments.iter();
        let environment = self.command.environment.iter();
        let texts = words.chain(environment.flat_map(|(name, value)| [name, value]));
        for text in texts {
            if text.as_bytes().contains(&0) {
                return Err(PlanError::Nul(text.clone()));
            }
        }
        for mount in &self.mounts {
            check_path(&mount.source)?;
            self.check_target(&mount.target)?;
        }
        for file in &self.files {
            self.check_target(&file.target)?;
            self.check_not_in_a_mount(&file.target)?;
        }
        self.check_unique()?;
        check_path(&self.command.directory)
    }

    /// A target must not hide what the sandbox itself brings.
    fn check_target(&self, target: &Path) -> Result<(), PlanError> {
        check_path(target)?;
        let home = self.home();
        let whole = [
            Path::new("/"),
            Path::new("/etc"),
            Path::new("/usr"),
            Path::new("/tmp"),
        ];
        let hides = RESERVED.iter().any(|reserved| target.starts_with(reserved))
            || whole.contains(&target)
            || home.starts_with(target)
            || etc::MADE_UP
                .iter()
                .any(|name| target == Path::new("/etc").join(name));
        if hides {
            return Err(PlanError::ReservedTarget(target.to_path_buf()));
        }
        Ok(())
    }

    /// Written below a mount, a made file would land in the user's own folder.
    fn check_not_in_a_mount(&self, target: &Path) -> Result<(), PlanError> {
        match self
            .mounts
            .iter()
            .find(|mount| target.starts_with(&mount.target))
        {
            Some(mount) => Err(PlanError::FileInMount {
                file: target.to_path_buf(),
                mount: mount.target.clone(),
            }),
            None => Ok(()),
        }
    }

    fn check_unique(&self) -> Result<(), PlanError> {
        let mounts = self.mounts.iter().map(|mount| &mount.target);
        let mut targets: Vec<&PathBuf> = mounts
            .chain(self.files.iter().map(|file| &file.target))
            .collect();
        targets.sort();
        match targets
            .windows(2)
            .find(|pair| pair.first() == pair.last())
            .and_then(<[_]>::first)
        {
            Some(twice) => Err(PlanError::TargetTwice((*twice).clone())),
            None => Ok(()),
        }
    }
}

/// Why a plan cannot be built as asked.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum PlanError {
    /// An id or name that would not be one path component and one line.
    #[error(
        "sandbox not planned: {what} {value:?} is not 1-64 of `a-z`, `0-9`, `-`, `_`, `.`, starting with a letter or digit"
    )]
    BadName {
        /// Which name.
        what: &'static str,
        /// What was given.
        value: String,
    },
    /// No command.
    #[error("sandbox not planned: there is no command to run")]
    NoCommand,
    /// A NUL byte where the kernel ends the string.
    #[error(
        "sandbox not planned: {0:?} contains a NUL byte, which no argument or variable can carry"
    )]
    Nul(OsString),
    /// Not absolute, or with `..` or a NUL in it.
    #[error("sandbox not planned: path {0:?} is not absolute and free of `..`")]
    BadPath(PathBuf),
    /// It would hide a part of the sandbox.
    #[error(
        "sandbox not planned: nothing can be mounted at {0:?}, the sandbox's own files are there"
    )]
    ReservedTarget(PathBuf),
    /// Two things at one place.
    #[error("sandbox not planned: two mounts or files have the target {0:?}")]
    TargetTwice(PathBuf),
    /// The file would be written through the mount.
    #[error(
        "sandbox not planned: file {file:?} would be written into what is mounted at {mount:?}"
    )]
    FileInMount {
        /// The made file's target.
        file: PathBuf,
        /// The mount above it.
        mount: PathBuf,
    },
}

fn check_name(what: &'static str, value: &str) -> Result<(), PlanError> {
    let starts_well = value.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    if starts_well && value.len() <= 64 && value.bytes().all(allowed) {
        return Ok(());
    }
    Err(PlanError::BadName {
        what,
        value: value.chars().take(100).collect(),
    })
}

/// The name stands in a `passwd` line. Login names of directories may have capitals and `\`.
fn check_user(user: &User) -> Result<(), PlanError> {
    let fits = |c: char| !c.is_control() && c != ':' && c != '/';
    if !user.name.is_empty() && user.name.len() <= 256 && user.name.chars().all(fits) {
        return Ok(());
    }
    Err(PlanError::BadName {
        what: "user name",
        value: user.name.chars().take(100).collect(),
    })
}

fn check_path(path: &Path) -> Result<(), PlanError> {
    let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    if path.is_absolute()
        && path.components().all(plain)
        && !path.as_os_str().as_bytes().contains(&0)
    {
        return Ok(());
    }
    Err(PlanError::BadPath(path.to_path_buf()))
}

/// Directories that are the sandbox's own, whole.
const RESERVED: [&str; 5] = ["/proc", "/dev", "/sys", "/.cordon", "/run"];

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::plan as example;
