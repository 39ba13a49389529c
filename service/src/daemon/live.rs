//! One running session as every conversation of the daemon sees it: who it is, its state, its
//! grants, and the line of orders to its launcher.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use cordon_audit::SessionOrigin;
use cordon_policy::{GrantMode, SeccompProfile, SessionFacts};
use cordon_proxy::{Caller, Egress};
use cordon_sandbox::{callers::Callers, limits::Held, places};
use cordon_session::Gate;
use rustix::process::Pid;
use subtle::ConstantTimeEq;
use tokio::sync::{MutexGuard, watch};
use tracing::warn;

use super::{
    api::Repeated,
    approvals::own::Holder,
    described::Described,
    hosted::{self, Kept},
    orders::Orders,
    policies::{Follower, observe_of},
    registry::policy_words,
};
use crate::control::{GrantLine, GrantMade, NetworkUse, PublishAsked, SessionStatus, State};

/// A running session.
#[derive(Debug)]
pub struct Live {
    gate: Gate,
    policy: Arc<Follower>,
    command: String,
    opened: Instant,
    token: String,
    tokens: Mutex<Vec<String>>,
    /// Calls with a key of whoever asks by one of its tokens: they go with the session.
    repeated: Arc<Repeated>,
    holders: Mutex<Vec<Holder>>,
    launcher: u32,
    /// 0 until it stands.
    first_process: AtomicU32,
    /// Where its processes can be asked who made a connection.
    callers: OnceLock<Arc<Callers>>,
    grants: Mutex<Vec<GrantMade>>,
    names: Mutex<BTreeSet<String>>,
    changing: tokio::sync::Mutex<()>,
    held: Mutex<Vec<Held>>,
    groups: Mutex<Vec<PathBuf>>,
    pauses_by: OnceLock<String>,
    origin: SessionOrigin,
    published: Vec<PublishAsked>,
    state: watch::Sender<State>,
    orders: Orders,
    described: Option<Described>,
    /// What a restart knows of it, and where; a launcher's session ends with the daemon.
    kept: Option<(PathBuf, Kept)>,
    profile: SeccompProfile,
    /// How others than its own processes go out as it.
    way_out: OnceLock<Caller>,
    /// Whether its browser was on when the daemon before was killed.
    lost_browser: AtomicBool,
    decision: Option<String>,
    leave: Option<String>,
    turn: tokio::sync::Mutex<()>,
}

