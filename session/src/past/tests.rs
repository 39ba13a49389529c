use std::time::SystemTime;

use cordon_policy::{
    Backend, Decision, Request, SessionFacts, Snapshot, ask,
    source::{PolicyFile, PolicySource},
};

use super::*;

fn operation(words: &str) -> Operation {
    ask::parse(words).unwrap()
}

fn count(ledger: &Ledger, words: &str, labels: &[&str]) -> Vec<String> {
    let operation = operation(words);
    let labels = labels.iter().map(|label| Arc::from(*label)).collect();
    let fresh = ledger.turn(&operation).count(&operation, labels);
    fresh.iter().map(ToString::to_string).collect()
}

fn before(ledger: &Ledger, words: &str) -> Past {
    match ledger.before(&operation(words), Review::New) {
        History::Known(past) => *past,
        History::Unknown => panic!("unknown"),
    }
}

#[test]
fn everything_is_counted_as_what_it_is() {
    let ledger = Ledger::default();
    for words in [
        "connect a.test:443",
        "connect a.test:443",
        "connect a.test:80",
        "GET https://a.test/",
        "DELETE https://b.test/x",
        "open https://c.test",
        "click in https://c.test",
        "delete /srv/x in rwd",
        "read /srv/x in ro",
        "call send of mail",
        "use scope send of mail",
    ] {
        assert_eq!(count(&ledger, words, &[]), [""; 0], "{words}");
    }
    ledger
        .bytes(operation("connect a.test:443").destination())
        .sent(5);
    ledger
        .bytes(operation("connect z.test:1").destination())
        .received(7);
    assert_eq!(
        ledger.session().unwrap(),
        SessionPast {
            requests: 6,
            destinations: 4,
            bytes_sent: 5,
            bytes_received: 7,
            deletes: 2,
            tool_calls: 1,
            ..SessionPast::default()
        }
    );
    let seen = before(&ledger, "connect a.test:443").destination;
    let expected = DestinationPast {
        seen: true,
        requests: 3,
        bytes_sent: 5,
        bytes_received: 0,
    };
    assert_eq!(seen, expected);
    let new = before(&ledger, "connect d.test:443").destination;
    assert_eq!(new, DestinationPast::default());
}

#[test]
fn what_is_counted_is_looked_at_again_as_though_it_were_not() {
    let ledger = Ledger::default();
    count(&ledger, "connect a.test:443", &[]);
    count(&ledger, "connect b.test:443", &[]);
    let again = |words: &str| match ledger.before(&operation(words), Review::Done) {
        History::Known(past) => *past,
        History::Unknown => panic!("unknown"),
    };
    let past = again("connect b.test:443");
    assert_eq!((past.session.requests, past.session.destinations), (1, 1));
    assert_eq!(
        (past.destination.requests, past.destination.seen),
        (0, true)
    );
    count(&ledger, "connect b.test:443", &[]);
    let past = again("connect b.test:443");
    assert_eq!((past.session.requests, past.session.destinations), (2, 2));
}

#[test]
fn a_label_is_fresh_until_the_log_has_it() {
    let ledger = Ledger::default();
    assert_eq!(
        count(&ledger, "read /a in ro", &["x", "x", "y"]),
        ["x", "y"]
    );
    // It holds at once, and who comes before it is recorded records it too.
    assert_eq!(before(&ledger, "read /a in ro").session.labels.len(), 2);
    assert_eq!(count(&ledger, "read /a in ro", &["x"]), ["x"]);
    ledger.recorded("x");
    assert_eq!(count(&ledger, "read /a in ro", &["x", "y"]), ["y"]);
}

#[test]
fn beyond_its_bounds_it_counts_too_much_and_never_too_little() {
    let ledger = Ledger::default();
    for n in 0..=MAX_DESTINATIONS {
        count(&ledger, &format!("connect h{n}.test:443"), &[]);
    }
    let all = u64::try_from(MAX_DESTINATIONS).unwrap() + 1;
    let past = before(&ledger, &format!("connect h{MAX_DESTINATIONS}.test:443"));
    assert_eq!(past.session.destinations, all);
    let DestinationPast {
        seen,
        requests,
        bytes_sent,
        bytes_received,
    } = past.destination;
    assert_eq!((seen, requests), (false, MAX_LENGTH));
    assert_eq!((bytes_sent, bytes_received), (MAX_LENGTH, MAX_LENGTH));
    assert!(before(&ledger, "connect h1.test:443").destination.seen);

    for n in 0..MAX_LABELS {
        count(&ledger, "read /a in ro", &[&format!("l{n}")]);
    }
    assert!(ledger.session().is_some());
    count(&ledger, "read /a in ro", &["one-more"]);
    assert_eq!(ledger.session(), None);
    let asked = operation("connect a.test:443");
    assert_eq!(ledger.before(&asked, Review::New), History::Unknown);
}

