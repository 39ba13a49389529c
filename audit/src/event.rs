//! What happens beside decisions: the start and end of sessions, flows and the service itself.

mod access;
mod approval;
mod policy;

use std::{sync::Arc, time::Duration};

use cordon_policy::{SessionFacts, TlsFacts};
use serde::{Deserialize, Serialize};

pub use self::access::{AccessEvent, AccessOutcome, DecidedBy};
pub use self::approval::{ApprovalEvent, ApprovalStep};
pub use self::policy::{PolicyBundle, PolicyChange, PolicyEvent};
use crate::{
    Kind, RecordId,
    record::{KeyChange, Totals, Upkeep},
};

/// Something that happened and was not a decision.
#[derive(Clone, Debug)]
pub enum Event {
    /// The daemon opened the log.
    ServiceStarted,
    /// The daemon closed the log in good order.
    ServiceStopped,
    /// Something happened to policy itself.
    Policy(Box<PolicyEvent>),
    /// A session's command was started.
    SessionStarted {
        /// Which.
        session: Arc<SessionFacts>,
        /// Where it comes from.
        origin: SessionOrigin,
    },
    /// A session was paused, runs again, or was asked to end.
    SessionChanged {
        /// Which.
        session: Arc<SessionFacts>,
        /// What it is now.
        state: SessionState,
        /// Why, in words, where that is not somebody's wish.
        why: Option<String>,
    },
    /// A session ended and nothing of it is left.
    SessionEnded {
        /// Which.
        session: Arc<SessionFacts>,
        /// How.
        end: SessionEnd,
        /// Exit status of the command as a shell shows it (128+n for a signal), where known.
        exit_code: Option<i32>,
        /// What happened in it, counted.
        totals: Option<Box<Totals>>,
    },
    /// A step of a person's approval.
    Approval(Box<ApprovalEvent>),
    /// A question about an application of a bundle, or a search.
    Access(Box<AccessEvent>),
    /// Records were exported.
    Exported {
        /// Login name of who asked.
        user: String,
        /// What.
        export: crate::record::Export,
    },
    /// A flow that had been allowed is over.
    FlowClosed {
        /// Which session.
        session: Arc<SessionFacts>,
        /// The decision that opened it.
        decision: RecordId,
        /// The address connected to, where there was one.
        peer: Option<std::net::SocketAddr>,
        /// Bytes from the session to the destination.
        bytes_out: u64,
        /// Bytes from the destination to the session.
        bytes_in: u64,
        /// From the decision to the end.
        duration: Duration,
        /// HTTP status, where it was a request that could be read.
        status: Option<u16>,
        /// What its handshake showed, where one was looked at.
        tls: Option<Arc<TlsFacts>>,
        /// How it ended.
        end: FlowEnd,
    },
    /// From the next checkpoint on, another key signs.
    KeyRotated {
        /// Which follows which.
        key: KeyChange,
    },
    /// Something is done to the log itself: retention, a hold, a redaction, a new origin.
    Upkeep {
        /// Which of them.
        kind: Kind,
        /// Login name of whoever does it; `None` for the service itself.
        by: Option<String>,
        /// What exactly.
        upkeep: Box<Upkeep>,
    },
}

/// Where a session comes from, beside who started it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SessionOrigin {
    /// Id of the session that it was started for.
    pub parent: Option<String>,
    /// Digest of the image that its container is made of, as `sha256:` and hex digits.
    pub image: Option<String>,
}

/// How a session ended: a fixed vocabulary.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionEnd {
    /// The command exited.
    Exited,
    /// The launcher went away; the sandbox went with it.
    LauncherLost,
    /// It could not be started.
    Failed,
    /// The daemon ended it.
    Stopped,
    /// Somebody had it ended: `cordon session end`.
    Ended,
    /// A limit ended it: its time, or its memory where nothing else holds it.
    OverLimit,
    /// Its first process did not answer any more.
    Unresponsive,
}

/// What a session is, between its start and its end: a fixed vocabulary.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// Its processes run again.
    Running,
    /// None of its processes runs.
    Paused,
    /// It was asked to end.
    Ending,
    /// Its grants are others; why says how.
    Grants,
    /// It took on a label, which why names.
    Labels,
}

/// How a flow ended: a fixed vocabulary.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowEnd {
    /// Both sides finished.
    Completed,
    /// The name could not be resolved.
    ResolveFailed,
    /// No address answered.
    ConnectFailed,
    /// The connection broke.
    Reset,
    /// The session ended.
    SessionEnded,
    /// A deadline passed.
    TimedOut,
    /// Policy changed and allows it no more.
    Revoked,
    /// What was seen of it after it was opened is refused: its handshake, a name it led to.
    Refused,
    /// A limit or a budget is used up.
    Limit,
    /// The service stopped in good order.
    Drained,
}
