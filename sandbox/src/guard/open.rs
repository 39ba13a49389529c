//! Opens a file for the waiting thread, to write it or to make it, where it is not protected.
//!
//! INVARIANT: what is opened here is what the thread could have opened itself. We see more than it
//! does, so what depends on who looks (`/proc`, `/dev/tty`, a descriptor that came from outside) is
//! done for it or refused.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2},
    io::Errno,
};

use super::{
    Changed, Stop, Why,
    area::Area,
    call::{OpenHow, SET_ID},
    judge::{Judge, is_dots},
    ledger::Found,
    resolve::{LINKS, Place, link_text, proc_text, require_own, resolve_text},
    shown_path,
    task::Task,
};

/// What came of opening.
#[derive(Debug)]
pub(super) enum Opened {
    /// Give this to the caller.
    Now(OwnedFd),
    /// Opening this waits for somebody: do it elsewhere, with these flags.
    Waits(OwnedFd, OFlags),
}

/// A file that was opened by a name, to be counted.
pub(super) struct Counted<'a> {
    pub(super) area: Area,
    pub(super) place: &'a Place,
    /// It was not there before.
    pub(super) made: bool,
    /// Bytes that it had, where opening it cut them off.
    pub(super) before: Option<u64>,
}

/// One step on the way to a file.
enum Step {
    Done(Opened),
    /// It is a link that says this.
    Link(Vec<u8>),
}

impl Judge {
    /// Opens `place` as far as nothing speaks against it. `place` is where it stood last, for who
    /// wants to tell of it.
    pub(super) fn open(
        &mut self,
        task: &Task,
        place: &mut Place,
        how: OpenHow,
        permitted: bool,
    ) -> Result<Opened, Stop> {
        for _ in 0..=LINKS {
            match self.open_name(task, place, how, permitted)? {
                Step::Done(opened) => return Ok(opened),
                Step::Link(text) => {
                    let start = || place.parent.try_clone().map_err(|_| Errno::MFILE.into());
                    let next = resolve_text(task, self.own_fds(), &text, start)?;
                    *place = next;
                }
            }
        }
        Err(Errno::LOOP.into())
    }

    fn open_name(
        &mut self,
        task: &Task,
        place: &Place,
        how: OpenHow,
        permitted: bool,
    ) -> Result<Step, Stop> {
        if is_dots(&place.name) || place.spelled != place.name {
            return Err(Errno::ISDIR.into());
        }
        let around = Found::at(&place.parent, b"")?;
        let area = self.area_around(task, place, &around)?;
        match area {
            Area::Foreign => return Err(Errno::ACCESS.into()),
            Area::Processes => return self.open_in_proc(task, place, how),
            Area::Root => refuse_in_root(place, how)?,
            _ => {}
        }
        if !permitted && let Some(protection) = self.protection(area, place, false)? {
            let found = Found::at(&place.parent, &place.name);
            let exclusive = how.flags.contains(OFlags::CREATE | OFlags::EXCL);
            return Err(match found {
                Ok(found) if found.is_directory() => Errno::ISDIR.into(),
                Ok(_) if exclusive => Errno::EXIST.into(),
                Err(Errno::NOENT) if !how.flags.contains(OFlags::CREATE) => Errno::NOENT.into(),
                Ok(_) | Err(Errno::NOENT) => Stop::Refuse(Why::Protected(protection)),
                Err(other) => other.into(),
            });
        }
        if how.flags.contains(OFlags::CREATE) {
            self.umasks.put_on(task)?;
        }
        if self.preserves(area)
            && let Ok(found) = Found::at(&place.parent, &place.name)
            && found.kind == FileType::RegularFile
            && !how.flags.contains(OFlags::CREATE | OFlags::EXCL)
        {
            let host = self.host_of(area, place);
            self.keep(Changed::Written, area, place, &found, host.as_deref())?;
        }
        let cut = || Found::at(&place.parent, &place.name).ok()?.file_size();
        let before = how.flags.contains(OFlags::TRUNC).then(cut).flatten();
        match open_as_asked(place, how) {
            Ok((file, made)) => {
                let counted = Counted {
                    area,
                    place,
                    made,
                    before,
                };
                self.settle(task, file, how, Some(counted))
            }
            Err(Errno::LOOP) => follow(place, how),
            // A named pipe that nobody reads, or a lease: the caller may want to wait.
            Err(Errno::NXIO | Errno::AGAIN) if !how.flags.contains(OFlags::NONBLOCK) => {
                let path = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = openat(&place.parent, &*place.name, path, Mode::empty())?;
                refuse_set_id(&fstat(&file)?, how)?;
                Ok(Step::Done(Opened::Waits(file, again(how.flags))))
            }
            Err(other) => Err(other.into()),
        }
    }

