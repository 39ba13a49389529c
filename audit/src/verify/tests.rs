//! Each way to change a log, done clumsily and done well, is seen and named (A04, A05).

use std::{fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::*;
use crate::{Event, Log, LogOptions};

const FIRST: &str = "journal-00000000000000000000.log";
const SECOND: &str = "journal-00000000000000000016.log";

/// A log of `count` records in segments of 16, closed and signed.
fn log_of(directory: &Path, count: usize) {
    let options = LogOptions {
        segment_records: 16,
        index_cache_bytes: 1 << 20,
        ..LogOptions::default()
    };
    let log = Log::open(directory, options).unwrap();
    for _ in 0..count {
        log.event_later(Event::ServiceStarted);
    }
    log.close();
}

/// The frames of a journal: header, then one part per record.
fn parts(path: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).unwrap();
    let mut parts = vec![bytes[..40].to_vec()];
    let mut at = 40;
    while at < bytes.len() {
        let len = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        parts.push(bytes[at..at + 24 + len].to_vec());
        at += 24 + len;
    }
    parts
}

/// What a careful forger does: right sequences in frames and leaves, right checksums.
fn forge(path: &Path, first: u64, parts: &[Vec<u8>]) {
    let mut bytes = parts[0].clone();
    for (seq, part) in (first..).zip(&parts[1..]) {
        let text = std::str::from_utf8(&part[24..]).unwrap();
        let (head, rest) = text.split_once("\"seq\":").unwrap();
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let leaf = format!("{head}\"seq\":{seq}{rest}");
        let len = u32::try_from(leaf.len()).unwrap().to_le_bytes();
        let body = [&seq.to_le_bytes(), &part[16..24], leaf.as_bytes()].concat();
        let crc = crc32c::crc32c_append(crc32c::crc32c(&len), &body);
        bytes.extend([&len[..], &crc.to_le_bytes(), &body].concat());
    }
    fs::write(path, bytes).unwrap();
}

fn write(path: &Path, parts: &[Vec<u8>]) {
    fs::write(path, parts.concat()).unwrap();
}

/// Changes a record's content without changing its length.
fn alter(part: &mut [u8]) {
    let at = part.windows(5).position(|text| text == b"\"pid\"").unwrap() + 6;
    part[at] = if part[at] == b'9' { b'8' } else { b'9' };
}

#[test]
fn a04_a_log_as_written_is_clean() {
    for count in [0, 1, 5, 16, 17, 40] {
        let directory = tempfile::tempdir().unwrap();
        log_of(directory.path(), count);
        let report = verify(directory.path()).unwrap();
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(report.records, count as u64);
        assert_eq!(report.first_bad, None);
    }
}

