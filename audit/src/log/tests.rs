//! The log as its callers see it: durability, order, failures, recovery.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64},
    thread,
};

use cordon_policy::{
    Asked, Backend, Basis, Decided, Deny, DenyReason, RawRequest, RuleRef, SessionFacts,
};

use super::testing::{killed, verify};
use super::*;
use crate::{FlowEnd, Kind, SessionEnd, files::Disk, writer::Wrap};

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

/// A disk whose operations can be made to fail, and that keeps their order.
#[derive(Debug, Default)]
struct Faults {
    write: AtomicBool,
    write_half: AtomicBool,
    sync: AtomicBool,
    set_len: AtomicBool,
    syncs: AtomicU64,
    /// Which sync fails, counted from 1; none for 0.
    fail_sync: AtomicU64,
    tried_syncs: AtomicU64,
    /// End of what is written, and of what of it was there when the last sync began.
    written: AtomicU64,
    synced: AtomicU64,
}

#[derive(Debug)]
struct FaultyDisk(File, Arc<Faults>);

impl Disk for FaultyDisk {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.1.write.load(Ordering::SeqCst) {
            if self.1.write_half.load(Ordering::SeqCst) {
                Disk::write_all_at(&self.0, &bytes[..bytes.len() / 2], offset)?;
            }
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Disk::write_all_at(&self.0, bytes, offset)?;
        self.1
            .written
            .fetch_max(offset + bytes.len() as u64, Ordering::SeqCst);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let written = self.1.written.load(Ordering::SeqCst);
        let nth = self.1.tried_syncs.fetch_add(1, Ordering::SeqCst) + 1;
        if self.1.sync.load(Ordering::SeqCst) || nth == self.1.fail_sync.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk does not answer"));
        }
        Disk::sync_data(&self.0)?;
        self.1.syncs.fetch_add(1, Ordering::SeqCst);
        self.1.synced.fetch_max(written, Ordering::SeqCst);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if self.1.set_len.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk does not answer"));
        }
        Disk::set_len(&self.0, len)
    }
}

fn faulty(directory: &Path, options: LogOptions) -> (Log, Arc<Faults>) {
    let faults = Arc::new(Faults::default());
    let shared = Arc::clone(&faults);
    let wrap: Wrap = Arc::new(move |file| Arc::new(FaultyDisk(file, Arc::clone(&shared))));
    (Log::open_with(directory, options, wrap).unwrap(), faults)
}

#[tokio::test]
async fn a02_an_acknowledged_record_was_synced_before() {
    let directory = tempfile::tempdir().unwrap();
    let (log, faults) = faulty(directory.path(), quick());
    for n in 0..50 {
        deny(&log, "s", &n.to_string()).await.unwrap();
        let length = fs::metadata(directory.path().join("journal-00000000000000000000.log"));
        // Nothing else is being written: what is there now is what was acknowledged.
        assert_eq!(
            faults.synced.load(Ordering::SeqCst),
            length.unwrap().len(),
            "{n}"
        );
    }
}

#[tokio::test]
async fn a_written_record_is_in_the_file_when_acknowledged_and_synced_soon() {
    let directory = tempfile::tempdir().unwrap();
    let (log, faults) = faulty(directory.path(), quick());
    let recorded = log.record_written(refusal("s", "x")).await.unwrap();
    let Recorded::Deny(denied) = recorded else {
        panic!("a refusal was permitted");
    };
    assert_eq!(all(directory.path())[0].id, denied.id());
    let begun = Instant::now();
    while faults.syncs.load(Ordering::SeqCst) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(10), "never synced");
        tokio::task::yield_now().await;
    }
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
async fn a03_a_full_disk_refuses_until_there_is_space_again() {
    for half in [false, true] {
        for stuck in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let (log, faults) = faulty(directory.path(), quick());
            deny(&log, "s", "before").await.unwrap();
            faults.write_half.store(half, Ordering::SeqCst);
            faults.set_len.store(stuck, Ordering::SeqCst);
            faults.write.store(true, Ordering::SeqCst);
            for _ in 0..3 {
                let refused = deny(&log, "s", "meanwhile").await.unwrap_err();
                assert!(refused.message.contains("cannot be written"), "{refused}");
                assert!(log.record_written(refusal("s", "meanwhile")).await.is_err());
            }
            assert!(log.healthy().is_err());
            faults.write.store(false, Ordering::SeqCst);
            faults.set_len.store(false, Ordering::SeqCst);
            deny(&log, "s", "after").await.unwrap();
            assert!(log.healthy().is_ok());
            log.close();

            let records = all(directory.path());
            let kinds: Vec<Kind> = records.iter().map(|record| record.kind).collect();
            assert_eq!(kinds, [Kind::Decision, Kind::LogGap, Kind::Decision]);
            assert_eq!(records[1].lost, Some(6));
            assert!(verify(directory.path()).unwrap().is_clean());
        }
    }
}

