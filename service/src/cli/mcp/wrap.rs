//! `cordon mcp wrap`: stands between a client and a tool server that runs in a sandbox of its own.
//!
//! Standard input and output are the client's; nothing else is written there.

use std::{
    ffi::OsString, io::Write as _, net::SocketAddr, os::fd::AsFd, path::PathBuf, process::Stdio,
    time::Duration,
};

use clap::Args;
use cordon_runtime::{
    extension::Start,
    mcp::{Limits, Relay},
};
use hyper::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::{
    fs::File,
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{Child, ChildStdout, Command},
    signal::unix::{SignalKind, signal},
};

use super::{http::Endpoint, judge::Daemon, remote};
use crate::{
    cli::{
        api::{self, Reply},
        connect, exit, extension,
    },
    error::Failure,
    mcp::{Ended, Side, pump},
    paths::Paths,
};

/// Options of `cordon mcp wrap`.
#[derive(Debug, Args)]
#[command(after_help = "Example, in the settings of a client:\n  \
    {\"command\": \"cordon\", \"args\": [\"mcp\", \"wrap\", \"--server\", \"tracker\", \"--\", \
    \"npx\", \"tracker-mcp\"]}\n\n\
    Each tools/call, resources/read and prompts/get is a decision about `call_tool`; docs/mcp.md \
    has rules to start from.")]
pub struct WrapArgs {
    /// The server's name in policy: `ExtensionTool::"NAME/TOOL"`
    #[arg(long, value_name = "NAME", required_unless_present_any = ["extension", "connector"])]
    server: Option<String>,
    /// An installed extension: its server, with its content, under its name
    #[arg(long, value_name = "NAME", conflicts_with_all = ["server", "command", "unwalled"])]
    extension: Option<String>,
    /// A connector of the configuration, enabled in a session: its own endpoint, under its name
    #[arg(
        long,
        value_name = "NAME",
        requires = "session",
        conflicts_with_all = ["server", "extension", "command", "unwalled", "policy", "grant", "env"],
    )]
    connector: Option<String>,
    /// A running session that the calls are decided for, instead of the server's own
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Packs, policy files or directories for the server's own session, as `cordon run`
    #[arg(long, value_name = "FILE|DIR|NAME")]
    policy: Vec<PathBuf>,
    /// A folder or file for the server, as `cordon run`; nothing unless named
    #[arg(long, value_name = "DIR[:MODE][=NAME]")]
    grant: Vec<String>,
    /// A variable for the server, as `cordon run`
    #[arg(long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Without a sandbox: a decision of its own, which the built-in policy refuses
    #[arg(long, conflicts_with = "grant")]
    unwalled: bool,
    /// Take one client by Streamable HTTP on this address of loopback (port 0: any free one) instead
    /// of standard input and output; prints where, and the token to show, as a JSON object
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// The server and its arguments
    #[arg(required_unless_present_any = ["extension", "connector"], trailing_var_arg = true)]
    command: Vec<OsString>,
}

/// Does it. Exit 0 when the client has closed its side, 3 when it was denied, 1 otherwise.
pub fn wrap(mut args: WrapArgs) -> Result<u8, Failure> {
    if let (Some(connector), Some(session)) = (&args.connector, &args.session) {
        return remote::wrap(connector, session, args.listen);
    }
    let server = match args.extension.take() {
        Some(name) => {
            of_extension(&mut args, &name)?;
            name
        }
        None => {
            let server = args.server.take().unwrap_or_default();
            crate::daemon::server_name(&server).map_err(|why| Failure::new(why).usage())?;
            not_installed(&server)?;
            server
        }
    };
    let args = &args;
    let paths = Paths::from_env(|name| std::env::var_os(name))?;
    // Held, so that the daemon does not leave meanwhile.
    let _control = connect::reach(&paths)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let code = runtime.block_on(wrapped(args, &server, paths));
    // The reader of standard input may wait for a line that never comes.
    runtime.shutdown_background();
    code
}