#[test]
fn a04_each_change_is_detected_and_named() {
    type Change = fn(&Path);
    let cases: [(&str, u64, Change); 16] = [
        ("a flipped bit", 5, |d| {
            let mut parts = parts(&d.join(FIRST));
            parts[6][40] ^= 1;
            write(&d.join(FIRST), &parts);
        }),
        ("a changed record, well forged", 5, |d| {
            let mut parts = parts(&d.join(FIRST));
            alter(&mut parts[6]);
            forge(&d.join(FIRST), 0, &parts);
        }),
        (
            "a changed record in the last segment, well forged",
            37,
            |d| {
                let path = d.join("journal-00000000000000000032.log");
                let mut parts = parts(&path);
                alter(&mut parts[6]);
                forge(&path, 32, &parts);
            },
        ),
        ("a deleted record", 3, |d| {
            let mut parts = parts(&d.join(FIRST));
            parts.remove(4);
            write(&d.join(FIRST), &parts);
        }),
        ("a deleted record, well forged", 3, |d| {
            let mut parts = parts(&d.join(FIRST));
            parts.remove(4);
            forge(&d.join(FIRST), 0, &parts);
        }),
        (
            "a record deleted from the last segment, well forged",
            34,
            |d| {
                let path = d.join("journal-00000000000000000032.log");
                let mut parts = parts(&path);
                parts.remove(3);
                forge(&path, 32, &parts);
            },
        ),
        ("the last record cut off", 39, |d| {
            let path = d.join("journal-00000000000000000032.log");
            let mut parts = parts(&path);
            parts.pop();
            write(&path, &parts);
        }),
        ("the last record cut in half", 39, |d| {
            let path = d.join("journal-00000000000000000032.log");
            let len = fs::metadata(&path).unwrap().len();
            fs::File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_len(len - 20)
                .unwrap();
        }),
        ("two records swapped", 7, |d| {
            let mut parts = parts(&d.join(FIRST));
            parts.swap(8, 9);
            write(&d.join(FIRST), &parts);
        }),
        ("two records swapped, well forged", 7, |d| {
            let mut parts = parts(&d.join(FIRST));
            parts.swap(8, 9);
            forge(&d.join(FIRST), 0, &parts);
        }),
        ("an inserted record", 2, |d| {
            let mut parts = parts(&d.join(FIRST));
            let inserted = parts[1].clone();
            parts.insert(3, inserted);
            write(&d.join(FIRST), &parts);
        }),
        (
            "a record inserted at the end of a segment, well forged",
            38,
            |d| {
                let path = d.join("journal-00000000000000000032.log");
                let mut parts = parts(&path);
                let inserted = parts[1].clone();
                parts.insert(7, inserted);
                forge(&path, 32, &parts);
            },
        ),
        ("a journal in the middle gone", 16, |d| {
            fs::remove_file(d.join(SECOND)).unwrap()
        }),
        ("a journal at the end gone", 32, |d| {
            fs::remove_file(d.join("journal-00000000000000000032.log")).unwrap();
        }),
        ("a journal replaced by another", 16, |d| {
            fs::copy(d.join(FIRST), d.join(SECOND)).unwrap();
        }),
        ("a journal of another log", 0, |d| {
            let other = tempfile::tempdir().unwrap();
            log_of(other.path(), 40);
            fs::copy(other.path().join(FIRST), d.join(FIRST)).unwrap();
        }),
    ];
    for (name, seq, change) in cases {
        let directory = tempfile::tempdir().unwrap();
        log_of(directory.path(), 40);
        assert!(verify(directory.path()).unwrap().is_clean(), "{name}");
        change(directory.path());
        let report = verify(directory.path()).unwrap();
        assert!(!report.is_clean(), "{name}: {report:?}");
        let found = report.first_bad.as_ref().map(|bad| bad.seq);
        assert_eq!(found, Some(seq), "{name}: {report:?}");
    }
}

#[test]
fn a04_without_stored_hashes_a_forgery_is_still_detected() {
    let directory = tempfile::tempdir().unwrap();
    log_of(directory.path(), 10);
    fs::remove_file(directory.path().join("leaves-00000000000000000000.sha256")).unwrap();
    assert!(
        verify(directory.path()).unwrap().is_clean(),
        "hashes only help to name"
    );
    let path = directory.path().join(FIRST);
    let mut parts = parts(&path);
    alter(&mut parts[6]);
    forge(&path, 0, &parts);
    let report = verify(directory.path()).unwrap();
    assert_eq!(report.integrity, Integrity::Broken);
    assert_eq!(report.completeness, Completeness::Incomplete);
    assert_eq!(report.first_bad.unwrap().seq, 0);
}

#[test]
fn a04_a_checkpoint_that_is_gone_changed_or_of_another_key_proves_nothing() {
    type Change = fn(&Path);
    let cases: [(&str, Change); 4] = [
        ("gone", |path| fs::remove_file(path).unwrap()),
        ("another size", |path| {
            let text = fs::read_to_string(path).unwrap();
            fs::write(path, text.replacen("\n10\n", "\n9\n", 1)).unwrap();
        }),
        ("another log's", |path| {
            let other = tempfile::tempdir().unwrap();
            log_of(other.path(), 10);
            fs::copy(other.path().join("checkpoint"), path).unwrap();
        }),
        ("no note", |path| fs::write(path, "x\n").unwrap()),
    ];
    for (name, change) in cases {
        let directory = tempfile::tempdir().unwrap();
        log_of(directory.path(), 10);
        change(&directory.path().join("checkpoint"));
        let report = verify(directory.path()).unwrap();
        assert!(!report.is_clean(), "{name}");
        assert!(
            matches!(report.completeness, Completeness::Unproven { .. }),
            "{name}: {report:?}"
        );
    }
}

