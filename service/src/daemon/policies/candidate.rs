//! A candidate's life: it begins by somebody's wish, and ends by one, by its time, or by its bound.

use std::{sync::Arc, time::SystemTime};

use cordon_audit::{PolicyChange, PolicyEvent};
use cordon_session::comparison::Comparison;

use super::{
    Candidate, Loaded, Policies, Stage,
    change::{Changed, Named, Stopped, done, failed},
    words::{now_seconds, words},
};

impl Policies {
    pub(super) async fn begin(
        &self,
        named: Named,
        stage: Stage,
        change: PolicyChange,
        what: String,
    ) -> Changed {
        self.authorise_or_wait(&named).await?;
        let Named {
            layer,
            bundle,
            accepted,
        } = named;
        let live = {
            let state = self.state();
            let held = state.board.layers.get(&layer);
            held.and_then(|held| held.live.clone())
        };
        match live {
            None => {
                return Err(Stopped::Failed(
                    format!("layer `{layer}` has nothing in force that it could stand beside"),
                    Some("put it into force with `cordon policy publish`".into()),
                ));
            }
            Some(live) if live.digest == accepted.digest => {
                return Err(Stopped::Failed(
                    format!("{} is in force already", words(&live)),
                    Some("give a change another revision".into()),
                ));
            }
            Some(_other) => {}
        }
        self.store_bundle(&bundle).await.map_err(failed)?;
        let event = self.event(change, layer, &accepted, Some(&self.user.name));
        self.record(PolicyEvent {
            why: Some(what.clone()),
            ..event
        })
        .await
        .map_err(failed)?;
        let mut board = self.state().board.clone();
        let bound = match &stage {
            Stage::Rollout { bound, .. } => *bound,
            Stage::Trial { .. } => None,
        };
        board.candidate = Some(Candidate {
            layer,
            bundle: accepted.clone(),
            stage,
            by: self.user.name.clone(),
            since: now_seconds(),
        });
        self.write_board(&board).await.map_err(failed)?;
        {
            let mut state = self.state();
            state.board = board;
            state.candidate = Some(Loaded::new(&bundle, accepted));
            state.comparison = Arc::new(Comparison::new(bound));
            self.comparisons.send_replace(Arc::clone(&state.comparison));
        }
        self.store_only_needed();
        self.refresh().await;
        Ok(done(what))
    }

    /// When a rollout's bound is passed: what was in force decides again, whether or not the log
    /// and the disk take the news.
    pub(super) async fn take_back_by_itself(&self, comparison: &Arc<Comparison>) {
        let _one = self.changing.lock().await;
        let candidate = {
            let state = self.state();
            let same = Arc::ptr_eq(&state.comparison, comparison);
            state.board.candidate.clone().filter(|_| same)
        };
        let Some(candidate) = candidate else { return };
        let counts = comparison.counts();
        let requests =
            counts.both_allow + counts.both_refuse + counts.newly_refused + counts.newly_allowed;
        let why = format!(
            "taken back by itself: it refused {} of {requests} requests that what it would replace \
             allows",
            counts.newly_refused
        );
        self.end_candidate(&candidate, &why, true).await;
    }

    /// When a trial's time is over, or the validity of what is tried out or rolled out.
    pub(super) async fn end_candidate_if_over(&self) {
        let _one = self.changing.lock().await;
        let (candidate, is_over) = {
            let state = self.state();
            let is_over = state.candidate_is_over(SystemTime::now());
            (state.board.candidate.clone(), is_over)
        };
        let Some(candidate) = candidate else { return };
        match candidate.stage {
            // Whoever began it did not say this end.
            _ if is_over => {
                self.end_candidate(&candidate, "its validity is over", true)
                    .await;
            }
            Stage::Trial { until } if until <= now_seconds() => {
                self.end_candidate(&candidate, "the time of its trial is over", false)
                    .await;
            }
            Stage::Trial { .. } | Stage::Rollout { .. } => {}
        }
    }

    async fn end_candidate(&self, candidate: &Candidate, why: &str, noted: bool) {
        let note = format!("{}: {why}", words(&candidate.bundle));
        if let Err(error) = self.drop_candidate(noted.then_some(note)).await {
            tracing::warn!(%error, "the end of a candidate is not remembered");
        }
        let event = self.event(
            PolicyChange::Rollback,
            candidate.layer,
            &candidate.bundle,
            None,
        );
        let event = PolicyEvent {
            why: Some(why.into()),
            ..event
        };
        if let Err(error) = self.record(event).await {
            tracing::warn!(%error, "the end of a candidate was not recorded");
        }
    }

    /// In force first, then remembered: what was live decides again whatever the disk says.
    pub(super) async fn drop_candidate(&self, note: Option<String>) -> Result<(), String> {
        let board = {
            let mut state = self.state();
            state.board.candidate = None;
            state.candidate = None;
            state.notes.extend(note);
            state.comparison = Arc::new(Comparison::new(None));
            self.comparisons.send_replace(Arc::clone(&state.comparison));
            state.board.clone()
        };
        self.refresh().await;
        let written = self.write_board(&board).await;
        self.store_only_needed();
        written
    }
}
