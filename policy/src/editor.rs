//! What an editor asks while a policy is written: where things are, what they mean, what can stand
//! here.
//!
//! Text and an offset in, values out; the text may be half written. Never reads files, and never
//! parses policy with Cedar: a loop over tokens has no depth. The schema of an application is parsed
//! once its depth is known.

pub mod application;
mod complete;
mod docs;
mod hover;
mod lines;
mod outline;
mod token;

pub use self::{
    complete::{Completion, CompletionKind, Known, complete},
    hover::{Hover, hover},
    lines::{Lines, Place},
    outline::{Symbol, definition, symbols},
};

/// Longest document that is looked into, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = crate::engine::bounds::MAX_FILE_BYTES;

#[cfg(test)]
mod tests;
