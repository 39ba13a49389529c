//! Finding records: by what they are, when they were, and what is in them.
//!
//! A [`Query`] and a log in, its records out, page by page, or counted. Changes nothing but the
//! postings, which only help: whatever they name is held against the record itself.

mod count;
#[cfg(test)]
pub(crate) mod fixture;
pub mod keys;
pub mod postings;
mod query;
mod sealed;
mod sessions;
mod source;
mod timeline;

pub use count::{Count, count_by};
pub use keys::Field;
pub(crate) use query::has_text;
pub use query::{Condition, Order, Page, Pattern, Query};
pub use sealed::Sealed;
pub use sessions::of_sessions;
pub(crate) use source::index;
pub use timeline::{Line, Mark, timeline};
