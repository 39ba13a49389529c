//! Each way to change what is not sealed yet, done clumsily and done well, is seen and named (A04);
//! and what the writer writes is clean.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use super::{made::*, *};
use crate::{Event, Log, LogOptions, Order, Task};

const FIRST: &str = "journal-00000000000000000000.log";
const SECOND: &str = "journal-00000000000000000256.log";

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

/// Changes a record's content without changing its length.
fn alter(part: &mut [u8]) {
    let at = part
        .windows(7)
        .position(|text| text == b"\"allow\"")
        .unwrap()
        + 1;
    part[at..at + 5].copy_from_slice(b"error");
}

#[test]
fn a04_each_change_of_a_journal_is_detected_and_named() {
    type Change = fn(&Path, &mut Vec<Vec<u8>>);
    // 256 records are sealed, 40 in the journal, a checkpoint covers all and another the first 276.
    let cases: [(&str, u64, Change); 9] = [
        ("flipped bit", 256 + 5, |path, parts| {
            parts[6][40] ^= 1;
            fs::write(path, parts.concat()).unwrap();
        }),
        ("dropped record", 256 + 5, |path, parts| {
            parts.remove(6);
            fs::write(path, parts.concat()).unwrap();
        }),
        ("swapped records", 256 + 5, |path, parts| {
            parts.swap(6, 7);
            fs::write(path, parts.concat()).unwrap();
        }),
        ("duplicated record", 256 + 6, |path, parts| {
            parts.insert(7, parts[6].clone());
            fs::write(path, parts.concat()).unwrap();
        }),
        ("truncation", 256 + 30, |path, parts| {
            parts.truncate(31);
            fs::write(path, parts.concat()).unwrap();
        }),
        ("replaced record, well forged", 256 + 20, |path, parts| {
            alter(&mut parts[31]);
            forge(path, 256, parts);
        }),
        ("dropped record, well forged", 256, |path, parts| {
            parts.remove(6);
            forge(path, 256, parts);
        }),
        ("inserted record, well forged", 256, |path, parts| {
            parts.insert(6, parts[1].clone());
            forge(path, 256, parts);
        }),
        ("another log's header", 256, |path, parts| {
            parts[0][20] ^= 1;
            let crc = crc32c::crc32c(&parts[0][..36]).to_le_bytes();
            parts[0][36..].copy_from_slice(&crc);
            fs::write(path, parts.concat()).unwrap();
        }),
    ];
    for (name, seq, change) in cases {
        let directory = tempfile::tempdir().unwrap();
        let made = Made::whole(directory.path(), 256, 296);
        for size in [256, 276] {
            let note = made.note(size, 1);
            made.write(&format!("checkpoints/{size}"), note.as_bytes());
        }
        assert!(verify(directory.path()).unwrap().is_clean(), "{name}");
        let path = directory.path().join(SECOND);
        change(&path, &mut parts(&path));
        let report = verify(directory.path()).unwrap();
        assert!(!report.is_clean(), "{name}: {report:?}");
        let found = report.first_bad.as_ref().map(|bad| bad.seq);
        assert_eq!(found, Some(seq), "{name}: {report:?}");
    }
}

#[test]
fn a04_a_checkpoint_that_is_gone_changed_or_of_another_key_proves_nothing() {
    type Change = fn(&Path);
    let cases: [(&str, Change); 3] = [
        ("gone", |path| fs::remove_file(path).unwrap()),
        ("another size", |path| {
            let text = fs::read_to_string(path).unwrap();
            fs::write(path, text.replacen("\n10\n", "\n9\n", 1)).unwrap();
        }),
        ("no note", |path| fs::write(path, "x\n").unwrap()),
    ];
    for (name, change) in cases {
        let directory = tempfile::tempdir().unwrap();
        Made::whole(directory.path(), 0, 10);
        change(&directory.path().join("checkpoint"));
        let report = verify(directory.path()).unwrap();
        assert!(
            matches!(report.completeness, Completeness::Unproven { .. }),
            "{name}: {report:?}"
        );
    }
}

