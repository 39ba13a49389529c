//! Makes names for the waiting thread, where they are not protected.

use std::os::fd::OwnedFd;

use rustix::{
    fs::{
        AtFlags, FileType, Mode, OFlags, PROC_SUPER_MAGIC, fstat, fstatfs, linkat, mkdirat,
        mknodat, openat, symlinkat,
    },
    io::Errno,
};

use super::{
    Stop, Why,
    area::Area,
    call::RawPath,
    judge::{Judge, is_dots},
    ledger::Found,
    resolve::{LINKS, Place, link_text, proc_text, resolve, resolve_text},
    task::Task,
};

/// What is made.
#[derive(Clone, Copy, Debug)]
pub(super) enum Making<'a> {
    /// A directory with these permission bits.
    Directory(u32),
    /// A node of this kind and these bits, for this device.
    Node(u32, u64),
    /// A link that says this.
    Symlink(&'a [u8]),
    /// One more name of what stands here.
    Link(&'a Source),
}

/// A file that gets one more name.
#[derive(Debug)]
pub(super) enum Source {
    /// By a name it has; the flag says whether a link is followed.
    Named(Place, AtFlags),
    /// By an open file.
    Open(OwnedFd),
}

impl Source {
    /// What `linkat` names.
    pub(super) fn find(
        task: &Task,
        own_fds: &OwnedFd,
        from: &RawPath,
        flags: AtFlags,
    ) -> Result<Self, Stop> {
        if flags.contains(AtFlags::EMPTY_PATH) && task.text(from.address).is_err() {
            return Ok(Self::Open(task.file(from.start)?));
        }
        let mut place = resolve(task, own_fds, from)?;
        if !flags.contains(AtFlags::SYMLINK_FOLLOW) {
            return Ok(Self::Named(place, AtFlags::empty()));
        }
        for _ in 0..=LINKS {
            let path = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let found = openat(&place.parent, &*place.spelled, path, Mode::empty())?;
            if FileType::from_raw_mode(fstat(&found)?.st_mode) != FileType::Symlink {
                return Ok(Self::Named(place, AtFlags::empty()));
            }
            let of_proc = fstatfs(&found)?.f_type == PROC_SUPER_MAGIC;
            let text = if of_proc {
                proc_text(task, own_fds, &place.parent, &place.name, &found)?
            } else {
                Some(link_text(&found)?)
            };
            let Some(text) = text else {
                let path = OFlags::PATH | OFlags::CLOEXEC;
                let file = openat(&place.parent, &*place.spelled, path, Mode::empty())?;
                return Ok(Self::Open(file));
            };
            let start = || place.parent.try_clone().map_err(|_| Errno::MFILE.into());
            place = resolve_text(task, own_fds, &text, start)?;
        }
        Err(Errno::LOOP.into())
    }
}

impl Judge {
    /// Makes `place`, if nothing speaks against it.
    pub(super) fn make(
        &mut self,
        task: &Task,
        place: &Place,
        making: Making<'_>,
        permitted: bool,
    ) -> Result<(), Stop> {
        if is_dots(&place.name) {
            return Err(Errno::EXIST.into());
        }
        let around = Found::at(&place.parent, b"")?;
        let area = self.area_around(task, place, &around)?;
        match area {
            Area::Foreign => return Err(Errno::ACCESS.into()),
            Area::Root => {
                let there = Found::at(&place.parent, &place.name).is_ok();
                return Err(if there { Errno::EXIST } else { Errno::ROFS }.into());
            }
            _ => {}
        }
        if !permitted {
            let brings_along = matches!(making, Making::Symlink(_));
            if let Some(protection) = self.protection(area, place, brings_along)? {
                return Err(match Found::at(&place.parent, &place.name) {
                    Ok(_) => Errno::EXIST.into(),
                    Err(Errno::NOENT) => Stop::Refuse(Why::Protected(protection)),
                    Err(other) => other.into(),
                });
            }
            if let Making::Link(source) = making {
                self.refuse_protected_source(task, source)?;
            }
        }
        self.umasks.put_on(task)?;
        make(place, making)?;
        self.count_named(area, place, matches!(making, Making::Link(_)));
        Ok(())
    }

    /// What is protected could be written under another name.
    fn refuse_protected_source(&mut self, task: &Task, source: &Source) -> Result<(), Stop> {
        let place = match source {
            Source::Named(place, _) => place,
            // By its name, where it has one; a nameless file was never protected.
            Source::Open(file) => return self.refuse_protected_file(task, file),
        };
        let around = Found::at(&place.parent, b"")?;
        let area = self.area_around(task, place, &around)?;
        match self.protection(area, place, false)? {
            Some(protection) => Err(Stop::Refuse(Why::Protected(protection))),
            None => Ok(()),
        }
    }
}

fn make(place: &Place, making: Making<'_>) -> Result<(), Stop> {
    let (parent, name) = (&place.parent, &*place.spelled);
    match making {
        Making::Directory(mode) => mkdirat(parent, name, Mode::from_bits_retain(mode & 0o7777))?,
        Making::Node(mode, device) => {
            let kind = match mode & KIND {
                0 => FileType::RegularFile,
                _ => FileType::from_raw_mode(mode),
            };
            if kind == FileType::Unknown {
                return Err(Errno::INVAL.into());
            }
            mknodat(
                parent,
                name,
                kind,
                Mode::from_bits_retain(mode & 0o7777),
                device,
            )?;
        }
        Making::Symlink(text) => symlinkat(text, parent, name)?,
        Making::Link(Source::Named(from, flags)) => {
            linkat(&from.parent, &*from.spelled, parent, name, *flags)?;
        }
        Making::Link(Source::Open(file)) => link_open_file(file, place)?,
    }
    Ok(())
}

/// By its link in our own `/proc`: the direct way needs a capability.
fn link_open_file(file: &OwnedFd, place: &Place) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = AtFlags::SYMLINK_FOLLOW;
    linkat(rustix::fs::CWD, own, &place.parent, &*place.spelled, flags)
}

/// `S_IFMT`.
const KIND: u32 = 0o170_000;
