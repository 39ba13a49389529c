//! Logs with sealed tiles, made from the specifications alone: whole ones are clean, and each way
//! to change one is seen and named (A04, A05).

use std::{fs, path::Path};

use super::{made::*, *};

/// 600 sealed records (two bundles and a part), 40 in the journal.
fn log(directory: &Path) -> Made {
    Made::whole(directory, 600, 640)
}

fn bytes(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}

/// Puts other leaves into bundle `number`, as a careful forger would: well formed.
fn rebundle(directory: &Path, name: &str, leaves: &[Vec<u8>]) {
    let bytes: Vec<u8> = leaves
        .iter()
        .flat_map(|leaf| [&u16::try_from(leaf.len()).unwrap().to_be_bytes()[..], leaf].concat())
        .collect();
    fs::write(directory.join(name), bytes).unwrap();
}

#[test]
fn a04_sealed_logs_of_any_size_are_clean() {
    for (sealed, count) in [
        (0, 0),
        (0, 3),
        (1, 1),
        (255, 255),
        (256, 256),
        (256, 257),
        (257, 300),
        (600, 640),
        (65_536, 65_536),
        (65_537, 65_540),
        (66_048, 66_049),
        (70_000, 70_000),
    ] {
        let directory = tempfile::tempdir().unwrap();
        Made::whole(directory.path(), sealed, count);
        let report = verify(directory.path()).unwrap();
        assert!(report.is_clean(), "{sealed} {count}: {report:?}");
        assert_eq!(
            (report.records, report.sealed),
            (count as u64, sealed as u64)
        );
        assert_eq!(report.first_bad, None);
        assert_eq!(report.keys, [key_id(1)]);
    }
}

