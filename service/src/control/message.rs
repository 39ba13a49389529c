//! What launcher and daemon say to each other.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    path::{Path, PathBuf},
};

use super::path;
use cordon_audit::{Done, LogStats, Order, SessionEnd, export::Manifest};
use cordon_policy::{Backend, GrantMode, GrantSource, SeccompProfile, Wall};
use cordon_sandbox::{
    limits::{Held, Used},
    places::Shown,
};
use cordon_session::config::SandboxLimits;
use cordon_sinks::SinksStatus;
use serde::{Deserialize, Serialize};

use super::{
    policy::{PolicyAnswer, PolicyAsk, PolicyStatus},
    session::{SessionAnswer, SessionAsk, State},
};
use crate::summary::Summary;

/// From the launcher (or another command) to the daemon.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// First on every connection.
    Hello(Hello),
    /// Decide a session and its grants.
    Open(Box<OpenSession>),
    /// The session's listeners, as descriptors beside this frame: HTTP, SOCKS5, DNS, capture for
    /// IPv4, and capture for IPv6 where there is one.
    Attach,
    /// The way to what listens inside, as a descriptor beside this frame: serve what is published.
    Publish,
    /// The guard refused to let something disappear; decide and record it.
    RefusedDelete {
        /// Path on the host.
        #[serde(with = "path::one")]
        path: PathBuf,
        /// Why the guard refused it.
        why: String,
    },
    /// The guard refused to reach a unix socket there, or to make one; record it.
    RefusedSocket {
        /// Path on the host, or in the session where the host has none.
        #[serde(with = "path::one")]
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Policy wants something kept before it changes, and it cannot be: the guard refused the change;
    /// record it.
    NotKept {
        /// Path on the host.
        #[serde(with = "path::one")]
        path: PathBuf,
        /// It was to be written, not removed or replaced.
        written: bool,
        /// Why.
        why: String,
    },
    /// The session removed these, which were there before it and whose grant lets it.
    Deleted {
        /// Paths on the host.
        #[serde(with = "path::several")]
        paths: Vec<PathBuf>,
    },
    /// These are there and protected; which of them may be changed all the same?
    ProtectedPaths {
        /// Paths on the host.
        #[serde(with = "path::several")]
        paths: Vec<PathBuf>,
    },
    /// The session wants to change something that is protected in its grant; decide and record it.
    ProtectedWrite {
        /// Path on the host.
        #[serde(with = "path::one")]
        path: PathBuf,
        /// What it is protected for.
        why: String,
    },
    /// The command ended (or never started, then `exit_code` is absent).
    Ended {
        /// As a shell shows it.
        exit_code: Option<i32>,
        /// What ended the session, where that was not the command.
        end: Option<SessionEnd>,
        /// What its processes used.
        used: Option<Used>,
        /// What it did to the files of its grants, one for each in which something changed; absent
        /// where nobody counted.
        changes: Option<Vec<GrantChanges>>,
    },
    /// From here on this connection carries the orders for a session that this launcher opened.
    Follow {
        /// Session id.
        session: String,
        /// [`Opened::token`].
        token: String,
        /// Its first process, as the host numbers it.
        first_process: u32,
        /// The limits in force, and by what each is held.
        held: Vec<Held>,
        /// The directories of its control group, to be removed when it is over.
        groups: Vec<PathBuf>,
        /// What stops its processes when it is paused.
        pauses_by: String,
    },
    /// Something about running sessions.
    Session(SessionAsk),
    /// What the daemon is and what runs.
    Status,
    /// Leave; refused while sessions run unless `force`.
    Stop {
        /// End running sessions too.
        force: bool,
    },
    /// Do something to the log: `cordon audit prune` and its like.
    Administer(Box<Order>),
    /// Something about policies.
    Policy(PolicyAsk),
    /// The records of a session, for `cordon audit show`.
    Records {
        /// Whole session id.
        session: String,
    },
    /// Record an export, then sign what it holds.
    Export {
        /// What it holds.
        manifest: Box<Manifest>,
        /// The sink that it goes to once more; absent for a file.
        sink: Option<String>,
    },
    /// How the sinks do.
    Sinks,
    /// The numbers of the process.
    Metrics,
}

