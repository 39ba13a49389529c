//! Launchers that the API starts: `cordon run` as a process of its own, with all that a person's has.
//!
//! A request in; the running session out, or why there is none. The launcher asks this daemon to
//! decide, as any does, and is known by the number of its process.

use std::{
    collections::HashMap,
    ffi::OsString,
    io,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, ChildStdin, Command},
    sync::{Notify, oneshot},
    task::JoinHandle,
};
use tracing::{info, warn};

use super::{
    Daemon,
    live::Live,
    output::{Output, Stream},
    policies::Somebody,
};
use crate::{
    cli::exit,
    control::{Answer, Handed, Refused, State},
};

/// The launchers that were started.
#[derive(Debug, Default)]
pub struct Launches {
    /// Of whom it is not known yet what is decided, by their numbers.
    expected: Mutex<HashMap<u32, Expected>>,
    /// What the commands of those sessions say that run.
    running: Mutex<HashMap<String, Arc<Output>>>,
    /// One of them is over.
    left: Notify,
}

type Decided = Result<Arc<Live>, Refused>;

/// A launcher that is still to ask.
#[derive(Debug)]
struct Expected {
    /// Who had it started.
    by: Somebody,
    /// Until it is decided.
    decided_to: Option<oneshot::Sender<Decided>>,
}

/// What is to be started.
#[derive(Debug)]
pub struct Start {
    /// Who has it started.
    pub by: Somebody,
    /// Options of `cordon run`.
    pub options: Vec<OsString>,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// The rest.
    pub handed: Handed,
}

/// Why nothing runs.
#[derive(Debug)]
pub enum NotStarted {
    /// Policy refuses the session, or a grant of it.
    Refused(Refused),
    /// What was asked for is wrong, in the launcher's words.
    Usage(String),
    /// It could not be done, in the launcher's words or ours.
    Failed(String),
    /// It took longer than [`DEADLINE`].
    Late(String),
    /// [`MOST`] run already.
    Crowded,
}

impl Launches {
    /// What was decided for the launcher `pid`, where we started it.
    pub fn opened(&self, pid: u32, live: &Arc<Live>) {
        self.tell(pid, Ok(Arc::clone(live)));
    }

    /// The session of the launcher `pid` was not opened. What policy did not refuse the launcher
    /// says in its own words.
    pub fn refused(&self, pid: u32, answer: &Answer) {
        if let Answer::Refused(refused) = answer {
            self.tell(pid, Err(refused.clone()));
        }
    }

    /// Who had the launcher `pid` started, where that was somebody by the API.
    pub fn asked_by(&self, pid: u32) -> Option<Somebody> {
        let expected = locked(&self.expected);
        expected.get(&pid).map(|expected| expected.by.clone())
    }

    /// What the command of this session says, where we started it and it runs.
    pub fn output(&self, id: &str) -> Option<Arc<Output>> {
        locked(&self.running).get(id).cloned()
    }

    /// Resolves once the command of this session is over and all that it said is kept.
    pub async fn left(&self, id: &str) {
        loop {
            // Before it is looked, so that none is missed.
            let left = self.left.notified();
            if self.output(id).is_none() {
                return;
            }
            left.await;
        }
    }

    /// Whether nothing is decided yet for the launcher `pid`.
    fn is_to_ask(&self, pid: u32) -> bool {
        let expected = locked(&self.expected);
        expected
            .get(&pid)
            .is_some_and(|expected| expected.decided_to.is_some())
    }

    fn tell(&self, pid: u32, decided: Decided) {
        // It is counted until its command runs.
        let mut expected = locked(&self.expected);
        let expected = expected.get_mut(&pid);
        if let Some(decided_to) = expected.and_then(|expected| expected.decided_to.take()) {
            // Whoever asked may be gone.
            let _unheard = decided_to.send(decided);
        }
    }
}

/// Starts a session and answers once its walls stand and its command is about to run. Dropped before
/// that, nothing stays.
///
/// # Errors
/// [`NotStarted`]
pub async fn start(daemon: &Arc<Daemon>, start: Start) -> Result<Arc<Live>, NotStarted> {
    let (mut starting, decided) = Starting::spawn(daemon, &start)?;
    match tokio::time::timeout(DEADLINE, starting.until_it_runs(&start.handed, decided)).await {
        Ok(Ok(live)) => {
            starting.stays(&live);
            info!(session = live.id(), "session started for the API");
            Ok(live)
        }
        Ok(Err(why)) => Err(why),
        Err(_late) => {
            let words = starting.words(None).await;
            Err(NotStarted::Late(words))
        }
    }
}

