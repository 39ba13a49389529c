//! A session as a timeline: repeats in one line, the first refusal and new destinations marked.

use std::{
    collections::HashSet,
    io::{self, Write as _},
};

use cordon_audit::{
    Record,
    find::{Condition, Field, Line, Mark, Pattern, Query, count_by, timeline},
    read::Reader,
};

use super::super::{
    Format, row, still_read,
    table::{Column, Table, colours, terminal_width},
    write_record,
};
use crate::{
    error::Failure,
    summary::{Summary, bytes, render},
};

/// Shows the records of one session.
pub fn show(reader: &Reader, records: &[Record], format: Format) -> Result<u8, Failure> {
    let mut out = io::stdout().lock();
    if format == Format::Json {
        for record in records {
            if !write_record(&mut out, record, format)? {
                break;
            }
        }
        return Ok(0);
    }
    let known = known_before(reader, records)?;
    let lines = timeline(records, |destination| known.contains(destination));
    let session = records.first().and_then(|record| record.session.as_deref());
    let summary = Summary::of(session.unwrap_or_default(), records);
    let text = format!("{}\n{}", table(&lines), render(&summary, colours()));
    still_read(out.write_all(text.as_bytes()))?;
    Ok(0)
}

/// Which of the session's destinations the log knew before it.
fn known_before(reader: &Reader, records: &[Record]) -> Result<HashSet<String>, Failure> {
    let Some(first) = records.first() else {
        return Ok(HashSet::new());
    };
    let destination = |record: &Record| {
        let resource = record.resource.as_ref()?;
        (resource.kind == "network").then(|| resource.id.clone())
    };
    let destinations: HashSet<String> = records.iter().filter_map(destination).collect();
    if destinations.is_empty() {
        return Ok(destinations);
    }
    let query = Query {
        conditions: vec![Condition {
            field: Field::Resource,
            any: destinations
                .iter()
                .map(|text| Pattern::exact(text))
                .collect(),
        }],
        until_us: Some(first.ts_us),
        ..Query::default()
    };
    let counts = count_by(reader, &query, Field::Resource)?;
    Ok(counts.into_iter().filter_map(|count| count.value).collect())
}

fn table(lines: &[Line<'_>]) -> String {
    let columns = [
        Column::new("TIME (UTC)"),
        Column::new("EFFECT"),
        Column::number("TIMES"),
        Column::cut("WHAT"),
        Column::cut("WHY"),
        Column::new("BYTES IN/OUT"),
        Column::new("NOTE"),
        Column::new("RECORD"),
    ];
    let mut table = Table::new(&columns, terminal_width());
    for line in lines {
        let moved = match (line.bytes_in, line.bytes_out) {
            (0, 0) => String::new(),
            (to, from) => format!("{}/{}", bytes(to), bytes(from)),
        };
        table.add([
            &row::time(line.record),
            &row::outcome(line.record),
            &match line.count {
                1 => String::new(),
                count => format!("×{count}"),
            },
            &row::what(line.record),
            &row::why(line.record),
            &moved,
            &note(line),
            &line.record.seq.to_string(),
        ]);
    }
    let colour = colours();
    table.render(|column, cell| match (column, cell.trim_end_matches('*')) {
        ("EFFECT", "allow") if colour => format!("\x1b[32m{cell}\x1b[0m"),
        ("EFFECT", "deny" | "ask" | "error") if colour => format!("\x1b[31m{cell}\x1b[0m"),
        ("NOTE", note) if colour && !note.is_empty() => format!("\x1b[1m{cell}\x1b[0m"),
        _other => cell.into(),
    })
}

fn note(line: &Line<'_>) -> String {
    let mark = |mark: &Mark| match mark {
        Mark::FirstDeny => "first deny".to_owned(),
        Mark::NewDestination => "new destination".to_owned(),
    };
    let unreached = (line.unreached > 0).then(|| format!("{} did not reach it", line.unreached));
    line.marks
        .iter()
        .map(mark)
        .chain(unreached)
        .collect::<Vec<_>>()
        .join(", ")
}
