//! Looks at what a held call names, before anything is decided about it.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::{
    Stop,
    call::Asked,
    create::Source,
    resolve::{Place, resolve},
    task::Task,
};

/// The places that a call is about.
pub(super) struct Looked {
    pub(super) place: Place,
    /// The other end of a rename.
    pub(super) onto: Option<Place>,
    /// What gets one more name.
    pub(super) source: Option<Source>,
    /// What a symbolic link is to say.
    pub(super) text: Vec<u8>,
}

impl Looked {
    /// Resolves all that `asked` names, as the thread sees it.
    pub(super) fn at(asked: &Asked, task: &Task, own_fds: &OwnedFd) -> Result<Self, Stop> {
        let resolved = |path| resolve(task, own_fds, path);
        let mut looked = match asked {
            Asked::Remove { path, .. }
            | Asked::MakeDirectory { path, .. }
            | Asked::MakeNode { path, .. }
            | Asked::Symlink { path, .. } => Self::alone(resolved(path)?),
            Asked::Open { path, .. } | Asked::Truncate { path, .. } => {
                Self::alone(resolved(path).map_err(root_is_directory)?)
            }
            Asked::Rename { from, .. } => Self::alone(resolved(from)?),
            Asked::Link { to, .. } => Self::alone(resolved(to)?),
            Asked::Umask | Asked::Socket(_) => return Err(Stop::blind()),
        };
        match asked {
            Asked::Rename { to, .. } => looked.onto = Some(resolved(to)?),
            Asked::Symlink { text, .. } => looked.text = task.text(*text)?,
            Asked::Link { from, flags, .. } => {
                looked.source = Some(Source::find(task, own_fds, from, *flags)?);
            }
            _ => {}
        }
        Ok(looked)
    }

    fn alone(place: Place) -> Self {
        Self {
            place,
            onto: None,
            source: None,
            text: Vec::new(),
        }
    }
}

/// `/` is there, and is no file.
fn root_is_directory(stop: Stop) -> Stop {
    match stop {
        Stop::Errno(Errno::BUSY) => Errno::ISDIR.into(),
        other => other,
    }
}
