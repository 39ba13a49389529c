//! What runtimes speak and bring along: messages of the Model Context Protocol, definitions of
//! tools, extensions, settings of other tools.
//!
//! Bytes in, checked values out. Never decides, never opens a connection.
#![forbid(unsafe_code)]

pub mod extension;
pub mod import;
mod json;
pub mod mcp;

pub use json::{Fields, read};
