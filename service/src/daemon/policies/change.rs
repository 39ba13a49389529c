//! What people ask for: try, roll out, promote, publish, roll back.
//!
//! Each is one command: decided by policy on administration, checked, recorded, remembered, and
//! then in force everywhere. Whoever asks is known by the socket that they reached.

use std::path::PathBuf;

use cordon_audit::PolicyChange;
use cordon_policy::{
    Layer,
    bundle::{Accepted, Bundle},
};
use cordon_session::comparison::Bound;

use super::{
    Policies, Share, Stage,
    offer::Came,
    words::{days, now_seconds, share_words, words},
};
use crate::control::PolicyAnswer;

/// What stops a change.
#[derive(Debug)]
pub enum Stopped {
    /// It cannot be done: what, and what to do.
    Failed(String, Option<String>),
    /// Policy or the trust file refuses it.
    Denied(PolicyAnswer),
    /// The rule that permits it wants two people's signatures.
    OnePerson,
}

pub(super) type Changed = Result<PolicyAnswer, Stopped>;

/// A bundle that somebody named, or that was there already.
pub(super) struct Named {
    /// Its layer.
    pub(super) layer: Layer,
    /// It.
    pub(super) bundle: Bundle,
    /// Who signed it.
    pub(super) accepted: Accepted,
}

impl Policies {
    /// Asks a candidate beside what is in force.
    pub async fn try_out(
        &self,
        bundle: Option<PathBuf>,
        layer: Option<Layer>,
        seconds: u64,
    ) -> Changed {
        let _one = self.changing.lock().await;
        let named = self.named(bundle, layer).await?;
        let until = now_seconds().saturating_add(seconds);
        let stage = Stage::Trial { until };
        let words = format!(
            "{} is asked beside what is in force for {}",
            words(&named.accepted),
            days(seconds)
        );
        self.begin(named, stage, PolicyChange::Try, words).await
    }

    /// Lets a candidate decide for some sessions.
    pub async fn roll_out(
        &self,
        bundle: Option<PathBuf>,
        layer: Option<Layer>,
        to: Share,
        bound: Option<Bound>,
    ) -> Changed {
        let _one = self.changing.lock().await;
        let named = self.named(bundle, layer).await?;
        let words = format!(
            "{} decides for {}",
            words(&named.accepted),
            share_words(&to)
        );
        let stage = Stage::Rollout { to, bound };
        self.begin(named, stage, PolicyChange::Rollout, words).await
    }

    /// Puts the candidate, or what waits, into force for all.
    pub async fn promote(&self, layer: Option<Layer>) -> Changed {
        let _one = self.changing.lock().await;
        let named = self.named(None, layer).await?;
        self.publish_named(named, PolicyChange::Promote).await
    }

    /// Puts a bundle into force for all. `second`: only the one that waits for it.
    pub async fn publish(&self, path: PathBuf, second: bool) -> Changed {
        let _one = self.changing.lock().await;
        if second {
            let bundle = read(path.clone()).await?;
            let state = self.state();
            let layer = bundle.manifest().layer;
            let mut pending = state.board.pending.iter();
            let waits = pending.find(|pending| pending.layer == layer);
            if waits.is_none_or(|pending| pending.digest != bundle.digest()) {
                return Err(Stopped::Failed(
                    match waits {
                        None => "nothing waits for a second signature".into(),
                        Some(pending) => format!(
                            "{} revision {} waits for a second signature, and this is another \
                             content",
                            pending.name, pending.revision
                        ),
                    },
                    Some("see `cordon policy status`".into()),
                ));
            }
        }
        let named = self.named(Some(path), None).await?;
        self.publish_named(named, PolicyChange::Promote).await
    }

    /// Takes the candidate back; without one, or with a revision, what is in force.
    pub async fn roll_back(&self, layer: Option<Layer>, to: Option<u64>) -> Changed {
        let _one = self.changing.lock().await;
        let candidate = self.state().board.candidate.clone();
        match candidate {
            Some(candidate) if to.is_none() && layer.is_none_or(|l| l == candidate.layer) => {
                self.authorise(&candidate.bundle).await?;
                let event = self.event(
                    PolicyChange::Rollback,
                    candidate.layer,
                    &candidate.bundle,
                    Some(&self.user.name),
                );
                self.record(event).await.map_err(failed)?;
                self.drop_candidate(None).await.map_err(failed)?;
                Ok(done(format!("{} is taken back", words(&candidate.bundle))))
            }
            _none => self.go_back(layer, to).await,
        }
    }

    async fn go_back(&self, layer: Option<Layer>, to: Option<u64>) -> Changed {
        let layer = self.layer(layer)?;
        let former = {
            let state = self.state();
            let held = state.board.layers.get(&layer);
            let mut former = held.iter().flat_map(|held| &held.former);
            match to {
                Some(revision) => former.find(|former| former.revision == revision).cloned(),
                None => former.next().cloned(),
            }
        };
        let Some(former) = former else {
            return Err(Stopped::Failed(
                match to {
                    Some(revision) => format!("revision {revision} is not kept any more"),
                    None => "there is no revision to go back to".into(),
                },
                Some("`cordon policy status` shows what there is".into()),
            ));
        };
        let bundle = self.kept(&former)?;
        // Its counter is lower on purpose; its signatures and validity count as ever.
        let accepted = self.accept(&bundle, layer, None).map_err(failed)?;
        let named = Named {
            layer,
            bundle,
            accepted,
        };
        self.publish_named(named, PolicyChange::Rollback).await
    }

