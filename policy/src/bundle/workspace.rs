//! The policy of the folder that is worked in: `.cordon/policy`.
//!
//! Whoever can write the folder writes it, the agent itself included, so it can only narrow: its
//! rules load in [`Layer::Workspace`], where a `permit` is an error and a host group of another
//! layer cannot be touched.

use std::path::{Path, PathBuf};

use super::{BundleError, error::Artefact, read::Beneath};
use crate::{
    Layer,
    source::{PolicyFile, PolicySource},
};

/// Where a workspace keeps its policy, below the folder.
pub const WORKSPACE_POLICY: &str = ".cordon/policy";

/// Most files, and most bytes of each: 64 KiB. A workspace adds a few rules.
const MAX_FILES: usize = 16;
const MAX_FILE_BYTES: u64 = 64 << 10;

/// Reads the policy of a workspace: `*.cedar` and `*.toml` right in `.cordon/policy`; `None` when
/// it has none. No symlink is followed, so that it cannot make us read, and show, another file.
///
/// # Errors
/// [`BundleError`] for a file that does not belong there, a symlink, and beyond the limits.
pub fn read_workspace(workspace: &Path) -> Result<Option<PolicySource>, BundleError> {
    let parts: Vec<&str> = WORKSPACE_POLICY.split('/').collect();
    let Some(folder) = Beneath::open(workspace, &parts)? else {
        return Ok(None);
    };
    let shown = workspace.join(WORKSPACE_POLICY);
    let names = folder.names(&shown)?;
    if names.len() > MAX_FILES {
        return Err(Artefact::Bundle.error(
            format!("`{}` has more than {MAX_FILES} files", shown.display()),
            "a workspace narrows with a few rules; policy of this size belongs into a bundle",
        ));
    }
    let mut files = Vec::new();
    for name in names {
        let path = shown.join(&name);
        check_name(&path)?;
        let text = folder.read(&name, &path, MAX_FILE_BYTES)?;
        files.push(PolicyFile {
            layer: Layer::Workspace,
            ..PolicyFile::new(PathBuf::from(WORKSPACE_POLICY).join(name), text)
        });
    }
    if files.is_empty() {
        return Ok(None);
    }
    Ok(Some(PolicySource::new("workspace", files)))
}

fn check_name(path: &Path) -> Result<(), BundleError> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("cedar" | "toml") => Ok(()),
        _other => Err(Artefact::Bundle.error(
            format!("`{}` is neither `.cedar` nor `.toml`", path.display()),
            "only rules and host groups belong there",
        )),
    }
}
