//! Sealing, stopped at every step.

use std::{cell::Cell, collections::BTreeSet, time::UNIX_EPOCH};

use super::*;
use crate::{
    Event, Log, LogOptions,
    checkpoint::{Checkpoint, Signer},
    log::testing::{files, killed, tree, verify},
    merkle::{Frontier, leaf_hash},
    read::Reader,
};

fn options() -> LogOptions {
    LogOptions {
        segment_records: 1 << 20,
        index_cache_bytes: 1 << 20,
        ..LogOptions::default()
    }
}

/// Adds records to a log and leaves it as a kill would, with all of them signed.
fn with_records(log: &Path, count: u64) -> (tempfile::TempDir, Closed) {
    let open = Log::open(log, options()).unwrap();
    let first = tree(log).unwrap().0;
    for _ in 1..count {
        open.event_later(Event::ServiceStopped);
    }
    open.event_blocking(Event::ServiceStopped).unwrap();
    let left = killed(log);
    open.close();
    let (end, root) = tree(left.path()).unwrap();
    assert_eq!(end, first + count);
    let signer = Signer::load(left.path()).unwrap().unwrap();
    let signed = Checkpoint { size: end, root };
    signer.publish(left.path(), signed, false).unwrap();
    (left, Closed { first, end, root })
}

fn sealing<'a>(log: &'a Path, step: &'a dyn Fn(&'static str) -> io::Result<()>) -> Sealing<'a> {
    let now = UNIX_EPOCH.elapsed().unwrap().as_micros();
    Sealing {
        log,
        segment_records: 512,
        segment_age: Duration::from_secs(3600),
        now_us: u64::try_from(now).unwrap(),
        step,
    }
}

/// Seals, stops at each step in turn, and goes on as after a kill.
fn stopped_at_every_step(left: &Path, journal: Closed) {
    let taken = Cell::new(0_u64);
    let seen = std::cell::RefCell::new(BTreeSet::new());
    let count = |what| {
        taken.set(taken.get() + 1);
        seen.borrow_mut().insert(what);
        Ok(())
    };
    let done = killed(left);
    sealing(done.path(), &count).seal(journal).unwrap();
    assert!(seen.borrow().len() >= 8, "{seen:?}");
    let sealed: Vec<_> = relative(done.path());
    for stop in 0..taken.get() {
        let here = killed(left);
        let log = here.path();
        let at = Cell::new(0);
        let fail = |what| {
            at.set(at.get() + 1);
            match at.get() > stop {
                true => Err(io::Error::other(what)),
                false => Ok(()),
            }
        };
        let why = sealing(log, &fail).seal(journal).unwrap_err();
        assert_eq!(tree(log).unwrap(), (journal.end, journal.root), "{why}");
        sealing(log, &|_| Ok(())).seal(journal).unwrap();
        assert_eq!(relative(log), sealed, "{stop}: {why}");
        assert_eq!(tree(log).unwrap(), (journal.end, journal.root), "{why}");
        let opened = Log::open(log, options()).unwrap();
        opened.close();
        assert!(verify(log).unwrap().is_clean(), "{why}");
    }
}

fn relative(log: &Path) -> Vec<PathBuf> {
    let files = files(log).into_iter();
    files
        .map(|file| file.strip_prefix(log).unwrap().to_owned())
        .filter(|file| !file.starts_with("lock"))
        .collect()
}

#[test]
fn a02_sealing_can_be_stopped_at_every_step() {
    let log = tempfile::tempdir().unwrap();
    let (first, journal) = with_records(log.path(), 600);
    stopped_at_every_step(first.path(), journal);

    // On top of partial tiles, over the end of a segment.
    let (second, journal) = with_records(log.path(), 500);
    assert_eq!((journal.first, journal.end), (600, 1100));
    stopped_at_every_step(second.path(), journal);
}

#[test]
fn segments_are_complete_by_size_or_age_and_begin_at_bundles() {
    let log = tempfile::tempdir().unwrap();
    let (left, journal) = with_records(log.path(), 600);
    sealing(left.path(), &|_| Ok(())).seal(journal).unwrap();
    assert_eq!(Segment::list(left.path()).unwrap(), [0]);
    let (left, journal) = with_records(left.path(), 100);
    sealing(left.path(), &|_| Ok(())).seal(journal).unwrap();
    assert_eq!(
        Segment::list(left.path()).unwrap(),
        [0],
        "the next bundle does not begin yet"
    );
    let (left, journal) = with_records(left.path(), 100);
    sealing(left.path(), &|_| Ok(())).seal(journal).unwrap();
    assert_eq!(Segment::list(left.path()).unwrap(), [0, 768]);
    let before = Segment::load(left.path(), 0).unwrap();
    assert_eq!(before.end, 768);

    let (left, journal) = with_records(left.path(), 300);
    let mut old = sealing(left.path(), &|_| Ok(()));
    old.now_us += 4 * 3_600_000_000;
    old.seal(journal).unwrap();
    assert_eq!(Segment::list(left.path()).unwrap(), [0, 768, 1024]);
}

