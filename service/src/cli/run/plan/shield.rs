//! What is protected in one grant: found on the host, left to policy, and told to the guard and, for
//! what is there, to the kernel as read-only mounts.

use std::path::{Path, PathBuf};

use cordon_policy::{GrantMode, GrantSource};
use cordon_sandbox::{
    guard::{GuardedGrant, SessionStart, Shield, scan},
    places,
    plan::{Access, Identity, Mount},
};

use crate::{control::GrantMade, error::Failure};

/// Asks which of these paths policy permits to be changed all the same: one answer each.
pub type Permitted<'a> = &'a dyn Fn(&[PathBuf]) -> Result<Vec<bool>, Failure>;

/// One grant, ready to be built.
#[derive(Debug)]
pub struct Found {
    /// For the guard.
    pub guarded: GuardedGrant,
    /// Read-only mounts over what is protected and there.
    pub mounts: Vec<Mount>,
}

/// Looks through a grant.
///
/// # Errors
/// When policy cannot be asked.
pub fn find(grant: &GrantMade, permitted: Permitted<'_>) -> Result<Found, Failure> {
    let mut guarded = GuardedGrant {
        host: grant.path.clone(),
        inside: grant.inside.clone(),
        mode: grant.mode,
        shield: None,
        preserve: grant.preserve,
        names_stay: grant.names_stay,
        since: SessionStart::now(),
    };
    // A profile names parts of the agent's own configuration on purpose.
    if !grant.directory || grant.source == GrantSource::Profile {
        return Ok(Found {
            guarded,
            mounts: Vec::new(),
        });
    }
    if grant.mode == GrantMode::Ro {
        // It may become writable later, and is looked through then.
        guarded.shield = Some(Shield::default());
        return Ok(Found {
            guarded,
            mounts: Vec::new(),
        });
    }
    let found = scan(&grant.path);
    let answers = if found.present.is_empty() {
        Vec::new()
    } else {
        permitted(&found.present)?
    };
    let kept = found
        .present
        .iter()
        .zip(answers.iter().copied().chain(std::iter::repeat(false)))
        .filter(|(_, permitted)| !permitted);
    let mounts = kept.filter_map(|(path, _)| mount(grant, path)).collect();
    guarded.shield = Some(Shield::new(found.added));
    Ok(Found { guarded, mounts })
}

/// `None` when it is gone since it was found: then there is nothing to hold.
fn mount(grant: &GrantMade, path: &Path) -> Option<Mount> {
    let (_, target) = places::inside([grant], path)?;
    Some(Mount {
        source: path.to_path_buf(),
        target,
        access: Access::ReadOnly,
        identity: Identity::of(path).ok()?,
    })
}