    async fn publish_named(&self, named: Named, change: PolicyChange) -> Changed {
        self.authorise_or_wait(&named).await?;
        let Named {
            layer,
            bundle,
            accepted,
        } = named;
        let words = words(&accepted);
        let event = self.event(change, layer, &accepted, Some(&self.user.name));
        self.put_into_force(layer, &bundle, accepted, event, Came::ByHand)
            .await
            .map_err(failed)?;
        let mut state = self.state();
        state.faults.remove(&layer);
        Ok(done(format!("{words} is in force")))
    }

    /// The bundle that was named, checked; else the candidate, else the one that waits.
    async fn named(&self, path: Option<PathBuf>, layer: Option<Layer>) -> Result<Named, Stopped> {
        let Some(path) = path else {
            return self.waiting(layer);
        };
        let bundle = read(path).await?;
        let layer = self.layer(Some(bundle.manifest().layer))?;
        match self.check(layer, &bundle, Some(&self.user.name)).await {
            Ok(accepted) => Ok(Named {
                layer,
                bundle,
                accepted,
            }),
            Err(why) => {
                let pending = {
                    let state = self.state();
                    let mut pending = state.board.pending.iter();
                    pending.any(|pending| pending.digest == bundle.digest())
                };
                if pending {
                    return Err(Stopped::Denied(second_needed(&why)));
                }
                Err(Stopped::Denied(PolicyAnswer::Denied {
                    message: format!("the bundle is refused: {why}"),
                    decision: None,
                    help: Some("`cordon policy verify` and `cordon policy check` say more".into()),
                }))
            }
        }
    }

    fn waiting(&self, layer: Option<Layer>) -> Result<Named, Stopped> {
        let found = {
            let state = self.state();
            let of_layer = |found: Layer| layer.is_none_or(|wanted| wanted == found);
            let candidate = state
                .board
                .candidate
                .as_ref()
                .filter(|candidate| of_layer(candidate.layer))
                .map(|candidate| (candidate.layer, candidate.bundle.clone()));
            let waiting = || {
                let held = state
                    .board
                    .layers
                    .iter()
                    .filter(|(found, _)| of_layer(**found));
                held.filter_map(|(layer, held)| Some((*layer, held.waiting.clone()?)))
                    .next()
            };
            candidate.or_else(waiting)
        };
        let Some((layer, accepted)) = found else {
            return Err(Stopped::Failed(
                "nothing is tried out, rolled out or waiting".into(),
                Some("name a bundle".into()),
            ));
        };
        let bundle = self.kept(&accepted)?;
        let accepted = self.accept(&bundle, layer, None).map_err(failed)?;
        Ok(Named {
            layer,
            bundle,
            accepted,
        })
    }

    fn kept(&self, accepted: &Accepted) -> Result<Bundle, Stopped> {
        self.store.read(&accepted.digest).map_err(failed)
    }

    /// The layer that is meant, which must have a bundle by configuration.
    fn layer(&self, layer: Option<Layer>) -> Result<Layer, Stopped> {
        let state = self.state();
        let layer = match (layer, state.configured.as_slice()) {
            (Some(layer), _) => layer,
            (None, [only]) => *only,
            (None, _) => Layer::Organisation,
        };
        if state.configured.contains(&layer) {
            return Ok(layer);
        }
        Err(Stopped::Failed(
            format!("layer `{layer}` has no bundle in `cordon.toml`"),
            Some(format!(
                "add `[[policy.bundle]]` with `layer = \"{layer}\"` and `source = \"manual\"`"
            )),
        ))
    }
}

impl Policies {
    /// Lets policy on administration decide; where it wants two people and one has signed, the
    /// bundle waits for the other.
    pub(super) async fn authorise_or_wait(&self, named: &Named) -> Result<(), Stopped> {
        match self.authorise(&named.accepted).await {
            Err(Stopped::OnePerson) => {
                let why = "the rule that permits it wants two people's signatures";
                self.remember_pending(named.layer, &named.bundle, Some(&self.user.name), why)
                    .await
                    .map_err(failed)?;
                Err(Stopped::Denied(second_needed(why)))
            }
            other => other,
        }
    }
}

fn second_needed(why: &str) -> PolicyAnswer {
    PolicyAnswer::Done {
        message: format!(
            "not in force yet: {why}\nanother person signs the same bundle with \
             `cordon policy sign`, then: `cordon policy publish --second BUNDLE`"
        ),
        pending: true,
    }
}

async fn read(path: PathBuf) -> Result<Bundle, Stopped> {
    let read = tokio::task::spawn_blocking(move || Bundle::read(&path));
    let read = read.await.map_err(failed)?;
    read.map_err(|error| Stopped::Failed(error.to_string(), Some(error.hint().into())))
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that `map_err` calls"
)]
pub(super) fn failed(error: impl ToString) -> Stopped {
    Stopped::Failed(error.to_string(), None)
}

pub(super) fn done(message: String) -> PolicyAnswer {
    PolicyAnswer::Done {
        message,
        pending: false,
    }
}
