//! The egress over loopback: what is allowed goes through, what is not never reaches an origin
//! that counts, and both are in the log. Threats carry their ids.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

#[expect(dead_code, reason = "shared with the unit tests of the capture")]
#[path = "../common/mod.rs"]
mod common;

mod addresses;
mod agreement;
mod bounds;
mod callers;
mod credentials;
mod dns;
mod doors;
mod echo;
mod framing;
mod http;
mod http2;
mod inspect;
mod lifecycle;
mod limits;
mod names;
mod one_way;
mod parents;
mod paused;
mod peers;
mod plain;
mod revocation;
mod signed;
mod socks;
mod tls;
mod trust;
