//! `cordon session end`.

use super::{SessionAnswer, SessionAsk, ask_of_one, unexpected};
use crate::error::Failure;

/// Options of `cordon session end`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Its id, or the first digits of it
    #[arg(value_name = "SESSION")]
    session: String,
    /// At once, without asking its command to end
    #[arg(long)]
    now: bool,
}

/// Ends a session and waits until it has.
pub fn end(args: Args) -> Result<u8, Failure> {
    let ask = SessionAsk::End {
        session: args.session,
        now: args.now,
    };
    let SessionAnswer::State { session, state } = ask_of_one(ask)? else {
        return Err(unexpected());
    };
    println!("{session} {}", state.as_str());
    Ok(0)
}
