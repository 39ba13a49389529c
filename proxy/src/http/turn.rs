//! The two sides of a client connection in one task, each polled only when something woke it.
//!
//! In one task a request is handed from the client's side to the upstreams' and its answer back,
//! and each handing over wakes the task that it happens in. Here each side has a waker of its own:
//! a wake-up while the task is being polled is only noted, that side polled once more at once, and
//! the other left alone. Wake-ups after both have come to rest go to the task. Bounded: after some
//! rounds the others have their turn.

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
    client: Waker,
    upstreams: Waker,
}

/// One side's bell.
struct Side {
    bit: u8,
    state: Arc<State>,
}

struct State {
    /// [`POLLING`], and the sides that were woken since they were polled last.
    now: AtomicU8,
    task: Mutex<Waker>,
}

/// The sides are being polled: who wakes one need not wake the task.
const POLLING: u8 = 1;
/// The client's side is to be polled.
const CLIENT: u8 = 2;
/// The upstreams' side is to be polled.
const UPSTREAMS: u8 = 4;

/// Rounds of one turn. More than an exchange of HTTP takes.
const ROUNDS: u32 = 8;

impl Turn {
    pub(crate) fn new() -> Self {
        let state = Arc::new(State {
            now: AtomicU8::new(CLIENT | UPSTREAMS),
            task: Mutex::new(Waker::noop().clone()),
        });
        let waker = |bit| {
            let state = Arc::clone(&state);
            Waker::from(Arc::new(Side { bit, state }))
        };
        Self {
            client: waker(CLIENT),
            upstreams: waker(UPSTREAMS),
            state,
        }
    }

