//! Cordon's log: every decision, durable before its effect, indexed, and provable.
//!
//! [`Decision`](cordon_policy::Decision)s and [`Event`]s in, [`Recorded`] out. Never decides.

#![forbid(unsafe_code)]

mod checkpoint;
mod draft;
mod event;
mod files;
mod frame;
mod index;
mod keeper;
mod log;
mod merkle;
pub mod past;
mod permit;
pub mod read;
pub mod record;
mod recover;
mod segment;
mod shared;
mod syncer;
mod text;
pub mod verify;
mod writer;

pub use event::{Event, FlowEnd, SessionEnd};
pub use log::{Log, LogOptions, OpenError, OpenErrorKind, RecordError};
pub use permit::{Denied, Permit, Recorded};
pub use record::{Effect, Kind, Record, RecordId};
pub use text::escape;
