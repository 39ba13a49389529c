//! `cordon audit sinks`: the receivers that records and checkpoints are delivered to.

use clap::{Args, Subcommand};
use cordon_session::Config;
use cordon_sinks::{Places, SinksStatus, backfill, backfill_manifest};

use super::{Format, export::recorded};
use crate::{
    cli::{connect, exit},
    control::{Answer, Ask},
    error::Failure,
    paths::Paths,
};

/// What to do with the sinks.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show how they do: lag, losses, failures
    Status(StatusArgs),
    /// Deliver a range of records once more
    Backfill(BackfillArgs),
}

/// Options of `cordon audit sinks status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Options of `cordon audit sinks backfill`.
#[derive(Debug, Args)]
pub struct BackfillArgs {
    /// The sink's name in `cordon.toml`
    name: String,
    /// The first record
    #[arg(long, value_name = "SEQ")]
    from: u64,
    /// The last record
    #[arg(long, value_name = "SEQ")]
    to: u64,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Does it.
pub fn run(command: &Command) -> Result<u8, Failure> {
    match command {
        Command::Status(args) => status(args),
        Command::Backfill(args) => backfill_range(args),
    }
}

fn status(args: &StatusArgs) -> Result<u8, Failure> {
    let paths = Paths::from_env(|name| std::env::var_os(name))?;
    let Some(mut client) = connect::reach_running(&paths)? else {
        match args.format {
            Format::Json => println!("null"),
            Format::Text => println!("no daemon runs, so nothing is delivered"),
        }
        return Ok(exit::FAILED);
    };
    let Answer::Sinks(status) = client.ask(&Ask::Sinks)? else {
        return Err(Failure::new("the daemon answered something unexpected"));
    };
    match args.format {
        Format::Json => println!("{}", serde_json::to_string(&status)?),
        Format::Text => print_status(&status),
    }
    Ok(0)
}

fn print_status(status: &SinksStatus) {
    if status.sinks.is_empty() && status.checkpoints.is_empty() {
        println!("no sinks are configured; `[[sinks]]` of `cordon.toml` names them");
        return;
    }
    println!(
        "{:<20} {:>12} {:>9} {:>6}  STATE",
        "SINK", "DELIVERED", "LAG", "LOST"
    );
    for (name, sink) in &status.sinks {
        let state = state(sink.error.as_deref(), sink.failures);
        println!(
            "{name:<20} {:>12} {:>9} {:>6}  {state}",
            sink.delivered, sink.lag, sink.lost
        );
    }
    for (name, place) in &status.checkpoints {
        let state = state(place.error.as_deref(), place.failures);
        println!(
            "checkpoints to {name}: the newest there covers {} records, {state}",
            place.size
        );
    }
}

fn state(error: Option<&str>, failures: u64) -> String {
    match error {
        None => "ok".into(),
        Some(error) => format!("FAILS ({failures} times): {}", cordon_audit::escape(error)),
    }
}

fn backfill_range(args: &BackfillArgs) -> Result<u8, Failure> {
    let paths = Paths::from_env(|name| std::env::var_os(name))?;
    let files = paths.config_files();
    let config = Config::load(&files)?;
    let sink = config
        .sinks
        .iter()
        .find(|sink| sink.name == args.name)
        .ok_or_else(|| {
            Failure::new(format!("there is no sink {:?}", args.name))
                .help("`[[sinks]]` of `cordon.toml` names them")
                .usage()
        })?;
    let places = Places {
        log: paths.log(),
        state: paths.state.join("sinks"),
    };
    // An export like any other: one that is not in the log does not happen.
    let manifest = backfill_manifest(&places, sink, args.from, args.to)?;
    recorded(&places.log, &manifest, Some(&sink.name))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(backfill(&places, sink, args.from, args.to))?;
    match args.format {
        Format::Json => println!("{}", serde_json::to_string(&done)?),
        Format::Text => println!("{} records delivered to {}", done.delivered, args.name),
    }
    Ok(0)
}
