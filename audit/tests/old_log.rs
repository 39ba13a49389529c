//! A log that an earlier program wrote is read, verified and gone on with.
//!
//! `fixtures/log-of-2026-11` was written by the gateway of that month: one journal that is sealed,
//! and one that a kill left open. It is never written again: what reads it now has to go on
//! reading it. Its key signs nothing else.

#![expect(clippy::unwrap_used, reason = "test helpers")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use cordon_audit::{Event, Kind, Log, LogOptions, read::Reader, verify::verify};

#[path = "common/copy.rs"]
mod copy;

use copy::copy;

/// The journal that was left open.
const JOURNAL: &str = "journal-00000000000000000021.log";

/// Records in all, and those of them that end a flow.
const RECORDS: usize = 39;
const FLOWS: usize = 14;

#[test]
fn a_log_of_an_earlier_program_is_read_verified_and_gone_on_with() {
    let place = tempfile::tempdir().unwrap();
    let log = place.path();
    copy(&fixture(), log);
    assert!(verify(log).unwrap().is_clean());
    let before = count(log);
    assert_eq!((before, kinds(log, Kind::FlowClose)), (RECORDS, FLOWS));

    let open = Log::open(log, LogOptions::default()).unwrap();
    open.event_blocking(Event::ServiceStopped).unwrap();
    open.close();
    assert!(verify(log).unwrap().is_clean());
    assert!(count(log) > before);
    assert_eq!(kinds(log, Kind::FlowClose), FLOWS);
    assert!(!log.join(JOURNAL).exists(), "what was left open is sealed");
}

/// The positive control of the above: such a log is not clean whatever is in it.
#[test]
fn a04_a_byte_of_it_that_is_another_is_seen() {
    for part in ["tile/entries/000.p/21", JOURNAL] {
        let place = tempfile::tempdir().unwrap();
        copy(&fixture(), place.path());
        let file = place.path().join(part);
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&file, bytes).unwrap();
        let verified = verify(place.path());
        assert!(!verified.is_ok_and(|report| report.is_clean()), "{part}");
    }
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/log-of-2026-11")
}

fn count(log: &Path) -> usize {
    Reader::open(log)
        .unwrap()
        .records(0)
        .map(Result::unwrap)
        .count()
}

fn kinds(log: &Path, kind: Kind) -> usize {
    let records = Reader::open(log).unwrap().records(0).map(Result::unwrap);
    records.filter(|record| record.kind == kind).count()
}
