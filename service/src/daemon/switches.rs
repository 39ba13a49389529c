//! What is switched on in which session, with what it is on with.
//!
//! Switching on takes a decision, and so a while; switching off does not, and whoever switches off
//! meanwhile has the last word. Never decides.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A session and what is switched in it.
type Key = (String, String);

/// Switches of all sessions.
#[derive(Debug)]
pub struct Switches<T>(Mutex<State<T>>);

#[derive(Debug)]
struct State<T> {
    turns: u64,
    /// Decisions that are under way, the latest for each.
    begun: BTreeMap<Key, u64>,
    on: BTreeMap<Key, T>,
}

/// A decision that is under way.
#[derive(Debug)]
pub struct Turn {
    key: Key,
    number: u64,
}

impl<T> Default for Switches<T> {
    fn default() -> Self {
        Self(Mutex::new(State {
            turns: 0,
            begun: BTreeMap::new(),
            on: BTreeMap::new(),
        }))
    }
}

impl<T> Switches<T> {
    /// Begins to switch something on. `lives` says which sessions there still are: what others had
    /// is let go of.
    pub fn begin(&self, session: &str, name: &str, lives: impl Fn(&str) -> bool) -> Turn {
        let key = (session.to_owned(), name.to_owned());
        let mut state = self.lock();
        state.begun.retain(|(session, _), _| lives(session));
        state.on.retain(|(session, _), _| lives(session));
        state.turns = state.turns.saturating_add(1);
        let number = state.turns;
        state.begun.insert(key.clone(), number);
        Turn { key, number }
    }

    /// It was allowed: on from now on; gives what it was on with before.
    ///
    /// # Errors
    /// It was switched off meanwhile, or somebody began after us: it stays as they have it.
    pub fn finish(&self, turn: &Turn, with: T) -> Result<Option<T>, T> {
        let mut state = self.lock();
        if state.begun.get(&turn.key) != Some(&turn.number) {
            return Err(with);
        }
        state.begun.remove(&turn.key);
        Ok(state.on.insert(turn.key.clone(), with))
    }

    /// Off, at once, also where a decision is under way; gives what it was on with.
    pub fn off(&self, session: &str, name: &str) -> Option<T> {
        let key = (session.to_owned(), name.to_owned());
        let mut state = self.lock();
        state.begun.remove(&key);
        state.on.remove(&key)
    }

    /// Looks at what it is on with; none where it is off.
    pub fn look<R>(&self, session: &str, name: &str, look: impl FnOnce(&T) -> R) -> Option<R> {
        let key = (session.to_owned(), name.to_owned());
        self.lock().on.get(&key).map(look)
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p10_what_is_on_is_so_in_one_session_until_it_ends() {
        let switches = Switches::default();
        let on = |session: &str| switches.look(session, "tracker", |with: &u8| *with);
        let begin = |session: &str| switches.begin(session, "tracker", |_| true);
        assert_eq!(switches.finish(&begin("one"), 1), Ok(None));
        assert_eq!((on("one"), on("two")), (Some(1), None));
        assert_eq!(switches.finish(&begin("one"), 2), Ok(Some(1)));
        assert_eq!(on("one"), Some(2));
        let turn = switches.begin("two", "tracker", |session| session == "two");
        assert_eq!(on("one"), None);
        assert_eq!(switches.finish(&turn, 3), Ok(None));
        assert_eq!(switches.off("two", "tracker"), Some(3));
        assert_eq!(switches.off("two", "tracker"), None);
    }

    /// A decision that was under way when somebody switched off does not switch on again.
    #[test]
    fn p10_who_switches_off_meanwhile_has_the_last_word() {
        let switches = Switches::default();
        let begin = || switches.begin("one", "tracker", |_| true);
        let turn = begin();
        assert_eq!(switches.off("one", "tracker"), None);
        assert_eq!(switches.finish(&turn, 1), Err(1));
        assert_eq!(switches.look("one", "tracker", |_| ()), None);
        // Of two that decide at once the later one counts.
        let (first, second) = (begin(), begin());
        assert_eq!(switches.finish(&first, 1), Err(1));
        assert_eq!(switches.finish(&second, 2), Ok(None));
        assert_eq!(switches.look("one", "tracker", |with| *with), Some(2));
    }
}