async fn wrapped(args: &WrapArgs, server_name: &str, paths: Paths) -> Result<u8, Failure> {
    // Before anything is started: a wrong address is told at once.
    let endpoint = match args.listen {
        Some(address) => Some(Endpoint::bind(address).await?),
        None => None,
    };
    // Before anything of the server runs: whether it may be loaded is decided for the session that
    // the calls are decided for.
    let asked = match &args.session {
        Some(session) => {
            let judge = Daemon::new(paths.clone(), session, server_name);
            let limits = limits(judge.ask("", &json!({})).await?)?;
            Some((judge, limits))
        }
        None => None,
    };
    let mut child = start(args, server_name)?;
    let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(Failure::new("the server has no standard input and output"));
    };
    let mut lines = BufReader::new(output);
    let Some(own) = session(&mut lines).await? else {
        // What `cordon run` says about it is on standard error already.
        let status = child.wait().await?;
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        return Ok(code.unwrap_or(exit::FAILED));
    };
    let session = args.session.as_deref().unwrap_or(&own);
    let (judge, limits) = match asked {
        Some(asked) => asked,
        None => {
            let judge = Daemon::new(paths, &own, server_name);
            match judge.look().await.and_then(limits) {
                Ok(limits) => (judge, limits),
                Err(failure) => {
                    end(child).await?;
                    return Err(failure);
                }
            }
        }
    };
    let server = Side { lines, sink: input };
    let relay = Relay::new(limits);
    let used = async {
        match endpoint {
            None => {
                let client = Side {
                    lines: BufReader::new(ours(std::io::stdin())?),
                    sink: ours(std::io::stdout())?,
                };
                Ok(pump(relay, &judge, client, server).await)
            }
            Some(endpoint) => {
                announce(&endpoint, server_name, session)?;
                let (near, far) = tokio::io::duplex(PIPE_BYTES);
                let (lines, sink) = tokio::io::split(near);
                let lines = BufReader::new(lines);
                let client = Side { lines, sink };
                let (ended, ()) =
                    tokio::join!(pump(relay, &judge, client, server), endpoint.serve(far));
                Ok::<_, Failure>(ended)
            }
        }
    };
    let ended = tokio::select! {
        ended = used => ended,
        () = interrupted() => Ok(Ended::Client),
    };
    let code = end(child).await?;
    match ended? {
        Ended::Client => Ok(0),
        Ended::Server if code == 0 => Ok(0),
        Ended::Server => Err(Failure::new(format!("the server ended with code {code}"))),
        Ended::Broken(why) => Err(Failure::new(why)),
    }
}

/// Where the endpoint is, for whoever started us.
pub(super) fn announce(endpoint: &Endpoint, server: &str, session: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let told = json!({
        "url": endpoint.url(),
        "token": endpoint.token(),
        "server": server,
        "session": session,
    });
    writeln!(out, "{told}")?;
    Ok(out.flush()?)
}

/// Resolves when we are asked to end: then the server ends too.
pub(super) async fn interrupted() {
    let signals = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ];
    let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = signals.map(signal) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}

/// Our own standard input or output, whatever it is: a pipe, a socket, a terminal.
pub(super) fn ours(stream: impl AsFd) -> Result<File, Failure> {
    let owned = stream.as_fd().try_clone_to_owned()?;
    Ok(File::from_std(owned.into()))
}

/// A server of any command does not go by the name of an extension, whose signature and approval are
/// of its own content.
fn not_installed(name: &str) -> Result<(), Failure> {
    let path = format!("/v1/extensions/{name}");
    let reply = api::ask(&Method::GET, &path, Vec::new(), DEADLINE)?;
    match reply.status {
        404 => Ok(()),
        200 => Err(
            Failure::new(format!("`{name}` is the name of an installed extension"))
                .help(format!(
                    "`cordon mcp wrap --extension {name}`, or another name"
                ))
                .usage(),
        ),
        _other => Err(reply.failure()),
    }
}

