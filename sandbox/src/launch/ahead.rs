//! What of a launch depends on no decision and no plan, begun before there is either.

use crate::{
    launch::LaunchError,
    network,
    owners::{Owners, is_host_root},
    plan::User,
};

/// A launch that was begun. Nothing of the session runs; dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Ahead {
    /// Of a session that root starts.
    pub(super) owners: Option<Owners>,
    pub(super) network: network::Ahead,
}

impl Ahead {
    /// Begins the launch of a session whose processes run as `user`: who started us, or, started by
    /// root, a user of the session's own. Call it while the process has one thread.
    ///
    /// # Errors
    /// [`LaunchError`]: root's session would be root itself, or no process can be forked.
    pub fn begin(user: u32) -> Result<Self, LaunchError> {
        let owners = owners_of(user)?;
        let network = network::Ahead::begin(owners.as_ref());
        Ok(Self {
            network: network.map_err(LaunchError::step("network begun"))?,
            owners,
        })
    }

    /// Whether it was begun for this user, whose group is its own where root started it.
    pub(super) fn check(&self, user: &User) -> Result<(), LaunchError> {
        match &self.owners {
            Some(owners) if (owners.user(), owners.user()) != (user.uid, user.gid) => {
                Err(LaunchError::Root)
            }
            _ => Ok(()),
        }
    }
}

/// Root's sessions run as a user of their own, with owners mapped; anybody else's as they are.
fn owners_of(user: u32) -> Result<Option<Owners>, LaunchError> {
    if !is_host_root() {
        return Ok(None);
    }
    if user == 0 {
        return Err(LaunchError::Root);
    }
    let owners = Owners::new(user).map_err(LaunchError::step("owners mapped"))?;
    Ok(Some(owners))
}
