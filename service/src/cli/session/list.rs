//! `cordon session list`.

use super::{SessionAnswer, SessionAsk, ask, unexpected};
use crate::{cli::Format, control::SessionStatus, error::Failure};

/// Options of `cordon session list`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// The running sessions, oldest first.
pub fn list(args: &Args) -> Result<u8, Failure> {
    let sessions = match ask(SessionAsk::List { used: false })? {
        Some(SessionAnswer::List(sessions)) => sessions,
        None => Vec::new(),
        Some(_other) => return Err(unexpected()),
    };
    match args.format {
        Format::Json => {
            for session in &sessions {
                println!("{}", serde_json::to_string(session)?);
            }
        }
        Format::Text if sessions.is_empty() => println!("no session runs"),
        Format::Text => {
            println!(
                "{:36}  {:8}  {:>8}  {:8}  COMMAND",
                "SESSION", "STATE", "AGE", "PID"
            );
            for session in &sessions {
                println!("{}", row(session));
            }
        }
    }
    Ok(0)
}

fn row(session: &SessionStatus) -> String {
    let pid = session
        .first_process
        .map_or_else(|| "-".into(), |pid| pid.to_string());
    format!(
        "{:36}  {:8}  {:>8}  {pid:8}  {}",
        session.session,
        session.state.as_str(),
        age(session.age_seconds),
        session.command,
    )
}

/// `42s`, `7m10s`, `3h05m`, `2d04h`.
pub(super) fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        for (seconds, shown) in [
            (0, "0s"),
            (59, "59s"),
            (430, "7m10s"),
            (11_100, "3h05m"),
            (187_200, "2d04h"),
        ] {
            assert_eq!(age(seconds), shown);
        }
    }
}
