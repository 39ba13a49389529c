//! What the daemon hands to a launcher that it starts itself, on that one's standard input: what
//! would not be itself any more, or not be private, as an argument.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::GrantAsked;

/// To the launcher, as JSON.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Handed {
    /// Folders and files, beside those of an agent's profile.
    pub grants: Vec<GrantAsked>,
    /// Variables with their values. Arguments could be read by every user of the machine.
    pub variables: Vec<(String, String)>,
    /// The folder that is worked in.
    pub workspace: Option<PathBuf>,
}
