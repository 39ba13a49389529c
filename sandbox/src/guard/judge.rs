//! Decides one held call, and performs it.
//!
//! INVARIANT: between looking at a name and acting on it nothing in the session can put another
//! file under that name. Names are only taken away or exchanged by calls that wait here, one at a
//! time; what passes unheld only makes files that have no name.

use std::{
    ffi::OsStr,
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use cordon_policy::GrantMode;
use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, openat, renameat_with, unlinkat},
    io::Errno,
};

use super::{
    Books, Change, Changed, GuardedGrant, Protection, Shield, Stop, Why,
    area::{Area, Areas},
    gone::Gone,
    ledger::{Found, Ledger, SessionStart},
    resolve::Place,
    shown_path,
    task::Task,
    umask::Umasks,
};

/// The state that decisions are made on.
pub(super) struct Judge {
    pub(super) areas: Areas,
    pub(super) ledger: Ledger,
    own_fds: OwnedFd,
    pub(super) books: Books,
    pub(super) umasks: Umasks,
    /// Names taken away in grants so far.
    pub(super) removed: u64,
    /// Those of them that were there before the session, and nobody knows yet.
    pub(super) gone: Gone,
}

impl Judge {
    pub(super) fn new(
        grants: Vec<GuardedGrant>,
        start: SessionStart,
        own_fds: OwnedFd,
        books: Books,
    ) -> io::Result<Self> {
        let areas = Areas::new(grants, &std::fs::read("/proc/self/mountinfo")?);
        Ok(Self {
            areas,
            ledger: Ledger::new(start),
            own_fds,
            books,
            umasks: Umasks::default(),
            removed: 0,
            gone: Gone::default(),
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
        permitted: bool,
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
        if !permitted {
            self.refuse_protected(task, place, false)?;
        }
        let area = self.area(task, place, &found)?;
        self.refuse_where_names_stay(area)?;
        if found.is_directory() && self.areas.is_nested() {
            self.refuse_anchored(task, place)?;
        }
        let successor = match self.must_stay(place, &found, area)? {
            false => None,
            true => match self.ledger.successor(&found, self.since(area))? {
                // Programs tidy up by asking for the directory above, full or not.
                None if found.is_directory() && !is_empty(place) => {
                    return Err(Errno::NOTEMPTY.into());
                }
                None => return Err(Stop::Refuse(Why::WasThere)),
                successor => successor,
            },
        };
        let host = self.host_of(area, place);
        self.keep(Changed::Removed, area, place, &found, host.as_deref())?;
        // Where it must stay it goes only in favour of another that stands in its place.
        let was_there = self.areas.mode(area) == Some(GrantMode::Rwd)
            && self.ledger.keeps(&place.parent, &found, self.since(area))?;
        unlinkat(&place.parent, &*place.spelled, flags)?;
        if let Some(host) = host.as_ref().filter(|_| was_there) {
            self.gone.add(host.clone());
        }
        self.count(area, |counts| counts.deleted(host, found.goes_with_name()));
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
        permitted: bool,
    ) -> Result<(), Stop> {
        if is_dots(&from.name) || is_dots(&to.name) {
            return Err(Errno::BUSY.into());
        }
        let source = Found::at(&from.parent, &from.name)?;
        let target = match Found::at(&to.parent, &to.name) {
            Err(Errno::NOENT) => None,
            other => Some(other?),
        };
        if !permitted {
            let whole = |found: &Found| found.kind != FileType::RegularFile;
            let exchanged =
                flags.contains(RenameFlags::EXCHANGE) && target.as_ref().is_some_and(whole);
            let brings_along = whole(&source) || exchanged;
            self.refuse_protected(task, from, brings_along)?;
            self.refuse_protected(task, to, brings_along)?;
        }
        let area = self.shared_area(task, (from, &source), (to, target.as_ref()))?;
        self.refuse_where_names_stay(area)?;
        if source.is_directory() || target.is_some_and(|target| target.is_directory()) {
            self.refuse_anchored(task, from)?;
            self.refuse_anchored(task, to)?;
            self.refuse_unpacking(area, from, to)?;
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
        let (host_from, host_to) = (self.host_of(area, from), self.host_of(area, to));
        // Where names may go, what takes the place of an old file is told of when it goes.
        let was_old = match &target {
            Some(target) if replaces && self.areas.mode(area) == Some(GrantMode::Rwd) => {
                self.ledger.keeps(&to.parent, target, self.since(area))?
            }
            _ => false,
        };
        if let Some(target) = target.filter(|_| replaces) {
            self.keep(Changed::Replaced, area, to, &target, host_to.as_deref())?;
        }
        let was_there =
            self.preserves(area) && self.ledger.keeps(&from.parent, &source, self.since(area))?;
        renameat_with(
            &from.parent,
            &*from.spelled,
            &to.parent,
            &*to.spelled,
            flags,
        )?;
        let lost = target.filter(|_| replaces);
        self.count(area, |counts| {
            if let Some(lost) = &lost {
                counts.replaced(host_to.as_deref(), lost.goes_with_name());
            }
            let ends = host_from.as_deref().zip(host_to.as_deref());
            // Two names of one file stay as they are: rename(2).
            if !same {
                counts.moved(ends, exchange);
            }
        });
        let change = if exchange {
            Changed::Exchanged
        } else {
            Changed::Moved
        };
        if !same && (was_there || (exchange && self.preserves(area))) {
            self.note_kept_move(change, area, host_from.as_deref(), host_to.as_deref());
        }
        match target {
            Some(target) if replaces && (target_stays || was_old) => {
                self.ledger.inherit(source.id, target.id);
            }
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
            (Area::ReadOnly | Area::Root, _) | (_, Some(GrantMode::Ro)) => Err(Errno::ROFS.into()),
            _ => Ok(area),
        }
    }

    fn refuse_where_names_stay(&self, area: Area) -> Result<(), Stop> {
        match self.areas.grant(area) {
            Some(grant) if grant.names_stay => Err(Stop::Refuse(Why::NamesStay)),
            _ => Ok(()),
        }
    }

    /// Whether `found` must not disappear from `area`.
    fn must_stay(&mut self, place: &Place, found: &Found, area: Area) -> Result<bool, Stop> {
        match (area, self.areas.mode(area)) {
            (Area::Scratch | Area::Processes, _) | (Area::Grant(_), Some(GrantMode::Rwd)) => {
                Ok(false)
            }
            _ => Ok(self.ledger.keeps(&place.parent, found, self.since(area))?),
        }
    }

    /// From when on a new file is the session's own in `area`.
    fn since(&self, area: Area) -> SessionStart {
        let grant = self.areas.grant(area);
        grant.map_or(self.ledger.start, |grant| grant.since)
    }

    /// The area of the directory that `place` lies in, read-only ones as such.
    pub(super) fn area_around(
        &mut self,
        task: &Task,
        place: &Place,
        around: &Found,
    ) -> Result<Area, Stop> {
        let own_fds = &self.own_fds;
        self.areas
            .of(around.mount, task, || shown_path(own_fds, &place.parent))
    }

    /// The area of a file that is shown at `path`.
    pub(super) fn area_of_path(
        &mut self,
        task: &Task,
        mount: u64,
        path: &Path,
    ) -> Result<Area, Stop> {
        self.areas.of(mount, task, || Ok(path.to_path_buf()))
    }

    /// Why the name at `place` may not be touched; with `brings_along`, also why nothing that
    /// holds other things may be put there or taken away.
    pub(super) fn protection(
        &self,
        area: Area,
        place: &Place,
        brings_along: bool,
    ) -> Result<Option<Protection>, Stop> {
        // A read-only part of a grant (what is protected there is mounted so) is asked about too,
        // for its reason's sake.
        if !matches!(area, Area::Grant(_) | Area::ReadOnly) {
            return Ok(None);
        }
        let parent = shown_path(&self.own_fds, &place.parent).map_err(|_| Stop::blind())?;
        let name = OsStr::from_bytes(&place.name);
        Ok(self.protection_of(area, &parent, name, brings_along))
    }

    pub(super) fn protection_of(
        &self,
        area: Area,
        parent: &Path,
        name: &OsStr,
        brings_along: bool,
    ) -> Option<Protection> {
        let inside = parent.join(name);
        let grant = match area {
            Area::Grant(_) => self.areas.grant(area)?,
            _ => self.areas.around(&inside)?,
        };
        let shield = grant
            .shield
            .as_ref()
            .filter(|_| grant.mode != GrantMode::Ro)?;
        let host = self.areas.on_host(&inside)?;
        let holds = || shield.holds(&grant.host, &host).filter(|_| brings_along);
        shield.protects(&grant.host, &host).or_else(holds)
    }

    /// Whether `place` itself is protected in its grant.
    pub(super) fn is_protected(&self, place: &Place) -> bool {
        let found = self.protection(Area::ReadOnly, place, true);
        found.is_ok_and(|found| found.is_some())
    }

    fn refuse_protected(
        &mut self,
        task: &Task,
        place: &Place,
        brings_along: bool,
    ) -> Result<(), Stop> {
        let around = Found::at(&place.parent, b"")?;
        let area = self.area_around(task, place, &around)?;
        match self.protection(area, place, brings_along)? {
            Some(protection) => Err(Stop::Refuse(Why::Protected(protection))),
            None => Ok(()),
        }
    }

    /// Some names are free in a package and protected elsewhere, so a folder leaves packages by
    /// being copied only.
    fn refuse_unpacking(&self, area: Area, from: &Place, to: &Place) -> Result<(), Stop> {
        let Some(grant) = self
            .areas
            .grant(area)
            .filter(|grant| grant.shield.is_some())
        else {
            return Ok(());
        };
        let is_package = |place: &Place| {
            let inside = path_of(&self.own_fds, place).map_err(|_| Stop::blind())?;
            let host = self.areas.on_host(&inside).unwrap_or_default();
            Ok::<_, Stop>(Shield::is_package(&grant.host, &host))
        };
        if is_package(from)? == is_package(to)? {
            Ok(())
        } else {
            Err(Errno::XDEV.into())
        }
    }

    /// Takes in that the grants have changed.
    pub(super) fn change(&mut self, change: Change) {
        self.areas.change(|grants| match change {
            // In one step: what is asked meanwhile finds the one or the other.
            Change::Put(grant) => {
                grants.retain(|before| before.inside != grant.inside);
                grants.push(*grant);
            }
            Change::Remove(inside) => grants.retain(|grant| grant.inside != inside),
        });
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

pub(super) fn path_of(own_fds: &OwnedFd, place: &Place) -> Result<PathBuf, Errno> {
    let parent = shown_path(own_fds, &place.parent)?;
    Ok(parent.join(OsStr::from_bytes(&place.name)))
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

pub(super) fn is_dots(name: &[u8]) -> bool {
    name == b"." || name == b".."
}
