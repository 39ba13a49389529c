//! The launcher's part in changing a running session's grants: tells the guard, then has the kernel
//! mount or unmount. Decides nothing: each order was decided and recorded by the daemon.

use std::{
    io::ErrorKind,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::PoisonError,
    time::{Duration, Instant},
};

use cordon_policy::GrantMode;
use cordon_sandbox::{
    adapter::{LiveMounts, Sandbox},
    guard::{Books, Change, Control, GuardedGrant, Keeper},
    mounts::{self, MountError},
    owners::Owners,
    plan::{Access, Identity, Mount},
};

use super::{plan::shield, watch::SharedClient};
use crate::{
    control::{Answer, Ask, CarriedResult, GrantChanges, GrantMade, Holder},
    error::Failure,
};

/// How long the sizes of changed files are asked for: tens of thousands of files, on a local disk.
const LOOKING: Duration = Duration::from_millis(250);

/// The grants of a running session.
#[derive(Debug)]
pub struct LiveGrants {
    client: SharedClient,
    mounts: Box<dyn LiveMounts>,
    owners: Option<Owners>,
    guarded: Vec<GuardedGrant>,
    guards: Vec<Control>,
    /// Whether one of them did not answer.
    silent: bool,
    books: Books,
    /// Where what is preserved goes.
    store: PathBuf,
}

impl LiveGrants {
    /// Of the session in this sandbox, which starts with these. What policy has preserved
    /// is kept in `store`, a folder that is made when it is needed.
    ///
    /// # Errors
    /// When something is to be preserved and the folder cannot be made.
    pub fn new(
        client: &SharedClient,
        sandbox: &dyn Sandbox,
        guarded: Vec<GuardedGrant>,
        store: PathBuf,
    ) -> Result<Self, Failure> {
        let grants = Self {
            client: client.clone(),
            mounts: sandbox.mounts(),
            owners: sandbox.owners(),
            guarded,
            guards: Vec::new(),
            silent: false,
            books: Books::default(),
            store,
        };
        if grants.guarded.iter().any(|grant| grant.preserve) {
            grants.open_store().map_err(Failure::new)?;
        }
        Ok(grants)
    }

    /// Whom a supervisor acts as, in a session that root started.
    pub fn owners(&self) -> Option<Owners> {
        self.owners.clone()
    }

    /// What all supervisors of the session share.
    pub fn books(&self) -> Books {
        self.books.clone()
    }

    /// What was done to files so far.
    pub fn changes(&self) -> Vec<GrantChanges> {
        let counts = self
            .books
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let deadline = Instant::now() + LOOKING;
        let changes = counts.into_iter().map(|(inside, counts)| {
            let sizes = counts.touched.sizes(deadline);
            GrantChanges {
                path: counts.host,
                inside,
                created: counts.created,
                created_bytes: sizes.map(|sizes| sizes.created),
                changed: counts.changed,
                changed_bytes: sizes.map(|sizes| sizes.changed),
                changed_bytes_before: sizes.map(|sizes| sizes.before),
                deleted: counts.deleted,
                deleted_bytes: counts.deleted_bytes,
                replaced: counts.replaced,
                replaced_bytes: counts.replaced_bytes,
                moved: counts.moved,
                first_deleted: (counts.first_deleted.iter())
                    .map(|path| in_text(path))
                    .collect(),
            }
        });
        changes.collect()
    }

    fn open_store(&self) -> Result<(), String> {
        let mut keeper = self
            .books
            .keeper
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if keeper.is_some() {
            return Ok(());
        }
        let failed = |error: std::io::Error| {
            format!(
                "what policy wants preserved cannot be kept in `{}`: {error}",
                self.store.display()
            )
        };
        if let Some(above) = self.store.parent() {
            let mut builder = std::fs::DirBuilder::new();
            builder
                .recursive(true)
                .mode(0o700)
                .create(above)
                .map_err(failed)?;
        }
        *keeper = Some(Keeper::create(&self.store, self.owners.as_ref()).map_err(failed)?);
        Ok(())
    }

