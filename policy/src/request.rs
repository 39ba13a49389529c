//! The one canonical request type: what is asked, by which session. Built by normalising; never
//! holds raw bytes.

use std::{fmt, path::PathBuf, sync::Arc, time::SystemTime};

use serde::{Deserialize, Serialize};

use crate::Destination;

/// One thing a session asks for. Every protocol and every door builds this same type.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who asks; the Cedar principal.
    pub session: Arc<SessionFacts>,
    /// What is asked.
    pub operation: Operation,
    /// When it was asked; passed in so that deciding needs no clock.
    pub at: SystemTime,
}

/// What policy may know about a session.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SessionFacts {
    /// Session id: UUIDv7, lower-case hex with dashes.
    pub id: String,
    /// The user's login name.
    pub user: String,
    /// The user's groups, by name.
    pub groups: Vec<String>,
    /// Name of the agent profile, where one was chosen.
    pub agent: Option<String>,
    /// Operating system the session runs on, as `std::env::consts::OS` spells it.
    pub platform: String,
    /// What holds the walls.
    pub backend: Backend,
}

/// What holds the walls of a session.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// bubblewrap with its own namespaces.
    Bubblewrap,
    /// No walls at all: decisions and log only.
    None,
}

/// What a session asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Operation {
    /// Start the session itself, to run `command` (program name, not its arguments).
    StartSession {
        /// Last path component of the program.
        command: String,
    },
    /// Put a folder or file of the host into the session.
    GrantFolder {
        /// Canonical absolute path on the host: no symlinks, no `..`.
        path: PathBuf,
        /// What may be done beneath it.
        mode: GrantMode,
        /// Who asked for it.
        source: GrantSource,
    },
    /// Remove a file or folder that was there before the session, or move it out of its grant.
    DeletePath {
        /// Absolute path on the host.
        path: PathBuf,
        /// The mode of the grant it lies in.
        mode: GrantMode,
    },
    /// Open a connection whose content is not looked into (CONNECT, SOCKS5, capture).
    Connect {
        /// Where to.
        destination: Destination,
        /// By which way it arrived. For the log and for policy, never a reason to decide less.
        transport: Transport,
    },
    /// One plain HTTP request through the forward proxy.
    HttpRequest {
        /// Where to.
        destination: Destination,
        /// Its method.
        method: Method,
        /// Path of the target, without query.
        path: String,
    },
    /// Reach a special-use address that an allowed name resolved to.
    ///
    /// Never decided by Cedar alone: built by the dialler when the address was not permitted in
    /// configuration, so that the refusal is recorded like any other.
    ReachAddress {
        /// What was allowed by name.
        destination: Destination,
        /// The address it resolved to.
        address: std::net::IpAddr,
    },
}

/// What may be done beneath a granted folder.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GrantMode {
    /// Read only.
    Ro,
    /// Create, write, replace contents and rename within; nothing that was there may disappear.
    Rw,
    /// As `rw`, and delete.
    Rwd,
}

/// Who asked for a grant.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GrantSource {
    /// Named on the command line with `--grant`.
    CommandLine,
    /// The current directory, asked for because no `--grant` was given.
    WorkingDirectory,
    /// Named by the agent's profile.
    Profile,
}

/// The way a network request arrived.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// HTTP CONNECT.
    HttpConnect,
    /// SOCKS5 CONNECT.
    Socks5,
    /// A TCP connection captured inside the session.
    Capture,
}

/// An HTTP method that may be forwarded: an RFC 9110 token, upper case as sent.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Method(pub String);

impl fmt::Display for GrantMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ro => "ro",
            Self::Rw => "rw",
            Self::Rwd => "rwd",
        })
    }
}
