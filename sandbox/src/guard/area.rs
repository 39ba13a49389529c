//! Which part of the session a directory belongs to: a grant, the session's own scratch space, or
//! something nobody spoke of.
//!
//! Told by the mount it is reached through. Where one grant lies within another on the host, the
//! innermost one counts, by whichever mount it is reached.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsString,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use cordon_policy::GrantMode;
use rustix::io::Errno;

use super::{GuardedGrant, Stop, task::Task};
use crate::places;

/// What a mount is to the guard.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Area {
    /// Made for this session and gone with it: everything is allowed.
    Scratch,
    /// Mounted read-only.
    ReadOnly,
    /// The session's root. The plan has it read-only; the guard does not rest on that.
    Root,
    /// A grant, by its place in the list.
    Grant(usize),
    /// The kernel's own view of processes. Nothing of the user's is there.
    Processes,
    /// Writable and nobody's grant. Guarded like `rw`, because nothing says otherwise.
    Unclaimed,
    /// Not among the thread's mounts: it has a descriptor from elsewhere. Guarded like `rw`, and
    /// nothing is opened there.
    Foreign,
}

/// All areas of one session.
pub(super) struct Areas {
    grants: Vec<GuardedGrant>,
    nested: bool,
    host_devices: HashSet<String>,
    by_mount: HashMap<u64, Area>,
}

impl Areas {
    /// `host_mounts` is our own `mountinfo`: what is mounted there is not the session's own.
    pub(super) fn new(grants: Vec<GuardedGrant>, host_mounts: &[u8]) -> Self {
        let nested = any_nested(&grants);
        let host_devices = Mount::list(host_mounts)
            .into_iter()
            .map(|mount| mount.device)
            .collect();
        Self {
            grants,
            nested,
            host_devices,
            by_mount: HashMap::new(),
        }
    }

    /// Whether one grant lies within another on the host.
    pub(super) fn is_nested(&self) -> bool {
        self.nested
    }

    /// The area of a directory reached through `mount`, shown as `inside` to the session.
    pub(super) fn of(
        &mut self,
        mount: u64,
        task: &Task,
        inside: impl FnOnce() -> Result<PathBuf, Errno>,
    ) -> Result<Area, Stop> {
        if !self.by_mount.contains_key(&mount) {
            self.learn(&task.mounts()?);
        }
        // A mount that the thread cannot name (its own descriptor from elsewhere) is nobody's.
        let area = self.by_mount.get(&mount).copied().unwrap_or(Area::Foreign);
        match area {
            Area::Grant(reached) if self.nested => {
                let inside = inside().map_err(|_| Stop::blind())?;
                Ok(self.innermost(reached, &inside))
            }
            other => Ok(other),
        }
    }

    /// The mode that holds in `area`, where it is a grant.
    pub(super) fn mode(&self, area: Area) -> Option<GrantMode> {
        match area {
            Area::Grant(at) => self.grants.get(at).map(|grant| grant.mode),
            _ => None,
        }
    }

    /// The grant that `area` is.
    pub(super) fn grant(&self, area: Area) -> Option<&GuardedGrant> {
        match area {
            Area::Grant(at) => self.grants.get(at),
            _ => None,
        }
    }

