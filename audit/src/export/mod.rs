//! Exports: records in the forms that others read, with a signed manifest.
//!
//! A log's directory and a query in, bytes and a [`Manifest`] out. Never touches the network, and
//! signs nothing by itself.

mod cef;
mod counted;
mod csv;
mod ecs;
mod manifest;
mod ocsf;
mod otlp;
mod select;
mod sign;
mod tiles;

use std::{
    io::{self, Write},
    path::Path,
};

use serde_json::Value;

use crate::{
    Event, Record,
    prove::{self, Leaves, ProveError},
    verify::{
        hash_text,
        note::Note,
        tree::{Tree, leaf_hash},
    },
};
use counted::Counted;
pub use manifest::{Leaf, Manifest};
pub use select::Select;
pub use sign::sign;
pub use tiles::copy_log;

/// The form of an export.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// OCSF 1.8.0 events, one JSON object a line.
    Ocsf,
    /// Elastic Common Schema, one JSON object a line.
    Ecs,
    /// ArcSight Common Event Format, one line each.
    Cef,
    /// The records exactly as they were hashed, one a line.
    Jsonl,
    /// A table with a header (RFC 4180).
    Csv,
    /// OTLP logs as JSON, one request with up to 512 records a line.
    Otlp,
    /// The log itself: C2SP tlog-tiles, a directory.
    Tlog,
}

/// What records are exported from: goes into every event.
#[derive(Clone, Debug)]
pub struct Source {
    /// The log's name.
    pub origin: String,
    /// The host that it is on.
    pub host: String,
}

/// Records per OTLP request.
pub const BATCH: usize = 512;

impl Format {
    /// As it is spelled on the command line and in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ocsf => "ocsf",
            Self::Ecs => "ecs",
            Self::Cef => "cef",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Otlp => "otlp",
            Self::Tlog => "tlog",
        }
    }
}

/// Writes the records that `select` takes to `out`, of those that the newest checkpoint covers,
/// and says what it wrote. `hashes` takes a leaf hash (RFC 6962) of each line that was written,
/// 32 bytes: with it, a line that is changed later can be told from the others.
///
/// # Errors
/// [`io::Error`] when `out` takes no more, or the log cannot be read or is damaged.
pub fn write(
    directory: &Path,
    format: Format,
    select: &Select,
    source: &Source,
    out: &mut dyn Write,
    hashes: &mut dyn Write,
) -> io::Result<Manifest> {
    let note = newest(directory).map_err(io::Error::other)?;
    let mut out = Counted::new(out, hashes);
    let mut set = Tree::default();
    let (mut count, mut first, mut last) = (0, None, None);
    let mut waiting: Vec<Value> = Vec::new();
    if format == Format::Csv {
        out.write_all(csv::header().as_bytes())?;
    }
    for leaf in Leaves::from(
        directory,
        select.from_seq.unwrap_or(0).max(prove::minimum(directory)?),
    ) {
        let (seq, leaf) = leaf.map_err(io::Error::other)?;
        if seq >= note.size || select.to_seq.is_some_and(|to| seq > to) {
            break;
        }
        let record = parse(seq, &leaf)?;
        if !select.takes(&record) {
            continue;
        }
        let hash = leaf_hash(&leaf);
        set.push(hash);
        count += 1;
        let place = Leaf {
            hash: hash_text(&hash),
            seq,
        };
        first.get_or_insert_with(|| place.clone());
        last = Some(place);
        if format == Format::Otlp {
            waiting.push(otlp::record(&record));
            if waiting.len() == BATCH {
                line(
                    &mut out,
                    &otlp::request(std::mem::take(&mut waiting), source),
                )?;
            }
        } else {
            out.write_all(&one(format, &record, &leaf, source)?)?;
        }
    }
    if !waiting.is_empty() {
        line(&mut out, &otlp::request(waiting, source))?;
    }
    let total = out.end()?;
    Ok(Manifest {
        bytes: total.bytes,
        count,
        first,
        format: format.as_str().into(),
        last,
        lines_root: Some(total.lines_root),
        origin: note.origin.clone(),
        query: select.clone(),
        root: hash_text(&note.root),
        set_root: set.root_text(),
        sha256: hash_text(&total.sha256),
        size: note.size,
    })
}

/// One record in a form that has one line a record.
///
/// # Errors
/// Never in practice: there is nothing in a record that JSON cannot hold.
pub fn one(format: Format, record: &Record, leaf: &[u8], source: &Source) -> io::Result<Vec<u8>> {
    let mut bytes = match format {
        Format::Ocsf => serde_json::to_vec(&ocsf::event(record, source))?,
        Format::Ecs => serde_json::to_vec(&ecs::event(record, source))?,
        Format::Cef => cef::event(record).into_bytes(),
        Format::Csv => csv::row(record).into_bytes(),
        Format::Otlp => serde_json::to_vec(&otlp::request(vec![otlp::record(record)], source))?,
        Format::Jsonl | Format::Tlog => leaf.to_vec(),
    };
    bytes.push(b'\n');
    Ok(bytes)
}

/// Records as one OTLP request (`ExportLogsServiceRequest` in its JSON form).
pub fn otlp_request(records: &[Record], source: &Source) -> Value {
    otlp::request(records.iter().map(otlp::record).collect(), source)
}

/// The event that an export is recorded as, before anything of it is given out: to a file, or once
/// more to a sink.
pub fn exported(user: &str, manifest: &Manifest, sink: Option<&str>) -> Event {
    Event::Exported {
        user: user.into(),
        export: crate::record::Export {
            count: manifest.count,
            first: manifest.first.as_ref().map(|leaf| leaf.seq),
            format: manifest.format.clone(),
            last: manifest.last.as_ref().map(|leaf| leaf.seq),
            query: serde_json::to_string(&manifest.query).unwrap_or_default(),
            root: manifest.set_root.clone(),
            sink: sink.map(str::to_owned),
        },
    }
}

/// What an export says that it was made from, for the log in `directory`.
///
/// # Errors
/// When the log has no checkpoint.
pub fn source_of(directory: &Path) -> Result<Source, ProveError> {
    Ok(Source {
        origin: newest(directory)?.origin,
        host: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
    })
}

/// A list of fields in the form `name value`, with what is absent left out.
type Fields<'a> = Vec<(&'a str, Option<String>)>;

fn line(out: &mut impl Write, value: &Value) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

fn parse(seq: u64, leaf: &[u8]) -> io::Result<Record> {
    Record::from_leaf(leaf)
        .map_err(|error| io::Error::other(format!("record {seq} cannot be read: {error}")))
}

fn newest(directory: &Path) -> Result<Note, ProveError> {
    let text = prove::checkpoint(directory)?;
    Note::parse(&text).map_err(|why| ProveError {
        message: format!("the log's checkpoint {why}"),
    })
}

#[cfg(test)]
mod tests;
