//! A session for the guard's tests: folders, bubblewrap, a supervisor, and what came of it.

#![expect(clippy::unwrap_used, reason = "helpers of tests may end the test")]

use std::{
    collections::BTreeMap,
    fs,
    io::{IoSliceMut, Read},
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use cordon_policy::GrantMode;
use cordon_sandbox::guard::{
    Books, Counts, FileCounts, GuardedGrant, Keeper, Refusal, Ruling, SessionStart, Shield,
    Supervisor, scan, tells_births,
};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tempfile::TempDir;

use super::operations;

/// A folder of the user's, with files that hold their own names.
pub struct Folder(TempDir);

impl Folder {
    pub fn with(files: &[&str]) -> Self {
        let candidates = [std::env::temp_dir(), PathBuf::from("/dev/shm")];
        let base = candidates
            .iter()
            .find(|dir| tells_births(dir).unwrap_or(false))
            .unwrap();
        let folder = Self(TempDir::new_in(base.canonicalize().unwrap()).unwrap());
        for name in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        folder
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn has(&self, name: &str) -> bool {
        self.path().join(name).symlink_metadata().is_ok()
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap()
    }
}

/// A session about to be run.
pub struct Session {
    grants: Vec<GuardedGrant>,
    read_only: Vec<(PathBuf, String)>,
    guard: Guard,
    ruling: Ruling,
    keeper: Option<Keeper>,
    sockets: bool,
    announced: Vec<GuardedGrant>,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Guard {
    On,
    Off,
    /// The filter is there, and the supervisor has died.
    Orphaned,
}

/// What came of it.
pub struct Seen {
    pub results: Vec<String>,
    /// Microseconds of each `timed` operation.
    pub took: Vec<u64>,
    pub errors: String,
    pub refusals: Vec<Refusal>,
    pub counts: Counts,
    pub files: BTreeMap<PathBuf, FileCounts>,
}

impl Seen {
    pub fn words(&self) -> String {
        self.results.join(" ")
    }
}

impl Session {
    pub fn new() -> Self {
        Self {
            grants: Vec::new(),
            read_only: Vec::new(),
            guard: Guard::On,
            ruling: Ruling::Refused,
            keeper: None,
            sockets: false,
            announced: Vec::new(),
        }
    }

    /// Grants named from here on are preserved, in this folder.
    pub fn preserving(mut self, folder: &Path) -> Self {
        self.keeper = Some(Keeper::create(folder, None).unwrap());
        self
    }

    /// Policy permits what is protected.
    pub fn permitting(mut self) -> Self {
        self.ruling = Ruling::Permitted;
        self
    }

    /// As in the profile that lets unix sockets be made.
    pub fn with_sockets(mut self) -> Self {
        self.sockets = true;
        self
    }

    /// A grant that the guard knows of and that is not mounted yet.
    pub fn announcing(mut self, folder: &Folder, inside: &str) -> Self {
        let mut session = Self::new().grant(folder, "", GrantMode::Rw);
        let mut grant = session.grants.remove(0);
        grant.inside = inside.into();
        self.announced.push(grant);
        self
    }

    /// The same sandbox without the guard, to compare with.
    pub fn without_guard(mut self) -> Self {
        self.guard = Guard::Off;
        self
    }

    /// The filter with nobody to answer.
    pub fn without_supervisor(mut self) -> Self {
        self.guard = Guard::Orphaned;
        self
    }

    pub fn grant(self, folder: &Folder, name: &str, mode: GrantMode) -> Self {
        self.grant_path(folder.path(), name, mode)
    }

    pub fn grant_path(mut self, host: &Path, name: &str, mode: GrantMode) -> Self {
        let inside = Path::new("/mnt").join(name);
        self.grants.push(GuardedGrant {
            host: host.to_owned(),
            inside,
            mode,
            shield: Some(Shield::new(scan(host).added)),
            preserve: self.keeper.is_some(),
            names_stay: false,
            since: SessionStart::now(),
        });
        self
    }

    /// No name goes from the grant named last.
    pub fn where_names_stay(mut self) -> Self {
        self.grants.last_mut().unwrap().names_stay = true;
        self
    }

    /// Something mounted over a path in a grant, that is not a grant itself.
    pub fn mount_read_only(mut self, host: &Path, name: &str) -> Self {
        self.read_only
            .push((host.to_owned(), format!("/mnt/{name}")));
        self
    }

    /// Runs the operations and waits for all of the session to be gone.
    pub fn run(mut self, operations: &str) -> Seen {
        let start = SessionStart::now();
        start.settle();
        let (mut child, ours) = self.spawn(operations);
        let refusals = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&refusals);
        let ruling = self.ruling;
        let on_refusal = move |refusal: &Refusal| {
            heard.lock().unwrap().push(refusal.clone());
            ruling
        };
        let books = Books {
            keeper: Arc::new(Mutex::new(self.keeper.take())),
            ..Books::default()
        };
        let counted = Arc::clone(&books.counts);
        let listener = (self.guard != Guard::Off).then(|| receive_descriptor(&ours));
        let supervisor = listener
            .filter(|_| self.guard == Guard::On)
            .map(|listener| {
                let known = [self.grants, self.announced].concat();
                let supervisor =
                    Supervisor::new(known, start, listener, books, on_refusal).unwrap();
                std::thread::spawn(move || supervisor.run())
            });
        let mut output = String::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut output)
            .unwrap();
        let mut errors = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut errors)
            .unwrap();
        child.wait().unwrap();
        let counts = supervisor
            .map(|thread| thread.join().unwrap().unwrap())
            .unwrap_or_default();
        let lines = |begin| {
            output
                .lines()
                .filter_map(move |line| line.strip_prefix(begin))
        };
        let results = lines(operations::RESULT).map(str::to_owned).collect();
        let took = lines(operations::TOOK)
            .map(|text| text.parse().unwrap())
            .collect();
        let refusals = std::mem::take(&mut *refusals.lock().unwrap());
        let files = std::mem::take(&mut *counted.lock().unwrap());
        Seen {
            files,
            results,
            took,
            errors,
            refusals,
            counts,
        }
    }

    fn spawn(&self, operations: &str) -> (Child, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut bwrap = self.bubblewrap();
        bwrap.arg(std::env::current_exe().unwrap());
        bwrap.args(["--exact", "inside", "--ignored", "--nocapture"]);
        bwrap.env(operations::OPERATIONS, operations);
        if self.guard == Guard::Off {
            bwrap.env(operations::UNGUARDED, "1");
        }
        if self.sockets {
            bwrap.env(operations::SOCKETS, "1");
        }
        bwrap
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        (bwrap.spawn().unwrap(), ours)
    }

    fn bubblewrap(&self) -> Command {
        let mut bwrap = Command::new("bwrap");
        bwrap.args([
            "--unshare-all",
            "--unshare-user",
            "--die-with-parent",
            "--cap-drop",
            "ALL",
        ]);
        bwrap.args(["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]);
        bwrap.args(["--tmpfs", "/tmp", "--tmpfs", "/mnt"]);
        let exe = std::env::current_exe().unwrap();
        bwrap.arg("--ro-bind").arg(&exe).arg(&exe);
        for grant in &self.grants {
            let bind = if grant.mode == GrantMode::Ro {
                "--ro-bind"
            } else {
                "--bind"
            };
            bwrap.arg(bind).arg(&grant.host).arg(&grant.inside);
        }
        for (host, inside) in &self.read_only {
            bwrap.arg("--ro-bind").arg(host).arg(inside);
        }
        bwrap.arg("--");
        bwrap
    }
}

fn receive_descriptor(from: &UnixStream) -> OwnedFd {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(
        from,
        &mut [IoSliceMut::new(&mut byte)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )
    .unwrap();
    let mut received = ancillary.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => fds.collect(),
        _ => Vec::new(),
    });
    received.next().unwrap()
}
