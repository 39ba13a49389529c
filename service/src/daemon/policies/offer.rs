//! Takes what a source brings: in force when it is good, refused and shown when it is not (F03).
//!
//! What is in force is replaced by something better or not at all.

use std::{io, sync::Arc};

use cordon_audit::{PolicyBundle, PolicyChange, PolicyEvent};
use cordon_policy::{
    Layer,
    bundle::{Accepted, Bundle, Refusal},
};
use cordon_session::config::Adopt;

use super::{Fault, Loaded, NotAccepted, Pending, Policies};

/// What was done with a bundle.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Taken {
    /// It is in force, waits for somebody, or was dealt with before.
    Yes,
    /// It was refused; the source should be asked for all of it again.
    No,
}

/// How a bundle came here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Came {
    /// Its source gave it: until that gives another, it is dealt with.
    FromSource,
    /// Somebody asked for it. What the source gave last stays dealt with, or it would undo this.
    ByHand,
}

impl Policies {
    /// Deals with a bundle that a source brought.
    pub(super) async fn offer(&self, layer: Layer, bundle: Bundle) -> Taken {
        let _one = self.changing.lock().await;
        if self.is_dealt_with(layer, bundle.digest()) {
            self.state().faults.remove(&layer);
            return Taken::Yes;
        }
        let checked = self.check(layer, &bundle, None).await;
        let accepted = match checked {
            Ok(accepted) => accepted,
            Err(why) => {
                self.refused(layer, Some(&bundle), &why).await;
                return Taken::No;
            }
        };
        let manual = self
            .config
            .of(layer)
            .is_some_and(|config| config.adopt == Adopt::Manual);
        let taken = if manual {
            self.wait_for_somebody(layer, &bundle, accepted).await
        } else {
            let event = self.event(PolicyChange::Load, layer, &accepted, None);
            self.put_into_force(layer, &bundle, accepted, event, Came::FromSource)
                .await
        };
        match taken {
            Ok(()) => {
                let mut state = self.state();
                state.faults.remove(&layer);
                Taken::Yes
            }
            Err(why) => {
                self.refused(layer, Some(&bundle), &why).await;
                Taken::No
            }
        }
    }

    /// A source did not answer, or with something that is no bundle.
    pub(super) async fn source_failed(&self, layer: Layer, why: &str) {
        let _one = self.changing.lock().await;
        self.refused(layer, None, why).await;
    }

    /// A source answered that it has nothing new.
    pub(super) fn source_is_well(&self, layer: Layer) {
        let mut state = self.state();
        // What was refused stays refused until something else comes.
        if state
            .faults
            .get(&layer)
            .is_some_and(|fault| fault.digest.is_none())
        {
            state.faults.remove(&layer);
        }
    }

    fn is_dealt_with(&self, layer: Layer, digest: &str) -> bool {
        let state = self.state();
        let seen = state.board.layers.get(&layer).is_some_and(|held| {
            held.seen.as_deref() == Some(digest) && (held.live.is_some() || held.waiting.is_some())
        });
        // A restart may have found the kept one unusable: then it is taken from its source again.
        let usable = state.live.contains_key(&layer)
            || state
                .board
                .layers
                .get(&layer)
                .is_some_and(|held| held.live.is_none());
        seen && usable
    }

