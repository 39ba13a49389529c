//! A DNS name in its one spelling.
//!
//! Bytes from the sandbox in, [`NormalizedHost`] out. Never resolves names.

use std::{fmt, str::FromStr, sync::Arc};

use thiserror::Error;

/// A DNS name in its one spelling (lower case, A-labels, no trailing dot), so equal hosts are
/// equal bytes. Only [`FromStr`] makes one; never an address in any spelling.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NormalizedHost(Arc<str>);

/// Why a text is not a host name.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum HostError {
    /// Placeholder for the skeleton.
    #[error("host not accepted: {text:?}")]
    Bad {
        /// The text, bounded.
        text: String,
    },
}

impl NormalizedHost {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NormalizedHost {
    type Err = HostError;
    fn from_str(raw: &str) -> Result<Self, HostError> {
        Err(HostError::Bad { text: raw.into() })
    }
}

impl fmt::Display for NormalizedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
