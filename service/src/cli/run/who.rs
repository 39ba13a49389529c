//! Whom a session's processes run as: whoever started it, and for root a user id of the session's
//! own.

use cordon_sandbox::{
    owners::{Claim, Range, is_host_root},
    plan::User,
};
use cordon_session::Config;

use crate::{control::Opened, error::Failure, paths::Paths};

/// The user, and the hold on its id for as long as the session runs.
#[derive(Debug)]
pub struct Who {
    user: User,
    _claim: Option<Claim>,
}

/// Whom this session runs as.
///
/// # Errors
/// For root: why there is no user id for it. It never runs as root instead.
pub fn choose(paths: &Paths, opened: &Opened) -> Result<Who, Failure> {
    if !is_host_root() {
        return Ok(Who {
            user: User {
                uid: rustix::process::getuid().as_raw(),
                gid: rustix::process::getgid().as_raw(),
                name: opened.user.clone(),
            },
            _claim: None,
        });
    }
    let claim = Claim::take(range(paths)?).map_err(|error| {
        let help = error.hint();
        Failure::new(format!("session not started: {error}")).help(help)
    })?;
    Ok(Who {
        user: User {
            uid: claim.user(),
            gid: claim.user(),
            name: NAME.into(),
        },
        _claim: Some(claim),
    })
}

impl Who {
    /// The user as the session sees them.
    pub fn user(&self) -> &User {
        &self.user
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
