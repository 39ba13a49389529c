//! Lets old records go, once a day, where the configuration says how long they are kept.

use std::time::Duration;

use cordon_audit::{Done, Log, Order, Retention, Task};
use tokio::{sync::watch, task::JoinHandle};
use tracing::{info, warn};

/// The task that prunes. Stopped by [`Pruner::stop`].
#[derive(Debug)]
pub struct Pruner {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Pruner {
    /// Prunes now and then once a day; never, where records are kept for ever.
    pub fn start(log: &Log, retention: Retention) -> Self {
        let (stop, mut stopped) = watch::channel(false);
        let log = log.clone();
        let task = tokio::spawn(async move {
            while !retention.is_forever() {
                prune(&log, retention).await;
                tokio::select! {
                    () = tokio::time::sleep(DAY) => {}
                    _ = stopped.wait_for(|stop| *stop) => return,
                }
            }
        });
        Self { stop, task }
    }

    /// Waits for a pruning that is under way, and ends.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let _ended = self.task.await;
    }
}

async fn prune(log: &Log, retention: Retention) {
    let log = log.clone();
    let order = Order {
        task: Task::Prune {
            retention,
            dry_run: false,
        },
        by: None,
        because: "retention is configured".into(),
    };
    match tokio::task::spawn_blocking(move || log.administer(order)).await {
        Ok(Ok(Done::Pruned(done))) if done.minimum > done.from => {
            info!(
                segments = done.segments,
                minimum = done.minimum,
                "old records went"
            );
        }
        Ok(Ok(_nothing)) => {}
        Ok(Err(error)) => warn!(%error, "old records were not pruned"),
        Err(error) => warn!(%error, "old records were not pruned"),
    }
}

const DAY: Duration = Duration::from_secs(86_400);
