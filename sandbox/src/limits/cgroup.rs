//! A control group of a session's own, below the launcher's, in version 2 or in each hierarchy of
//! version 1: whichever exists and may be written. It holds every process of the sandbox, and goes
//! with it; one that a killed launcher left is removed by the next.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::{Freezer, Limits};

/// The groups of one session, one in each hierarchy. Removed when dropped.
#[derive(Debug)]
pub(crate) struct Group {
    unified: Option<PathBuf>,
    /// Of version 1, by controller.
    memory: Option<PathBuf>,
    pids: Option<PathBuf>,
    cpu: Option<PathBuf>,
    held: [Option<&'static str>; 3],
}

/// Where the hierarchies of this process lie.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Own {
    unified: Option<PathBuf>,
    memory: Option<PathBuf>,
    pids: Option<PathBuf>,
    cpu: Option<PathBuf>,
}

impl Group {
    /// Makes the session's groups where that is allowed, with what of `limits` each can hold.
    /// `None` where none can be made.
    pub(crate) fn make(session: &str, limits: &Limits) -> Option<Self> {
        Self::below(&Own::read()?, session, limits)
    }

    fn below(own: &Own, session: &str, limits: &Limits) -> Option<Self> {
        clean_below(own);
        let make = |parent: &Option<PathBuf>| {
            let group = parent.as_ref()?.join(format!("{PREFIX}{session}"));
            fs::create_dir(&group).ok().map(|()| group)
        };
        if let Some(parent) = &own.unified {
            // Refused where processes are in the parent, unless that is the root: then the group
            // has no controllers, and is good for ending everything at once all the same.
            for controller in ["+memory", "+pids", "+cpu"] {
                let _refused = write(parent, "cgroup.subtree_control", controller);
            }
        }
        let mut group = Self {
            unified: make(&own.unified),
            memory: None,
            pids: None,
            cpu: None,
            held: [None; 3],
        };
        group.held = group.set_unified(limits);
        let [memory, pids, cpu] = group.held;
        if memory.is_none() && limits.memory_bytes.is_some() {
            group.memory = make(&own.memory);
        }
        if pids.is_none() && limits.processes.is_some() {
            group.pids = make(&own.pids);
        }
        if cpu.is_none() && limits.cpu_percent.is_some() {
            group.cpu = make(&own.cpu);
        }
        group.set_first_version(limits);
        let made = group.places().next().is_some();
        made.then_some(group)
    }

    fn set_unified(&self, limits: &Limits) -> [Option<&'static str>; 3] {
        let Some(group) = &self.unified else {
            return [None; 3];
        };
        let set = |name: &str, value: Option<String>| {
            let set = value.is_some_and(|value| write(group, name, &value));
            set.then_some("control group (version 2)")
        };
        let memory = set("memory.max", limits.memory_bytes.map(|n| n.to_string()));
        if memory.is_some() {
            // What would be swapped out counts too, where the kernel has swap.
            let _none = write(group, "memory.swap.max", "0");
        }
        [
            memory,
            set("pids.max", limits.processes.map(|n| n.to_string())),
            set(
                "cpu.max",
                limits
                    .cpu_percent
                    .map(|percent| format!("{} {PERIOD_US}", quota(percent))),
            ),
        ]
    }

    fn set_first_version(&mut self, limits: &Limits) {
        let set = |group: &Option<PathBuf>, name: &str, value: Option<String>| {
            let (group, value) = (group.as_ref()?, value?);
            write(group, name, &value).then_some("control group (version 1)")
        };
        let bytes = limits.memory_bytes.map(|n| n.to_string());
        let memory = set(&self.memory, "memory.limit_in_bytes", bytes.clone());
        // With swap; absent where the kernel does not count it.
        let _uncounted = set(&self.memory, "memory.memsw.limit_in_bytes", bytes);
        let most = limits.processes.map(|n| n.to_string());
        let pids = set(&self.pids, "pids.max", most);
        let share = limits.cpu_percent.map(|percent| quota(percent).to_string());
        let period = Some(PERIOD_US.to_string());
        let _default = set(&self.cpu, "cpu.cfs_period_us", period);
        let cpu = set(&self.cpu, "cpu.cfs_quota_us", share);
        for (held, first) in self.held.iter_mut().zip([memory, pids, cpu]) {
            *held = held.or(first);
        }
    }

