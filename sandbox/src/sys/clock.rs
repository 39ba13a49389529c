//! Clocks that begin with the session, so that nobody inside learns how long the machine runs.

use std::{fs, io};

use rustix::{
    io::Errno,
    thread::UnshareFlags,
    time::{ClockId, clock_gettime},
};

use super::process;

/// Has what this process starts, and becomes, see a machine that has just started. Needs the right
/// to set the clocks of a user namespace of our own. The time of day is the host's.
///
/// Returns `false` where the kernel has no such namespaces (before 5.6, or built without).
///
/// # Errors
/// What the kernel says otherwise.
pub(crate) fn begin_anew() -> io::Result<bool> {
    match process::leave(UnshareFlags::NEWTIME) {
        Ok(()) => {}
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => return Ok(false),
        Err(error) => return Err(error),
    }
    // No clock may be before zero, so whole seconds are taken away and the rest stays.
    let seconds = |clock| clock_gettime(clock).tv_sec;
    let (monotonic, boot) = (seconds(ClockId::Monotonic), seconds(ClockId::Boottime));
    // One write: the kernel takes the offsets once, before anything runs there.
    let offsets = format!("monotonic -{monotonic} 0\nboottime -{boot} 0\n");
    fs::write("/proc/self/timens_offsets", offsets)?;
    Ok(true)
}
