//! The policies of a daemon: which bundles are in force, what each session is decided by, and how
//! that changes while it runs.
//!
//! `board` is what is remembered, `state` what is known now, `store` the bundles on disk, `cache`
//! the compiled sets; `compose` makes a session's set, `follow` keeps running sessions up to date,
//! `offer` takes what sources bring, `change` does what people ask for where `authority` lets them,
//! `candidate` begins and ends trials and rollouts, `tasks` watches sources and the clock, `show`
//! tells.

mod applications;
mod approvers;
mod authority;
mod board;
mod cache;
mod candidate;
mod change;
mod compose;
mod follow;
mod manage;
mod offer;
mod show;
mod somebody;
mod state;
mod store;
mod tasks;
mod words;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use cordon_audit::{Event, Log, PolicyEvent, RecordError};
use cordon_policy::{
    Layer, Snapshot,
    bundle::{Accepted, Bundle, Refusal, TrustRoot, accept_unsigned, verify},
    packs,
    source::PolicySource,
};
use cordon_session::{
    comparison::Comparison,
    config::{BundleSource, PolicyConfig},
};
use tokio::sync::{Notify, watch};

pub use self::{
    approvers::AnswerRule,
    board::Share,
    change::Stopped,
    compose::Brought,
    follow::Follower,
    show::observe_of,
    somebody::Somebody,
    tasks::{Tasks, watch_policies},
};
use self::{
    board::{Board, Candidate, Pending, Stage},
    cache::Cache,
    state::{Fault, Loaded, State},
    store::Store,
};
use crate::{error::Failure, policy_sets::PolicySets, policy_sources::HttpClient, user::User};

/// Whether `--policy` names a shipped pack by this, and not a file.
pub fn is_pack(path: &Path) -> bool {
    path.to_str()
        .is_some_and(|name| packs::find(name).is_some())
}

/// The policies of a daemon.
#[derive(Debug)]
pub struct Policies {
    config: PolicyConfig,
    trust: Option<TrustRoot>,
    user: User,
    log: Log,
    board_file: PathBuf,
    store: Arc<Store>,
    cache: Cache,
    /// Refuses everything: there before anything else is, so that nothing can be missing.
    nothing: Arc<Snapshot>,
    state: Mutex<State>,
    followers: Mutex<Vec<Weak<Follower>>>,
    /// Grows with every change; a session that opened meanwhile sees it.
    generation: AtomicU64,
    /// The set whose applications answer, and of which generation it is.
    applications: Mutex<Option<(u64, Arc<Snapshot>)>>,
    /// The rules that decide about sessions from outside, and of which generation they are.
    managing: Mutex<Option<(u64, Arc<manage::Managing>)>>,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
    /// What the clock task waits for has changed.
    moments: Notify,
    /// The comparison of the candidate now, for whoever takes it back.
    comparisons: watch::Sender<Arc<Comparison>>,
    /// Where a source is somewhere else.
    http: Option<Arc<HttpClient>>,
}

impl Policies {
    /// Reads the trust file and what was in force when the last daemon ended. No source is asked
    /// yet.
    ///
    /// # Errors
    /// [`Failure`] when the trust file is not one: without it nobody could be trusted.
    pub fn new(
        config: PolicyConfig,
        directory: &Path,
        user: User,
        log: Log,
        extra_ca: Option<&str>,
    ) -> Result<Self, Failure> {
        let trust = config.trust.as_deref().map(read_trust).transpose()?;
        // A build whose own packs do not load is broken, and must not start.
        let builtin = PolicySource::default_pack();
        let cache = Cache::new(PolicySets::new(directory));
        cache.keep(&builtin)?;
        let nothing = Arc::new(Snapshot::load(&compose::closed("there is no policy"))?);
        let board_file = directory.join("state.json");
        let comparison = Arc::new(Comparison::new(None));
        let mut state = State {
            board: Board::default(),
            configured: config.bundle.iter().map(|bundle| bundle.layer).collect(),
            live: BTreeMap::new(),
            candidate: None,
            comparison: Arc::clone(&comparison),
            faults: BTreeMap::new(),
            notes: Vec::new(),
        };
        match Board::read(&board_file) {
            Ok(board) => state.board = board,
            Err(error) => state.notes.push(format!(
                "`{}` not read: {error}; what was in force is not known, sources are asked again",
                board_file.display()
            )),
        }
        // Reading the system's certificates takes time, which most daemons need not spend.
        let by_network = |source: &BundleSource| match source {
            BundleSource::Http(_) | BundleSource::Oci(_) => true,
            BundleSource::Path(_) | BundleSource::Manual => false,
        };
        let needed = config
            .bundle
            .iter()
            .any(|bundle| by_network(&bundle.source));
        let http = needed.then(|| HttpClient::new(extra_ca)).transpose()?;
        let policies = Self {
            config,
            trust,
            user,
            log,
            board_file,
            store: Arc::new(Store::new(directory.join("bundles"))),
            cache,
            nothing,
            state: Mutex::new(state),
            followers: Mutex::default(),
            generation: AtomicU64::new(0),
            applications: Mutex::default(),
            managing: Mutex::default(),
            changing: tokio::sync::Mutex::new(()),
            moments: Notify::new(),
            comparisons: watch::channel(comparison).0,
            http: http.map(Arc::new),
        };
        policies.restore();
        Ok(policies)
    }

