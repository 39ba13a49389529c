//! `cordon audit prune` and `cordon audit hold`: how long records are kept.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use cordon_audit::{Done, Hold, Retention, Scope, Task, escape, rfc3339};
use cordon_policy::moment;
use cordon_session::Config;

use super::{Format, directory, order::carry_out};
use crate::{cli::time, error::Failure, paths::Paths};

/// Options of `cordon audit prune`.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// How old every record of a segment has to be, in days (`90d`); as configured in
    /// `[log]` of `cordon.toml` when left out
    #[arg(long, value_name = "DAYS", value_parser = days)]
    older_than: Option<u32>,
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
    /// Why; recorded in the log
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "asked for on the command line"
    )]
    because: String,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The log's directory, when it is not the user's own
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

/// What to do with holds.
#[derive(Debug, Subcommand)]
pub enum HoldCommand {
    /// Keep records however old they are
    Add(AddArgs),
    /// Show the holds in force
    List(ListArgs),
    /// End a hold
    Release(ReleaseArgs),
}

/// Options of `cordon audit hold add`. All that are given have to apply to a record.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// Records of this session
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Records of this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Records from this day on (UTC)
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day)]
    from: Option<u64>,
    /// Records up to the end of this day (UTC)
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day)]
    to: Option<u64>,
    /// Why; recorded in the log
    #[arg(long, value_name = "TEXT")]
    because: String,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The log's directory, when it is not the user's own
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

/// Options of `cordon audit hold list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The log's directory, when it is not the user's own
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

/// Options of `cordon audit hold release`.
#[derive(Debug, Args)]
pub struct ReleaseArgs {
    /// Number of the hold, as `cordon audit hold list` shows it
    hold: u64,
    /// Why; recorded in the log
    #[arg(long, value_name = "TEXT")]
    because: String,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The log's directory, when it is not the user's own
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

/// Lets old records go.
pub fn prune(args: &PruneArgs) -> Result<u8, Failure> {
    let retention = match args.older_than {
        Some(days) => Retention::days(days),
        None => configured()?,
    };
    let dry_run = args.dry_run;
    let task = Task::Prune { retention, dry_run };
    let Done::Pruned(done) = carry_out(args.log.as_ref(), task, &args.because)? else {
        return Err(unexpected());
    };
    if args.format == Format::Json {
        println!("{}", serde_json::to_string(&done)?);
        return Ok(0);
    }
    let (goes, stays) = match dry_run {
        true => ("would go", "would stay"),
        false => ("went", "stays"),
    };
    match done.segments {
        0 => println!("nothing is old enough to go"),
        _ => println!(
            "records {} to {} {goes}; record {} and what follows {stays}",
            done.from,
            done.minimum.saturating_sub(1),
            done.minimum
        ),
    }
    if let Some(hold) = done.held_by {
        println!("hold {hold} keeps what follows although it is old enough");
    }
    Ok(0)
}

/// Places, shows or ends holds.
pub fn hold(command: &HoldCommand) -> Result<u8, Failure> {
    match command {
        HoldCommand::Add(args) => add(args),
        HoldCommand::List(args) => list(args),
        HoldCommand::Release(args) => release(args),
    }
}

fn add(args: &AddArgs) -> Result<u8, Failure> {
    let scope = Scope {
        session: args.session.clone(),
        user: args.user.clone(),
        from_us: args.from,
        to_us: args.to.map(|day| day.saturating_add(DAY_US - 1)),
    };
    if scope.is_empty() {
        return Err(Failure::new("a hold needs something to hold")
            .help("name `--session`, `--user`, `--from` or `--to`")
            .usage());
    }
    let done = carry_out(args.log.as_ref(), Task::Hold(scope), &args.because)?;
    let Done::Held(hold) = done else {
        return Err(unexpected());
    };
    match args.format {
        Format::Json => println!("{}", serde_json::to_string(&hold)?),
        Format::Text => println!("hold {} is in force", hold.id),
    }
    Ok(0)
}

fn list(args: &ListArgs) -> Result<u8, Failure> {
    let holds = cordon_audit::holds(&directory(args.log.as_ref())?)
        .map_err(|error| Failure::new(error.message))?;
    match args.format {
        Format::Json => println!("{}", serde_json::to_string(&holds)?),
        Format::Text if holds.is_empty() => println!("there are no holds"),
        Format::Text => holds.iter().for_each(print),
    }
    Ok(0)
}

fn release(args: &ReleaseArgs) -> Result<u8, Failure> {
    let task = Task::Release { hold: args.hold };
    let Done::Released(hold) = carry_out(args.log.as_ref(), task, &args.because)? else {
        return Err(unexpected());
    };
    match args.format {
        Format::Json => println!("{}", serde_json::to_string(&hold)?),
        Format::Text => println!("hold {} is over", hold.id),
    }
    Ok(0)
}

fn print(hold: &Hold) {
    let scope = &hold.scope;
    let day = |us: u64| rfc3339(us).chars().take(10).collect::<String>();
    let parts = [
        scope
            .session
            .as_ref()
            .map(|id| format!("session {}", escape(id))),
        scope
            .user
            .as_ref()
            .map(|name| format!("user {}", escape(name))),
        scope.from_us.map(|us| format!("from {}", day(us))),
        scope.to_us.map(|us| format!("to {}", day(us))),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    println!(
        "{:>8}  {}  by {}: {}",
        hold.id,
        parts.join(", "),
        escape(&hold.by),
        escape(&hold.because)
    );
}

fn configured() -> Result<Retention, Failure> {
    let paths = Paths::from_env(|name| std::env::var_os(name))?;
    let files = paths.config_files();
    let config = Config::load(&files)?;
    let retention = config.log.retention();
    if retention.is_forever() {
        return Err(
            Failure::new("records are kept for ever: no retention is configured")
                .help("set `retention_days` in `[log]` of `cordon.toml`, or say `--older-than 90d`")
                .usage(),
        );
    }
    Ok(retention)
}

fn unexpected() -> Failure {
    Failure::new("the daemon answered something unexpected")
}

/// `90d` or `90`: at least one day.
fn days(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('d').unwrap_or(text);
    match number.parse() {
        Ok(days) if days > 0 => Ok(days),
        _ => Err("give a number of days, for example `90d`".into()),
    }
}

/// The beginning of a day, in microseconds since the epoch.
fn day(text: &str) -> Result<u64, String> {
    moment::day(text)
        .and_then(time::micros)
        .ok_or_else(|| "give a day as `2026-01-31`, from 1970 on".to_owned())
}

const DAY_US: u64 = 86_400_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_read_and_what_is_none_is_refused() {
        assert_eq!(day("1970-03-01"), Ok(59 * DAY_US));
        for text in [
            "",
            "2026",
            "2026-02-30",
            "2026-13-01",
            "26-1-1",
            "1969-12-31",
            "2026-1-1",
        ] {
            assert!(day(text).is_err(), "{text}");
        }
        assert_eq!(days("90d"), Ok(90));
        assert_eq!(days("7"), Ok(7));
        for text in ["", "0d", "-1", "2h", "99999999999d"] {
            assert!(days(text).is_err(), "{text}");
        }
    }
}
