//! Connections of the Model Context Protocol, as the command line and the daemon both hold them: the
//! client's side and a server's side of Streamable HTTP, and the pump between them.

mod front;
mod pump;
mod ruling;
mod sse;
mod upstream;

pub use front::{Front, Refusal};
pub use pump::{Ended, Side, pump};
pub use ruling::{ruling, undecided};
pub use upstream::{Opening, Stream, Upstream, Way};

/// The protocol's session, as both sides name it.
pub const SESSION: &str = "mcp-session-id";

/// The protocol's version, as clients name it once it is agreed on.
pub const VERSION: &str = "mcp-protocol-version";

/// Revisions with this transport that pass through the relay.
pub const VERSIONS: [&str; 3] = ["2025-03-26", "2025-06-18", "2025-11-25"];

/// Longest message of a server, in bytes; beyond `mcp.result_bytes` it is answered with an error,
/// beyond this the connection ends.
pub const SERVER_LINE_BYTES: usize = 16 * 1024 * 1024;
