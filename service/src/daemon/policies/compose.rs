//! Which policy sets make up one session's: bundles, what `--policy` names, the workspace.
//!
//! What a launcher named is read once, when the session opens; bundles are those in force at the
//! time of asking. Never decides.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use cordon_audit::{Event, PolicyChange, PolicyEvent};
use cordon_policy::{
    Layer, SessionFacts,
    bundle::{Layers, read_workspace},
    source::{LoadError, PolicyFile, PolicySource},
};
use cordon_session::{Beside, InForce, Role};

use super::{Policies, Stage, cache::key_of, is_pack, state::State};

/// What a session brings along.
#[derive(Clone, Debug, Default)]
pub struct Brought {
    /// What `--policy` names, shipped packs aside.
    files: Option<PolicySource>,
    /// The shipped packs that it names, as one.
    packs: Option<PolicySource>,
    /// The policy of the folder that is worked in.
    workspace: Option<PolicySource>,
}

impl Brought {
    /// Reads what a launcher named. Blocks.
    ///
    /// # Errors
    /// [`LoadError`]: the session is refused; a broken policy never falls back to another.
    pub fn read(paths: &[PathBuf], workspace: Option<&Path>) -> Result<Self, LoadError> {
        let (packs, files): (Vec<_>, Vec<_>) = paths
            .iter()
            .map(PathBuf::as_path)
            .partition(|path| is_pack(path));
        let packs = packs
            .into_iter()
            .filter_map(|name| PolicySource::pack(name.to_str()?));
        let files = (!files.is_empty()).then(|| PolicySource::read(&files));
        let workspace = workspace.map(read_workspace).transpose()?.flatten();
        Ok(Self {
            files: files.transpose()?,
            packs: packs.reduce(PolicySource::join),
            workspace,
        })
    }

    /// As [`Self::read`], beside the runtime's own threads.
    ///
    /// # Errors
    /// As there.
    pub async fn of_paths(
        paths: &[PathBuf],
        workspace: Option<PathBuf>,
    ) -> Result<Self, LoadError> {
        let paths = paths.to_vec();
        let read = tokio::task::spawn_blocking(move || Self::read(&paths, workspace.as_deref()));
        read.await.unwrap_or_else(|error| {
            Err(LoadError {
                message: format!("reading broke off: {error}"),
                help: None,
                findings: Vec::new(),
            })
        })
    }

    /// Whether both say the same, byte for byte.
    pub fn is_as(&self, other: &Self) -> bool {
        let key = |source: &Option<PolicySource>| source.as_ref().map(key_of);
        [&self.files, &self.packs, &self.workspace].map(key)
            == [&other.files, &other.packs, &other.workspace].map(key)
    }

    /// Whether it ends what bundles say: files alone, where there is no bundle at all.
    fn stands_alone(&self, state: &State) -> bool {
        self.files.is_some() && !state.has_bundles()
    }
}

impl Policies {
    /// What decides for this session now. Where a set cannot be made, everything is refused and
    /// says why: an old set could allow what was taken back.
    pub async fn in_force(&self, session: &Arc<SessionFacts>, brought: &Brought) -> InForce {
        match self.try_in_force(session, brought).await {
            Ok(in_force) => in_force,
            Err(error) => {
                tracing::warn!(session = %session.id, %error, "policy in force refuses everything");
                self.log.event_later(Event::Policy(Box::new(PolicyEvent {
                    change: PolicyChange::Refused,
                    bundle: None,
                    source: None,
                    by: None,
                    why: Some(format!(
                        "nothing is allowed in this session any more: {error}"
                    )),
                    session: Some(Arc::clone(session)),
                })));
                InForce::alone(self.closed(&error.to_string()).await)
            }
        }
    }

