//! Budgets and labels of recorded sessions, decided again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use cordon_audit::{Event, FlowEnd, Log, LogOptions, RecordId, SessionEnd, read::Reader};
use cordon_policy::{
    Snapshot, ask,
    source::{PolicyFile, PolicySource},
};
use cordon_session::{Durability, Gate, GateError};
use tempfile::TempDir;

use crate::{
    again::{self, Sets},
    fixture::{START, loaded, session},
    records::{Selection, micros},
    replay::{self, Report},
};

/// What a session of a real gate does.
enum Does {
    /// Asks; and says whether it was allowed.
    Asks(&'static str, bool),
    /// The flow of the last allow ends with so many bytes to the destination.
    Ends(u64),
    /// It ends itself.
    Over,
}
use Does::{Asks, Ends, Over};

/// A log that a gate wrote.
struct Recorded(TempDir);

impl Recorded {
    fn of(rules: &PolicySource, does: &[Does]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let log = Log::open(&folder.path().join("log"), LogOptions::default()).unwrap();
            let facts = Arc::new(session("s-1", "ann", None));
            let snapshot = Arc::new(Snapshot::load(rules).unwrap());
            let gate = Gate::new(facts, snapshot, log.clone());
            let mut last = admit(&gate, "start true").await;
            for one in does {
                match one {
                    Asks(words, allowed) => {
                        let permit = admit(&gate, words).await;
                        assert_eq!(permit.is_some(), *allowed, "{words:.60}");
                        last = permit.or(last);
                    }
                    Ends(bytes) => ends(&gate, last.unwrap(), *bytes).await,
                    Over => over(&gate).await,
                }
            }
            log.close();
        });
        Self(folder)
    }

    fn log(&self) -> Reader {
        Reader::open(&self.0.path().join("log")).unwrap()
    }

    fn replay(&self, candidate: &Snapshot) -> Report {
        replay::replay(&self.log(), candidate, &Selection::default()).unwrap()
    }
}

async fn admit(gate: &Gate, words: &str) -> Option<RecordId> {
    let operation = ask::parse(words).unwrap();
    match gate.admit(operation, Durability::Synced).await {
        Ok(permit) => Some(permit.id()),
        Err(GateError::Denied(_)) => None,
        Err(error) => panic!("{words}: {error:?}"),
    }
}

async fn ends(gate: &Gate, decision: RecordId, bytes_out: u64) {
    gate.past()
        .bytes(ask::parse("connect a.test:443").unwrap().destination())
        .sent(bytes_out);
    let closed = Event::FlowClosed {
        session: Arc::clone(gate.session()),
        decision,
        peer: None,
        bytes_out,
        bytes_in: 0,
        duration: Duration::from_millis(1),
        status: None,
        tls: None,
        end: FlowEnd::Completed,
    };
    gate.event(closed).await.unwrap();
}

async fn over(gate: &Gate) {
    let over = Event::SessionEnded {
        session: Arc::clone(gate.session()),
        end: SessionEnd::Exited,
        exit_code: None,
        totals: None,
    };
    gate.event(over).await.unwrap();
}

struct Kept(Snapshot);

impl Sets for Kept {
    fn by_digest(&mut self, digest: &str) -> Option<&Snapshot> {
        (self.0.digest() == digest).then_some(&self.0)
    }
}

fn source(rules: &str) -> PolicySource {
    let files = vec![PolicyFile::new("t.cedar", format!("{START}{rules}"))];
    PolicySource::new("t", files)
}

fn at_most(requests: u64) -> String {
    format!(
        "@id(\"budget\") permit (principal, action == Action::\"connect\", resource)
         when {{ context.session.requests < {requests} }};"
    )
}

/// Newly allowed and newly denied.
fn changes(report: &Report) -> (u64, u64) {
    (report.newly_allowed, report.newly_denied)
}

