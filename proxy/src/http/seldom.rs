//! Polls what seldom comes about only once something has woken it.
//!
//! A task that waits for many things asks all of them whenever one moves. What nearly never does (a
//! drain, a limit) is asked here once, and then only when its own waker was called. Never misses a
//! wake-up: what woke it is noted before the task is told.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

/// A future, and whether it was woken.
pub(crate) struct Seldom<'a, F> {
    future: Pin<&'a mut F>,
    rung: Arc<Rung>,
    waker: Waker,
}

struct Rung {
    woken: AtomicBool,
    task: Mutex<Waker>,
}

impl<'a, F: Future> Seldom<'a, F> {
    pub(crate) fn new(future: Pin<&'a mut F>) -> Self {
        let rung = Arc::new(Rung {
            woken: AtomicBool::new(true),
            task: Mutex::new(Waker::noop().clone()),
        });
        Self {
            future,
            waker: Waker::from(Arc::clone(&rung)),
            rung,
        }
    }

    /// As [`Future::poll`]; asked again after it was ready where the future can be.
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<F::Output> {
        self.rung.note(cx.waker());
        if !self.rung.woken.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        let polled = self
            .future
            .as_mut()
            .poll(&mut Context::from_waker(&self.waker));
        if polled.is_ready() {
            // What else it waits for has not been asked.
            self.rung.woken.store(true, Ordering::Release);
        }
        polled
    }
}

impl Rung {
    /// Whom to wake: before looking whether it was woken, so that who comes later finds it.
    fn note(&self, task: &Waker) {
        let mut known = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.will_wake(task) {
            known.clone_from(task);
        }
    }
}

impl Wake for Rung {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
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
    use std::{future::poll_fn, pin::pin, sync::atomic::AtomicUsize};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn it_is_asked_once_and_then_only_when_woken() {
        let asked = AtomicUsize::new(0);
        let (tell, told) = tokio::sync::oneshot::channel();
        let mut told = told;
        let future = pin!(poll_fn(|cx| {
            asked.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut told).poll(cx)
        }));
        let mut seldom = Seldom::new(future);
        let task = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&task));
        let cx = Context::from_waker(&waker);
        for _ in 0..3 {
            assert!(seldom.poll(&cx).is_pending());
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        tell.send(7).unwrap();
        assert_eq!(task.0.load(Ordering::Relaxed), 1, "the task is told");
        assert_eq!(seldom.poll(&cx), Poll::Ready(Ok(7)));
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn the_task_that_asked_last_is_woken() {
        let (tell, told) = tokio::sync::oneshot::channel::<()>();
        let future = pin!(told);
        let mut seldom = Seldom::new(future);
        let tasks = [(); 2].map(|()| Arc::new(Count::default()));
        for task in &tasks {
            let waker = Waker::from(Arc::clone(task));
            assert!(seldom.poll(&Context::from_waker(&waker)).is_pending());
        }
        tell.send(()).unwrap();
        let woken = tasks.map(|task| task.0.load(Ordering::Relaxed));
        assert_eq!(woken, [0, 1]);
    }

    /// One that rings the same bell again while it is woken, as a runtime may that polls at once.
    struct RingsAgain(std::sync::OnceLock<Waker>, AtomicUsize);

    impl Wake for RingsAgain {
        fn wake(self: Arc<Self>) {
            if self.1.fetch_add(1, Ordering::Relaxed) == 0 {
                self.0.get().unwrap().wake_by_ref();
            }
        }
    }

    #[test]
    fn who_is_woken_may_ring_again() {
        let mut inner = None;
        let future = pin!(poll_fn(|cx| {
            inner = Some(cx.waker().clone());
            Poll::<()>::Pending
        }));
        let mut seldom = Seldom::new(future);
        let task = Arc::new(RingsAgain(std::sync::OnceLock::new(), AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&task));
        assert!(seldom.poll(&Context::from_waker(&waker)).is_pending());
        task.0.set(inner.unwrap()).unwrap();
        let (done, rung) = std::sync::mpsc::channel();
        let bell = Arc::clone(&task);
        std::thread::spawn(move || {
            bell.0.get().unwrap().wake_by_ref();
            done.send(()).unwrap();
        });
        let patience = std::time::Duration::from_secs(20);
        rung.recv_timeout(patience)
            .expect("it hangs on its own lock");
        assert_eq!(task.1.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn what_was_ready_is_asked_again() {
        let mut answers = [Poll::Ready(1), Poll::Ready(2), Poll::Pending].into_iter();
        let future = pin!(poll_fn(|_cx| answers.next().unwrap_or(Poll::Pending)));
        let mut seldom = Seldom::new(future);
        let cx = Context::from_waker(Waker::noop());
        let polled = [(); 4].map(|()| seldom.poll(&cx));
        assert_eq!(
            polled,
            [Poll::Ready(1), Poll::Ready(2), Poll::Pending, Poll::Pending]
        );
    }
}
