//! Decides a session: its start, then each grant, recorded together before anything is built.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use cordon_audit::{Denied, Permit, SessionOrigin};
use cordon_policy::{
    Asked, Basis, Decided, Deny, DenyReason, GrantMode, GrantSource, Operation, Request, Rule,
    SessionFacts, Snapshot,
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
    policies::{Follower, observe_of},
    publish::{self, Port},
};
use crate::{
    control::{Answer, GrantAsked, GrantMade, GrantRefused, OpenSession, Opened, Refused},
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
    /// Where it comes from.
    pub origin: SessionOrigin,
    /// Ports that are to be served.
    pub ports: Vec<Port>,
    /// Held for as long as the session, so that it stays the same.
    _authority: Option<Arc<Authority>>,
}

/// Decides `request`.
///
/// # Errors
/// The answer to give: the session, or a grant that was asked for by name, is refused; or it
/// could not be decided or recorded at all.
pub async fn open(daemon: &Arc<Daemon>, request: OpenSession) -> Result<Open, Answer> {
    open_with(daemon, request, Files::Given).await
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
        platform: std::env::consts::OS.into(),
        backend: request.backend,
    });
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
    match gate.admit(start, Durability::Synced).await {
        Ok(_permit) => {}
        Err(GateError::Denied(denied)) => return Err(Answer::Refused(refused(&denied))),
        Err(GateError::NotRecorded(error)) => return Err(not_recorded(&error)),
    }

    let ports = publish::decide(&gate, &request.publish).await?;
    let grants = Grants {
        gate: &gate,
        protected: daemon.protected(&request.home),
        names: Names::default(),
        home: PathBuf::from(format!("/sessions/{}", facts.id)),
    };
    let (made, refused) = grants.decide(&request.grants).await?;
    follower.hold(
        made.iter()
            .map(|grant| operation(&grant.path, grant.mode, grant.source)),
    );
    let in_force = follower.current();
    let authority = authority(daemon, &facts.id, &in_force.live);
    let opened = Opened {
        session: facts.id.clone(),
        token: Uuid::new_v4().simple().to_string(),
        user: facts.user.clone(),
        policy: in_force.live.name().into(),
        observe: observe_of(&in_force.live),
        limits,
        grants: made,
        refused,
        extra_ca_certificates: certificates(daemon, authority.as_deref()),
        placeholders: daemon.egress.placeholders(&facts.id),
    };
    Ok(Open {
        gate,
        follower,
        opened,
        origin,
        ports,
        _authority: authority,
    })
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

/// Decides the grants of one session.
pub(super) struct Grants<'a> {
    pub(super) gate: &'a Gate,
    pub(super) protected: Protected,
    pub(super) names: Names,
    /// The session's own directory.
    pub(super) home: PathBuf,
}

impl Grants<'_> {
    /// Just one, of a running session.
    pub(super) async fn decide_one(mut self, asked: &GrantAsked) -> Result<GrantMade, Answer> {
        match self.one(asked).await {
            Ok((held, permit)) => Ok(self.made(asked, held, permit)),
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
        let decided = join_all(asked.iter().map(|grant| self.one(grant))).await;
        for (grant, decided) in asked.iter().zip(decided) {
            match decided {
                Ok((held, permit)) => made.push(self.made(grant, held, permit)),
                Err(GateError::NotRecorded(error)) => return Err(not_recorded(&error)),
                Err(GateError::Denied(denied)) => {
                    let why = self::refused(&denied);
                    if grant.source == GrantSource::CommandLine {
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

    async fn one(&self, asked: &GrantAsked) -> Result<(HeldPath, Permit), GateError> {
        let held = match HeldPath::open(&asked.path) {
            Ok(held) => held,
            Err(error) => {
                let problem = format!("`{}`: {error}", asked.path.display());
                return Err(self
                    .refuse(asked, &asked.path, DenyReason::Unavailable, problem)
                    .await);
            }
        };
        let protection = match asked.source {
            // A profile names parts of the agent's own configuration on purpose; Cordon's own
            // directories stay out of its reach too.
            GrantSource::Profile => self.protected.check_own(&held.path),
            GrantSource::CommandLine | GrantSource::WorkingDirectory => {
                self.protected.check(&held.path)
            }
        };
        if let Some(protection) = protection {
            let reason = DenyReason::ProtectedFolder;
            return Err(self
                .refuse(asked, &held.path, reason, protection.why())
                .await);
        }
        let operation = operation(&held.path, asked.mode, asked.source);
        let permit = self.gate.admit(operation, Durability::Synced).await?;
        Ok((held, permit))
    }

    /// Spends the permit.
    fn made(&mut self, asked: &GrantAsked, held: HeldPath, permit: Permit) -> GrantMade {
        let inside = match &asked.inside {
            // `join` keeps an absolute path as it is.
            Some(inside) => self.home.join(inside),
            None => {
                let name = self.names.take(&held.path, asked.name.as_deref());
                self.home.join("mnt").join(name)
            }
        };
        GrantMade {
            inside,
            mode: asked.mode,
            source: asked.source,
            identity: held.identity,
            directory: held.directory,
            preserve: held.directory
                && asked.mode != GrantMode::Ro
                && permit.basis().asks("preserve", "originals"),
            names_stay: permit.basis().asks("no_delete", "strict"),
            rule: permit
                .basis()
                .rules
                .first()
                .map(|rule| rule.id.to_string())
                .unwrap_or_default(),
            path: held.path,
        }
    }

    /// Records a refusal that needs no policy.
    async fn refuse(
        &self,
        asked: &GrantAsked,
        path: &Path,
        reason: DenyReason,
        why: String,
    ) -> GateError {
        let request = Request {
            session: Arc::clone(self.gate.session()),
            operation: operation(path, asked.mode, asked.source),
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

pub(super) fn operation(path: &Path, mode: GrantMode, source: GrantSource) -> Operation {
    Operation::GrantFolder {
        path: path.into(),
        mode,
        source,
    }
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