/// A launcher whose session does not run yet. Killed when dropped, and its session with it.
struct Starting<'a> {
    daemon: &'a Arc<Daemon>,
    pid: u32,
    child: Option<Child>,
    output: Option<Arc<Output>>,
    taking: Vec<JoinHandle<()>>,
}

impl<'a> Starting<'a> {
    fn spawn(
        daemon: &'a Arc<Daemon>,
        start: &Start,
    ) -> Result<(Self, oneshot::Receiver<Decided>), NotStarted> {
        let launches = &daemon.launches;
        // Held until its number is entered, so that it cannot be decided before.
        let mut expected = locked(&launches.expected);
        if expected.len() + locked(&launches.running).len() >= MOST {
            return Err(NotStarted::Crowded);
        }
        let spawned = command(start).and_then(|mut command| command.spawn());
        let child = spawned.map_err(|error| not_spawned(&error))?;
        let pid = child.id().unwrap_or(0);
        let (decided_to, decided) = oneshot::channel();
        let by = start.by.clone();
        let decided_to = Some(decided_to);
        expected.insert(pid, Expected { by, decided_to });
        drop(expected);
        let starting = Self {
            daemon,
            pid,
            child: Some(child),
            output: None,
            taking: Vec::new(),
        };
        Ok((starting, decided))
    }

    async fn until_it_runs(
        &mut self,
        handed: &Handed,
        decided: oneshot::Receiver<Decided>,
    ) -> Result<Arc<Live>, NotStarted> {
        let gone = || NotStarted::Failed("the launcher is gone".into());
        let child = self.child.as_mut().ok_or_else(gone)?;
        if let Some(input) = child.stdin.take() {
            // One that ends before it has read all of it says why.
            let _unread = hand_over(input, handed).await;
        }
        let live = match decided_or(decided, child.wait()).await {
            Ok(Ok(live)) => live,
            Ok(Err(refused)) => return Err(NotStarted::Refused(refused)),
            Err(None) => return Err(gone()),
            Err(Some(ended)) => return Err(self.why_it_ended(ended.ok()).await),
        };
        self.take_output(&live)?;
        let mut state = live.watch();
        let child = self.child.as_mut().ok_or_else(gone)?;
        let ended = tokio::select! {
            _follows = state.wait_for(|state| *state != State::Starting) => None,
            ended = child.wait() => ended.ok(),
        };
        // A command that has ended by now ran all the same, where there were walls for it.
        let stood = live.first_process().is_some();
        if !stood || live.state() == State::Failed {
            let ended = match (ended, &mut self.child) {
                (None, Some(child)) => child.wait().await.ok(),
                (ended, _) => ended,
            };
            return Err(self.why_it_ended(ended).await);
        }
        Ok(live)
    }

    fn take_output(&mut self, live: &Live) -> Result<(), NotStarted> {
        let registry = &self.daemon.registry;
        let lives = |id: &str| registry.of_id(id).is_some();
        let output = Output::new(&self.daemon.paths.output(), live.id(), lives);
        let output = output.map_err(|error| {
            NotStarted::Failed(format!("what it says could not be kept: {error}"))
        })?;
        let output = Arc::new(output);
        self.output = Some(Arc::clone(&output));
        if let Some(child) = &mut self.child {
            let stdout = child.stdout.take().map(|pipe| {
                let output = Arc::clone(&output);
                tokio::spawn(output.take(Stream::Stdout, pipe))
            });
            let stderr = child
                .stderr
                .take()
                .map(|pipe| tokio::spawn(output.take(Stream::Stderr, pipe)));
            self.taking.extend(stdout.into_iter().chain(stderr));
        }
        Ok(())
    }

    async fn why_it_ended(&mut self, ended: Option<ExitStatus>) -> NotStarted {
        let words = self.words(ended).await;
        match ended.and_then(|status| status.code()) {
            Some(code) if code == i32::from(exit::USAGE) => NotStarted::Usage(words),
            _other => NotStarted::Failed(words),
        }
    }

    /// What a launcher said that did not start its session. Nothing of it is kept.
    async fn words(&mut self, ended: Option<ExitStatus>) -> String {
        let mut said = String::new();
        if let Some(child) = &mut self.child {
            // Of one that is late or has ended already.
            let _gone = child.start_kill();
            if let Some(pipe) = child.stderr.take() {
                said = first_words(pipe).await;
            }
        }
        if let Some(output) = self.output.take() {
            for taking in self.taking.drain(..) {
                let _taken = tokio::time::timeout(PATIENCE, taking).await;
            }
            let page = output.first(WORDS_BYTES).unwrap_or_default();
            let stderr = page.said.iter().filter(|one| one.stream == Stream::Stderr);
            said.extend(stderr.map(|one| one.text.as_str()));
            output.discard();
        }
        match (said.trim(), ended) {
            ("", Some(status)) => format!("the launcher ended without a word: {status}"),
            ("", None) => "the launcher said nothing".into(),
            (said, _) => said.to_owned(),
        }
    }