#[tokio::test]
async fn a03_a_failed_sync_refuses_and_is_repaired_by_writing_again() {
    let directory = tempfile::tempdir().unwrap();
    let (log, faults) = faulty(directory.path(), quick());
    deny(&log, "s", "before").await.unwrap();
    faults.sync.store(true, Ordering::SeqCst);
    let refused = deny(&log, "s", "meanwhile").await.unwrap_err();
    assert!(refused.message.contains("cannot be"), "{refused}");
    assert!(deny(&log, "s", "still").await.is_err());
    assert!(log.healthy().is_err());
    faults.sync.store(false, Ordering::SeqCst);
    deny(&log, "s", "after").await.unwrap();
    assert!(log.healthy().is_ok());
    log.close();
    let records = all(directory.path());
    let lost: u64 = records.iter().filter_map(|record| record.lost).sum();
    assert_eq!(lost, 2, "{records:?}");
    let report = verify(directory.path()).unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[tokio::test]
async fn a03_the_log_heals_by_itself_and_says_what_was_lost() {
    for sync in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let (log, faults) = faulty(directory.path(), quick());
        let fault = if sync { &faults.sync } else { &faults.write };
        fault.store(true, Ordering::SeqCst);
        assert!(deny(&log, "s", "meanwhile").await.is_err());
        assert!(log.healthy().is_err());
        fault.store(false, Ordering::SeqCst);
        let begun = Instant::now();
        while log.healthy().is_err() {
            assert!(begun.elapsed() < Duration::from_secs(10), "never healed");
            tokio::task::yield_now().await;
        }
        log.close();
        let lost: u64 = all(directory.path()).iter().filter_map(|r| r.lost).sum();
        assert_eq!(lost, 1, "sync {sync}");
        assert!(verify(directory.path()).unwrap().is_clean());
    }
}

/// Groups that nobody waits for are still on their way to a sync when their journal is closed, and
/// when the log is: whichever sync fails then, what was written stays. One in the middle of each
/// journal is waited for, so that a journal is durable in part when it is closed.
#[tokio::test]
async fn a03_whichever_sync_fails_no_written_record_is_lost() {
    let mut failed = 0;
    for nth in 1..=12 {
        let directory = tempfile::tempdir().unwrap();
        let (log, faults) = faulty(directory.path(), small_segments());
        faults.fail_sync.store(nth, Ordering::SeqCst);
        let mut written = Vec::new();
        for n in 0..72 {
            let refused = refusal("s", &n.to_string());
            let made = match n % 16 {
                8 => log.record(refused).await,
                _ => log.record_written(refused).await,
            };
            match made {
                Ok(Recorded::Deny(denied)) => written.push(denied.id()),
                Ok(Recorded::Allow(_)) => panic!("a refusal was permitted"),
                Err(_refused) => {}
            }
        }
        log.close();
        failed += u64::from(faults.tried_syncs.load(Ordering::SeqCst) >= nth);
        let again = Log::open(directory.path(), small_segments());
        let again = again.unwrap_or_else(|error| panic!("sync {nth}: {error}"));
        let kept: Vec<_> = all(directory.path()).iter().map(|r| r.id).collect();
        let lost = written.iter().filter(|id| !kept.contains(id)).count();
        assert_eq!(lost, 0, "sync {nth}: of {} written", written.len());
        again.close();
        let report = verify(directory.path()).unwrap();
        assert!(report.is_clean(), "sync {nth}: {report:?}");
    }
    assert!(failed > 8, "only {failed} of the syncs were reached");
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
async fn a03_a_failed_sync_at_a_segments_end_keeps_the_order() {
    let directory = tempfile::tempdir().unwrap();
    let (log, faults) = faulty(directory.path(), small_segments());
    for n in 0..100 {
        faults.sync.store(n % 5 == 4, Ordering::SeqCst);
        let made = deny(&log, "s", &n.to_string()).await;
        assert_eq!(made.is_ok(), n % 5 != 4, "{n}: {made:?}");
    }
    faults.sync.store(false, Ordering::SeqCst);
    log.close();
    let report = verify(directory.path()).unwrap();
    assert!(report.is_clean(), "{report:?}");
    let lost: u64 = all(directory.path())
        .iter()
        .filter_map(|record| record.lost)
        .sum();
    assert_eq!(lost, 20);
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

#[tokio::test]
async fn one_process_at_a_time_and_private_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let log = Log::open(&path, quick()).unwrap();
    let refused = Log::open(&path, quick()).unwrap_err();
    assert_eq!(refused.kind, OpenErrorKind::Locked);
    deny(&log, "s", "x").await.unwrap();
    log.close();
    assert!(
        log.record(refusal("s", "late")).await.is_err(),
        "closed is closed"
    );
    log.close();
    let files = super::testing::files(&path);
    assert!(files.iter().any(|file| file.starts_with(path.join("tile"))));
    for file in files {
        let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.display());
    }
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o700
    );
    drop(Log::open(&path, quick()).unwrap());
}

