//! TLS seen from outside and, where policy asks for it, from inside.

mod authority;
mod check;
mod fields;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod hello;
mod inspect;
mod inspector;
mod ja4;
mod offer;
mod prefixed;

pub use authority::{Authority, AuthorityError};
pub(crate) use check::{Checked, Inside, check};
pub(crate) use inspect::{decide_plain, inspect, reach};
pub(crate) use inspector::Inspector;
pub(crate) use prefixed::Prefixed;