    /// Polls what was woken until the client's side is done, or both rest. The upstreams are asked
    /// in each round, and told whether they were woken: the client's side may have made a new one.
    pub(crate) fn poll<T>(
        &self,
        cx: &Context<'_>,
        mut client: impl FnMut(&mut Context<'_>) -> Poll<T>,
        mut upstreams: impl FnMut(&mut Context<'_>, bool),
    ) -> Poll<T> {
        self.state.note(cx.waker());
        self.state.now.fetch_or(POLLING, Ordering::AcqRel);
        for _round in 0..ROUNDS {
            let polled = if self.state.take(CLIENT) {
                client(&mut Context::from_waker(&self.client))
            } else {
                Poll::Pending
            };
            // After the client, because its turn may have opened a new one.
            let woken = self.state.take(UPSTREAMS);
            upstreams(&mut Context::from_waker(&self.upstreams), woken);
            if polled.is_ready() || self.state.rests() {
                return polled;
            }
        }
        // It may have used up what one turn may do: then only another turn helps.
        self.state.now.fetch_and(!POLLING, Ordering::AcqRel);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl State {
    /// Whom to wake: before anything is polled, so that who wakes it later finds this.
    fn note(&self, task: &Waker) {
        let mut known = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.will_wake(task) {
            known.clone_from(task);
        }
    }

    /// Whether a side was woken; from here on it was not, so that a wake-up while it is polled
    /// counts.
    fn take(&self, side: u8) -> bool {
        self.now.load(Ordering::Acquire) & side != 0
            && self.now.fetch_and(!side, Ordering::AcqRel) & side != 0
    }

    /// Comes to rest, unless a side was woken: in one step, so that no wake-up is lost between.
    fn rests(&self) -> bool {
        self.now
            .compare_exchange(POLLING, 0, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

impl Wake for Side {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let before = self.state.now.fetch_or(self.bit, Ordering::AcqRel);
        // Whoever set the bit at rest has woken the task, which has not come to this side since.
        if before & (POLLING | self.bit) != 0 {
            return;
        }
        // A copy: who is woken may come back here at once, and nobody else waits meanwhile.
        let task = self
            .state
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

    fn task() -> (Arc<Count>, Waker) {
        let task = Arc::new(Count::default());
        (Arc::clone(&task), Waker::from(task))
    }

    #[test]
    fn what_wakes_itself_is_polled_again_in_the_same_turn() {
        let (turn, (task, waker)) = (Turn::new(), task());
        let cx = Context::from_waker(&waker);
        let mut rounds = 0;
        let client = |cx: &mut Context<'_>| {
            rounds += 1;
            cx.waker().wake_by_ref();
            if rounds == 3 {
                Poll::Ready(rounds)
            } else {
                Poll::Pending
            }
        };
        let done = turn.poll(&cx, client, |_cx, _woken| {});
        assert_eq!((done, task.get()), (Poll::Ready(3), 0));
        let done: Poll<()> = turn.poll(&cx, |_cx| Poll::Pending, |_cx, _woken| {});
        assert_eq!((done, task.get()), (Poll::Pending, 0), "it rests");
    }

    #[test]
    fn a_side_is_polled_when_it_was_woken_and_not_else() {
        let (turn, (task, waker)) = (Turn::new(), task());
        let cx = Context::from_waker(&waker);
        let (mut polled, mut asked) = (Vec::new(), Vec::new());
        let mut wakers = None;
        let mut go = |wake: &[&str]| {
            let (mut clients, mut up) = (0, Vec::new());
            let client_wakes = wake.contains(&"client wakes upstreams");
            let seen = std::cell::RefCell::new(wakers.take());
            let done: Poll<()> = turn.poll(
                &cx,
                |cx| {
                    clients += 1;
                    let mut seen = seen.borrow_mut();
                    let (_, upstream) = seen.take().unwrap_or_default();
                    if let (true, Some(upstream)) = (client_wakes, &upstream) {
                        Waker::wake_by_ref(upstream);
                    }
                    *seen = Some((Some(cx.waker().clone()), upstream));
                    Poll::Pending
                },
                |cx, woken| {
                    up.push(woken);
                    let mut seen = seen.borrow_mut();
                    let (client, _) = seen.take().unwrap_or_default();
                    *seen = Some((client, Some(cx.waker().clone())));
                },
            );
            assert!(done.is_pending());
            wakers = seen.into_inner();
            polled.push(clients);
            asked.push(up);
            wakers.clone().unwrap()
        };
        // Both at first; then nobody was woken.
        go(&[]);
        let (client, upstream) = go(&[]);
        // The upstreams alone, then the client alone, then the client, which wakes the upstreams.
        upstream.unwrap().wake();
        go(&[]);
        client.as_ref().unwrap().wake_by_ref();
        go(&[]);
        client.unwrap().wake();
        go(&["client wakes upstreams"]);
        assert_eq!(polled, [1, 0, 0, 1, 1]);
        assert_eq!(
            asked,
            [[true], [false], [true], [false], [true]].map(Vec::from)
        );
        assert_eq!(task.get(), 3, "once for each wake-up at rest");
    }

    #[test]
    fn who_wakes_it_at_rest_wakes_the_task_once() {
        let (turn, (task, waker)) = (Turn::new(), task());
        let mut inner = None;
        let done: Poll<()> = turn.poll(
            &Context::from_waker(&waker),
            |cx| {
                inner = Some(cx.waker().clone());
                Poll::Pending
            },
            |_cx, _woken| {},
        );
        assert!(done.is_pending());
        let inner = inner.unwrap();
        inner.wake_by_ref();
        inner.wake();
        assert_eq!(task.get(), 1);
    }

    #[test]
    fn work_that_never_rests_gives_way_and_goes_on_in_the_next_turn() {
        let (turn, (task, waker)) = (Turn::new(), task());
        let cx = Context::from_waker(&waker);
        for turns in 1..=2 {
            let mut rounds = 0;
            let done: Poll<()> = turn.poll(
                &cx,
                |cx| {
                    rounds += 1;
                    cx.waker().wake_by_ref();
                    Poll::Pending
                },
                |_cx, _woken| {},
            );
            let expected = (Poll::Pending, ROUNDS, turns);
            assert_eq!((done, rounds, task.get()), expected);
        }
    }

    /// Another thread wakes one of the sides at any moment, once for each thing that it leaves
    /// there to be done.
    #[test]
    fn no_wake_up_of_another_thread_is_lost() {
        const THINGS: usize = 20_000;
        let (turn, (task, waker)) = (Turn::new(), task());
        let left = [(); 2].map(|()| Arc::new(Count::default()));
        let (send, inner) = std::sync::mpsc::channel::<Waker>();
        let other = {
            let left = left.clone();
            thread::spawn(move || {
                let wakers = [inner.recv().unwrap(), inner.recv().unwrap()];
                for thing in 0..THINGS {
                    left[thing % 2].0.fetch_add(1, Ordering::AcqRel);
                    wakers[thing % 2].wake_by_ref();
                }
            })
        };
        let mut sends = [Some(send.clone()), Some(send)];
        let mut done = [0, 0];
        let begun = Instant::now();
        let mut told = 0;
        while done.iter().sum::<usize>() < THINGS {
            let [send_client, send_upstreams] = &mut sends;
            let [clients, upstreams] = &mut done;
            let polled: Poll<()> = turn.poll(
                &Context::from_waker(&waker),
                |cx| {
                    if let Some(send) = send_client.take() {
                        send.send(cx.waker().clone()).unwrap();
                    }
                    *clients = left[0].get();
                    Poll::Pending
                },
                |cx, woken| {
                    if let Some(send) = send_upstreams.take() {
                        send.send(cx.waker().clone()).unwrap();
                    }
                    if woken {
                        *upstreams = left[1].get();
                    }
                },
            );
            assert!(polled.is_pending());
            while done.iter().sum::<usize>() < THINGS && task.get() == told {
                assert!(begun.elapsed() < Duration::from_secs(60), "never told");
                thread::yield_now();
            }
            told = task.get();
        }
        other.join().unwrap();
    }
}