impl Live {
    /// A session that was opened now by the process `launcher`; whoever knows `token` may follow
    /// its orders.
    pub fn new(
        policy: Arc<Follower>,
        command: &str,
        launcher: u32,
        token: String,
        grants: Vec<GrantMade>,
    ) -> Self {
        Self {
            gate: policy.gate().clone(),
            policy,
            command: command.into(),
            opened: Instant::now(),
            token,
            tokens: Mutex::default(),
            repeated: Arc::default(),
            holders: Mutex::default(),
            launcher,
            first_process: AtomicU32::new(0),
            callers: OnceLock::new(),
            grants: Mutex::new(grants),
            names: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            held: Mutex::default(),
            groups: Mutex::default(),
            pauses_by: OnceLock::new(),
            origin: SessionOrigin::default(),
            published: Vec::new(),
            state: watch::Sender::new(State::Starting),
            orders: Orders::default(),
            described: None,
            kept: None,
            profile: SeccompProfile::Default,
            way_out: OnceLock::new(),
            lost_browser: AtomicBool::new(false),
            decision: None,
            leave: None,
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// Started by the decision of this record id.
    pub fn decided_by(mut self, decision: impl Into<String>) -> Self {
        self.decision = Some(decision.into());
        self
    }

    /// Opened by leave of the decision of this record id.
    pub fn by_leave_of(mut self, leave: Option<String>) -> Self {
        self.leave = leave;
        self
    }

    /// The record of the decision that let somebody open it.
    pub fn leave(&self) -> Option<&str> {
        self.leave.as_deref()
    }

    /// One of those who have it pause and run at a time: what one of them began, another could undo
    /// half of.
    pub async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// With this profile of system calls.
    pub fn with_profile(mut self, profile: SeccompProfile) -> Self {
        self.profile = profile;
        self
    }

    /// Started from there, with these ports reached from outside.
    pub fn from(mut self, origin: SessionOrigin, published: Vec<PublishAsked>) -> Self {
        self.origin = origin;
        self.published = published;
        self
    }

    /// Where it comes from.
    pub fn origin(&self) -> &SessionOrigin {
        &self.origin
    }

    /// Which system calls its processes may make.
    pub fn profile(&self) -> SeccompProfile {
        self.profile
    }

    /// Describes it in a file below `sessions` as long as it is there.
    pub fn described_below(mut self, sessions: &std::path::Path) -> Self {
        self.described = Some(Described::new(sessions, self.id()));
        self
    }

    /// Held by a runtime, and kept in this directory.
    pub fn kept_in(mut self, directory: PathBuf, kept: Kept) -> Self {
        self.tokens = Mutex::new(kept.tokens.clone());
        self.holders = Mutex::new(vec![kept.holder]);
        self.kept = Some((directory, kept));
        self
    }

    /// Whether a runtime holds it.
    pub fn is_hosted(&self) -> bool {
        self.kept.is_some()
    }

    /// Keeps the grants and tokens that there are now, where a restart is to know them.
    ///
    /// # Errors
    /// When they cannot be written: then a restart knows those of before.
    pub fn keep(&self) -> io::Result<()> {
        let Some((directory, kept)) = &self.kept else {
            return Ok(());
        };
        let grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = Kept {
            grants: grants.clone(),
            tokens: tokens.clone(),
            ..kept.clone()
        };
        // Still locked: of two changes the later one is written last.
        hosted::write(directory, &kept)
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.gate.session().id
    }

    /// What policy knows about it.
    pub fn facts(&self) -> &Arc<SessionFacts> {
        self.gate.session()
    }

    /// Its gate.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// What decides it.
    pub fn policy(&self) -> &Arc<Follower> {
        &self.policy
    }

    /// The command and its arguments.
    pub fn command(&self) -> &str {
        &self.command
    }

    /// How long it has been open.
    pub fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// The line of orders to its launcher.
    pub fn orders(&self) -> &Orders {
        &self.orders
    }

    /// What is granted now. Whoever changes a grant changes it here.
    pub fn grants(&self) -> &Mutex<Vec<GrantMade>> {
        &self.grants
    }

    /// Names below `mnt/` of folders that are being asked for, and not granted yet.
    pub fn names(&self) -> &Mutex<BTreeSet<String>> {
        &self.names
    }

    /// Held by whoever changes its grants, from the look at what is there to what is there then. Not
    /// while a decision or its record is waited for.
    pub async fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().await
    }

    /// What a path inside is on the host, where it lies in a grant.
    pub fn on_host(&self, inside: &Path) -> Option<PathBuf> {
        let grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        places::on_host(&*grants, inside).map(|(_grant, host)| host)
    }

    /// What a path on the host is inside, with the mode of its grant.
    pub fn inside(&self, path: &Path) -> Option<(PathBuf, GrantMode)> {
        let grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        places::inside(&*grants, path).map(|(grant, inside)| (inside, grant.mode))
    }

    /// Whether this is its token.
    pub fn has_token(&self, token: &str) -> bool {
        !self.token.is_empty() && self.token.as_bytes().ct_eq(token.as_bytes()).into()
    }

    /// Digests of the tokens by which callers of the API may ask for it, and for nothing else.
    pub fn tokens(&self) -> &Mutex<Vec<String>> {
        &self.tokens
    }

    /// The calls that were made with a key by whoever asks in its name alone.
    pub fn repeated(&self) -> &Arc<Repeated> {
        &self.repeated
    }

    /// The processes that hold it, where none is its launcher: several, where an agent went on with
    /// its own session in another process.
    pub fn holders(&self) -> Vec<Holder> {
        let holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        holders.clone()
    }

    /// The runtime that opened it by the API and holds it.
    pub fn runtime(&self) -> Option<Holder> {
        let (_, kept) = self.kept.as_ref()?;
        kept.hook.is_none().then_some(kept.holder)
    }

    /// When it ends, in seconds since 1970, where a runtime holds it and said so.
    pub fn ends(&self) -> Option<u64> {
        self.kept.as_ref()?.1.ends
    }

    /// Seconds without a question after which it ends, where a runtime holds it and said so.
    pub fn idle_seconds(&self) -> Option<u64> {
        self.kept.as_ref()?.1.idle_seconds
    }

    /// Held by this process too. False where too many hold it already.
    pub fn hold(&self, holder: Holder) -> bool {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        if holders.contains(&holder) {
            return true;
        }
        // Programs that ask and end at once take no place from the next one.
        if holders.len() >= MOST_HOLDERS {
            holders.retain(|holder| holder.is(holder.pid));
        }
        let has_place = holders.len() < MOST_HOLDERS;
        if has_place {
            holders.push(holder);
        }
        has_place
    }

    /// Whether a launcher holds it, not a runtime or a gateway.
    pub fn has_launcher(&self) -> bool {
        !self.token.is_empty()
    }

    /// Whether this is its launcher or its first process, as the host numbers them.
    pub fn is_its_process(&self, pid: u32) -> bool {
        pid == self.launcher || pid == self.first_process.load(Relaxed)
    }

    /// Its first process, as the host numbers it, once its walls stand.
    pub fn first_process(&self) -> Option<u32> {
        Some(self.first_process.load(Relaxed)).filter(|pid| *pid != 0)
    }

    /// The directories of its control group, once.
    pub fn take_groups(&self) -> Vec<PathBuf> {
        std::mem::take(&mut *self.groups.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where it is in its life.
    pub fn state(&self) -> State {
        *self.state.borrow()
    }

    /// Follows its state.
    pub fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Its walls stand.
    pub fn stands(&self, stands: Stands) {
        let Stands {
            first_process,
            held,
            groups,
            pauses_by,
        } = stands;
        // It stands once.
        let _told = self.pauses_by.set(pauses_by);
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
        *self.groups.lock().unwrap_or_else(PoisonError::into_inner) = groups;
        self.first_process.store(first_process, Relaxed);
        self.reach_processes(first_process);
        self.enter(State::Running);
    }

    /// Has its processes asked by `callers` from when they run.
    pub fn ask_processes_by(&self, callers: Arc<Callers>) {
        // A session has one network, and so one of them.
        let _there = self.callers.set(callers);
    }

    /// Its listeners are served: this is the same session for who does not come by them.
    pub fn leads_out_by(&self, caller: Caller) {
        // A session is attached once.
        let _there = self.way_out.set(caller);
    }

    /// Its way out for who does not come by its listeners, with the same budgets.
    ///
    /// # Errors
    /// In words: it has none, or not yet.
    pub fn way_out(&self, egress: &Arc<Egress>) -> Result<Caller, String> {
        if let Some(caller) = self.way_out.get() {
            return Ok(caller.clone());
        }
        if !self.is_hosted() {
            return Err("the session is starting, or is a gateway's caller".into());
        }
        let open = || Caller::new(egress, self.gate.clone());
        Ok(self.way_out.get_or_init(open).clone())
    }

    /// Its browser was on when the daemon before was killed: that one's proxy is gone with it.
    pub fn lose_browser(&self) {
        self.lost_browser.store(true, Relaxed);
    }

    /// What became of its browser is known again: somebody switched it.
    pub fn settle_browser(&self) {
        self.lost_browser.store(false, Relaxed);
    }

    /// Whether its browser went off with another daemon.
    pub fn lost_its_browser(&self) -> bool {
        self.lost_browser.load(Relaxed)
    }

    /// Why its browser is off, in words.
    pub fn why_no_browser(&self) -> &'static str {
        match self.lost_its_browser() {
            true => {
                "the browser was on, and is off since Cordon was started again: its proxy and \
                 password are gone, and switching it on makes new ones"
            }
            false => "the browser is not on in this session",
        }
    }

    fn reach_processes(&self, first: u32) {
        let first = i32::try_from(first).ok().and_then(Pid::from_raw);
        let (Some(callers), Some(first)) = (self.callers.get(), first) else {
            return;
        };
        if let Err(error) = callers.reach(first) {
            let session = self.id();
            warn!(%error, %session, "the programs behind connections are not known");
        }
    }

    /// Goes to another state, where that follows the present one. True when it did.
    pub fn enter(&self, next: State) -> bool {
        let entered = self.state.send_if_modified(|now| {
            let follows = follows(*now, next);
            if follows {
                *now = next;
            }
            follows
        });
        match &self.described {
            Some(described) if entered && next.is_over() => described.remove(),
            Some(described) if entered => described.write(|| self.status()),
            Some(_) | None => {}
        }
        entered
    }

    /// Everything that a user may know about it.
    pub fn status(&self) -> SessionStatus {
        let facts = self.facts();
        let grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        SessionStatus {
            session: facts.id.clone(),
            decision: self.decision.clone(),
            state: self.state(),
            command: self.command.clone(),
            agent: facts.agent.clone(),
            user: facts.user.clone(),
            backend: backend_word(facts.backend),
            image: self.origin.image.clone(),
            parent: self.origin.parent.clone(),
            policy: policy_words(&self.policy),
            observe: observe_of(&self.policy.current().live),
            age_seconds: self.age().as_secs(),
            launcher: self.launcher,
            first_process: self.first_process(),
            connected: self.orders.followed(),
            pauses_by: self.pauses_by.get().cloned().unwrap_or_default(),
            grants: grants.iter().map(GrantLine::from).collect(),
            published: self.published.clone(),
            limits: self
                .held
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            used: None,
            network: self.network(),
            past: self.gate.past().session(),
            browser: self
                .lost_its_browser()
                .then(|| self.why_no_browser().into()),
        }
    }

    fn network(&self) -> NetworkUse {
        let totals = self.gate.tally().totals();
        let (mut allowed, mut denied) = (0, 0);
        for counted in totals.actions.values() {
            allowed += counted.allow;
            denied += counted.deny + counted.ask + counted.error;
        }
        NetworkUse {
            allowed,
            denied,
            open: self.gate.tally().open_flows() as u64,
            bytes_in: totals.bytes_in,
            bytes_out: totals.bytes_out,
        }
    }
}

/// Processes that are known to hold one session.
const MOST_HOLDERS: usize = 64;

/// What the launcher says when the walls stand.
#[derive(Debug)]
pub struct Stands {
    /// The session's first process, as the host numbers it.
    pub first_process: u32,
    /// The limits in force, and by what each is held.
    pub held: Vec<Held>,
    /// The directories of its control group.
    pub groups: Vec<PathBuf>,
    /// What stops its processes when it is paused.
    pub pauses_by: String,
}

/// `starting → running ⇄ paused → ending → ended`, and `failed` from anywhere before the end.
fn follows(now: State, next: State) -> bool {
    use State::{Ended, Ending, Failed, Paused, Running, Starting};
    matches!(
        (now, next),
        (Starting | Paused, Running)
            | (Running, Paused)
            | (Starting | Running | Paused, Ending)
            | (Starting | Running | Paused | Ending, Ended | Failed)
    )
}

fn backend_word(backend: cordon_policy::Backend) -> String {
    use cordon_policy::Backend;
    match backend {
        Backend::Bubblewrap => "bubblewrap",
        Backend::Container => "container",
        Backend::None => "none",
        Backend::Gateway => "gateway",
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_followed_only_by_what_can_follow_it() {
        use State::{Ended, Ending, Failed, Paused, Running, Starting};
        let all = [Starting, Running, Paused, Ending, Ended, Failed];
        let table = [
            (Starting, vec![Running, Ending, Ended, Failed]),
            (Running, vec![Paused, Ending, Ended, Failed]),
            (Paused, vec![Running, Ending, Ended, Failed]),
            (Ending, vec![Ended, Failed]),
            (Ended, vec![]),
            (Failed, vec![]),
        ];
        for (now, may) in table {
            for next in all {
                assert_eq!(follows(now, next), may.contains(&next), "{now:?} {next:?}");
            }
        }
    }
}

/// Sessions without a daemon around them.
#[cfg(test)]
pub mod of_tests {
    use cordon_audit::{Log, LogOptions};
    use cordon_policy::Backend;
    use cordon_session::config::PolicyConfig;

    use super::*;
    use crate::{daemon::policies::Policies, user::User};

    /// What decides them, and its log, in a folder.
    pub fn policies(folder: &Path) -> (Arc<Policies>, Log) {
        let log = Log::open(&folder.join("log"), LogOptions::default()).unwrap();
        let user = User {
            name: "ada".into(),
            groups: Vec::new(),
            home: None,
        };
        let config = PolicyConfig::default();
        let policies = Policies::new(config, &folder.join("policy"), user, log.clone(), None);
        (Arc::new(policies.unwrap()), log)
    }

    /// One of them.
    pub async fn session(policies: &Arc<Policies>, id: &str) -> Live {
        let facts = SessionFacts {
            id: id.into(),
            user: "ada".into(),
            groups: Vec::new(),
            agent: None,
            platform: "linux".into(),
            backend: Backend::Bubblewrap,
        };
        let follower = policies.follow(Arc::new(facts), &[], None).await.unwrap();
        Live::new(follower, "true", 1, "token".into(), Vec::new())
    }
}