/// Who is speaking.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// [`super::VERSION`] of the speaker.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Sessions running; 0 from a launcher.
    pub sessions: usize,
}

/// Everything the daemon needs to decide a session.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OpenSession {
    /// The command and its arguments as text, for the summary. Arguments may hold secrets: they
    /// are shown to the user and never recorded.
    pub command: String,
    /// Last path component of the program; this is what is decided and recorded.
    pub program: String,
    /// Agent profile, where one applies.
    pub agent: Option<String>,
    /// What holds the walls.
    pub backend: Backend,
    /// Digest of the image that its container is made of.
    pub image: Option<String>,
    /// The running session that it is started for, by its id or the first digits of it.
    pub parent: Option<String>,
    /// Which system calls the session may make.
    pub profile: SeccompProfile,
    /// Policy files and directories, absolute; empty means the built-in pack.
    pub policy: Vec<PathBuf>,
    /// The folder that is worked in: its `.cordon/policy` can narrow.
    pub workspace: Option<PathBuf>,
    /// Folders and files asked for.
    pub grants: Vec<GrantAsked>,
    /// Ports inside that are to be reached from outside.
    pub publish: Vec<PublishAsked>,
    /// Limits asked for by flags.
    pub limits: SandboxLimits,
    /// The user's home directory, for the protected folders beneath it.
    pub home: PathBuf,
    /// The tool server that it is for: whether that may be loaded is decided before anything runs.
    pub loads: Option<String>,
    /// What a runtime says that it runs on; absent: this machine. Never from a launcher.
    #[serde(skip)]
    pub platform: Option<String>,
}

/// A port inside, and where it is to be reached on the host.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PublishAsked {
    /// The address on the host.
    pub address: IpAddr,
    /// The port there, not 0.
    pub port: u16,
    /// The port inside, not 0.
    pub inside: u16,
}

/// A grant as it was asked for.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GrantAsked {
    /// Path on the host, absolute, symlinks not yet resolved.
    pub path: PathBuf,
    /// Wanted mode.
    pub mode: GrantMode,
    /// Wanted name below `mnt/`; the last path component when absent.
    pub name: Option<String>,
    /// Who asked.
    pub source: GrantSource,
    /// For a profile's grant: where it appears inside (absolute, or relative to the session's
    /// home). Elsewhere absent: `mnt/<name>`.
    pub inside: Option<PathBuf>,
}

/// A grant that was decided and recorded.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GrantMade {
    /// Canonical path on the host.
    pub path: PathBuf,
    /// Where it appears inside, absolute.
    pub inside: PathBuf,
    /// Mode.
    pub mode: GrantMode,
    /// Who asked.
    pub source: GrantSource,
    /// Device and inode of what was decided; the first process checks that just this is mounted.
    pub identity: (u64, u64),
    /// Whether it is a directory.
    pub directory: bool,
    /// What was there is kept before it is removed, replaced or written.
    #[serde(default)]
    pub preserve: bool,
    /// Where that is by copying, because no blocks can be shared: the largest file, in bytes, that
    /// is kept; a larger one is not changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied_up_to: Option<u64>,
    /// Nothing is removed, renamed or replaced in it, whoever made it.
    #[serde(default)]
    pub names_stay: bool,
    /// The rule that allowed it.
    pub rule: String,
    /// Record id of the decision that allowed it.
    #[serde(default)]
    pub decision: String,
}

impl Shown for GrantMade {
    fn host(&self) -> &Path {
        &self.path
    }

    fn inside(&self) -> &Path {
        &self.inside
    }
}

/// What a session did to the files of one grant. Sizes are lengths of regular files, as `ls -l`
/// shows them; absent where they are not known.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GrantChanges {
    /// Where it lies on the host.
    pub path: PathBuf,
    /// Where the grant is mounted.
    pub inside: PathBuf,
    /// Files and other names made.
    pub created: u64,
    /// Bytes now of the files that it made and that are still there.
    pub created_bytes: Option<u64>,
    /// Files opened for writing that were not made by the session, each once.
    pub changed: u64,
    /// Their bytes now, of those that are still there.
    pub changed_bytes: Option<u64>,
    /// The same files' bytes before they were first opened.
    pub changed_bytes_before: Option<u64>,
    /// Names removed.
    pub deleted: u64,
    /// Bytes of the files that lost their last name by that.
    pub deleted_bytes: u64,
    /// Names that another was renamed over.
    pub replaced: u64,
    /// Bytes of the files that lost their last name by that.
    pub replaced_bytes: u64,
    /// Names changed.
    pub moved: u64,
    /// The first that were removed.
    pub first_deleted: Vec<PathBuf>,
}

