//! The tasks behind policies: one for each source, one for the clock, one for the rollout's bound.
//!
//! They have one owner, which awaits them; they end when the daemon stops.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use cordon_policy::Layer;
use cordon_session::config::{BundleConfig, BundleSource};
use tokio::{sync::watch, task::JoinSet};

use super::{Policies, offer::Taken};
use crate::policy_sources::{Changes, Fetched, Source};

/// Running tasks.
pub type Tasks = JoinSet<()>;

/// After so long without an answer the daemon starts all the same, with what it had.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// Changes in a directory within this time are one: an editor writes several files.
const SETTLE: Duration = Duration::from_millis(200);

/// A directory that never rests is read all the same.
const SETTLE_ROUNDS: usize = 20;

/// The longest wait after failures.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// The clock is looked at this often, whatever was planned: it can be set.
const CLOCK: Duration = Duration::from_secs(60);

/// Asks every source once, then goes on asking in the background.
pub async fn watch_policies(policies: &Arc<Policies>, stop: &watch::Sender<bool>) -> Tasks {
    let mut tasks = JoinSet::new();
    let mut first = Vec::new();
    for config in &policies.config.bundle {
        if config.source == BundleSource::Manual {
            continue;
        }
        let mut asker = Asker::new(policies, config);
        let (done, answered) = tokio::sync::oneshot::channel();
        let mut stopped = stop.subscribe();
        tasks.spawn(async move {
            let work = async {
                asker.ask().await;
                let _nobody_waits = done.send(());
                asker.go_on().await;
            };
            tokio::select! {
                () = work => {}
                _ = stopped.wait_for(|stop| *stop) => {}
            }
        });
        first.push(answered);
    }
    let all = futures_util::future::join_all(first);
    let _late_ones_go_on = tokio::time::timeout(FIRST_ANSWER, all).await;
    for work in [Work::Clock, Work::Bound] {
        let (policies, mut stopped) = (Arc::clone(policies), stop.subscribe());
        tasks.spawn(async move {
            tokio::select! {
                () = work.run(&policies) => {}
                _ = stopped.wait_for(|stop| *stop) => {}
            }
        });
    }
    tasks
}

#[derive(Clone, Copy)]
enum Work {
    Clock,
    Bound,
}

impl Work {
    async fn run(self, policies: &Policies) {
        match self {
            Self::Clock => follow_clock(policies).await,
            Self::Bound => follow_bound(policies).await,
        }
    }
}

/// Asks one source, again and again.
struct Asker {
    policies: Arc<Policies>,
    layer: Layer,
    config: BundleConfig,
    source: Source,
    failures: u32,
    changes: Option<Changes>,
}

impl Asker {
    fn new(policies: &Arc<Policies>, config: &BundleConfig) -> Self {
        Self {
            policies: Arc::clone(policies),
            layer: config.layer,
            config: config.clone(),
            source: Source::new(config, policies.http.clone()),
            failures: 0,
            changes: changes(config),
        }
    }

    async fn ask(&mut self) {
        // Before it is read, so that no change after that is missed; every time, because what is
        // there now may be another directory than the last time.
        if let Some(changes) = &self.changes {
            changes.watch();
        }
        match self.source.fetch().await {
            Ok(Fetched::Unchanged) => {
                self.failures = 0;
                self.policies.source_is_well(self.layer);
            }
            Ok(Fetched::Bundle(bundle)) => {
                self.failures = 0;
                if self.policies.offer(self.layer, *bundle).await == Taken::No {
                    self.source.forget();
                }
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                let why = format!("{error}; {}", error.help);
                self.policies.source_failed(self.layer, &why).await;
            }
        }
    }

    async fn go_on(&mut self) {
        loop {
            let changes = self.changes.as_ref();
            tokio::select! {
                () = tokio::time::sleep(self.wait()) => {}
                () = changed(changes) => {
                    // Until nothing has changed for a moment, or it never stops.
                    for _ in 0..SETTLE_ROUNDS {
                        if tokio::time::timeout(SETTLE, changed(changes)).await.is_err() {
                            break;
                        }
                    }
                }
            }
            self.ask().await;
        }
    }

    /// The interval, twice as long after each failure; a tenth more or less, so that many nodes do
    /// not ask at once.
    fn wait(&self) -> Duration {
        let doubled = self.config.poll() * 2_u32.saturating_pow(self.failures.min(12));
        let wait = doubled.clamp(self.config.poll(), LONGEST_WAIT.max(self.config.poll()));
        let mut random = [0_u8; 1];
        // Without randomness all nodes ask at once, which is no harm to this one.
        let _even = getrandom::fill(&mut random);
        wait * (900 + u32::from(random[0]) * 200 / 255) / 1000
    }
}

/// What tells of changes. Where there can be none, asking again and again is left.
fn changes(config: &BundleConfig) -> Option<Changes> {
    let BundleSource::Path(path) = &config.source else {
        return None;
    };
    Changes::new(path)
        .inspect_err(|error| {
            tracing::warn!(%error, source = %config.source, "not watched; asked every so often");
        })
        .ok()
}

async fn changed(changes: Option<&Changes>) {
    match changes {
        Some(changes) => changes.next().await,
        None => std::future::pending().await,
    }
}

/// Ends candidates, bundles and observe modes when their time is over.
async fn follow_clock(policies: &Policies) {
    // Up to when all is dealt with: what passes while that takes its time comes after it.
    let mut dealt_with = SystemTime::UNIX_EPOCH;
    loop {
        let now = SystemTime::now();
        // Where the clock was set back, it passes what it has passed before.
        dealt_with = dealt_with.min(now);
        let next = policies.state().next_moment(dealt_with);
        let wait = match next {
            Some(moment) => moment.duration_since(now).unwrap_or_default().min(CLOCK),
            None => CLOCK,
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {
                let now = SystemTime::now();
                if next.is_some_and(|moment| moment <= now) {
                    dealt_with = now;
                    // What is over decides no longer, though its end may have to wait for another
                    // change.
                    policies.refresh().await;
                    policies.end_candidate_if_over().await;
                }
            }
            // Something was changed: the next moment may be another.
            () = policies.moments.notified() => {}
        }
    }
}

/// Takes a rollout back when its candidate refuses too much.
async fn follow_bound(policies: &Policies) {
    let mut comparisons = policies.comparisons.subscribe();
    loop {
        let comparison = Arc::clone(&comparisons.borrow_and_update());
        let mut tripped = comparison.tripped();
        // The guard that comes with the answer must not be held any longer.
        let passed = async { tripped.wait_for(|tripped| *tripped).await.is_ok() };
        tokio::select! {
            _passed = passed => {
                policies.take_back_by_itself(&comparison).await;
                if comparisons.changed().await.is_err() {
                    return;
                }
            }
            changed = comparisons.changed() => if changed.is_err() {
                return;
            },
        }
    }
}
