//! Places for connections over TLS: callers that are not known yet have some of their own, and each
//! known caller has some.
//!
//! When strangers have taken all of theirs, the one that came first gives its place to the one that
//! comes, so nobody is kept out by those who never say who they are.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cordon_session::config::ApiLimits;
use tokio::sync::oneshot;

use super::CONNECTIONS;

/// All places.
#[derive(Debug)]
pub struct Places {
    strangers: usize,
    per_caller: usize,
    sessions: usize,
    taken: Mutex<Taken>,
}

/// Whose a place is.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Owner {
    /// A caller of the configuration, by name.
    Caller(String),
    /// Whoever has a token of this session.
    Session(String),
}

#[derive(Debug, Default)]
struct Taken {
    /// In the order in which they came, each with how it is put out.
    strangers: BTreeMap<u64, oneshot::Sender<()>>,
    entered: u64,
    /// How many each caller has.
    known: HashMap<Owner, usize>,
}

/// The place of one connection; free again when dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    number: u64,
    /// Whose it is, once that is known.
    whose: Mutex<Option<Owner>>,
}

/// That a connection has to give its place away.
#[derive(Debug)]
pub struct PutOut(oneshot::Receiver<()>);

/// Places for callers that are not known yet; also for each that is.
const PLACES: usize = 64;

/// Places for the tokens of all sessions together. There may be thousands of sessions, and agents with
/// them: those who administer them get in beside all of these.
const SESSIONS: usize = CONNECTIONS / 2;

impl Places {
    /// As many as the configuration says.
    pub fn new(limits: &ApiLimits) -> Self {
        let number = |configured: Option<std::num::NonZeroU16>| {
            configured.map_or(PLACES, |number| usize::from(number.get()))
        };
        Self {
            strangers: number(limits.strangers),
            per_caller: number(limits.connections_per_caller),
            sessions: SESSIONS,
            taken: Mutex::default(),
        }
    }

    /// A place for a connection of which nothing is known, in place of the oldest of those where
    /// there is no other.
    pub fn enter(self: &Arc<Self>) -> (Place, PutOut) {
        let (sender, receiver) = oneshot::channel();
        let mut taken = self.lock();
        while taken.strangers.len() >= self.strangers {
            if let Some((_number, oldest)) = taken.strangers.pop_first() {
                // It may have left by itself.
                let _gone = oldest.send(());
            }
        }
        let number = taken.entered;
        taken.entered += 1;
        taken.strangers.insert(number, sender);
        drop(taken);
        let place = Place {
            places: Arc::clone(self),
            number,
            whose: Mutex::default(),
        };
        (place, PutOut(receiver))
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// It is this one's from now on. False where they have as many as one may have.
    pub fn belongs_to(&self, owner: &Owner) -> bool {
        let mut whose = self.whose.lock().unwrap_or_else(PoisonError::into_inner);
        if whose.as_ref() == Some(owner) {
            return true;
        }
        let mut taken = self.places.lock();
        let held = taken.known.get(owner).copied().unwrap_or_default();
        let crowded = owner.is_session() && taken.of_sessions() >= self.places.sessions;
        if held >= self.places.per_caller || crowded {
            return false;
        }
        taken.known.insert(owner.clone(), held + 1);
        match whose.replace(owner.clone()) {
            Some(before) => taken.give_back(&before),
            None => drop(taken.strangers.remove(&self.number)),
        }
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let whose = self.whose.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut taken = self.places.lock();
        match whose {
            Some(whose) => taken.give_back(whose),
            None => drop(taken.strangers.remove(&self.number)),
        }
    }
}

impl PutOut {
    /// Resolves when it has to; never for a connection whose caller is known.
    pub async fn happens(self) {
        if self.0.await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Owner {
    fn is_session(&self) -> bool {
        matches!(self, Self::Session(_))
    }
}

impl Taken {
    fn of_sessions(&self) -> usize {
        let sessions = self
            .known
            .iter()
            .filter(|(owner, _held)| owner.is_session());
        sessions.map(|(_owner, held)| held).sum()
    }

    fn give_back(&mut self, whose: &Owner) {
        if let Some(held) = self.known.get_mut(whose) {
            *held -= 1;
            if *held == 0 {
                self.known.remove(whose);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn places(strangers: usize, per_caller: usize) -> Arc<Places> {
        Arc::new(Places {
            strangers,
            per_caller,
            sessions: 3,
            taken: Mutex::default(),
        })
    }

    fn caller(name: &str) -> Owner {
        Owner::Caller(name.into())
    }

    async fn is_put_out(put_out: PutOut) -> bool {
        let now = tokio::time::timeout(Duration::from_millis(20), put_out.happens());
        now.await.is_ok()
    }

    #[tokio::test]
    async fn n24_strangers_put_out_the_oldest_stranger_and_nobody_who_is_known() {
        let places = places(2, 2);
        let (known, known_out) = places.enter();
        assert!(known.belongs_to(&caller("bob")));
        let (_first, first_out) = places.enter();
        let (_second, second_out) = places.enter();
        let (_third, third_out) = places.enter();
        assert!(is_put_out(first_out).await, "the oldest");
        for stays in [known_out, second_out, third_out] {
            assert!(!is_put_out(stays).await);
        }
        assert_eq!(places.lock().strangers.len(), 2);
    }

    #[test]
    fn a_caller_has_so_many_places_and_gives_them_back() {
        let places = places(2, 2);
        let [one, two, three] = [(); 3].map(|()| places.enter().0);
        assert!(one.belongs_to(&caller("bob")) && two.belongs_to(&caller("bob")));
        assert!(!three.belongs_to(&caller("bob")), "as many as one may have");
        assert!(one.belongs_to(&caller("bob")), "its own is no further one");
        assert!(three.belongs_to(&caller("eve")), "another has its own");
        drop(one);
        assert!(
            three.belongs_to(&caller("bob")),
            "who asks as another leaves the place of before"
        );
        drop((two, three));
        let taken = places.lock();
        assert!(
            taken.known.is_empty() && taken.strangers.is_empty(),
            "{taken:?}"
        );
    }

    #[test]
    fn n24_the_tokens_of_sessions_leave_places_for_those_who_administer_them() {
        let places = places(8, 2);
        let session = |id: &str| Owner::Session(id.into());
        let entered = [(); 5].map(|()| places.enter().0);
        let [one, two, three, four, five] = &entered;
        assert!(one.belongs_to(&session("a")) && two.belongs_to(&session("a")));
        assert!(three.belongs_to(&session("b")));
        assert!(!four.belongs_to(&session("c")), "all of theirs are taken");
        assert!(four.belongs_to(&caller("bob")), "his are his own");
        assert!(three.belongs_to(&caller("bob")), "and one is free again");
        assert!(five.belongs_to(&session("c")));
    }
}
