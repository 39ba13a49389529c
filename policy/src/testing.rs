//! Tests of a policy: a table of requests in words and the outcome that each must have.
//!
//! [`parse`] reads one test file, bounded and without touching a disk; [`run`] decides every
//! request of it by a snapshot, with the clock that the file names, and counts what was covered.

mod clauses;
mod coverage;
mod file;
mod junit;
mod question;
mod run;

pub use coverage::{Coverage, Gap, Share};
pub use file::{
    Expected, MAX_FILE_BYTES, MAX_REQUESTS, MAX_TESTS, Test, TestFile, TestFileError, parse,
};
pub use junit::junit;
pub use question::Question;
pub use run::{Came, Failed, Report, TestResult, decide, run};

#[cfg(test)]
mod tests;
