//! A task whose parts wake each other goes on at once, without a way through the scheduler for each.
//!
//! In one task a request is handed from the client's side to the upstream's and its answer back,
//! and each handing over wakes the task that it happens in. Here such a wake-up is only noted and
//! the work polled once more. Wake-ups from elsewhere, and those after the work has come to rest,
//! go to the task. Bounded: after some rounds the others have their turn.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

/// See the module.
pub(crate) struct Turn {
    state: Arc<State>,
    waker: Waker,
}

struct State {
    now: AtomicU8,
    task: Mutex<Waker>,
}

/// Nobody polls: who wakes has to wake the task.
const RESTING: u8 = 0;
/// The work is being polled.
const POLLING: u8 = 1;
/// As before, and it was woken meanwhile.
const WOKEN: u8 = 2;

/// Rounds of one turn. More than an exchange of HTTP takes.
const ROUNDS: u32 = 8;

impl Turn {
    pub(crate) fn new() -> Self {
        let state = Arc::new(State {
            now: AtomicU8::new(RESTING),
            task: Mutex::new(Waker::noop().clone()),
        });
        Self {
            waker: Waker::from(Arc::clone(&state)),
            state,
        }
    }

    /// Polls `work` until it is done, or rests.
    pub(crate) fn poll<T>(
        &self,
        cx: &Context<'_>,
        mut work: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.state.note(cx.waker());
        let mut inner = Context::from_waker(&self.waker);
        for _round in 0..ROUNDS {
            self.state.now.store(POLLING, Ordering::Release);
            let polled = work(&mut inner);
            if polled.is_ready() || self.state.rests() {
                self.state.now.store(RESTING, Ordering::Release);
                return polled;
            }
        }
        // It may have used up what one turn may do: then only another turn helps.
        self.state.now.store(RESTING, Ordering::Release);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl State {
    /// Whom to wake: before the work is polled, so that who wakes it later finds this.
    fn note(&self, task: &Waker) {
        let mut known = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.will_wake(task) {
            known.clone_from(task);
        }
    }

    /// Comes to rest, unless it was woken: in one step, so that no wake-up is lost between.
    fn rests(&self) -> bool {
        self.step(POLLING, RESTING)
    }

    fn step(&self, from: u8, to: u8) -> bool {
        self.now
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

impl Wake for State {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.step(POLLING, WOKEN) || self.now.load(Ordering::Acquire) == WOKEN {
            return;
        }
        // A copy: who is woken may come back here at once, and nobody else waits meanwhile.
        let task = self
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        task.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::AtomicUsize,
        thread,
        time::{Duration, Instant},
    };

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Count {
        fn get(&self) -> usize {
            self.0.load(Ordering::Acquire)
        }
    }

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::AcqRel);
        }
    }

    #[test]
    fn what_wakes_itself_is_polled_again_in_the_same_turn() {
        let (turn, task) = (Turn::new(), Arc::new(Count::default()));
        let waker = Waker::from(Arc::clone(&task));
        let cx = Context::from_waker(&waker);
        let mut rounds = 0;
        let done = turn.poll(&cx, |cx| {
            rounds += 1;
            cx.waker().wake_by_ref();
            if rounds == 3 {
                Poll::Ready(rounds)
            } else {
                Poll::Pending
            }
        });
        assert_eq!((done, task.get()), (Poll::Ready(3), 0));
        let done: Poll<()> = turn.poll(&cx, |_cx| Poll::Pending);
        assert_eq!((done, task.get()), (Poll::Pending, 0), "it rests");
    }

    #[test]
    fn who_wakes_it_at_rest_wakes_the_task() {
        let (turn, task) = (Turn::new(), Arc::new(Count::default()));
        let waker = Waker::from(Arc::clone(&task));
        let mut inner = None;
        let done: Poll<()> = turn.poll(&Context::from_waker(&waker), |cx| {
            inner = Some(cx.waker().clone());
            Poll::Pending
        });
        assert!(done.is_pending());
        inner.unwrap().wake();
        assert_eq!(task.get(), 1);
    }

    #[test]
    fn work_that_never_rests_gives_way() {
        let (turn, task) = (Turn::new(), Arc::new(Count::default()));
        let waker = Waker::from(Arc::clone(&task));
        let mut rounds = 0;
        let done: Poll<()> = turn.poll(&Context::from_waker(&waker), |cx| {
            rounds += 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        });
        assert_eq!((done, rounds, task.get()), (Poll::Pending, ROUNDS, 1));
    }

    /// Another thread wakes it at any moment, once for each thing that it leaves to be done.
    #[test]
    fn no_wake_up_of_another_thread_is_lost() {
        const THINGS: usize = 20_000;
        let (turn, task) = (Turn::new(), Arc::new(Count::default()));
        let waker = Waker::from(Arc::clone(&task));
        let left = Arc::new(Count::default());
        let (send, inner) = std::sync::mpsc::channel::<Waker>();
        let other = {
            let left = Arc::clone(&left);
            thread::spawn(move || {
                let waker = inner.recv().unwrap();
                for _ in 0..THINGS {
                    left.0.fetch_add(1, Ordering::AcqRel);
                    waker.wake_by_ref();
                }
            })
        };
        let (mut send, mut done) = (Some(send), 0);
        let begun = Instant::now();
        let mut told = 0;
        while done < THINGS {
            let polled: Poll<()> = turn.poll(&Context::from_waker(&waker), |cx| {
                if let Some(send) = send.take() {
                    send.send(cx.waker().clone()).unwrap();
                }
                done = left.get();
                Poll::Pending
            });
            assert!(polled.is_pending());
            while done < THINGS && task.get() == told {
                assert!(begun.elapsed() < Duration::from_secs(60), "never told");
                thread::yield_now();
            }
            told = task.get();
        }
        other.join().unwrap();
    }
}
