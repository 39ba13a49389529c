//! News of changes at a path, by inotify(7).
//!
//! A path in, a wake-up out. Reads no file; says neither what changed nor that it is complete.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, ErrorKind},
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use tokio::io::unix::AsyncFd;

/// What happens at a path: a file, or a directory with what is below it.
#[derive(Debug)]
pub struct Changes {
    inotify: AsyncFd<OwnedFd>,
    path: PathBuf,
    /// The watch on the folder that it lies in, where other files change as well.
    parent: Option<i32>,
    /// Whether all of that counts: what a link leads to or through may have any name there.
    parent_counts: AtomicBool,
}

/// A bundle has `rules/`, `data/` and `tests/`, and `rules/` may have folders.
const DEPTH: usize = 4;

/// Most folders that are watched.
const FOLDERS: usize = 128;

impl Changes {
    /// Begins to watch; call [`Changes::watch`] before each reading. Within the runtime.
    ///
    /// # Errors
    /// When the system gives no further watches.
    #[expect(
        deprecated,
        reason = "its successor is unsafe; this descriptor is ours until the end, which is what \
                  that asks for"
    )]
    pub fn new(path: &Path) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let parent = path.parent().map(|parent| add(&inotify, parent));
        Ok(Self {
            inotify: AsyncFd::new(inotify)?,
            path: path.into(),
            parent: parent.transpose()?,
            parent_counts: AtomicBool::new(false),
        })
    }

    /// Watches what is there now. What is not, or may not be read, is seen when it comes into the
    /// folder that it lies in. Of a link to a file the folder where that lies is watched too.
    pub fn watch(&self) {
        let is_link = self.path.is_symlink();
        let mut targets = BTreeSet::new();
        if is_link {
            targets.extend(self.watch_target(&self.path));
        }
        let mut folders = vec![(self.path.clone(), 0)];
        let mut watched = 0;
        while let Some((folder, depth)) = folders.pop() {
            watched += 1;
            if add(self.inotify.get_ref(), &folder).is_err() || depth == DEPTH {
                continue;
            }
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() && folders.len() + watched < FOLDERS => {
                        folders.push((entry.path(), depth + 1));
                    }
                    Ok(kind) if kind.is_symlink() && targets.len() < FOLDERS => {
                        targets.extend(self.watch_target(&entry.path()));
                    }
                    Ok(_) | Err(_) => {}
                }
            }
        }
        let leads_to_it = self.parent.is_some_and(|parent| targets.contains(&parent));
        self.parent_counts.store(is_link || leads_to_it, Relaxed);
    }

    /// Watches the folder in which the file lies that a link leads to. The watch, where there is one.
    fn watch_target(&self, link: &Path) -> Option<i32> {
        let target = link.canonicalize().ok().filter(|target| target.is_file())?;
        add(self.inotify.get_ref(), target.parent()?).ok()
    }

    /// Resolves when something has changed.
    pub async fn next(&self) {
        loop {
            let Ok(mut ready) = self.inotify.readable().await else {
                // Only a runtime that ends does this.
                return std::future::pending().await;
            };
            match ready.try_io(|inotify| self.drain(inotify.get_ref())) {
                Ok(Ok(true)) => return,
                Ok(Ok(false)) | Err(_) => {}
                // More happened than the kernel keeps, say: then something has.
                Ok(Err(_lost)) => return,
            }
        }
    }

    /// Takes what there is; whether any of it is about our path.
    fn drain(&self, inotify: &OwnedFd) -> io::Result<bool> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(inotify, &mut buffer);
        let name = self.path.file_name().map(|name| name.as_encoded_bytes());
        let (mut any, mut ours) = (false, false);
        loop {
            match reader.next() {
                Ok(event) => {
                    any = true;
                    let elsewhere = Some(event.wd()) == self.parent
                        && !self.parent_counts.load(Relaxed)
                        && event.file_name().map(|found| found.to_bytes()) != name;
                    ours |= !elsewhere;
                }
                Err(error) if any && error.kind() == ErrorKind::WouldBlock => return Ok(ours),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn add(inotify: &OwnedFd, folder: &Path) -> io::Result<i32> {
    let changes = WatchFlags::CLOSE_WRITE
        | WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::MOVED_FROM
        | WatchFlags::MOVED_TO
        | WatchFlags::ONLYDIR;
    Ok(inotify::add_watch(inotify, folder, changes)?)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, time::Duration};

    use super::*;

    #[tokio::test]
    async fn changes_below_are_seen_and_those_beside_are_not() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("house");
        let changes = Changes::new(&path).unwrap();
        changes.watch();
        let seen = || tokio::time::timeout(Duration::from_secs(20), changes.next());
        // It comes.
        fs::create_dir_all(path.join("rules/deep")).unwrap();
        seen().await.expect("it came");
        changes.watch();
        // Somebody else's file, then ours: one wake-up, and it is for ours.
        fs::write(parent.path().join("other"), "").unwrap();
        fs::write(path.join("rules/deep/a.cedar"), "").unwrap();
        seen().await.expect("a file below changed");
        fs::write(parent.path().join("other"), "more").unwrap();
        let beside = tokio::time::timeout(Duration::from_millis(50), changes.next());
        assert!(beside.await.is_err(), "nothing of ours changed");
        fs::rename(&path, parent.path().join("gone")).unwrap();
        seen().await.expect("it went");
    }

    /// As a ConfigMap is mounted: the file is a link through another link, which is exchanged.
    #[tokio::test]
    async fn changes_of_what_a_link_leads_to_are_seen() {
        let parent = tempfile::tempdir().unwrap();
        let (path, data) = (parent.path().join("a.cedar"), parent.path().join("..data"));
        for version in ["v1", "v2"] {
            fs::create_dir(parent.path().join(version)).unwrap();
            fs::write(parent.path().join(version).join("a.cedar"), version).unwrap();
        }
        symlink("v1", &data).unwrap();
        symlink("..data/a.cedar", &path).unwrap();
        let changes = Changes::new(&path).unwrap();
        changes.watch();
        let seen = || tokio::time::timeout(Duration::from_secs(20), changes.next());
        let next = parent.path().join("..next");
        symlink("v2", &next).unwrap();
        seen().await.expect("something of the folder changed");
        fs::rename(&next, &data).unwrap();
        seen().await.expect("it leads elsewhere");
        changes.watch();
        fs::write(parent.path().join("v2/a.cedar"), "more").unwrap();
        seen().await.expect("what it leads to changed");
        // Below a folder that is watched a link is one as well.
        let folder = parent.path().join("folder");
        fs::create_dir(&folder).unwrap();
        symlink(parent.path().join("v1/a.cedar"), folder.join("a.cedar")).unwrap();
        let changes = Changes::new(&folder).unwrap();
        changes.watch();
        fs::write(parent.path().join("v1/a.cedar"), "more").unwrap();
        let seen = || tokio::time::timeout(Duration::from_secs(20), changes.next());
        seen().await.expect("what a link below leads to changed");
        // Also where that lies beside the folder.
        fs::write(parent.path().join("base.cedar"), "").unwrap();
        symlink("../base.cedar", folder.join("base.cedar")).unwrap();
        seen().await.expect("the link came");
        changes.watch();
        fs::write(parent.path().join("base.cedar"), "more").unwrap();
        seen().await.expect("what lies beside the folder changed");
    }
}
