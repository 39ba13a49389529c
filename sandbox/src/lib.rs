//! Cordon's walls: a session's network namespace with its listeners, bubblewrap, seccomp, the
//! first process inside, and the guard that keeps files from vanishing.

pub mod adapter;
pub mod callers;
mod channel;
pub mod dial;
pub mod guard;
pub mod init;
pub mod launch;
pub mod limits;
pub mod mounts;
pub mod network;
pub mod owners;
pub mod places;
pub mod plan;
pub mod seccomp;
mod sys;
pub mod terminal;

pub use sys::{child, fdpass};
