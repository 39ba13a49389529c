//! One approval as a state machine: what may follow what, and when it is over.
//!
//! Answers and times in, the next state or why not out. Pure: no clock, no log; whoever calls it
//! records a step before it counts (P04).

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use cordon_audit::ApprovalStep;
use cordon_policy::{ApprovalRef, ApprovalScope, GivenApproval, Operation, SessionFacts};
use thiserror::Error;

/// A person's approval of exactly one request of one session.
#[derive(Clone, Debug)]
pub struct Approval {
    /// Its id: UUIDv7.
    pub id: Arc<str>,
    /// Which session asks.
    pub session: Arc<SessionFacts>,
    /// What it asks for.
    pub operation: Operation,
    /// What it binds: [`Operation::approval_digest`].
    pub digest: Arc<str>,
    /// How many different people must say yes.
    pub needs: usize,
    /// When it was asked.
    pub asked: SystemTime,
    /// Until when a person may answer; then the answer is no.
    pub deadline: SystemTime,
    /// What whoever asks says about it, for people: in memory alone, never in the log.
    pub shown: Option<Arc<str>>,
    /// Where it stands.
    pub state: State,
}

/// Where an approval stands.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// Nobody, or not enough people, have answered. What those who have said yes gave.
    Pending(Option<Given>),
    /// It is given.
    Given(Given),
    /// A person said no, and asking again before `until` asks nobody.
    Refused {
        /// Who.
        by: Arc<str>,
        /// Until when that holds.
        until: SystemTime,
    },
    /// Nobody answered in time, or it was not used in time. What was given stays known, for what
    /// was begun under it.
    Expired(Option<Given>),
    /// Its session is over, or it was taken back.
    Withdrawn,
}

/// What was given, and what is left of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Given {
    /// Who, in the order of their answers.
    pub by: Vec<Arc<str>>,
    /// When the last of them answered.
    pub at: SystemTime,
    /// For how many uses; none for as long as the session.
    pub uses: Option<u32>,
    /// How many of them are used.
    pub used: u32,
    /// Until when a use may begin; none for as long as the session.
    pub until: Option<SystemTime>,
}

/// A person's answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// Yes, for so much.
    Yes {
        /// Uses; none for as long as the session.
        uses: Option<u32>,
        /// Time in which a use may begin; none for as long as the session.
        hold: Option<Duration>,
    },
    /// No. Of one that is given already: no longer.
    No,
}

/// Why an answer does not count.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum NotAnswered {
    /// Somebody answered before.
    #[error("it was answered before")]
    Answered,
    /// The same person has said yes already, and another one is needed.
    #[error("you have said yes already, and another person must too")]
    SamePerson,
    /// Its time is over.
    #[error("nobody answered in time, so it was refused")]
    Expired,
    /// It is taken back, or its session is over.
    #[error("its session is over, or it was taken back")]
    Withdrawn,
}

/// How long a refusal by a person counts for the same request, so that an agent cannot wear people
/// down by asking again.
pub const REFUSED_FOR: Duration = Duration::from_secs(10 * 60);

impl Approval {
    /// What follows an answer, and how the step is recorded.
    ///
    /// # Errors
    /// [`NotAnswered`]; nothing changes.
    pub fn answered(
        &self,
        by: &Arc<str>,
        answer: &Answer,
        now: SystemTime,
    ) -> Result<(State, ApprovalStep), NotAnswered> {
        let so_far = match &self.state {
            State::Pending(_) if now >= self.deadline => return Err(NotAnswered::Expired),
            State::Pending(so_far) => so_far,
            State::Given(given) => {
                return match answer {
                    Answer::No if given.usable(now) => {
                        Ok((State::Withdrawn, ApprovalStep::Withdrawn))
                    }
                    Answer::No | Answer::Yes { .. } => Err(NotAnswered::Answered),
                };
            }
            State::Refused { .. } => return Err(NotAnswered::Answered),
            State::Expired(_) => return Err(NotAnswered::Expired),
            State::Withdrawn => return Err(NotAnswered::Withdrawn),
        };
        let (uses, hold) = match answer {
            Answer::Yes { uses, hold } => (*uses, *hold),
            Answer::No => {
                let refused = State::Refused {
                    by: Arc::clone(by),
                    until: now + REFUSED_FOR,
                };
                return Ok((refused, ApprovalStep::Refused));
            }
        };
        let first = so_far.clone().unwrap_or(Given {
            by: Vec::new(),
            at: now,
            uses,
            used: 0,
            until: hold.map(|hold| now + hold),
        });
        if first.by.contains(by) {
            return Err(NotAnswered::SamePerson);
        }
        let given = first.and(by, uses, hold.map(|hold| now + hold), now);
        Ok(if given.by.len() < self.needs {
            (State::Pending(Some(given)), ApprovalStep::Seconded)
        } else {
            (State::Given(given), ApprovalStep::Granted)
        })
    }

    /// Takes one use; what the decision says about it.
    pub fn take(&mut self, now: SystemTime) -> Option<ApprovalRef> {
        let reference = self.usable(now)?;
        if let State::Given(given) = &mut self.state {
            given.used += 1;
        }
        Some(reference)
    }

