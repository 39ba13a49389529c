//! The probe: tries the walls from inside a real session and says what came of each attempt.
//!
//! [`Orders`] in (a file in the session's granted folder), one [`Finding`] a line out, on standard
//! output. Our own binary, started as `cordon-init --probe` by a session's command. It is honest:
//! it makes no system call that a library would not; the escape suite does those. It never judges
//! by what it hopes: each wall has attempts that must fail and attempts that must work.

mod files;
mod kernel;
mod network;
mod outside;
mod ways;

use std::{
    fs,
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde::{Deserialize, Serialize};

pub use outside::outside;

/// The word that makes `cordon-init` the probe.
pub const FLAG: &str = "--probe";

/// The name of the writable grant below `mnt`.
pub const WORK: &str = "work";

/// The name of the read-only grant below `mnt`.
pub const READ: &str = "read";

/// The orders, in the writable grant.
pub const ORDERS: &str = "orders.json";

/// A file in the writable grant that was there before the session.
pub const OLD: &str = "old";

/// A unix socket in the writable grant, on which the host listens.
pub const SOCKET: &str = "host.sock";

/// What to try: where the host's counting listeners are, and which names lead where.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Orders {
    /// Files and directories of the host that no session may open.
    pub sealed: Vec<PathBuf>,
    /// Listeners of the host, TCP and UDP on the same port.
    pub host: Vec<SocketAddr>,
    /// An abstract unix socket of the host.
    pub abstract_name: String,
    /// Whether the session may make unix sockets, for its own processes.
    pub own_sockets: bool,
    /// A process of the host.
    pub process: u32,
    /// For how many seconds the host has been running, at least; absent where that is shown.
    pub uptime: Option<u64>,
    /// A name that policy allows, and that leads to `allowed_port`.
    pub allowed: String,
    /// Where it listens.
    pub allowed_port: u16,
    /// A name that policy does not allow, and that would lead to `denied_port`.
    pub denied: String,
    /// Where that listens.
    pub denied_port: u16,
    /// What the allowed name answers.
    pub answer: String,
}

/// What came of one attempt.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// The wall it is about.
    pub wall: String,
    /// What was tried.
    pub attempt: String,
    /// Whether it was to work: a control, without which a refusal proves nothing.
    pub must_work: bool,
    /// What happened.
    pub got: String,
    /// Whether that is right.
    pub ok: bool,
}

impl Finding {
    /// Of an attempt that a wall must refuse.
    pub fn refused<T>(wall: &str, attempt: &str, result: io::Result<T>) -> Self {
        Self::of(
            wall,
            attempt,
            false,
            result.map(|_worked| "it worked".into()),
        )
    }

    /// Of a control, with what it shows.
    pub fn works(wall: &str, attempt: &str, result: io::Result<String>) -> Self {
        Self::of(wall, attempt, true, result)
    }

    fn of(wall: &str, attempt: &str, must_work: bool, result: io::Result<String>) -> Self {
        let ok = result.is_ok() == must_work;
        Self {
            wall: wall.into(),
            attempt: attempt.into(),
            must_work,
            got: result.unwrap_or_else(|error| told(&error)),
            ok,
        }
    }
}

/// Runs as the probe. Exit 0 says that every attempt was made, not that all is well.
pub fn main() -> ExitCode {
    let ran = orders().and_then(|(home, orders)| run(&home, &orders));
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: the walls were not tried: {error}");
            ExitCode::FAILURE
        }
    }
}

fn orders() -> io::Result<(PathBuf, Orders)> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let home = home.ok_or_else(|| io::Error::other("`HOME` is not set"))?;
    let bytes = fs::read(home.join("mnt").join(WORK).join(ORDERS))?;
    Ok((home, serde_json::from_slice(&bytes)?))
}

fn run(home: &Path, orders: &Orders) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let parts = [
        files::findings(home, orders),
        network::findings(orders),
        ways::findings(orders),
        kernel::findings(home, orders),
    ];
    for finding in parts.iter().flatten() {
        serde_json::to_writer(&mut out, finding)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// The kernel's words, without the number.
fn told(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _number)) => words.to_lowercase(),
        None => text,
    }
}
