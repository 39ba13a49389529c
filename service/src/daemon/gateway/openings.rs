//! What is open by name: opened for one who asks at a time, and to its end whatever becomes of them.
//!
//! Names and what opens in, what is open out. Knows no sessions and no policy.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError},
};

use tokio::sync::{Mutex, OwnedMutexGuard, RwLock, RwLockWriteGuard};
use tracing::warn;

/// What is open, by names that are known from the start.
pub(super) struct Openings<T> {
    /// Whose turn it is. One name's opening, however long it takes, holds up nobody else's (N24).
    turns: BTreeMap<String, Arc<Mutex<()>>>,
    open: Arc<Open<T>>,
}

struct Open<T> {
    /// Whether nothing opens any more. Held shared by whoever opens until it is entered: whoever holds
    /// it alone misses none.
    closed: RwLock<bool>,
    by_name: StdMutex<BTreeMap<String, T>>,
}

/// A name's turn: nobody else opens or takes away what it has.
pub(super) struct Turn<T> {
    name: String,
    open: Arc<Open<T>>,
    _held: OwnedMutexGuard<()>,
}

/// Why nothing was opened.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum NotOpened<E> {
    /// Nothing opens any more.
    Closed,
    /// What opens it broke off.
    Broken,
    /// It says why.
    Refused(E),
}

/// That nothing opens meanwhile.
pub(super) struct Still<'a> {
    closed: RwLockWriteGuard<'a, bool>,
}

impl<T: Clone + Send + 'static> Openings<T> {
    /// Nothing is open yet.
    pub(super) fn new(names: impl IntoIterator<Item = String>) -> Self {
        let turns = names.into_iter().map(|name| (name, Arc::default()));
        Self {
            turns: turns.collect(),
            open: Arc::new(Open {
                closed: RwLock::new(false),
                by_name: StdMutex::default(),
            }),
        }
    }

    /// Waits for the turn of a name; none where it is not known.
    pub(super) async fn turn(&self, name: &str) -> Option<Turn<T>> {
        let turn = self.turns.get(name)?;
        Some(Turn {
            _held: Arc::clone(turn).lock_owned().await,
            name: name.into(),
            open: Arc::clone(&self.open),
        })
    }

    /// Waits until all that open have done so; nothing opens as long as this is held.
    pub(super) async fn still(&self) -> Still<'_> {
        Still {
            closed: self.open.closed.write().await,
        }
    }

    /// All that are open.
    pub(super) fn all(&self) -> Vec<T> {
        self.open.lock().values().cloned().collect()
    }

    /// Nothing opens any more; what is open is given away.
    pub(super) async fn close(&self) -> Vec<T> {
        *self.still().await.closed = true;
        std::mem::take(&mut *self.open.lock())
            .into_values()
            .collect()
    }
}

impl<T: Clone + Send + 'static> Turn<T> {
    /// What is open.
    pub(super) fn found(&self) -> Option<T> {
        self.open.lock().get(&self.name).cloned()
    }

    /// Gives away what is open, where nobody else was given it. Whoever looks for it finds it here or
    /// where it is given to.
    pub(super) fn give(&self, to: impl FnOnce(T)) {
        let mut open = self.open.lock();
        if let Some(left) = open.remove(&self.name) {
            to(left);
        }
    }

    /// Opens it, and enters it where that succeeds. The opening goes to its end although whoever asks
    /// has left: what is half open would be ended by nobody.
    pub(super) async fn open<E: Send + 'static>(
        self,
        opening: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, NotOpened<E>> {
        let opened = tokio::spawn(async move {
            // All of it: the turn too is held until it is entered.
            let turn = self;
            let closed = turn.open.closed.read().await;
            if *closed {
                return Err(NotOpened::Closed);
            }
            let opened = opening.await.map_err(NotOpened::Refused)?;
            turn.open.lock().insert(turn.name.clone(), opened.clone());
            Ok(opened)
        });
        opened.await.unwrap_or_else(|error| {
            warn!(%error, "an opening broke off");
            Err(NotOpened::Broken)
        })
    }
}

