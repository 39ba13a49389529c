//! `cordon session`: look at running sessions and steer them.

mod browser;
mod changes;
mod exec;
mod grant;
mod list;
mod logs;
mod output;
mod restore;
mod show;
mod steer;
mod top;

use clap::Subcommand;

pub use grant::copied;

use super::{connect, exit};
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
    /// Stop every process of one; its flows wait
    Pause(steer::Args),
    /// Let a paused one run again
    Resume(steer::Args),
    /// Give a running one a folder or file
    Grant(grant::GrantArgs),
    /// Take a folder or file from a running one
    Revoke(grant::RevokeArgs),
    /// Change what a running one may do beneath a grant
    Mode(grant::ModeArgs),
    /// The browser of one: on, off, and its proxy for a browser that is started beside it
    Browser(browser::Args),
    /// What one did to the files of its grants, and what was kept of them
    Changes(changes::Args),
    /// Put back what was kept of the files that one removed, replaced, wrote or moved
    Restore(restore::Args),
    /// End one: its command is asked to, and after 5 s made to
    End(steer::EndArgs),
    /// Run a further command in one, under the same walls
    Exec(exec::Args),
    /// What they use, as it goes on
    Top(top::Args),
    /// The records of one
    Logs(logs::Args),
    /// Whether one runs: exit 0 it does, 1 it is there and does not, 3 it is gone
    IsRunning(steer::Args),
}

/// Does it.
pub fn run(command: Command) -> Result<u8, Failure> {
    match command {
        Command::List(args) => list::list(&args),
        Command::Show(args) => show::show(&args),
        Command::Pause(args) => steer::pause(args),
        Command::Resume(args) => steer::resume(args),
        Command::Grant(args) => grant::grant(args),
        Command::Revoke(args) => grant::revoke(&args),
        Command::Mode(args) => grant::mode(&args),
        Command::Browser(args) => browser::browser(&args),
        Command::Changes(args) => changes::changes(&args),
        Command::Restore(args) => restore::restore(&args),
        Command::End(args) => steer::end(args),
        Command::Exec(args) => exec::exec(args),
        Command::Top(args) => top::top(&args),
        Command::Logs(args) => logs::logs(&args),
        Command::IsRunning(args) => steer::is_running(args),
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

/// Of an answer that is not what was asked for: policy may refuse it.
fn other(answer: &SessionAnswer) -> Failure {
    let SessionAnswer::Refused(refused) = answer else {
        return unexpected();
    };
    let denied = Failure::new(format!("{}: {}", refused.what, refused.why));
    denied
        .help(format!(
            "`cordon audit show {}` has the record",
            refused.decision
        ))
        .with_code(exit::DENIED)
}

fn unexpected() -> Failure {
    Failure::new("the daemon answered something unexpected")
}
