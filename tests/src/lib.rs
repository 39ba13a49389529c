//! Whole-binary tests: builders for a private world, its origins and the sessions run in it.
//!
//! A [`World`] is a home, a state, a runtime and a project directory that belong to one
//! [`Identity`], a `cordon.toml`, a policy, and the binary as it was built. [`for_both`] runs one
//! scenario in a world of root and in one of an ordinary user, and ends each world with the same
//! questions: does the log verify, and is nothing left behind?
//!
//! This crate is test code: it panics where a test should fail.

#![forbid(unsafe_code)]
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a harness reports by panicking, as the tests it serves do"
)]

pub mod api;
pub mod binary;
pub mod bundle;
pub mod chromium;
pub mod fixtures;
pub mod gateway;
pub mod identity;
pub mod kernel;
pub mod leaks;
pub mod link;
pub mod origin;
pub mod outcome;
pub mod policy;
pub mod probe;
pub mod process;
pub mod session;
pub mod terminal;
pub mod world;

pub use bundle::Bundle;
pub use identity::Identity;
pub use origin::{Authority, Origin};
pub use outcome::Outcome;
pub use session::Session;
pub use terminal::Terminal;
pub use world::World;

/// Runs one scenario as root and as an ordinary user, each in a world of its own.
///
/// ```ignore
/// for_both! {
///     /// What must hold.
///     fn name_of_the_behaviour(world) { ... }
/// }
/// ```
#[macro_export]
macro_rules! for_both {
    ($($(#[$meta:meta])* fn $name:ident($world:ident) $body:block)+) => {
        $(
            #[cfg(test)]
            mod $name {
                #[allow(unused_imports, clippy::allow_attributes, reason = "not every scenario needs what its file imports")]
                use super::*;

                $(#[$meta])*
                fn scenario($world: &mut $crate::World) $body

                #[test]
                fn as_root() {
                    $crate::World::scenario($crate::Identity::Root, scenario);
                }

                #[test]
                fn as_user() {
                    $crate::World::scenario($crate::Identity::User, scenario);
                }
            }
        )+
    };
}
