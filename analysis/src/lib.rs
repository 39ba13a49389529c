//! Change analysis: what a change of policy means before it ships, and what was asked and refused.
//!
//! Policy sets and past records in, reports and drafts out. Decides nothing that is enforced,
//! and writes no rule that is live (P06).

#![forbid(unsafe_code)]

mod access;
pub mod again;
pub mod diff;
#[cfg(test)]
mod fixture;
pub mod import;
pub mod outcome;
mod pasts;
pub mod records;
pub mod replay;
pub mod suggest;
mod tally;