    /// Takes other grants for these. What was known of mounts is asked again: their numbers may
    /// have been given anew.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut Vec<GuardedGrant>)) {
        change(&mut self.grants);
        self.nested = any_nested(&self.grants);
        self.by_mount.clear();
    }

    /// The grant that is mounted nearest above `inside`.
    pub(super) fn around(&self, inside: &Path) -> Option<&GuardedGrant> {
        places::on_host(&self.grants, inside).map(|(grant, _host)| grant)
    }

    /// Where `inside` lies on the host.
    pub(super) fn on_host(&self, inside: &Path) -> Option<PathBuf> {
        places::on_host(&self.grants, inside).map(|(_grant, host)| host)
    }

    /// Whether moving the directory `inside` would take a mount, or the root of another grant,
    /// along to where it no longer is what it was.
    pub(super) fn is_anchored(&self, inside: &Path, task: &Task) -> Result<bool, Stop> {
        let mounts = Mount::list(&task.mounts()?);
        let host = self.on_host(inside);
        Ok(mounts.iter().any(|mount| mount.at.starts_with(inside))
            || host.is_some_and(|host| {
                self.grants
                    .iter()
                    .any(|grant| grant.host.starts_with(&host))
            }))
    }

    fn learn(&mut self, mountinfo: &[u8]) {
        let mounts = Mount::list(mountinfo);
        let parents: HashMap<u64, &Mount> = mounts.iter().map(|mount| (mount.id, mount)).collect();
        self.by_mount = mounts
            .iter()
            .map(|mount| (mount.id, self.classify(mount, &parents)))
            .collect();
    }

    fn classify(&self, mount: &Mount, by_id: &HashMap<u64, &Mount>) -> Area {
        let mut at = Some(mount);
        // Bounded by the number of mounts: the list is the session's, not ours to trust in.
        for _ in 0..=by_id.len() {
            let Some(here) = at else { break };
            if let Some(grant) = self.grants.iter().position(|grant| grant.inside == here.at) {
                return if mount.read_only {
                    Area::ReadOnly
                } else {
                    Area::Grant(grant)
                };
            }
            at = by_id
                .get(&here.parent)
                .copied()
                .filter(|parent| parent.id != here.id);
        }
        match mount.kind.as_str() {
            _ if mount.read_only => Area::ReadOnly,
            _ if mount.at == Path::new("/") => Area::Root,
            // The kernel's own files: it decides there, and nothing of the user's can vanish.
            "proc" => Area::Processes,
            "devpts" | "mqueue" => Area::Scratch,
            "tmpfs" if !self.host_devices.contains(&mount.device) => Area::Scratch,
            _ => Area::Unclaimed,
        }
    }

    /// The innermost grant that holds what is at `inside`; of two for the same folder the stricter.
    fn innermost(&self, reached: usize, inside: &Path) -> Area {
        let Some(through) = self.grants.get(reached) else {
            return Area::Unclaimed;
        };
        let Some((_, host)) = places::on_host([through], inside) else {
            return Area::Unclaimed;
        };
        self.grants
            .iter()
            .enumerate()
            .filter(|(_, grant)| host.starts_with(&grant.host))
            .max_by_key(|(_, grant)| (grant.host.components().count(), strictness(grant.mode)))
            .map_or(Area::Unclaimed, |(at, _)| Area::Grant(at))
    }
}

fn any_nested(grants: &[GuardedGrant]) -> bool {
    let within = |a: &GuardedGrant, b: &GuardedGrant| a.host.starts_with(&b.host);
    let mut pairs = grants.iter().enumerate();
    pairs.any(|(i, a)| {
        let mut others = grants.iter().enumerate();
        others.any(|(j, b)| i != j && within(a, b))
    })
}

fn strictness(mode: GrantMode) -> u8 {
    match mode {
        GrantMode::Rwd => 0,
        GrantMode::Rw => 1,
        GrantMode::Ro => 2,
    }
}

/// One line of `mountinfo` (proc_pid_mountinfo(5)), as far as it is needed.
#[derive(Debug, Eq, PartialEq)]
struct Mount {
    id: u64,
    parent: u64,
    device: String,
    at: PathBuf,
    read_only: bool,
    kind: String,
}

impl Mount {
    fn list(mountinfo: &[u8]) -> Vec<Self> {
        mountinfo
            .split(|byte| *byte == b'\n')
            .filter_map(Self::parse)
            .collect()
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let mut text = || {
            fields
                .next()
                .map(|field| String::from_utf8_lossy(field).into_owned())
        };
        let (id, parent, device) = (text()?.parse().ok()?, text()?.parse().ok()?, text()?);
        let (_root, at, options) = (fields.next()?, unescape(fields.next()?), fields.next()?);
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        Some(Self {
            id,
            parent,
            device,
            at,
            read_only: options
                .split(|byte| *byte == b',')
                .any(|option| option == b"ro"),
            kind: String::from_utf8_lossy(kind).into_owned(),
        })
    }
}

