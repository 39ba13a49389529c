//! `cordon audit stats`: what is in the log, in numbers.

use std::{io::Write as _, path::PathBuf};

use clap::Args;
use cordon_audit::{
    find::{Count, Field, Order, Query, count_by},
    read::Reader,
    rfc3339,
};
use serde_json::json;

use super::{
    Format, directory,
    filters::{FilterArgs, now_us},
    json_line, open_log, still_read,
    table::{Column, Table, terminal_width},
};
use crate::error::Failure;

/// Options of `cordon audit stats`.
#[derive(Debug, Args)]
pub struct StatsArgs {
    #[command(flatten)]
    filters: FilterArgs,
    /// At most so many values of each field
    #[arg(long, default_value_t = 10)]
    top: u16,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The log's directory, when it is not the user's own
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

/// What is counted, with the words for it.
const COUNTED: [(Field, &str); 8] = [
    (Field::Kind, "kinds"),
    (Field::Effect, "effects"),
    (Field::Action, "actions"),
    (Field::Reason, "reasons"),
    (Field::Rule, "rules"),
    (Field::Host, "hosts"),
    (Field::Session, "sessions"),
    (Field::Policy, "policies"),
];

/// Does it.
pub fn stats(args: &StatsArgs) -> Result<u8, Failure> {
    let query = args.filters.query(now_us())?;
    let reader = open_log(&directory(args.log.as_ref())?)?;
    let (oldest, newest) = span(&reader, &query)?;
    let counts = COUNTED
        .iter()
        .map(|(field, name)| Ok((*name, count_by(&reader, &query, *field)?)))
        .collect::<Result<Vec<_>, Failure>>()?;
    // Every record has just one kind.
    let records: u64 = counts.first().map_or(0, |(_, kinds)| {
        kinds.iter().map(|count| count.records).sum()
    });
    let text = match args.format {
        Format::Json => as_json(records, oldest, newest, &counts, args.top),
        Format::Text => {
            let time = |us: Option<u64>| us.map_or("-".into(), rfc3339);
            let head = format!(
                "records  {records}\nfrom     {}\nto       {}\n",
                time(oldest),
                time(newest)
            );
            let tables = counts.iter().filter(|(_, counts)| !counts.is_empty());
            head + &tables
                .map(|(name, counts)| table(name, counts, args.top))
                .collect::<String>()
        }
    };
    still_read(std::io::stdout().lock().write_all(text.as_bytes()))?;
    Ok(0)
}

/// Times of the first and the last record that fits.
fn span(reader: &Reader, query: &Query) -> Result<(Option<u64>, Option<u64>), Failure> {
    let end = |order| {
        let query = Query {
            order,
            ..query.clone()
        };
        let page = query.page(reader, 1)?;
        Ok::<_, Failure>(page.records.first().map(|record| record.ts_us))
    };
    Ok((end(Order::OldestFirst)?, end(Order::NewestFirst)?))
}

fn table(name: &str, counts: &[Count], top: u16) -> String {
    let columns = [Column::number("RECORDS"), Column::cut("VALUE")];
    let mut table = Table::new(&columns, terminal_width());
    let top = counts.len().min(top.into());
    for count in counts.get(..top).unwrap_or(counts) {
        table.add([
            &count.records.to_string(),
            count.value.as_deref().unwrap_or("(others)"),
        ]);
    }
    let more = match counts.len() - top {
        0 => String::new(),
        more => format!(", {more} more"),
    };
    let rows = table.render(|_, cell| cell.into());
    let rows = rows.split_once('\n').map_or("", |(_names, rows)| rows);
    format!("\n{name}: {}{more}\n{rows}", counts.len())
}

fn as_json(
    records: u64,
    oldest: Option<u64>,
    newest: Option<u64>,
    counts: &[(&str, Vec<Count>)],
    top: u16,
) -> String {
    let mut object = json!({
        "records": records,
        "from": oldest.map(rfc3339),
        "to": newest.map(rfc3339),
    });
    for (name, counts) in counts {
        let shown = counts.iter().take(top.into());
        let shown: Vec<_> = shown
            .map(|count| json!({"value": count.value, "records": count.records}))
            .collect();
        if let Some(fields) = object.as_object_mut() {
            fields.insert(
                (*name).into(),
                json!({"distinct": counts.len(), "top": shown}),
            );
        }
    }
    format!("{}\n", json_line(object.to_string()))
}
