//! From what the daemon granted to what is built: the sandbox's plan.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
};

use cordon_policy::GrantMode;
