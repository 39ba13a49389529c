//! `cordon gateway`: the proxy without a sandbox, for CI runners, containers and servers.

use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use clap::Args as ClapArgs;
use cordon_session::config::{CallerConfig, ListenerConfig, Speaks};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::{Format, serve::raise_descriptor_limit};
use crate::{
    daemon::{Activation, Bound, GatewayOptions},
    error::Failure,
    paths::Paths,
    user::User,
};

/// Options of `cordon gateway`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Listen for HTTP here, for example 127.0.0.1:3128; port 0 takes any
    #[arg(long, value_name = "ADDRESS:PORT")]
    http: Vec<SocketAddr>,
    /// Listen for SOCKS5 here, for example 127.0.0.1:1080
    #[arg(long, value_name = "ADDRESS:PORT")]
    socks: Vec<SocketAddr>,
    /// Listen for both here; the first byte tells them apart
    #[arg(long, value_name = "ADDRESS:PORT")]
    mixed: Vec<SocketAddr>,
    /// Whoever no configured caller fits is this user to policy
    #[arg(long, value_name = "NAME")]
    caller: Option<String>,
    /// Policy that decides instead of the built-in one: a file, a folder or a pack; repeatable
    #[arg(long, value_name = "PATH")]
    policy: Vec<PathBuf>,
    /// Configuration to read instead of the user's `cordon.toml`
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How the listeners are printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the gateway until it is asked to stop, then lets its flows end.
pub fn gateway(args: Args) -> Result<u8, Failure> {
    raise_descriptor_limit();
    let activation = Activation::from_env()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(args, activation)).map(|()| 0)
}

async fn run(args: Args, activation: Activation) -> Result<(), Failure> {
    let mut paths = Paths::from_env(|name| std::env::var_os(name))?;
    if let Some(file) = &args.config {
        if !file.is_file() {
            let message = format!("configuration `{}` is not a file", file.display());
            return Err(Failure::new(message).help("name a `cordon.toml`").usage());
        }
        paths.config_file.clone_from(&args.config);
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut bound = Bound::new(paths, false, activation).await?;
    let listeners = listeners(&args);
    let config = bound.gateway_config();
    let is_named = |ours: &&ListenerConfig| {
        let mut named = config.listeners.iter();
        named.any(|theirs| theirs.name == ours.name)
    };
    if let Some(ours) = listeners.iter().find(is_named) {
        let name = &ours.name;
        let message =
            format!("a listener of the configuration is called `{name}`, as `--{name}` is");
        let failure = Failure::new(message);
        return Err(failure
            .help("give it another name: callers are known by it")
            .usage());
    }
    let everybody = everybody(
        args.caller,
        config.callers.is_empty(),
        config.listeners.iter().chain(&listeners),
    )?;
    let options = GatewayOptions {
        listeners,
        policy: args.policy,
        everybody,
    };
    let listening = bound.open_gateway(options).await?;
    print_ready(args.format, &listening)?;
    bound
        .serve(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
        .await
}

fn listeners(args: &Args) -> Vec<ListenerConfig> {
    let kinds = [
        ("http", Speaks::Http, &args.http),
        ("socks", Speaks::Socks, &args.socks),
        ("mixed", Speaks::Mixed, &args.mixed),
    ];
    kinds
        .into_iter()
        .flat_map(|(name, speaks, addresses)| {
            addresses.iter().map(move |address| ListenerConfig {
                name: name.into(),
                address: Some(*address),
                unix: None,
                systemd: None,
                speaks,
                certificate: None,
                key: None,
                client_ca: None,
                proxy_protocol_from: Vec::new(),
            })
        })
        .collect()
}

/// Who everybody is. Without a word about callers it is the user who started the gateway, as long as
/// nobody else's machine can reach it.
fn everybody<'a>(
    named: Option<String>,
    no_callers: bool,
    listeners: impl Iterator<Item = &'a ListenerConfig>,
) -> Result<Option<CallerConfig>, Failure> {
    let caller = |user: String, groups: Vec<String>| CallerConfig {
        // No configured name is empty, so this one is nobody else's.
        name: String::new(),
        user: Some(user),
        groups,
        agent: None,
        listener: None,
        sources: Vec::new(),
        certificate: None,
        username: None,
        secret_file: None,
    };
    if let Some(user) = named {
        return Ok(Some(caller(user, Vec::new())));
    }
    if !no_callers {
        return Ok(None);
    }
    let local = |ip: IpAddr| ip.is_loopback();
    for listener in listeners {
        if let Some(name) = &listener.systemd {
            // Where it listens is for the unit to say, today and after its next change.
            return Err(nobody_known(&format!("the socket `{name}` of systemd")));
        }
        if let Some(address) = listener.address.filter(|address| !local(address.ip())) {
            return Err(nobody_known(&format!("`{address}`")));
        }
    }
    let user = User::current()?;
    Ok(Some(caller(user.name, user.groups)))
}

fn nobody_known(place: &str) -> Failure {
    Failure::new(format!(
        "everybody who reaches {place} could use this gateway, and policy would not know who they \
         are"
    ))
    .help(
        "name `[[gateway.callers]]` in the configuration, or say `--caller NAME` where everybody \
         who can reach it may be NAME",
    )
    .usage()
}

fn print_ready(format: Format, listening: &[(String, String)]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match format {
        Format::Text => {
            for (name, place) in listening {
                writeln!(out, "listening: {name} {place}")?;
            }
            writeln!(out, "ready")?;
        }
        Format::Json => {
            let listeners: Vec<_> = listening
                .iter()
                .map(|(name, place)| json!({ "name": name, "address": place }))
                .collect();
            writeln!(out, "{}", json!({ "ready": true, "listeners": listeners }))?;
        }
    }
    out.flush()?;
    Ok(())
}