    /// Signatures, counter, validity, and that it loads beside the other layers. `by`: who asks for
    /// it, where its source does not bring it.
    pub(super) async fn check(
        &self,
        layer: Layer,
        bundle: &Bundle,
        by: Option<&str>,
    ) -> Result<Accepted, String> {
        let last = {
            let state = self.state();
            state
                .board
                .layers
                .get(&layer)
                .and_then(|held| held.last.clone())
        };
        let accepted = match self.accept(bundle, layer, last.as_ref()) {
            Ok(accepted) => accepted,
            Err(NotAccepted::Refused(refusal @ Refusal::TooFew { .. })) => {
                self.remember_pending(layer, bundle, by, &refusal.to_string())
                    .await?;
                return Err(format!("{refusal}; it waits for a second signature"));
            }
            Err(other) => return Err(other.to_string()),
        };
        // Beside what is there of the other layers: were it refused for want of one of them, two that
        // are missing or over would each wait for the other.
        let joined = self.state().bundles(Some((layer, bundle.source())));
        let joined = joined.map_err(|error| error.to_string())?;
        match self.cache.snapshot(joined).await {
            Ok(_loads) => Ok(accepted),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Records it, remembers it, and lets every session follow. In this order: what cannot be
    /// recorded does not happen, and what is not remembered would be gone after a crash.
    pub(super) async fn put_into_force(
        &self,
        layer: Layer,
        bundle: &Bundle,
        accepted: Accepted,
        event: PolicyEvent,
        came: Came,
    ) -> Result<(), String> {
        self.store_bundle(bundle).await?;
        self.record(event)
            .await
            .map_err(|error| error.to_string())?;
        let keep = self.config.keep();
        let mut board = self.state().board.clone();
        let held = board.layers.entry(layer).or_default();
        if came == Came::FromSource {
            held.seen = Some(accepted.digest.clone());
        }
        held.promote(accepted.clone(), keep);
        let replaces = |candidate: &super::Candidate| {
            candidate.layer == layer && candidate.bundle.revision <= accepted.revision
        };
        if board.candidate.as_ref().is_some_and(replaces) {
            board.candidate = None;
        }
        board
            .pending
            .retain(|pending| pending.digest != accepted.digest);
        self.write_board(&board).await?;
        {
            let mut state = self.state();
            if board.candidate.is_none() {
                state.candidate = None;
            }
            state.board = board;
            state.live.insert(layer, Loaded::new(bundle, accepted));
        }
        self.store_only_needed();
        self.refresh().await;
        Ok(())
    }

    async fn wait_for_somebody(
        &self,
        layer: Layer,
        bundle: &Bundle,
        accepted: Accepted,
    ) -> Result<(), String> {
        self.store_bundle(bundle).await?;
        let event = self.event(PolicyChange::Pending, layer, &accepted, None);
        self.record(PolicyEvent {
            why: Some("its source brought it; it waits for `cordon policy promote`".into()),
            ..event
        })
        .await
        .map_err(|error| error.to_string())?;
        let mut board = self.state().board.clone();
        let held = board.layers.entry(layer).or_default();
        held.seen = Some(accepted.digest.clone());
        held.remember(&accepted);
        held.waiting = Some(accepted);
        self.write_board(&board).await?;
        self.state().board = board;
        self.store_only_needed();
        Ok(())
    }

    /// Notes a bundle that lacks signatures; recorded once, and again for somebody who asks for it.
    pub(super) async fn remember_pending(
        &self,
        layer: Layer,
        bundle: &Bundle,
        by: Option<&str>,
        why: &str,
    ) -> Result<(), String> {
        let mut board = self.state().board.clone();
        // What somebody asked for stays theirs when its source brings it as well.
        let known = |pending: &Pending| {
            pending.digest == bundle.digest()
                && pending.why == why
                && by.is_none_or(|by| pending.by == by)
        };
        if board.pending.iter().any(known) {
            return Ok(());
        }
        let reference = bundle.reference();
        self.record(PolicyEvent {
            change: PolicyChange::Pending,
            bundle: Some(PolicyBundle {
                name: reference.name.clone(),
                layer,
                revision: reference.revision,
                digest: reference.digest.clone(),
            }),
            source: None,
            by: by.map(Into::into),
            why: Some(why.into()),
            session: None,
        })
        .await
        .map_err(|error| error.to_string())?;
        board.pending.retain(|pending| pending.layer != layer);
        board.pending.push(Pending {
            layer,
            name: reference.name,
            revision: reference.revision,
            digest: reference.digest,
            by: by.unwrap_or("its source").into(),
            why: why.into(),
        });
        self.write_board(&board).await?;
        self.state().board = board;
        Ok(())
    }

    /// What is in force stays. Recorded once for each bundle and reason, shown until it is over.
    async fn refused(&self, layer: Layer, bundle: Option<&Bundle>, why: &str) {
        let fault = Fault {
            digest: bundle.map(|bundle| bundle.digest().to_owned()),
            why: why.to_owned(),
        };
        if self.state().faults.insert(layer, fault.clone()) == Some(fault) {
            return;
        }
        tracing::warn!(%layer, why, "policy refused; what is in force stays");
        let bundle = bundle.map(|bundle| {
            let reference = bundle.reference();
            PolicyBundle {
                name: reference.name,
                layer,
                revision: reference.revision,
                digest: reference.digest,
            }
        });
        let event = PolicyEvent {
            change: PolicyChange::Refused,
            bundle,
            source: self
                .config
                .of(layer)
                .map(|config| config.source.to_string()),
            by: None,
            why: Some(why.to_owned()),
            session: None,
        };
        if let Err(error) = self.record(event).await {
            tracing::warn!(%error, "a refused policy was not recorded as such");
        }
    }

    /// The event of a bundle.
    pub(super) fn event(
        &self,
        change: PolicyChange,
        layer: Layer,
        accepted: &Accepted,
        by: Option<&str>,
    ) -> PolicyEvent {
        PolicyEvent {
            change,
            bundle: Some(PolicyBundle {
                name: accepted.name.clone(),
                layer,
                revision: accepted.revision,
                digest: accepted.digest.clone(),
            }),
            source: self
                .config
                .of(layer)
                .map(|config| config.source.to_string()),
            by: by.map(Into::into),
            why: None,
            session: None,
        }
    }

    pub(super) async fn store_bundle(&self, bundle: &Bundle) -> Result<(), String> {
        let store = Arc::clone(&self.store);
        let bundle = bundle.clone();
        blocking(move || store.keep(&bundle)).await
    }

    pub(super) async fn write_board(&self, board: &super::Board) -> Result<(), String> {
        let (path, board) = (self.board_file.clone(), board.clone());
        blocking(move || board.write(&path)).await
    }

    pub(super) fn store_only_needed(&self) {
        let state = self.state();
        self.store.keep_only(&state.board.needed());
    }
}

async fn blocking(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<(), String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("the state directory cannot be written: {error}")),
        Err(error) => Err(format!("writing broke off: {error}")),
    }
}
