//! The one canonical request type: what is asked, by which session. Built by normalising; never
//! holds raw bytes.

mod grant;
mod network;
mod tool;

use std::{fmt, net::IpAddr, path::PathBuf, sync::Arc, time::SystemTime};

use serde::{Deserialize, Serialize};

pub use tool::{Definition, ToolCall, ToolHints, ToolKind};

pub(crate) use grant::own_name;

use crate::{Destination, Host, HttpFacts, Seen};

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
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
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
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// bubblewrap with its own namespaces.
    Bubblewrap,
    /// A container of rootless podman.
    Container,
    /// No walls at all: decisions and log only.
    None,
    /// A caller of `cordon gateway`: walls, if any, are somebody else's.
    Gateway,
}

/// Which system calls a session's processes may make: the reviewed lists of the sandbox.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum SeccompProfile {
    /// Less than programs commonly use: for what handles hostile data.
    Strict,
    /// What programs commonly use.
    #[default]
    Default,
    /// What debuggers and sanitisers need beside that.
    Build,
}

impl SeccompProfile {
    /// All of them, the narrowest first.
    pub const ALL: [Self; 3] = [Self::Strict, Self::Default, Self::Build];

    /// Its name: in the command line, the configuration, policy and the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Default => "default",
            Self::Build => "build",
        }
    }

    /// The profile of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name() == name)
    }
}

impl fmt::Display for SeccompProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a session asks for.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Operation {
    /// Start the session itself, to run `command` (program name, not its arguments).
    StartSession {
        /// Last path component of the program.
        command: String,
        /// Which system calls it may make.
        profile: SeccompProfile,
    },
    /// Run a further command in the session while it runs, under the same walls.
    ExecInSession {
        /// Last path component of the program.
        command: String,
        /// Which system calls the session may make.
        profile: SeccompProfile,
    },
    /// Let what listens on a port inside the session be reached at an address of the host.
    PublishPort {
        /// Where it is reached on the host.
        address: IpAddr,
        /// The port there.
        port: u16,
        /// The port inside, on the session's loopback.
        inside: u16,
    },
    /// Put a folder or file of the host into the session.
    GrantFolder {
        /// Canonical absolute path on the host: no symlinks, no `..`.
        path: PathBuf,
        /// What may be done beneath it.
        mode: GrantMode,
        /// Who asked for it.
        source: GrantSource,
        /// Its name inside, where that is not the path's own; see [`Operation::grant`].
        name: Option<String>,
    },
    /// Remove a file or folder that was there before the session, or move it out of its grant.
    DeletePath {
        /// Absolute path on the host.
        path: PathBuf,
        /// The mode of the grant it lies in.
        mode: GrantMode,
    },
    /// Read one path beneath a grant, where paths are decided one by one.
    ReadPath {
        /// Absolute path on the host.
        path: PathBuf,
        /// The mode of the grant it lies in.
        mode: GrantMode,
    },
    /// Create or write one path beneath a grant, where paths are decided one by one.
    WritePath {
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
        /// What was seen of it so far.
        seen: Seen,
    },
    /// One HTTP request that can be read: plain through the forward proxy, or inside TLS that
    /// Cordon ends.
    HttpRequest {
        /// Where to.
        destination: Destination,
        /// Its method.
        method: Method,
        /// Path of the target, without query.
        path: String,
        /// What else was read of it.
        facts: Box<HttpFacts>,
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
    /// Switch a connector on in this session.
    EnableConnector {
        /// Its name.
        connector: String,
    },
    /// Use one scope of a connector.
    UseScope {
        /// The connector's name.
        connector: String,
        /// The scope as the connector spells it, for example `read:issues`.
        scope: String,
    },
    /// Install an extension.
    InstallExtension {
        /// Which.
        extension: ExtensionFacts,
    },
    /// Load an installed extension into this session.
    LoadExtension {
        /// Which.
        extension: ExtensionFacts,
    },
    /// Use a permission that an extension declared.
    UsePermission {
        /// Whose.
        extension: ExtensionFacts,
        /// The permission as declared, for example `files:read`.
        permission: String,
    },
    /// Call a tool that an extension or a tool server offers.
    CallTool {
        /// Whose.
        extension: ExtensionFacts,
        /// The tool's name.
        tool: String,
        /// What is known of the call.
        call: Box<ToolCall>,
    },
    /// Switch the browser on in this session.
    EnableBrowser,
    /// Open a page of an origin in the browser.
    OpenOrigin {
        /// Which.
        origin: Origin,
    },
    /// Do something on a page of an origin.
    ActInOrigin {
        /// Where.
        origin: Origin,
        /// What.
        act: BrowserAct,
    },
    /// Answer what a session asks. The principal of this and the following three is not a session
    /// but the user of [`Request::session`], who acts for themselves.
    Approve {
        /// Whose request is answered.
        asking: Arc<SessionFacts>,
    },
    /// Do something with a session from outside: open, read, steer or end it, and the like.
    ManageSession {
        /// What.
        act: SessionAct,
        /// With which; one that is to be opened is as it would be.
        of: Arc<SessionFacts>,
    },
    /// Put a policy bundle into force, take it back, or try it out.
    PublishPolicy {
        /// Name of the bundle.
        bundle: String,
    },
    /// Read the log beyond one's own sessions.
    ReadLog {
        /// Name of the log: its host's name.
        log: String,
    },
}

/// What policy may know about an extension or a tool server.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct ExtensionFacts {
    /// Its identifier.
    pub id: String,
    /// Who signed it, where somebody did.
    pub publisher: Option<String>,
    /// Its version.
    pub version: String,
    /// SHA-256 of its manifest and content, lower-case hex.
    pub digest: String,
    /// What came of checking its signature.
    pub signature: Signature,
}

