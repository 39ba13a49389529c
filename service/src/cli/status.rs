//! `cordon status` and `cordon stop`.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use clap::Args;
use cordon_audit::LogStats;
use cordon_sinks::SinksStatus;

use super::{Format, connect, exit, policy};
use crate::{
    control::{Answer, Ask, Status},
    error::Failure,
    paths::Paths,
};

/// Options of `cordon status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Print the daemon's numbers instead, in the text format of Prometheus
    #[arg(long, conflicts_with = "format")]
    metrics: bool,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Options of `cordon stop`.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// End running sessions too
    #[arg(long)]
    force: bool,
}

/// Shows the daemon and the running sessions; exit 1 when none runs.
pub fn status(args: &StatusArgs) -> Result<u8, Failure> {
    let paths = Paths::from_env(|name| std::env::var_os(name))?;
    let Some(mut client) = connect::reach_running(&paths)? else {
        match args.format {
            Format::Json => println!("null"),
            Format::Text => println!("no daemon runs; `cordon run` starts one"),
        }
        return Ok(exit::FAILED);
    };
    if args.metrics {
        let Answer::Metrics(text) = client.ask(&Ask::Metrics)? else {
            return Err(Failure::new("the daemon answered something unexpected"));
        };
        print!("{text}");
        return Ok(0);
    }
    let Answer::Status(status) = client.ask(&Ask::Status)? else {
        return Err(Failure::new("the daemon answered something unexpected"));
    };
    match args.format {
        Format::Json => println!("{}", serde_json::to_string(&status)?),
        Format::Text => match io::stdout().write_all(as_text(&status).as_bytes()) {
            // Nobody reads any more.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            written => written?,
        },
    }
    Ok(0)
}

/// Asks the daemon to leave and waits until it has.
pub fn stop(args: &StopArgs) -> Result<u8, Failure> {
    let paths = Paths::from_env(|name| std::env::var_os(name))?;
    let Some(mut client) = connect::reach_running(&paths)? else {
        println!("no daemon runs");
        return Ok(0);
    };
    client.ask(&Ask::Stop { force: args.force })?;
    client.wait_until_gone()?;
    // It gives its lock back last.
    let _free = paths.lock_daemon()?;
    println!("stopped");
    Ok(0)
}

fn as_text(status: &Status) -> String {
    let mut out = String::new();
    let log = match &status.log_fault {
        None => "takes records".into(),
        Some(fault) => format!("FAILS, everything is denied: {fault}"),
    };
    // Writing to a string cannot fail.
    let _infallible = writeln!(
        out,
        "daemon   version {}, process {}",
        status.version, status.pid
    );
    let _infallible = writeln!(out, "log      {} ({log})", status.log.display());
    let _infallible = writeln!(out, "         {}", numbers(&status.log_stats));
    out.push_str(&policy::status::text(&status.policy, false));
    let SinksStatus { sinks, checkpoints } = &status.sinks;
    let all = sinks.len() + checkpoints.len();
    if all > 0 {
        let failing = sinks.values().filter(|sink| sink.error.is_some()).count()
            + checkpoints.values().filter(|c| c.error.is_some()).count();
        let how = match failing {
            0 => "all delivered to".to_owned(),
            n => format!("{n} FAIL: see `cordon audit sinks status`"),
        };
        let _infallible = writeln!(out, "sinks    {all} ({how})");
    }
    let _infallible = writeln!(out, "sessions {}", status.sessions.len());
    for line in &status.sessions {
        let _infallible = writeln!(
            out,
            "  {}  {:>5} s  {}{}  policy {}{}",
            line.session,
            line.age_seconds,
            line.command,
            line.agent
                .as_ref()
                .map(|agent| format!(" (agent {agent})"))
                .unwrap_or_default(),
            line.policy,
            line.observe
                .as_ref()
                .map(|until| format!("  ONLY OBSERVES until {until}"))
                .unwrap_or_default(),
        );
    }
    out
}

/// How far the log is; what is as it should be is not dwelt on.
fn numbers(log: &LogStats) -> String {
    let mut parts = vec![format!(
        "{} records, {} covered by a checkpoint, {} sealed",
        log.written, log.covered, log.sealed
    )];
    if log.queued > 0 {
        parts.push(format!("{} of {} waiting", log.queued, log.queue_limit));
    }
    if log.lost > 0 {
        parts.push(format!("{} LOST or refused", log.lost));
    }
    if let Some(free) = log.free_bytes {
        let gib = free / (1 << 30);
        parts.push(match gib {
            0 => format!("ONLY {} MiB free", free >> 20),
            gib => format!("{gib} GiB free"),
        });
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_in_numbers_names_what_is_wrong() {
        let log = LogStats {
            written: 120,
            durable: 120,
            covered: 118,
            sealed: 100,
            queued: 0,
            queue_limit: 4096,
            lost: 0,
            free_bytes: Some(5 << 30),
        };
        assert_eq!(
            numbers(&log),
            "120 records, 118 covered by a checkpoint, 100 sealed, 5 GiB free"
        );
        let trouble = LogStats {
            queued: 4096,
            lost: 7,
            free_bytes: Some(3 << 20),
            ..log
        };
        let text = numbers(&trouble);
        for part in ["4096 of 4096 waiting", "7 LOST", "ONLY 3 MiB free"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
