//! Proofs from logs made by the specifications are accepted, and changed ones are not.

use crate::verify::{ProofReport, made::*, verify_proof};

use super::*;

fn whole(sealed: usize, count: usize) -> (tempfile::TempDir, Made) {
    let directory = tempfile::tempdir().unwrap();
    let made = Made::whole(directory.path(), sealed, count);
    (directory, made)
}

#[test]
fn every_record_has_a_proof_that_verifies() {
    for (sealed, count) in [(0, 1), (0, 7), (256, 256), (300, 517), (600, 600)] {
        let (directory, made) = whole(sealed, count);
        for seq in 0..count {
            let proof = inclusion(directory.path(), seq as u64).unwrap();
            let text = proof.to_text();
            let report = verify_proof(&text, &verifier_key(1), None).unwrap();
            let ProofReport::Inclusion {
                seq: proven,
                record,
                size,
                ..
            } = report
            else {
                panic!("{text}");
            };
            assert_eq!((proven, size), (seq as u64, count as u64));
            assert_eq!(record.as_bytes(), made.leaves[seq]);
        }
        assert!(inclusion(directory.path(), count as u64).is_err());
    }
}

#[test]
fn a04_changed_proofs_are_refused() {
    let (directory, _) = whole(300, 517);
    let text = inclusion(directory.path(), 301).unwrap().to_text();
    let other = inclusion(directory.path(), 302).unwrap().to_text();
    let key = verifier_key(1);
    verify_proof(&text, &key, None).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let other: Vec<&str> = other.lines().collect();
    let table = [
        ("other record", text.replace(lines[1], other[1])),
        ("other index", text.replace("index 301", "index 302")),
        (
            "hash missing",
            text.replacen(&format!("{}\n", lines[3]), "", 1),
        ),
        (
            "hash twice",
            text.replacen(lines[3], &format!("{}\n{}", lines[3], lines[3]), 1),
        ),
        ("other size", text.replace("\n517\n", "\n518\n")),
        ("leading zero", text.replace("index 301", "index 0301")),
        (
            "no record",
            text.replacen(&format!("{}\n", lines[1]), "", 1),
        ),
        ("other kind", text.replace("tlog-proof@v1", "tlog-proof@v2")),
    ];
    for (name, changed) in table {
        assert_ne!(changed, text, "{name}");
        assert!(verify_proof(&changed, &key, None).is_err(), "{name}");
    }
    assert!(
        verify_proof(&text, &verifier_key(2), None).is_err(),
        "other key"
    );
}

#[test]
fn a05_consistency_is_proven_between_any_sizes_and_a_replaced_log_has_none() {
    let (directory, made) = whole(300, 517);
    let key = verifier_key(1);
    for old in (0..=517).step_by(3).chain([256, 300, 512, 517]) {
        let text = consistency(directory.path(), old, None).unwrap().to_text();
        let against = made.note(usize::try_from(old).unwrap(), 1);
        let report = verify_proof(&text, &key, Some(&against)).unwrap();
        let expected = ProofReport::Consistency {
            origin: NAME.into(),
            old_size: old,
            new_size: 517,
        };
        assert_eq!(report, expected);
    }
    let text = consistency(directory.path(), 100, None).unwrap().to_text();
    let mut other = Made::new(directory.path());
    for seq in 0..100 {
        other.push(leaf(seq, "decision", r#""forged":1,"#));
    }
    assert!(
        verify_proof(&text, &key, Some(&other.note(100, 1))).is_err(),
        "replaced"
    );
    assert!(
        verify_proof(&text, &key, Some(&made.note(101, 1))).is_err(),
        "other size"
    );
    assert!(
        verify_proof(&text, &key, Some(&made.note(100, 2))).is_err(),
        "other key"
    );
    assert!(
        verify_proof(&text, &key, None).is_err(),
        "nothing to hold it against"
    );
    assert!(consistency(directory.path(), 518, None).is_err());
    assert!(
        consistency(directory.path(), 1, Some(400)).is_err(),
        "no such checkpoint"
    );
}

#[test]
fn damaged_files_give_no_proof() {
    let (directory, _) = whole(600, 600);
    std::fs::write(directory.path().join("tile/0/001"), [0; 256 * 32]).unwrap();
    assert!(inclusion(directory.path(), 300).is_err());
    assert!(
        inclusion(directory.path(), 3).is_ok(),
        "its hashes are above that tile"
    );
    std::fs::remove_file(directory.path().join("tile/0/000")).unwrap();
    let error = inclusion(directory.path(), 3).unwrap_err().to_string();
    assert!(error.contains("tile 0/0 is missing"), "{error}");
}

#[test]
fn a_record_is_found_by_its_id() {
    let (directory, _) = whole(300, 517);
    for seq in [0_u64, 255, 299, 300, 516] {
        let id = format!("01890a5d-ac96-774b-bcce-{seq:012x}")
            .parse()
            .unwrap();
        assert_eq!(seq_of(directory.path(), RecordId(id)).unwrap(), seq);
    }
    let absent = RecordId("01890a5d-ac96-774b-bcce-ffffffffffff".parse().unwrap());
    assert!(seq_of(directory.path(), absent).is_err());
}

#[test]
fn leaves_go_on_with_what_is_written_since() {
    let (directory, mut made) = whole(256, 300);
    let mut leaves = Leaves::from(directory.path(), 250);
    assert_eq!(leaves.by_ref().count(), 50);
    made.fill(310);
    made.journal(256);
    assert_eq!(
        leaves
            .by_ref()
            .map(|leaf| leaf.unwrap().0)
            .collect::<Vec<_>>(),
        (300..310).collect::<Vec<_>>()
    );
    made.fill(400);
    made.seal(350);
    made.journal(350);
    std::fs::remove_file(directory.path().join(format!("journal-{:020}.log", 256))).unwrap();
    assert_eq!(
        leaves.map(|leaf| leaf.unwrap().0).collect::<Vec<_>>(),
        (310..400).collect::<Vec<_>>()
    );
}