    /// Puts back a use that came to nothing: another rule refused.
    pub fn put_back(&mut self) {
        if let State::Given(given) = &mut self.state {
            given.used = given.used.saturating_sub(1);
        }
    }

    /// What a decision now would say about it, where it could be used.
    pub fn usable(&self, now: SystemTime) -> Option<ApprovalRef> {
        match &self.state {
            State::Given(given) if given.usable(now) => Some(self.reference(Some(given))),
            _ => None,
        }
    }

    /// What is said about it to what was begun under it and goes on: also once it is used up or
    /// its time is over, never once it is taken back.
    pub fn covers(&self) -> Option<ApprovalRef> {
        match &self.state {
            State::Given(given) | State::Expired(Some(given)) if given.used > 0 => {
                Some(self.reference(Some(given)))
            }
            _ => None,
        }
    }

    /// How many people have said yes.
    pub fn people(&self) -> usize {
        match &self.state {
            State::Pending(given) | State::Expired(given) => given.as_ref(),
            State::Given(given) => Some(given),
            State::Refused { .. } | State::Withdrawn => None,
        }
        .map_or(0, |given| given.by.len())
    }

    /// What follows when time has passed.
    pub fn expired(&self, now: SystemTime) -> Option<State> {
        match &self.state {
            State::Pending(_) if now >= self.deadline => Some(State::Expired(None)),
            State::Given(given) if given.is_late(now) => Some(State::Expired(Some(given.clone()))),
            _ => None,
        }
    }

    /// When [`Self::expired`] has to be asked next.
    pub fn expires(&self) -> Option<SystemTime> {
        match &self.state {
            State::Pending(_) => Some(self.deadline),
            State::Given(given) if !given.is_used_up() => given.until,
            _ => None,
        }
    }

    /// Whether the same request is asked about by this one, so that no other is needed.
    pub fn stands_for(&self, now: SystemTime) -> bool {
        match &self.state {
            State::Pending(_) => now < self.deadline,
            State::Refused { until, .. } => now < *until,
            State::Given(_) | State::Expired(_) | State::Withdrawn => false,
        }
    }

    /// Whether something may still come of it.
    pub fn is_open(&self) -> bool {
        match &self.state {
            State::Pending(_) => true,
            State::Given(given) => !given.is_used_up(),
            State::Refused { .. } | State::Expired(_) | State::Withdrawn => false,
        }
    }

    /// How it is named by a decision that waits for it.
    pub fn waited_for(&self) -> ApprovalRef {
        self.reference(None)
    }

    fn reference(&self, given: Option<&Given>) -> ApprovalRef {
        ApprovalRef {
            id: Arc::clone(&self.id),
            digest: Arc::clone(&self.digest),
            given: given.map(|given| GivenApproval {
                scope: given.scope(),
                by: given.by.clone(),
                at: given.at,
            }),
        }
    }
}

impl State {
    /// In one word: `pending`, `given`, `used`, `refused`, `expired`, `withdrawn`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pending(_) => "pending",
            Self::Given(given) if given.is_used_up() => "used",
            Self::Given(_) => "given",
            Self::Refused { .. } => "refused",
            Self::Expired(_) => "expired",
            Self::Withdrawn => "withdrawn",
        }
    }
}

impl Given {
    /// For how much, as policy and records call it.
    pub fn scope(&self) -> ApprovalScope {
        match self.uses {
            Some(1) => ApprovalScope::Once,
            Some(_) => ApprovalScope::Uses,
            None => ApprovalScope::Session,
        }
    }

    /// With one more person's yes: of two answers the narrower counts.
    fn and(
        mut self,
        by: &Arc<str>,
        uses: Option<u32>,
        until: Option<SystemTime>,
        now: SystemTime,
    ) -> Self {
        self.by.push(Arc::clone(by));
        self.at = now;
        self.uses = narrower(self.uses, uses);
        self.until = narrower(self.until, until);
        self
    }

    fn usable(&self, now: SystemTime) -> bool {
        !self.is_used_up() && !self.is_late(now)
    }

    fn is_used_up(&self) -> bool {
        self.uses.is_some_and(|uses| self.used >= uses)
    }

    fn is_late(&self, now: SystemTime) -> bool {
        !self.is_used_up() && self.until.is_some_and(|until| now >= until)
    }
}

