//! Decides a session: its start, then each grant, recorded together before anything is built.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use cordon_audit::{Denied, Permit, RecordId, SessionOrigin};
use cordon_policy::{
    Asked, Basis, Decided, Deny, DenyReason, GrantMode, GrantSource, Operation, Request, Rule,
    SessionAct, SessionFacts, Snapshot, Wall,
};
use cordon_proxy::Authority;
use cordon_session::{
    Durability, Gate, GateError,
    grants::{HeldPath, Names, Protected},
};
use futures_util::future::join_all;
use tracing::warn;
use uuid::Uuid;

use super::{
    Daemon,
    late::in_time,
    policies::{Follower, Somebody, observe_of},
    publish::{self, Port},
};
use crate::{
    control::{Answer, GrantAsked, GrantMade, GrantRefused, OpenSession, Opened, Refused},
    reflinks,
    summary::allow_with,
};

/// A session that may start.
#[derive(Debug)]
pub struct Open {
    /// Its gate.
    pub gate: Gate,
    /// What decides it, now and after every change.
    pub follower: Arc<Follower>,
    /// What the launcher is told.
    pub opened: Opened,
    /// The record of the decision that let whoever asked open a session at all.
    pub leave: Option<RecordId>,
    /// Where it comes from.
    pub origin: SessionOrigin,
    /// Ports that are to be served.
    pub ports: Vec<Port>,
    /// Held for as long as the session, so that it stays the same.
    _authority: Option<Arc<Authority>>,
}

/// Decides `request` of `who`.
///
/// # Errors
/// The answer to give: the session, or a grant that was asked for by name, is refused; or it
/// could not be decided or recorded at all.
pub async fn open(
    daemon: &Arc<Daemon>,
    request: OpenSession,
    who: &Somebody,
) -> Result<Open, Answer> {
    open_with(daemon, request, who, Files::Given).await
}

/// What a grant gives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Files {
    /// All that is in it: nobody asks for each file.
    Given,
    /// Leave to ask for each file.
    Asked,
}

/// As [`open`], and says what a grant gives.
///
/// # Errors
/// As [`open`].
pub async fn open_with(
    daemon: &Arc<Daemon>,
    request: OpenSession,
    who: &Somebody,
    files: Files,
) -> Result<Open, Answer> {
    let origin = SessionOrigin {
        parent: parent(daemon, request.parent.as_deref())?,
        image: request.image.clone(),
    };
    let facts = Arc::new(SessionFacts {
        id: Uuid::now_v7().to_string(),
        user: daemon.user.name.clone(),
        groups: daemon.user.groups.clone(),
        agent: request.agent.clone(),
        platform: request
            .platform
            .clone()
            .unwrap_or_else(|| std::env::consts::OS.into()),
        backend: request.backend,
    });
    let managed = daemon.policies.manage(who, SessionAct::Open, &facts);
    let leave = managed.await?;
    let machine = rustix::system::sysinfo();
    let machine = machine.totalram.saturating_mul(machine.mem_unit.into());
    let limits = daemon.limits.for_session(&request.limits, machine);
    let limits = limits.map_err(|message| Answer::Failed {
        message,
        help: Some("ask for less, or change `[sandbox.limits]` in `cordon.toml`".into()),
    })?;
    let workspace = request.workspace.clone();
    let followed = daemon
        .policies
        .follow(Arc::clone(&facts), &request.policy, workspace);
    let follower = followed.await.map_err(|error| Answer::Failed {
        message: error.to_string(),
        help: error.help.clone(),
    })?;
    let gate = follower.gate().clone();
    if files == Files::Asked {
        gate.past().asks_for_each_file();
    }

    let start = Operation::StartSession {
        command: request.program.clone(),
        profile: request.profile,
    };
    // What is recorded later is on disk only with this, and nothing is built before that: where a
    // grant follows, its sync is waited for and none before it.
    let durability = match request.grants.is_empty() {
        true => Durability::Synced,
        false => Durability::Written,
    };
    let said = start.to_string();
    let deciding = async {
        let started = match gate.admit(start, durability).await {
            Ok(permit) => permit,
            Err(GateError::Denied(denied)) => return Err(Answer::Refused(refused(&denied))),
            Err(GateError::NotRecorded(error)) => return Err(not_recorded(&error)),
        };
        let ports = publish::decide(&gate, &request.publish).await?;
        let mut names = Names::default();
        let grants = Grants {
            gate: &gate,
            protected: daemon.protected(&request.home),
            store: daemon.paths.state.clone(),
            names: Box::new(move |path, wanted| names.take(path, wanted)),
            home: PathBuf::from(format!("/sessions/{}", facts.id)),
        };
        let (made, refused) = grants.decide(&request.grants).await?;
        Ok((started, ports, made, refused))
    };
    let (started, ports, made, refused) = in_time(&gate, &said, deciding).await??;
    follower.hold(
        made.iter()
            .map(|grant| operation(&grant.path, grant.mode, grant.source, &grant.inside)),
    );
    let in_force = follower.current();
    let authority = authority(daemon, &facts.id, &in_force.live);
    let opened = Opened {
        session: facts.id.clone(),
        decision: started.id().to_string(),
        token: Uuid::new_v4().simple().to_string(),
        user: facts.user.clone(),
        policy: in_force.live.name().into(),
        observe: observe_of(&in_force.live),
        limits,
        walls: &daemon.walls | &walls(started.basis(), &in_force.live),
        grants: made,
        refused,
        extra_ca_certificates: certificates(daemon, authority.as_deref()),
        placeholders: daemon.egress.placeholders(&facts.id),
    };
    Ok(Open {
        gate,
        follower,
        opened,
        leave,
        origin,
        ports,
        _authority: authority,
    })
}

