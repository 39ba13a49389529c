//! The egress over loopback: what is allowed goes through, what is not never reaches an origin
//! that counts, and both are in the log. Threats carry their ids.

#[path = "../common/mod.rs"]
mod common;

mod addresses;
mod dns;
mod http;
mod lifecycle;
mod one_way;
mod socks;
