//! The desk: where records wait to be written, and where whoever brings one may write for all.
//!
//! Callers queue a record and then try to take the pen. One has it at a time and writes what all
//! have queued with one write, on its own thread: no other thread has to wake up for it. What may
//! wait for the disk (a new journal, what a failure left to mend, sensitive values) is left to the
//! thread that runs here, which also writes what nobody waits for. Never syncs for a caller.

use std::{
    hint,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicIsize, Ordering, fence},
    },
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};

use crate::{
    RecordError, RecordId,
    draft::Draft,
    shared::{Bell, Ring, Shared},
    syncer::Handover,
    writer::{Ack, Message, Pending, Writer},
};

/// Where records are queued. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    sender: mpsc::Sender<Message>,
    desk: Arc<Desk>,
}

/// The writer, and what is queued for it.
#[derive(Debug)]
pub(crate) struct Desk {
    writer: Mutex<Writer>,
    /// Messages that are queued; behind by those that are just being queued or taken.
    queued: AtomicIsize,
    /// Wakes the thread.
    bell: Bell,
    /// Told when the syncer has taken what was written.
    taken: Condvar,
    shared: Arc<Shared>,
}

/// Why a record was not queued.
#[derive(Debug)]
pub(crate) enum NotQueued {
    /// As many wait as may.
    Full,
    /// The log is closed.
    Closed,
}

impl Desk {
    pub(crate) fn new(writer: Writer, shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            writer: Mutex::new(writer),
            queued: AtomicIsize::new(0),
            bell: Bell::default(),
            taken: Condvar::new(),
            shared,
        })
    }

    /// Writes what is queued, as far as that is nothing but a write. Does not wait: whoever is
    /// writing already goes on with what is queued meanwhile.
    pub(crate) fn serve(&self) {
        loop {
            // Either whoever has the pen sees what was queued before this, or this gets it.
            fence(Ordering::SeqCst);
            let mut writer = match self.writer.try_lock() {
                Ok(writer) => writer,
                Err(TryLockError::WouldBlock) => return,
                Err(TryLockError::Poisoned(error)) => return self.give_up(error),
            };
            let (received, all) = writer.write_simple(&mut None);
            self.received(received);
            self.lay_down(writer);
            if !all {
                return self.bell.ring(Ring::Now);
            }
            if !self.missed() {
                return;
            }
        }
    }

    /// Takes `own` and writes it behind what is queued, where this gets the pen and nothing but a
    /// write is to be done; else leaves it. No id for what was taken means that it is not in the
    /// log.
    fn write_own(&self, own: &mut Option<Pending>) -> Option<RecordId> {
        let mut writer = self.pen_soon()?;
        let (received, all) = writer.write_simple(own);
        let answer = writer.take_answer();
        self.received(received);
        self.lay_down(writer);
        if !all {
            self.bell.ring(Ring::Now);
        } else if self.missed() {
            self.serve();
        }
        answer
    }

    /// The pen, where it is free or laid down in a moment: mostly whoever has it writes one record,
    /// which takes less than to be woken does.
    fn pen_soon(&self) -> Option<MutexGuard<'_, Writer>> {
        for _look in 0..LOOKS {
            match self.writer.try_lock() {
                Ok(writer) => return Some(writer),
                Err(TryLockError::WouldBlock) => hint::spin_loop(),
                Err(TryLockError::Poisoned(_)) => return None,
            }
        }
        None
    }

    /// Whether something was queued by somebody who could not have the pen. Whoever lays it down,
    /// for whatever it was taken, asks this: nobody else comes for what was queued meanwhile.
    fn missed(&self) -> bool {
        fence(Ordering::SeqCst);
        self.queued.load(Ordering::Acquire) > 0
    }

    /// Works until the log is closed.
    pub(crate) fn run(&self) {
        loop {
            if self.bell.wait(None) == Ring::Soon {
                // Nobody waits for it: what comes until then is written with it.
                self.bell.wait_now(Instant::now() + SOON);
            }
            self.bell.clear();
            if self.work() {
                return;
            }
        }
    }

    /// Takes the pen and writes nothing, as whoever is slow does.
    #[cfg(test)]
    pub(crate) fn hold(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the thread look at the state: something else changed.
    pub(crate) fn wake(&self) {
        self.bell.ring(Ring::Now);
    }

    /// What the syncer has to do.
    pub(crate) fn take(&self) -> Vec<Handover> {
        match self.writer.lock() {
            Ok(mut writer) => {
                let taken = writer.hand_over();
                drop(writer);
                self.taken.notify_all();
                if self.missed() {
                    self.bell.ring(Ring::Now);
                }
                taken
            }
            Err(error) => {
                self.give_up(error);
                vec![Handover::End]
            }
        }
    }

    /// Nobody takes anything any more.
    pub(crate) fn syncer_is_gone(&self) {
        self.shared.syncer_gone.store(true, Ordering::Release);
        self.taken.notify_all();
    }

    /// Writes all that is queued, whatever it takes; whether that was the last.
    fn work(&self) -> bool {
        loop {
            let writer = match self.writer.lock() {
                Ok(writer) => writer,
                Err(error) => {
                    self.give_up(error);
                    return true;
                }
            };
            let mut writer = self.with_room(writer);
            let closing = self.shared.closing.load(Ordering::Acquire);
            let (received, more) = writer.write_queued();
            self.received(received);
            if closing && !more {
                // What was queued before is still taken; then it ends.
                let received = writer.end();
                self.received(received);
                self.lay_down(writer);
                return true;
            }
            self.lay_down(writer);
            if !more && !self.missed() {
                return false;
            }
        }
    }

    /// Back pressure: waits while the syncer has as much to do as it may have.
    fn with_room<'a>(&self, mut writer: MutexGuard<'a, Writer>) -> MutexGuard<'a, Writer> {
        while writer.is_full() && !self.shared.syncer_gone.load(Ordering::Acquire) {
            self.shared.urgent.ring(Ring::Now);
            writer = self
                .taken
                .wait(writer)
                .unwrap_or_else(PoisonError::into_inner);
        }
        writer
    }

    /// After a panic of whoever had the pen: everything ends, and the syncer is told.
    fn give_up(&self, error: PoisonError<MutexGuard<'_, Writer>>) {
        error.into_inner().give_up();
        self.shared.urgent.ring(Ring::Now);
    }

    /// What the log's own state says of a record that it did not take.
    fn refused(&self) -> RecordError {
        let trouble = self.shared.trouble();
        RecordError {
            message: trouble.unwrap_or_else(|| "the log did not take the record".into()),
        }
    }

    fn received(&self, messages: usize) {
        let messages = isize::try_from(messages).unwrap_or_default();
        self.queued.fetch_sub(messages, Ordering::AcqRel);
    }

    /// Gives the pen back, then rings for what was written.
    fn lay_down(&self, mut writer: MutexGuard<'_, Writer>) {
        let ring = writer.take_ring();
        drop(writer);
        if let Some(ring) = ring {
            self.shared.urgent.ring(ring);
        }
    }
}

