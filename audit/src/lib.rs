//! Cordon's log: every decision, durable before its effect, indexed, and provable.
//!
//! [`Decision`](cordon_policy::Decision)s and [`Event`]s in, [`Recorded`] out. Never decides.

#![forbid(unsafe_code)]

mod event;
mod log;
mod permit;
pub mod read;
mod record;
pub mod verify;

pub use event::{Event, FlowEnd, SessionEnd};
pub use log::{Log, LogOptions, OpenError, RecordError};
pub use permit::{Denied, Permit, Recorded};
pub use record::{Record, RecordId};
