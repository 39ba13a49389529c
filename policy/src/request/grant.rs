//! What a granted folder is called inside a session: a path and a name in, the operation out. Never
//! looks at files.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
};

use crate::{GrantMode, GrantSource, Operation};

impl Operation {
    /// Puts `path` into the session, where its last component is `name`. A name that is the path's
    /// own goes without saying, so that one grant is one question.
    pub fn grant(path: PathBuf, mode: GrantMode, source: GrantSource, name: &str) -> Self {
        let name = (own_name(&path) != name).then(|| name.to_owned());
        Self::GrantFolder {
            path,
            mode,
            source,
            name,
        }
    }
}

/// The path's last component, `/` for the root.
pub(crate) fn own_name(path: &Path) -> Cow<'_, str> {
    path.file_name()
        .map_or(Cow::Borrowed("/"), |name| name.to_string_lossy())
}
