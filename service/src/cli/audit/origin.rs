//! `cordon audit new-origin`: the way out when the log cannot be trusted any more.

use std::path::PathBuf;

use clap::Args;
use cordon_audit::escape;

use super::{Format, directory, log_options};
use crate::{cli::connect, error::Failure, paths::Paths, user::User};

/// Options of `cordon audit new-origin`.
#[derive(Debug, Args)]
pub struct NewOriginArgs {
    /// Why; recorded in the new log
    #[arg(long, value_name = "TEXT")]
    because: String,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The log's directory, when it is not the user's own
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

/// Moves the log aside and begins a new one, whose first record names the old one.
pub fn new_origin(args: &NewOriginArgs) -> Result<u8, Failure> {
    let because = args.because.trim();
    if because.is_empty() {
        return Err(Failure::new("`--because` is empty")
            .help("say why: it is recorded in the new log")
            .usage());
    }
    if args.log.is_none() {
        let paths = Paths::from_env(|name| std::env::var_os(name))?;
        if connect::reach_running(&paths)?.is_some() {
            return Err(
                Failure::new("a daemon runs, so the log is whole enough to be opened")
                    .help("end it with `cordon stop` first, if you want a new log all the same"),
            );
        }
    }
    let log = directory(args.log.as_ref())?;
    let by = User::current()?.name;
    let made = cordon_audit::new_origin(&log, log_options()?, Some(by), because.into())?;
    if args.format == Format::Json {
        println!("{}", serde_json::to_string(&made)?);
        return Ok(0);
    }
    println!("new log      {}", made.origin);
    if let (Some(origin), Some(size)) = (&made.old_origin, made.old_size) {
        println!(
            "old log      {}, {size} records by its checkpoint",
            escape(origin)
        );
    }
    println!("kept in      {}", made.moved_to.display());
    Ok(0)
}
