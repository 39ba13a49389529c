//! `cordon session`: look at running sessions and steer them.

mod end;
mod list;
mod show;

use clap::Subcommand;

use super::connect;
use crate::{
    control::{Answer, Ask, SessionAnswer, SessionAsk},
    error::Failure,
    paths::Paths,
};

/// What to do with sessions.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The running sessions
    List(list::Args),
    /// Everything about one of them
    Show(show::Args),
    /// End one: its command is asked to, and after 5 s made to
    End(end::Args),
}

/// Does it.
pub fn run(command: Command) -> Result<u8, Failure> {
    match command {
        Command::List(args) => list::list(&args),
        Command::Show(args) => show::show(&args),
        Command::End(args) => end::end(args),
    }
}

/// Asks the daemon; `None` when none runs, and so no session does.
fn ask(ask: SessionAsk) -> Result<Option<SessionAnswer>, Failure> {
    let paths = Paths::from_env(|name| std::env::var_os(name))?;
    let Some(mut client) = connect::reach_running(&paths)? else {
        return Ok(None);
    };
    match client.ask(&Ask::Session(ask))? {
        Answer::Session(answer) => Ok(Some(answer)),
        _other => Err(unexpected()),
    }
}

/// As [`ask`], about a session that must run.
fn ask_of_one(about: SessionAsk) -> Result<SessionAnswer, Failure> {
    ask(about)?.ok_or_else(|| Failure::new("no session runs: there is no daemon"))
}

fn unexpected() -> Failure {
    Failure::new("the daemon answered something unexpected")
}
