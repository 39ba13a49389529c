//! `cordon audit query`: records by filter, page by page, or counted.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::{Args, ValueEnum};
use cordon_audit::{
    Record,
    find::{Count, Field, Order, Page, count_by},
};
use serde_json::json;

use super::{
    directory,
    filters::{FilterArgs, now_us},
    json_line, open_log, row, still_read,
    table::{Column, Table, colours, terminal_width},
};
use crate::error::Failure;

/// Options of `cordon audit query`.
#[derive(Debug, Args)]
pub struct QueryArgs {
    #[command(flatten)]
    filters: FilterArgs,
    /// Count the records by the values of a field instead of showing them
    #[arg(long, value_name = "FIELD", value_parser = field)]
    count_by: Option<Field>,
    /// At most so many records, or lines of a count
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Where the page before ended, as it said itself
    #[arg(long, value_name = "C")]
    cursor: Option<u64>,
    /// The oldest first
    #[arg(long)]
    oldest_first: bool,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: QueryFormat,
    /// The log's directory, when it is not the user's own
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

/// How the results of a query are printed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum QueryFormat {
    /// For people
    #[default]
    #[value(alias = "text")]
    Table,
    /// One object: the records and the next cursor
    Json,
    /// One record a line
    Jsonl,
    /// Comma-separated, with a line of names
    Csv,
}

/// Does it.
pub fn query(args: &QueryArgs) -> Result<u8, Failure> {
    let mut query = args.filters.query(now_us())?;
    query.cursor = args.cursor;
    if args.oldest_first {
        query.order = Order::OldestFirst;
    }
    let reader = open_log(&directory(args.log.as_ref())?)?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let text = match args.count_by {
        Some(field) => counted(
            &count_by(&reader, &query, field)?,
            field,
            limit,
            args.format,
        )?,
        None => {
            let page = query.page(&reader, limit)?;
            if args.format != QueryFormat::Json
                && let Some(next) = page.next
            {
                eprintln!("there is more: --cursor {next}");
            }
            listed(&page, args.format)?
        }
    };
    still_read(io::stdout().lock().write_all(text.as_bytes()))?;
    Ok(0)
}

fn listed(page: &Page, format: QueryFormat) -> Result<String, Failure> {
    Ok(match format {
        QueryFormat::Table => table(&page.records),
        QueryFormat::Json => {
            let next = page.next.map(|next| next.to_string());
            let object = json!({"next": next, "records": page.records});
            format!("{}\n", json_line(object.to_string()))
        }
        QueryFormat::Jsonl => {
            let json = |record| serde_json::to_string(record).map(json_line);
            lines(page.records.iter().map(json), None)?
        }
        QueryFormat::Csv => lines(
            page.records.iter().map(|record| Ok(row::csv(record))),
            Some(row::CSV.join(",")),
        )?,
    })
}

fn lines(
    lines: impl Iterator<Item = serde_json::Result<String>>,
    head: Option<String>,
) -> Result<String, Failure> {
    let mut text = String::new();
    for line in head.into_iter().map(Ok).chain(lines) {
        text.push_str(&line?);
        text.push('\n');
    }
    Ok(text)
}

fn table(records: &[Record]) -> String {
    let columns = [
        Column::new("TIME (UTC)"),
        Column::new("EFFECT"),
        Column::cut("WHAT"),
        Column::cut("WHY"),
        Column::new("SESSION"),
        Column::new("RECORD"),
    ];
    let mut table = Table::new(&columns, terminal_width());
    for record in records {
        let session = record.session.as_deref().unwrap_or("-");
        table.add([
            &row::time(record),
            &row::outcome(record),
            &row::what(record),
            &row::why(record),
            short_session(session),
            &record.seq.to_string(),
        ]);
    }
    let colour = colours();
    table.render(|column, cell| match (column, cell.trim_end_matches('*')) {
        ("EFFECT", "allow") if colour => format!("\x1b[32m{cell}\x1b[0m"),
        ("EFFECT", "deny" | "ask" | "error") if colour => format!("\x1b[31m{cell}\x1b[0m"),
        _other => cell.into(),
    })
}

/// The last block of a UUIDv7 is the random one: the same in no two sessions of a day.
fn short_session(session: &str) -> &str {
    match session.rsplit_once('-') {
        Some((_, last)) if session.len() == 36 => last,
        _other => session,
    }
}

fn counted(
    counts: &[Count],
    field: Field,
    limit: usize,
    format: QueryFormat,
) -> Result<String, Failure> {
    let all = counts.len();
    let shown = counts.get(..limit.min(all)).unwrap_or(counts);
    let value = |count: &Count| count.value.clone().unwrap_or_else(|| "(others)".into());
    let object = |count: &Count| json!({"value": count.value, "records": count.records});
    Ok(match format {
        QueryFormat::Table => {
            let columns = [Column::number("RECORDS"), Column::cut("VALUE")];
            let mut table = Table::new(&columns, terminal_width());
            for count in shown {
                table.add([&count.records.to_string(), &value(count)]);
            }
            table.render(|_, cell| cell.into())
        }
        QueryFormat::Json => {
            let counts: Vec<_> = shown.iter().map(object).collect();
            let more = shown.len() < all;
            let object = json!({"field": field.as_str(), "counts": counts, "more": more});
            format!("{}\n", json_line(object.to_string()))
        }
        QueryFormat::Jsonl => lines(
            shown
                .iter()
                .map(|count| Ok(json_line(object(count).to_string()))),
            None,
        )?,
        QueryFormat::Csv => lines(
            shown.iter().map(|count| {
                Ok(format!(
                    "{},{}",
                    row::csv_cell(&value(count)),
                    count.records
                ))
            }),
            Some(format!("{},records", field.as_str())),
        )?,
    })
}

fn field(text: &str) -> Result<Field, String> {
    let names: Vec<&str> = Field::ALL.into_iter().map(Field::as_str).collect();
    Field::ALL
        .into_iter()
        .find(|field| field.as_str() == text)
        .ok_or_else(|| format!("the fields are {}", names.join(", ")))
}
