//! Files that the session has a private copy of, and giving back what was written to them.

use std::{
    io::{self, Read},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use cordon_sandbox::{adapter::Sandbox, plan::MadeFile};
use cordon_session::agents::{CopiedFile, GivenBack, ProfileMode, ResolvedAgent};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::{control::Opened, error::Failure};

/// The copies of one session.
#[derive(Debug)]
pub struct Copies(Vec<Copy>);

#[derive(Debug)]
struct Copy {
    inside: PathBuf,
    file: CopiedFile,
    goes_back: bool,
}

/// The copies that go back, with the folders of the session that they lie in held open: those
/// outlive the session's processes as long as they are held.
#[derive(Debug)]
pub struct HeldCopies(Vec<(Copy, OwnedFd)>);

impl Copies {
    /// Reads the files that the agent's profile wants as copies and that were granted.
    ///
    /// # Errors
    /// When one cannot be read, or is not an ordinary file any more.
    pub fn of(
        agent: Option<&ResolvedAgent>,
        opened: &Opened,
        home: &Path,
    ) -> Result<Self, Failure> {
        let mut copies = Vec::new();
        for grant in &opened.grants {
            let mode = agent.and_then(|agent| super::profile_mode(agent, home, grant));
            let goes_back = match mode {
                Some(ProfileMode::Copy) => false,
                Some(ProfileMode::CopyBack) => true,
                Some(ProfileMode::Ro | ProfileMode::Rw) | None => continue,
            };
            let file = CopiedFile::take(&grant.path)?;
            copies.push(Copy {
                inside: grant.inside.clone(),
                file,
                goes_back,
            });
        }
        Ok(Self(copies))
    }

    /// Whether something is shown as a copy.
    pub fn contains(&self, inside: &Path) -> bool {
        self.0.iter().any(|copy| copy.inside == inside)
    }

    /// The copies as files of the sandbox.
    pub fn files(&self) -> Vec<MadeFile> {
        let file = |copy: &Copy| MadeFile {
            target: copy.inside.clone(),
            bytes: copy.file.contents().to_vec(),
            mode: copy.file.mode_bits(),
        };
        self.0.iter().map(file).collect()
    }

    /// Before the command runs: holds the folders that the copies which go back lie in, as the
    /// session's first process sees them.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn hold(self, sandbox: &dyn Sandbox) -> Result<HeldCopies, Failure> {
        let mut held = Vec::new();
        for copy in self.0.into_iter().filter(|copy| copy.goes_back) {
            let folder = copy.inside.parent().unwrap_or(Path::new("/"));
            let folder = sandbox.open_folder(folder)?;
            held.push((copy, folder));
        }
        Ok(HeldCopies(held))
    }
}

impl HeldCopies {
    /// After the command: what was written goes back, unless the host's file changed meanwhile.
    /// Says what could not be done; the session is over either way.
    pub fn give_back(self) {
        for (copy, folder) in self.0 {
            let name = copy
                .inside
                .file_name()
                .map(PathBuf::from)
                .unwrap_or_default();
            let shown = copy.inside.display().to_string();
            let after = match read(&folder, &name) {
                Ok(after) => after,
                // Removed inside: the host keeps what it has.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    eprintln!("cordon: `{shown}` was not given back: {error}");
                    continue;
                }
            };
            match copy.file.give_back(&after) {
                Ok(GivenBack::Unchanged | GivenBack::Written) => {}
                Ok(GivenBack::HostChanged) => eprintln!(
                    "cordon: `{shown}` was not given back: the host's file changed meanwhile"
                ),
                Err(error) => eprintln!("cordon: `{shown}` was not given back: {error}"),
            }
        }
    }
}

/// The regular file `name` in `folder`, no link followed, bounded.
fn read(folder: &OwnedFd, name: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let file = openat2(folder, name, flags, Mode::empty(), resolve)?;
    let file = std::fs::File::from(file);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "not an ordinary file any more",
        ));
    }
    let mut bytes = Vec::new();
    file.take(CopiedFile::LIMIT_BYTES + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}
