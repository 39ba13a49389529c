//! Tells what is in force, and what one session is decided by (N20).

use std::{collections::BTreeMap, time::SystemTime};

use cordon_policy::{Layer, Snapshot, bundle::Accepted, moment::to_second};
use cordon_session::{InForce, Role};

use super::{
    Follower, Policies, Stage, Stopped,
    state::Loaded,
    words::{days, now_seconds, share_words, words},
};
use crate::control::{
    BundleLine, CandidateStatus, Effective, LayerStatus, PolicyStatus, RuleLine, effect_word,
};

impl Policies {
    /// Sources, what is in force, what is tried out; for this daemon's own user.
    pub async fn status(&self) -> PolicyStatus {
        let of_sessions = self.notes_on_sessions().await;
        let state = self.state();
        let mut notes = state.notes.clone();
        notes.extend(of_sessions);
        let now = SystemTime::now();
        let layers = self.config.bundle.iter().map(|config| {
            let held = state.board.layers.get(&config.layer);
            let live = state.live.get(&config.layer);
            let over = live.filter(|loaded| loaded.is_over(now));
            let fault = state.faults.get(&config.layer);
            let faults = over.map(|loaded| over_words(loaded)).into_iter();
            let faults: Vec<String> = faults.chain(fault.map(|fault| fault.why.clone())).collect();
            LayerStatus {
                layer: config.layer,
                source: config.source.to_string(),
                live: live
                    .filter(|_| over.is_none())
                    .map(|loaded| loaded_line(loaded)),
                waiting: held
                    .and_then(|held| held.waiting.as_ref())
                    .map(|waiting| line(waiting, None)),
                former: held
                    .iter()
                    .flat_map(|held| &held.former)
                    .map(|former| line(former, None))
                    .collect(),
                fault: (!faults.is_empty()).then(|| faults.join("; ")),
            }
        });
        let mut layers: Vec<LayerStatus> = layers.collect();
        layers.sort_by_key(|status| status.layer);
        let candidate = state
            .board
            .candidate
            .as_ref()
            .map(|candidate| CandidateStatus {
                layer: candidate.layer,
                bundle: match &state.candidate {
                    Some(loaded) => loaded_line(loaded),
                    None => line(&candidate.bundle, None),
                },
                stage: stage_words(&candidate.stage),
                by: candidate.by.clone(),
                counts: state.comparison.counts(),
            });
        let pending = state.board.pending.iter().map(|pending| {
            format!(
                "{}: {} revision {} ({}), asked for by {}: {}",
                pending.layer,
                pending.name,
                pending.revision,
                pending.digest.get(..12).unwrap_or(&pending.digest),
                pending.by,
                pending.why
            )
        });
        PolicyStatus {
            layers,
            trust: self.config.trust.clone(),
            candidate,
            pending: pending.collect(),
            notes,
        }
    }

    /// What is to be said of sessions that may be seen.
    async fn notes_on_sessions(&self) -> Vec<String> {
        let who = self.own_user();
        let mut notes = Vec::new();
        for follower in self.followers() {
            let grants = follower.refused_grants();
            let session = follower.gate().session();
            if !grants.is_empty() && self.may_read(&who, session).await {
                let (id, grants) = (&session.id, grants.join(", "));
                notes.push(format!(
                    "session {id} holds what policy refuses now: {grants}"
                ));
            }
        }
        notes
    }

    /// What the one running session whose id begins with `prefix` is decided by, for this daemon's own
    /// user.
    ///
    /// # Errors
    /// There is no one such session, or they may not see it.
    pub async fn effective(&self, prefix: &str) -> Result<Effective, Stopped> {
        let Some(follower) = self.follower(prefix) else {
            return Err(Stopped::Failed(
                format!(
                    "no one running session begins with `{}`",
                    prefix.escape_default()
                ),
                Some("`cordon status` shows the running sessions".into()),
            ));
        };
        let session = follower.gate().session();
        self.authorise_looking(&self.own_user(), session).await?;
        Ok(self.effective_of(&follower))
    }

