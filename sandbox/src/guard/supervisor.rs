//! The supervisor half, outside the sandbox: answers held calls one after the other until nobody
//! is left to make any.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{Mode, OFlags},
    io::Errno,
    thread::{CapabilitySet, capabilities, set_capabilities},
};

use super::{
    Counts, GuardError, GuardedGrant, Refusal, SessionStart, Stop, Why,
    call::Asked,
    judge::{Described, Judge},
    resolve::{Place, resolve},
    task::Task,
};
use crate::sys::notify::{self, Notification};

/// Answers the held calls of one session, for the user whose session it is.
pub struct Supervisor<F> {
    listener: OwnedFd,
    judge: Judge,
    proc: OwnedFd,
    last: Option<Task>,
    on_refusal: F,
    counts: Counts,
}

impl<F: FnMut(&Refusal)> Supervisor<F> {
    /// Readies a supervisor for the filter behind `listener`.
    ///
    /// `grants` are all writable and read-only grants of the session; what is writable and not
    /// among them is guarded like `rw`. `on_refusal` hears of each refusal before the session
    /// does, so it may record it first; while it works, the session's next held call waits.
    ///
    /// # Errors
    /// [`GuardError::Unsupported`]: the kernel's notifications are not the ones known here.
    /// [`GuardError::Unreadable`]: our own `/proc` cannot be read.
    pub fn new(
        grants: Vec<GuardedGrant>,
        start: SessionStart,
        listener: OwnedFd,
        on_refusal: F,
    ) -> Result<Self, GuardError> {
        if !notify::sizes_fit().map_err(GuardError::Listener)? {
            return Err(GuardError::Unsupported);
        }
        notify::wake_on_this_core(listener.as_fd());
        let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |path| {
            rustix::fs::open(path, directory, Mode::empty())
                .map_err(|errno| GuardError::Unreadable(errno.into()))
        };
        let judge =
            Judge::new(grants, start, open("/proc/self/fd")?).map_err(GuardError::Unreadable)?;
        let proc = open("/proc")?;
        Ok(Self {
            listener,
            judge,
            proc,
            last: None,
            on_refusal,
            counts: Counts::default(),
        })
    }

    /// Answers until every process under the filter is gone.
    ///
    /// Call it on a thread of its own: it blocks, and gives up the thread's capabilities except
    /// the one to look into processes, so that it can do for the session no more than the session
    /// could do itself. If it ends early, held calls fail with `ENOSYS`.
    ///
    /// # Errors
    /// [`GuardError::Listener`]: the listener cannot be read.
    pub fn run(mut self) -> Result<Counts, GuardError> {
        keep_only_looking().map_err(GuardError::Privileges)?;
        while self
            .wait()
            .map_err(|errno| GuardError::Listener(errno.into()))?
        {
            match notify::receive(self.listener.as_fd()) {
                // It was killed before we came to it.
                Err(Errno::NOENT | Errno::INTR) => {}
                other => self.handle(&other.map_err(|errno| GuardError::Listener(errno.into()))?),
            }
        }
        self.counts.removed = self.judge.removed;
        Ok(self.counts)
    }

    /// Whether there is a call to answer; `false` once there can be none any more.
    fn wait(&self) -> Result<bool, Errno> {
        loop {
            let mut poll_fd = [PollFd::new(&self.listener, PollFlags::IN)];
            match poll(&mut poll_fd, None) {
                Err(Errno::INTR) => continue,
                other => other?,
            };
            let [ready] = &poll_fd;
            if ready.revents().contains(PollFlags::IN) {
                return Ok(true);
            }
            if ready
                .revents()
                .intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL)
            {
                return Ok(false);
            }
        }
    }

    fn handle(&mut self, held: &Notification) {
        self.counts.calls += 1;
        let result = match Asked::from_registers(held) {
            Ok(asked) => self.settle(held, &asked),
            Err(errno) => Some(Err(errno)),
        };
        if let Some(result) = result {
            // An error here means that the thread was killed meanwhile: nobody is left to tell.
            let _gone = notify::answer(self.listener.as_fd(), held.id, result);
        }
    }

    /// What to answer. `None`: nobody waits for an answer any more.
    fn settle(&mut self, held: &Notification, asked: &Asked) -> Option<Result<(), Errno>> {
        let mut view = View::default();
        let answer = match self.carry_out(held, asked, &mut view) {
            Ok(()) => Some(Ok(())),
            Err(Stop::Errno(errno)) => Some(Err(errno)),
            Err(Stop::Refuse(why)) if self.still_waits(held) => {
                self.tell(held, asked, &view, why);
                Some(Err(Errno::PERM))
            }
            Err(Stop::Refuse(_) | Stop::Gone) => None,
        };
        self.last = view.task;
        answer
    }

    /// Does what is asked, if it may be done.
    fn carry_out(
        &mut self,
        held: &Notification,
        asked: &Asked,
        view: &mut View,
    ) -> Result<(), Stop> {
        let task = self.task(held.tid)?;
        let task = view.task.insert(task);
        let own_fds = self.judge.own_fds();
        let looked = match asked {
            Asked::Remove { path, .. } => resolve(task, own_fds, path).map(|place| (place, None)),
            Asked::Rename { from, to, .. } => resolve(task, own_fds, from)
                .and_then(|from| Ok((from, Some(resolve(task, own_fds, to)?)))),
        };
        // Whatever was opened by the thread's number was that thread's, if it still waits now.
        if !self.still_waits(held) {
            return Err(Stop::Gone);
        }
        let (place, onto) = looked?;
        let place = view.place.insert(place);
        view.onto = onto;
        match (asked, &view.onto) {
            (Asked::Remove { flags, .. }, _) => self.judge.remove(task, place, *flags),
            (Asked::Rename { flags, .. }, Some(to)) => self.judge.rename(task, place, to, *flags),
            (Asked::Rename { .. }, None) => Err(Stop::blind()),
        }
    }

    /// The waiting thread: often the one of the last call.
    fn task(&mut self, tid: u32) -> Result<Task, Stop> {
        match self.last.take().filter(|task| task.is(tid)) {
            Some(task) => Ok(task),
            None => Task::open(&self.proc, tid),
        }
    }

    fn still_waits(&self, held: &Notification) -> bool {
        notify::still_waits(self.listener.as_fd(), held.id)
    }

    /// Reports a refusal, as far as anything is known.
    fn tell(&mut self, held: &Notification, asked: &Asked, view: &View, why: Why) {
        self.counts.refused += 1;
        // What a rename would have lost is what bears the new name.
        let lost = match why {
            Why::WouldReplace => view.onto.as_ref(),
            Why::WasThere | Why::Blind => view.place.as_ref(),
        };
        let Described { inside, host, mode } = match (&view.task, lost) {
            (Some(task), Some(place)) => self.judge.describe(task, place),
            _ => Described::default(),
        };
        let call = asked.call();
        (self.on_refusal)(&Refusal {
            call,
            tid: held.tid,
            inside,
            host,
            mode,
            why,
        });
    }
}

/// What became known of a held call on the way.
#[derive(Default)]
struct View {
    task: Option<Task>,
    place: Option<Place>,
    onto: Option<Place>,
}

/// Gives up every capability of this thread but `CAP_SYS_PTRACE`, which a supervisor that was
/// started by root needs to look into processes. An ordinary user's has none to begin with.
fn keep_only_looking() -> io::Result<()> {
    let mut sets = capabilities(None)?;
    sets.effective &= CapabilitySet::SYS_PTRACE;
    Ok(set_capabilities(None, sets)?)
}