    /// What holds memory, if it does.
    pub(crate) fn memory(&self) -> Option<&'static str> {
        let [memory, _, _] = self.held;
        memory
    }

    /// What holds the number of processes, if it does.
    pub(crate) fn processes(&self) -> Option<&'static str> {
        let [_, processes, _] = self.held;
        processes
    }

    /// What holds the processor's share, if it does.
    pub(crate) fn cpu(&self) -> Option<&'static str> {
        let [_, _, cpu] = self.held;
        cpu
    }

    /// What stops everything in it at once, where it can.
    pub(crate) fn freezer(&self) -> Option<Freezer> {
        Freezer::of(self.unified.as_deref()?)
    }

    /// Its directories.
    pub(crate) fn directories(&self) -> Vec<PathBuf> {
        self.places().cloned().collect()
    }

    /// Its directory in version 2.
    pub(super) fn unified(&self) -> Option<&PathBuf> {
        self.unified.as_ref()
    }

    /// Its directories in version 1.
    pub(super) fn first_version(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.memory, &self.pids, &self.cpu].into_iter().flatten()
    }

    fn places(&self) -> impl Iterator<Item = &PathBuf> {
        self.unified.iter().chain(self.first_version())
    }
}

#[cfg(test)]
impl Group {
    /// Of folders that are no groups, for tests.
    pub(super) fn plain(unified: Option<PathBuf>, memory: Option<PathBuf>) -> Self {
        Self {
            unified,
            memory,
            pids: None,
            cpu: None,
            held: [None; 3],
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = &self.unified {
            // Every process in it at once; there is none left when all went well.
            let _older_kernel = write(group, "cgroup.kill", "1");
        }
        for place in self.places() {
            // One that is still busy is removed by whoever was told of it, or by the next session.
            let _busy = fs::remove_dir(place);
        }
    }
}

/// Removes a session's group, which [`Sandbox::groups`](crate::adapter::Sandbox::groups) named.
///
/// # Errors
/// `EBUSY` while a process is in it; `InvalidInput` for a directory that is not a group of ours.
pub fn remove(group: &Path) -> io::Result<()> {
    let name = group.file_name().map(|name| name.to_string_lossy());
    if !name.is_some_and(|name| name.starts_with(PREFIX)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    match fs::remove_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Removes what killed launchers left.
pub fn clean() {
    if let Some(own) = Own::read() {
        clean_below(&own);
    }
}

/// A group with processes in it cannot be removed, and one that is new may not have its processes
/// yet.
fn clean_below(own: &Own) {
    for parent in [&own.unified, &own.memory, &own.pids, &own.cpu]
        .into_iter()
        .flatten()
    {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            // Most of what is there are the kernel's files.
            if !entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(PREFIX.as_bytes())
            {
                continue;
            }
            let made = entry.metadata().and_then(|metadata| metadata.modified());
            let age = made
                .ok()
                .and_then(|made| SystemTime::now().duration_since(made).ok());
            if age.is_some_and(|age| age > YOUNG) {
                let _busy = fs::remove_dir(entry.path());
            }
        }
    }
}

impl Own {
    fn read() -> Option<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        Some(Self::parse(&groups, &mounts))
    }

    fn parse(groups: &str, mounts: &str) -> Self {
        let mut own = Self::default();
        for line in groups.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
                continue;
            };
            let names: Vec<&str> = controllers.split(',').collect();
            let place = || mounted(mounts, controllers, path);
            if controllers.is_empty() {
                own.unified = place();
            }
            for (name, slot) in [
                ("memory", &mut own.memory),
                ("pids", &mut own.pids),
                ("cpu", &mut own.cpu),
            ] {
                if names.contains(&name) {
                    *slot = place();
                }
            }
        }
        own
    }
}

