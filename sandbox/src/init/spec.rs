//! What the first process is told, once, through a sealed memory file.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsFd, OwnedFd, RawFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
};

use cordon_policy::{SeccompProfile, Wall};
use rustix::fs::{MemfdFlags, SealFlags};
use serde::{Deserialize, Serialize};

use crate::{
    limits::Inside,
    plan::{Access, SandboxPlan},
};

/// Orders for one run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Spec {
    pub(crate) arguments: Vec<Text>,
    pub(crate) environment: Vec<(Text, Text)>,
    pub(crate) directory: Text,
    pub(crate) mounts: Vec<Expected>,
    pub(crate) stdio: [Slot; 3],
    pub(crate) guard: bool,
    /// Whether nothing may run without the second wall for files.
    pub(crate) second_wall: bool,
    /// The filter that all of the session is behind.
    pub(crate) profile: SeccompProfile,
    /// In a container, which is furnished when it stands: then it goes behind its filter by itself.
    pub(crate) container: bool,
    pub(crate) limits: Inside,
    /// Those in memory that are the session's own.
    pub(crate) file_systems: Vec<Text>,
    /// Mounts that may be written.
    pub(crate) writable: Vec<Text>,
}

/// A further command of a running session. Its streams come beside it, one descriptor for each
/// [`Slot::Descriptor`], whatever number is in it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FurtherSpec {
    pub(crate) arguments: Vec<Text>,
    pub(crate) stdio: [Slot; 3],
}

impl FurtherSpec {
    pub(crate) fn write(&self) -> io::Result<OwnedFd> {
        memory_file("cordon-further", &serde_json::to_vec(self)?)
    }

    pub(crate) fn read(descriptor: OwnedFd) -> io::Result<Self> {
        Ok(serde_json::from_slice(&read_all(descriptor)?)?)
    }
}

/// A string of the operating system: any bytes but NUL.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Text(Vec<u8>);

/// What must be found at a mount's target.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Expected {
    pub(crate) target: Text,
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// Where one of the command's standard streams comes from.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) enum Slot {
    /// The session's own terminal.
    Terminal,
    /// An inherited descriptor.
    Descriptor(RawFd),
}

impl Text {
    pub(crate) fn new(text: impl Into<OsString>) -> Self {
        Self(text.into().into_vec())
    }

    pub(crate) fn into_os(self) -> OsString {
        OsString::from_vec(self.0)
    }

    pub(crate) fn as_os(&self) -> &std::ffi::OsStr {
        std::ffi::OsStr::from_bytes(&self.0)
    }
}

impl Spec {
    pub(crate) fn new(plan: &SandboxPlan, stdio: [Slot; 3], limits: Inside) -> Self {
        let command = &plan.command;
        let pair = |(name, value): &(OsString, OsString)| (Text::new(name), Text::new(value));
        let expected = |mount: &crate::plan::Mount| Expected {
            target: Text::new(&mount.target),
            device: mount.identity.device,
            inode: mount.identity.inode,
        };
        Self {
            arguments: command.arguments.iter().map(Text::new).collect(),
            environment: command.environment.iter().map(pair).collect(),
            directory: Text::new(&command.directory),
            mounts: plan.mounts.iter().map(expected).collect(),
            stdio,
            guard: plan.guard,
            second_wall: plan.walls.contains(&Wall::SecondWall),
            profile: plan.profile,
            container: false,
            limits,
            writable: plan
                .mounts
                .iter()
                .filter(|mount| mount.access == Access::ReadWrite)
                .map(|mount| Text::new(&mount.target))
                .collect(),
            file_systems: plan.own_file_systems().iter().map(Text::new).collect(),
        }
    }

    /// For a container.
    pub(crate) fn in_container(self) -> Self {
        Self {
            container: true,
            ..self
        }
    }

    pub(crate) fn write(&self) -> io::Result<OwnedFd> {
        memory_file("cordon-spec", &serde_json::to_vec(self)?)
    }

    pub(crate) fn read(descriptor: OwnedFd) -> io::Result<Self> {
        Ok(serde_json::from_slice(&read_all(descriptor)?)?)
    }
}

fn read_all(descriptor: OwnedFd) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::from(descriptor)
        .take(LONGEST_SPEC)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The longest orders, in bytes: more than the kernel takes as arguments and environment.
const LONGEST_SPEC: u64 = 64 << 20;

/// A file in memory with these contents, at its start, never to change. Closes on exec.
pub(crate) fn memory_file(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut left = bytes;
    while !left.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, left))?;
        left = left.get(written..).unwrap_or_default();
    }
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
    let all = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(file.as_fd(), all)?;
    Ok(file)
}