/// The walls that policy asks for. What was let through by observing has no rule that asks for any,
/// so those hold that any rule asks for.
fn walls(basis: &Basis, set: &Snapshot) -> BTreeSet<Wall> {
    if basis.observed.is_none() || !basis.rules.is_empty() {
        return basis.walls();
    }
    let of_all = set.rules().iter().flat_map(|rule| &rule.obligations);
    let of_all = Basis {
        obligations: of_all.cloned().collect(),
        ..Basis::default()
    };
    of_all.walls()
}

/// The id of the session that another is started for, which must run.
fn parent(daemon: &Daemon, named: Option<&str>) -> Result<Option<String>, Answer> {
    let Some(named) = named else { return Ok(None) };
    match daemon.registry.find(named) {
        Ok(live) => Ok(Some(live.id().to_owned())),
        Err(unknown) => Err(Answer::Failed {
            message: format!("no session is started for another one: {unknown}"),
            help: Some("`cordon session list` shows the running sessions".into()),
        }),
    }
}

/// The session's own authority, where its policy has any rule by which requests inside TLS are
/// decided. Otherwise the session trusts nothing of ours.
fn authority(daemon: &Daemon, session: &str, set: &Snapshot) -> Option<Arc<Authority>> {
    let inspects = |rule: &Rule| rule.obligations.iter().any(|o| &*o.name == "inspect");
    if !set.rules().iter().any(inspects) {
        return None;
    }
    daemon
        .egress
        .authority(session)
        .inspect_err(|error| warn!(%error, %session, "no TLS can be inspected"))
        .ok()
}

/// What the session trusts beside the system's authorities.
fn certificates(daemon: &Daemon, authority: Option<&Authority>) -> Option<String> {
    let configured = daemon.extra_ca.clone().unwrap_or_default();
    let own = authority.map(Authority::certificate).unwrap_or_default();
    let all = configured + &own;
    (!all.is_empty()).then_some(all)
}

/// Names a folder of a session.
type NameGiver<'a> = dyn FnMut(&Path, Option<&str>) -> String + Send + Sync + 'a;

/// Decides the grants of one session.
pub(super) struct Grants<'a> {
    pub(super) gate: &'a Gate,
    pub(super) protected: Protected,
    /// Gives a folder, by its path and what it was to be called, a name that no other has.
    pub(super) names: Box<NameGiver<'a>>,
    /// The session's own directory.
    pub(super) home: PathBuf,
    /// Where originals are kept, on the host.
    pub(super) store: PathBuf,
}

