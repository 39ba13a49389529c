//! `cordon session pause`, `resume`, `end` and `is-running`.

use super::{SessionAnswer, SessionAsk, ask, ask_of_one, other, unexpected};
use crate::{cli::exit, control::State, error::Failure};

/// The session that is meant.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Its id, or the first digits of it
    #[arg(value_name = "SESSION")]
    session: String,
}

/// Options of `cordon session end`.
#[derive(Debug, clap::Args)]
pub struct EndArgs {
    /// Its id, or the first digits of it
    #[arg(value_name = "SESSION")]
    session: String,
    /// At once, without asking its command to end
    #[arg(long)]
    now: bool,
}

/// Stops every process of a session; its flows wait.
pub fn pause(args: Args) -> Result<u8, Failure> {
    told(SessionAsk::Pause {
        session: args.session,
    })
}

/// Lets a paused session run again.
pub fn resume(args: Args) -> Result<u8, Failure> {
    told(SessionAsk::Resume {
        session: args.session,
    })
}

/// Ends a session and waits until it has.
pub fn end(args: EndArgs) -> Result<u8, Failure> {
    told(SessionAsk::End {
        session: args.session,
        now: args.now,
    })
}

/// Exit 0 while it runs, 1 while it is there and does not run (paused, starting, ending), 3 when
/// there is no such session. One word to standard output.
pub fn is_running(args: Args) -> Result<u8, Failure> {
    let all = match ask(SessionAsk::List { used: false })? {
        Some(SessionAnswer::List(all)) => all,
        None => Vec::new(),
        Some(_other) => return Err(unexpected()),
    };
    let mut found = all
        .iter()
        .filter(|status| status.session.starts_with(&args.session));
    let state = match (found.next(), found.next()) {
        (Some(status), None) => Some(status.state),
        (Some(_), Some(_)) => {
            return Err(Failure::new("more than one running session begins so").usage());
        }
        (None, _) => None,
    };
    println!("{}", state.map_or("gone", State::as_str));
    Ok(match state {
        Some(State::Running) => 0,
        Some(_) => exit::FAILED,
        None => GONE,
    })
}

/// Exit code of `is-running` for a session that is not there.
const GONE: u8 = 3;

fn told(about: SessionAsk) -> Result<u8, Failure> {
    let (session, state) = match ask_of_one(about)? {
        SessionAnswer::State { session, state } => (session, state),
        answer => return Err(other(&answer)),
    };
    println!("{session} {}", state.as_str());
    Ok(0)
}
