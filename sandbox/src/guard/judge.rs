//! Decides one held call, and performs it.
//!
//! INVARIANT: between looking at a name and acting on it nothing in the session can put another
//! file under that name. Names are only taken away or exchanged by calls that wait here, one at a
//! time; what passes unheld only adds names where there are none.

use std::{io, os::fd::OwnedFd, path::PathBuf};

use cordon_policy::GrantMode;
use rustix::{
    fs::{AtFlags, Dir, Mode, OFlags, RenameFlags, openat, renameat_with, unlinkat},
    io::Errno,
};

use super::{
    GuardedGrant, Stop, Why,
    area::{Area, Areas},
    ledger::{Found, Ledger, SessionStart},
    resolve::Place,
    shown_path,
    task::Task,
};

/// The state that decisions are made on.
pub(super) struct Judge {
    areas: Areas,
    ledger: Ledger,
    own_fds: OwnedFd,
    /// Names taken away in grants so far.
    pub(super) removed: u64,
}

impl Judge {
    pub(super) fn new(
        grants: Vec<GuardedGrant>,
        start: SessionStart,
        own_fds: OwnedFd,
    ) -> io::Result<Self> {
        let areas = Areas::new(grants, &std::fs::read("/proc/self/mountinfo")?);
        Ok(Self {
            areas,
            ledger: Ledger::new(start),
            own_fds,
            removed: 0,
        })
    }

    pub(super) fn own_fds(&self) -> &OwnedFd {
        &self.own_fds
    }

    /// Takes a name away, if it may go.
    pub(super) fn remove(
        &mut self,
        task: &Task,
        place: &Place,
        flags: AtFlags,
    ) -> Result<(), Stop> {
        if is_dots(&place.name) {
            return Ok(unlinkat(&place.parent, &*place.spelled, flags)?);
        }
        let found = Found::at(&place.parent, &place.name)?;
        let names_directory = flags.contains(AtFlags::REMOVEDIR) || place.spelled != place.name;
        match (found.is_directory(), names_directory) {
            (true, _) if !flags.contains(AtFlags::REMOVEDIR) => return Err(Errno::ISDIR.into()),
            (false, true) => return Err(Errno::NOTDIR.into()),
            (true, _) | (false, false) => {}
        }
        let area = self.area(task, place, &found)?;
        if found.is_directory() && self.areas.is_nested() {
            self.refuse_anchored(task, place)?;
        }
        let successor = match self.must_stay(place, &found, area)? {
            false => None,
            true => match self.ledger.successor(&found)? {
                // Programs tidy up by asking for the directory above, full or not.
                None if found.is_directory() && !is_empty(place) => {
                    return Err(Errno::NOTEMPTY.into());
                }
                None => return Err(Stop::Refuse(Why::WasThere)),
                successor => successor,
            },
        };
        unlinkat(&place.parent, &*place.spelled, flags)?;
        self.removed += u64::from(matches!(area, Area::Grant(_)));
        if let Some(heir) = successor {
            self.ledger.inherit(heir, found.id);
        }
        Ok(())
    }

    /// Gives something another name, if nothing that must stay is lost by it.
    pub(super) fn rename(
        &mut self,
        task: &Task,
        from: &Place,
        to: &Place,
        flags: RenameFlags,
    ) -> Result<(), Stop> {
        if is_dots(&from.name) || is_dots(&to.name) {
            return Err(Errno::BUSY.into());
        }
        let source = Found::at(&from.parent, &from.name)?;
        let target = match Found::at(&to.parent, &to.name) {
            Err(Errno::NOENT) => None,
            other => Some(other?),
        };
        let area = self.shared_area(task, (from, &source), (to, target.as_ref()))?;
        if source.is_directory() || target.is_some_and(|target| target.is_directory()) {
            self.refuse_anchored(task, from)?;
            self.refuse_anchored(task, to)?;
        }
        let source_stays = self.must_stay(from, &source, area)?;
        let target_stays = match &target {
            Some(target) => self.must_stay(to, target, area)?,
            None => false,
        };
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        let same = target.is_some_and(|target| target.id == source.id);
        let replaces =
            target.is_some() && !exchange && !same && !flags.contains(RenameFlags::NOREPLACE);
        if replaces && source_stays && target_stays {
            return Err(Stop::Refuse(Why::WouldReplace));
        }
        renameat_with(
            &from.parent,
            &*from.spelled,
            &to.parent,
            &*to.spelled,
            flags,
        )?;
        match target {
            Some(target) if replaces && target_stays => self.ledger.inherit(source.id, target.id),
            Some(target) if exchange && target_stays => {
                self.ledger.note_move(&target, to);
            }
            _ => {}
        }
        if source_stays && !same {
            self.ledger.note_move(&source, from);
        }
        Ok(())
    }

