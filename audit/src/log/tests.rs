//! The log as its callers see it: order, reading, many at once.

mod faults;
mod opening;

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::atomic::AtomicU64,
    thread,
};

use cordon_policy::{
    Asked, Backend, Basis, Decided, Deny, DenyReason, RawRequest, RuleRef, SessionFacts,
};

use faults::faulty;

use super::testing::{killed, verify};
use super::*;
use crate::{FlowEnd, Kind, SessionEnd, SessionOrigin};

fn session(id: &str) -> Arc<SessionFacts> {
    Arc::new(SessionFacts {
        id: id.into(),
        user: "ann".into(),
        groups: vec!["staff".into()],
        agent: Some("claude".into()),
        platform: "linux".into(),
        backend: Backend::Bubblewrap,
    })
}

fn refusal(id: &str, text: &str) -> Decision {
    Decided::<Deny>::deny(
        Asked::Raw(RawRequest {
            session: session(id),
            door: "http",
            text: text.into(),
            at: std::time::SystemTime::now(),
            problem: "not a host name: send one".into(),
        }),
        DenyReason::Malformed,
        Basis {
            rules: vec![RuleRef {
                id: "no-junk".into(),
                reason: Some("junk is refused".into()),
                layer: cordon_policy::Layer::User,
            }],
            ..Basis::default()
        },
    )
    .into()
}

fn quick() -> LogOptions {
    LogOptions {
        index_cache_bytes: 1 << 20,
        ..LogOptions::default()
    }
}

fn small_segments() -> LogOptions {
    LogOptions {
        segment_records: 16,
        checkpoint_records: 5,
        ..quick()
    }
}

async fn deny(log: &Log, id: &str, text: &str) -> Result<RecordId, RecordError> {
    match log.record(refusal(id, text)).await? {
        Recorded::Deny(denied) => Ok(denied.id()),
        Recorded::Allow(_) => panic!("a refusal was permitted"),
    }
}

fn all(directory: &Path) -> Vec<Record> {
    let records = Reader::open(directory).unwrap().records(0);
    records.map(Result::unwrap).collect()
}

#[tokio::test]
async fn records_come_back_in_order_and_the_log_verifies() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path(), quick()).unwrap();
    log.event(Event::ServiceStarted).await.unwrap();
    let one = deny(&log, "one", "a\nb").await.unwrap();
    log.event_later(Event::FlowClosed {
        session: session("two"),
        decision: one,
        peer: Some("127.0.0.1:443".parse().unwrap()),
        bytes_out: u64::MAX,
        bytes_in: 7,
        duration: Duration::from_millis(3),
        status: Some(200),
        tls: None,
        end: FlowEnd::Completed,
    });
    log.event(Event::SessionEnded {
        session: session("one"),
        end: SessionEnd::Exited,
        exit_code: Some(130),
        totals: None,
    })
    .await
    .unwrap();
    log.close();

    let records = all(directory.path());
    let kinds: Vec<Kind> = records.iter().map(|record| record.kind).collect();
    assert_eq!(
        kinds,
        [
            Kind::Start,
            Kind::Decision,
            Kind::FlowClose,
            Kind::SessionEnd
        ]
    );
    assert_eq!(records[1].id, one);
    assert_eq!(
        records[1].rules.as_deref(),
        Some(["no-junk".to_owned()].as_slice())
    );
    assert_eq!(records[1].message.as_deref(), Some("junk is refused"));
    assert_eq!(records[2].bytes_out, Some((1 << 53) - 1));
    assert!(
        records
            .iter()
            .zip(0..)
            .all(|(record, seq)| record.seq == seq)
    );
    let report = verify(directory.path()).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.checkpoint_size, Some(4));
}

