//! What is done to a log: recorded, done, and survived by proofs.

use std::{fs, sync::Arc, time::Duration};

use cordon_policy::{Backend, SessionFacts};

use super::*;
use crate::{
    Revealed, Sensitive, SessionOrigin,
    log::testing::{killed, verify},
    segment::Segment,
};

fn options() -> LogOptions {
    LogOptions {
        segment_records: 256,
        index_cache_bytes: 1 << 20,
        ..LogOptions::default()
    }
}

fn session(id: &str) -> Event {
    Event::SessionStarted {
        origin: SessionOrigin::default(),
        session: Arc::new(SessionFacts {
            id: id.into(),
            user: "ann".into(),
            groups: Vec::new(),
            agent: None,
            platform: "linux".into(),
            backend: Backend::None,
        }),
    }
}

/// A closed log of 300 records of session `old` and 300 of session `new`.
fn log_of_600(directory: &Path) {
    let log = Log::open(directory, options()).unwrap();
    for n in 0..600 {
        log.event_later(session(if n < 300 { "old" } else { "new" }));
    }
    log.close();
    assert_eq!(Segment::list(directory).unwrap(), [0, 256, 512]);
}

fn order(task: Task) -> Order {
    Order {
        task,
        by: Some("ann".into()),
        because: "of the test".into(),
    }
}

/// Everything is a day old at least, by an age of nothing at all.
const NOW: Retention = Retention {
    administration_days: Some(0),
    decisions_days: Some(0),
    flows_days: Some(0),
};

fn prune(log: &Log, retention: Retention, dry_run: bool) -> Pruning {
    let task = Task::Prune { retention, dry_run };
    match log.administer(order(task)).unwrap() {
        Done::Pruned(pruning) => pruning,
        other => panic!("{other:?}"),
    }
}

#[test]
fn pruned_segments_are_gone_and_the_rest_stays_provable() {
    let directory = tempfile::tempdir().unwrap();
    log_of_600(directory.path());
    let log = Log::open(directory.path(), options()).unwrap();
    assert_eq!(
        prune(&log, Retention::days(1), false).segments,
        0,
        "too young"
    );
    assert_eq!(
        prune(&log, Retention::default(), false).segments,
        0,
        "for ever"
    );
    let plan = prune(&log, NOW, true);
    assert_eq!((plan.from, plan.minimum, plan.segments), (0, 512, 2));
    assert!(
        directory.path().join("tile/entries/000").exists(),
        "a dry run"
    );
    assert_eq!(prune(&log, NOW, false), plan);
    log.close();
    for gone in [
        "tile/entries/000",
        "tile/entries/001",
        "tile/0/000",
        "segments/0.json",
    ] {
        assert!(!directory.path().join(gone).exists(), "{gone}");
    }
    let reader = Reader::open(directory.path()).unwrap();
    assert_eq!(reader.minimum().unwrap(), 512);
    let records: Vec<_> = reader.records(0).map(Result::unwrap).collect();
    assert_eq!(records.first().unwrap().seq, 512);
    let last = records.last().unwrap();
    assert_eq!(last.kind, Kind::RetentionPrune);
    assert_eq!(last.upkeep.as_ref().unwrap().minimum, Some(512));
    assert_eq!(last.principal.as_ref().unwrap().id, "ann");
    let report = crate::verify::verify(directory.path()).unwrap();
    assert!(report.is_clean(), "{report:?}");
    drop(Log::open(directory.path(), options()).unwrap());
}

#[test]
fn a_pruning_that_was_stopped_is_completed_at_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    log_of_600(directory.path());
    fs::write(directory.path().join("pruned.json"), "{\"minimum\":512}\n").unwrap();
    let log = Log::open(directory.path(), options()).unwrap();
    log.close();
    assert_eq!(Segment::list(directory.path()).unwrap(), [512]);
    assert!(!directory.path().join("tile/entries/001").exists());
}

