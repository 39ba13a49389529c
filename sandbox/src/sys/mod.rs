//! System calls: the only `unsafe` of the project, one small function each, errors per step.

pub(crate) mod notify;
