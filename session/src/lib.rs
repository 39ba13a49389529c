//! Cordon's sessions: their facts, grants and agents, and the gate, the one function that decides
//! and records.

#![forbid(unsafe_code)]

pub mod agents;
pub mod approvals;
pub mod comparison;
pub mod config;
pub mod feed;
pub mod gate;
pub mod grants;
pub mod metrics;
pub mod past;
pub mod tally;

pub use config::{Config, LimitsConfig, LogConfig, NetworkConfig, ResolveConfig};
pub use feed::{Beside, InForce, PolicyFeed, Role};
pub use gate::{Durability, Gate, GateError, Watch};