    /// The bundles that the board names, read from the store and checked as if they had just come.
    fn restore(&self) {
        let mut state = self.state();
        let configured = state.configured.clone();
        for layer in configured {
            let held = state.board.layers.get(&layer);
            let Some(live) = held.and_then(|held| held.live.clone()) else {
                continue;
            };
            match self.recall(layer, &live) {
                Ok(loaded) => {
                    state.live.insert(layer, loaded);
                }
                Err(why) => {
                    let fault = Fault {
                        digest: Some(live.digest),
                        why: format!("the last good bundle is not usable: {why}"),
                    };
                    state.faults.insert(layer, fault);
                }
            }
        }
        let Some(candidate) = state.board.candidate.clone() else {
            return;
        };
        match self.recall(candidate.layer, &candidate.bundle) {
            Ok(loaded) => {
                let bound = match candidate.stage {
                    Stage::Rollout { bound, .. } => bound,
                    Stage::Trial { .. } => None,
                };
                state.comparison = Arc::new(Comparison::new(bound));
                self.comparisons.send_replace(Arc::clone(&state.comparison));
                state.candidate = Some(loaded);
            }
            Err(why) => {
                state.board.candidate = None;
                state
                    .notes
                    .push(format!("the candidate was dropped: {why}"));
            }
        }
    }

    /// What was accepted before, checked again. That its validity is over by now keeps it from deciding
    /// for sessions, and not from saying who may replace it.
    fn recall(&self, layer: Layer, accepted: &Accepted) -> Result<Arc<Loaded>, String> {
        let bundle = self
            .store
            .read(&accepted.digest)
            .map_err(|error| error.to_string())?;
        let again = match self.accept(&bundle, layer, None) {
            Ok(again) => again,
            // That comes last: nothing else is wrong with it.
            Err(NotAccepted::Refused(Refusal::Expired { .. })) => accepted.clone(),
            Err(refusal) => return Err(refusal.to_string()),
        };
        Ok(Loaded::new(&bundle, again))
    }

    /// Whether a bundle may be used, by its signatures, counter and validity.
    fn accept(
        &self,
        bundle: &Bundle,
        layer: Layer,
        last: Option<&Accepted>,
    ) -> Result<Accepted, NotAccepted> {
        let manifest = bundle.manifest();
        if manifest.layer != layer {
            return Err(NotAccepted::Layer {
                says: manifest.layer,
                is: layer,
            });
        }
        let now = SystemTime::now();
        let accepted = match &self.trust {
            Some(trust) => verify(bundle, trust, now, last),
            None => accept_unsigned(bundle, now),
        };
        Ok(accepted?)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_applications(&self) -> MutexGuard<'_, Option<(u64, Arc<Snapshot>)>> {
        let held = self.applications.lock();
        held.unwrap_or_else(PoisonError::into_inner)
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    async fn record(&self, event: PolicyEvent) -> Result<(), RecordError> {
        self.log
            .event(Event::Policy(Box::new(event)))
            .await
            .map(|_id| ())
    }
}

/// Why a bundle is not accepted.
#[derive(Debug, thiserror::Error)]
enum NotAccepted {
    #[error("it is a bundle of layer `{says}`, and its source is configured for `{is}`")]
    Layer { says: Layer, is: Layer },
    #[error(transparent)]
    Refused(#[from] Refusal),
}

fn read_trust(path: &Path) -> Result<TrustRoot, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::new(format!("trust file `{}` not read: {error}", path.display()))
            .help("correct `policy.trust` in `cordon.toml`; without it no bundle can be accepted")
    })?;
    TrustRoot::parse(path, &text).map_err(|error| {
        let help = error.hint().to_owned();
        Failure::new(error.to_string()).help(help)
    })
}

#[cfg(test)]
mod tests;