#[test]
fn a_hold_keeps_its_records_and_all_after_them_until_it_is_released() {
    let day = 86_400_000_000;
    let holds = [
        Scope {
            session: Some("old".into()),
            ..Scope::default()
        },
        Scope {
            user: Some("ann".into()),
            ..Scope::default()
        },
        Scope {
            from_us: Some(day),
            to_us: Some(u64::MAX >> 12),
            ..Scope::default()
        },
    ];
    for scope in holds {
        let directory = tempfile::tempdir().unwrap();
        log_of_600(directory.path());
        let log = Log::open(directory.path(), options()).unwrap();
        let other = Scope {
            session: Some("other".into()),
            ..scope.clone()
        };
        log.administer(order(Task::Hold(other))).unwrap();
        let Done::Held(hold) = log.administer(order(Task::Hold(scope.clone()))).unwrap() else {
            panic!("not held");
        };
        let kept = prune(&log, NOW, false);
        assert_eq!(
            (kept.segments, kept.held_by),
            (0, Some(hold.id)),
            "{scope:?}"
        );
        log.administer(order(Task::Release { hold: hold.id }))
            .unwrap();
        assert!(
            log.administer(order(Task::Release { hold: hold.id }))
                .is_err()
        );
        assert_eq!(prune(&log, NOW, false).segments, 2, "{scope:?}");
        assert_eq!(log.holds().unwrap().len(), 1);
        log.close();
        let records = Reader::open(directory.path()).unwrap().last(4).unwrap();
        let kinds: Vec<Kind> = records.iter().map(|record| record.kind).collect();
        assert_eq!(
            kinds,
            [
                Kind::RetentionHold,
                Kind::RetentionHold,
                Kind::RetentionRelease,
                Kind::RetentionPrune
            ]
        );
    }
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path(), options()).unwrap();
    assert!(log.administer(order(Task::Hold(Scope::default()))).is_err());
}

#[test]
fn a08_a_sensitive_value_is_committed_to_revealed_and_redacted() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path(), options()).unwrap();
    let secret = |value: &str| {
        vec![Sensitive {
            pointer: "/command".into(),
            value: value.into(),
        }]
    };
    log.event_later_with(&session("one"), secret("curl -u ann:hunter2"));
    log.event_later_with(&session("two"), secret("curl -u ann:hunter2"));
    log.event_blocking(session("three")).unwrap();
    let reader = Reader::open(directory.path()).unwrap();
    let records = reader.last(3).unwrap();
    let value = Revealed::Value(b"curl -u ann:hunter2".to_vec());
    assert_eq!(reader.reveal(&records[0], "/command").unwrap(), value);
    assert_eq!(records[0].sd[0].len, 19);
    assert_ne!(records[0].sd[0].h, records[1].sd[0].h, "salted");
    assert!(reader.reveal(&records[2], "/command").is_err(), "none");

    let redact = |record: &crate::Record, pointer: &str| {
        log.administer(order(Task::Redact {
            record: record.id,
            pointer: pointer.into(),
        }))
    };
    assert!(redact(&records[2], "/command").is_err());
    assert!(redact(&records[0], "/other").is_err());
    assert_eq!(
        redact(&records[0], "/command").unwrap(),
        Done::Redacted { values: 1 }
    );
    assert_eq!(
        redact(&records[0], "/command").unwrap(),
        Done::Redacted { values: 0 }
    );
    assert_eq!(
        reader.reveal(&records[0], "/command").unwrap(),
        Revealed::Gone
    );
    assert_eq!(
        reader.reveal(&records[1], "/command").unwrap(),
        value,
        "another's stays"
    );
    log.close();
    let found = crate::log::testing::files(directory.path())
        .into_iter()
        .filter(|file| {
            fs::read(file)
                .unwrap()
                .windows(7)
                .any(|part| part == b"hunter2")
        })
        .count();
    assert_eq!(found, 1, "nowhere but in the side store, and there once");
    let report = verify(directory.path()).unwrap();
    assert!(report.is_clean(), "{report:?}");
    // Sealed by now.
    let reader = Reader::open(directory.path()).unwrap();
    let record = reader.by_id(records[1].id).unwrap().unwrap();
    assert_eq!(record, records[1]);
    assert_eq!(reader.reveal(&record, "/command").unwrap(), value);
}

