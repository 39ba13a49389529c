//! The supervisor half, outside the sandbox: answers held calls one after the other until nobody
//! is left to make any.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags},
    io::Errno,
    thread::{CapabilitySet, capabilities, set_capabilities},
};

use super::{
    Books, Counts, GuardError, GuardedGrant, Refusal, Ruling, SessionStart, Stop, Why,
    call::{Asked, OpenHow},
    control::{Control, Heeded},
    create::Making,
    elsewhere::{Elsewhere, Work, give},
    judge::{Described, Judge},
    looked::Looked,
    open::Opened,
    resolve::Place,
    sockets::{Came, Given, SocketCall},
    task::Task,
};
use crate::{
    owners::Owners,
    sys::{
        notify::{self, Notification},
        process,
    },
};

/// Answers the held calls of one session, for the user whose session it is.
pub struct Supervisor<F> {
    listener: OwnedFd,
    judge: Judge,
    proc: OwnedFd,
    tasks: HashMap<u32, Task>,
    control: Option<Control>,
    heeded: Heeded,
    elsewhere: Elsewhere,
    on_refusal: F,
    on_deleted: Option<Deleted>,
    counts: Counts,
    owners: Option<Owners>,
}

/// Hears of names that were there before the session and that it removed, on the host.
type Deleted = Box<dyn FnMut(Vec<PathBuf>) + Send>;

impl<F: FnMut(&Refusal) -> Ruling> Supervisor<F> {
    /// Readies a supervisor for the filter behind `listener`.
    ///
    /// `grants` are all writable and read-only grants of the session; what is writable and not
    /// among them is guarded like `rw`. `on_refusal` hears of each refusal before the session
    /// does, so it may record it first, and may permit what is only protected; while it works, the
    /// session's next held call waits.
    ///
    /// # Errors
    /// [`GuardError::Unsupported`]: the kernel's notifications are not the ones known here.
    /// [`GuardError::Unreadable`]: our own `/proc` cannot be read.
    pub fn new(
        grants: Vec<GuardedGrant>,
        start: SessionStart,
        listener: OwnedFd,
        books: Books,
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
        let judge = Judge::new(grants, start, open("/proc/self/fd")?, books)
            .map_err(GuardError::Unreadable)?;
        let proc = open("/proc")?;
        let (control, heeded) = Control::pair().map_err(GuardError::Unreadable)?;
        Ok(Self {
            listener,
            judge,
            proc,
            tasks: HashMap::new(),
            control: Some(control),
            heeded,
            elsewhere: Elsewhere::new().map_err(GuardError::Unreadable)?,
            on_refusal,
            on_deleted: None,
            counts: Counts::default(),
            owners: None,
        })
    }

    /// Acts as the user of a session that root started, and so with no rights of root's.
    #[must_use]
    pub fn acting_as(mut self, owners: Option<Owners>) -> Self {
        self.owners = owners;
        self
    }

    /// Tells of what the session removes that was there before it: soon, and many at once. While
    /// `hear` works, the session's next held call waits.
    #[must_use]
    pub fn telling_of_deleted(mut self, hear: impl FnMut(Vec<PathBuf>) + Send + 'static) -> Self {
        self.on_deleted = Some(Box::new(hear));
        self
    }

    /// What tells this supervisor of changes, once.
    pub fn take_control(&mut self) -> Option<Control> {
        self.control.take()
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
        match &self.owners {
            // Its namespaces are that user's, and with them the right to look into its processes.
            Some(owners) => owners.become_user(),
            None => keep_only_looking(),
        }
        .map_err(GuardError::Privileges)?;
        // No Landlock on top: who is confined by it may look only into processes that are confined
        // by the same rules and more, and the session's have rules of their own. What is opened is
        // opened beneath the session's own mounts.
        // Without one of its own, the umask that is put on would be the whole process's.
        process::leave_shared_directories().map_err(GuardError::Privileges)?;
        let served = self.serve();
        // Told of in any case.
        let rest = self.judge.gone.rest();
        if let Some(hear) = self.on_deleted.as_mut().filter(|_| !rest.is_empty()) {
            hear(rest);
        }
        served.map_err(|errno| GuardError::Listener(errno.into()))?;
        self.counts.removed = self.judge.removed;
        Ok(self.counts)
    }

