//! `cordon session exec`: a further command in a running session, under the same walls.

use std::{
    ffi::OsString,
    os::{fd::AsFd, unix::ffi::OsStrExt},
};

use cordon_sandbox::terminal::{Join, Stdio};

use super::{SessionAnswer, SessionAsk, unexpected};
use crate::{
    cli::{connect, exit},
    control::{Answer, Ask, Client},
    error::Failure,
    paths::Paths,
};

/// Options of `cordon session exec`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Its id, or the first digits of it
    #[arg(value_name = "SESSION")]
    session: String,
    /// The command and its arguments
    #[arg(required = true, last = true)]
    command: Vec<OsString>,
}

/// Runs the command inside; its exit code.
pub fn exec(args: Args) -> Result<u8, Failure> {
    let paths = Paths::from_env(|name| std::env::var_os(name))?;
    let mut join = Join::new(Stdio::inherit()?)?;
    let Some(mut client) = connect::reach_running(&paths)? else {
        return Err(Failure::new("no session runs: there is no daemon"));
    };
    let words = args.command.iter();
    let about = Ask::Session(SessionAsk::Exec {
        session: args.session,
        arguments: words.map(|word| word.as_bytes().to_vec()).collect(),
        terminal: join.terminals(),
    });
    let answer = client.ask_with(&about, &join.streams())?;
    match answer {
        Answer::Session(SessionAnswer::Began) => {}
        Answer::Session(SessionAnswer::Refused(refused)) => {
            eprintln!("denied: {}: {}", refused.what, refused.why);
            eprintln!("record: {}", refused.decision);
            return Ok(exit::DENIED);
        }
        _other => return Err(unexpected()),
    }
    join.began(client.take_descriptor())?;
    let daemon = client.as_fd().try_clone_to_owned()?;
    join.relay(daemon.as_fd(), || ended(&mut client))
}

/// What the daemon says when the command is over. It says nothing before.
fn ended(client: &mut Client) -> Result<Option<u8>, Failure> {
    match client.answer()? {
        Answer::Session(SessionAnswer::Exited { code }) => Ok(Some(code)),
        _other => Err(unexpected()),
    }
}