impl Queue {
    pub(crate) fn new(sender: mpsc::Sender<Message>, desk: Arc<Desk>) -> Self {
        Self { sender, desk }
    }

    /// Queues a record and has it written; waits while the queue is full.
    pub(crate) async fn send(&self, pending: Pending) -> Result<(), RecordError> {
        let sent = self.sender.send(Message::Append(pending)).await;
        sent.map_err(|_closed| closed())?;
        self.note();
        self.desk.serve();
        Ok(())
    }

    /// Writes a record, without a place in the queue, where nobody else is writing.
    ///
    /// # Errors
    /// The record, for [`Self::write`], where that cannot be.
    pub(crate) fn write_now(&self, draft: Draft) -> Result<Result<RecordId, RecordError>, Pending> {
        let mut own = Some(Pending {
            draft,
            values: Vec::new(),
            ack: Ack::Here,
            since: Instant::now(),
        });
        let id = self.desk.write_own(&mut own);
        match own {
            None => Ok(id.ok_or_else(|| self.desk.refused())),
            Some(pending) => Err(pending),
        }
    }

    /// Has a record written by whoever writes.
    pub(crate) async fn write(&self, mut pending: Pending) -> Result<RecordId, RecordError> {
        let (waiter, answer) = oneshot::channel();
        pending.ack = Ack::Written(waiter);
        self.send(pending).await?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    /// As [`Self::send`], for a thread that may block.
    pub(crate) fn blocking_send(&self, pending: Pending) -> Result<(), RecordError> {
        let sent = self.sender.blocking_send(Message::Append(pending));
        sent.map_err(|_closed| closed())?;
        self.note();
        self.desk.serve();
        Ok(())
    }

    /// Queues what nobody waits for: it goes with the next record, or soon.
    pub(crate) fn send_later(&self, pending: Pending) -> Result<(), NotQueued> {
        self.try_send(Message::Append(pending))?;
        if self.note() >= MANY {
            self.desk.serve();
        } else {
            self.desk.bell.ring(Ring::Soon);
        }
        Ok(())
    }

    /// Queues what the thread has to do, at once.
    pub(crate) fn order(&self, message: Message) -> Result<(), NotQueued> {
        self.try_send(message)?;
        self.note();
        self.desk.wake();
        Ok(())
    }

    /// Where it leads.
    pub(crate) fn desk(&self) -> &Desk {
        &self.desk
    }

    /// Whether nothing is taken any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Messages that wait, and as many as may.
    pub(crate) fn lengths(&self) -> (usize, usize) {
        let most = self.sender.max_capacity();
        (most.saturating_sub(self.sender.capacity()), most)
    }

    fn try_send(&self, message: Message) -> Result<(), NotQueued> {
        self.sender.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NotQueued::Full,
            mpsc::error::TrySendError::Closed(_) => NotQueued::Closed,
        })
    }

    /// Counts a message that was queued; how many there are.
    fn note(&self) -> isize {
        self.desk.queued.fetch_add(1, Ordering::AcqRel) + 1
    }
}

pub(crate) fn closed() -> RecordError {
    RecordError {
        message: "the log is closed".into(),
    }
}

/// Time until what nobody waits for is written, where no record comes that takes it along.
const SOON: Duration = Duration::from_millis(10);

/// How often the pen is looked for before a record is queued: some microseconds.
const LOOKS: u32 = 200;

/// As many of those are written at once.
const MANY: isize = 64;