#[test]
fn a_holder_that_panicked_leaves_nothing_known() {
    let ledger = Ledger::default();
    let asked = operation("connect a.test:443");
    let broke = std::thread::scope(|scope| {
        let broken = scope.spawn(|| {
            let _turn = ledger.turn(&asked);
            panic!("in the middle of a decision");
        });
        broken.join().is_err()
    });
    assert!(broke);
    assert_eq!(ledger.before(&asked, Review::New), History::Unknown);
}

#[test]
fn requests_at_once_do_not_pass_a_budget() {
    let rule = "permit (principal, action == Action::\"connect\", resource)
                when { context.session.requests < 10 };";
    let files = vec![PolicyFile::new("test.cedar", rule)];
    let snapshot = Snapshot::load(&PolicySource::new("test", files)).unwrap();
    let ledger = Ledger::default();
    let session = Arc::new(SessionFacts {
        id: "s".into(),
        user: "alice".into(),
        groups: Vec::new(),
        agent: None,
        platform: "linux".into(),
        backend: Backend::Bubblewrap,
    });
    let ask = || {
        let operation = operation("connect a.test:443");
        let turn = ledger.turn(&operation);
        let request = Request {
            session: Arc::clone(&session),
            operation: operation.clone(),
            at: SystemTime::UNIX_EPOCH,
        };
        let decision = snapshot.decide_after(turn.before(), request, None);
        let allowed = matches!(decision, Decision::Allow(_));
        if allowed {
            turn.count(&operation, Vec::new());
        }
        allowed
    };
    let allowed: usize = std::thread::scope(|scope| {
        let each = (0..8).map(|_| scope.spawn(|| (0..20).filter(|_| ask()).count()));
        let each: Vec<_> = each.collect();
        each.into_iter().map(|one| one.join().unwrap()).sum()
    });
    assert_eq!(allowed, 10);
}

/// Records of one session, made by a real gate.
mod recalled {
    use cordon_audit::{Log, LogOptions, Record};

    use super::*;
    use crate::{Durability, Gate, GateError};

    const RULES: &str = "permit (principal, action, resource);
        @label(\"seen-c\") permit (principal, action == Action::\"connect\", resource == Host::\"c.test\");";
    const DATA: &str = "[labels.confidential]\nfolders = [\"/srv/c\"]\n";

    fn gate(log: &Log) -> Gate {
        let files = vec![
            PolicyFile::new("test.cedar", RULES),
            PolicyFile::new("labels.toml", DATA),
        ];
        let snapshot = Snapshot::load(&PolicySource::new("test", files)).unwrap();
        let session = Arc::new(SessionFacts {
            id: "0190a5c2-0000-7000-8000-000000000001".into(),
            user: "alice".into(),
            groups: Vec::new(),
            agent: None,
            platform: "linux".into(),
            backend: Backend::Bubblewrap,
        });
        Gate::new(session, Arc::new(snapshot), log.clone())
    }

    async fn admit(gate: &Gate, words: &str) {
        let operation = operation(words);
        let admitted = gate.admit(operation, Durability::Synced).await;
        let _permit = admitted
            .map_err(|error: GateError| format!("{words}: {error:?}"))
            .unwrap();
    }

    #[tokio::test]
    async fn what_a_session_did_is_read_back_from_its_records() {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::open(&directory.path().join("log"), LogOptions::default()).unwrap();
        let first = gate(&log);
        for words in [
            "start x",
            "grant ro /srv/c",
            "connect a.test:443",
            "connect c.test:443",
            "call send of mail",
        ] {
            admit(&first, words).await;
        }
        let records = log.session(&first.session().id).unwrap();
        let labels: Vec<_> = records
            .iter()
            .filter(|record| record.state.as_deref() == Some("labels"))
            .filter_map(|record| record.message.clone())
            .collect();
        assert_eq!(labels, ["confidential", "seen-c"]);
        // The label stands before the record of what gave it.
        let place = |action: &str| {
            let is = |record: &Record| record.action.as_deref() == Some(action);
            records.iter().position(is).unwrap()
        };
        assert!(records[place("folder.grant") - 1].state.is_some());

        let second = gate(&log);
        second.recall(&records);
        let told = second.past().session().unwrap();
        assert_eq!(told, first.past().session().unwrap());
        assert_eq!(
            (told.requests, told.destinations, told.tool_calls),
            (2, 2, 1)
        );

        // With a browser, a connection that was open then may have carried anything; before, what was
        // only asked about carried nothing.
        assert_eq!((told.bytes_sent, told.bytes_received), (0, 0));
        admit(&first, "enable browser").await;
        let records = log.session(&first.session().id).unwrap();
        let open = gate(&log);
        open.recall(&records);
        let told = open.past().session().unwrap();
        assert_eq!((told.bytes_sent, told.requests), (MAX_LENGTH, 2));

        // Without its beginning, or with a record that does not tell what it was, nothing is known.
        let third = gate(&log);
        third.recall(records.get(2..).unwrap());
        assert_eq!(third.past().session(), None);
        let fourth = gate(&log);
        let mut cut = records.clone();
        for record in &mut cut {
            if record.action.as_deref() == Some("tool.call") {
                record.tool = None;
            }
        }
        fourth.recall(&cut);
        assert_eq!(fourth.past().session(), None);
    }
}