#[tokio::test]
async fn a_session_is_read_by_the_index_across_segments_and_restarts() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let log = Log::open(directory.path(), small_segments()).unwrap();
        for n in 0..25 {
            deny(&log, "mine", &format!("{round}.{n}")).await.unwrap();
            drop(log.record_written(refusal("other", "x")).await.unwrap());
        }
        let mine = log.session("mine").unwrap();
        let texts: Vec<_> = mine.iter().map(|r| r.raw.clone().unwrap().text).collect();
        let expected: Vec<_> = (0..=round)
            .flat_map(|r| (0..25).map(move |n| format!("{r}.{n}")))
            .collect();
        assert_eq!(texts, expected);
        assert_eq!(log.session("none").unwrap(), []);
        assert_eq!(log.session("min").unwrap(), []);
    }
    let report = verify(directory.path()).unwrap();
    assert!(report.is_clean() && report.records == 150, "{report:?}");
}

#[tokio::test]
async fn an_index_that_is_missing_or_damaged_is_made_again() {
    let mut directory = tempfile::tempdir().unwrap();
    let index = "index-00000000000000000000";
    let damages: [fn(&Path); 4] = [
        |_| {},
        |index| fs::remove_dir_all(index).unwrap(),
        |index| fs::write(index.join("db"), vec![0x5a; 200_000]).unwrap(),
        |index| {
            File::options()
                .write(true)
                .open(index.join("db"))
                .unwrap()
                .set_len(10)
                .unwrap()
        },
    ];
    for (round, damage) in damages.into_iter().enumerate() {
        let log = Log::open(directory.path(), quick()).unwrap();
        for _ in 0..20 {
            deny(&log, "mine", "x").await.unwrap();
        }
        assert_eq!(
            log.session("mine").unwrap().len(),
            20 * (round + 1),
            "{round}"
        );
        assert!(
            log.inner.shared.index().is_some(),
            "{round}: not served by the index"
        );
        let left = killed(directory.path());
        log.close();
        damage(&left.path().join(index));
        directory = left;
    }
    let log = Log::open(directory.path(), quick()).unwrap();
    assert_eq!(log.session("mine").unwrap().len(), 80);
}

