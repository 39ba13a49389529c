//! What one session has used of its byte budgets and connections, per destination and in all.
//!
//! Counting never refuses; [`Account::excess`] says what is used up, and [`Accounts::spent`] wakes
//! the flows that must end then. Knows no policy and no records.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use cordon_policy::Destination;
use tokio::sync::Notify;

use crate::{
    flow::Bytes,
    limits::{self, Budget, Limits},
};

/// The accounts of one session.
#[derive(Debug)]
pub(crate) struct Accounts {
    budget: Budget,
    per_destination: Budget,
    connections_per_destination: usize,
    total: Moved,
    /// Flows that are open.
    flows: AtomicUsize,
    /// Wakes all who wait for a budget to be used up, or for the last flow to end.
    changed: Notify,
    by_destination: Mutex<HashMap<Destination, Arc<Account>>>,
}

/// What was used of one destination.
#[derive(Debug, Default)]
pub(crate) struct Account {
    moved: Moved,
    connections: AtomicUsize,
}

/// One upstream connection's place in an account, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    accounts: Arc<Accounts>,
    /// `None` where it leads into the session.
    destination: Option<Destination>,
    /// `None` where the session uses more destinations than it may.
    account: Option<Arc<Account>>,
}

/// Bytes moved so far, seen from the session.
#[derive(Debug, Default)]
struct Moved {
    out: AtomicU64,
    r#in: AtomicU64,
}