    /// As the guard needs to know them.
    pub fn guarded(&self) -> &[GuardedGrant] {
        &self.guarded
    }

    /// A supervisor more that has to be told of changes.
    pub fn add_guard(&mut self, control: Option<Control>) {
        self.guards.extend(control);
    }

    /// Shows one more.
    pub fn mount(&mut self, grant: &GrantMade) -> CarriedResult {
        carried(self.try_mount(grant).map(|()| Vec::new()))
    }

    /// Takes one away.
    pub fn unmount(&mut self, grant: &GrantMade, kill: bool) -> CarriedResult {
        carried(self.try_unmount(grant, kill))
    }

    /// Changes what may be done beneath one.
    pub fn remount(&mut self, grant: &GrantMade, mode: GrantMode, kill: bool) -> CarriedResult {
        carried(self.try_remount(grant, mode, kill))
    }

    fn try_mount(&mut self, grant: &GrantMade) -> Result<(), String> {
        // Else the guard would hear of this one in place of the one that stands there, and of neither
        // once it could not be mounted.
        if let Some(there) = self.guarded_at(&grant.inside) {
            return Err(format!(
                "`{}` is mounted at `{}`",
                there.host.display(),
                there.inside.display()
            ));
        }
        let found = self.look_through(grant)?;
        if grant.preserve {
            self.open_store()?;
        }
        // What is there now must be told from what the session makes.
        found.guarded.since.settle();
        // The guard first: at no moment is it there and not known.
        self.tell(&Change::Put(Box::new(found.guarded.clone())));
        let mount = Mount {
            source: grant.path.clone(),
            target: grant.inside.clone(),
            access: match grant.mode {
                GrantMode::Ro => Access::ReadOnly,
                GrantMode::Rw | GrantMode::Rwd => Access::ReadWrite,
            },
            identity: identity(grant),
        };
        let attached = self.mounts.attach(&mount, grant.directory, &found.mounts);
        if let Err(error) = attached {
            self.tell(&Change::Remove(grant.inside.clone()));
            return Err(words(&error));
        }
        self.guarded.push(found.guarded);
        Ok(())
    }

    fn try_unmount(&mut self, grant: &GrantMade, kill: bool) -> Result<Vec<Holder>, String> {
        // Whoever gave up on an order, which was carried out later, asks again.
        if self.guarded_at(&grant.inside).is_none() {
            return Ok(Vec::new());
        }
        let used = uses(&*self.mounts, &grant.inside)?;
        self.mounts
            .detach(&grant.inside, identity(grant))
            .map_err(|error| words(&error))?;
        self.tell(&Change::Remove(grant.inside.clone()));
        self.guarded
            .retain(|guarded| guarded.inside != grant.inside);
        if kill {
            self.mounts.end_holders(&used);
        }
        Ok(used.iter().map(|holder| told(holder, kill)).collect())
    }

    fn try_remount(
        &mut self,
        grant: &GrantMade,
        mode: GrantMode,
        kill: bool,
    ) -> Result<Vec<Holder>, String> {
        let changed = GrantMade {
            mode,
            ..grant.clone()
        };
        let mut found = self.look_through(&changed)?;
        if changed.preserve {
            self.open_store()?;
        }
        match self.guarded_at(&grant.inside) {
            Some(before) if grant.mode != GrantMode::Ro => found.guarded.since = before.since,
            _ => found.guarded.since.settle(),
        }
        let mut ended = Vec::new();
        match (grant.mode, mode) {
            (GrantMode::Ro, GrantMode::Ro) => {}
            (GrantMode::Ro, _) => {
                // The guard first: it is never writable and unguarded.
                self.exchange(&found.guarded);
                let made = self
                    .mounts
                    .make_writable(&grant.inside, identity(grant), &found.mounts);
                made.map_err(|error| words(&error))?;
                return Ok(Vec::new());
            }
            (_, GrantMode::Ro) => ended = make_read_only(&*self.mounts, grant, kill)?,
            _ => {}
        }
        self.exchange(&found.guarded);
        Ok(ended)
    }