/// What came of checking a signature: four different things.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Signature {
    /// Good, by a publisher who is trusted.
    Trusted,
    /// Good, by somebody else.
    Untrusted,
    /// There is one and it does not verify.
    Broken,
    /// There is none.
    Unsigned,
}

/// A web origin (RFC 6454): scheme, host and port.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Origin {
    /// The scheme.
    pub scheme: Scheme,
    /// Host and port.
    pub destination: Destination,
}

/// The scheme of a web origin.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Over TLS.
    Https,
    /// Plain.
    Http,
}

/// What is done on a page.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BrowserAct {
    /// A click.
    Click,
    /// Text typed.
    Type,
    /// A form sent.
    Submit,
    /// A file sent.
    Upload,
    /// A file taken.
    Download,
    /// A script run.
    Script,
}

/// What a person or a runtime does with a session from outside of it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum SessionAct {
    /// Open it.
    Open,
    /// See what it is and does.
    Read,
    /// Ask in its name.
    Ask,
    /// Pause it, and let it run again.
    Steer,
    /// Give it something, take it away, start a further command in it.
    Change,
    /// End it.
    End,
    /// Make tokens that open it, and take them back.
    Token,
}

/// What may be done beneath a granted folder; each more than the one before.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
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
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GrantSource {
    /// Named on the command line with `--grant`.
    CommandLine,
    /// The current directory, asked for because no `--grant` was given.
    WorkingDirectory,
    /// Named by the agent's profile.
    Profile,
    /// Handed over by the API.
    Api,
}

/// The way a network request arrived.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// HTTP CONNECT.
    HttpConnect,
    /// SOCKS5 CONNECT.
    Socks5,
    /// A TCP connection captured inside the session.
    Capture,
}

impl SessionAct {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Open,
        Self::Read,
        Self::Ask,
        Self::Steer,
        Self::Change,
        Self::End,
        Self::Token,
    ];

    /// As it stands in records and in questions.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Read => "read",
            Self::Ask => "ask",
            Self::Steer => "steer",
            Self::Change => "change",
            Self::End => "end",
            Self::Token => "token",
        }
    }

    /// Its action in the schema.
    pub const fn action(self) -> &'static str {
        match self {
            Self::Open => "open_session",
            Self::Read => "read_session",
            Self::Ask => "ask_session",
            Self::Steer => "steer_session",
            Self::Change => "change_session",
            Self::End => "end_session",
            Self::Token => "issue_token",
        }
    }
}

impl Scheme {
    /// As it stands in an origin.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }

    /// The port that an origin leaves out.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Https => 443,
            Self::Http => 80,
        }
    }
}

impl fmt::Display for Origin {
    /// As browsers serialise it (RFC 6454, 6.2): without the scheme's own port.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme.as_str();
        let Destination { host, port } = &self.destination;
        if port.get() == self.scheme.default_port() {
            match host {
                Host::Name(name) => write!(f, "{scheme}://{name}"),
                Host::Address(IpAddr::V4(address)) => write!(f, "{scheme}://{address}"),
                Host::Address(IpAddr::V6(address)) => write!(f, "{scheme}://[{address}]"),
            }
        } else {
            write!(f, "{scheme}://{}", self.destination)
        }
    }
}

impl BrowserAct {
    /// As it stands in records and in policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Click => "click",
            Self::Type => "type",
            Self::Submit => "submit",
            Self::Upload => "upload",
            Self::Download => "download",
            Self::Script => "script",
        }
    }
}

impl Signature {
    /// As it stands in records and in policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::Untrusted => "untrusted",
            Self::Broken => "broken",
            Self::Unsigned => "unsigned",
        }
    }
}

/// An HTTP method that may be forwarded: an RFC 9110 token, upper case as sent.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
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
