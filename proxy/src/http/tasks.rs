//! The tasks of one client connection: HTTP/2 needs several, and they end with it.

use std::sync::{Arc, Mutex, PoisonError};

use hyper::rt::Executor;
use tokio::task::JoinSet;

/// Runs tasks beside a connection. Dropping the last of its clones cuts them off.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl Tasks {
    /// Runs one more.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Waits until all have come to their end.
    pub(crate) async fn finish(&self) {
        loop {
            let next = std::future::poll_fn(|cx| {
                let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                tasks.poll_join_next(cx)
            });
            if next.await.is_none() {
                return;
            }
        }
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
