//! The floor that touches the kernel: the only modules of the workspace that may use `unsafe`.
//!
//! Each file wraps one kernel interface in functions that are safe to call.

pub mod child;
pub(crate) mod clock;
pub mod fdpass;
pub(crate) mod landlock;
pub(crate) mod lease;
pub(crate) mod mount;
pub(crate) mod netlink;
pub(crate) mod nft;
pub(crate) mod notify;
pub(crate) mod process;
pub(crate) mod signals;
pub(crate) mod sockets;
pub(crate) mod userns;
pub(crate) mod users;
