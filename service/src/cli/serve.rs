//! `cordon serve`: the daemon itself, in the foreground.

use std::{io::Write, path::PathBuf};

use clap::Args as ClapArgs;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    daemon::{Activation, Bound},
    error::Failure,
    paths::Paths,
};

/// Options of `cordon serve`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Serve this user's sessions, and leave after a while without any (60 s unless
    /// `[service] idle_exit_seconds` says otherwise)
    #[arg(long)]
    user: bool,
    /// Stay, however long no session runs
    #[arg(long)]
    stay: bool,
    /// Write `ready`, or the reason why not, to standard output and close it: for whoever waits
    #[arg(long, hide = true)]
    announce: bool,
    /// Read this configuration and no other: for a check, whose daemon is nobody's
    #[arg(long, hide = true, value_name = "FILE")]
    config_alone: Option<PathBuf>,
}

/// Runs the daemon until it is asked to stop or has been idle for long enough.
pub fn serve(args: &Args) -> Result<u8, Failure> {
    if args.announce {
        // Started by a launcher: its Ctrl-C and its terminal's end are not for the daemon.
        let _own_session = rustix::process::setsid();
    }
    if !args.user {
        return Err(Failure::new("`cordon serve` serves one user's sessions")
            .help("say `cordon serve --user`; a service for all users of a machine comes later"));
    }
    raise_descriptor_limit();
    let activation = Activation::from_env()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(run(args, activation));
    if let (Err(failure), true) = (&result, args.announce) {
        announce(&Announcement::Failed {
            message: failure.to_string(),
            help: failure.help_text().map(Into::into),
            code: failure.code(),
        });
    }
    result.map(|()| 0)
}

/// Every connection takes two descriptors; the soft limit of a login shell is too low for a
/// node's worth of them.
pub fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _as_it_was = setrlimit(Resource::Nofile, limit);
}

async fn run(args: &Args, activation: Activation) -> Result<(), Failure> {
    let mut paths = Paths::from_env(|name| std::env::var_os(name))?;
    if let Some(file) = &args.config_alone {
        paths.config_file = Some(file.clone());
        paths.config_alone = true;
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let bound = Bound::new(paths, !args.stay, activation).await?;
    if args.announce {
        announce(&Announcement::Ready);
    }
    tracing::info!("serving");
    bound
        .serve(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
        .await
}

/// What a daemon says to the launcher that started it, as JSON on its standard output.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Announcement {
    /// Its socket is bound.
    Ready,
    /// It gave up.
    Failed {
        /// What and why.
        message: String,
        /// What to do.
        help: Option<String>,
        /// Its exit code.
        code: u8,
    },
}

/// Says it, then replaces standard output by nothing, so that the reader sees the end.
fn announce(what: &Announcement) {
    let mut out = std::io::stdout();
    let _reader_gone = serde_json::to_writer(&mut out, what)
        .map_err(Into::into)
        .and_then(|()| out.flush());
    if let Ok(null) = std::fs::OpenOptions::new().write(true).open("/dev/null") {
        let _closed = rustix::stdio::dup2_stdout(&null);
    }
}
