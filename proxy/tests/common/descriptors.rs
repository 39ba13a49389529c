//! Room for many connections in one process.

use rustix::process::{Resource, getrlimit, setrlimit};

/// How many descriptors this process may have, up to the hard limit from now on: the soft one of a
/// login shell is too low.
pub fn raise_descriptors() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    limit.maximum.unwrap_or(u64::MAX)
}
