//! The tasks of one client connection: HTTP/2 needs several, and they end with it.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hyper::rt::Executor;
use tokio::task::JoinSet;

/// Runs tasks beside a connection. Dropping the last of its clones cuts them off.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tasks(Arc<Mutex<Running>>);

#[derive(Debug, Default)]
struct Running {
    tasks: JoinSet<()>,
    begun: u64,
}

impl Tasks {
    /// Runs one more.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut running = self.running();
        while running.tasks.try_join_next().is_some() {}
        running.tasks.spawn(task);
        running.begun += 1;
    }

    /// Waits until all have come to their end.
    pub(crate) async fn finish(&self) {
        loop {
            let next = poll_fn(|cx| self.running().tasks.poll_join_next(cx));
            if next.await.is_none() {
                return;
            }
        }
    }

    /// Resolves when none has run for `limit`, at the latest twice that.
    pub(crate) async fn resting(&self, limit: Duration) {
        loop {
            let before = self.running().begun;
            tokio::time::sleep(limit).await;
            let mut running = self.running();
            while running.tasks.try_join_next().is_some() {}
            if running.tasks.is_empty() && running.begun == before {
                return;
            }
        }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, task: F) {
        self.spawn(async move {
            // What it has to say it says elsewhere.
            let _said = task.await;
        });
    }
}
