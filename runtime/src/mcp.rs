//! The Model Context Protocol, as an enforcement point between a client and a server sees it.
//!
//! Source: modelcontextprotocol.io, specification 2025-11-25 and the revisions before it.

mod definition;
mod id;
mod judge;
mod listing;
mod message;
mod pins;
mod relay;

pub use definition::{definition_digest, hints_of};
pub use id::Id;
pub use judge::{Asked, Fate, Judge, Listed, Ruling};
pub use message::{Malformed, Message, error};
pub use pins::{Pin, Pins, PinsError, Standing};
pub use relay::{Limits, Out, Relay};

/// The name by which a server's instructions to the model are held on to, like a definition.
pub const INSTRUCTIONS: &str = "server:instructions";

/// Beginnings of names that are no tool's: what is used beside tools is named with them.
pub const RESERVED: [&str; 4] = ["resource:", "prompt:", "client:", "server:"];

/// Codes of errors that this side gives. Those of JSON-RPC 2.0 section 5.1, and one of our own from
/// the range that it leaves to implementations; -32000 to -32002 and -32042 have meanings in use.
pub mod code {
    /// It is not JSON.
    pub const PARSE: i64 = -32700;
    /// It is no request.
    pub const INVALID: i64 = -32600;
    /// A method that is not passed on.
    pub const METHOD: i64 = -32601;
    /// Parameters that the method does not take.
    pub const PARAMS: i64 = -32602;
    /// The other side is not answering as it should.
    pub const INTERNAL: i64 = -32603;
    /// Policy refuses it; `data` says why.
    pub const REFUSED: i64 = -32010;
}