    /// Looks at what was opened before it is given away.
    fn settle(
        &mut self,
        task: &Task,
        file: OwnedFd,
        how: OpenHow,
        counted: Option<Counted<'_>>,
    ) -> Result<Step, Stop> {
        let stat = fstat(&file)?;
        refuse_set_id(&stat, how)?;
        if let Some(counted) = counted {
            self.count_opened(&stat, &counted);
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::CharacterDevice if stat.st_rdev == CONTROLLING_TERMINAL => {
                return self.open_terminal(task, how);
            }
            FileType::Fifo if !how.flags.contains(OFlags::NONBLOCK) => {
                return Ok(Step::Done(Opened::Waits(file, again(how.flags))));
            }
            _ => {}
        }
        if !how.flags.contains(OFlags::NONBLOCK) {
            let kept = how.flags & STATUS;
            rustix::fs::fcntl_setfl(&file, kept)?;
        }
        Ok(Step::Done(Opened::Now(file)))
    }

    /// `/dev/tty` is whoever's terminal opens it; ours is the user's own.
    fn open_terminal(&self, task: &Task, how: OpenHow) -> Result<Step, Stop> {
        let path = format!("dev/pts/{}", task.terminal()?);
        let flags = (how.flags & (OFlags::RWMODE | STATUS | OFlags::NONBLOCK))
            | OFlags::NOCTTY
            | OFlags::NOFOLLOW
            | OFlags::CLOEXEC;
        let file = openat(task.root()?, path, flags, Mode::empty())?;
        Ok(Step::Done(Opened::Now(file)))
    }

    /// Nothing is made in `/proc`, and only what is the caller's own is opened there.
    fn open_in_proc(&mut self, task: &Task, place: &Place, how: OpenHow) -> Result<Step, Stop> {
        let path = OFlags::PATH | OFlags::CLOEXEC;
        let seen = openat(
            &place.parent,
            &*place.name,
            path | OFlags::NOFOLLOW,
            Mode::empty(),
        )?;
        if FileType::from_raw_mode(fstat(&seen)?.st_mode) != FileType::Symlink {
            require_own(task, self.own_fds(), &place.parent)?;
            let flags = again(how.flags) | OURS | OFlags::NOFOLLOW;
            let file = openat(&place.parent, &*place.name, flags, Mode::empty())?;
            return Ok(Step::Done(Opened::Now(file)));
        }
        if how.flags.contains(OFlags::CREATE | OFlags::EXCL) {
            return Err(Errno::EXIST.into());
        }
        if how.flags.contains(OFlags::NOFOLLOW) {
            return Err(Errno::LOOP.into());
        }
        let own = self.own_fds();
        if let Some(text) = proc_text(task, own, &place.parent, &place.name, &seen)? {
            return Ok(Step::Link(text));
        }
        let target = openat(&place.parent, &*place.name, path, Mode::empty())?;
        self.reopen(task, target, how)
    }

    /// Opens an open file anew, as the links in `/proc/self/fd` do.
    fn reopen(&mut self, task: &Task, target: OwnedFd, how: OpenHow) -> Result<Step, Stop> {
        let found = Found::at(&target, b"")?;
        match found.kind {
            FileType::Directory => return Err(Errno::ISDIR.into()),
            FileType::RegularFile => self.refuse_protected_file(task, &target)?,
            FileType::Fifo if !how.flags.contains(OFlags::NONBLOCK) => {
                return Ok(Step::Done(Opened::Waits(target, again(how.flags))));
            }
            _ => {}
        }
        let number = target.as_raw_fd().to_string();
        let file = openat(
            self.own_fds(),
            number,
            again(how.flags) | OURS,
            Mode::empty(),
        )?;
        self.settle(task, file, how, None)
    }