#[tokio::test]
async fn an_unfinished_write_is_cut_off_and_said() {
    let open = tempfile::tempdir().unwrap();
    let journal = "journal-00000000000000000000.log";
    let log = Log::open(open.path(), quick()).unwrap();
    deny(&log, "s", "x").await.unwrap();
    let whole = fs::read(open.path().join(journal)).unwrap();
    for tail in [vec![0; 5], vec![0; 100], whole[40..60].to_vec()] {
        let directory = killed(open.path());
        let mut bytes = whole.clone();
        bytes.extend(&tail);
        fs::write(directory.path().join(journal), bytes).unwrap();
        let log = Log::open(directory.path(), quick()).unwrap();
        deny(&log, "s", "y").await.unwrap();
        log.close();
        let records = all(directory.path());
        assert_eq!(records.len(), 3);
        assert_eq!(records[1].cut_bytes, Some(tail.len() as u64));
        assert!(verify(directory.path()).unwrap().is_clean());
    }
}

type Change = fn(&Path);

#[tokio::test]
async fn a04_an_open_log_that_was_changed_is_not_opened() {
    let changes: [(&str, Change); 6] = [
        ("a flipped byte in a synced record", |d| {
            flip(&d.join("journal-00000000000000000032.log"), 300);
        }),
        ("a shorter journal", |d| {
            shorten(&d.join("journal-00000000000000000032.log"))
        }),
        ("a journal that is gone", |d| {
            fs::remove_file(d.join("journal-00000000000000000032.log")).unwrap();
        }),
        ("a manifest that is gone", |d| {
            fs::remove_dir_all(d.join("segments")).unwrap()
        }),
        ("tiles that are gone", |d| {
            fs::remove_dir_all(d.join("tile")).unwrap()
        }),
        ("a changed tile", |d| flip(&d.join("tile/0/000.p/32"), 40)),
    ];
    let open = tempfile::tempdir().unwrap();
    let log = Log::open(open.path(), small_segments()).unwrap();
    for n in 0..40 {
        deny(&log, "s", &n.to_string()).await.unwrap();
    }
    wait_for("sealing", || open.path().join("tile/0/000.p/32").exists());
    wait_for("signing", || signed(open.path()) == 40);
    drop(Log::open(killed(open.path()).path(), small_segments()).unwrap());
    for (name, change) in changes {
        refused_unchanged(name, &killed(open.path()), change);
    }
}

#[tokio::test]
async fn a04_a_closed_log_that_was_changed_is_not_opened() {
    let changes: [(&str, Change); 8] = [
        ("a manifest that is gone", |d| {
            fs::remove_dir_all(d.join("segments")).unwrap()
        }),
        ("a manifest that was changed", |d| {
            flip(&d.join("segments/0.json"), 9)
        }),
        ("tiles that are gone", |d| {
            fs::remove_dir_all(d.join("tile")).unwrap()
        }),
        ("a shorter tile", |d| shorten(&d.join("tile/0/000.p/40"))),
        ("a checkpoint that is gone", |d| {
            fs::remove_file(d.join("checkpoint")).unwrap();
        }),
        ("a checkpoint that was changed", |d| {
            flip(&d.join("checkpoint"), 60)
        }),
        ("an older checkpoint", |d| {
            fs::copy(d.join("checkpoints/16"), d.join("checkpoint")).unwrap();
        }),
        ("a key that is gone", |d| {
            fs::remove_file(d.join("log.key")).unwrap()
        }),
    ];
    let closed = tempfile::tempdir().unwrap();
    let log = Log::open(closed.path(), small_segments()).unwrap();
    for n in 0..40 {
        deny(&log, "s", &n.to_string()).await.unwrap();
    }
    log.close();
    drop(Log::open(killed(closed.path()).path(), small_segments()).unwrap());
    for (name, change) in changes {
        refused_unchanged(name, &killed(closed.path()), change);
    }
}

