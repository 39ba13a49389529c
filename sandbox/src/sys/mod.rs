//! System calls: the only `unsafe` of the project, one small function each, errors per step.

#![expect(unsafe_code, reason = "the one place where system calls are made by hand")]

pub mod process;
pub mod signals;
