//! `[sandbox]`: what each session may use of the machine.
//!
//! ```toml
//! [sandbox]
//! walls = ["second-wall"]             # no session starts where one of these does not hold
//! root_uids = { first = 2_000_000_000, count = 1000 }   # whom root's sessions run as
//!
//! [sandbox.container]                # of `--backend container`; the flags count before it
//! image = "registry.example.com/tools@sha256:…"
//! # rootfs = "/srv/rootfs"             # instead of an image
//!
//! [sandbox.limits]
//! memory_bytes = 8_589_934_592   # of all its processes and its file systems in memory
//! processes = 2048               # and threads, at a time
//! cpu_percent = 200              # of one processor: 200 is two
//! open_files = 16384             # of each process
//! file_bytes = 17_179_869_184    # of each file that it writes
//! tmp_bytes = 4_294_967_296      # `/tmp`
//! wall_seconds = 86_400          # from start to end
//! ```
//!
//! What is named here cannot be raised by a flag of `cordon run`, only lowered. What is not named
//! has the default that [`SandboxLimits::defaults`] gives it.

use std::{collections::BTreeSet, path::PathBuf};

use cordon_policy::Wall;
use serde::Deserialize;

use super::OriginalsConfig;

/// `[sandbox]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SandboxConfig {
    /// `[sandbox.limits]`.
    pub limits: SandboxLimits,
    /// The user ids that sessions of root run as.
    pub root_uids: Option<RootUids>,
    /// `[sandbox.container]`.
    pub container: ContainerConfig,
    /// `[sandbox.originals]`.
    pub originals: OriginalsConfig,
    /// Walls without which no session with walls starts.
    pub walls: BTreeSet<Wall>,
}

/// `[sandbox.container]`: what is in a container of `cordon run --backend container`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct ContainerConfig {
    /// An image that podman has, by name or digest.
    pub image: Option<String>,
    /// A folder with a root file system.
    pub rootfs: Option<PathBuf>,
}

/// `root_uids`: ids that no account has, for users and groups alike.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct RootUids {
    /// The first.
    pub first: u32,
    /// How many: as many sessions of root can run at a time.
    pub count: u32,
}

/// `[sandbox.limits]`, and what the flags of `cordon run` ask for.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, serde::Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct SandboxLimits {
    /// Memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Processor time, in hundredths of one processor.
    pub cpu_percent: Option<u64>,
    /// Open files of each process.
    pub open_files: Option<u64>,
    /// Size of each file that is written, in bytes.
    pub file_bytes: Option<u64>,
    /// `/tmp`, in bytes.
    pub tmp_bytes: Option<u64>,
    /// Time from start to end, in seconds.
    pub wall_seconds: Option<u64>,
}