#[test]
fn a08_a_known_secret_is_not_in_the_side_store_either() {
    for (known, stands) in [
        (Vec::new(), true),
        (vec!["hunter2-hunter2".to_owned()], false),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let options = LogOptions {
            secrets: known.into_iter().map(crate::Secret::from).collect(),
            ..options()
        };
        let log = Log::open(directory.path(), options).unwrap();
        let secret = Sensitive {
            pointer: "/command".into(),
            value: b"curl -u ann:hunter2-hunter2 \xff".to_vec(),
        };
        log.event_later_with(&session("one"), vec![secret]);
        log.close();
        let holds = |file: &PathBuf| {
            let bytes = fs::read(file).unwrap();
            bytes.windows(7).any(|part| part == b"hunter2")
        };
        let files = crate::log::testing::files(directory.path());
        assert_eq!(files.iter().any(holds), stands);
        let reader = Reader::open(directory.path()).unwrap();
        let record = reader.record(0).unwrap().unwrap();
        let Revealed::Value(value) = reader.reveal(&record, "/command").unwrap() else {
            panic!("gone");
        };
        assert_eq!(value.starts_with(b"curl -u ann:[secret] "), !stands);
    }
}

#[test]
fn a08_a_redaction_that_failed_is_done_before_its_journal_is_sealed() {
    for mended in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::open(directory.path(), options()).unwrap();
        let secret = Sensitive {
            pointer: "/command".into(),
            value: b"curl -u ann:hunter2".to_vec(),
        };
        log.event_later_with(&session("one"), vec![secret]);
        log.event_blocking(session("two")).unwrap();
        let record = Reader::open(directory.path()).unwrap().last(2).unwrap()[0].clone();
        // A directory in place of the file: it can be neither written nor read.
        let values = directory
            .path()
            .join("side/values-00000000000000000000.log");
        let aside = directory.path().join("side/aside");
        fs::rename(&values, &aside).unwrap();
        fs::create_dir(&values).unwrap();
        let mend = || {
            fs::remove_dir(&values).unwrap();
            fs::rename(&aside, &values).unwrap();
        };
        let task = Task::Redact {
            record: record.id,
            pointer: "/command".into(),
        };
        let refused = log.administer(order(task)).unwrap_err();
        assert!(refused.message.contains("recorded"), "{}", refused.message);
        if mended {
            mend();
        }
        log.close();
        let journal = crate::files::path_of(directory.path(), "journal", 0, ".log");
        assert_eq!(journal.exists(), !mended, "sealed only once it is done");
        if !mended {
            mend();
            drop(Log::open(directory.path(), options()).unwrap());
        }
        let reader = Reader::open(directory.path()).unwrap();
        assert_eq!(reader.reveal(&record, "/command").unwrap(), Revealed::Gone);
        assert!(
            !fs::read(&values)
                .unwrap()
                .windows(7)
                .any(|part| part == b"hunter2")
        );
    }
}

#[test]
fn a02_a_value_of_a_record_that_was_never_written_is_nobodys() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path(), options()).unwrap();
    log.event_blocking(session("one")).unwrap();
    let left = killed(directory.path());
    let secret = |value: &str| Sensitive {
        pointer: "/command".into(),
        value: value.into(),
    };
    log.event_later_with(&session("two"), vec![secret("lost")]);
    log.close();
    // The value was durable, its record was not; and half a frame after it.
    let values = "side/values-00000000000000000000.log";
    fs::create_dir(left.path().join("side")).unwrap();
    let mut bytes = fs::read(directory.path().join(values)).unwrap();
    bytes.extend_from_slice(&[200, 0, 0, 0, 1, 2]);
    fs::write(left.path().join(values), bytes).unwrap();
    let log = Log::open(left.path(), options()).unwrap();
    log.event_later_with(&session("three"), vec![secret("mine")]);
    log.event_blocking(session("four")).unwrap();
    let reader = Reader::open(left.path()).unwrap();
    let record = reader.record(1).unwrap().unwrap();
    assert_eq!(
        reader.reveal(&record, "/command").unwrap(),
        Revealed::Value(b"mine".to_vec())
    );
}