    /// A regular file that was handed in, a log to be appended to for one, has the rights of its
    /// descriptor and no more.
    pub(super) fn refuse_protected_file(
        &mut self,
        task: &Task,
        target: &OwnedFd,
    ) -> Result<(), Stop> {
        let found = Found::at(target, b"")?;
        let path = shown_path(self.own_fds(), target)?;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::ACCESS.into());
        };
        match self.area_of_path(task, found.mount, &path)? {
            Area::Foreign => Err(Errno::ACCESS.into()),
            area => match self.protection_of(area, parent, name, false) {
                Some(protection) => Err(Stop::Refuse(Why::Protected(protection))),
                None => Ok(()),
            },
        }
    }
}

/// The file, and whether it was made. Links are told, not followed; by `openat2`, because
/// `O_NOFOLLOW` would stay with the file.
fn open_as_asked(place: &Place, how: OpenHow) -> Result<(OwnedFd, bool), Errno> {
    let flags = (how.flags & KNOWN) | OURS;
    let open = |flags: OFlags| {
        let mode = if flags.contains(OFlags::CREATE) {
            how.mode
        } else {
            Mode::empty()
        };
        openat2(
            &place.parent,
            &*place.name,
            flags,
            mode,
            ResolveFlags::NO_SYMLINKS,
        )
    };
    let creates = flags.contains(OFlags::CREATE);
    if creates && !flags.contains(OFlags::DIRECTORY) {
        match open(flags | OFlags::EXCL) {
            Err(Errno::EXIST) if !flags.contains(OFlags::EXCL) => {}
            other => return other.map(|file| (file, true)),
        }
    }
    open(flags).map(|file| (file, false))
}

/// A set-user-id file keeps its contents. Writing takes the bit off, but writing by a shared mapping
/// does not, and in a grant of root's it would be the session's code that runs as root.
fn refuse_set_id(stat: &Stat, how: OpenHow) -> Result<(), Stop> {
    let writes = how.flags.intersects(OFlags::WRONLY | OFlags::RDWR);
    let kind = FileType::from_raw_mode(stat.st_mode);
    match writes && kind == FileType::RegularFile && stat.st_mode & SET_ID != 0 {
        true => Err(Errno::PERM.into()),
        false => Ok(()),
    }
}

/// Files of the session's root are not written, and none is made there.
fn refuse_in_root(place: &Place, how: OpenHow) -> Result<(), Stop> {
    let writes = how
        .flags
        .intersects(OFlags::WRONLY | OFlags::RDWR | OFlags::TRUNC);
    match Found::at(&place.parent, &place.name) {
        Ok(found) if found.kind == FileType::RegularFile && writes => Err(Errno::ROFS.into()),
        Err(Errno::NOENT) if how.flags.contains(OFlags::CREATE) => Err(Errno::ROFS.into()),
        _ => Ok(()),
    }
}

/// A link where a file was looked for.
fn follow(place: &Place, how: OpenHow) -> Result<Step, Stop> {
    if how.flags.contains(OFlags::NOFOLLOW) {
        return Err(Errno::LOOP.into());
    }
    let path = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let link = openat(&place.parent, &*place.name, path, Mode::empty())?;
    Ok(Step::Link(link_text(&link)?))
}

/// The flags to open with what has been found already.
fn again(flags: OFlags) -> OFlags {
    (flags - (OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW)) | OFlags::NOCTTY | OFlags::CLOEXEC
}

/// What we always add: we do not wait, take no terminal, and keep it to ourselves until it is
/// handed over.
const OURS: OFlags = OFlags::NONBLOCK
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// The flags there are: others `open` overlooks and `openat2` does not.
const KNOWN: OFlags = OFlags::RWMODE
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOCTTY)
    .union(OFlags::TRUNC)
    .union(OFlags::APPEND)
    .union(OFlags::NONBLOCK)
    .union(OFlags::SYNC)
    .union(OFlags::DSYNC)
    .union(OFlags::DIRECT)
    .union(OFlags::LARGEFILE)
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOATIME)
    .union(OFlags::CLOEXEC);

/// What stays with an open file, beside `O_NONBLOCK`.
const STATUS: OFlags = OFlags::APPEND.union(OFlags::DIRECT).union(OFlags::NOATIME);

/// `/dev/tty`: character device 5, 0.
const CONTROLLING_TERMINAL: u64 = 5 << 8;