/// Absent is as long as the session: wider than anything.
fn narrower<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use cordon_policy::{Backend, ask};

    use super::*;

    const T0: SystemTime = SystemTime::UNIX_EPOCH;

    fn at(seconds: u64) -> SystemTime {
        T0 + Duration::from_secs(seconds)
    }

    fn person(name: &str) -> Arc<str> {
        name.into()
    }

    fn pending(needs: usize) -> Approval {
        let operation = ask::parse("connect a.test:443").unwrap();
        Approval {
            id: "a".into(),
            session: Arc::new(SessionFacts {
                id: "s".into(),
                user: "ann".into(),
                groups: Vec::new(),
                agent: None,
                platform: "linux".into(),
                backend: Backend::None,
            }),
            digest: operation.approval_digest("s").into(),
            operation,
            needs,
            asked: T0,
            deadline: at(100),
            shown: None,
            state: State::Pending(None),
        }
    }

    fn yes(uses: Option<u32>, hold: Option<u64>) -> Answer {
        Answer::Yes {
            uses,
            hold: hold.map(Duration::from_secs),
        }
    }

    fn given(uses: Option<u32>, hold: Option<u64>) -> Approval {
        let mut approval = pending(1);
        let (state, step) = approval
            .answered(&person("bob"), &yes(uses, hold), at(1))
            .unwrap();
        assert_eq!(step, ApprovalStep::Granted);
        approval.state = state;
        approval
    }

    #[test]
    fn p04_it_is_used_as_often_as_was_said_and_no_more() {
        for (uses, scope) in [(1, ApprovalScope::Once), (3, ApprovalScope::Uses)] {
            let mut approval = given(Some(uses), Some(50));
            for _use in 0..uses {
                let reference = approval.take(at(2)).unwrap();
                assert_eq!(reference.given.unwrap().scope, scope);
            }
            assert_eq!(approval.take(at(2)), None);
            assert_eq!(approval.state.word(), "used");
            // What it let begin goes on.
            assert!(approval.covers().is_some());
        }
        let mut approval = given(None, None);
        for _use in 0..100 {
            assert!(approval.take(at(1_000_000)).is_some());
        }
    }

    #[test]
    fn a_use_that_came_to_nothing_is_put_back() {
        let mut approval = given(Some(1), None);
        assert!(approval.take(at(2)).is_some());
        approval.put_back();
        assert!(approval.take(at(2)).is_some());
        assert_eq!(approval.take(at(2)), None);
    }

    #[test]
    fn p04_no_use_begins_after_its_time() {
        let mut approval = given(None, Some(10));
        assert!(approval.take(at(10)).is_some());
        assert_eq!(approval.take(at(11)), None);
        assert_eq!(approval.expires(), Some(at(11)));
        approval.state = approval.expired(at(11)).unwrap();
        assert_eq!(approval.state.word(), "expired");
        assert!(approval.covers().is_some(), "what was begun goes on");
        let mut unused = given(None, Some(10));
        unused.state = unused.expired(at(11)).unwrap();
        assert_eq!(unused.covers(), None);
    }

    #[test]
    fn nobody_answers_twice_or_too_late() {
        let bob = person("bob");
        let approval = given(Some(1), None);
        let again = approval.answered(&bob, &yes(None, None), at(2));
        assert_eq!(again.unwrap_err(), NotAnswered::Answered);
        let late = pending(1).answered(&bob, &yes(None, None), at(100));
        assert_eq!(late.unwrap_err(), NotAnswered::Expired);
        let mut refused = pending(1);
        let (state, step) = refused.answered(&bob, &Answer::No, at(1)).unwrap();
        assert_eq!(step, ApprovalStep::Refused);
        refused.state = state;
        let after = refused.answered(&bob, &yes(None, None), at(2));
        assert_eq!(after.unwrap_err(), NotAnswered::Answered);
        assert!(refused.stands_for(at(2)), "asking again asks nobody");
        assert!(!refused.stands_for(at(1) + REFUSED_FOR));
    }

    #[test]
    fn what_is_given_can_be_taken_back() {
        let mut approval = given(None, None);
        assert!(approval.take(at(2)).is_some());
        let (state, step) = approval
            .answered(&person("eve"), &Answer::No, at(3))
            .unwrap();
        assert_eq!(step, ApprovalStep::Withdrawn);
        approval.state = state;
        assert_eq!((approval.take(at(4)), approval.covers()), (None, None));
        let after = approval.answered(&person("eve"), &Answer::No, at(5));
        assert_eq!(after.unwrap_err(), NotAnswered::Withdrawn);
    }

    #[test]
    fn where_two_must_say_yes_they_are_two_people_and_the_narrower_answer_counts() {
        let mut approval = pending(2);
        let (bob, eve) = (person("bob"), person("eve"));
        let (state, step) = approval
            .answered(&bob, &yes(None, Some(50)), at(1))
            .unwrap();
        assert_eq!(step, ApprovalStep::Seconded);
        approval.state = state;
        assert_eq!(approval.take(at(2)), None, "one is not enough");
        let same = approval.answered(&bob, &yes(None, None), at(2));
        assert_eq!(same.unwrap_err(), NotAnswered::SamePerson);
        let (state, step) = approval
            .answered(&eve, &yes(Some(2), Some(500)), at(3))
            .unwrap();
        assert_eq!(step, ApprovalStep::Granted);
        let State::Given(given) = &state else {
            panic!("{state:?}");
        };
        assert_eq!((given.uses, given.until), (Some(2), Some(at(51))));
        assert_eq!(given.by, [bob, eve]);
        // Either of them alone can say no.
        let (state, _) = approval
            .answered(&person("max"), &Answer::No, at(3))
            .unwrap();
        assert_eq!(state.word(), "refused");
    }
}