#[test]
fn a05_a_rollback_is_detected_against_a_checkpoint_kept_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let old = tempfile::tempdir().unwrap();
    log_of(directory.path(), 20);
    for entry in fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        if entry.metadata().unwrap().is_file() {
            fs::copy(entry.path(), old.path().join(entry.file_name())).unwrap();
        }
    }
    let early = fs::read_to_string(directory.path().join("checkpoint")).unwrap();
    log_of(directory.path(), 10);
    let late = fs::read_to_string(directory.path().join("checkpoint")).unwrap();

    for checkpoint in [&early, &late] {
        let report = verify_against(directory.path(), checkpoint).unwrap();
        assert!(report.is_clean(), "{report:?}");
    }
    assert!(
        verify(old.path()).unwrap().is_clean(),
        "by itself the old state is whole"
    );
    let report = verify_against(old.path(), &late).unwrap();
    assert_eq!(report.completeness, Completeness::Incomplete);
    assert_eq!(report.against_size, Some(30));
    assert_eq!(report.first_bad.unwrap().seq, 20);
}

#[test]
fn a05_a_replaced_log_is_detected_by_key_or_checkpoint_from_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let replaced = tempfile::tempdir().unwrap();
    log_of(directory.path(), 5);
    log_of(replaced.path(), 5);
    let checkpoint = fs::read_to_string(directory.path().join("checkpoint")).unwrap();
    let key = fs::read_to_string(directory.path().join("log.pub")).unwrap();

    let with_key = Evidence {
        public_key: Some(key),
        ..Evidence::default()
    };
    assert!(verify_with(directory.path(), &with_key).unwrap().is_clean());
    assert!(!verify_with(replaced.path(), &with_key).unwrap().is_clean());
    assert!(
        verify_against(directory.path(), &checkpoint)
            .unwrap()
            .is_clean()
    );
    let report = verify_against(replaced.path(), &checkpoint).unwrap();
    assert!(
        matches!(report.completeness, Completeness::Unproven { .. }),
        "{report:?}"
    );
}

#[test]
fn damage_after_the_last_checkpoint_that_was_synced_is_no_unfinished_write() {
    let directory = tempfile::tempdir().unwrap();
    let keep = tempfile::tempdir().unwrap();
    log_of(directory.path(), 3);
    let checkpoint = directory.path().join("checkpoint");
    fs::copy(&checkpoint, keep.path().join("checkpoint")).unwrap();
    // Separate groups, each synced before the next is written.
    for _ in 0..3 {
        log_of(directory.path(), 1);
    }
    fs::copy(keep.path().join("checkpoint"), &checkpoint).unwrap();
    assert!(verify(directory.path()).unwrap().is_clean());
    let path = directory.path().join(FIRST);
    let mut parts = parts(&path);
    parts[4][30] ^= 1;
    write(&path, &parts);
    let report = verify(directory.path()).unwrap();
    assert_eq!(report.integrity, Integrity::Broken);
    assert_eq!(report.first_bad.unwrap().seq, 3);
    assert!(Log::open(directory.path(), LogOptions::default()).is_err());
}

#[test]
fn keys_that_are_none_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    log_of(directory.path(), 1);
    let good = fs::read_to_string(directory.path().join("log.pub")).unwrap();
    let other_id = good.replacen('+', "+0", 1);
    let short = STANDARD.encode([1; 5]);
    for key in [
        "",
        "a+b",
        "cordon/x+00000000+AA==",
        &other_id,
        &format!("n+00000000+{short}"),
    ] {
        let evidence = Evidence {
            public_key: Some(key.into()),
            ..Evidence::default()
        };
        assert!(verify_with(directory.path(), &evidence).is_err(), "{key:?}");
    }
}
