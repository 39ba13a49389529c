//! Starting the example as someone, and looking at what came of it.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
};

/// Who starts the launcher.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Who {
    /// Whoever runs the tests.
    Us,
    /// A user that owns nothing; only root can become it.
    Ordinary,
}

/// A user id that no machine has given to anyone.
pub const ORDINARY: u32 = 54_321;

pub fn everyone() -> Vec<Who> {
    if rustix::process::getuid().is_root() {
        vec![Who::Us, Who::Ordinary]
    } else {
        vec![Who::Us]
    }
}

impl Who {
    pub fn uid(self) -> u32 {
        match self {
            Self::Us => rustix::process::getuid().as_raw(),
            Self::Ordinary => ORDINARY,
        }
    }

    /// As whom the command runs: root's as nobody that there is on the host.
    pub fn uid_inside(self) -> u32 {
        match self.uid() {
            0 => 2_000_200_000,
            other => other,
        }
    }

    pub fn command(self, program: impl Into<PathBuf>) -> Command {
        let mut command = Command::new(program.into());
        command.current_dir("/").stdin(Stdio::null());
        if self == Self::Ordinary {
            command.uid(ORDINARY).gid(ORDINARY);
        }
        command
    }

    /// The launcher, with its options and the command.
    pub fn walls<'a>(self, words: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = self.command(program());
        command.args(words);
        command
    }

    /// Runs `script` by a shell inside.
    pub fn inside(self, script: &str) -> Output {
        self.walls(["--", "sh", "-c", script]).output().unwrap()
    }

    /// A folder of this user's own.
    pub fn folder(self) -> tempfile::TempDir {
        let folder = tempfile::Builder::new()
            .prefix("cordon-launch-")
            .tempdir_in("/tmp")
            .unwrap();
        if self == Self::Ordinary {
            std::os::unix::fs::chown(folder.path(), Some(ORDINARY), Some(ORDINARY)).unwrap();
        }
        folder
    }
}

/// The example, copied to where every user can run it. Gone when the tests end, however they do.
pub fn program() -> PathBuf {
    static COPY: OnceLock<(PathBuf, Child)> = OnceLock::new();
    COPY.get_or_init(|| {
        let this = std::env::current_exe().unwrap();
        let built = this
            .parent()
            .and_then(|deps| deps.parent())
            .unwrap()
            .join("examples/walls");
        assert!(
            built.exists(),
            "run all of `cargo test -p cordon-sandbox`: it builds {built:?}"
        );
        let folder = tempfile::Builder::new()
            .prefix("cordon-walls-")
            .tempdir()
            .unwrap()
            .keep();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        let copy = folder.join("walls");
        // By another process: what a descriptor that a fork inherited could write cannot be run.
        let copied = Command::new("cp").arg(built).arg(&copy).status().unwrap();
        assert!(copied.success());
        // Its input ends with this process.
        let mut remover = Command::new("/bin/sh");
        remover.args(["-c", "cat; rm -r \"$0\""]).arg(&folder);
        (copy, remover.stdin(Stdio::piped()).spawn().unwrap())
    })
    .0
    .clone()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn stdout(output: &Output) -> String {
    text(&output.stdout)
}