#[test]
fn keys_change_daily_and_on_demand_and_the_chain_holds() {
    let directory = tempfile::tempdir().unwrap();
    let keys = || fs::read_dir(directory.path().join("keys")).unwrap().count();
    let wait = |count: usize| {
        let begun = std::time::Instant::now();
        while keys() < count || directory.path().join("log.key.next").exists() {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "the key does not change"
            );
            std::thread::yield_now();
        }
    };
    let log = Log::open(directory.path(), options()).unwrap();
    log.event_blocking(session("one")).unwrap();
    log.administer(order(Task::RotateKey)).unwrap();
    wait(2);
    log.event_blocking(session("two")).unwrap();
    log.close();
    // A key that is older than its lifetime is changed as soon as the log is open.
    let old = LogOptions {
        key_lifetime: Duration::ZERO,
        ..options()
    };
    let log = Log::open(directory.path(), old).unwrap();
    wait(3);
    log.close();
    drop(log);
    let log = Log::open(directory.path(), options()).unwrap();
    log.event_blocking(session("three")).unwrap();
    log.close();
    let records = Reader::open(directory.path()).unwrap().records(0);
    let changes: Vec<_> = records.filter_map(|record| record.unwrap().key).collect();
    assert!(changes.len() >= 2);
    for pair in changes.windows(2) {
        assert!(pair[0].new.contains(&pair[1].old), "{pair:?}");
    }
    let report = verify(directory.path()).unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn a05_a_new_origin_names_the_old_log_and_keeps_it() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("log");
    let log = Log::open(&directory, options()).unwrap();
    log.event_blocking(session("one")).unwrap();
    let old = log.origin().to_owned();
    let refused = new_origin(&directory, options(), None, "in use".into()).unwrap_err();
    assert_eq!(refused.kind, OpenErrorKind::Locked);
    log.close();
    fs::remove_file(directory.join("log.key")).unwrap();
    assert!(Log::open(&directory, options()).is_err());

    let made = new_origin(&directory, options(), Some("ann".into()), "key lost".into()).unwrap();
    assert_eq!(made.old_origin.as_deref(), Some(old.as_str()));
    assert_eq!(made.old_size, Some(1));
    assert!(
        made.moved_to.join("tile/entries/000.p/1").exists(),
        "kept as it was"
    );
    let first = Reader::open(&directory)
        .unwrap()
        .record(0)
        .unwrap()
        .unwrap();
    assert_eq!(first.kind, Kind::LogOrigin);
    let upkeep = first.upkeep.unwrap();
    assert_eq!(upkeep.origin, Some(old));
    assert_eq!(upkeep.size, Some(1));
    assert!(upkeep.root.is_some());
    let log = Log::open(&directory, options()).unwrap();
    assert_eq!(log.origin(), made.origin);
    log.close();
    assert!(verify(&directory).unwrap().is_clean());
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 2);
}

#[test]
fn a05_a_stopped_new_origin_deletes_no_log_and_is_refused_until_it_is_seen_to() {
    for stop in ["name", "exchange", "sync", "never"] {
        let parent = tempfile::tempdir().unwrap();
        let [directory, new, aside] =
            ["log", "log.new", "log.old-1"].map(|n| parent.path().join(n));
        let mut origins: Vec<String> = [&directory, &new]
            .map(|path| Log::open(path, options()).unwrap().origin().to_owned())
            .into();
        let stopped = swap(&directory, &new, &aside, &|step| match step == stop {
            true => Err(io::Error::other("killed")),
            false => Ok(()),
        });
        assert_eq!(stopped.is_err(), stop != "never");
        let mut left: Vec<String> = fs::read_dir(parent.path())
            .unwrap()
            .map(|log| {
                let log = Log::open(&log.unwrap().path(), options()).unwrap();
                log.origin().to_owned()
            })
            .collect();
        assert!(
            directory.exists(),
            "{stop}: there is always a log in its place"
        );
        origins.sort();
        left.sort();
        assert_eq!(left, origins, "{stop}: both logs are there and whole");

        let again = new_origin(&directory, options(), None, "again".into());
        assert_eq!(again.is_err(), new.exists(), "{stop}");
        if let Err(refused) = again {
            assert!(refused.message.contains("move it"), "{refused}");
            fs::rename(&new, parent.path().join("kept")).unwrap();
            new_origin(&directory, options(), None, "again".into()).unwrap();
        }
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 3, "{stop}");
    }
}

