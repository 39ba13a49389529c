//! `cordon run --backend none`: the command without walls. What it does over the session's proxy
//! is decided and recorded; nothing keeps it from going past. Its own action of policy
//! (`run_without_sandbox`), which the built-in pack forbids.

use std::{
    net::{Ipv4Addr, TcpListener, UdpSocket},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::process::ExitStatusExt as _,
    },
    process::{Child, Command},
};

use cordon_sandbox::launch::Outcome;
use rustix::{
    event::{PollFd, PollFlags, poll},
    net::{RecvFlags, recv},
    process::{Pid, PidfdFlags, pidfd_open},
};

use super::{Args, environment};
use crate::{
    control::{Answer, Ask, Client, Opened},
    error::Failure,
};

/// Refuses what cannot be enforced (F14), before anything is asked.
///
/// # Errors
/// Names what it is.
pub fn check(args: &Args) -> Result<(), Failure> {
    let refused = |what: &str| {
        Failure::new(format!("`{what}` cannot be enforced without walls"))
            .help("leave it out, or leave out `--backend none`")
            .usage()
    };
    if !args.grant.is_empty() {
        return Err(refused("--grant"));
    }
    let defaults = args.defaults.as_ref().filter(|_defaults| !args.no_grant);
    if defaults.is_some_and(|defaults| !defaults.grants(&[]).is_empty()) {
        return Err(refused("--defaults").help(
            "it has folders with a `path`: leave them out by `--no-grant`, or leave out `--backend none`",
        ));
    }
    if args.profile != super::Profile::Default {
        return Err(refused("--profile"));
    }
    if !args.publish.is_empty() {
        return Err(refused("--publish"));
    }
    if let Some(limit) = args.limits.asked().named().first() {
        return Err(refused(limit));
    }
    Ok(())
}

/// Runs the command with the caller's own environment and the session's proxies, until it ends.
/// When the daemon is gone the command is killed: nothing would be recorded.
///
/// # Errors
/// [`Failure`] when it cannot be started, or the daemon went away.
pub fn run(args: &Args, opened: &Opened, client: &mut Client) -> Result<Outcome, Failure> {
    eprintln!(
        "cordon: NO WALLS: the command can read, write and reach whatever you can; only what it \
         sends to the session's proxy is decided and recorded"
    );
    let loopback = (Ipv4Addr::LOCALHOST, 0);
    let (http, socks) = (TcpListener::bind(loopback)?, TcpListener::bind(loopback)?);
    let names = UdpSocket::bind(loopback)?;
    let proxy = http.local_addr()?.to_string();
    let fds: [BorrowedFd<'_>; 3] = [http.as_fd(), socks.as_fd(), names.as_fd()];
    match client.ask_with(&Ask::Attach, &fds)? {
        Answer::Attached => {}
        _other => return Err(Failure::new("the daemon answered something unexpected")),
    }
    let (program, rest) = args
        .command
        .split_first()
        .ok_or_else(|| Failure::new("there is no command to run").usage())?;
    let mut command = Command::new(program);
    for name in args.stripped() {
        command.env_remove(name);
    }
    let child = command
        .args(rest)
        .envs(environment::proxy_variables(&proxy))
        .env("CORDON_SESSION", &opened.session)
        .envs(
            opened
                .placeholders
                .iter()
                .map(|(name, value)| (name, value)),
        )
        .spawn()
        .map_err(|error| {
            Failure::new(format!(
                "command not started: {}: {error}",
                program.display()
            ))
        })?;
    // The daemon has them now.
    drop((http, socks, names));
    until_it_ends(child, client)
}

fn until_it_ends(mut child: Child, client: &Client) -> Result<Outcome, Failure> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Failure::new("the command has no process number"))?;
    let handle = pidfd_open(pid, PidfdFlags::empty())?;
    loop {
        let mut sources = [
            PollFd::new(&handle, PollFlags::IN),
            PollFd::new(client, PollFlags::IN),
        ];
        rustix::io::retry_on_intr(|| poll(&mut sources, None))?;
        let [ended, heard] = sources.map(|source| !source.revents().is_empty());
        if ended {
            let status = child.wait()?;
            return Ok(match (status.code(), status.signal()) {
                (Some(code), _) => Outcome::Exited(code),
                (None, signal) => Outcome::Signaled(signal.unwrap_or(0)),
            });
        }
        if heard && is_gone(client) {
            let _ended_meanwhile = child.kill();
            child.wait()?;
            return Err(Failure::new(
                "session ended: the daemon went away, and nothing runs unrecorded",
            ));
        }
    }
}

/// Nothing is asked while the command runs, so whatever is readable is the end.
fn is_gone(client: &Client) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    !matches!(
        recv(client, &mut [0; 1], flags),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR)
    )
}
