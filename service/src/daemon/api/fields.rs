//! JSON objects with each key once: what every body of the API is read as.

pub use cordon_runtime::Fields;
