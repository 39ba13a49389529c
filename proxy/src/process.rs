//! The process inside a session that makes a connection: looked for as soon as that is accepted,
//! while its first bytes are read, so that it is known when it is decided.
//!
//! Looked for once for each connection, never for a further request on one that is kept.

use std::{
    fmt::Debug,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use cordon_policy::{LateFact, ProcessFacts};
use tokio::{
    net::TcpStream,
    runtime::Handle,
    sync::{Semaphore, watch},
    task::spawn_blocking,
};

use crate::session::Session;

/// The processes of one session, to be asked. Answers may take a while.
pub trait Processes: Debug + Send + Sync {
    /// Who holds the connection between these two ends. With `work_out_digests` every program's
    /// digest is there that can be, else those that are known already.
    fn find(
        &self,
        from: SocketAddr,
        to: SocketAddr,
        work_out_digests: bool,
    ) -> Option<ProcessFacts>;
}

/// Who made one connection. Clones are about the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct MadeBy(Option<watch::Receiver<Told>>);

/// What is known so far. `None` inside: looked for and not found.
#[derive(Clone, Debug, Default)]
enum Told {
    #[default]
    Nothing,
    /// Everything but a digest, which is being worked out.
    NoDigest(Option<Arc<ProcessFacts>>),
    All(Option<Arc<ProcessFacts>>),
}

/// One connection that is asked about.
struct Asked {
    processes: Arc<dyn Processes>,
    digesting: Arc<Digesting>,
    from: SocketAddr,
    to: SocketAddr,
    told: watch::Sender<Told>,
}

impl MadeBy {
    /// Looks for who made `stream`, which was meant for `to`. Nothing where the session's processes
    /// cannot be asked.
    pub(crate) fn of(session: &Session, stream: &TcpStream, to: Option<SocketAddr>) -> Self {
        let (Some((processes, digesting)), Some(to)) = (session.processes(), to) else {
            return Self::default();
        };
        let Ok(from) = stream.peer_addr() else {
            return Self::default();
        };
        let (told, found) = watch::channel(Told::Nothing);
        let asked = Asked {
            processes: Arc::clone(processes),
            digesting: Arc::clone(digesting),
            from,
            to,
            told,
        };
        // Nobody waits for a digest that no rule looks at.
        let by_rule = session.gate().reads(LateFact::Process);
        let runtime = Handle::current();
        spawn_blocking(move || asked.look(by_rule, &runtime));
        Self(Some(found))
    }

    /// What is known now; `None` while it is looked for.
    pub(crate) fn known_by_now(&self) -> Option<Option<Arc<ProcessFacts>>> {
        match &self.0 {
            None => Some(None),
            Some(found) => match &*found.borrow() {
                Told::Nothing | Told::NoDigest(_) => None,
                Told::All(known) => Some(known.clone()),
            },
        }
    }

    /// Waits until it is known. What is known without a digest after [`DIGEST_PATIENCE`] is told
    /// without one, so that no rule about programs is passed by with a program that takes long to
    /// read; nobody where nothing is known after [`PATIENCE`].
    pub(crate) async fn known(&self) -> Option<Arc<ProcessFacts>> {
        let mut found = self.0.clone()?;
        // On a kept connection it is known since the first request.
        if let Told::All(known) = &*found.borrow() {
            return known.clone();
        }
        let all = found.wait_for(|told| matches!(told, Told::All(_)));
        drop(tokio::time::timeout(DIGEST_PATIENCE, all).await);
        let any = found.wait_for(|told| !matches!(told, Told::Nothing));
        match &*tokio::time::timeout(PATIENCE, any).await.ok()?.ok()? {
            Told::Nothing => None,
            Told::NoDigest(known) | Told::All(known) => known.clone(),
        }
    }
}

impl Asked {
    fn look(self, by_rule: bool, runtime: &Handle) {
        let found = self.processes.find(self.from, self.to, false).map(Arc::new);
        let wanting = found.as_deref().is_some_and(lacks_digest);
        if !by_rule || !wanting {
            self.told.send_replace(Told::All(found));
            if wanting {
                runtime.spawn(self.learn());
            }
            return;
        }
        self.told.send_replace(Told::NoDigest(found.clone()));
        runtime.spawn(self.work_out(found));
    }

    /// For the connections to come. Nothing is held open for it: a session that has ended must not
    /// be kept by a program of its own.
    async fn learn(self) {
        let (processes, from, to) = (self.processes, self.from, self.to);
        let found = move || processes.find(from, to, true);
        let _known_next_time = self.digesting.run(found).await;
    }

    async fn work_out(self, found: Option<Arc<ProcessFacts>>) {
        let (from, to) = (self.from, self.to);
        let processes = self.processes;
        let again = move || processes.find(from, to, true);
        let again = self.digesting.run(again).await.flatten();
        // Who is another by now has not made this connection.
        let all = match (found, again) {
            (Some(found), Some(again)) if same(&found, &again) => Some(Arc::new(again)),
            (found, _other) => found,
        };
        self.told.send_replace(Told::All(all));
    }
}

/// Reads programs for one session: one at a time, and no more of the time than its share, so that
/// no session keeps the machine reading.
#[derive(Debug)]
pub(crate) struct Digesting {
    one: Semaphore,
    budget: Mutex<Budget>,
}

#[derive(Debug)]
struct Budget {
    left: Duration,
    since: Instant,
}

impl Digesting {
    pub(crate) fn new() -> Self {
        Self {
            one: Semaphore::new(1),
            budget: Mutex::new(Budget {
                left: READING,
                since: Instant::now(),
            }),
        }
    }

    /// What `work` gives, once it is its turn. `None` where the session's share is used up.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        // Nobody closes it.
        let _turn = self.one.acquire().await.ok()?;
        if !self.budget().earn() {
            return None;
        }
        let begun = Instant::now();
        let done = spawn_blocking(work).await;
        self.budget().spend(begun.elapsed());
        done.ok()
    }

    fn budget(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Budget {
    /// Takes in what time has earned; says whether anything is left.
    fn earn(&mut self) -> bool {
        let earned = self.since.elapsed() / EARNED;
        self.since = Instant::now();
        self.left = self.left.saturating_add(earned).min(READING);
        !self.left.is_zero()
    }

    fn spend(&mut self, took: Duration) {
        self.left = self.left.saturating_sub(took);
    }
}

fn lacks_digest(facts: &ProcessFacts) -> bool {
    facts.holders.iter().any(|holder| holder.digest.is_none())
}

/// Whether both are the same processes, running the same programs.
fn same(one: &ProcessFacts, other: &ProcessFacts) -> bool {
    let of = |facts: &ProcessFacts| -> Vec<(u32, u64, String)> {
        let holders = facts.holders.iter();
        let told = holders.map(|one| (one.pid, one.start_us, one.executable.clone()));
        told.collect()
    };
    one.complete == other.complete && of(one) == of(other)
}

/// How long a decision waits for a digest. Hashing a large program takes about a second, once.
const DIGEST_PATIENCE: Duration = Duration::from_secs(2);

/// How long it waits for the program after that. Mostly some 100 µs are needed.
const PATIENCE: Duration = Duration::from_secs(8);

/// Time that programs of one session may be read at a stretch.
const READING: Duration = Duration::from_secs(30);

/// So many times as long it takes to earn any of it again.
const EARNED: u32 = 20;

#[cfg(test)]
mod tests;
