//! `cordon session restore`: puts back what was kept, by undoing what a session did in reverse.
//!
//! Works beneath the grant's folder and follows no link there: what the session left behind is
//! not trusted. What it made new stays, unless it stands where something goes back; then that is
//! kept beside it under a name that ends with `.cordon-was`.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use cordon_sandbox::guard::{Changed, Kept};
use rustix::{
    fs::{
        AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, ResolveFlags, fchmod, mkdirat, openat,
        openat2, renameat_with, statat, symlinkat,
    },
    io::Errno,
};

use super::changes::{Index, read, shown, store, word};
use crate::{cli::exit, error::Failure, paths::Paths};

/// Options of `cordon session restore`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Its id, or the first digits of it
    #[arg(value_name = "SESSION")]
    session: String,
    /// Only this file, or what lies below this folder: a path of the host, or one inside
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
}

/// Puts things back; exit 1 when something could not be.
pub fn restore(args: &Args) -> Result<u8, Failure> {
    let paths = Paths::from_env(|name| std::env::var_os(name))?;
    let store = store(&paths, &args.session)?;
    let wanted = match &args.path {
        Some(path) => Some(std::env::current_dir()?.join(path)),
        None => None,
    };
    let Index { kept, unread } = read(&store)?;
    let concerns = |line: &&Kept| {
        let wanted = wanted.as_deref();
        wanted.is_none_or(|wanted| {
            [Some(&line.path), line.to.as_ref()]
                .into_iter()
                .flatten()
                .any(|path| is_at(line, path, wanted))
        })
    };
    let (mut restored, mut left) = (0_u64, 0_u64);
    for line in kept.iter().rev().filter(concerns) {
        match undo(&store, line) {
            Ok(()) => {
                restored += 1;
                println!("restored {} ({})", shown(&line.path), word(line.change));
            }
            Err(error) => {
                left += 1;
                eprintln!("cordon: {} was not restored: {error}", shown(&line.path));
            }
        }
    }
    if restored + left == 0 && unread == 0 {
        return Err(Failure::new("nothing of that was kept"));
    }
    // What cannot be read may have been asked for.
    Ok(if left == 0 && unread == 0 {
        0
    } else {
        exit::FAILED
    })
}

/// Whether `path`, of the host, lies at or below `wanted`, which may be a path inside.
fn is_at(line: &Kept, path: &Path, wanted: &Path) -> bool {
    let inside = || {
        let below = path.strip_prefix(&line.grant).ok()?;
        Some(line.inside.as_ref()?.join(below))
    };
    path.starts_with(wanted) || inside().is_some_and(|inside| inside.starts_with(wanted))
}

fn undo(store: &Path, line: &Kept) -> io::Result<()> {
    let at = Place::of(&line.grant, &line.path, true)?;
    match line.change {
        Changed::Moved | Changed::Exchanged => {
            let to = line.to.as_deref().unwrap_or(&line.path);
            let from = Place::of(&line.grant, to, false)?;
            let flags = match line.change {
                Changed::Exchanged => RenameFlags::EXCHANGE,
                _ => RenameFlags::NOREPLACE,
            };
            renameat_with(&from.parent, &from.name, &at.parent, &at.name, flags)?;
            Ok(())
        }
        Changed::Written => match at.kind()? {
            // In place: other names of the file get its contents back too.
            Some(FileType::RegularFile) => at.overwrite(store, line),
            _ => at.put(store, line),
        },
        Changed::Removed | Changed::Replaced => at.put(store, line),
    }
}

/// A name in a folder of the grant.
struct Place {
    parent: OwnedFd,
    name: PathBuf,
}

impl Place {
    /// Without following links below the grant; folders that are missing are made.
    fn of(grant: &Path, path: &Path, make: bool) -> io::Result<Self> {
        let outside = || io::Error::other("it does not lie in its grant");
        let below = path.strip_prefix(grant).map_err(|_| outside())?;
        let name = below.file_name().ok_or_else(outside)?.into();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut parent = openat(CWD, grant, flags | OFlags::NOFOLLOW, Mode::empty())?;
        for part in below.parent().into_iter().flatten() {
            if make {
                match mkdirat(&parent, part, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            parent = openat2(&parent, part, flags, Mode::empty(), resolve)?;
        }
        Ok(Self { parent, name })
    }

    fn kind(&self) -> io::Result<Option<FileType>> {
        match statat(&self.parent, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn overwrite(&self, store: &Path, line: &Kept) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(&self.parent, &self.name, flags, Mode::empty())?);
        let mut content = content(store, line)?;
        file.set_len(0)?;
        io::copy(&mut content, &mut &file)?;
        Ok(())
    }

    fn put(&self, store: &Path, line: &Kept) -> io::Result<()> {
        let kind = FileType::from_raw_mode(line.mode);
        match (self.kind()?, kind) {
            // Made again already, for what lies in it.
            (Some(FileType::Directory), FileType::Directory) => return self.permit(line),
            (Some(_), _) => self.set_aside()?,
            (None, _) => {}
        }
        match kind {
            FileType::RegularFile => {
                let mut content = content(store, line)?;
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                let file = openat(&self.parent, &self.name, flags, Mode::RUSR | Mode::WUSR)?;
                io::copy(&mut content, &mut &File::from(file.try_clone()?))?;
                fchmod(&file, Mode::from_raw_mode(line.mode & 0o777))?;
            }
            FileType::Symlink => {
                let text = line.link.as_deref().unwrap_or(Path::new(""));
                symlinkat(text, &self.parent, &self.name)?;
            }
            FileType::Directory => {
                mkdirat(
                    &self.parent,
                    &self.name,
                    Mode::from_raw_mode(line.mode & 0o777),
                )?;
            }
            _ => {
                return Err(io::Error::other(
                    "it was neither a file, a folder nor a link",
                ));
            }
        }
        Ok(())
    }

    fn permit(&self, line: &Kept) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = openat(&self.parent, &self.name, flags, Mode::empty())?;
        fchmod(folder, Mode::from_raw_mode(line.mode & 0o777))?;
        Ok(())
    }

    /// What stands in the way keeps its contents under another name.
    fn set_aside(&self) -> io::Result<()> {
        for number in 0..100_u32 {
            let mut aside = self.name.clone().into_os_string();
            aside.push(match number {
                0 => ".cordon-was".to_owned(),
                number => format!(".cordon-was-{number}"),
            });
            let (from, to) = (&self.name, &aside);
            match renameat_with(&self.parent, from, &self.parent, to, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => {}
                other => return Ok(other?),
            }
        }
        Err(io::Error::other("too much was set aside there"))
    }
}

fn content(store: &Path, line: &Kept) -> io::Result<impl Read> {
    let number = line
        .content
        .ok_or_else(|| io::Error::other("its contents were not kept"))?;
    let path = store.join(number.to_string());
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(openat(CWD, path, flags, Mode::empty())?))
}