    fn effective_of(&self, follower: &Follower) -> Effective {
        let in_force = follower.current();
        let state = self.state();
        let in_rollout = matches!(&in_force.beside, Some(beside) if beside.role == Role::Rollout);
        let candidate = state.board.candidate.as_ref();
        let mut bundles = BTreeMap::new();
        for (layer, loaded) in &state.live {
            let instead = state.candidate.as_ref().filter(|_| {
                in_rollout && candidate.is_some_and(|candidate| candidate.layer == *layer)
            });
            bundles.insert(*layer, loaded_line(instead.unwrap_or(loaded)));
        }
        let live = &in_force.live;
        let mut rules: Vec<RuleLine> = live.rules().iter().map(rule_line).collect();
        rules.sort_by_key(|rule| rule.layer);
        Effective {
            session: follower.gate().session().id.clone(),
            set: live.name().into(),
            digest: live.digest().into(),
            revision: live.revision(),
            follows: state.has_bundles(),
            observe: observe_of(live),
            bundles: bundles.into_iter().collect::<Vec<(Layer, BundleLine)>>(),
            candidate: candidate.and_then(|candidate| {
                part_words(&in_force).map(|part| format!("{} {part}", words(&candidate.bundle)))
            }),
            rules,
            refused_grants: follower.refused_grants(),
        }
    }
}

/// Until when a set only observes; `None` once it enforces.
pub fn observe_of(snapshot: &Snapshot) -> Option<String> {
    snapshot
        .observe()
        .filter(|observe| observe.is_on(SystemTime::now()))
        .map(|observe| observe.to_string())
}

fn part_words(in_force: &InForce) -> Option<&'static str> {
    in_force.beside.as_ref().map(|beside| match beside.role {
        Role::Trial => "is asked beside it and decides nothing",
        Role::Rollout => "decides: this session is in its rollout",
    })
}

fn stage_words(stage: &Stage) -> String {
    match stage {
        Stage::Trial { until } => {
            let left = until.saturating_sub(now_seconds());
            format!("tried out beside what is in force, {} left", days(left))
        }
        Stage::Rollout { to, bound } => {
            let mut words = format!("decides for {}", share_words(to));
            if let Some(bound) = bound {
                words.push_str(&format!(
                    "; taken back when it alone refuses more than {}.{} % of {} or more requests in {}",
                    bound.refused_per_mille / 10,
                    bound.refused_per_mille % 10,
                    bound.at_least,
                    days(bound.window_seconds)
                ));
            }
            words
        }
    }
}

/// Of a bundle that decides for no session any more.
fn over_words(loaded: &Loaded) -> String {
    let end = loaded.not_after.map(to_second).unwrap_or_default();
    format!(
        "{}: its validity is over since {end}; it decides who may replace it, and no session",
        words(&loaded.accepted)
    )
}

fn loaded_line(loaded: &Loaded) -> BundleLine {
    let observe = loaded
        .source
        .observe
        .filter(|observe| observe.is_on(SystemTime::now()));
    line(&loaded.accepted, observe.map(|observe| observe.to_string()))
}

fn line(accepted: &Accepted, observe: Option<String>) -> BundleLine {
    BundleLine {
        name: accepted.name.clone(),
        revision: accepted.revision,
        digest: accepted.digest.clone(),
        signers: accepted
            .signers
            .iter()
            .map(|signer| signer.key.clone())
            .collect(),
        observe,
    }
}

fn rule_line(rule: &cordon_policy::Rule) -> RuleLine {
    RuleLine {
        id: rule.id.to_string(),
        layer: rule.layer,
        effect: effect_word(rule.effect).into(),
        reason: rule.reason.as_deref().map(Into::into),
        observe: rule.observe.map(|observe| observe.to_string()),
        text: rule.text.to_string(),
        place: format!("{}:{}", rule.file.display(), rule.line),
    }
}
