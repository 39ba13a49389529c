//! Cordon's policy: the vocabulary of requests, the Cedar schema, and the engine that decides.
//!
//! Pure: a request and an immutable [`Snapshot`] in, a [`Decision`] out. No clock, socket or
//! async; files are read only by [`source`], before anything is decided.

#![forbid(unsafe_code)]

pub mod address;
pub mod check;
mod decision;
pub mod destination;
mod engine;
pub mod host;
mod request;
mod schema;
pub mod source;
mod suggest;

pub use decision::{Allow, Asked, Basis, Decided, Decision, Deny, DenyReason, RawRequest, RuleRef};
pub use destination::{Destination, Host, Port, TargetError};
pub use engine::{Effect, Rule, Snapshot};
pub use host::{HostError, NormalizedHost};
pub use request::{
    Backend, GrantMode, GrantSource, Method, Operation, Request, SessionFacts, Transport,
};
pub use schema::{SCHEMA_TEXT, SCHEMA_VERSION};
pub use suggest::suggest;
