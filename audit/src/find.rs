//! Finding records: by what they are, when they were, and what is in them.
//!
//! A [`Query`] and a log in, its records out, page by page, or counted. Changes nothing but the
//! postings, which only help.

pub mod keys;
pub mod postings;

pub use keys::Field;
