//! `cordon session show`.

use std::{fmt::Write as _, net::SocketAddr};

use cordon_policy::SessionPast;
use cordon_sandbox::limits::Held;

use super::{SessionAnswer, SessionAsk, ask_of_one, list::age, other};
use crate::{
    cli::Format,
    control::SessionStatus,
    error::Failure,
    summary::{bytes, processor_time, storage_words},
};

/// Options of `cordon session show`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Its id, or the first digits of it
    #[arg(value_name = "SESSION")]
    session: String,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Everything about one session.
pub fn show(args: &Args) -> Result<u8, Failure> {
    let session = args.session.clone();
    let status = match ask_of_one(SessionAsk::Show { session })? {
        SessionAnswer::Show(status) => status,
        answer => return Err(other(&answer)),
    };
    match args.format {
        Format::Json => println!("{}", serde_json::to_string(&status)?),
        Format::Text => print!("{}", as_text(&status)),
    }
    Ok(0)
}

fn as_text(status: &SessionStatus) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _infallible = writeln!(out, "{name:13}{value}");
    };
    line("session", &status.session);
    let connected = match status.connected {
        true => "",
        false => ", takes no orders",
    };
    let state = format!(
        "{}, {}{connected}",
        status.state.as_str(),
        age(status.age_seconds)
    );
    line("state", &state);
    line("command", &status.command);
    if let Some(agent) = &status.agent {
        line("agent", agent);
    }
    line("user", &status.user);
    if let Some(parent) = &status.parent {
        line("started for", parent);
    }
    let first = status
        .first_process
        .map_or_else(|| "none yet".into(), |pid| pid.to_string());
    line(
        "processes",
        &format!(
            "first {first}, launcher {}, walls by {}",
            status.launcher, status.backend
        ),
    );
    if let Some(why) = &status.browser {
        line("browser", why);
    }
    if let Some(image) = &status.image {
        line("image", image);
    }
    if !status.pauses_by.is_empty() {
        line("pauses by", &status.pauses_by);
    }
    line("policy", &status.policy);
    if let Some(until) = &status.observe {
        line("", &format!("ONLY OBSERVES until {until}"));
    }
    let network = &status.network;
    line(
        "decided",
        &format!("{} allowed, {} denied", network.allowed, network.denied),
    );
    line(
        "network",
        &format!(
            "{} open, {} in, {} out",
            network.open,
            bytes(network.bytes_in),
            bytes(network.bytes_out)
        ),
    );
    past(status.past.as_ref(), &mut line);
    if let Some(used) = &status.used {
        line(
            "uses",
            &format!(
                "{} of processor time, {} of memory, {} processes",
                processor_time(used.cpu_us),
                bytes(used.memory_bytes),
                used.processes
            ),
        );
        line("storage", &storage_words(used));
    }
    for (at, held) in status.limits.iter().enumerate() {
        let name = if at == 0 { "limits" } else { "" };
        let weaker = held.weaker.as_ref();
        let weaker = weaker.map(|weaker| format!(" ({weaker})"));
        let value = format!(
            "{:13} {:<12} by {}{}",
            held.name,
            value_of(held),
            held.by,
            weaker.unwrap_or_default()
        );
        line(name, &value);
    }
    for (at, grant) in status.grants.iter().enumerate() {
        let name = if at == 0 { "grants" } else { "" };
        let value = format!(
            "{:4} {} -> {}",
            grant.mode,
            grant.path.display(),
            grant.inside.display()
        );
        line(name, &value);
    }
    for (at, port) in status.published.iter().enumerate() {
        let name = if at == 0 { "ports" } else { "" };
        let outside = SocketAddr::new(port.address, port.port);
        line(name, &format!("{outside} -> {} inside", port.inside));
    }
    out
}

/// What the session did, as policy is told it.
fn past(past: Option<&SessionPast>, line: &mut impl FnMut(&str, &str)) {
    let Some(past) = past else {
        return line("did", "not known any more: rules that look at it refuse");
    };
    let did = format!(
        "{} requests to {} destinations ({} sent, {} received), {} deletes, {} tool calls",
        past.requests,
        past.destinations,
        bytes(past.bytes_sent),
        bytes(past.bytes_received),
        past.deletes,
        past.tool_calls
    );
    line("did", &did);
    if !past.labels.is_empty() {
        let labels: Vec<&str> = past.labels.iter().map(|label| &**label).collect();
        line("labels", &labels.join(", "));
    }
}

/// In the unit that its name ends with, for people.
fn value_of(held: &Held) -> String {
    match held.name.rsplit('_').next() {
        Some("bytes") => bytes(held.value),
        Some("percent") => format!("{} %", held.value),
        Some("seconds") => age(held.value),
        _ => held.value.to_string(),
    }
}