/// A grant that was refused.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GrantRefused {
    /// As asked.
    pub path: PathBuf,
    /// As asked.
    pub mode: GrantMode,
    /// Who asked.
    pub source: GrantSource,
    /// Why, and how it could be allowed.
    pub refused: Refused,
}

/// A refusal as a caller sees it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// What was asked, in words.
    pub what: String,
    /// Why, in words.
    pub why: String,
    /// One line that would allow it, where one could.
    pub allow_with: Option<String>,
    /// Record id.
    pub decision: String,
}

/// From the daemon.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// To a hello.
    Hello(Hello),
    /// The session may start with these grants.
    Opened(Box<Opened>),
    /// The session, or a grant that was asked for by name, is refused.
    Refused(Refused),
    /// The listeners are being served.
    Attached,
    /// Orders follow on this connection.
    Following,
    /// To a question about sessions.
    Session(SessionAnswer),
    /// Noted and recorded.
    Noted,
    /// Which of them may be changed, in the order asked. Those that may are recorded.
    ProtectedPaths {
        /// One for each.
        permitted: Vec<bool>,
    },
    /// What was asked about may be done, and is recorded.
    Permitted,
    /// The session is over; this is what happened.
    Summary(Box<Summary>),
    /// To a status request.
    Status(Box<Status>),
    /// To a question about policies.
    Policy(PolicyAnswer),
    /// To a stop request.
    Stopping,
    /// Records as JSON, one a line.
    Records(Vec<String>),
    /// The manifest of an export as a signed note.
    Exported(String),
    /// The numbers of the process, in the text format of Prometheus.
    Metrics(String),
    /// How the sinks do.
    Sinks(Box<SinksStatus>),
    /// The order was carried out.
    Done(Box<Done>),
    /// It could not be done.
    Failed {
        /// What and why.
        message: String,
        /// What to do.
        help: Option<String>,
    },
}

/// A session that may start.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Opened {
    /// Session id.
    pub session: String,
    /// Record id of the decision that lets it start.
    pub decision: String,
    /// Whoever knows it may follow the session's orders.
    pub token: String,
    /// Login name of the user.
    pub user: String,
    /// Name of the policy set.
    pub policy: String,
    /// Until when it only observes, where it does.
    pub observe: Option<String>,
    /// What it may use of the machine.
    pub limits: SandboxLimits,
    /// The walls that policy or configuration asks for, beside those that every session has.
    pub walls: BTreeSet<Wall>,
    /// What was granted.
    pub grants: Vec<GrantMade>,
    /// What was not, without being a reason not to start.
    pub refused: Vec<GrantRefused>,
    /// PEM text of the certificates that the session trusts beside the system's.
    pub extra_ca_certificates: Option<String>,
    /// Variables that hold placeholders in place of secrets, with their values.
    pub placeholders: Vec<(String, String)>,
}

/// What the daemon is and what runs.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// Its version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Why the log takes no records; absent when it does.
    pub log_fault: Option<String>,
    /// Where the log lies.
    pub log: PathBuf,
    /// How far it is.
    pub log_stats: LogStats,
    /// Running sessions.
    pub sessions: Vec<SessionLine>,
    /// Policies.
    pub policy: PolicyStatus,
    /// Where records and checkpoints are delivered to, and how that goes.
    pub sinks: SinksStatus,
}

/// One running session.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SessionLine {
    /// Session id.
    pub session: String,
    /// Where it is in its life.
    pub state: State,
    /// Program name.
    pub command: String,
    /// Agent profile.
    pub agent: Option<String>,
    /// Policy set and digest.
    pub policy: String,
    /// Until when it only observes, where it does.
    pub observe: Option<String>,
    /// Seconds since it was opened.
    pub age_seconds: u64,
}
