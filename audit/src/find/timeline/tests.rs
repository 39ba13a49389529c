//! Timelines: repeats are one line, ends belong to what they end, firsts are marked once.

use super::*;
use crate::find::fixture::record;

/// A decision about host `host`.
fn decision(seq: u64, host: u64, refused: bool) -> Record {
    // The fixture's host is the seventh, its effect the fifth of the sequence.
    let shape = (0..35)
        .find(|n| n % 7 == host && (n % 5 == 0) == refused)
        .unwrap();
    let mut made = record(shape);
    made.seq = seq;
    made.id = RecordId(uuid::Uuid::from_u128(u128::from(seq) + 100));
    made.ts_us = seq;
    made.rules = Some(Vec::new());
    made
}

fn end(seq: u64, of: &Record, end: &str) -> Record {
    let mut made = record(1);
    made.kind = Kind::FlowClose;
    made.decision = Some(of.id);
    made.seq = seq;
    made.effect = None;
    made.resource = None;
    made.bytes_in = Some(10);
    made.bytes_out = Some(1);
    made.end = Some(end.into());
    made
}

#[test]
fn repeats_are_one_line_with_the_bytes_of_all_their_flows() {
    let first = decision(1, 1, false);
    let again = decision(2, 1, false);
    let other = decision(5, 2, false);
    let records = [
        first.clone(),
        again.clone(),
        end(3, &first, "completed"),
        end(4, &again, "connect_failed"),
        other,
        decision(6, 1, false),
    ];
    let lines = timeline(&records, |_| true);
    let shown: Vec<_> = lines
        .iter()
        .map(|l| (l.count, l.bytes_in, l.bytes_out, l.unreached))
        .collect();
    assert_eq!(shown, [(2, 20, 2, 1), (1, 0, 0, 0), (1, 0, 0, 0)]);
    assert_eq!((lines[0].record.ts_us, lines[0].until_us), (1, 2));
    assert!(lines.iter().all(|line| line.marks.is_empty()));
}

#[test]
fn the_first_refusal_and_new_destinations_are_marked_once() {
    let records = [
        decision(1, 1, false),
        decision(2, 2, false),
        decision(3, 2, true),
        decision(4, 2, true),
        decision(5, 3, true),
    ];
    let lines = timeline(&records, |destination| destination.starts_with("h1."));
    assert_eq!(lines[2].count, 2, "the second refusal is the same again");
    let marks: Vec<_> = lines.iter().map(|line| line.marks.as_slice()).collect();
    assert_eq!(
        marks,
        [
            &[] as &[Mark],
            &[Mark::NewDestination],
            &[Mark::FirstDeny],
            &[Mark::NewDestination],
        ]
    );
}

#[test]
fn an_end_whose_beginning_is_not_there_is_a_line_of_its_own() {
    let lost = decision(1, 1, false);
    let records = [end(2, &lost, "reset")];
    let lines = timeline(&records, |_| true);
    assert_eq!((lines.len(), lines[0].bytes_in), (1, 10));
}
