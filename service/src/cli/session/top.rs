//! `cordon session top`: what the running sessions use, again and again.

use std::{
    collections::HashMap,
    fmt::Write as _,
    io::{self, IsTerminal, Write as _},
    thread,
    time::{Duration, Instant},
};

use super::{SessionAnswer, SessionAsk, ask, list::age, unexpected};
use crate::{cli::Format, control::SessionStatus, error::Failure, summary::bytes};

/// Options of `cordon session top`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One look, not one after the other
    #[arg(long)]
    once: bool,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..3600))]
    interval: u32,
    /// How to print it: `json` gives one session a line
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Prints a table at each interval, until it is interrupted or nobody reads.
pub fn top(args: &Args) -> Result<u8, Failure> {
    let mut before = HashMap::new();
    loop {
        let sessions = match ask(SessionAsk::List { used: true })? {
            Some(SessionAnswer::List(sessions)) => sessions,
            None => Vec::new(),
            Some(_other) => return Err(unexpected()),
        };
        let now = Instant::now();
        let text = match args.format {
            Format::Json => lines(&sessions)?,
            Format::Text => table(&sessions, &before, now),
        };
        if !print(&text, args)? || args.once {
            return Ok(0);
        }
        before = sessions
            .iter()
            .filter_map(|status| Some((status.session.clone(), (status.used?.cpu_us, now))))
            .collect();
        thread::sleep(Duration::from_secs(args.interval.into()));
    }
}

/// Processor time at an earlier look, by session.
type Before = HashMap<String, (u64, Instant)>;

fn lines(sessions: &[SessionStatus]) -> Result<String, Failure> {
    let mut text = String::new();
    for session in sessions {
        text.push_str(&serde_json::to_string(session)?);
        text.push('\n');
    }
    Ok(text)
}

fn table(sessions: &[SessionStatus], before: &Before, now: Instant) -> String {
    let mut text = format!(
        "{:36}  {:8}  {:>7}  {:>6}  {:>9}  {:>5}  {:>19}  {:>5}  {:>19}  COMMAND\n",
        "SESSION",
        "STATE",
        "AGE",
        "CPU",
        "MEMORY",
        "PROCS",
        "DISK READ/WRITTEN",
        "FLOWS",
        "NETWORK IN/OUT"
    );
    for status in sessions {
        let used = status.used.unwrap_or_default();
        let flows = format!(
            "{} / {}",
            bytes(status.network.bytes_in),
            bytes(status.network.bytes_out)
        );
        // Writing to a string cannot fail.
        let _infallible = writeln!(
            text,
            "{:36}  {:8}  {:>7}  {:>6}  {:>9}  {:>5}  {:>19}  {:>5}  {flows:>19}  {}",
            status.session,
            status.state.as_str(),
            age(status.age_seconds),
            share(status, before.get(&status.session), now),
            bytes(used.memory_bytes),
            used.processes,
            disk(used.read_bytes, used.written_bytes),
            status.network.open,
            status.command,
        );
    }
    text
}

/// `-` where the kernel does not count it.
fn disk(read: Option<u64>, written: Option<u64>) -> String {
    let shown = |count: Option<u64>| count.map_or_else(|| "-".into(), bytes);
    format!("{} / {}", shown(read), shown(written))
}

/// Of one processor since the look before; at the first look since the session began.
fn share(status: &SessionStatus, before: Option<&(u64, Instant)>, now: Instant) -> String {
    let Some(used) = status.used else {
        return "-".into();
    };
    let (cpu_us, over) = match before {
        Some((cpu_us, at)) => (
            used.cpu_us.saturating_sub(*cpu_us),
            now.duration_since(*at).as_micros(),
        ),
        None => (
            used.cpu_us,
            u128::from(status.age_seconds.max(1)) * 1_000_000,
        ),
    };
    format!("{} %", u128::from(cpu_us) * 100 / over.max(1))
}

/// False when nobody reads any more.
fn print(text: &str, args: &Args) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    let clear = !args.once && args.format == Format::Text && out.is_terminal();
    let clear = if clear { "\x1b[2J\x1b[H" } else { "" };
    match out.write_all(format!("{clear}{text}").as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => Ok(written.and_then(|()| out.flush()).map(|()| true)?),
    }
}
