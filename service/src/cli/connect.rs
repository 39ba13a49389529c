//! Reaches the user's daemon, and starts it when none runs.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    process::{ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use super::serve::Announcement;
use crate::{
    control::{Answer, Ask, Client, ClientError, VERSION},
    error::Failure,
    paths::Paths,
};

/// Tries at a daemon that leaves while we come. Each waits for something; none sleeps.
const TRIES: usize = 8;

/// A connection to a running daemon of this version; starts one, or replaces an idle one of
/// another version.
///
/// # Errors
/// [`Failure`] when none can be started, or one of another version is busy.
pub fn reach(paths: &Paths) -> Result<Client, Failure> {
    paths.make()?;
    for _try in 0..TRIES {
        match Client::connect(&paths.socket()) {
            Ok(client) => match greet(client)? {
                Greeted::Ready(client) => return Ok(client),
                Greeted::Leaving => {}
                Greeted::Busy { version, sessions } => return Err(busy(&version, sessions)),
            },
            Err(ClientError::Silent) => return Err(ClientError::Silent.into()),
            Err(_nobody) => start(paths)?,
        }
    }
    Err(
        Failure::new("the daemon could not be reached, though it seems to start").help(format!(
            "its messages are in `{}`",
            paths.messages().display()
        )),
    )
}

/// As [`reach`], but never starts one: `None` when none runs.
///
/// # Errors
/// [`Failure`] when one runs and cannot be talked to.
pub fn reach_running(paths: &Paths) -> Result<Option<Client>, Failure> {
    match Client::connect(&paths.socket()) {
        Ok(mut client) => {
            client.hello()?;
            Ok(Some(client))
        }
        Err(ClientError::NoDaemon { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

enum Greeted {
    Ready(Client),
    /// It goes away, or was asked to.
    Leaving,
    /// Of another version, and in use.
    Busy {
        version: String,
        sessions: usize,
    },
}

fn greet(mut client: Client) -> Result<Greeted, ClientError> {
    let theirs = match client.hello() {
        Ok(theirs) => theirs,
        Err(ClientError::Silent) => return Err(ClientError::Silent),
        Err(_gone) => return Ok(Greeted::Leaving),
    };
    if theirs.version == VERSION {
        return Ok(Greeted::Ready(client));
    }
    match client.ask(&Ask::Stop { force: false }) {
        Ok(Answer::Stopping) => client.wait_until_gone().map(|()| Greeted::Leaving),
        Err(ClientError::Silent) => Err(ClientError::Silent),
        _still_used => Ok(Greeted::Busy {
            version: theirs.version,
            sessions: theirs.sessions,
        }),
    }
}

fn busy(version: &str, sessions: usize) -> Failure {
    Failure::new(format!(
        "a daemon of version {version} runs with {sessions} session(s), this is version {VERSION}"
    ))
    .help("let its sessions end, or end them with `cordon stop --force`, then try again")
}

/// Starts `cordon serve --user` on its own and waits until it says that it is ready. Of several
/// launchers that come at once one starts it; the others wait for that one.
fn start(paths: &Paths) -> Result<(), Failure> {
    let _held = paths.lock_start()?;
    if Client::connect(&paths.socket()).is_ok() {
        return Ok(());
    }
    let messages = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(paths.messages())?;
    let mut child = daemon_command(messages)?.spawn()?;
    let said = match child.stdout.take() {
        Some(out) => announced(out)?,
        None => Some(String::new()),
    };
    let Some(said) = said else {
        // Not left behind: it would hold up every one that is started after it.
        let _killed = child.kill();
        let _ended = child.wait();
        return Err(Failure::new(format!(
            "the daemon was not ready within {} s, so it was ended again",
            STARTS_WITHIN.as_secs()
        ))
        .help(
            "`cordon serve --user` shows what it waits for; another one may be stopped or stuck",
        ));
    };
    let messages = || format!("its messages are in `{}`", paths.messages().display());
    match serde_json::from_str(&said) {
        Ok(Announcement::Ready) => Ok(()),
        Ok(Announcement::Failed {
            message,
            help,
            code,
        }) => {
            let _ended = child.wait();
            Err(Failure::new(format!("the daemon did not start: {message}"))
                .help(help.unwrap_or_else(messages))
                .with_code(code))
        }
        Err(_garbled) => {
            let _ended = child.wait();
            Err(Failure::new("the daemon did not start: it ended without a word").help(messages()))
        }
    }
}

/// What it says until it closes its standard output; none where that takes too long.
fn announced(mut out: ChildStdout) -> io::Result<Option<String>> {
    let until = Instant::now() + STARTS_WITHIN;
    let mut said = Vec::new();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let wait = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut waited = [PollFd::new(&out, PollFlags::IN)];
        match poll(&mut waited, Some(&wait)) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let mut chunk = [0; 4096];
        let n = out.read(&mut chunk)?;
        if n == 0 {
            return Ok(Some(String::from_utf8_lossy(&said).into_owned()));
        }
        said.extend_from_slice(chunk.get(..n).unwrap_or_default());
    }
}

/// Longest time for a daemon to start: it opens its log, and reads what a crash left unsealed.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

fn daemon_command(messages: File) -> Result<Command, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["serve", "--user", "--announce"])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(messages);
    Ok(command)
}