/// Key, value, and the least with which anything works.
type Row = (&'static str, Option<u64>, u64);

impl SandboxLimits {
    /// What holds where nothing is named, on a machine with this much memory, in bytes.
    pub fn defaults(machine: u64) -> Self {
        Self {
            memory_bytes: Some(machine / 4 * 3),
            processes: Some(4096),
            cpu_percent: None,
            open_files: Some(16_384),
            file_bytes: Some(64 << 30),
            tmp_bytes: Some((machine / 8).min(4 << 30)),
            wall_seconds: None,
        }
    }

    /// The limits of one session: what `asked` names, below what these name, else the defaults.
    ///
    /// # Errors
    /// In words: more is asked than is named here, or less than anything works with.
    pub fn for_session(&self, asked: &Self, machine: u64) -> Result<Self, String> {
        asked.check("asked")?;
        let named = self.rows();
        for ((key, wanted, _), (_, most, _)) in asked.rows().into_iter().zip(named) {
            if let (Some(wanted), Some(most)) = (wanted, most)
                && wanted > most
            {
                return Err(format!(
                    "{key} of {wanted} is more than the {most} that `sandbox.limits` allows"
                ));
            }
        }
        Ok(asked.or(self).or(&Self::defaults(machine)))
    }

    /// The lower of two values for each key: a user's file does not raise what an earlier one,
    /// the machine's, names.
    pub(super) fn tighter(&self, other: &Self) -> Self {
        let lower = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        Self {
            memory_bytes: lower(self.memory_bytes, other.memory_bytes),
            processes: lower(self.processes, other.processes),
            cpu_percent: lower(self.cpu_percent, other.cpu_percent),
            open_files: lower(self.open_files, other.open_files),
            file_bytes: lower(self.file_bytes, other.file_bytes),
            tmp_bytes: lower(self.tmp_bytes, other.tmp_bytes),
            wall_seconds: lower(self.wall_seconds, other.wall_seconds),
        }
    }

    /// These, and `other` where these have none.
    fn or(&self, other: &Self) -> Self {
        Self {
            memory_bytes: self.memory_bytes.or(other.memory_bytes),
            processes: self.processes.or(other.processes),
            cpu_percent: self.cpu_percent.or(other.cpu_percent),
            open_files: self.open_files.or(other.open_files),
            file_bytes: self.file_bytes.or(other.file_bytes),
            tmp_bytes: self.tmp_bytes.or(other.tmp_bytes),
            wall_seconds: self.wall_seconds.or(other.wall_seconds),
        }
    }

    pub(super) fn check(&self, place: &str) -> Result<(), String> {
        for (key, value, least) in self.rows() {
            if value.is_some_and(|value| value < least) {
                return Err(format!(
                    "{place}: `{key}` is below {least}, with which nothing works"
                ));
            }
        }
        Ok(())
    }

    /// The keys that have a value.
    pub fn named(&self) -> Vec<&'static str> {
        let rows = self.rows().into_iter();
        rows.filter(|(_, value, _)| value.is_some())
            .map(|(key, _, _)| key)
            .collect()
    }

    fn rows(&self) -> [Row; 7] {
        [
            ("memory_bytes", self.memory_bytes, 16 << 20),
            ("processes", self.processes, 4),
            ("cpu_percent", self.cpu_percent, 1),
            ("open_files", self.open_files, 32),
            ("file_bytes", self.file_bytes, 4096),
            ("tmp_bytes", self.tmp_bytes, 64 << 10),
            ("wall_seconds", self.wall_seconds, 1),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: u64 = 8 << 30;

    #[test]
    fn f19_a_flag_lowers_what_is_named_and_never_raises_it() {
        let config: SandboxConfig =
            toml::from_str("[limits]\nprocesses = 100\nwall_seconds = 60\n").unwrap();
        let limits = config.limits;
        let asked = |processes, memory| SandboxLimits {
            processes,
            memory_bytes: memory,
            ..SandboxLimits::default()
        };
        let own = limits.for_session(&asked(None, None), MACHINE).unwrap();
        assert_eq!((own.processes, own.wall_seconds), (Some(100), Some(60)));
        assert_eq!(own.memory_bytes, Some(6 << 30));
        assert_eq!(own.tmp_bytes, Some(1 << 30));
        let own = limits.for_session(&asked(Some(50), Some(7 << 30)), MACHINE);
        let own = own.unwrap();
        assert_eq!((own.processes, own.memory_bytes), (Some(50), Some(7 << 30)));
        let later = limits.tighter(&asked(Some(500), Some(1 << 30)));
        assert_eq!(
            (later.processes, later.memory_bytes),
            (Some(100), Some(1 << 30))
        );
        let error = limits.for_session(&asked(Some(101), None), MACHINE);
        assert!(error.unwrap_err().contains("processes of 101"));
    }

    #[test]
    fn f19_mistakes_are_named() {
        assert!(toml::from_str::<SandboxConfig>("[limits]\nmemory = 1\n").is_err());
        let none = SandboxLimits {
            open_files: Some(1),
            ..SandboxLimits::default()
        };
        assert!(
            none.check("`sandbox.limits`")
                .unwrap_err()
                .contains("open_files")
        );
        assert!(
            SandboxLimits::default()
                .for_session(&none, MACHINE)
                .is_err()
        );
    }
}