impl<T> Open<T> {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, T>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::poll_fn, pin::pin, task::Poll};

    use tokio::sync::oneshot;

    use super::*;

    fn openings() -> Openings<u32> {
        Openings::new(["ann".to_owned(), "bob".to_owned()])
    }

    /// Lets all other tasks go on as far as they can.
    async fn settle() {
        for _turn in 0..8 {
            tokio::task::yield_now().await;
        }
    }

    /// Something that opens when it is told what.
    fn held() -> (
        oneshot::Sender<u32>,
        impl Future<Output = Result<u32, &'static str>> + Send + 'static,
    ) {
        let (told, waits) = oneshot::channel();
        (told, async { waits.await.map_err(|_gone| "gone") })
    }

    /// Asks as far as it goes, and leaves.
    async fn asks_and_leaves(asking: impl Future) {
        let mut asking = pin!(asking);
        let pends = poll_fn(|cx| Poll::Ready(asking.as_mut().poll(cx).is_pending())).await;
        assert!(pends);
        settle().await;
    }

    #[tokio::test]
    async fn n24_what_opens_is_entered_although_whoever_asked_has_left() {
        let openings = openings();
        let (told, opening) = held();
        let turn = openings.turn("ann").await.unwrap();
        asks_and_leaves(turn.open(opening)).await;
        assert!(openings.all().is_empty());
        told.send(1).unwrap();
        assert_eq!(openings.turn("ann").await.unwrap().found(), Some(1));
        // And what is refused leaves nothing, and gives its turn back.
        let (told, opening) = held();
        let turn = openings.turn("bob").await.unwrap();
        asks_and_leaves(turn.open(opening)).await;
        drop(told);
        assert_eq!(openings.turn("bob").await.unwrap().found(), None);
    }

    #[tokio::test]
    async fn n24_one_names_opening_holds_up_nobody_else() {
        let openings = openings();
        let (told, opening) = held();
        let turn = openings.turn("ann").await.unwrap();
        asks_and_leaves(turn.open(opening)).await;
        let bob = openings.turn("bob").await.unwrap();
        let opened = bob.open(async { Ok::<_, Infallible>(2) }).await;
        assert_eq!(opened, Ok(2));
        // Their own next one waits for it.
        asks_and_leaves(openings.turn("ann")).await;
        told.send(1).unwrap();
        assert_eq!(openings.turn("ann").await.unwrap().found(), Some(1));
    }

    #[tokio::test]
    async fn what_opens_at_the_end_is_given_away_and_nothing_opens_after_it() {
        let openings = openings();
        let (told, opening) = held();
        let turn = openings.turn("ann").await.unwrap();
        asks_and_leaves(turn.open(opening)).await;
        let mut closing = pin!(openings.close());
        asks_and_leaves(closing.as_mut()).await;
        let late = openings.turn("bob").await.unwrap();
        asks_and_leaves(late.open(async { Ok::<_, Infallible>(2) })).await;
        told.send(1).unwrap();
        assert_eq!(closing.await, [1]);
        let late = openings.turn("ann").await.unwrap();
        assert_eq!(late.found(), None);
        let opened = late.open(async { Ok::<_, Infallible>(3) }).await;
        assert_eq!(opened, Err(NotOpened::Closed));
        assert!(openings.all().is_empty());
    }

    #[tokio::test]
    async fn what_is_given_is_nobodys_any_more() {
        let openings = openings();
        let turn = openings.turn("ann").await.unwrap();
        turn.open(async { Ok::<_, Infallible>(1) }).await.unwrap();
        let turn = openings.turn("ann").await.unwrap();
        let mut given = Vec::new();
        turn.give(|left| given.push(left));
        turn.give(|left| given.push(left));
        assert_eq!(given, [1]);
        assert!(openings.turn("carl").await.is_none());
    }
}
