//! Keeps running sessions up to date: each change reaches every one that bundles decide.
//!
//! Flows end by themselves (they watch the gate). A mounted folder, a browser, connector or tool
//! server is decided again; where it is refused now, that is recorded and told to who can take it
//! back, and a folder is shown until it is gone.

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
    brought: Mutex<Arc<Brought>>,
    feed: Arc<PolicyFeed>,
    gate: Gate,
    held: Mutex<Vec<Held>>,
    refusals: mpsc::UnboundedSender<Operation>,
    refused: Mutex<Option<mpsc::UnboundedReceiver<Operation>>>,
    /// One change at a time: what was read first, and takes longer to be made, would come into force
    /// last.
    turn: tokio::sync::Mutex<()>,
}

/// Something that was allowed and goes on.
#[derive(Debug)]
struct Held {
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

    /// Notes what was allowed and goes on, to be decided again with every change.
    pub fn hold(&self, allowed: impl IntoIterator<Item = Operation>) {
        let mut held = self.held();
        for operation in allowed {
            held.retain(|before| before.operation != operation);
            held.push(Held {
                operation,
                refused: false,
            });
        }
    }

    /// It is over.
    pub fn release(&self, operation: &Operation) {
        self.held().retain(|grant| grant.operation != *operation);
    }

    /// News of what policy has come to refuse, once.
    pub fn take_refusals(&self) -> Option<mpsc::UnboundedReceiver<Operation>> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.take()
    }

    /// Grants that are mounted and would be refused now, in words.
    pub fn refused_grants(&self) -> Vec<String> {
        let held = self.held();
        let is_folder = |held: &&Held| matches!(held.operation, Operation::GrantFolder { .. });
        let refused = held.iter().filter(is_folder).filter(|held| held.refused);
        refused.map(|held| held.operation.to_string()).collect()
    }

    /// Decides all of it again; a refusal is recorded once.
    async fn review(&self) {
        let all: Vec<(Operation, bool)> = {
            let held = self.held();
            let each = held.iter();
            each.map(|held| (held.operation.clone(), held.refused))
                .collect()
        };
        for (operation, was_refused) in all {
            let review = self.gate.review(operation.clone());
            let goes_on = self.mark(&operation, review.is_err());
            let (true, Err(deny)) = (goes_on, review) else {
                continue;
            };
            if was_refused {
                continue;
            }
            if let GateError::NotRecorded(error) = self.gate.refuse(deny).await {
                tracing::warn!(%error, "what policy refuses now was not recorded as such");
            }
            // A gateway's session has no mounts, and nobody listens.
            let _unheard = self.refusals.send(operation);
        }
    }

    /// False where it is over meanwhile.
    fn mark(&self, operation: &Operation, refused: bool) -> bool {
        let mut held = self.held();
        let same = held.iter_mut().find(|held| held.operation == *operation);
        same.map(|same| same.refused = refused).is_some()
    }

    fn lock_brought(&self) -> MutexGuard<'_, Arc<Brought>> {
        self.brought.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, Vec<Held>> {
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
        let brought = Arc::new(Brought::of_paths(paths, workspace).await?);
        self.follow_by(session, brought).await
    }

    /// As [`Self::follow`], by what was read before.
    ///
    /// # Errors
    /// As there.
    pub async fn follow_by(
        &self,
        session: Arc<SessionFacts>,
        brought: Arc<Brought>,
    ) -> Result<Arc<Follower>, LoadError> {
        let before = self.generation();
        let first = self.try_in_force(&session, &brought).await?;
        let feed = Arc::new(PolicyFeed::new(first));
        let gate = Gate::following(session, Arc::clone(&feed), self.log.clone());
        let (refusals, refused) = mpsc::unbounded_channel();
        let follower = Arc::new(Follower {
            brought: Mutex::new(brought),
            feed,
            gate,
            held: Mutex::default(),
            refusals,
            refused: Mutex::new(Some(refused)),
            turn: tokio::sync::Mutex::new(()),
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

    /// Whether a session could be decided by this in place of what it brought along.
    ///
    /// # Errors
    /// [`LoadError`]: why not.
    pub async fn could_bring(
        &self,
        follower: &Follower,
        brought: &Brought,
    ) -> Result<(), LoadError> {
        let session = follower.gate.session();
        self.try_in_force(session, brought).await.map(|_set| ())
    }

    /// Has a session decided by this in place of what it brought along, and all that goes on in it
    /// decided again.
    pub async fn bring(&self, follower: &Follower, brought: &Arc<Brought>) {
        *follower.lock_brought() = Arc::clone(brought);
        self.bring_up_to_date(follower).await;
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
        let _turn = follower.turn.lock().await;
        let session = follower.gate.session();
        let brought = Arc::clone(&follower.lock_brought());
        let next = self.in_force(session, &brought).await;
        let now = follower.feed.current();
        if is_same(&now, &next) {
            // The same set, at another time: what only observed may enforce now.
            follower.feed.ask_again();
        } else {
            follower.feed.replace(next);
        }
        follower.review().await;
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

    /// Those of all running sessions.
    pub(super) fn followers(&self) -> Vec<Arc<Follower>> {
        let followers = self.lock_followers();
        followers
            .iter()
            .filter_map(std::sync::Weak::upgrade)
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
