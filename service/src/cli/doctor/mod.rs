//! `cordon doctor`: what is there, what is missing, how to get it, what is weaker because of it.

mod distribution;
mod look;

use std::io::{self, Write as _};

use clap::Args as ClapArgs;
use serde::Serialize;

use super::{
    Format,
    audit::table::{Column, Table, colours, terminal_width},
    exit,
};
use crate::{error::Failure, paths::Paths};

/// Options of `cordon doctor`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "It looks and tries, and changes nothing. Whether the walls stand is for \
    `cordon check boundary` to say.\n\n\
    Exit codes: 0 sessions can run, also where something is weaker; 1 something they need is \
    missing."
)]
pub struct Args {
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// How one thing is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// As it should be.
    Ok,
    /// Sessions run, and something is weaker.
    Weaker,
    /// No session runs.
    Missing,
    /// Nobody needs it, and something more would be possible with it.
    Optional,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
struct Item {
    /// What it is.
    what: &'static str,
    state: State,
    /// What was found.
    found: String,
    /// What that means; absent where all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    means: Option<String>,
    /// How to get it.
    #[serde(skip_serializing_if = "Option::is_none")]
    get: Option<String>,
}

impl Item {
    fn ok(what: &'static str, found: impl Into<String>) -> Self {
        Self {
            what,
            state: State::Ok,
            found: found.into(),
            means: None,
            get: None,
        }
    }

    fn of(what: &'static str, state: State, found: impl Into<String>) -> Self {
        Self {
            state,
            ..Self::ok(what, found)
        }
    }

    fn means(mut self, means: impl Into<String>) -> Self {
        self.means = Some(means.into());
        self
    }

    fn get(mut self, get: impl Into<String>) -> Self {
        self.get = Some(get.into());
        self
    }
}

#[derive(Debug, Serialize)]
struct Report {
    /// Whether sessions can run.
    ready: bool,
    distribution: String,
    items: Vec<Item>,
}

/// Looks, and says.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let paths = Paths::from_env(|name| std::env::var_os(name))?;
    let distribution = distribution::Distribution::read();
    let items = look::all(&paths, &distribution);
    let report = Report {
        ready: items.iter().all(|item| item.state != State::Missing),
        distribution: distribution.name.clone(),
        items,
    };
    let text = match args.format {
        Format::Json => format!("{}\n", serde_json::to_string(&report)?),
        Format::Text => as_text(&report),
    };
    match io::stdout().write_all(text.as_bytes()) {
        // Nobody reads any more.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written?,
    }
    Ok(if report.ready { 0 } else { exit::FAILED })
}

fn as_text(report: &Report) -> String {
    let columns = [
        Column::new("WHAT"),
        Column::new("STATE"),
        Column::cut("FOUND"),
    ];
    let mut table = Table::new(&columns, terminal_width());
    for item in &report.items {
        table.add([item.what, word(item.state), &item.found]);
    }
    let mut text = table.render(paint);
    for item in &report.items {
        if let Some(means) = &item.means {
            text += &format!("\n{} ({}): {means}\n", item.what, word(item.state));
        }
        if let Some(get) = &item.get {
            text += &format!("  get it: {get}\n");
        }
    }
    text += match report.ready {
        true => "\nsessions can run\n",
        false => "\nNO session can run until what is missing is there\n",
    };
    text
}

fn word(state: State) -> &'static str {
    match state {
        State::Ok => "ok",
        State::Weaker => "weaker",
        State::Missing => "MISSING",
        State::Optional => "optional",
    }
}

fn paint(_column: &str, cell: &str) -> String {
    match cell.trim() {
        "MISSING" if colours() => format!("\x1b[31m{cell}\x1b[0m"),
        "weaker" if colours() => format!("\x1b[33m{cell}\x1b[0m"),
        _ => cell.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(items: Vec<Item>) -> Report {
        Report {
            ready: items.iter().all(|item| item.state != State::Missing),
            distribution: "Debian".into(),
            items,
        }
    }

    #[test]
    fn f15_what_is_missing_is_named_with_the_way_to_get_it() {
        let text = as_text(&report(vec![
            Item::ok("kernel", "6.1"),
            Item::of("bubblewrap", State::Missing, "not installed")
                .means("no session runs")
                .get("apt install bubblewrap"),
        ]));
        assert!(text.contains("MISSING"), "{text}");
        assert!(text.contains("get it: apt install bubblewrap"), "{text}");
        assert!(text.ends_with("NO session can run until what is missing is there\n"));
    }

    #[test]
    fn what_is_weaker_keeps_nobody_from_running() {
        let weaker = Item::of("cgroups", State::Weaker, "none").means("limits by rlimits");
        let report = report(vec![weaker]);
        assert!(report.ready);
        assert!(as_text(&report).ends_with("sessions can run\n"));
    }
}
