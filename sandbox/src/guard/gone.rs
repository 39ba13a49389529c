//! Names that were there before the session and that it removed, until somebody is told of them: in
//! batches, because each telling waits for an answer while the session's next call waits.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

/// Names on the host, in the order in which they went.
#[derive(Debug, Default)]
pub(super) struct Gone {
    names: Vec<PathBuf>,
    /// When the first of them went.
    since: Option<Instant>,
}

impl Gone {
    pub(super) fn add(&mut self, name: PathBuf) {
        self.since.get_or_insert_with(Instant::now);
        self.names.push(name);
    }

    /// What is to be told now: there are enough of them, or one has waited for long enough.
    pub(super) fn due(&mut self) -> Option<Vec<PathBuf>> {
        let is_due = self.names.len() >= MANY || self.left() == Some(Duration::ZERO);
        is_due.then(|| self.rest())
    }

    /// For how long what there is may wait.
    pub(super) fn left(&self) -> Option<Duration> {
        self.since.map(|since| LONG.saturating_sub(since.elapsed()))
    }

    /// All of them, due or not.
    pub(super) fn rest(&mut self) -> Vec<PathBuf> {
        self.since = None;
        std::mem::take(&mut self.names)
    }
}

const MANY: usize = 64;
const LONG: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_are_told_at_once_and_few_after_a_while() {
        let mut gone = Gone::default();
        assert_eq!((gone.due(), gone.left()), (None, None));
        for number in 0..MANY {
            assert_eq!(gone.due(), None, "{number}");
            gone.add(number.to_string().into());
        }
        assert_eq!(gone.due().map(|names| names.len()), Some(MANY));
        assert_eq!(gone.left(), None);
        gone.add("one".into());
        assert!(gone.left() > Some(Duration::ZERO));
        gone.since = Instant::now().checked_sub(LONG);
        assert_eq!(gone.due(), Some(vec!["one".into()]));
    }
}