    /// As [`Self::in_force`], for the opening of a session, where a mistake can be told.
    ///
    /// # Errors
    /// [`LoadError`] with file and line.
    pub async fn try_in_force(
        &self,
        session: &SessionFacts,
        brought: &Brought,
    ) -> Result<InForce, LoadError> {
        let (live, candidate) = {
            let state = self.state();
            // One that is over has no say any more, also before it is ended.
            let candidate = state.board.candidate.as_ref();
            let candidate = candidate
                .filter(|_| !state.candidate_is_over(SystemTime::now()))
                .filter(|candidate| match &candidate.stage {
                    Stage::Trial { .. } => true,
                    Stage::Rollout { to, .. } => to.covers(session, &candidate.bundle.digest),
                });
            let candidate = candidate
                .map(|candidate| {
                    let loaded = state.candidate.as_ref().ok_or_else(|| {
                        unavailable(candidate.layer, "the candidate is not loaded")
                    })?;
                    let instead = (candidate.layer, loaded.source.clone());
                    let set = join(&state, brought, Some(instead))?;
                    let role = match candidate.stage {
                        Stage::Trial { .. } => Role::Trial,
                        Stage::Rollout { .. } => Role::Rollout,
                    };
                    Ok::<_, LoadError>((set, role, Arc::clone(&state.comparison)))
                })
                .transpose()?;
            (join(&state, brought, None)?, candidate)
        };
        let live = self.cache.snapshot(live).await?;
        let Some((candidate, role, comparison)) = candidate else {
            return Ok(InForce::alone(live));
        };
        let candidate = self.cache.snapshot(candidate).await?;
        let (live, snapshot) = match role {
            Role::Trial => (live, candidate),
            Role::Rollout => (candidate, live),
        };
        let beside = Beside {
            snapshot,
            role,
            comparison,
        };
        Ok(InForce {
            live,
            beside: Some(beside),
        })
    }

    /// A set that refuses everything, and says why.
    async fn closed(&self, why: &str) -> Arc<cordon_policy::Snapshot> {
        match self.cache.snapshot(closed(why)).await {
            Ok(snapshot) => snapshot,
            Err(error) => {
                tracing::error!(%error, "the set that refuses everything did not load");
                Arc::clone(&self.nothing)
            }
        }
    }
}

/// The set of a session; with another one `instead` of what is live in its layer.
pub(super) fn join(
    state: &State,
    brought: &Brought,
    instead: Option<(Layer, PolicySource)>,
) -> Result<PolicySource, LoadError> {
    let of = |layer: Layer| match &instead {
        Some((other, source)) if *other == layer => Ok(Some(source.clone())),
        _ => state.live_source(layer),
    };
    let mut organisation = of(Layer::Organisation)?;
    if let (Some(_), Some(packs)) = (&organisation, &brought.packs) {
        return Err(refused(
            format!(
                "`{}` is a shipped pack, whose place the organisation's bundle has",
                packs.name
            ),
            "leave it out of `--policy`",
        ));
    }
    if organisation.is_none() {
        let default = || brought.files.is_none().then(PolicySource::default_pack);
        organisation = brought.packs.clone().or_else(default);
    }
    let mut user: Vec<PolicySource> = of(Layer::User)?.into_iter().collect();
    user.extend(brought.files.clone());
    let layers = Layers {
        organisation,
        team: of(Layer::Team)?.into_iter().collect(),
        user,
        workspace: brought.workspace.clone(),
    };
    // Files that nobody joins with anything keep what they say of themselves.
    if layers.organisation.is_none()
        && layers.workspace.is_none()
        && brought.stands_alone(state)
        && let Some(files) = &brought.files
    {
        return Ok(files.clone());
    }
    Ok(layers.join()?)
}

/// A set that refuses everything.
pub fn closed(why: &str) -> PolicySource {
    let why: String = why.chars().take(400).collect();
    let text = format!(
        "@id(\"policy-not-available\")\n@reason(\"{}\")\nforbid (principal, action, resource);\n",
        why.escape_default()
    );
    let file = PolicyFile {
        layer: Layer::Organisation,
        ..PolicyFile::new("none.cedar", text)
    };
    PolicySource::new("none", vec![file])
}

/// A layer is configured and has nothing in force.
pub fn unavailable(layer: Layer, why: &str) -> LoadError {
    refused(
        format!("the policy of layer `{layer}` is not available: {why}"),
        "see `cordon policy status`; no session may start without it",
    )
}

fn refused(message: impl Into<String>, help: &str) -> LoadError {
    LoadError {
        message: message.into(),
        help: Some(help.into()),
        findings: Vec::new(),
    }
}