/// A changed log is refused for what it is, and what there is of it stays as it was.
fn refused_unchanged(name: &str, directory: &tempfile::TempDir, change: Change) {
    change(directory.path());
    let read = || -> Vec<_> {
        let files = super::testing::files(directory.path());
        files
            .into_iter()
            .map(|file| (fs::read(&file).unwrap(), file))
            .collect()
    };
    fs::write(directory.path().join("lock"), "").unwrap();
    let before = read();
    let refused = Log::open(directory.path(), small_segments()).expect_err(name);
    assert_eq!(refused.kind, OpenErrorKind::Integrity, "{name}: {refused}");
    assert!(refused.message.contains("new-origin"), "{name}: {refused}");
    assert_eq!(read(), before, "{name}");
}

fn signed(directory: &Path) -> u64 {
    let note = fs::read_to_string(directory.join("checkpoint")).unwrap();
    note.lines().nth(1).unwrap().parse().unwrap()
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

fn shorten(path: &Path) {
    let file = File::options().write(true).open(path).unwrap();
    let len = file.metadata().unwrap().len();
    file.set_len(len - 10).unwrap();
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
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

#[tokio::test]
async fn opening_reads_no_sealed_record_and_verifying_reads_all() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path(), small_segments()).unwrap();
    for n in 0..300 {
        drop(
            log.record_written(refusal("s", &n.to_string()))
                .await
                .unwrap(),
        );
    }
    log.close();
    assert!(verify(directory.path()).unwrap().is_clean());
    flip(&directory.path().join("tile/entries/000"), 300);
    drop(Log::open(directory.path(), small_segments()).unwrap());
    assert!(!verify(directory.path()).unwrap().is_clean());
}

#[test]
fn a01_a_directory_open_to_others_is_closed_or_refused() {
    let open = fs::Permissions::from_mode(0o755);
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), open.clone()).unwrap();
    drop(Log::open(directory.path(), quick()).unwrap());
    let mode = fs::metadata(directory.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);

    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("letter"), "x").unwrap();
    fs::set_permissions(other.path(), open).unwrap();
    let refused = Log::open(other.path(), quick()).unwrap_err();
    assert_eq!(refused.kind, OpenErrorKind::Invalid);
    let mode = fs::metadata(other.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755, "left as it was");
}

#[test]
fn a03_a_key_whose_announcement_was_refused_stays_the_next_one() {
    let wait = |what: &str, done: &dyn Fn() -> bool| {
        let begun = Instant::now();
        while !done() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
            thread::yield_now();
        }
    };
    let directory = tempfile::tempdir().unwrap();
    let (log, faults) = faulty(directory.path(), quick());
    log.event_blocking(Event::ServiceStarted).unwrap();
    faults.sync.store(true, Ordering::SeqCst);
    let lost = || log.shared().lost.load(Ordering::Acquire);
    log.rotate_key().unwrap();
    wait("written and refused", &|| lost() >= 1 && log.written() == 2);
    // The first of these takes the refusal, the second announces again.
    log.rotate_key().unwrap();
    log.rotate_key().unwrap();
    wait("refused again", &|| lost() >= 2);
    faults.sync.store(false, Ordering::SeqCst);
    log.event_blocking(Event::ServiceStarted).unwrap();
    wait("changed", &|| {
        !directory.path().join("log.key.next").exists()
    });
    log.event_blocking(Event::ServiceStopped).unwrap();
    log.close();
    let announced: Vec<_> = all(directory.path())
        .into_iter()
        .filter_map(|record| record.key)
        .collect();
    assert!(
        announced.windows(2).all(|pair| pair[0] == pair[1]),
        "{announced:?}"
    );
    let report = verify(directory.path()).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.keys.len(), 2);
}