    fn guarded_at(&self, inside: &Path) -> Option<&GuardedGrant> {
        self.guarded.iter().find(|grant| grant.inside == inside)
    }

    fn exchange(&mut self, guarded: &GuardedGrant) {
        self.tell(&Change::Put(Box::new(guarded.clone())));
        self.guarded
            .retain(|before| before.inside != guarded.inside);
        self.guarded.push(guarded.clone());
    }

    fn look_through(&self, grant: &GrantMade) -> Result<shield::Found, String> {
        let permitted = |paths: &[PathBuf]| permitted(&self.client, paths);
        shield::find(grant, &permitted).map_err(|failure| failure.to_string())
    }

    /// A supervisor that has ended has no processes left to guard.
    fn tell(&mut self, change: &Change) {
        let silent = &mut self.silent;
        self.guards
            .retain(|guard| match guard.change(change.clone()) {
                Ok(()) => true,
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    *silent = true;
                    true
                }
                Err(_ended) => false,
            });
    }

    /// Whether a guard does not answer: what it guards now is not known.
    pub fn is_unguarded(&self) -> bool {
        self.silent
    }
}

/// For people, and for a connection that carries text.
fn in_text(path: &Path) -> PathBuf {
    path.to_string_lossy().into_owned().into()
}

/// Which of these protected paths policy permits to be changed.
pub fn permitted(client: &SharedClient, paths: &[PathBuf]) -> Result<Vec<bool>, Failure> {
    let ask = Ask::ProtectedPaths {
        paths: paths.to_vec(),
    };
    match client.ask(&ask)? {
        Answer::ProtectedPaths { permitted } => Ok(permitted),
        _other => Err(Failure::new("the daemon answered something unexpected")),
    }
}

/// While files are open for writing the kernel refuses; they are found, and ended when asked to.
fn make_read_only(
    session: &dyn LiveMounts,
    grant: &GrantMade,
    kill: bool,
) -> Result<Vec<Holder>, String> {
    let mut ended: Vec<Holder> = Vec::new();
    for _ in 0..ATTEMPTS {
        match session.make_read_only(&grant.inside, identity(grant)) {
            Ok(()) => return Ok(ended),
            Err(MountError::Busy) => {}
            Err(error) => return Err(words(&error)),
        }
        let mut writers = uses(session, &grant.inside)?;
        writers.retain(|holder| holder.writing > 0 || holder.mapped > 0);
        if !kill {
            let names: Vec<String> = writers
                .iter()
                .map(|holder| format!("{} ({})", holder.name, holder.pid))
                .collect();
            return Err(format!(
                "files in it are open for writing by {}; `--kill` ends them",
                if names.is_empty() {
                    "the session".into()
                } else {
                    names.join(", ")
                }
            ));
        }
        session.end_holders(&writers);
        ended.extend(writers.iter().map(|holder| told(holder, true)));
        // What was killed closes its files when it next runs.
        std::thread::sleep(PAUSE);
    }
    Err("files in it are still open for writing".into())
}

fn uses(session: &dyn LiveMounts, inside: &Path) -> Result<Vec<mounts::Holder>, String> {
    session
        .holders(inside)
        .map_err(|error| format!("the session's processes cannot be looked at: {error}"))
}

fn told(holder: &mounts::Holder, ended: bool) -> Holder {
    Holder {
        pid: holder.pid,
        name: holder.name.clone(),
        files: holder.files,
        mapped: holder.mapped,
        directory: holder.directory,
        ended,
    }
}

fn carried(result: Result<Vec<Holder>, String>) -> CarriedResult {
    match result {
        Ok(by) => CarriedResult::Used { by },
        Err(why) => CarriedResult::Failed { why },
    }
}

