//! A further command in a running session: decided, recorded, then had done by the
//! launcher. The command's streams go from the caller through here to the session, and its
//! terminal's other end comes back.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path, sync::Arc};

use cordon_policy::Operation;
use cordon_session::{Durability, GateError};

use super::{
    Daemon,
    late::{in_time, not_given},
    live::Live,
    open::{not_recorded, refused},
};
use crate::control::{
    Answer, CarriedResult, Connection, LaunchOrder, ProtocolError, SessionAnswer, State,
};

/// Answers on `connection` until the command has ended. A caller that hangs up leaves the command
/// running: it ends with the session at the latest.
///
/// # Errors
/// [`ProtocolError`] when the caller is gone.
pub async fn exec(
    daemon: &Arc<Daemon>,
    connection: &mut Connection,
    session: &str,
    arguments: Vec<Vec<u8>>,
    terminal: [bool; 3],
) -> Result<(), ProtocolError> {
    let descriptors = connection.take_descriptors();
    let streams = terminal.iter().filter(|terminal| !**terminal).count();
    if descriptors.len() != streams || arguments.is_empty() {
        let answer = failed("a command needs its name and its three streams");
        return connection.answer(&answer).await;
    }
    let live = match daemon.registry.find(session) {
        Ok(live) => live,
        Err(unknown) => return connection.answer(&failed(unknown)).await,
    };
    if let Err(why) = runs(&live) {
        return connection.answer(&failed(why)).await;
    }
    let exec = Operation::ExecInSession {
        command: program(&arguments),
        profile: live.profile(),
    };
    let said = exec.to_string();
    let deciding = live.gate().admit(exec, Durability::Synced);
    match in_time(live.gate(), &said, deciding).await {
        Ok(Ok(_permit)) => {}
        Ok(Err(GateError::Denied(denied))) => {
            let answer = SessionAnswer::Refused(refused(&denied));
            return connection.answer(&Answer::Session(answer)).await;
        }
        Ok(Err(GateError::NotRecorded(error))) => {
            return connection.answer(&not_recorded(&error)).await;
        }
        Err(late) => return connection.answer(&late).await,
    }
    let order = LaunchOrder::Exec {
        arguments,
        terminal,
    };
    let posted = {
        // It may have been paused while this was decided.
        let _turn = live.turn().await;
        match runs(&live) {
            Ok(()) => live.orders().post_in_time(order, descriptors).await,
            Err(why) => Err(why),
        }
    };
    let mut answers = match posted {
        Ok(answers) => answers,
        Err(why) => {
            not_given(live.gate(), &said, &why);
            return connection.answer(&failed(why)).await;
        }
    };
    let mut began = false;
    while let Some((result, descriptors)) = answers.recv().await {
        let answer = match result {
            CarriedResult::Began => {
                began = true;
                Answer::Session(SessionAnswer::Began)
            }
            CarriedResult::Ended { code } => Answer::Session(SessionAnswer::Exited { code }),
            CarriedResult::Failed { why } => {
                if !began {
                    not_given(live.gate(), &said, &why);
                }
                failed(why)
            }
            CarriedResult::Done
            | CarriedResult::Sampled(_)
            | CarriedResult::Used { .. }
            | CarriedResult::Changes { .. } => {
                continue;
            }
        };
        connection.answer_with(&answer, &descriptors).await?;
        if !matches!(answer, Answer::Session(SessionAnswer::Began)) {
            return Ok(());
        }
    }
    let over = "the session is over";
    if !began {
        not_given(live.gate(), &said, over);
    }
    connection.answer(&failed(over)).await
}

/// Whether a command can begin in it.
fn runs(live: &Live) -> Result<(), String> {
    match live.state() {
        State::Running => Ok(()),
        other => Err(format!("the session is {}", other.as_str())),
    }
}

/// The last component of the program's path, as it is decided and recorded.
fn program(arguments: &[Vec<u8>]) -> String {
    let first = OsStr::from_bytes(arguments.first().map(Vec::as_slice).unwrap_or_default());
    let name = Path::new(first).file_name().unwrap_or(first);
    name.to_string_lossy().chars().take(128).collect()
}

fn failed(message: impl Into<String>) -> Answer {
    Answer::Failed {
        message: message.into(),
        help: None,
    }
}
