//! Deadlines for `hyper`, of one connection: many are set, one after the other, and few are met.
//!
//! `hyper` makes a timer for each head and drops it once that is read. Here all of them share one
//! timer of the runtime, which is set anew only when it has run out, so that a head costs no way
//! into the runtime's timers. No deadline is met early or late by that.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant as StdInstant},
};

use hyper::rt::{Sleep as HyperSleep, Timer};
use tokio::time::{Instant, Sleep, sleep_until};

/// The timers of one connection. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock(Arc<Mutex<Option<Pin<Box<Sleep>>>>>);

/// One deadline.
struct Until {
    deadline: Instant,
    clock: Clock,
}

impl Timer for Clock {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn HyperSleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: StdInstant) -> Pin<Box<dyn HyperSleep>> {
        Box::pin(Until {
            deadline: deadline.into(),
            clock: self.clone(),
        })
    }

    fn now(&self) -> StdInstant {
        Instant::now().into_std()
    }
}

impl Future for Until {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline;
        let mut shared = self.clock.0.lock().unwrap_or_else(PoisonError::into_inner);
        let timer = shared.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        loop {
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if timer.deadline() >= deadline {
                return Poll::Ready(());
            }
            // It was set for a deadline that is not waited for any more.
            timer.as_mut().reset(deadline);
        }
    }
}

impl HyperSleep for Until {}

#[cfg(test)]
mod tests {
    use super::*;

    async fn let_go_of(clock: &Clock, duration: Duration) {
        let mut deadline = clock.sleep(duration);
        let polled = std::future::poll_fn(|cx| Poll::Ready(deadline.as_mut().poll(cx))).await;
        assert!(polled.is_pending());
    }

    #[tokio::test]
    async fn each_deadline_is_met_whatever_was_waited_for_before() {
        let clock = Clock::default();
        let (short, long) = (Duration::from_millis(5), Duration::from_secs(600));
        let begun = Instant::now();
        // As the head of a request that came in time.
        let_go_of(&clock, short).await;
        clock.sleep(4 * short).await;
        assert!(begun.elapsed() >= 4 * short, "later than the one before");
        let_go_of(&clock, long).await;
        clock.sleep(short).await;
        assert!(begun.elapsed() >= 5 * short);
        clock.sleep(Duration::ZERO).await;
        assert!(begun.elapsed() < long, "earlier than the one before");
    }
}
