//! Cordon's sessions: their facts, grants and agents, and the gate, the one function that decides
//! and records.

#![forbid(unsafe_code)]

pub mod agents;
pub mod config;
pub mod gate;
pub mod grants;
pub mod tally;

pub use config::{Config, LogConfig, NetworkConfig, ResolveConfig};
pub use gate::{Durability, Gate, GateError};