    /// The area of both ends. Grants are file systems of their own to each other.
    fn shared_area(
        &mut self,
        task: &Task,
        (from, source): (&Place, &Found),
        (to, target): (&Place, Option<&Found>),
    ) -> Result<Area, Stop> {
        let around = Found::at(&to.parent, b"")?;
        if source.is_mount || target.is_some_and(|target| target.is_mount) {
            return Err(Errno::BUSY.into());
        }
        if source.mount != around.mount {
            return Err(Errno::XDEV.into());
        }
        let area = self.area(task, from, source)?;
        if area != self.area_of_name(task, to, around.mount)? {
            return Err(Errno::XDEV.into());
        }
        Ok(area)
    }

    fn area(&mut self, task: &Task, place: &Place, found: &Found) -> Result<Area, Stop> {
        // The kernel would say so itself, but only to callers in the mount's own namespace. From
        // ours it would remove the name and the mount with it.
        if found.is_mount {
            return Err(Errno::BUSY.into());
        }
        self.area_of_name(task, place, found.mount)
    }

    fn area_of_name(&mut self, task: &Task, place: &Place, mount: u64) -> Result<Area, Stop> {
        // A name belongs to the directory that it stands in.
        let own_fds = &self.own_fds;
        let area = self
            .areas
            .of(mount, task, || shown_path(own_fds, &place.parent))?;
        match (area, self.areas.mode(area)) {
            (Area::ReadOnly, _) | (_, Some(GrantMode::Ro)) => Err(Errno::ROFS.into()),
            _ => Ok(area),
        }
    }

    /// Whether `found` must not disappear from `area`.
    fn must_stay(&mut self, place: &Place, found: &Found, area: Area) -> Result<bool, Stop> {
        match (area, self.areas.mode(area)) {
            (Area::Scratch, _) | (Area::Grant(_), Some(GrantMode::Rwd)) => Ok(false),
            _ => Ok(self.ledger.keeps(&place.parent, found)?),
        }
    }

    /// A directory with a mount or a grant's root somewhere beneath keeps its name: a path that is
    /// protected by being mounted over would otherwise be walked away from.
    fn refuse_anchored(&self, task: &Task, place: &Place) -> Result<(), Stop> {
        let inside = path_of(&self.own_fds, place).map_err(|_| Stop::blind())?;
        if self.areas.is_anchored(&inside, task)? {
            return Err(Errno::BUSY.into());
        }
        Ok(())
    }

    /// Where `place` is inside and on the host, and the mode that holds there, for people.
    pub(super) fn describe(&mut self, task: &Task, place: &Place) -> Described {
        let Ok(inside) = path_of(&self.own_fds, place) else {
            return Described::default();
        };
        let host = self.areas.on_host(&inside);
        let area = Found::at(&place.parent, b"")
            .map_err(Stop::from)
            .and_then(|parent| self.area_of_name(task, place, parent.mount));
        let mode = area.ok().and_then(|area| self.areas.mode(area));
        Described { inside, host, mode }
    }
}

/// What [`Judge::describe`] could find out.
#[derive(Default)]
pub(super) struct Described {
    pub(super) inside: PathBuf,
    pub(super) host: Option<PathBuf>,
    pub(super) mode: Option<GrantMode>,
}

fn path_of(own_fds: &OwnedFd, place: &Place) -> Result<PathBuf, Errno> {
    use std::os::unix::ffi::OsStrExt;
    let parent = shown_path(own_fds, &place.parent)?;
    Ok(parent.join(std::ffi::OsStr::from_bytes(&place.name)))
}

/// Whether the directory at `place` is known to hold nothing, or cannot be looked into.
fn is_empty(place: &Place) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let names = openat(&place.parent, &*place.name, flags, Mode::empty()).and_then(Dir::new);
    let Ok(names) = names else { return true };
    names
        .flatten()
        .all(|entry| is_dots(entry.file_name().to_bytes()))
}

fn is_dots(name: &[u8]) -> bool {
    name == b"." || name == b".."
}
