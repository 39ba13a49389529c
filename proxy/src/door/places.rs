//! The places of connections whose caller is not known yet.
//!
//! They are a part of the node's room. When all are taken, the connection that came first gives its
//! place to the one that comes, so whoever never says who they are keeps nobody else out (N24).

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// The places of one gateway.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    /// In the order in which they came, each with how it is put out.
    strangers: BTreeMap<u64, oneshot::Sender<()>>,
    entered: u64,
}

/// The place of one connection; free again when dropped, or once its caller is known.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
}

/// That a connection has to give its place away.
#[derive(Debug)]
pub(super) struct PutOut(oneshot::Receiver<()>);

impl Places {
    pub(super) fn new(most: usize) -> Arc<Self> {
        let taken = Mutex::default();
        Arc::new(Self { most, taken })
    }

    /// A place for a connection of which nothing is known, in place of the oldest of those where
    /// there is no other.
    pub(super) fn enter(self: &Arc<Self>) -> (Place, PutOut) {
        let (sender, receiver) = oneshot::channel();
        let mut taken = self.lock();
        while taken.strangers.len() >= self.most {
            let Some((_number, oldest)) = taken.strangers.pop_first() else {
                break;
            };
            // It may have left by itself.
            let _gone = oldest.send(());
        }
        let number = taken.entered;
        taken.entered += 1;
        taken.strangers.insert(number, sender);
        drop(taken);
        let places = Arc::clone(self);
        (Place { places, number }, PutOut(receiver))
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Its caller is known, so it is no stranger's any more.
    pub(super) fn give_up(&self) {
        self.places.lock().strangers.remove(&self.number);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl PutOut {
    /// Resolves when it has to; never for a connection whose caller is known.
    pub(super) async fn happens(self) {
        if self.0.await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin};

    use super::*;

    async fn is_put_out(place: PutOut) -> bool {
        let mut happens = pin!(place.happens());
        poll_fn(|cx| std::task::Poll::Ready(happens.as_mut().poll(cx).is_ready())).await
    }

    #[tokio::test]
    async fn n24_the_oldest_stranger_gives_way_and_nobody_who_is_known() {
        let places = Places::new(2);
        let (known, known_out) = places.enter();
        known.give_up();
        let (_first, first_out) = places.enter();
        let (second, second_out) = places.enter();
        let (_third, third_out) = places.enter();
        assert!(is_put_out(first_out).await);
        // One that leaves makes room.
        drop(second);
        let (_fourth, fourth_out) = places.enter();
        for stays in [known_out, second_out, third_out, fourth_out] {
            assert!(!is_put_out(stays).await);
        }
        drop((known, _first, _third, _fourth));
        assert!(places.lock().strangers.is_empty());
    }
}