/// The server of an installed extension: its content is granted, read only.
fn of_extension(args: &mut WrapArgs, name: &str) -> Result<(), Failure> {
    let installed = extension::get(name)?;
    let start = installed.get("start").cloned().unwrap_or_default();
    let start: Option<Start> = serde_json::from_value(start)?;
    let start = start.ok_or_else(|| {
        Failure::new(format!("`{name}` does not say how its server is started"))
            .help("`cordon mcp wrap --server NAME -- COMMAND` starts any server")
    })?;
    let start = start.with_folder(&format!("mnt/{name}")).map_err(|why| {
        Failure::new(format!("`{name}` cannot be started: {why}"))
            .help("`cordon mcp wrap --server NAME -- COMMAND` starts any server")
    })?;
    let folder = installed
        .get("folder")
        .and_then(Value::as_str)
        .unwrap_or_default();
    args.grant.push(format!("{folder}:ro={name}"));
    let variables = start.env.iter();
    args.env
        .extend(variables.map(|(name, value)| format!("{name}={value}")));
    args.command = std::iter::once(start.command)
        .chain(start.args)
        .map(OsString::from)
        .collect();
    Ok(())
}

/// `cordon run` with the server: its own session, its own walls.
fn start(args: &WrapArgs, server: &str) -> Result<Child, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["run", "--quiet", "--print-session", "--agent", "none"]);
    if args.session.is_none() {
        command.args(["--loads", server]);
    }
    if args.unwalled {
        command.args(["--backend", "none"]);
    } else if args.grant.is_empty() {
        command.arg("--no-grant");
    }
    if let Some(parent) = &args.session {
        command.arg("--parent").arg(parent);
    }
    for policy in &args.policy {
        command.arg("--policy").arg(policy);
    }
    for grant in &args.grant {
        command.arg("--grant").arg(grant);
    }
    for variable in &args.env {
        command.arg("--env").arg(variable);
    }
    command
        .arg("--")
        .args(&args.command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    Ok(command.spawn()?)
}

/// The first line that `cordon run` prints; none where it ended without one.
async fn session(lines: &mut BufReader<ChildStdout>) -> Result<Option<String>, Failure> {
    let mut line = String::new();
    lines.take(MAX_ID_BYTES).read_line(&mut line).await?;
    let Some(id) = line.strip_suffix('\n') else {
        return Ok(None);
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if !id.is_empty() && id.chars().all(plain) {
        Ok(Some(id.to_owned()))
    } else {
        Err(Failure::new("`cordon run` announced no session"))
    }
}

fn limits(reply: Reply) -> Result<Limits, Failure> {
    if reply.status != 200 {
        return Err(reply.failure());
    }
    let bytes = reply.body.get("result_bytes").and_then(Value::as_u64);
    let arguments = reply.body.get("arguments").cloned().unwrap_or_default();
    let unexpected = || Failure::new("the daemon answered something unexpected");
    Ok(Limits {
        result_bytes: bytes
            .and_then(|bytes| usize::try_from(bytes).ok())
            .ok_or_else(unexpected)?,
        arguments: serde_json::from_value(arguments)?,
    })
}

/// Ends the server: its input is closed; then it is asked, then made to.
async fn end(mut child: Child) -> Result<i32, Failure> {
    for signal in [None, Some(Signal::TERM), Some(Signal::KILL)] {
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        if let (Some(signal), Some(pid)) = (signal, pid.and_then(Pid::from_raw)) {
            // It may have ended meanwhile; it is waited for either way.
            let _sent = kill_process(pid, signal);
        }
        if let Ok(status) = tokio::time::timeout(GRACE, child.wait()).await {
            return Ok(status?.code().unwrap_or(-1));
        }
    }
    Err(Failure::new("the server does not end"))
}

/// What is on its way between the endpoint and the relay, in bytes.
const PIPE_BYTES: usize = 64 * 1024;

/// Longest announcement, in bytes.
const MAX_ID_BYTES: u64 = 128;

/// Longer than the daemon takes at most.
const DEADLINE: Duration = Duration::from_secs(30);

/// Time for a server to end after each step.
const GRACE: Duration = Duration::from_secs(5);
