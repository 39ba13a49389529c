//! What commands ask about running sessions, and what they are told.

use std::path::PathBuf;

use cordon_policy::{GrantMode, SessionPast};
use cordon_sandbox::limits::{Held, Used};
use serde::{Deserialize, Serialize};

use super::{GrantAsked, GrantChanges, GrantMade, PublishAsked, Refused, orders::Holder};

/// Something about running sessions. A session is named by its id or a unique prefix of it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SessionAsk {
    /// All of them.
    List {
        /// With what their processes use.
        used: bool,
    },
    /// One of them.
    Show {
        /// Which.
        session: String,
    },
    /// Stop every process of it; its flows wait.
    Pause {
        /// Which.
        session: String,
    },
    /// Let it run again.
    Resume {
        /// Which.
        session: String,
    },
    /// Start a further command in it. Its streams that are no terminal come beside this frame.
    Exec {
        /// Which.
        session: String,
        /// Program and arguments, as bytes.
        arguments: Vec<Vec<u8>>,
        /// Which of its streams are a terminal.
        terminal: [bool; 3],
    },
    /// Give it one folder or file more.
    Grant {
        /// Which.
        session: String,
        /// What.
        grant: GrantAsked,
        /// The user's home directory, for the protected folders beneath it.
        home: PathBuf,
    },
    /// Take a grant from it.
    Revoke {
        /// Which.
        session: String,
        /// The grant: its name below `mnt`, or its path on the host or inside.
        grant: PathBuf,
        /// End the processes that still use it.
        kill: bool,
    },
    /// Change what it may do beneath a grant.
    Mode {
        /// Which.
        session: String,
        /// As in [`SessionAsk::Revoke`].
        grant: PathBuf,
        /// The mode.
        mode: GrantMode,
        /// End the processes that stand in the way.
        kill: bool,
    },
    /// What it did to the files of its grants so far.
    Changes {
        /// Which.
        session: String,
    },
    /// Remove what was kept of files: of one that is over, or of all that are.
    Purge {
        /// Which.
        session: Option<String>,
    },
    /// End it, and wait until it has.
    End {
        /// Which.
        session: String,
        /// Without asking its command to.
        now: bool,
    },
}

/// From the daemon.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SessionAnswer {
    /// All of them.
    List(Vec<SessionStatus>),
    /// One of them.
    Show(Box<SessionStatus>),
    /// The command runs; its terminal's other end comes beside this frame. Another answer follows.
    Began,
    /// The command ended with this code.
    Exited {
        /// As a shell shows it.
        code: u8,
    },
    /// What it did to the files of its grants so far.
    Changes {
        /// Its whole id.
        session: String,
        /// One for each grant in which something changed.
        grants: Vec<GrantChanges>,
    },
    /// What was kept of these is gone.
    Purged(Vec<PurgedLine>),
    /// A grant was given, changed or taken.
    Granted {
        /// As it is, or was.
        grant: Box<GrantLine>,
        /// Who still uses what was taken, or was ended for it.
        used: Vec<Holder>,
    },
    /// Policy refuses it.
    Refused(Refused),
    /// It is in this state now.
    State {
        /// Its whole id.
        session: String,
        /// Its state.
        state: State,
    },
}

/// Where a session is in its life.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It was decided; its walls are being built.
    Starting,
    /// Its command runs.
    Running,
    /// No process of it runs until it is resumed.
    Paused,
    /// It was asked to end.
    Ending,
    /// It is over.
    Ended,
    /// It is over and its command did not end by itself: the walls, the launcher or the daemon
    /// failed.
    Failed,
}

impl State {
    /// As it is shown and recorded.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Ending => "ending",
            Self::Ended => "ended",
            Self::Failed => "failed",
        }
    }

    /// Whether nothing of the session is left.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Ended | Self::Failed)
    }
}

/// One session as the daemon knows it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SessionStatus {
    /// Session id.
    pub session: String,
    /// Record id of the decision that let it start; of a gateway's session there is none.
    pub decision: Option<String>,
    /// Where it is in its life.
    pub state: State,
    /// The command and its arguments. They may hold secrets: shown to the user alone.
    pub command: String,
    /// Agent profile.
    pub agent: Option<String>,
    /// Login name of the user.
    pub user: String,
    /// What holds the walls.
    pub backend: String,
    /// Digest of the image that its container is made of.
    pub image: Option<String>,
    /// Id of the session that it was started for.
    pub parent: Option<String>,
    /// Policy set, revision and digest that decide it now.
    pub policy: String,
    /// Until when policy only observes, where it does.
    pub observe: Option<String>,
    /// Seconds since it was opened.
    pub age_seconds: u64,
    /// The launcher, as the host numbers it; 0 for a gateway's session.
    pub launcher: u32,
    /// The session's first process, as the host numbers it, once it stands.
    pub first_process: Option<u32>,
    /// Whether the launcher takes orders: then it can be paused, ended and changed.
    pub connected: bool,
    /// What stops its processes when it is paused, once it stands.
    pub pauses_by: String,
    /// What was granted.
    pub grants: Vec<GrantLine>,
    /// Ports that are reached from outside.
    pub published: Vec<PublishAsked>,
    /// The limits in force, and by what each is held.
    pub limits: Vec<Held>,
    /// What its processes use, where the launcher was asked.
    pub used: Option<Used>,
    /// What went over the network so far.
    pub network: NetworkUse,
    /// What it did so far, as policy is told it; absent where that is not known any more.
    pub past: Option<SessionPast>,
    /// Why its browser is off, where that was not by a person.
    pub browser: Option<String>,
}

/// One grant of a running session.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GrantLine {
    /// Canonical path on the host.
    pub path: PathBuf,
    /// Where it appears inside.
    pub inside: PathBuf,
    /// `ro`, `rw` or `rwd`.
    pub mode: String,
    /// The rule that allowed it.
    pub rule: String,
    /// Record id of the decision that allowed it.
    pub decision: String,
    /// Where policy wants originals kept and they are copied: the largest file, in bytes, that is;
    /// a larger one is not changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied_up_to: Option<u64>,
}

/// What is not kept any more.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PurgedLine {
    /// Whose it was.
    pub session: String,
    /// How much it was.
    pub bytes: u64,
}

/// What went over the network.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkUse {
    /// Decisions that allowed something, of every kind.
    pub allowed: u64,
    /// Decisions that refused something, of every kind.
    pub denied: u64,
    /// Flows that are open.
    pub open: u64,
    /// Bytes to the session, of flows that are over.
    pub bytes_in: u64,
    /// Bytes from the session, of flows that are over.
    pub bytes_out: u64,
}

impl From<&GrantMade> for GrantLine {
    fn from(made: &GrantMade) -> Self {
        Self {
            path: made.path.clone(),
            inside: made.inside.clone(),
            mode: made.mode.to_string(),
            rule: made.rule.clone(),
            decision: made.decision.clone(),
            copied_up_to: made.copied_up_to,
        }
    }
}