fn identity(grant: &GrantMade) -> Identity {
    let (device, inode) = grant.identity;
    Identity { device, inode }
}

fn words(error: &MountError) -> String {
    use std::error::Error as _;
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Tries to make a grant read-only, each after its writers were ended.
const ATTEMPTS: u32 = 40;

const PAUSE: std::time::Duration = std::time::Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use std::{io, os::unix::net::UnixListener, sync::Arc, sync::Mutex};

    use cordon_policy::GrantSource;

    use super::*;
    use crate::control::Client;

    /// Mounts that note what was to be attached, and attach nothing.
    #[derive(Debug, Default)]
    struct Refusing(Arc<Mutex<Vec<PathBuf>>>);

    impl LiveMounts for Refusing {
        fn attach(&self, grant: &Mount, _: bool, _: &[Mount]) -> Result<(), MountError> {
            self.0.lock().unwrap().push(grant.target.clone());
            Err(MountError::Busy)
        }

        fn detach(&self, _: &Path, _: Identity) -> Result<(), MountError> {
            Ok(())
        }

        fn make_read_only(&self, _: &Path, _: Identity) -> Result<(), MountError> {
            Ok(())
        }

        fn make_writable(&self, _: &Path, _: Identity, _: &[Mount]) -> Result<(), MountError> {
            Ok(())
        }

        fn holders(&self, _: &Path) -> io::Result<Vec<mounts::Holder>> {
            Ok(Vec::new())
        }

        fn end_holders(&self, _: &[mounts::Holder]) {}
    }

    fn granted(path: &Path, inside: &str) -> GrantMade {
        GrantMade {
            path: path.into(),
            inside: inside.into(),
            mode: GrantMode::Rw,
            source: GrantSource::Api,
            identity: (0, 0),
            directory: true,
            preserve: false,
            copied_up_to: None,
            names_stay: false,
            rule: String::new(),
            decision: String::new(),
        }
    }

    /// F05: whatever becomes of the second, the first one is mounted and stays guarded.
    #[test]
    fn f05_nothing_takes_the_place_of_a_grant_that_is_mounted() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("control.sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        let one = granted(folder.path(), "/sessions/s/mnt/src");
        let guarded = shield::find(&one, &|_| unreachable!()).unwrap().guarded;
        let asked = Refusing::default();
        let attached = Arc::clone(&asked.0);
        let mut grants = LiveGrants {
            client: SharedClient::new(Client::connect(&socket).unwrap()),
            mounts: Box::new(asked),
            owners: None,
            guarded: vec![guarded],
            guards: Vec::new(),
            silent: false,
            books: Books::default(),
            store: folder.path().join("kept"),
        };
        let other = folder.path().join("other");
        std::fs::create_dir(&other).unwrap();

        let result = grants.mount(&granted(&other, "/sessions/s/mnt/src"));

        let told =
            matches!(&result, CarriedResult::Failed { why } if why.contains("is mounted at"));
        assert!(told, "{result:?}");
        assert!(attached.lock().unwrap().is_empty(), "nor was it tried");
        let hosts = |grants: &LiveGrants| -> Vec<PathBuf> {
            let all = grants.guarded().iter();
            all.map(|grant| grant.host.clone()).collect()
        };
        assert_eq!(hosts(&grants), [folder.path()]);
        // What is not there is taken.
        let nowhere = grants.unmount(&granted(&other, "/sessions/s/mnt/nowhere"), true);
        assert!(
            matches!(&nowhere, CarriedResult::Used { by } if by.is_empty()),
            "{nowhere:?}"
        );
        // The control: elsewhere it is tried, and what cannot be mounted is not guarded.
        grants.mount(&granted(&other, "/sessions/s/mnt/src-2"));
        assert_eq!(
            *attached.lock().unwrap(),
            [Path::new("/sessions/s/mnt/src-2")]
        );
        assert_eq!(hosts(&grants), [folder.path()]);
    }
}