/// Undoes the kernel's `\ooo` for space, tab, line break and backslash.
fn unescape(field: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        match (first, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..]) => {
                plain.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = tail;
            }
            _ => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(plain))
}

#[cfg(test)]
mod tests {
    use super::{super::SessionStart, *};

    const MOUNTS: &[u8] = b"\
1 0 0:40 /newroot / ro,nosuid - tmpfs tmpfs rw\n\
2 1 0:41 / /tmp rw - tmpfs tmpfs rw\n\
3 1 8:1 /home/u/p /mnt/p rw,relatime shared:3 - ext4 /dev/sda rw\n\
4 3 8:2 / /mnt/p/data rw - xfs /dev/sdb rw\n\
5 3 8:1 /home/u/p/.git/hooks /mnt/p/.git/hooks ro - ext4 /dev/sda rw\n\
6 1 8:1 /home/u/r /mnt/a\\040b rw - ext4 /dev/sda rw\n\
7 1 0:25 /x /mnt/shm rw - tmpfs tmpfs rw\n\
8 1 0:42 / /proc rw - proc proc rw\n\
9 1 8:1 /usr /usr ro - ext4 /dev/sda rw\n\
10 1 8:1 /opt /opt rw - ext4 /dev/sda rw\n\
broken line\n";

    fn areas() -> Areas {
        let grant = |host: &str, inside: &str, mode| GuardedGrant {
            host: host.into(),
            inside: inside.into(),
            mode,
            shield: None,
            preserve: false,
            names_stay: false,
            since: SessionStart::now(),
        };
        let host = b"30 1 0:25 / /dev/shm rw - tmpfs tmpfs rw\n";
        let grants = vec![
            grant("/home/u/p", "/mnt/p", GrantMode::Rw),
            grant("/home/u/r", "/mnt/a b", GrantMode::Rwd),
        ];
        let mut areas = Areas::new(grants, host);
        areas.learn(MOUNTS);
        areas
    }

    #[test]
    fn mounts_are_told_apart() {
        let areas = areas();
        let cases = [
            (1, Area::ReadOnly),
            (2, Area::Scratch),
            (3, Area::Grant(0)),
            (4, Area::Grant(0)),
            (5, Area::ReadOnly),
            (6, Area::Grant(1)),
            (7, Area::Unclaimed),
            (8, Area::Processes),
            (9, Area::ReadOnly),
            (10, Area::Unclaimed),
        ];
        for (mount, area) in cases {
            assert_eq!(areas.by_mount.get(&mount), Some(&area), "mount {mount}");
        }
        assert_eq!(areas.by_mount.len(), cases.len());
    }

    #[test]
    fn a_path_inside_is_known_by_its_path_on_the_host() {
        let areas = areas();
        let cases = [
            ("/mnt/p", Some("/home/u/p")),
            ("/mnt/p/x/y", Some("/home/u/p/x/y")),
            ("/mnt/a b/x", Some("/home/u/r/x")),
            ("/mnt/pp", None),
            ("/tmp/x", None),
        ];
        for (inside, host) in cases {
            assert_eq!(
                areas.on_host(Path::new(inside)).as_deref(),
                host.map(Path::new),
                "{inside}"
            );
        }
    }

    #[test]
    fn escapes_of_the_kernel_are_undone_and_nothing_else() {
        let cases = [
            ("/a\\040b", "/a b"),
            ("/a\\134040", "/a\\040"),
            ("/a\\9", "/a\\9"),
            ("/a\\04", "/a\\04"),
            ("/\\777", "/\\777"),
        ];
        for (field, plain) in cases {
            assert_eq!(unescape(field.as_bytes()), Path::new(plain), "{field}");
        }
    }
}