#[test]
fn a04_a_journal_that_is_not_what_was_signed_is_not_sealed() {
    let log = tempfile::tempdir().unwrap();
    let (left, journal) = with_records(log.path(), 10);
    let other = Closed {
        root: Frontier::default().root(),
        ..journal
    };
    let refused = sealing(left.path(), &|_| Ok(())).seal(other).unwrap_err();
    assert!(refused.to_string().contains("signed"), "{refused}");
    assert!(Segment::list(left.path()).unwrap().is_empty());
    sealing(left.path(), &|_| Ok(())).seal(journal).unwrap();
    let records = Reader::open(left.path()).unwrap().records(0);
    assert_eq!(records.map(Result::unwrap).count(), 10);
}

#[test]
fn a03_a_journal_with_more_than_is_to_be_sealed_stays() {
    let directory = tempfile::tempdir().unwrap();
    let (left, journal) = with_records(directory.path(), 9);
    let log = left.path();
    let mut frontier = Frontier::default();
    for leaf in Reader::open(log).unwrap().leaves(0).take(8) {
        frontier.push(leaf_hash(&leaf.unwrap().1));
    }
    let short = Closed {
        first: journal.first,
        end: frontier.size(),
        root: frontier.root(),
    };
    let error = sealing(log, &|_| Ok(())).seal(short).unwrap_err();
    assert!(error.to_string().contains("more than the records before 8"));
    assert_eq!(tree(log).unwrap(), (journal.end, journal.root));
    sealing(log, &|_| Ok(())).seal(journal).unwrap();
    assert_eq!(tree(log).unwrap(), (journal.end, journal.root));
    assert!(!crate::files::path_of(log, "journal", 0, ".log").exists());
}

/// Changes a letter of the first boot id, or else the last byte, of every file of a kind that has
/// not got its own name yet.
fn spoil(log: &Path, kind: &str) -> usize {
    let of_kind = files(log).into_iter().filter(|file| {
        let is_temporary = file.extension().is_some_and(|end| end == "tmp");
        is_temporary && file.starts_with(log.join("tile").join(kind))
    });
    let spoilt = of_kind.map(|file| {
        let mut bytes = fs::read(&file).unwrap();
        let boot = bytes.windows(8).position(|text| text == b"\"boot\":\"");
        let at = boot.map_or(bytes.len() - 1, |at| at + 8);
        bytes[at] ^= 1;
        fs::write(&file, bytes).unwrap();
    });
    spoilt.count()
}

#[test]
fn a04_what_the_disk_does_not_hold_as_it_was_written_is_not_sealed() {
    let directory = tempfile::tempdir().unwrap();
    let (left, journal) = with_records(directory.path(), 300);
    // Bundles are read back after the first sync, tiles after the second.
    for (sync, kind, spoilt, says) in [
        (1, "entries", 2, "signed"),
        (2, "0", 2, "is not what was written"),
        (2, "1", 1, "is not what was written"),
    ] {
        let here = killed(left.path());
        let log = here.path();
        let syncs = Cell::new(0);
        let disk = |what| {
            syncs.set(syncs.get() + i32::from(what == "sync the file system"));
            if what == "sync the file system" && syncs.get() == sync {
                assert_eq!(spoil(log, kind), spoilt, "{kind}");
            }
            Ok(())
        };
        let refused = sealing(log, &disk).seal(journal).unwrap_err();
        assert!(refused.to_string().contains(says), "{kind}: {refused}");
        assert!(Segment::list(log).unwrap().is_empty(), "{kind}");
        sealing(log, &|_| Ok(())).seal(journal).unwrap();
        assert_eq!(tree(log).unwrap(), (journal.end, journal.root), "{kind}");
    }
}

#[test]
fn sealing_makes_the_postings_that_a_query_would_make() {
    let directory = tempfile::tempdir().unwrap();
    let (left, journal) = with_records(directory.path(), 600);
    let log = left.path();
    sealing(log, &|_| Ok(())).seal(journal).unwrap();
    let path = postings::path_of(log, 0);
    let sealed = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    crate::find::index(log).unwrap();
    assert!(fs::read(&path).unwrap() == sealed);
}
