//! What the commands about change read: policy sets, times, and the log.

use std::{path::PathBuf, time::SystemTime};

use cordon_audit::read::Reader;
use cordon_policy::source::PolicySource;

use super::set;
use crate::{cli::time, error::Failure, paths::Paths};

/// What `--policy` and its like name; nothing named is the shipped pack `default`.
pub fn policy(paths: &[PathBuf]) -> Result<PolicySource, Failure> {
    if paths.is_empty() {
        Ok(PolicySource::default_pack())
    } else {
        set::read(paths)
    }
}

/// The log in `directory`, or the user's own.
pub fn log(directory: Option<&PathBuf>) -> Result<Reader, Failure> {
    let directory = match directory {
        Some(directory) => directory.clone(),
        None => Paths::from_env(|name| std::env::var_os(name))?.log(),
    };
    Reader::open(&directory).map_err(|error| {
        Failure::from(error).help("the first `cordon run` makes the log; `--log DIR` names another")
    })
}

/// A time on the command line: so long ago, a day, or RFC 3339.
pub fn time(text: &str) -> Result<SystemTime, String> {
    time::before(SystemTime::now(), text).ok_or_else(|| time::SHAPE.to_owned())
}
