//! The process inside a session that made a connection.
//!
//! Found by the enforcement point when the connection was opened. Told to policy only where there
//! is exactly one: with several it is not known which of them speaks.

/// Who holds a connection inside the session.
#[derive(Clone, Debug, Default)]
pub struct ProcessFacts {
    /// Every process that was found to hold it.
    pub holders: Vec<Holder>,
    /// Whether every process of the session could be looked into.
    pub complete: bool,
}

/// One process.
#[derive(Clone, Debug, Default)]
pub struct Holder {
    /// Its number, as the session sees it.
    pub pid: u32,
    /// When it started, in microseconds since boot.
    pub start_us: u64,
    /// Path of its program, as the session sees it, links resolved.
    pub executable: String,
    /// SHA-256 of its program, lower-case hex, where it was worked out.
    pub digest: Option<String>,
    /// Paths of the programs of its parents, the nearest first, without the session's first
    /// process.
    pub ancestors: Vec<String>,
}

impl ProcessFacts {
    /// The one process, where there is exactly one and no other can be.
    pub fn only(&self) -> Option<&Holder> {
        match &*self.holders {
            [one] if self.complete => Some(one),
            _none_or_several => None,
        }
    }

    /// All that policy can see.
    fn seen(&self) -> Option<(&str, Option<&str>, &[String])> {
        let one = self.only()?;
        Some((&one.executable, one.digest.as_deref(), &one.ancestors))
    }
}

/// By what policy can see: two runs of a program are one question.
impl PartialEq for ProcessFacts {
    fn eq(&self, other: &Self) -> bool {
        self.seen() == other.seen()
    }
}

impl Eq for ProcessFacts {}

impl std::hash::Hash for ProcessFacts {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.seen().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(pids: &[u32], complete: bool) -> ProcessFacts {
        let holder = |pid: &u32| Holder {
            pid: *pid,
            executable: "/usr/bin/curl".into(),
            ..Holder::default()
        };
        ProcessFacts {
            holders: pids.iter().map(holder).collect(),
            complete,
        }
    }

    #[test]
    fn only_one_process_that_can_have_no_other_beside_it_is_told() {
        for (pids, complete, told) in [
            (&[7][..], true, true),
            (&[7], false, false),
            (&[7, 8], true, false),
            (&[], true, false),
        ] {
            assert_eq!(held_by(pids, complete).only().is_some(), told, "{pids:?}");
        }
    }

    #[test]
    fn two_runs_of_a_program_are_one_question_and_two_programs_are_two() {
        assert_eq!(held_by(&[7], true), held_by(&[8], true));
        assert_ne!(held_by(&[7], true), held_by(&[7, 8], true));
        let mut other = held_by(&[7], true);
        other.holders[0].digest = Some("00".into());
        assert_ne!(held_by(&[7], true), other);
        other.holders[0].digest = None;
        other.holders[0].ancestors.push("/usr/bin/bash".into());
        assert_ne!(held_by(&[7], true), other);
    }
}