    /// It runs: from here on it ends by itself, or as sessions are ended.
    fn stays(mut self, live: &Live) {
        let (Some(mut child), Some(output)) = (self.child.take(), self.output.take()) else {
            return;
        };
        let taking = std::mem::take(&mut self.taking);
        let (daemon, id) = (Arc::clone(self.daemon), live.id().to_owned());
        locked(&daemon.launches.running).insert(id.clone(), output);
        let daemon = Arc::downgrade(&daemon);
        tokio::spawn(async move {
            if let Err(error) = child.wait().await {
                warn!(%error, session = %id, "a launcher could not be waited for");
            }
            for taking in taking {
                // A panic in it was reported already.
                let _taken = taking.await;
            }
            if let Some(daemon) = daemon.upgrade() {
                locked(&daemon.launches.running).remove(&id);
                daemon.launches.left.notify_waiters();
            }
        });
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        let (daemon, pid) = (Arc::downgrade(self.daemon), self.pid);
        let forget = move || {
            if let Some(daemon) = daemon.upgrade() {
                locked(&daemon.launches.expected).remove(&pid);
            }
        };
        let Some(mut child) = self.child.take() else {
            return forget();
        };
        let _gone = child.start_kill();
        // Whoever asked is gone, and so is what it said.
        if let Some(output) = self.output.take() {
            output.discard();
        }
        if !self.daemon.launches.is_to_ask(pid) {
            return forget();
        }
        // What it asked before it was killed may be read after: it is still theirs who had it started.
        tokio::spawn(async move {
            let _gone = child.wait().await;
            tokio::time::sleep(PATIENCE).await;
            forget();
        });
    }
}

/// What is decided, or how the launcher ended without that. It is told what is decided after we are:
/// of one that has ended already that is there, however late it is looked.
async fn decided_or<T, E>(
    mut decided: oneshot::Receiver<T>,
    ended: impl Future<Output = E>,
) -> Result<T, Option<E>> {
    tokio::select! {
        decided = &mut decided => decided.map_err(|_dropped| None),
        ended = ended => decided.try_recv().map_err(|_undecided| Some(ended)),
    }
}

fn command(start: &Start) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["run", "--quiet", "--handed-over", "--no-grant"])
        .args(&start.options)
        .arg("--")
        .args(&start.command)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Ok(command)
}

async fn hand_over(mut input: ChildStdin, handed: &Handed) -> io::Result<()> {
    input.write_all(&serde_json::to_vec(handed)?).await?;
    input.shutdown().await
}

async fn first_words(pipe: impl tokio::io::AsyncRead + Unpin) -> String {
    use tokio::io::AsyncReadExt as _;
    let mut words = Vec::new();
    let most = u64::try_from(WORDS_BYTES).unwrap_or(u64::MAX);
    let mut pipe = pipe.take(most);
    let read = pipe.read_to_end(&mut words);
    // What it left running may hold the other end.
    let _read = tokio::time::timeout(PATIENCE, read).await;
    String::from_utf8_lossy(&words).into_owned()
}

fn not_spawned(error: &io::Error) -> NotStarted {
    let words = format!("the launcher could not be started: {error}");
    match error.kind() {
        io::ErrorKind::ArgumentListTooLong | io::ErrorKind::InvalidInput => {
            NotStarted::Usage(words)
        }
        _other => NotStarted::Failed(words),
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sessions that were started so and run, or are being started. Beyond it: refused.
pub const MOST: usize = 256;

/// How long a session may take to start: the walls are checked first where that is due.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// How long the streams of a launcher that is gone may stay open.
const PATIENCE: Duration = Duration::from_secs(2);

/// Most that is told of what a launcher said.
const WORDS_BYTES: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// A short command is over before anybody looks, on a machine with much to do.
    #[tokio::test]
    async fn f14_what_was_decided_counts_also_where_the_launcher_has_ended() {
        for _either_is_looked_at_first in 0..100 {
            let (decided_to, decided) = oneshot::channel();
            decided_to.send("runs").unwrap();
            assert_eq!(decided_or(decided, async {}).await, Ok("runs"));
            // Both come between two looks.
            let (decided_to, decided) = oneshot::channel();
            let ends = async { decided_to.send("runs").unwrap() };
            assert_eq!(decided_or(decided, ends).await, Ok("runs"));
        }
        let (decided_to, decided) = oneshot::channel::<()>();
        assert_eq!(decided_or(decided, async { 64 }).await, Err(Some(64)));
        drop(decided_to);
    }
}
