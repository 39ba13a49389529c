//! TLS seen from outside and, where policy asks for it, from inside.

mod authority;
mod check;
mod fields;
mod hello;
mod inspect;
mod inspector;
mod ja4;
mod prefixed;

pub use authority::{Authority, AuthorityError};
pub(crate) use check::{Checked, check};
pub(crate) use inspect::{inspect, reach};
pub(crate) use inspector::Inspector;
