//! Whom a session's processes run as: whoever started it, and for root a user id of the session's
//! own.

use cordon_sandbox::{
    owners::{Claim, Range, is_host_root},
    plan::User,
};
use cordon_session::Config;

use crate::{error::Failure, paths::Paths};

/// The user's ids, and the hold on them for as long as the session runs.
#[derive(Debug)]
pub struct Who {
    uid: u32,
    gid: u32,
    /// Of a session that root starts.
    claim: Option<Claim>,
}

/// Whom this session runs as.
///
/// # Errors
/// For root: why there is no user id for it. It never runs as root instead.
pub fn choose(paths: &Paths) -> Result<Who, Failure> {
    if !is_host_root() {
        return Ok(Who {
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            claim: None,
        });
    }
    let claim = Claim::take(range(paths)?).map_err(|error| {
        let help = error.hint();
        Failure::new(format!("session not started: {error}")).help(help)
    })?;
    Ok(Who {
        uid: claim.user(),
        gid: claim.user(),
        claim: Some(claim),
    })
}

impl Who {
    /// The user id.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The user as the session sees them; `login` is who started it.
    pub fn user(&self, login: &str) -> User {
        let name = if self.claim.is_some() { NAME } else { login };
        User {
            uid: self.uid,
            gid: self.gid,
            name: name.into(),
        }
    }
}

/// The ids that sessions of root may have, by the configuration.
///
/// # Errors
/// When it cannot be read.
pub fn range(paths: &Paths) -> Result<Range, Failure> {
    let uids = Config::load(&paths.config_files())?.sandbox.root_uids;
    Ok(uids.map_or_else(Range::default, |uids| Range {
        first: uids.first,
        count: uids.count,
    }))
}

/// The login name inside. `root` would be a second one of that name.
const NAME: &str = "session";
