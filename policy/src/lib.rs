//! Cordon's policy: the vocabulary of requests, the Cedar schema, and the engine that decides.
//!
//! Pure: a request and an immutable [`Snapshot`] in, a [`Decision`] out. No clock, socket or
//! async; files are read only by [`source`] and [`bundle`], before anything is decided.

#![forbid(unsafe_code)]

pub mod address;
pub mod application;
mod approval;
pub mod ask;
pub mod bundle;
pub mod check;
mod decision;
pub mod destination;
pub mod editor;
mod engine;
pub mod format;
mod history;
pub mod host;
mod layer;
pub mod moment;
mod observe;
pub mod packs;
pub mod plain_words;
mod process;
mod request;
mod schema;
mod seen;
pub mod source;
mod suggest;
pub mod testing;
mod wall;
mod words;

pub use application::Application;
pub use approval::{ApprovalRef, ApprovalScope, GivenApproval};
pub use decision::{
    Allow, Asked, Basis, Decided, Decision, Deny, DenyReason, Obligation, Observed, RawRequest,
    RuleRef, Shadow, ShadowEffect,
};
pub use destination::{Destination, Host, Port, TargetError};
pub use engine::{Clause, Effect, LateFact, Part, Rule, Snapshot, WhyNot};
pub use history::{
    DestinationPast, History, MAX_LABEL_BYTES, Past, SessionPast, is_label, labels_in,
};
pub use host::{HostError, NormalizedHost};
pub use layer::{Layer, Trust};
pub use observe::{Observe, ObserveError};
pub use process::{Holder, ProcessFacts};
pub use request::{
    Backend, BrowserAct, Definition, ExtensionFacts, GrantMode, GrantSource, Method, Operation,
    Origin, Request, Scheme, SeccompProfile, SessionAct, SessionFacts, Signature, ToolCall,
    ToolHints, ToolKind, Transport,
};
pub use schema::{SCHEMA_TEXT, SCHEMA_VERSION};
pub use seen::{
    Handshake, HttpFacts, MAX_KEYS_BYTES, MAX_LENGTH, MAX_QUERY_KEYS, Seen, TlsFacts, TooManyKeys,
    percent_decoded, query_keys,
};
pub use suggest::{Names, suggest};
pub use wall::Wall;