impl Grants<'_> {
    /// Just one, of a running session.
    pub(super) async fn decide_one(mut self, asked: &GrantAsked) -> Result<GrantMade, Answer> {
        let found = self.find(asked);
        match self.one(asked, found).await {
            Ok((found, permit)) => Ok(made(asked, found, &permit, &self.store)),
            Err(GateError::NotRecorded(error)) => Err(not_recorded(&error)),
            Err(GateError::Denied(denied)) => Err(Answer::Refused(refused(&denied))),
        }
    }

    /// All of them, recorded together: each would otherwise wait for a sync of its own. One that
    /// the command line names and that is refused ends it.
    async fn decide(
        mut self,
        asked: &[GrantAsked],
    ) -> Result<(Vec<GrantMade>, Vec<GrantRefused>), Answer> {
        let (mut made, mut refused) = (Vec::new(), Vec::new());
        let found: Vec<_> = asked.iter().map(|grant| self.find(grant)).collect();
        let both = asked.iter().zip(found);
        let decided = join_all(both.map(|(grant, found)| self.one(grant, found))).await;
        for (grant, decided) in asked.iter().zip(decided) {
            match decided {
                Ok((found, permit)) => made.push(self::made(grant, found, &permit, &self.store)),
                Err(GateError::NotRecorded(error)) => return Err(not_recorded(&error)),
                Err(GateError::Denied(denied)) => {
                    let why = self::refused(&denied);
                    if matches!(grant.source, GrantSource::CommandLine | GrantSource::Api) {
                        return Err(Answer::Refused(why));
                    }
                    refused.push(GrantRefused {
                        path: grant.path.clone(),
                        mode: grant.mode,
                        source: grant.source,
                        refused: why,
                    });
                }
            }
        }
        Ok((made, refused))
    }

    /// Looks for it, and says where it would be inside: rules may be about that name, so it is known
    /// before they are asked.
    fn find(&mut self, asked: &GrantAsked) -> Result<Found, String> {
        let held = HeldPath::open(&asked.path)
            .map_err(|error| format!("`{}`: {error}", asked.path.display()))?;
        let inside = match &asked.inside {
            // `join` keeps an absolute path as it is.
            Some(inside) => self.home.join(inside),
            None => {
                let name = (self.names)(&held.path, asked.name.as_deref());
                self.home.join("mnt").join(name)
            }
        };
        Ok(Found { held, inside })
    }

    async fn one(
        &self,
        asked: &GrantAsked,
        found: Result<Found, String>,
    ) -> Result<(Found, Permit), GateError> {
        let found = match found {
            Ok(found) => found,
            Err(problem) => {
                let named = asked.name.as_deref().map(Path::new);
                let named = named.or(asked.inside.as_deref()).unwrap_or(&asked.path);
                let operation = operation(&asked.path, asked.mode, asked.source, named);
                return Err(self
                    .refuse(operation, DenyReason::Unavailable, problem)
                    .await);
            }
        };
        let path = &found.held.path;
        let operation = operation(path, asked.mode, asked.source, &found.inside);
        let protection = match asked.source {
            // A profile names parts of the agent's own configuration on purpose; Cordon's own
            // directories stay out of its reach too.
            GrantSource::Profile => self.protected.check_own(path),
            GrantSource::CommandLine | GrantSource::WorkingDirectory | GrantSource::Api => {
                self.protected.check(path)
            }
        };
        if let Some(protection) = protection {
            let reason = DenyReason::ProtectedFolder;
            return Err(self.refuse(operation, reason, protection.why()).await);
        }
        let permit = self.gate.admit(operation, Durability::Synced).await?;
        Ok((found, permit))
    }

    /// Records a refusal that needs no policy.
    async fn refuse(&self, operation: Operation, reason: DenyReason, why: String) -> GateError {
        let request = Request {
            session: Arc::clone(self.gate.session()),
            operation,
            at: SystemTime::now(),
        };
        let basis = Basis {
            errors: vec![why],
            ..Basis::default()
        };
        self.gate
            .refuse(Decided::<Deny>::deny(
                Asked::Request(request),
                reason,
                basis,
            ))
            .await
    }
}

/// What was asked for, held open, and where it would be inside.
struct Found {
    held: HeldPath,
    inside: PathBuf,
}

/// What was granted.
fn made(asked: &GrantAsked, found: Found, permit: &Permit, store: &Path) -> GrantMade {
    let Found { held, inside } = found;
    let preserve = held.directory
        && asked.mode != GrantMode::Ro
        && permit.basis().asks("preserve", "originals");
    GrantMade {
        inside,
        mode: asked.mode,
        source: asked.source,
        identity: held.identity,
        directory: held.directory,
        preserve,
        copied_up_to: preserve
            .then(|| reflinks::copied_up_to(store, held.identity.0))
            .flatten(),
        names_stay: permit.basis().asks("no_delete", "strict"),
        rule: permit
            .basis()
            .rules
            .first()
            .map(|rule| rule.id.to_string())
            .unwrap_or_default(),
        decision: permit.id().to_string(),
        path: held.path,
    }
}

/// A grant whose path inside ends in its name.
pub(super) fn operation(
    path: &Path,
    mode: GrantMode,
    source: GrantSource,
    inside: &Path,
) -> Operation {
    let name = inside.file_name().unwrap_or_default().to_string_lossy();
    Operation::grant(path.into(), mode, source, &name)
}

/// A recorded refusal as the caller sees it.
pub(super) fn refused(denied: &Denied) -> Refused {
    let deny = denied.verdict();
    let (what, allow_with) = match &deny.asked {
        Asked::Request(request) => (
            request.operation.to_string(),
            allow_with(request, deny.reason),
        ),
        Asked::Raw(raw) => (format!("{} {:?}", raw.door, raw.text), None),
    };
    let why = match deny.basis.errors.first() {
        Some(detail) => detail.clone(),
        None => format!("{}{}", deny.why(), place(&deny.basis)),
    };
    Refused {
        what,
        why,
        allow_with,
        decision: denied.id().to_string(),
    }
}

/// Whose rule decided and in which revision, where there are several to choose from (N20).
fn place(basis: &Basis) -> String {
    let policy = match basis.revision {
        Some(revision) => format!("policy {} revision {revision}", basis.policy),
        None => return String::new(),
    };
    match basis.rules.first() {
        Some(rule) => format!(", layer {}, {policy}", rule.layer),
        None => format!(", {policy}"),
    }
}

pub(super) fn not_recorded(error: &cordon_audit::RecordError) -> Answer {
    Answer::Failed {
        message: error.to_string(),
        help: Some("see `cordon status`; nothing is done while the log cannot take it".into()),
    }
}
