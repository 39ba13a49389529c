//! What a daemon knows about its policies while it runs: the board, the bundles behind it, faults.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use cordon_policy::{
    Layer,
    bundle::{Accepted, Bundle, Layers},
    source::{LoadError, PolicySource},
};
use cordon_session::comparison::Comparison;

use super::{board::Board, compose::unavailable};

/// Everything that changes. Held only for as long as it takes to read or replace a part.
#[derive(Debug)]
pub struct State {
    /// What is remembered over a restart.
    pub board: Board,
    /// Layers that have a `[[policy.bundle]]`.
    pub configured: Vec<Layer>,
    /// What is in force, by layer.
    pub live: BTreeMap<Layer, Arc<Loaded>>,
    /// What is tried out or rolled out.
    pub candidate: Option<Arc<Loaded>>,
    /// Where its answers are compared.
    pub comparison: Arc<Comparison>,
    /// Why a source's last answer is not in force, by layer.
    pub faults: BTreeMap<Layer, Fault>,
    /// What went wrong beside that.
    pub notes: Vec<String>,
}

/// A bundle as it is joined into sets.
#[derive(Debug)]
pub struct Loaded {
    /// Who signed it.
    pub accepted: Accepted,
    /// Its rules and data.
    pub source: PolicySource,
    /// From when it may not be used any more.
    pub not_after: Option<SystemTime>,
}

/// Why something is not in force, and which it was, so that it is recorded once.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// What was refused, as far as known.
    pub digest: Option<String>,
    /// Why.
    pub why: String,
}

impl Loaded {
    /// Of a bundle that was accepted.
    pub fn new(bundle: &Bundle, accepted: Accepted) -> Arc<Self> {
        Arc::new(Self {
            accepted,
            source: bundle.source(),
            not_after: bundle.manifest().not_after,
        })
    }

    /// Whether it may not be used any more.
    pub fn is_over(&self, now: SystemTime) -> bool {
        self.not_after.is_some_and(|end| end <= now)
    }
}

impl State {
    /// Whether anything but files that a launcher names decides.
    pub fn has_bundles(&self) -> bool {
        !self.configured.is_empty()
    }

    /// The rules of a layer; `None` where it has no bundle by configuration.
    ///
    /// # Errors
    /// When it has one and none is in force: missing rules could be missing forbids.
    pub fn live_source(&self, layer: Layer) -> Result<Option<PolicySource>, LoadError> {
        if !self.configured.contains(&layer) {
            return Ok(None);
        }
        let why = || match self.faults.get(&layer) {
            Some(fault) => fault.why.clone(),
            None => "its source has brought no bundle yet".into(),
        };
        let loaded = self
            .live
            .get(&layer)
            .ok_or_else(|| unavailable(layer, &why()))?;
        if loaded.is_over(SystemTime::now()) {
            return Err(unavailable(layer, "the validity of its bundle is over"));
        }
        Ok(Some(loaded.source.clone()))
    }

    /// The rules of all bundles as one set, with another one `instead` of what is live in its layer.
    /// One whose validity is over is among them, and one that is missing is no error: what decides
    /// about a change must be there when nothing else is, or nothing could be changed any more.
    ///
    /// # Errors
    /// [`LoadError`]: they cannot be one set.
    pub fn bundles(
        &self,
        instead: Option<(Layer, PolicySource)>,
    ) -> Result<PolicySource, LoadError> {
        let of = |layer: Layer| match &instead {
            Some((other, source)) if *other == layer => Some(source.clone()),
            _ => self.live.get(&layer).map(|loaded| loaded.source.clone()),
        };
        let layers = Layers {
            organisation: of(Layer::Organisation).or_else(|| Some(PolicySource::default_pack())),
            team: of(Layer::Team).into_iter().collect(),
            user: of(Layer::User).into_iter().collect(),
            workspace: None,
        };
        Ok(layers.join()?)
    }

    /// Whether the validity of what is tried out or rolled out is over.
    pub fn candidate_is_over(&self, now: SystemTime) -> bool {
        let loaded = self.candidate.as_ref();
        loaded.is_some_and(|loaded| loaded.is_over(now))
    }

    /// The next moment after this one at which what is in force changes by itself. A candidate's end
    /// is one for as long as the candidate is there, also when it has passed.
    pub fn next_moment(&self, after: SystemTime) -> Option<SystemTime> {
        let candidate = self.board.candidate.as_ref().and(self.candidate.as_ref());
        let validity = candidate.and_then(|loaded| loaded.not_after);
        let trial = self
            .board
            .candidate
            .as_ref()
            .and_then(|candidate| match candidate.stage {
                super::Stage::Trial { until } => {
                    Some(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(until))
                }
                super::Stage::Rollout { .. } => None,
            });
        let of_bundles = self
            .live
            .values()
            .chain(&self.candidate)
            .flat_map(|loaded| {
                [
                    loaded.not_after,
                    loaded.source.observe.map(|observe| observe.until),
                ]
            });
        of_bundles
            .flatten()
            .filter(|moment| *moment > after)
            .chain(trial)
            .chain(validity)
            .min()
    }
}
