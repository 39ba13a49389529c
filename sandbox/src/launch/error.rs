//! Why a sandbox did not start or did not last, and what to do.

use std::{io, time::Duration};

use thiserror::Error;

use crate::{
    adapter::Lacks, network::NetworkError, owners::NotMapped, plan::PlanError, terminal::StdioError,
};

/// Why there is no outcome of a command. Nothing of the sandbox is left.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// The plan cannot be built as asked.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The plan asks for a wall that this backend does not hold here.
    #[error(transparent)]
    Lacks(#[from] Lacks),
    /// Its processes would be root of the host.
    #[error("sandbox not started: a session that root starts needs a user id of its own")]
    Root,
    /// Something cannot be shown to a session of root's.
    #[error("sandbox not started: {0}")]
    NotMapped(#[source] NotMapped),
    /// A standard stream that no session gets.
    #[error(transparent)]
    Stdio(#[from] StdioError),
    /// The session's network namespace.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// No bubblewrap at any of the trusted places.
    #[error("sandbox not started: bubblewrap (`bwrap`) is not installed in {places}")]
    NoBubblewrap {
        /// Where it was looked for.
        places: String,
    },
    /// A bubblewrap that lacks what the walls need.
    #[error("sandbox not started: {found:?} is too old, version {needed} or newer is needed")]
    OldBubblewrap {
        /// What it says it is.
        found: String,
        /// The oldest version that will do.
        needed: &'static str,
    },
    /// Bubblewrap gave up.
    #[error("sandbox not built: {0}")]
    Builder(String),
    /// Podman gave up, or what it made cannot be furnished.
    #[error("container not built: {0}")]
    Container(String),
    /// The first process found a wall that is not as planned.
    #[error("sandbox refused by its first process: {0}")]
    Walls(String),
    /// Nothing was heard.
    #[error("sandbox not ready: nothing heard of it for {0:?}")]
    Slow(Duration),
    /// A signal asked to end before the command started.
    #[error("sandbox not started: ended by signal {0}")]
    Interrupted(i32),
    /// The first process does not answer any more.
    #[error("session ended: its first process did not answer three times in a row")]
    Unresponsive,
    /// The session is above a limit, and was ended.
    #[error("session ended by its limit: {0}")]
    OverLimit(String),
    /// What the launcher depends on ended, so the session was ended.
    #[error("session ended: {0}")]
    Ended(String),
    /// One step of our own.
    #[error("sandbox not started: {step} failed")]
    Step {
        /// What was to be done.
        step: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
}

impl LaunchError {
    /// What to do; shown after `help:`.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Root => "run `cordon` as an ordinary user".into(),
            Self::NotMapped(_) => NotMapped::HINT.into(),
            Self::Stdio(error) => error.hint().into(),
            Self::Network(error) => error.hint().into(),
            Self::NoBubblewrap { .. } => GET_BUBBLEWRAP.into(),
            Self::OldBubblewrap { .. } => {
                format!("{GET_BUBBLEWRAP}, from a newer release if need be")
            }
            Self::Builder(text) if text.contains("namespace") || text.contains("uid map") => {
                USER_NAMESPACES.into()
            }
            Self::Container(text) if text.contains("image not known") => {
                "fetch the image first: `podman pull IMAGE`".into()
            }
            Self::Container(text) if text.contains("uid") || text.contains("gid") => {
                "rootless podman needs `newuidmap` (package `uidmap`) and this user in `/etc/subuid` \
                 and `/etc/subgid`"
                    .into()
            }
            Self::Container(_) => "`cordon doctor` says what this machine lacks".into(),
            Self::Builder(text) if text.contains("disable-userns") => GET_BUBBLEWRAP.into(),
            Self::Slow(_) | Self::Unresponsive => "the machine may be overloaded; try again".into(),
            Self::Lacks(lacks) => lacks.lack.help.clone(),
            Self::Plan(_)
            | Self::Builder(_)
            | Self::Walls(_)
            | Self::Interrupted(_)
            | Self::Ended(_)
            | Self::OverLimit(_)
            | Self::Step { .. } => return None,
        })
    }

    /// Wraps what the kernel said about `step`.
    pub(crate) fn step<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Step {
            step,
            source: error.into(),
        }
    }
}

pub(crate) const GET_BUBBLEWRAP: &str = "install it: `apt install bubblewrap` (Debian, Ubuntu), \
                              `dnf install bubblewrap` (Fedora), `pacman -S bubblewrap` (Arch)";

const USER_NAMESPACES: &str = "this user may not create user namespaces; an administrator allows \
    it with `sysctl kernel.unprivileged_userns_clone=1`, `sysctl user.max_user_namespaces=10000`, \
    or on Ubuntu an AppArmor profile for bwrap \
    (`sysctl kernel.apparmor_restrict_unprivileged_userns=0`)";
