//! The system call filters of a session, compiled at build time from `seccomp/*.json`.
//!
//! The data says which calls pass and why. Its answers: a call of a foreign architecture kills
//! the process, a call that is refused gets `EPERM`, one that the session's kernel pretends not
//! to have gets `ENOSYS`, a socket of a foreign family `EAFNOSUPPORT`.

use cordon_policy::SeccompProfile;
use seccompiler::sock_filter;
use thiserror::Error;

/// A profile's filter as an array of `struct sock_filter`, which is what `bwrap --seccomp FD` reads.
///
/// One program: nothing is lost when it is the only one given.
#[must_use]
pub fn program(profile: SeccompProfile) -> &'static [u8] {
    // The build makes every profile for its own target, or fails.
    program_for(profile, std::env::consts::ARCH).unwrap_or(&[])
}

/// The same for a processor by name, `x86_64` or `aarch64`: for tests, and for whoever reviews it.
#[must_use]
pub fn program_for(profile: SeccompProfile, processor: &str) -> Option<&'static [u8]> {
    PROGRAMS
        .iter()
        .find(|(name, arch, _)| *name == profile.name() && *arch == processor)
        .map(|(_, _, bytes)| *bytes)
}

/// Puts the calling thread, and whatever it starts, behind a profile's filter, for good.
///
/// Sets "no new privileges" too, without which the kernel takes no filter.
///
/// # Errors
/// [`SeccompError`] when the kernel takes no filters; the thread is then not confined.
pub fn apply_to_self(profile: SeccompProfile) -> Result<(), SeccompError> {
    let (instructions, _) = program(profile).as_chunks::<INSTRUCTION_BYTES>();
    let program: Vec<sock_filter> = instructions
        .iter()
        .map(|&[code_low, code_high, jt, jf, k @ ..]| sock_filter {
            code: u16::from_le_bytes([code_low, code_high]),
            jt,
            jf,
            k: u32::from_le_bytes(k),
        })
        .collect();
    // An empty program is refused by the kernel, so that nothing runs unfiltered.
    seccompiler::apply_filter(&program).map_err(SeccompError::NotTaken)
}

/// Why the calling thread is not behind the filter.
#[derive(Debug, Error)]
pub enum SeccompError {
    /// prctl(2) or seccomp(2) failed.
    #[error("system call filter not in force: the kernel did not take it")]
    NotTaken(#[source] seccompiler::Error),
}

impl SeccompError {
    /// What to do; shown after `help:`.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotTaken(_) => {
                "the kernel needs CONFIG_SECCOMP_FILTER; in a container, its seccomp profile must \
                 allow `seccomp` and `prctl`"
            }
        }
    }
}

/// Profile, processor, program.
static PROGRAMS: &[(&str, &str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/programs.rs"));

/// Size of `struct sock_filter`: code (16), two jumps (8 each), operand (32).
const INSTRUCTION_BYTES: usize = 8;