#[tokio::test]
async fn a_journal_is_sealed_when_it_is_old_enough_and_the_numbers_say_how_far_all_is() {
    let directory = tempfile::tempdir().unwrap();
    let options = LogOptions {
        seal_after: Duration::from_millis(1),
        ..quick()
    };
    let log = Log::open(directory.path(), options).unwrap();
    assert_eq!(log.stats().written, 0);
    for n in 0..3 {
        deny(&log, "s", &n.to_string()).await.unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    while log.stats().sealed < 3 {
        assert!(Instant::now() < deadline, "{:?}", log.stats());
        tokio::task::yield_now().await;
    }
    let stats = log.stats();
    assert_eq!((stats.written, stats.durable, stats.covered), (3, 3, 3));
    assert_eq!((stats.queued, stats.lost), (0, 0));
    assert_eq!(log.behind(), Duration::ZERO);
    assert!(stats.free_bytes > Some(0));
    deny(&log, "s", "after").await.unwrap();
    log.close();
    let young = tempfile::tempdir().unwrap();
    let log = Log::open(young.path(), quick()).unwrap();
    deny(&log, "s", "young").await.unwrap();
    assert_eq!(log.stats().sealed, 0);
    drop(log);
    for log in [directory.path(), young.path()] {
        assert!(verify(log).unwrap().is_clean());
        assert_eq!(
            Log::open(log, quick()).unwrap().stats().sealed,
            all(log).len() as u64
        );
    }
}

#[tokio::test]
async fn a07_a_flood_is_counted_not_dropped_silently() {
    let directory = tempfile::tempdir().unwrap();
    let options = LogOptions {
        queue_records: 8,
        ..quick()
    };
    let (log, _faults) = faulty(directory.path(), options);
    for _ in 0..5_000 {
        log.event_later(Event::SessionStarted {
            session: session("flood"),
            origin: SessionOrigin::default(),
        });
    }
    let id = deny(&log, "one", "hidden").await.unwrap();
    log.close();
    let records = all(directory.path());
    assert!(
        records.iter().any(|record| record.id == id),
        "the one record is there"
    );
    let there = records
        .iter()
        .filter(|r| r.kind == Kind::SessionStart)
        .count() as u64;
    let lost: u64 = records.iter().filter_map(|record| record.lost).sum();
    assert_eq!(there + lost, 5_000);
    assert!(lost > 0, "the flood was no flood");
}

/// Whoever brings a record while another has the pen leaves it to that one, whatever the pen was
/// taken for: the syncer takes it to fetch what was written.
#[test]
fn a07_what_is_queued_while_the_syncer_has_the_pen_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path(), quick()).unwrap();
    for _round in 0..20 {
        let pen = log.inner.queue.desk().hold();
        let (done, answer) = std::sync::mpsc::channel();
        let bringing = log.clone();
        let bringer = thread::spawn(move || {
            let brought = bringing.event_blocking(Event::ServiceStarted);
            done.send(brought.is_ok()).unwrap();
        });
        while log.inner.queue.lengths().0 == 0 {
            thread::yield_now();
        }
        // It waits for the pen, and is the next to have it.
        log.inner.shared.urgent.ring(Ring::Now);
        assert!(answer.recv_timeout(Duration::from_millis(20)).is_err());
        drop(pen);
        assert_eq!(answer.recv_timeout(Duration::from_secs(20)), Ok(true));
        bringer.join().unwrap();
    }
    log.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a07_many_at_once_get_gap_free_places_and_their_own_ids() {
    let directory = tempfile::tempdir().unwrap();
    let options = LogOptions {
        queue_records: 16,
        segment_records: 100,
        ..quick()
    };
    let log = Log::open(directory.path(), options).unwrap();
    let tasks: Vec<_> = (0..32)
        .map(|task| {
            let log = log.clone();
            tokio::spawn(async move {
                let mut made = Vec::new();
                for n in 0..40 {
                    let text = format!("{task}.{n}");
                    let decision = refusal(&format!("session-{task}"), &text);
                    let recorded = match n % 3 {
                        0 => log.record(decision).await,
                        _ => log.record_written(decision).await,
                    };
                    let Ok(Recorded::Deny(denied)) = recorded else {
                        panic!("not recorded");
                    };
                    made.push((denied.id(), text));
                }
                made
            })
        })
        .collect();
    let mut made = std::collections::HashMap::new();
    for task in tasks {
        made.extend(task.await.unwrap());
    }
    log.close();
    let records = all(directory.path());
    assert_eq!(records.len(), 32 * 40);
    for (seq, record) in (0..).zip(&records) {
        assert_eq!(record.seq, seq);
        assert_eq!(made[&record.id], record.raw.as_ref().unwrap().text);
    }
    assert!(
        records.is_sorted_by_key(|record| record.id),
        "ids are in the order of places"
    );
    assert!(verify(directory.path()).unwrap().is_clean());
}

fn wait_for(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{what} takes for ever"
        );
        thread::yield_now();
    }
}

#[tokio::test]
async fn a_follower_sees_what_is_written_across_segments() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path(), small_segments()).unwrap();
    deny(&log, "s", "before").await.unwrap();
    let mut follow = Reader::open(directory.path())
        .unwrap()
        .follow(None)
        .unwrap();
    assert!(follow.next_within(Duration::ZERO).unwrap().is_none());
    let follower = std::thread::spawn(move || {
        let mut seen = Vec::new();
        while seen.len() < 60 {
            let record = follow
                .next_within(Duration::from_secs(10))
                .unwrap()
                .unwrap();
            seen.push(record.raw.unwrap().text);
        }
        seen
    });
    for n in 0..60 {
        deny(&log, "s", &n.to_string()).await.unwrap();
    }
    let expected: Vec<String> = (0..60).map(|n| n.to_string()).collect();
    assert_eq!(follower.join().unwrap(), expected);
    let last = Reader::open(directory.path()).unwrap().last(3).unwrap();
    assert_eq!(
        last.iter().map(|record| record.seq).collect::<Vec<_>>(),
        [58, 59, 60]
    );
}
