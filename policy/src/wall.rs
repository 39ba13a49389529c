//! What can stand between a session and the host: the walls, by the names that policy and
//! configuration use.
//!
//! Names only. Whether a wall stands here and now is the sandbox's to say.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Something that holds a session, or does not.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wall {
    /// Of the host's files a session sees the system, read only, and what is granted.
    HostFiles,
    /// What is granted read only cannot be written.
    ReadOnlyGrants,
    /// What was there before the session does not vanish from a grant of mode `rw`.
    NoDelete,
    /// Nothing is reached but by the session's listeners.
    Network,
    /// No socket, descriptor or shared memory of the host's processes is reached.
    HostChannels,
    /// Processes of the host are neither seen, signalled nor read.
    Processes,
    /// Only the system calls of the session's profile are answered.
    SystemCalls,
    /// The session ends with its launcher, whole.
    WholeEnd,
    /// Files are behind a second wall of another kind.
    SecondWall,
}

impl Wall {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::HostFiles,
        Self::ReadOnlyGrants,
        Self::NoDelete,
        Self::Network,
        Self::HostChannels,
        Self::Processes,
        Self::SystemCalls,
        Self::WholeEnd,
        Self::SecondWall,
    ];

    /// As policy and configuration write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HostFiles => "host-files",
            Self::ReadOnlyGrants => "read-only-grants",
            Self::NoDelete => "no-delete",
            Self::Network => "network",
            Self::HostChannels => "host-channels",
            Self::Processes => "processes",
            Self::SystemCalls => "system-calls",
            Self::WholeEnd => "whole-end",
            Self::SecondWall => "second-wall",
        }
    }

    /// In words, for a refusal.
    pub const fn words(self) -> &'static str {
        match self {
            Self::HostFiles => "files of the host are sealed",
            Self::ReadOnlyGrants => "read-only grants cannot be written",
            Self::NoDelete => "what was there cannot be removed from a folder granted `rw`",
            Self::Network => "the network is reached by the session's listeners alone",
            Self::HostChannels => "sockets and descriptors of the host are out of reach",
            Self::Processes => "processes of the host are out of reach",
            Self::SystemCalls => "system calls are filtered by the profile",
            Self::WholeEnd => "the session ends with its launcher",
            Self::SecondWall => "files are behind a second wall",
        }
    }
}

impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

impl FromStr for Wall {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|wall| wall.name() == name);
        known.ok_or_else(|| format!("there is no wall {name:.40?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_has_one_name_wherever_it_is_written() {
        for wall in Wall::ALL {
            assert_eq!(wall.name().parse(), Ok(wall));
            let written = serde_json::to_value(wall).unwrap();
            assert_eq!(written, wall.name());
        }
        assert!("moat".parse::<Wall>().is_err());
    }
}