    fn serve(&mut self) -> Result<(), Errno> {
        while self.wait()? {
            match notify::receive(self.listener.as_fd()) {
                // It was killed before we came to it.
                Err(Errno::NOENT | Errno::INTR) => {}
                other => self.handle(&other?),
            }
        }
        Ok(())
    }

    /// Tells of what was removed, if it is time.
    fn tell_deleted(&mut self) {
        if let Some(gone) = self.judge.gone.due()
            && let Some(hear) = &mut self.on_deleted
        {
            hear(gone);
        }
    }

    /// Whether there is a call to answer; `false` once there can be none any more.
    fn wait(&mut self) -> Result<bool, Errno> {
        loop {
            self.tell_deleted();
            let left = self.judge.gone.left();
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            let wake = self.heeded.wake();
            let mut poll_fd = [
                PollFd::new(&self.listener, PollFlags::IN),
                PollFd::new(&wake, PollFlags::IN),
            ];
            match poll(&mut poll_fd, left.as_ref()) {
                Err(Errno::INTR) => continue,
                other => other?,
            };
            let [ready, woken] = &poll_fd;
            let changed = !woken.revents().is_empty();
            let ready = ready.clone();
            if changed {
                self.heeded.heed(|change| self.judge.change(change));
            }
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
        let done = match Asked::from_registers(held) {
            Ok(asked) => self.settle(held, &asked),
            Err(errno) => Some(Err(errno)),
        };
        if let Some(done) = done {
            self.answer(held, done);
        }
    }

    /// An error of an answer means that the thread was killed meanwhile: nobody is left to tell.
    fn answer(&self, held: &Notification, done: Result<Done, Errno>) {
        let listener = self.listener.as_fd();
        let _gone = match done {
            Ok(Done::Nothing) => notify::answer(listener, held.id, Ok(())),
            Err(errno) => notify::answer(listener, held.id, Err(errno)),
            Ok(Done::GoOn) => notify::let_go_on(listener, held.id),
            Ok(Done::File(file, close_on_exec)) => give(listener, held.id, &file, close_on_exec),
        };
    }

    /// What to answer. `None`: nobody waits for an answer, or somebody else gives it.
    fn settle(&mut self, held: &Notification, asked: &Asked) -> Option<Result<Done, Errno>> {
        let mut view = View::default();
        let mut done = self.carry_out(held, asked, &mut view, false);
        if let Err(Stop::Refuse(why)) = done
            && self.still_waits(held)
        {
            done = match (self.tell(held, asked, &view, why), why) {
                (Ruling::Permitted, Why::Protected(_)) => {
                    self.keep(view.task.take());
                    self.carry_out(held, asked, &mut view, true)
                }
                _ => Err(why.errno().into()),
            };
        }
        self.keep(view.task);
        match done {
            Ok(Some(done)) => Some(Ok(done)),
            Ok(None) => None,
            Err(Stop::Errno(errno)) => Some(Err(errno)),
            // Permission was given, and what was asked for has become something else.
            Err(Stop::Refuse(_)) if self.still_waits(held) => Some(Err(Errno::PERM)),
            Err(Stop::Refuse(_) | Stop::Gone) => None,
        }
    }

    /// Does what is asked, if it may be done. `None`: somebody else answers.
    fn carry_out(
        &mut self,
        held: &Notification,
        asked: &Asked,
        view: &mut View,
        permitted: bool,
    ) -> Result<Option<Done>, Stop> {
        if *asked == Asked::Umask {
            self.judge.umasks.changes();
            return Ok(Some(Done::GoOn));
        }
        let task = self.task(held.tid)?;
        let task = view.task.insert(task);
        if let Asked::Socket(asked) = asked {
            return self.use_socket(held, asked, task, &mut view.place);
        }
        let looked = Looked::at(asked, task, self.judge.own_fds());
        // Whatever was opened by the thread's number was that thread's, if it still waits now.
        if !self.still_waits(held) {
            return Err(Stop::Gone);
        }
        let looked = looked?;
        let place = view.place.insert(looked.place);
        view.onto = looked.onto;
        let judge = &mut self.judge;
        match (asked, &view.onto) {
            (Asked::Remove { flags, .. }, _) => judge.remove(task, place, *flags, permitted)?,
            (Asked::Rename { flags, .. }, Some(to)) => {
                judge.rename(task, place, to, *flags, permitted)?;
            }
            (Asked::Open { how, .. }, _) => {
                let close_on_exec = how.flags.contains(OFlags::CLOEXEC);
                return match judge.open(task, place, *how, permitted)? {
                    Opened::Now(file) => Ok(Some(Done::File(file, close_on_exec))),
                    // A named pipe opens when somebody opens its other end, perhaps never.
                    Opened::Waits(file, flags) => {
                        self.elsewhere(held, Work::Open(file, flags, close_on_exec))
                    }
                };
            }
            (Asked::Truncate { length, .. }, _) => {
                let how = OpenHow {
                    flags: OFlags::WRONLY | OFlags::NONBLOCK,
                    mode: Mode::empty(),
                };
                let Opened::Now(file) = judge.open(task, place, how, permitted)? else {
                    return Err(Errno::INVAL.into());
                };
                rustix::fs::ftruncate(file, *length)?;
            }
            (Asked::MakeDirectory { mode, .. }, _) => {
                judge.make(task, place, Making::Directory(*mode), permitted)?;
            }
            (Asked::MakeNode { mode, device, .. }, _) => {
                judge.make(task, place, Making::Node(*mode, *device), permitted)?;
            }
            (Asked::Symlink { .. }, _) => {
                judge.make(task, place, Making::Symlink(&looked.text), permitted)?;
            }
            (Asked::Link { .. }, _) => {
                let source = looked.source.ok_or_else(Stop::blind)?;
                judge.make(task, place, Making::Link(&source), permitted)?;
            }
            (Asked::Rename { .. } | Asked::Umask | Asked::Socket(_), _) => {
                return Err(Stop::blind());
            }
        }
        Ok(Some(Done::Nothing))
    }

    /// Makes a call on a socket. One that waits for its peer does so elsewhere.
    fn use_socket(
        &mut self,
        held: &Notification,
        asked: &SocketCall,
        task: &Task,
        refused: &mut Option<Place>,
    ) -> Result<Option<Done>, Stop> {
        let given = Given::take(task, asked, &self.elsewhere);
        // As for paths: what was copied was that thread's, if it still waits now.
        if !self.still_waits(held) {
            return Err(Stop::Gone);
        }
        match self.judge.use_socket(task, given?, asked.deed, refused)? {
            Came::Done => Ok(Some(Done::Nothing)),
            Came::Waits(waiting) => self.elsewhere(held, Work::Connect(waiting)),
        }
    }

    /// Has somebody else answer. `None`, for that.
    fn elsewhere(&self, held: &Notification, work: Work) -> Result<Option<Done>, Stop> {
        self.elsewhere.answer(&self.listener, held.id, work)?;
        Ok(None)
    }

    /// The waiting thread: often one that has waited before.
    fn task(&mut self, tid: u32) -> Result<Task, Stop> {
        match self.tasks.remove(&tid).filter(|task| task.is(tid)) {
            Some(task) => Ok(task),
            None => Task::open(&self.proc, tid),
        }
    }

    fn keep(&mut self, task: Option<Task>) {
        if self.tasks.len() >= TASKS {
            self.tasks.clear();
        }
        self.tasks.extend(task.map(|task| (task.tid(), task)));
    }

    fn still_waits(&self, held: &Notification) -> bool {
        notify::still_waits(self.listener.as_fd(), held.id)
    }

    /// Reports a refusal, as far as anything is known.
    fn tell(&mut self, held: &Notification, asked: &Asked, view: &View, why: Why) -> Ruling {
        self.counts.refused += 1;
        // What a rename would have lost is what bears the new name.
        let lost = match why {
            Why::WouldReplace => view.onto.as_ref(),
            Why::Protected(_) => self.protected_of(view),
            Why::WasThere | Why::NamesStay | Why::NotKept | Why::Outside | Why::Blind => {
                view.place.as_ref()
            }
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
        })
    }

    /// The end of a rename that is protected, and of anything else its only one.
    fn protected_of<'a>(&self, view: &'a View) -> Option<&'a Place> {
        let (place, onto) = (view.place.as_ref()?, view.onto.as_ref());
        let Some(onto) = onto else { return Some(place) };
        let of_place = view.task.as_ref().map(|_| self.judge.is_protected(place));
        if of_place == Some(true) {
            Some(place)
        } else {
            Some(onto)
        }
    }
}

/// What a held call comes to.
enum Done {
    /// It is done, and its result is zero.
    Nothing,
    /// Its result is this file; whether it closes on exec.
    File(OwnedFd, bool),
    /// The kernel does it.
    GoOn,
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

/// Threads whose directories in `/proc` are kept open.
const TASKS: usize = 64;
