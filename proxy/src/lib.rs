//! Cordon's egress: accepts on a session's own listeners, normalises, asks the gate, resolves,
//! dials only what was classified, and relays.

#![forbid(unsafe_code)]
