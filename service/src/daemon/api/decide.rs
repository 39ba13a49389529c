//! Decides what the API is asked, by the gate of the session that it is about, like every other
//! door (P03).

use std::{path::PathBuf, sync::PoisonError, time::Duration};

use axum::http::HeaderMap;
use cordon_audit::Denied;
use cordon_policy::{Asked, Basis, Decided, Deny, DenyReason, GrantMode, Operation, Request};
use cordon_session::{Durability, GateError, approvals::State};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Daemon,
    floors::floor,
    operation::{Access, Wanted},
    place::{Unplaced, place},
    problem::{Code, Problem},
};
use crate::{
    control::State as Life,
    daemon::{
        late::{DEADLINE, LATE, not_given},
        live::Live,
    },
    summary::allow_with,
};

/// What came of a question, with everything that a caller may know of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Verdict {
    /// Whether it may be done.
    #[serde(skip)]
    pub allowed: bool,
    /// Id of its record. Absent for a question that has no effect, which is not recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision_id: Option<String>,
    /// `allowed`, or a stable word for why not: `default_deny`, `rule`, `grant_mode`, ...
    pub code: &'static str,
    /// Why, in words.
    pub reason: String,
    /// The rules that decided, by id.
    pub rules: Vec<String>,
    /// Name, revision and digest of the policy that decided.
    pub policy: PolicyRef,
    /// The one spelling of the path that was asked about: what to open.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub path: Option<PathBuf>,
    /// What the deciding rules ask of whoever carries it out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub obligations: Vec<ObligationRef>,
    /// The approval that it waits for: `POST /v1/approvals/ID` answers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<WaitsFor>,
    /// One line of policy that would allow it, where one could.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_with: Option<String>,
}

/// An approval that a request waits for.
#[derive(Debug, Serialize, ToSchema)]
pub struct WaitsFor {
    /// Its id.
    pub id: String,
    /// SHA-256 over the session and the request in words: exactly this request is approved.
    pub digest: String,
}

/// Which policy decided.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct PolicyRef {
    /// Its name.
    pub name: String,
    /// Its revision, where it is a bundle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// SHA-256 over its files, lower-case hex.
    pub digest: String,
}

