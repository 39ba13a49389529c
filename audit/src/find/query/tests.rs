//! Queries: by field, by time, by text, page by page, in both orders, with and without postings.

use std::fs;

use super::*;
use crate::find::{
    count::count_by,
    fixture::{self, host, session, time, write_log},
    postings,
};

const SIZE: u64 = 1300;

fn log() -> (tempfile::TempDir, Reader) {
    let directory = tempfile::tempdir().unwrap();
    write_log(directory.path(), &[512, 1024, 1100], SIZE);
    let reader = Reader::open(directory.path()).unwrap();
    (directory, reader)
}

fn seqs(page: &Page) -> Vec<u64> {
    page.records.iter().map(|record| record.seq).collect()
}

/// By reading every record.
fn slowly(query: &Query) -> Vec<u64> {
    let fits = |seq: &u64| query.matches(&fixture::record(*seq));
    (0..SIZE).filter(fits).collect()
}

fn queries() -> Vec<Query> {
    let by = |conditions: Vec<Condition>| Query {
        conditions,
        ..Query::default()
    };
    let pattern = |field, text: &str| Condition {
        field,
        any: vec![text.parse().unwrap()],
    };
    vec![
        Query::default(),
        by(vec![Condition::is(Field::Session, &session(777))]),
        by(vec![Condition::is(Field::Session, &session(1250))]),
        by(vec![Condition::is(Field::Session, "nobody's")]),
        by(vec![
            Condition::is(Field::Host, &host(3)),
            Condition::is(Field::Effect, "deny"),
        ]),
        by(vec![Condition {
            field: Field::Rule,
            any: vec![Pattern::exact("rule-1"), Pattern::exact("rule-2")],
        }]),
        by(vec![pattern(Field::Resource, "h5.*")]),
        by(vec![
            pattern(Field::Host, "*.example.com"),
            pattern(Field::Session, "*-01*"),
        ]),
        Query {
            since_us: Some(time(500)),
            until_us: Some(time(1200)),
            conditions: vec![Condition::is(Field::Effect, "deny")],
            ..Query::default()
        },
        Query {
            text: Some("H6.EXAMPLE".into()),
            ..Query::default()
        },
        Query {
            text: Some("dport".into()),
            ..Query::default()
        },
    ]
}

#[test]
fn queries_find_what_reading_every_record_finds() {
    let (_directory, reader) = log();
    for query in queries() {
        let want = slowly(&query);
        for scan in [false, true] {
            let query = Query {
                scan,
                order: Order::OldestFirst,
                ..query.clone()
            };
            let page = query.page(&reader, 10_000).unwrap();
            assert_eq!(seqs(&page), want, "{query:?}");
            assert_eq!(page.next, None);
            let query = Query {
                order: Order::NewestFirst,
                ..query
            };
            let mut newest = seqs(&query.page(&reader, 10_000).unwrap());
            newest.reverse();
            assert_eq!(newest, want, "{query:?}");
        }
    }
    let nothing = slowly(&queries()[10]);
    assert!(nothing.is_empty(), "names of fields are not found");
}

#[test]
fn pages_follow_one_on_another_without_gap_or_repeat() {
    let (_directory, reader) = log();
    for order in [Order::NewestFirst, Order::OldestFirst] {
        for query in queries() {
            let mut want = slowly(&query);
            if order == Order::NewestFirst {
                want.reverse();
            }
            let mut query = Query { order, ..query };
            let mut found = Vec::new();
            loop {
                let page = query.page(&reader, 97).unwrap();
                assert!(page.records.len() <= 97);
                found.extend(seqs(&page));
                let Some(next) = page.next else { break };
                assert_eq!(
                    page.records.len(),
                    97,
                    "a page is full when another follows"
                );
                query.cursor = Some(next);
            }
            assert_eq!(found, want, "{query:?}");
        }
    }
}

#[test]
fn counts_are_those_of_the_records() {
    let (_directory, reader) = log();
    for query in queries() {
        for field in [Field::Host, Field::Effect, Field::Rule, Field::Session] {
            let mut want = std::collections::BTreeMap::new();
            for seq in slowly(&query) {
                for (of, value) in keys::of(&fixture::record(seq)) {
                    if of == field {
                        *want.entry(value.to_owned()).or_insert(0) += 1;
                    }
                }
            }
            let counts = count_by(&reader, &query, field).unwrap();
            assert!(
                counts
                    .windows(2)
                    .all(|pair| pair[0].records >= pair[1].records)
            );
            let found = counts
                .into_iter()
                .map(|count| (count.value.unwrap(), count.records));
            assert_eq!(
                found.collect::<std::collections::BTreeMap<_, _>>(),
                want,
                "{query:?}"
            );
        }
    }
}

#[test]
fn postings_that_are_missing_or_damaged_are_made_again() {
    let (directory, reader) = log();
    let query = &queries()[4];
    let path = postings::path_of(directory.path(), 512);
    assert!(!path.exists());
    query.page(&reader, 10_000).unwrap();
    let whole = fs::read(&path).unwrap();
    for at in [0, 30, 80, whole.len() / 2, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&path, damaged).unwrap();
        let page = query.page(&reader, 10_000).unwrap();
        assert_eq!(page.records.len(), slowly(query).len(), "byte {at}");
    }
    fs::write(&path, b"").unwrap();
    query.page(&reader, 10_000).unwrap();
    assert_eq!(fs::read(&path).unwrap(), whole);
}

#[test]
fn a04_a_missing_bundle_is_an_error_and_not_an_empty_answer() {
    let (directory, reader) = log();
    let query = Query::default();
    assert_eq!(query.page(&reader, 5_000).unwrap().records.len(), 1300);
    fs::remove_file(directory.path().join("tile/entries/002")).unwrap();
    let error = query.page(&reader, 5_000).unwrap_err();
    assert!(error.to_string().contains("audit verify"), "{error}");
}

#[test]
fn postings_that_name_other_records_show_none_that_does_not_fit() {
    let (directory, reader) = log();
    let path = postings::path_of(directory.path(), 0);
    // Somebody's own postings: every record has session 0.
    let mut builder = postings::Builder::new(0);
    for seq in 0..512 {
        let mut record = fixture::record(seq);
        record.session = Some(session(0));
        let leaf = serde_json::to_vec(&record).unwrap();
        builder.add_leaf(record.seq, &leaf).unwrap();
    }
    fs::write(path, builder.finish().unwrap()).unwrap();
    let query = Query {
        conditions: vec![Condition::is(Field::Session, &session(0))],
        ..Query::default()
    };
    let page = query.page(&reader, 1000).unwrap();
    assert_eq!(page.records.len(), 10);
}

#[test]
fn patterns_are_open_where_the_star_is() {
    for (pattern, value, fits) in [
        ("abc", "abc", true),
        ("abc", "abcd", false),
        ("abc*", "abcd", true),
        ("*bcd", "abcd", true),
        ("*bc*", "abcd", true),
        ("*bc", "abcd", false),
        ("*", "", true),
    ] {
        let Ok(parsed) = pattern.parse::<Pattern>();
        assert_eq!(parsed.accepts(value), fits, "{pattern} {value}");
    }
    assert!(!Pattern::exact("a*").accepts("ab"));
}