fn left_out(report: &Report) -> Vec<(&str, u64)> {
    let each = |(why, count): (&'static str, &u64)| (why, *count);
    let named = report.not_replayed.iter().map(|(why, count)| {
        let known = ["does not tell all", "how many had moved", "too long"];
        let known = known.into_iter().find(|known| why.contains(known));
        each((known.unwrap_or("something else"), count))
    });
    named.collect()
}

#[test]
fn a_changed_budget_changes_what_it_would_have_let_through() {
    let three = source(&at_most(3));
    let connect = |allowed| Asks("connect a.test:443", allowed);
    let does = [true, true, true, false, false, false].map(connect);
    let recorded = Recorded::of(&three, &does);
    for (most, expected) in [
        (3, (0, 0)),
        (2, (0, 1)),
        (0, (0, 3)),
        (5, (2, 0)),
        (9, (3, 0)),
    ] {
        let candidate = Snapshot::load(&source(&at_most(most))).unwrap();
        let report = recorded.replay(&candidate);
        assert_eq!((report.replayed, changes(&report)), (7, expected), "{most}");
        assert_eq!(left_out(&report), [], "{most}");
    }
    let mut own = Kept(Snapshot::load(&three).unwrap());
    let report = again::verify(&recorded.log(), &mut own, &Selection::default()).unwrap();
    assert_eq!((report.same, report.different), (7, 0), "{report:?}");
    assert_eq!(report.not_again, BTreeMap::new());
}

/// From a moment on: what a session did before counts, though it is not reported.
#[test]
fn what_a_session_did_before_the_time_that_is_asked_about_counts() {
    let does = [true, true, true, false].map(|allowed| Asks("connect a.test:443", allowed));
    let recorded = Recorded::of(&source(&at_most(3)), &does);
    let records: Vec<_> = recorded.log().records(0).map(Result::unwrap).collect();
    let third = records
        .iter()
        .filter(|one| one.is_decision())
        .nth(3)
        .unwrap();
    let since = std::time::UNIX_EPOCH + Duration::from_micros(third.ts_us);
    assert_eq!(micros(since), third.ts_us);
    let from_there = Selection {
        since: Some(since),
        ..Selection::default()
    };
    let candidate = Snapshot::load(&source(&at_most(2))).unwrap();
    let report = replay::replay(&recorded.log(), &candidate, &from_there).unwrap();
    assert_eq!(
        (report.decisions, changes(&report)),
        (2, (0, 1)),
        "{report:?}"
    );
}

/// The pack as it is shipped, beside rules that permit: it refuses what it would have refused.
#[test]
fn labels_are_what_the_candidate_gives() {
    let everything = "@id(\"all\") permit (principal, action, resource);";
    let does = [
        Asks("connect old.test:443", true),
        Asks("grant ro /srv/confidential", true),
        Asks("connect one.test:443", true),
        Asks("connect forum.example.com:443", true),
        Asks("connect new.test:443", true),
        Asks("connect old.test:443", true),
        Asks("connect new.test:443", true),
    ];
    let recorded = Recorded::of(&source(everything), &does);
    let guard = PolicySource::pack("trifecta-guard").unwrap();
    let guarded = Snapshot::load(&source(everything).join(guard.clone())).unwrap();
    let report = recorded.replay(&guarded);
    // What it would have refused was not reached, so it is still new the second time.
    assert_eq!(
        (report.replayed, changes(&report)),
        (8, (0, 2)),
        "{report:?}"
    );
    assert_eq!(left_out(&report), []);
    let [line] = report.changes.as_slice() else {
        panic!("{:?}", report.changes)
    };
    assert_eq!(
        (line.what.as_str(), line.count),
        ("connect new.test:443", 2)
    );
    assert_eq!(line.now.effect, cordon_audit::Effect::Ask);
    // Recorded under it, and replayed without: the same two the other way round.
    let refused = |words| Asks(words, false);
    let does = does.into_iter().map(|one| match one {
        Asks("connect new.test:443", _) => refused("connect new.test:443"),
        other => other,
    });
    let recorded = Recorded::of(&source(everything).join(guard), &does.collect::<Vec<_>>());
    assert_eq!(
        changes(&recorded.replay(&loaded(&format!("{START}{everything}")))),
        (2, 0)
    );
    let report = again::verify(&recorded.log(), &mut Kept(guarded), &Selection::default()).unwrap();
    assert_eq!((report.same, report.different), (8, 0), "{report:?}");
}

#[test]
fn bytes_are_known_once_what_was_open_has_ended() {
    let rule = |bytes: u64| {
        source(&format!(
            "permit (principal, action == Action::\"connect\", resource)
             when {{ context.session.bytes_sent < {bytes} }};"
        ))
    };
    let does = || {
        vec![
            Asks("connect a.test:443", true),
            Ends(60),
            Asks("connect a.test:443", true),
        ]
    };
    // The second is open, and nobody knows how much of it had moved when the third was asked.
    let mut open = does();
    open.extend([Asks("connect a.test:443", true), Ends(30), Over]);
    let recorded = Recorded::of(&rule(1000), &open);
    let of = |bytes| recorded.replay(&Snapshot::load(&rule(bytes)).unwrap());
    // However much it was: in all there were 90.
    assert_eq!((left_out(&of(91)), changes(&of(91))), (vec![], (0, 0)));
    assert_eq!(left_out(&of(80)), [("how many had moved", 1)]);
    assert_eq!((left_out(&of(60)), changes(&of(60))), (vec![], (0, 2)));
    // While its session goes on, nothing is known of how it ends.
    let mut going = does();
    going.push(Asks("connect a.test:443", true));
    let recorded = Recorded::of(&rule(1000), &going);
    let report = recorded.replay(&Snapshot::load(&rule(91)).unwrap());
    assert_eq!(left_out(&report), [("how many had moved", 1)]);
}

/// What the log does not tell is named as such: no error, and no change.
#[test]
fn what_cannot_be_told_is_named() {
    let long: &'static str =
        Box::leak(format!("read /{} in ro", "x".repeat(4_000)).into_boxed_str());
    let rules = format!(
        "{}permit (principal, action == Action::\"read\", resource);",
        at_most(9)
    );
    let does = [
        Asks("connect a.test:443", true),
        Asks(long, true),
        Asks("connect a.test:443", true),
        Asks("read /y in ro", true),
    ];
    let recorded = Recorded::of(&source(&rules), &does);
    let report = recorded.replay(&Snapshot::load(&source(&rules)).unwrap());
    // The reading that no rule about counts is asked of is as it was.
    assert_eq!(
        (report.replayed, report.same, changes(&report)),
        (3, 3, (0, 0)),
        "{report:?}"
    );
    assert_eq!(
        left_out(&report),
        [("does not tell all", 1), ("too long", 1)]
    );
}