/// Something that a deciding rule asks for by annotation.
#[derive(Debug, Serialize, ToSchema)]
pub struct ObligationRef {
    /// The annotation.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// Why there is no verdict.
#[derive(Debug)]
pub enum Undecided {
    /// The log does not take it.
    NotRecorded(String),
    /// It took longer than [`DEADLINE`].
    Late,
    /// The session was paused for that long.
    Paused,
}

impl From<Undecided> for Problem {
    fn from(undecided: Undecided) -> Self {
        match undecided {
            Undecided::NotRecorded(why) => Self::new(Code::NotRecorded, why),
            Undecided::Late => Self::new(Code::Late, "so it is refused"),
            Undecided::Paused => Self::new(Code::Conflict, PAUSED)
                .help(Some("POST /v1/sessions/ID/resume lets it go on".into())),
        }
    }
}

/// Decides and records, floors included.
///
/// # Errors
/// [`Undecided`]: then it must not be done.
pub async fn decide(daemon: &Daemon, live: &Live, wanted: Wanted) -> Result<Verdict, Undecided> {
    let asked = format!("{wanted:?}");
    let deciding = async || match floor(daemon, live, wanted) {
        Ok(wanted) => by_policy(live, wanted).await,
        Err(stopped) => stopped.refused(live).await,
    };
    in_time(live, &asked, deciding).await
}

/// What comes of `deciding` within [`DEADLINE`]. Whoever does something for a paused session waits as
/// its own processes do, and everything that could stand in its way is looked at after that.
///
/// # Errors
/// Those of `deciding`, or [`Undecided`] with its record.
pub(super) async fn in_time<T, E: From<Undecided>>(
    live: &Live,
    asked: &str,
    deciding: impl AsyncFnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let waiting = async {
        live.gate().not_paused().await;
        deciding().await
    };
    if let Ok(decided) = tokio::time::timeout(DEADLINE, waiting).await {
        return decided;
    }
    let (why, undecided) = match live.state() == Life::Paused {
        true => (PAUSED, Undecided::Paused),
        false => (LATE, Undecided::Late),
    };
    not_given(live.gate(), asked, why);
    Err(undecided.into())
}

/// What is said of a session that was paused until the deadline.
pub const PAUSED: &str = "the session is paused, so it is refused";

/// Decides, and where a person is asked, again when they have answered or `wait` is over.
///
/// # Errors
/// As [`decide`].
pub async fn decide_waiting(
    daemon: &Daemon,
    live: &Live,
    wanted: Wanted,
    wait: Duration,
) -> Result<Verdict, Undecided> {
    let verdict = decide(daemon, live, wanted.clone()).await?;
    let Some(approval) = verdict.approval.as_ref().filter(|_| !wait.is_zero()) else {
        return Ok(verdict);
    };
    match answered(daemon, &approval.id, wait).await {
        true => decide(daemon, live, wanted).await,
        false => Ok(verdict),
    }
}

/// Whether somebody answered within `wait`, or it was withdrawn.
pub async fn answered(daemon: &Daemon, id: &str, wait: Duration) -> bool {
    let mut changes = daemon.approvals.changes();
    let pending = || {
        let approval = daemon.approvals.get(id);
        approval.is_some_and(|approval| matches!(approval.state, State::Pending(_)))
    };
    let answered = changes.wait_for(|_changed| !pending());
    unless_stopped(daemon, tokio::time::timeout(wait, answered))
        .await
        .is_some_and(|answered| answered.is_ok())
}

/// What comes of `wait`; nothing when the daemon is told to leave before.
pub async fn unless_stopped<T>(daemon: &Daemon, wait: impl Future<Output = T>) -> Option<T> {
    let mut stop = daemon.stop.subscribe();
    tokio::select! {
        came = wait => Some(came),
        _ = stop.wait_for(|stop| *stop) => None,
    }
}

/// The wait that a caller prefers (RFC 7240, section 4.3), at most [`LONGEST_WAIT`].
pub fn preferred_wait(headers: &HeaderMap) -> Duration {
    let fields = headers.get_all("prefer").iter();
    let preferences = fields.filter_map(|field| field.to_str().ok());
    let wait = preferences
        .flat_map(|field| field.split([',', ';']))
        .find_map(|one| one.trim().strip_prefix("wait="))
        .and_then(|seconds| seconds.trim_matches('"').parse().ok());
    Duration::from_secs(wait.unwrap_or(0)).min(LONGEST_WAIT)
}

/// The longest wait for a person.
pub const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// Decides and records by policy alone: whoever asks knows of no floor, or has looked.
///
/// # Errors
/// [`Undecided::NotRecorded`].
pub(super) async fn by_policy(live: &Live, wanted: Wanted) -> Result<Verdict, Undecided> {
    let (operation, path) = match wanted {
        Wanted::Operation(operation) => (operation, None),
        Wanted::File(access, path) => match placed(live, access, path).await {
            Ok((operation, path)) => (operation, Some(path)),
            Err(error) => return refusal(error, None),
        },
    };
    match live.gate().admit(operation, Durability::Synced).await {
        Ok(permit) => Ok(Verdict {
            path,
            ..allowed(permit.basis(), Some(permit.id().to_string()))
        }),
        Err(error) => refusal(error, path),
    }
}

/// Says what would be decided, floors included, without a record: for what has no effect.
pub async fn look_over(daemon: &Daemon, live: &Live, wanted: Wanted) -> Verdict {
    match floor(daemon, live, wanted) {
        Ok(wanted) => look(live, wanted).await,
        Err(stopped) => Verdict {
            code: stopped.code(),
            reason: stopped.why,
            ..about(&Basis::default())
        },
    }
}

/// Says what the gate would decide, without a record.
pub async fn look(live: &Live, wanted: Wanted) -> Verdict {
    let (operation, path) = match wanted {
        Wanted::Operation(operation) => (operation, None),
        Wanted::File(access, path) => match resolved(live, access, path).await {
            Ok((operation, path)) => (operation, Some(path)),
            Err((path, _, why)) => {
                return Verdict {
                    path,
                    ..denied_here(why)
                };
            }
        },
    };
    let verdict = match live.gate().look(operation) {
        Ok(basis) => allowed(&basis, None),
        Err(deny) => denied(deny.verdict(), None),
    };
    Verdict { path, ..verdict }
}

/// The operation of a file, or its recorded refusal.
async fn placed(
    live: &Live,
    access: Access,
    path: PathBuf,
) -> Result<(Operation, PathBuf), GateError> {
    match resolved(live, access, path.clone()).await {
        Ok(placed) => Ok(placed),
        Err((None, _, why)) => {
            let raw = path.as_os_str().as_encoded_bytes();
            Err(live.gate().refuse_raw(DOOR, raw, why).await)
        }
        Err((Some(path), mode, why)) => {
            let request = Request {
                session: live.facts().clone(),
                operation: operation(access, path, mode),
                at: std::time::SystemTime::now(),
            };
            let basis = Basis {
                errors: vec![why],
                ..Basis::default()
            };
            let asked = Asked::Request(request);
            let deny = Decided::<Deny>::deny(asked, DenyReason::GrantMode, basis);
            Err(live.gate().refuse(deny).await)
        }
    }
}

type Misplaced = (Option<PathBuf>, GrantMode, String);

async fn resolved(
    live: &Live,
    access: Access,
    path: PathBuf,
) -> Result<(Operation, PathBuf), Misplaced> {
    let grants: Vec<(PathBuf, GrantMode)> = {
        let grants = live.grants().lock().unwrap_or_else(PoisonError::into_inner);
        grants
            .iter()
            .map(|grant| (grant.path.clone(), grant.mode))
            .collect()
    };
    let found = tokio::task::spawn_blocking(move || place(&path, access, &grants)).await;
    match found {
        Ok(Ok((path, mode))) => Ok((operation(access, path.clone(), mode), path)),
        Ok(Err(Unplaced::Outside(path))) => {
            let why = "it lies in no folder that is granted to this session".into();
            Err((Some(path), GrantMode::Ro, why))
        }
        Ok(Err(Unplaced::Mode(path, mode))) => {
            let why = format!("its folder is granted as `{mode}`, which does not include this");
            Err((Some(path), mode, why))
        }
        Ok(Err(Unplaced::Unusable(why))) => Err((None, GrantMode::Ro, why)),
        Err(error) => Err((None, GrantMode::Ro, format!("not looked at: {error}"))),
    }
}

fn operation(access: Access, path: PathBuf, mode: GrantMode) -> Operation {
    match access {
        Access::Read => Operation::ReadPath { path, mode },
        Access::Write => Operation::WritePath { path, mode },
        Access::Delete => Operation::DeletePath { path, mode },
    }
}

/// What is told of a refusal that was recorded.
pub(super) fn refusal(error: GateError, path: Option<PathBuf>) -> Result<Verdict, Undecided> {
    match error {
        GateError::Denied(refused) => Ok(Verdict {
            path,
            ..denied(Denied::verdict(&refused), Some(refused.id().to_string()))
        }),
        GateError::NotRecorded(error) => Err(Undecided::NotRecorded(error.to_string())),
    }
}

fn allowed(basis: &Basis, decision_id: Option<String>) -> Verdict {
    let rule = basis.rules.first();
    let reason = rule.and_then(|rule| rule.reason.as_deref());
    Verdict {
        allowed: true,
        decision_id,
        code: "allowed",
        reason: reason.unwrap_or("a rule permits it").into(),
        obligations: basis
            .obligations
            .iter()
            .map(|asked| ObligationRef {
                name: asked.name.to_string(),
                value: asked.value.to_string(),
            })
            .collect(),
        ..about(basis)
    }
}

fn denied(deny: &Deny, decision_id: Option<String>) -> Verdict {
    let (allow_with, why) = match &deny.asked {
        Asked::Request(request) => {
            let why = deny.basis.errors.first();
            // What a floor refuses no rule allows.
            let rule = why.is_none().then(|| allow_with(request, deny.reason));
            (rule.flatten(), why)
        }
        Asked::Raw(raw) => (None, Some(&raw.problem)),
    };
    Verdict {
        decision_id,
        code: deny.reason.code(),
        reason: why.cloned().unwrap_or_else(|| deny.why()),
        approval: deny.basis.approval.as_deref().map(|approval| WaitsFor {
            id: approval.id.to_string(),
            digest: approval.digest.to_string(),
        }),
        allow_with,
        ..about(&deny.basis)
    }
}

fn denied_here(why: String) -> Verdict {
    Verdict {
        code: DenyReason::GrantMode.code(),
        reason: why,
        ..about(&Basis::default())
    }
}

fn about(basis: &Basis) -> Verdict {
    Verdict {
        allowed: false,
        decision_id: None,
        code: "",
        reason: String::new(),
        rules: basis.rules.iter().map(|rule| rule.id.to_string()).collect(),
        policy: PolicyRef {
            name: basis.policy.to_string(),
            revision: basis.revision,
            digest: basis.digest.to_string(),
        },
        path: None,
        obligations: Vec::new(),
        approval: None,
        allow_with: None,
    }
}

/// How records name this way in.
pub const DOOR: &str = "api";
