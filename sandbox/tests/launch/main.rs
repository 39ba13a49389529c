//! The launch, end to end: real bubblewrap, real terminals, as root and as an ordinary user.
//!
//! Drives `examples/walls.rs`, which `cargo test -p cordon-sandbox` builds along.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test helper that fails fails the test"
)]

mod life;
mod support;
mod terminal;
mod view;
