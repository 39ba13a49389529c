//! Keeps running sessions up to date: each change reaches every one that bundles decide.
//!
//! Flows end by themselves (they watch the gate). A mounted folder is decided again; where it is
//! refused now, that is recorded and told to who can unmount it, and it is shown until it is gone.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
};

use cordon_policy::{Operation, SessionFacts, source::LoadError};
use cordon_session::{Gate, GateError, InForce, PolicyFeed};
use tokio::sync::mpsc;

use super::{Policies, compose::Brought};

/// One running session and what decides it.
#[derive(Debug)]
pub struct Follower {
    brought: Brought,
    feed: Arc<PolicyFeed>,
    gate: Gate,
    held: Mutex<Vec<HeldGrant>>,
    refusals: mpsc::UnboundedSender<Operation>,
    refused: Mutex<Option<mpsc::UnboundedReceiver<Operation>>>,
}

/// A grant that is mounted.
#[derive(Debug)]
struct HeldGrant {
    operation: Operation,
    /// Whether policy would refuse it now.
    refused: bool,
}

impl Follower {
    /// Decides and records for the session.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// What decides it now.
    pub fn current(&self) -> Arc<InForce> {
        self.feed.current()
    }

    /// News of changes from now on.
    #[cfg(test)]
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.feed.changes()
    }

    /// Notes what was granted, to be decided again with every change.
    pub fn hold(&self, grants: impl IntoIterator<Item = Operation>) {
        let held = grants.into_iter().map(|operation| HeldGrant {
            operation,
            refused: false,
        });
        self.held().extend(held);
    }

    /// No longer granted.
    pub fn release(&self, operation: &Operation) {
        self.held().retain(|grant| grant.operation != *operation);
    }

    /// News of grants that policy has come to refuse, once.
    pub fn take_refusals(&self) -> Option<mpsc::UnboundedReceiver<Operation>> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.take()
    }

    /// Grants that are mounted and would be refused now, in words.
    pub fn refused_grants(&self) -> Vec<String> {
        let held = self.held();
        let refused = held.iter().filter(|grant| grant.refused);
        refused.map(|grant| grant.operation.to_string()).collect()
    }

    /// Decides every grant again; a refusal is recorded once.
    async fn review_grants(&self) {
        let grants: Vec<(usize, Operation, bool)> = {
            let held = self.held();
            let each = held.iter().enumerate();
            each.map(|(at, grant)| (at, grant.operation.clone(), grant.refused))
                .collect()
        };
        for (at, operation, was_refused) in grants {
            let review = self.gate.review(operation.clone());
            if let Some(grant) = self.held().get_mut(at) {
                grant.refused = review.is_err();
            }
            let Err(deny) = review else { continue };
            if was_refused {
                continue;
            }
            if let GateError::NotRecorded(error) = self.gate.refuse(deny).await {
                tracing::warn!(%error, "a grant that policy refuses now was not recorded as such");
            }
            // A gateway's session has no mounts, and nobody listens.
            let _unheard = self.refusals.send(operation);
        }
    }

    fn held(&self) -> MutexGuard<'_, Vec<HeldGrant>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Policies {
    /// Begins to decide for a session, and goes on with every change until it is dropped.
    ///
    /// # Errors
    /// [`LoadError`]: what it names or its workspace's policy is not usable.
    pub async fn follow(
        &self,
        session: Arc<SessionFacts>,
        paths: &[PathBuf],
        workspace: Option<PathBuf>,
    ) -> Result<Arc<Follower>, LoadError> {
        let paths = paths.to_vec();
        let read = tokio::task::spawn_blocking(move || Brought::read(&paths, workspace.as_deref()));
        let brought = read.await.unwrap_or_else(|error| {
            Err(LoadError {
                message: format!("reading broke off: {error}"),
                help: None,
                findings: Vec::new(),
            })
        })?;
        let before = self.generation();
        let first = self.try_in_force(&session, &brought).await?;
        let feed = Arc::new(PolicyFeed::new(first));
        let gate = Gate::following(session, Arc::clone(&feed), self.log.clone());
        let (refusals, refused) = mpsc::unbounded_channel();
        let follower = Arc::new(Follower {
            brought,
            feed,
            gate,
            held: Mutex::default(),
            refusals,
            refused: Mutex::new(Some(refused)),
        });
        {
            let mut followers = self.lock_followers();
            followers.retain(|follower| follower.strong_count() > 0);
            followers.push(Arc::downgrade(&follower));
        }
        if self.generation() != before {
            // What changed between the two may have passed it by.
            self.bring_up_to_date(&follower).await;
        }
        Ok(follower)
    }

    /// Brings every running session up to date.
    pub(super) async fn refresh(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        let followers: Vec<Arc<Follower>> = {
            let mut followers = self.lock_followers();
            followers.retain(|follower| follower.strong_count() > 0);
            followers
                .iter()
                .filter_map(std::sync::Weak::upgrade)
                .collect()
        };
        for follower in followers {
            self.bring_up_to_date(&follower).await;
        }
        self.moments.notify_one();
    }

    async fn bring_up_to_date(&self, follower: &Follower) {
        let session = follower.gate.session();
        let next = self.in_force(session, &follower.brought).await;
        let now = follower.feed.current();
        if is_same(&now, &next) {
            // The same set, at another time: what only observed may enforce now.
            follower.feed.ask_again();
        } else {
            follower.feed.replace(next);
        }
        follower.review_grants().await;
    }

    fn lock_followers(&self) -> MutexGuard<'_, Vec<std::sync::Weak<Follower>>> {
        self.followers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The running session whose id begins with `prefix`, where just one does.
    pub(super) fn follower(&self, prefix: &str) -> Option<Arc<Follower>> {
        let followers = self.lock_followers();
        let mut found = followers
            .iter()
            .filter_map(std::sync::Weak::upgrade)
            .filter(|follower| follower.gate.session().id.starts_with(prefix));
        match (found.next(), found.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        }
    }

    /// Running sessions with grants that would be refused now.
    pub(super) fn refused_grants(&self) -> Vec<(String, Vec<String>)> {
        let followers = self.lock_followers();
        followers
            .iter()
            .filter_map(std::sync::Weak::upgrade)
            .map(|follower| {
                (
                    follower.gate.session().id.clone(),
                    follower.refused_grants(),
                )
            })
            .filter(|(_, refused)| !refused.is_empty())
            .collect()
    }
}

/// Whether both are made of the very same snapshots and counters.
fn is_same(a: &InForce, b: &InForce) -> bool {
    let beside = match (&a.beside, &b.beside) {
        (None, None) => true,
        (Some(a), Some(b)) => {
            Arc::ptr_eq(&a.snapshot, &b.snapshot)
                && Arc::ptr_eq(&a.comparison, &b.comparison)
                && a.role == b.role
        }
        _ => false,
    };
    Arc::ptr_eq(&a.live, &b.live) && beside
}