#[test]
fn a04_each_change_of_a_sealed_log_is_detected_and_named() {
    type Change = fn(&Path, &Made);
    let cases: [(&str, Change, u64); 12] = [
        (
            "flipped bit",
            |d, _| {
                let path = d.join("tile/entries/001");
                let mut all = bytes(&path);
                let at = all
                    .windows(7)
                    .position(|w| w == b"\"deny\"," || w == b"\"allow\"")
                    .unwrap();
                all[at + 1] ^= 1;
                fs::write(path, all).unwrap();
            },
            256,
        ),
        (
            "dropped record",
            |d, made| {
                let mut leaves = made.leaves[..256].to_vec();
                leaves.remove(7);
                rebundle(d, "tile/entries/000", &leaves);
            },
            7,
        ),
        (
            "swapped records",
            |d, made| {
                let mut leaves = made.leaves[..256].to_vec();
                leaves.swap(9, 10);
                rebundle(d, "tile/entries/000", &leaves);
            },
            9,
        ),
        (
            "inserted record",
            |d, made| {
                let mut leaves = made.leaves[512..600].to_vec();
                leaves.insert(3, leaf(515, "decision", r#""forged":1,"#));
                rebundle(d, "tile/entries/002.p/88", &leaves);
            },
            515,
        ),
        (
            "duplicated record",
            |d, made| {
                let mut leaves = made.leaves[256..512].to_vec();
                leaves.insert(4, leaves[4].clone());
                rebundle(d, "tile/entries/001", &leaves);
            },
            261,
        ),
        (
            "replaced record",
            |d, made| {
                let mut leaves = made.leaves[256..512].to_vec();
                leaves[44] = leaf(300, "decision", r#""forged":1,"#);
                rebundle(d, "tile/entries/001", &leaves);
            },
            300,
        ),
        (
            "cut bundle",
            |d, _| {
                let path = d.join("tile/entries/001");
                let all = bytes(&path);
                fs::write(&path, &all[..all.len() - 10]).unwrap();
            },
            511,
        ),
        (
            "missing bundle",
            |d, _| fs::remove_file(d.join("tile/entries/001")).unwrap(),
            256,
        ),
        (
            "missing journal",
            |d, _| {
                fs::remove_file(d.join(format!("journal-{:020}.log", 600))).unwrap();
            },
            600,
        ),
        (
            "missing tile",
            |d, _| fs::remove_file(d.join("tile/0/001")).unwrap(),
            256,
        ),
        (
            "changed tile",
            |d, _| {
                let path = d.join("tile/0/000");
                let mut all = bytes(&path);
                all[32 * 5] ^= 1;
                fs::write(path, all).unwrap();
            },
            5,
        ),
        (
            "changed upper tile",
            |d, _| {
                let path = d.join("tile/1/000.p/2");
                let mut all = bytes(&path);
                all[1] ^= 1;
                fs::write(path, all).unwrap();
            },
            0,
        ),
    ];
    for (name, change, seq) in cases {
        let directory = tempfile::tempdir().unwrap();
        let made = log(directory.path());
        assert!(verify(directory.path()).unwrap().is_clean());
        change(directory.path(), &made);
        let report = verify(directory.path()).unwrap();
        assert!(!report.is_clean(), "{name}: {report:?}");
        assert_eq!(
            report.first_bad.as_ref().map(|bad| bad.seq),
            Some(seq),
            "{name}: {report:?}"
        );
    }
}

#[test]
fn a04_forged_tiles_do_not_hide_a_forged_record() {
    let directory = tempfile::tempdir().unwrap();
    let made = log(directory.path());
    let checkpoint = bytes(&directory.path().join("checkpoint"));
    let mut forged = Made::new(directory.path());
    for (seq, leaf) in made.leaves.iter().enumerate() {
        forged.push(if seq == 100 {
            self::leaf(100, "decision", r#""forged":1,"#)
        } else {
            leaf.clone()
        });
    }
    forged.seal(600);
    forged.journal(600);
    fs::write(directory.path().join("checkpoint"), checkpoint).unwrap();
    let report = verify(directory.path()).unwrap();
    assert_eq!(report.integrity, Integrity::Broken);
    assert_eq!(report.completeness, Completeness::Incomplete);
}

#[test]
fn a05_truncation_and_rollback_are_seen_against_a_checkpoint_from_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let late = log(directory.path()).note(640, 1);
    assert!(verify_against(directory.path(), &late).unwrap().is_clean());

    let rolled = tempfile::tempdir().unwrap();
    Made::whole(rolled.path(), 600, 620);
    assert!(
        verify(rolled.path()).unwrap().is_clean(),
        "by itself it is whole"
    );
    let report = verify_against(rolled.path(), &late).unwrap();
    assert_eq!(report.completeness, Completeness::Incomplete);
    assert_eq!(report.integrity, Integrity::Intact);
    assert_eq!(report.first_bad.unwrap().seq, 620);

    let other_key = tempfile::tempdir().unwrap();
    let made = Made::whole(other_key.path(), 600, 640);
    made.checkpoint(640, 2);
    let evidence = Evidence {
        public_key: Some(verifier_key(1)),
        ..Evidence::default()
    };
    let report = verify_with(other_key.path(), &evidence).unwrap();
    assert!(
        matches!(report.completeness, Completeness::Unproven { .. }),
        "{report:?}"
    );
}

#[test]
fn the_key_chain_is_followed_from_the_first_key_and_an_unannounced_key_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let mut made = Made::new(directory.path());
    made.fill(300);
    made.checkpoint(300, 1);
    made.rotate(1, 2);
    made.checkpoint(301, 1);
    made.fill(500);
    made.checkpoint(400, 2);
    made.rotate(2, 3);
    made.checkpoint(501, 2);
    made.fill(600);
    made.seal(520);
    made.journal(520);
    made.checkpoint(600, 3);
    for key in [None, Some(1), Some(2), Some(3)] {
        let evidence = Evidence {
            public_key: key.map(verifier_key),
            ..Evidence::default()
        };
        let report = verify_with(directory.path(), &evidence).unwrap();
        assert!(report.is_clean(), "{key:?}: {report:?}");
        let first = key.unwrap_or(1);
        let expected: Vec<String> = (first..=3).map(key_id).collect();
        assert_eq!(report.keys, expected);
    }
    // Signed with a key that nobody announced.
    made.checkpoint(600, 4);
    let report = verify(directory.path()).unwrap();
    assert!(
        matches!(report.completeness, Completeness::Unproven { .. }),
        "{report:?}"
    );
    // Signed with a key that was retired long ago.
    made.checkpoint(600, 1);
    let report = verify(directory.path()).unwrap();
    assert!(
        matches!(&report.completeness, Completeness::Unproven { reason } if reason.contains("retired")),
        "{report:?}"
    );
}

#[test]
fn the_same_announcement_twice_is_one_and_another_key_under_the_old_one_is_refused() {
    for (repeated, clean) in [(2, true), (3, false)] {
        let directory = tempfile::tempdir().unwrap();
        let mut made = Made::new(directory.path());
        made.fill(300);
        made.rotate(1, 2);
        made.checkpoint(301, 1);
        made.rotate(1, repeated);
        made.fill(400);
        made.rotate(2, 4);
        made.checkpoint(401, 2);
        made.fill(600);
        made.seal(520);
        made.journal(520);
        made.checkpoint(600, 4);
        let report = verify(directory.path()).unwrap();
        assert_eq!(report.is_clean(), clean, "{report:?}");
    }
}

/// A log of 131,383 records, of which the last but one says that those before `minimum` go.
fn with_pruning(directory: &Path, minimum: usize) -> Made {
    let mut made = Made::new(directory);
    made.fill(131_072 + 309);
    let fields = format!(r#""upkeep":{{"minimum":{minimum}}},"#);
    made.push(leaf(made.leaves.len(), "retention.prune", &fields));
    made.fill(131_072 + 311);
    made.seal(131_072 + 300);
    made.journal(131_072 + 300);
    made.checkpoint(131_072 + 310, 1);
    made
}

/// The records before 65,536 are gone.
fn prune(made: &Made) {
    for number in 0..256 {
        fs::remove_file(made.directory.join(tile("entries", number, 256))).unwrap();
        fs::remove_file(made.directory.join(tile("0", number, 256))).unwrap();
    }
    made.write("pruned.json", br#"{"minimum": 65536}"#);
}

#[test]
fn a04_records_that_are_gone_without_a_record_of_it_are_missing() {
    for (minimum, covered, explained) in [
        (65_536, 131_382, true),
        (65_536, 131_381, false),
        (65_280, 131_382, false),
        (131_072, 131_382, true),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let made = with_pruning(directory.path(), minimum);
        fs::remove_dir_all(directory.path().join("checkpoints")).unwrap();
        made.checkpoint(covered, 1);
        assert!(verify(directory.path()).unwrap().is_clean());
        prune(&made);
        let report = verify(directory.path()).unwrap();
        assert_eq!(report.integrity, Integrity::Intact, "{report:?}");
        assert_eq!(report.is_clean(), explained, "{minimum} {covered}");
        if !explained {
            assert_eq!(report.completeness, Completeness::Incomplete);
            let bad = report.first_bad.unwrap();
            assert_eq!(bad.seq, 0);
            assert!(bad.problem.contains("pruned"), "{}", bad.problem);
        }
    }
}

#[test]
fn a_segment_that_is_not_there_is_an_error_and_never_another_ones_verdict() {
    let directory = tempfile::tempdir().unwrap();
    let made = with_pruning(directory.path(), 65_536);
    prune(&made);
    for (seq, there) in [
        (0, false),
        (65_535, false),
        (65_536, true),
        (131_382, true),
        (131_383, false),
        (u64::MAX, false),
    ] {
        let evidence = Evidence {
            segment_of: Some(seq),
            ..Evidence::default()
        };
        let verified = verify_with(directory.path(), &evidence);
        assert_eq!(
            verified.is_ok_and(|report| report.is_clean()),
            there,
            "{seq}"
        );
    }
    // Cut off, it is missing, and no mistake of whoever asks.
    fs::remove_file(
        directory
            .path()
            .join(format!("journal-{:020}.log", 131_372)),
    )
    .unwrap();
    let evidence = Evidence {
        segment_of: Some(131_380),
        ..Evidence::default()
    };
    let report = verify_with(directory.path(), &evidence).unwrap();
    assert_eq!(report.completeness, Completeness::Incomplete);
}

#[test]
fn a_pruned_log_is_proven_by_its_tiles_and_a_segment_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let made = with_pruning(directory.path(), 65_536);
    let evidence = Evidence {
        segment_of: Some(70_000),
        ..Evidence::default()
    };
    let report = verify_with(directory.path(), &evidence).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.checked, Some((65_536, 131_072)));

    prune(&made);
    let report = verify(directory.path()).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.pruned_below, 65_536);

    let path = directory.path().join(tile("entries", 300, 256));
    let mut all = bytes(&path);
    let at = all.windows(7).position(|w| w == b"\"allow\"").unwrap();
    all[at + 1] ^= 1;
    fs::write(&path, all).unwrap();
    let report = verify_with(directory.path(), &evidence).unwrap();
    assert_eq!(report.first_bad.unwrap().seq, 300 * 256);
    let evidence = Evidence {
        segment_of: Some(131_100),
        ..Evidence::default()
    };
    assert!(
        verify_with(directory.path(), &evidence).unwrap().is_clean(),
        "another segment"
    );
}

#[test]
fn a_journal_that_is_not_yet_dropped_counts_and_unfinished_tiles_do_not() {
    let directory = tempfile::tempdir().unwrap();
    let made = Made::whole(directory.path(), 256, 700);
    // A sealing that a kill cut short: bundles, some tiles, no more.
    made.seal(600);
    fs::remove_file(directory.path().join("tile/0/002.p/88")).unwrap();
    let report = verify(directory.path()).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.sealed, 256);
}