/// The directory of the group `path` in the hierarchy of these controllers.
fn mounted(mounts: &str, controllers: &str, path: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, at) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let (kind, options) = (after.next()?, after.nth(1).unwrap_or_default());
        let fits = match controllers {
            "" => kind == "cgroup2",
            some => {
                kind == "cgroup"
                    && some
                        .split(',')
                        .all(|name| options.split(',').any(|option| option == name))
            }
        };
        // In a container the mount may show a part of the hierarchy only.
        let below = path.strip_prefix(root.trim_end_matches('/'))?;
        fits.then(|| Path::new(at).join(below.trim_start_matches('/')))
    })
}

fn write(group: &Path, name: &str, value: &str) -> bool {
    let file = group.join(name);
    // Not to be made where it is not: these are files of the kernel's.
    file.exists() && fs::write(file, value).is_ok()
}

/// Microseconds of each period; the kernel takes a thousand at least.
fn quota(percent: u64) -> u64 {
    (percent.saturating_mul(PERIOD_US) / 100).max(1000)
}

/// What our groups are called, before the session's id.
const PREFIX: &str = "cordon-";

/// The kernel's own default.
const PERIOD_US: u64 = 100_000;

/// A group of this age has its processes, or never will.
const YOUNG: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "35 24 0:30 / /sys/fs/cgroup ro shared:9 - tmpfs tmpfs ro\n\
        36 35 0:31 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
        37 35 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        38 35 0:33 /part /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
        39 35 0:34 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn hierarchies_are_found_of_both_versions() {
        let groups = "4:memory:/a/b\n3:cpu,cpuacct:/\n2:pids:/part/c\n0::/u\n";
        let own = Own::parse(groups, HYBRID);
        let path = |path: &str| Some(PathBuf::from(path));
        assert_eq!(own.memory, path("/sys/fs/cgroup/memory/a/b"));
        assert_eq!(own.cpu, path("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(own.pids, path("/sys/fs/cgroup/pids/c"));
        assert_eq!(own.unified, path("/sys/fs/cgroup/unified/u"));
        // Outside of what is mounted there is nothing to write.
        let own = Own::parse("2:pids:/elsewhere\n", HYBRID);
        assert_eq!(own, Own::default());
    }

    /// As the kernel would: a group with the files of its controllers.
    #[test]
    fn a_group_is_given_its_limits_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let own = Own {
            unified: Some(folder.path().into()),
            ..Own::default()
        };
        let limits = Limits {
            memory_bytes: Some(1 << 30),
            processes: Some(100),
            cpu_percent: Some(50),
            ..Limits::default()
        };
        let group = Group::below(&own, "s", &limits).unwrap();
        // A plain directory has none of the kernel's files, so nothing is said to hold.
        assert_eq!(group.held, [None; 3]);
        let place = folder.path().join("cordon-s");
        for name in ["memory.max", "memory.swap.max", "pids.max", "cpu.max"] {
            fs::write(place.join(name), "max").unwrap();
        }
        assert_eq!(
            group.set_unified(&limits),
            [Some("control group (version 2)"); 3]
        );
        let read = |name: &str| fs::read_to_string(place.join(name)).unwrap();
        assert_eq!(read("memory.max"), "1073741824");
        assert_eq!(read("pids.max"), "100");
        assert_eq!(read("cpu.max"), "50000 100000");
        for file in fs::read_dir(&place).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
        drop(group);
        assert!(!place.exists(), "removed");
    }

    #[test]
    fn where_nothing_may_be_made_there_is_no_group() {
        let own = Own {
            unified: Some("/proc/self/fdinfo".into()),
            ..Own::default()
        };
        assert!(Group::below(&own, "s", &Limits::default()).is_none());
    }
}
