//! Where Cordon keeps its things, by the XDG base directory specification: state and log, the
//! control socket, configuration. All 0700/0600, none ever inside a grant.

use std::{
    ffi::OsString,
    fs::{DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use thiserror::Error;

/// The directories of one user's Cordon.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Paths {
    /// The user's home directory.
    pub home: PathBuf,
    /// `$XDG_DATA_HOME/cordon`: content of extensions.
    data: PathBuf,
    /// `$XDG_STATE_HOME/cordon`: the log, and the daemon's own messages.
    pub state: PathBuf,
    /// `$XDG_RUNTIME_DIR/cordon`: the control socket.
    pub runtime: PathBuf,
    /// `$XDG_CONFIG_HOME/cordon`.
    pub config: PathBuf,
    /// Configuration that was named, instead of the one in `config`.
    pub config_file: Option<PathBuf>,
    /// Whether that is the only one that is read.
    pub config_alone: bool,
}

/// Why there is no place to keep things.
#[derive(Debug, Error)]
pub enum PathsError {
    /// `HOME` is not set to an absolute path.
    #[error("`HOME` is not set to an absolute path, so there is no place for the log")]
    NoHome,
    /// A directory could not be made.
    #[error("directory `{path}` could not be made", path = path.display())]
    NotMade {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A directory belongs to another user, or others may enter it.
    #[error("directory `{path}` belongs to another user or is open to others", path = path.display())]
    NotPrivate {
        /// Which.
        path: PathBuf,
    },
}

/// The system-wide configuration file.
pub const SYSTEM_CONFIG: &str = "/etc/cordon/cordon.toml";

impl Paths {
    /// From an environment: `HOME` and the XDG variables, empty or relative ones ignored as the
    /// specification asks.
    ///
    /// # Errors
    /// [`PathsError::NoHome`].
    pub fn from_env(env: impl Fn(&str) -> Option<OsString>) -> Result<Self, PathsError> {
        let absolute = |name: &str| {
            env(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let home = absolute("HOME").ok_or(PathsError::NoHome)?;
        let state = absolute("XDG_STATE_HOME")
            .unwrap_or_else(|| home.join(".local/state"))
            .join("cordon");
        // Without a runtime directory (su, cron, a container) the state directory serves: as
        // private, only not emptied at logout. So does it where both variables name one folder: each
        // of our directories has a lock of its own, and a daemon that starts holds one while its
        // launcher holds the other.
        let runtime = absolute("XDG_RUNTIME_DIR")
            .filter(|path| path.is_dir() && !is_same(&path.join("cordon"), &state))
            .map_or_else(|| state.join("run"), |path| path.join("cordon"));
        let config = absolute("XDG_CONFIG_HOME")
            .unwrap_or_else(|| home.join(".config"))
            .join("cordon");
        let data = absolute("XDG_DATA_HOME")
            .unwrap_or_else(|| home.join(".local/share"))
            .join("cordon");
        Ok(Self {
            home,
            data,
            state,
            runtime,
            config,
            config_file: None,
            config_alone: false,
        })
    }

    /// Makes the state and runtime directories, 0700, and checks that they are the user's alone.
    ///
    /// # Errors
    /// [`PathsError`].
    pub fn make(&self) -> Result<(), PathsError> {
        make_private(&self.state)?;
        make_private(&self.runtime)
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.runtime.join("control.sock")
    }

    /// The decision API's socket.
    pub fn api_socket(&self) -> PathBuf {
        self.runtime.join("api.sock")
    }

    /// Taken while a launcher starts a daemon, so that two do not.
    ///
    /// # Errors
    /// As [`Paths::lock_daemon`].
    pub fn lock_start(&self) -> io::Result<File> {
        lock(&self.runtime)
    }

    /// Taken by a daemon as long as it lives. Waits until it is free; given back with the file.
    ///
    /// # Errors
    /// When the directory cannot be opened.
    pub fn lock_daemon(&self) -> io::Result<File> {
        lock(&self.state)
    }

    /// The log's directory.
    pub fn log(&self) -> PathBuf {
        self.state.join("log")
    }

    /// What was kept of files that a session removed, replaced or wrote.
    pub fn kept(&self, session: &str) -> PathBuf {
        self.state.join("kept").join(session)
    }

    /// What is in force, and the bundles that are kept.
    pub fn policies(&self) -> PathBuf {
        self.state.join("policy")
    }

    /// Records of installed extensions.
    pub fn extensions(&self) -> PathBuf {
        self.state.join("extensions")
    }

    /// Content of installed extensions: not among what no session may be granted, because their
    /// servers are granted it.
    pub fn extension_content(&self) -> PathBuf {
        self.data.join("extensions")
    }

    /// What tool servers said of their tools, by server.
    pub fn mcp(&self) -> PathBuf {
        self.state.join("mcp")
    }

    /// Where each running session is described, for tools.
    pub fn sessions(&self) -> PathBuf {
        self.state.join("sessions")
    }

    /// What the commands of sessions said that the API started, by session.
    pub fn output(&self) -> PathBuf {
        self.state.join("output")
    }

    /// What is kept of sessions that runtimes hold.
    pub fn hosted(&self) -> PathBuf {
        self.state.join("hosted")
    }

    /// Sessions of agents that ask by a hook, and that somebody ended.
    pub fn ended_hooks(&self) -> PathBuf {
        self.state.join("ended-hooks")
    }

    /// The daemon's own messages (not decisions: those are in the log).
    pub fn messages(&self) -> PathBuf {
        self.state.join("daemon.log")
    }

    /// Configuration files, later ones over earlier ones.
    pub fn config_files(&self) -> Vec<PathBuf> {
        let own = || self.config.join("cordon.toml");
        let named = self.config_file.clone().unwrap_or_else(own);
        if self.config_alone {
            return vec![named];
        }
        vec![SYSTEM_CONFIG.into(), named]
    }

    /// What is remembered of the last check of the walls.
    pub fn boundary(&self) -> PathBuf {
        self.state.join("boundary")
    }

    /// Cordon's own directories, never inside a grant nor around one.
    pub fn own(&self) -> Vec<PathBuf> {
        vec![
            self.state.clone(),
            self.runtime.clone(),
            self.config.clone(),
        ]
    }
}

/// Whether both are one directory, by whatever links; also before it is made.
fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| {
        let parent = path.parent().and_then(|parent| parent.canonicalize().ok());
        let made = parent.and_then(|parent| path.file_name().map(|name| parent.join(name)));
        path.canonicalize().ok().or(made)
    };
    one == other || real(one).is_some_and(|one| Some(one) == real(other))
}

/// The lock is on the directory itself, so that no file is left behind.
fn lock(directory: &Path) -> io::Result<File> {
    let directory = File::open(directory)?;
    flock(&directory, FlockOperation::LockExclusive)?;
    Ok(directory)
}

fn make_private(path: &Path) -> Result<(), PathsError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| PathsError::NotMade {
            path: path.into(),
            source,
        })?;
    let meta = path
        .symlink_metadata()
        .map_err(|source| PathsError::NotMade {
            path: path.into(),
            source,
        })?;
    let mine = meta.uid() == rustix::process::geteuid().as_raw();
    if meta.is_dir() && mine && meta.mode().trailing_zeros() >= 6 {
        Ok(())
    } else {
        Err(PathsError::NotPrivate { path: path.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_follow_the_xdg_variables() {
        let env = |name: &str| match name {
            "HOME" => Some("/home/u".into()),
            "XDG_STATE_HOME" => Some("/s".into()),
            "XDG_CONFIG_HOME" => Some("relative".into()),
            _other => None,
        };
        let paths = Paths::from_env(env).unwrap();
        assert_eq!(paths.state, Path::new("/s/cordon"));
        assert_eq!(paths.runtime, Path::new("/s/cordon/run"));
        assert_eq!(paths.config, Path::new("/home/u/.config/cordon"));
        assert!(matches!(Paths::from_env(|_| None), Err(PathsError::NoHome)));
    }

    #[test]
    fn the_two_locks_are_of_two_directories() {
        let dir = tempfile::tempdir().unwrap();
        let [folder, link] = ["folder", "link"].map(|name| dir.path().join(name));
        let apart = dir.path().join("apart");
        std::fs::create_dir(&folder).unwrap();
        std::fs::create_dir(&apart).unwrap();
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        let run = folder.join("cordon/run");
        for (runtime, expected) in [
            (&folder, &run),
            (&link, &run),
            (&apart, &apart.join("cordon")),
        ] {
            let paths = Paths::from_env(|name| match name {
                "HOME" => Some("/home/u".into()),
                "XDG_STATE_HOME" => Some(folder.clone().into()),
                "XDG_RUNTIME_DIR" => Some(runtime.into()),
                _other => None,
            });
            let paths = paths.unwrap();
            assert_eq!(&paths.runtime, expected);
            // Before the directories are there and after, and both are held at once.
            paths.make().unwrap();
            let _starting = paths.lock_start().unwrap();
            let held = flock(
                File::open(&paths.state).unwrap(),
                FlockOperation::NonBlockingLockExclusive,
            );
            assert_eq!(held, Ok(()));
        }
    }

    #[test]
    fn a_directory_that_others_may_enter_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cordon");
        make_private(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o750)).unwrap();
        assert!(matches!(
            make_private(&path),
            Err(PathsError::NotPrivate { .. })
        ));
    }
}
