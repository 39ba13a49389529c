//! guard
use std::{io, os::fd::OwnedFd};
/// stand-in
pub fn install() -> io::Result<OwnedFd> { Err(io::Error::other("no guard")) }