impl Accounts {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            budget: limits.session_bytes,
            per_destination: limits.destination_bytes,
            connections_per_destination: limits.connections_per_destination,
            total: Moved::default(),
            flows: AtomicUsize::new(0),
            changed: Notify::new(),
            by_destination: Mutex::default(),
        }
    }

    /// All bytes so far.
    pub(crate) fn moved(&self) -> Bytes {
        self.total.read()
    }

    /// A place for one more upstream connection to `destination`. What leads nowhere has none, and
    /// no flow of it may begin.
    pub(crate) fn enter(self: &Arc<Self>, destination: Option<&Destination>) -> Place {
        let Some(destination) = destination else {
            return Place {
                accounts: Arc::clone(self),
                destination: None,
                account: None,
            };
        };
        let mut all = self.lock();
        let account = match all.get(destination) {
            Some(account) => Some(Arc::clone(account)),
            None if all.len() >= limits::DESTINATIONS_PER_SESSION => None,
            None => {
                let account = Arc::<Account>::default();
                all.insert(destination.clone(), Arc::clone(&account));
                Some(account)
            }
        };
        // Before another place's end can take the account for unused.
        if let Some(account) = &account {
            account.connections.fetch_add(1, Relaxed);
        }
        drop(all);
        Place {
            accounts: Arc::clone(self),
            destination: Some(destination.clone()),
            account,
        }
    }

    /// A place for a connection that leads into the session, from no destination.
    pub(crate) fn inwards(self: &Arc<Self>) -> Place {
        Place {
            accounts: Arc::clone(self),
            destination: None,
            account: Some(Arc::default()),
        }
    }

    /// Counts a flow that begins.
    pub(crate) fn began(&self) {
        self.flows.fetch_add(1, Relaxed);
    }

    /// Counts a flow that has ended.
    pub(crate) fn ended(&self) {
        if self.flows.fetch_sub(1, Relaxed) == 1 {
            self.changed.notify_waiters();
        }
    }

    /// Resolves once no flow is open.
    pub(crate) async fn quiet(&self) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Before looking, so that no change is missed between.
            changed.as_mut().enable();
            if self.flows.load(Relaxed) == 0 {
                return;
            }
            changed.await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Destination, Arc<Account>>> {
        self.by_destination
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Counts bytes sent to the destination.
    pub(crate) fn count_out(&self, bytes: u64) {
        let of = |moved: &Moved| add(&moved.out, bytes);
        self.count(of, |budget| budget.out, bytes);
    }

    /// Counts bytes received from the destination.
    pub(crate) fn count_in(&self, bytes: u64) {
        let of = |moved: &Moved| add(&moved.r#in, bytes);
        self.count(of, |budget| budget.r#in, bytes);
    }

    fn count(&self, add: impl Fn(&Moved) -> u64, of: impl Fn(&Budget) -> u64, bytes: u64) {
        let accounts = &*self.accounts;
        let mut over = crossed(add(&accounts.total), of(&accounts.budget), bytes);
        if !accounts.per_destination.is_endless()
            && let Some(account) = &self.account
        {
            let total = add(&account.moved);
            over |= crossed(total, of(&accounts.per_destination), bytes);
        }
        if over {
            accounts.changed.notify_waiters();
        }
    }

    /// What is used up, in words that name the limit; `None` while nothing is.
    pub(crate) fn excess(&self) -> Option<String> {
        let accounts = &*self.accounts;
        let Some(account) = &self.account else {
            let most = limits::DESTINATIONS_PER_SESSION;
            return Some(format!("the session uses over {most} destinations"));
        };
        over_bytes(&accounts.total, accounts.budget, "session")
            .or_else(|| over_bytes(&account.moved, accounts.per_destination, "destination"))
    }

    /// As [`Self::excess`], for a connection that is to be opened.
    pub(crate) fn excess_to_open(&self) -> Option<String> {
        let most = self.accounts.connections_per_destination;
        self.excess().or_else(|| {
            let open = self.account.as_ref()?.connections.load(Relaxed);
            (open > most).then(|| {
                format!(
                    "{most} connections to this destination are open already \
                     (`limits.connections_per_destination`)"
                )
            })
        })
    }

    /// Whether any of its bytes count.
    pub(crate) fn is_bounded(&self) -> bool {
        let accounts = &*self.accounts;
        !(accounts.budget.is_endless() && accounts.per_destination.is_endless())
    }

    /// Resolves with what is used up; never, where nothing is bounded.
    pub(crate) async fn spent(&self) -> String {
        let accounts = &*self.accounts;
        if !self.is_bounded() {
            return std::future::pending().await;
        }
        loop {
            let mut changed = std::pin::pin!(accounts.changed.notified());
            changed.as_mut().enable();
            if let Some(excess) = self.excess() {
                return excess;
            }
            changed.await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (Some(account), Some(destination)) = (&self.account, &self.destination) else {
            return;
        };
        let mut all = self.accounts.lock();
        let last = account.connections.fetch_sub(1, Relaxed) == 1;
        // Bytes are remembered only where they count.
        if last && self.accounts.per_destination.is_endless() {
            all.remove(destination);
        }
    }
}

impl Moved {
    fn read(&self) -> Bytes {
        Bytes {
            out: self.out.load(Relaxed),
            r#in: self.r#in.load(Relaxed),
        }
    }
}

/// Adds, and gives the new total.
fn add(counter: &AtomicU64, bytes: u64) -> u64 {
    counter.fetch_add(bytes, Relaxed).saturating_add(bytes)
}

/// Whether just these bytes went past the budget: waiters are woken once, not for each byte more.
fn crossed(total: u64, budget: u64, bytes: u64) -> bool {
    total > budget && total.saturating_sub(bytes) <= budget
}

fn over_bytes(moved: &Moved, budget: Budget, of: &str) -> Option<String> {
    let moved = moved.read();
    let (direction, verb, most) = if moved.out > budget.out {
        ("out", "sent", budget.out)
    } else if moved.r#in > budget.r#in {
        ("in", "received", budget.r#in)
    } else {
        return None;
    };
    let whom = match of {
        "session" => "the session has",
        _ => "with this destination the session has",
    };
    Some(format!(
        "{whom} {verb} more than {most} bytes (`limits.bytes_{direction}_per_{of}`)"
    ))
}

#[cfg(test)]
mod tests {
    use cordon_session::LimitsConfig;

    use super::*;

    fn accounts(config: LimitsConfig) -> Arc<Accounts> {
        Arc::new(Accounts::new(&Limits::new(&config)))
    }

    fn destination(name: &str) -> Destination {
        Destination::from_parts(name.as_bytes(), 443).unwrap()
    }

    #[tokio::test]
    async fn n24_a_budget_is_used_up_by_all_its_flows_together() {
        let accounts = accounts(LimitsConfig {
            bytes_out_per_session: Some(10),
            ..LimitsConfig::default()
        });
        let (a, b) = (
            accounts.enter(Some(&destination("a.test"))),
            accounts.enter(Some(&destination("b.test"))),
        );
        a.count_out(6);
        a.count_in(100);
        b.count_out(4);
        assert_eq!(b.excess(), None);
        let waiting = a.spent();
        b.count_out(1);
        let words = waiting.await;
        assert!(words.contains("bytes_out_per_session"), "{words}");
        assert_eq!(a.excess_to_open(), b.excess());
        assert_eq!(accounts.moved(), Bytes { out: 11, r#in: 100 });
    }

    #[test]
    fn n24_a_destinations_budget_is_its_own_and_outlives_its_connections() {
        let accounts = accounts(LimitsConfig {
            bytes_in_per_destination: Some(10),
            ..LimitsConfig::default()
        });
        accounts.enter(Some(&destination("a.test"))).count_in(11);
        let again = accounts.enter(Some(&destination("a.test")));
        let words = again.excess().unwrap();
        assert!(words.contains("bytes_in_per_destination"), "{words}");
        assert_eq!(accounts.enter(Some(&destination("b.test"))).excess(), None);
    }

    #[test]
    fn n24_connections_to_one_destination_are_counted_and_given_back() {
        let accounts = accounts(LimitsConfig {
            connections_per_destination: Some(1),
            ..LimitsConfig::default()
        });
        let one = accounts.enter(Some(&destination("a.test")));
        assert_eq!(one.excess_to_open(), None);
        let two = accounts.enter(Some(&destination("a.test")));
        let words = two.excess_to_open().unwrap();
        assert!(words.contains("connections_per_destination"), "{words}");
        assert_eq!(
            accounts
                .enter(Some(&destination("b.test")))
                .excess_to_open(),
            None
        );
        drop((one, two));
        assert_eq!(accounts.lock().len(), 0);
        assert_eq!(
            accounts
                .enter(Some(&destination("a.test")))
                .excess_to_open(),
            None
        );
    }

    #[test]
    fn n24_whoever_enters_while_another_leaves_is_counted_with_whoever_comes_next() {
        let accounts = accounts(LimitsConfig::default());
        let to = destination("a.test");
        std::thread::scope(|scope| {
            for _client in 0..4 {
                scope.spawn(|| {
                    for _connection in 0..5_000 {
                        let place = accounts.enter(Some(&to));
                        let held = accounts.lock().get(&to).cloned();
                        let same = held.zip(place.account.as_ref());
                        assert!(same.is_some_and(|(held, own)| Arc::ptr_eq(&held, own)));
                    }
                });
            }
        });
        assert_eq!(accounts.lock().len(), 0);
    }

    #[tokio::test]
    async fn quiet_is_when_the_last_flow_has_ended() {
        let accounts = accounts(LimitsConfig::default());
        accounts.quiet().await;
        accounts.began();
        accounts.began();
        let quiet = accounts.quiet();
        accounts.ended();
        accounts.ended();
        quiet.await;
    }
}
