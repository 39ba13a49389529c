//! Disks that fail: nothing is acknowledged that is not there, and the log goes on afterwards.

use std::{fs::File, io, mem::ManuallyDrop, sync::atomic::AtomicBool};

use super::*;
use crate::{files::Disk, writer::Wrap};

/// A disk whose operations can be made to fail, and that keeps their order.
#[derive(Debug, Default)]
pub(super) struct Faults {
    write: AtomicBool,
    write_half: AtomicBool,
    panic: AtomicBool,
    /// No room for what was written before.
    write_again: AtomicBool,
    tried_again: AtomicU64,
    sync: AtomicBool,
    /// A failed sync loses what was written since the last good one.
    lose: AtomicBool,
    /// Where that is, and how long.
    unsynced: Mutex<Vec<(u64, usize)>>,
    /// A sync takes as long as this is held.
    slow: Mutex<()>,
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
        assert!(!self.1.panic.load(Ordering::SeqCst), "as asked for");
        if self.1.write.load(Ordering::SeqCst) {
            if self.1.write_half.load(Ordering::SeqCst) {
                Disk::write_all_at(&self.0, &bytes[..bytes.len() / 2], offset)?;
            }
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let again = offset < self.1.written.load(Ordering::SeqCst);
        if again && self.1.write_again.load(Ordering::SeqCst) {
            self.1.tried_again.fetch_add(1, Ordering::SeqCst);
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Disk::write_all_at(&self.0, bytes, offset)?;
        held(&self.1.unsynced).push((offset, bytes.len()));
        self.1
            .written
            .fetch_max(offset + bytes.len() as u64, Ordering::SeqCst);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let written = self.1.written.load(Ordering::SeqCst);
        let unsynced = std::mem::take(&mut *held(&self.1.unsynced));
        let nth = self.1.tried_syncs.fetch_add(1, Ordering::SeqCst) + 1;
        let _slow = held(&self.1.slow);
        if self.1.sync.load(Ordering::SeqCst) || nth == self.1.fail_sync.load(Ordering::SeqCst) {
            if self.1.lose.load(Ordering::SeqCst) {
                for (offset, len) in unsynced {
                    Disk::write_all_at(&self.0, &vec![0; len], offset)?;
                }
            }
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

pub(super) fn faulty(directory: &Path, options: LogOptions) -> (Log, Arc<Faults>) {
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

/// Nothing is handed to another thread and back for a record that need only be written.
#[tokio::test]
async fn a_written_record_is_written_by_whoever_brings_it() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _faults) = faulty(directory.path(), quick());
    let mut at_once = 0;
    for _ in 0..100 {
        let mut recording = std::pin::pin!(log.record_written(refusal("s", "x")));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        match recording.as_mut().poll(&mut cx) {
            std::task::Poll::Ready(made) => {
                drop(made.unwrap());
                at_once += 1;
            }
            // A thread of the log was just looking.
            std::task::Poll::Pending => drop(recording.await.unwrap()),
        }
    }
    assert!(at_once > 0);
    log.close();
    assert_eq!(all(directory.path()).len(), 100);
}

#[tokio::test]
async fn a02_after_a_write_that_broke_off_nothing_is_acknowledged_and_nobody_hangs() {
    let directory = tempfile::tempdir().unwrap();
    let (log, faults) = faulty(directory.path(), quick());
    let kept = deny(&log, "s", "before").await.unwrap();
    faults.panic.store(true, Ordering::SeqCst);
    let broken = {
        let log = log.clone();
        tokio::spawn(async move { deny(&log, "s", "meanwhile").await.map(drop) })
    };
    assert!(!matches!(broken.await, Ok(Ok(()))), "it was not written");
    faults.panic.store(false, Ordering::SeqCst);
    assert!(deny(&log, "s", "after").await.is_err());
    assert!(log.record_written(refusal("s", "after")).await.is_err());
    assert!(log.healthy().is_err());
    log.close();
    let again = Log::open(directory.path(), quick()).unwrap();
    again.close();
    assert!(all(directory.path()).iter().any(|record| record.id == kept));
    assert!(verify(directory.path()).unwrap().is_clean());
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

/// After a failed sync what was written is gone, and the disk has no room to write it again: until
/// it has, nothing counts as durable, and nothing is taken behind the hole.
#[tokio::test]
async fn a03_what_could_not_be_written_again_after_a_failed_sync_is_tried_until_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let (log, faults) = faulty(directory.path(), quick());
    deny(&log, "s", "before").await.unwrap();
    faults.write_again.store(true, Ordering::SeqCst);
    faults.lose.store(true, Ordering::SeqCst);
    faults.sync.store(true, Ordering::SeqCst);
    let recorded = log.record_written(refusal("s", "written")).await.unwrap();
    let Recorded::Deny(written) = recorded else {
        panic!("a refusal was permitted");
    };
    wait_for("writing again", || {
        faults.tried_again.load(Ordering::SeqCst) > 0
    });
    faults.sync.store(false, Ordering::SeqCst);
    let refused = deny(&log, "s", "meanwhile").await;
    assert!(refused.is_err(), "behind a hole");
    assert_eq!(log.stats().durable, 1);
    assert!(log.healthy().is_err());
    faults.write_again.store(false, Ordering::SeqCst);
    deny(&log, "s", "after").await.unwrap();
    assert!(log.healthy().is_ok());
    log.close();
    let kept: Vec<_> = all(directory.path()).iter().map(|r| r.id).collect();
    assert_eq!(kept[1], written.id());
    let report = verify(directory.path()).unwrap();
    assert!(report.is_clean(), "{report:?}");
}

/// No more may wait for the disk, and the sync that all of it waits for fails: it is written again,
/// whoever brings the next record or closes the log.
#[test]
fn a03_a_sync_that_fails_when_as_much_waits_as_may_is_repaired() {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.unwrap();
    for closing in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let (log, faults) = faulty(directory.path(), quick());
        // One that hangs would hang the test as well.
        let log = ManuallyDrop::new(log);
        faults.fail_sync.store(1, Ordering::SeqCst);
        let slow = held(&faults.slow);
        while !log.inner.queue.desk().hold().is_full() {
            let recording = log.record_written(refusal("s", "x"));
            drop(runtime.block_on(recording).unwrap());
        }
        let filled = log.written();
        let (done, answer) = std::sync::mpsc::channel();
        let asking = Log::clone(&log);
        thread::spawn(move || {
            if closing {
                asking.close();
            } else {
                asking.event_blocking(Event::ServiceStarted).unwrap();
            }
            done.send(()).unwrap();
        });
        wait_for("asking", || {
            log.inner.queue.lengths().0 > 0 || log.shared().closing.load(Ordering::Acquire)
        });
        drop(slow);
        assert_eq!(
            answer.recv_timeout(Duration::from_secs(60)),
            Ok(()),
            "closing {closing}: it hangs"
        );
        log.close();
        let kept = all(directory.path()).len() as u64;
        assert_eq!(kept, filled + u64::from(!closing), "closing {closing}");
        let report = verify(directory.path()).unwrap();
        assert!(report.is_clean(), "closing {closing}: {report:?}");
    }
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
    // One of these takes the refusal, which may still be on its way, the next announces again.
    let asked = std::cell::Cell::new(None::<Instant>);
    wait("refused again", &|| {
        let pause = Duration::from_millis(100);
        if asked.get().is_none_or(|at| at.elapsed() > pause) {
            log.rotate_key().unwrap();
            asked.set(Some(Instant::now()));
        }
        lost() >= 2
    });
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