#[test]
fn an_unfinished_write_at_the_end_is_no_fault_and_damage_before_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let made = Made::whole(directory.path(), 0, 10);
    made.checkpoint(6, 1);
    let path = directory.path().join(FIRST);
    let whole = parts(&path);
    let mut torn = whole.concat();
    torn.truncate(torn.len() - 20);
    fs::write(&path, torn).unwrap();
    fs::remove_file(directory.path().join("checkpoints/10")).unwrap();
    let report = verify(directory.path()).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.records, 9);
    assert!(report.unfinished_bytes > 0);

    // What stands after it was written when it had been synced.
    let mut damaged = whole.clone();
    damaged[8][30] ^= 1;
    fs::write(&path, damaged.concat()).unwrap();
    let report = verify(directory.path()).unwrap();
    assert_eq!(report.integrity, Integrity::Broken);
    assert_eq!(report.first_bad.unwrap().seq, 7);
}

#[test]
fn what_the_writer_writes_is_clean_over_restarts_and_changes_of_keys() {
    let directory = tempfile::tempdir().unwrap();
    let read = |name: &str| fs::read_to_string(directory.path().join(name)).ok();
    let first_key = || read("log.pub");
    let mut key = None;
    for turn in 0..4 {
        let options = LogOptions {
            segment_records: 512,
            index_cache_bytes: 1 << 20,
            ..LogOptions::default()
        };
        let log = Log::open(directory.path(), options).unwrap();
        key = key.or_else(first_key);
        for _ in 0..300 {
            log.event_later(Event::ServiceStarted);
        }
        let before = read("log.key");
        log.administer(Order {
            task: Task::RotateKey,
            by: None,
            because: "a test".into(),
        })
        .unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while read("log.key") == before {
            assert!(Instant::now() < deadline, "{turn}");
            log.event_blocking(Event::ServiceStarted).unwrap();
        }
        log.close();
        for public_key in [None, key.clone()] {
            let evidence = Evidence {
                public_key,
                ..Evidence::default()
            };
            let report = verify_with(directory.path(), &evidence).unwrap();
            assert!(report.is_clean(), "{turn}: {report:?}");
            assert!(report.records >= 300, "{report:?}");
            assert!(report.keys.len() > turn + 1, "{turn}: {report:?}");
        }
    }
}

#[test]
fn keys_that_are_none_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    Made::whole(directory.path(), 0, 1);
    let good = verifier_key(1);
    let short = STANDARD.encode([1; 5]);
    for key in [
        "",
        "a+b",
        "cordon/x+00000000+AA==",
        &good.replacen('+', "+0", 1),
        &format!("n+00000000+{short}"),
    ] {
        let evidence = Evidence {
            public_key: Some(key.into()),
            ..Evidence::default()
        };
        assert!(verify_with(directory.path(), &evidence).is_err(), "{key:?}");
    }
}

#[test]
fn a06_what_is_no_file_is_not_waited_for_and_what_is_too_large_is_not_read() {
    type Change = fn(&Path);
    let pipe: Change = |path| {
        let _old = fs::remove_file(path);
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, path, mode).unwrap();
    };
    let huge: Change = |path| {
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(1 << 40).unwrap();
    };
    let journal = format!("journal-{:020}.log", 300);
    for (name, change, what) in [
        ("checkpoint", pipe, "no file"),
        ("checkpoint", huge, "larger than"),
        (&*journal, pipe, "no file"),
        (&*journal, huge, "larger than"),
        ("pruned.json", pipe, "no file"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        made::Made::whole(directory.path(), 300, 340);
        assert!(verify(directory.path()).unwrap().is_clean());
        change(&directory.path().join(name));
        let error = verify(directory.path()).unwrap_err();
        assert!(error.message.contains(what), "{name}: {error}");
    }
    for name in ["tile/entries/000", "tile/0/000"] {
        let directory = tempfile::tempdir().unwrap();
        made::Made::whole(directory.path(), 300, 340);
        pipe(&directory.path().join(name));
        assert!(!verify(directory.path()).unwrap().is_clean(), "{name}");
    }
}
