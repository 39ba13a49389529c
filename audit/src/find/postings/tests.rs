//! Postings: everything is found, nothing else, damage is noticed, and they stay small.

use super::*;
use crate::find::{
    fixture::{leaf, record, session},
    keys,
};

fn written(range: &Range<u64>) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = path_of(directory.path(), range.start);
    let leaves: Vec<(u64, Vec<u8>)> = range.clone().map(|seq| (seq, leaf(seq))).collect();
    let mut leaves = leaves.iter().map(|(seq, leaf)| (*seq, leaf.as_slice()));
    write(&path, range.start, &mut leaves).unwrap();
    (directory, path)
}

fn seqs(postings: &Postings, list: &RoaringBitmap) -> Vec<u64> {
    let first = postings.range().start;
    list.iter()
        .map(|offset| first + u64::from(offset))
        .collect()
}

#[test]
fn every_term_of_every_record_is_found_and_no_other() {
    let range = 512..1500;
    let (_directory, path) = written(&range);
    let postings = Postings::open(&path, &range).unwrap();
    for field in Field::ALL {
        let mut values: Vec<String> = Vec::new();
        for seq in range.clone() {
            let record = record(seq);
            let found = keys::of(&record).into_iter().filter(|(of, _)| *of == field);
            values.extend(found.map(|(_, value)| value.to_owned()));
        }
        values.sort();
        values.dedup();
        for value in &values {
            let want: Vec<u64> = range
                .clone()
                .filter(|seq| keys::of(&record(*seq)).contains(&(field, value)))
                .collect();
            let found = postings.lookup(field, value).unwrap();
            assert_eq!(seqs(&postings, &found), want, "{field:?} {value}");
        }
        let terms = postings.terms_of(field).unwrap();
        let named: Vec<_> = terms
            .into_iter()
            .filter_map(|(term, _)| term.value)
            .collect();
        assert_eq!(named, values, "{field:?}");
    }
}

#[test]
fn absent_terms_cost_one_read_and_find_nothing() {
    let range = 0..600;
    let (_directory, path) = written(&range);
    let postings = Postings::open(&path, &range).unwrap();
    let may_hold = |n: &u32| {
        postings
            .filter
            .may_hold(Field::Session, &format!("absent-{n}"))
    };
    let (erring, absent): (Vec<u32>, Vec<u32>) = (0..1000).partition(may_hold);
    assert!(erring.len() < 30, "{} of 1000", erring.len());
    for n in absent {
        let found = postings
            .lookup(Field::Session, &format!("absent-{n}"))
            .unwrap();
        assert!(found.is_empty());
    }
    assert!(postings.terms.get().is_none(), "nothing more was read");
    for n in erring {
        let found = postings
            .lookup(Field::Session, &format!("absent-{n}"))
            .unwrap();
        assert!(
            found.is_empty(),
            "the twin: the terms know better than the filter"
        );
    }
    let one = postings.lookup(Field::Session, &session(0)).unwrap();
    assert_eq!(seqs(&postings, &one), (0..10).collect::<Vec<_>>());
}

#[test]
fn a_field_with_very_many_values_stays_bounded_and_loses_nothing() {
    let value = |seq: u64| format!("{seq:06}-{}", "x".repeat(1017));
    let count = u64::try_from(MAX_VALUES_BYTES / 1024).unwrap() + 300;
    let mut builder = Builder::new(0);
    for seq in 0..count {
        let mut record = record(seq);
        record.resource.as_mut().unwrap().id = value(seq);
        let leaf = serde_json::to_vec(&record).unwrap();
        builder.add_leaf(record.seq, &leaf).unwrap();
    }
    let postings = Postings::of_bytes(builder.finish().unwrap(), &(0..count)).unwrap();
    assert!(postings.is_partial(Field::Resource));
    assert!(
        !postings.is_partial(Field::Host),
        "the twin: a field with few values"
    );
    let named = postings.lookup(Field::Resource, &value(5)).unwrap();
    assert_eq!(seqs(&postings, &named), [5]);
    let last = count - 1;
    let other = postings.lookup(Field::Resource, &value(last)).unwrap();
    assert!(
        seqs(&postings, &other).contains(&last),
        "it is among the candidates"
    );
    assert_eq!(other.len(), 300);
    let open = postings
        .lookup_if(Field::Resource, &|found| found == value(5))
        .unwrap();
    assert!(open.contains(5) && open.len() == 301);
}

#[test]
fn damage_anywhere_is_noticed() {
    let range = 0..700;
    let (_directory, path) = written(&range);
    let whole = std::fs::read(&path).unwrap();
    let read_all = |bytes: Vec<u8>| -> io::Result<u64> {
        let postings = Postings::of_bytes(bytes, &range)?;
        let mut sum = 0;
        for field in Field::ALL {
            for (_, list) in postings.terms_of(field)? {
                sum += list.len();
            }
        }
        Ok(sum)
    };
    let sum = read_all(whole.clone()).unwrap();
    assert!(sum > 700);
    for at in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        assert!(read_all(bytes).is_err(), "byte {at} of {}", whole.len());
        assert!(read_all(whole[..at].to_vec()).is_err(), "cut at {at}");
    }
    let other = Postings::of_bytes(whole, &(0..701));
    assert!(other.is_err(), "they are of other records");
}

#[test]
fn leaves_that_do_not_follow_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = path_of(directory.path(), 0);
    let (zero, two, bad) = (leaf(0), leaf(2), b"{}".to_vec());
    for leaves in [
        vec![(0, &zero), (2, &two)],
        vec![(0, &bad)],
        vec![(0, &two)],
    ] {
        let mut leaves = leaves.into_iter().map(|(seq, leaf)| (seq, leaf.as_slice()));
        assert!(write(&path, 0, &mut leaves).is_err());
        assert!(!path.exists());
    }
    write(&path, 0, &mut [(0, zero.as_slice())].into_iter()).unwrap();
    assert!(path.exists());
}

#[test]
fn postings_are_small_beside_the_records() {
    let range = 0..20_000;
    let (_directory, path) = written(&range);
    let raw: usize = range.clone().map(|seq| leaf(seq).len()).sum();
    let size = usize::try_from(std::fs::metadata(path).unwrap().len()).unwrap();
    assert!(size * 50 < raw, "{size} of {raw} bytes");
}
