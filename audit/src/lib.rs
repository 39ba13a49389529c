//! Cordon's log: every decision, durable before its effect, indexed, and provable.
//!
//! [`Decision`](cordon_policy::Decision)s and [`Event`]s in, [`Recorded`] out. Never decides.

#![forbid(unsafe_code)]

mod checkpoint;
mod desk;
mod draft;
pub mod durable;
mod event;
pub mod export;
mod files;
pub mod find;
mod frame;
mod group;
mod index;
mod keeper;
mod keys;
mod log;
mod merkle;
pub mod past;
mod permit;
pub mod prove;
pub mod read;
pub mod record;
mod recover;
mod retention;
mod seal;
mod sealer;
mod secrets;
mod segment;
mod shared;
mod side;
mod syncer;
mod text;
mod upkeep;
pub mod verify;
mod writer;

pub use cordon_policy::moment::rfc3339;
pub use draft::action_of;
pub use event::{
    AccessEvent, AccessOutcome, ApprovalEvent, ApprovalStep, DecidedBy, Event, FlowEnd,
    PolicyBundle, PolicyChange, PolicyEvent, SessionEnd, SessionOrigin, SessionState,
};
pub use log::{Log, LogOptions, LogStats, OpenError, OpenErrorKind, RecordError};
pub use permit::{Denied, Permit, Recorded};
pub use record::{Effect, Kind, Record, RecordId};
pub use retention::{Class, Hold, Pruning, Retention, Scope};
pub use secrets::Secret;
pub use side::{Revealed, Sensitive};
pub use text::{escape, escape_json, escape_lines};
pub use upkeep::{Done, NewOrigin, Order, Task, holds, new_origin};