/// What is done about a session is nothing that it did, wherever its records lie.
#[test]
fn a_sessions_records_are_its_own_and_not_those_that_name_it() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path(), options()).unwrap();
    log.event_blocking(session("mine")).unwrap();
    let scope = Scope {
        session: Some("mine".into()),
        ..Scope::default()
    };
    let Done::Held(hold) = log.administer(order(Task::Hold(scope))).unwrap() else {
        panic!("not held");
    };
    log.administer(order(Task::Release { hold: hold.id }))
        .unwrap();
    log.event_blocking(Event::Upkeep {
        kind: Kind::OriginalsPurge,
        by: None,
        upkeep: Box::new(Upkeep {
            session: Some("mine".into()),
            ..Upkeep::default()
        }),
    })
    .unwrap();
    log.event_blocking(session("mine")).unwrap();
    let by_index = log.session("mine").unwrap();
    let reader = Reader::open(directory.path()).unwrap();
    let in_journal = reader.session("mine").unwrap();
    log.close();
    let sealed = reader.session("mine").unwrap();
    for (place, records) in [
        ("index", by_index),
        ("journal", in_journal),
        ("sealed", sealed),
    ] {
        let kinds: Vec<Kind> = records.iter().map(|record| record.kind).collect();
        assert_eq!(kinds, [Kind::SessionStart, Kind::SessionStart], "{place}");
    }
}

#[test]
fn a_hold_rests_on_its_record_alone_which_stays_as_long_as_it_is_in_force() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path(), options()).unwrap();
    let scope = Scope {
        session: Some("not yet there".into()),
        ..Scope::default()
    };
    let Done::Held(hold) = log.administer(order(Task::Hold(scope.clone()))).unwrap() else {
        panic!("not held");
    };
    let long = Scope {
        user: Some("x".repeat(257)),
        ..Scope::default()
    };
    assert!(log.administer(order(Task::Hold(long))).is_err());
    for _ in 0..600 {
        log.event_later(session("new"));
    }
    log.close();
    // Nothing but what a record, tiles and journals are made of says that there is a hold.
    let files = crate::log::testing::files(directory.path());
    assert!(files.iter().all(|file| !file.ends_with("holds.json")));
    let log = Log::open(directory.path(), options()).unwrap();
    assert_eq!(log.holds().unwrap(), std::slice::from_ref(&hold));
    let kept = prune(&log, NOW, false);
    assert_eq!((kept.segments, kept.held_by), (0, Some(hold.id)));
    log.administer(order(Task::Release { hold: hold.id }))
        .unwrap();
    assert_eq!(prune(&log, NOW, false).segments, 2);
    assert_eq!(log.holds().unwrap(), [], "the release outlives its hold");
}

#[test]
fn a08_a_redaction_that_was_stopped_is_completed_when_the_log_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path(), options()).unwrap();
    for value in ["first", "second"] {
        let secret = Sensitive {
            pointer: "/command".into(),
            value: value.into(),
        };
        log.event_later_with(&session(value), vec![secret]);
    }
    log.event_blocking(session("three")).unwrap();
    let records = Reader::open(directory.path()).unwrap().last(3).unwrap();
    // All that a kill right after the record leaves.
    log.event_blocking(Event::Upkeep {
        kind: Kind::Redaction,
        by: None,
        upkeep: Box::new(Upkeep {
            record: Some(records[0].id),
            pointer: Some("/command".into()),
            ..Upkeep::default()
        }),
    })
    .unwrap();
    let left = killed(directory.path());
    let reveal = |seq: usize| {
        let reader = Reader::open(left.path()).unwrap();
        reader.reveal(&records[seq], "/command").unwrap()
    };
    assert_eq!(reveal(0), Revealed::Value(b"first".to_vec()));
    Log::open(left.path(), options()).unwrap().close();
    assert_eq!(reveal(0), Revealed::Gone);
    assert_eq!(reveal(1), Revealed::Value(b"second".to_vec()), "another's");
    assert!(verify(left.path()).unwrap().is_clean());
}
