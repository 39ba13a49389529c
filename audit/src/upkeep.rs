//! What an operator has done to the log: pruning, holds, redaction, keys, a new origin.
//!
//! Each is a record first, durable before anything is changed. Blocks; never decides who may.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};

use crate::{
    Event, Kind, Log, LogOptions, OpenError, RecordError, RecordId,
    checkpoint::CHECKPOINT,
    draft::int,
    files,
    log::OpenErrorKind,
    read::Reader,
    record::Upkeep,
    retention::{self, Hold, Pruning, Retention, Scope},
    shared::held,
    side,
};

/// Something to be done to the log, by whom and why.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// What.
    pub task: Task,
    /// Login name of whoever orders it; absent for the service itself.
    pub by: Option<String>,
    /// Why.
    pub because: String,
}

/// What can be done to the log.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Task {
    /// Let old segments go.
    Prune {
        /// What is old.
        retention: Retention,
        /// Only say what would go.
        dry_run: bool,
    },
    /// Keep records however old they are.
    Hold(Scope),
    /// End a hold.
    Release {
        /// Its number.
        hold: u64,
    },
    /// Erase a sensitive value that a record commits to.
    Redact {
        /// The record.
        record: RecordId,
        /// Which value.
        pointer: String,
    },
    /// Sign with a new key from now on.
    RotateKey,
}

/// What was done.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Done {
    /// These went, or would go.
    Pruned(Pruning),
    /// The hold is in force.
    Held(Hold),
    /// The hold is over.
    Released(Hold),
    /// So many values were erased.
    Redacted {
        /// How many.
        values: usize,
    },
    /// The key changes as soon as that is in the log.
    KeyChanging,
}

/// A log that was moved aside for a new one.
#[derive(Clone, Debug, Serialize)]
pub struct NewOrigin {
    /// Name of the new log.
    pub origin: String,
    /// Where the old one is now.
    pub moved_to: PathBuf,
    /// Name of the old log, where its checkpoint can be read.
    pub old_origin: Option<String>,
    /// How many records the old log's last checkpoint states.
    pub old_size: Option<u64>,
}

impl Log {
    /// Does what is ordered, a record of it first. Blocks: not for an asynchronous task.
    ///
    /// # Errors
    /// [`RecordError`] says what was not done and why.
    pub fn administer(&self, order: Order) -> Result<Done, RecordError> {
        let Order { task, by, because } = order;
        let upkeep = Upkeep {
            because: Some(because.clone()),
            ..Upkeep::default()
        };
        match task {
            Task::Prune { retention, dry_run } => self.prune(&retention, dry_run, by, upkeep),
            Task::Hold(scope) => self.hold(scope, by, because, upkeep),
            Task::Release { hold } => self.release(hold, by, upkeep),
            Task::Redact { record, pointer } => self.redact(record, pointer, by, upkeep),
            Task::RotateKey => self.rotate_key().map(|()| Done::KeyChanging),
        }
    }

    /// The holds in force.
    ///
    /// # Errors
    /// [`RecordError`] when they cannot be read.
    pub fn holds(&self) -> Result<Vec<Hold>, RecordError> {
        holds(self.directory())
    }

    fn prune(
        &self,
        retention: &Retention,
        dry_run: bool,
        by: Option<String>,
        upkeep: Upkeep,
    ) -> Result<Done, RecordError> {
        let shared = self.shared();
        // Nothing is sealed and no hold changes meanwhile.
        let _alone = held(&shared.segments);
        let log = self.directory();
        let plan = retention::plan(log, retention, now_us()).map_err(failed)?;
        if dry_run {
            return Ok(Done::Pruned(plan));
        }
        if plan.minimum > plan.from {
            let upkeep = Upkeep {
                minimum: Some(plan.minimum),
                ..upkeep
            };
            self.note(Kind::RetentionPrune, by, upkeep)?;
            // What is gone has to be explained by something that is signed.
            self.wait_covered().map_err(|error| RecordError {
                message: format!("recorded, but nothing was pruned: {}", error.message),
            })?;
            retention::prune(log, plan.minimum, self.open_journal()).map_err(failed)?;
        } else if let Some(minimum) = retention::unfinished(log).map_err(failed)? {
            retention::prune(log, minimum, self.open_journal()).map_err(failed)?;
        }
        Ok(Done::Pruned(plan))
    }

    fn hold(
        &self,
        scope: Scope,
        by: Option<String>,
        because: String,
        upkeep: Upkeep,
    ) -> Result<Done, RecordError> {
        if scope.is_empty() {
            return Err(refused("a hold needs a session, a user or a time"));
        }
        let names = [&scope.session, &scope.user];
        if names
            .into_iter()
            .flatten()
            .any(|name| name.len() > MAX_NAME)
        {
            // Its record would have a part of it, and hold nothing.
            return Err(refused("a hold's session or user is too long to be one"));
        }
        let _alone = held(&self.shared().segments);
        let hold = Hold {
            // No other hold's number: the record that comes has a new place.
            id: self.written() + 1,
            scope,
            because,
            by: by.clone().unwrap_or_default(),
        };
        self.note(Kind::RetentionHold, by, held_record(&hold, upkeep))?;
        Ok(Done::Held(hold))
    }

    fn release(&self, id: u64, by: Option<String>, upkeep: Upkeep) -> Result<Done, RecordError> {
        let _alone = held(&self.shared().segments);
        let mut holds = self.holds()?;
        let Some(at) = holds.iter().position(|hold| hold.id == id) else {
            return Err(refused(&format!("there is no hold {id}")));
        };
        let hold = holds.remove(at);
        self.note(Kind::RetentionRelease, by, held_record(&hold, upkeep))?;
        Ok(Done::Released(hold))
    }

    fn redact(
        &self,
        id: RecordId,
        pointer: String,
        by: Option<String>,
        upkeep: Upkeep,
    ) -> Result<Done, RecordError> {
        let log = self.directory();
        let found = Reader::at(log).by_id(id).map_err(|error| RecordError {
            message: error.to_string(),
        })?;
        let Some(record) = found else {
            return Err(refused(&format!("there is no record {id}")));
        };
        if record.sd.iter().all(|sd| sd.ptr != pointer) {
            let there: Vec<&str> = record.sd.iter().map(|sd| sd.ptr.as_str()).collect();
            return Err(refused(&match there.is_empty() {
                true => "the record has no sensitive values".into(),
                false => format!(
                    "the record has no sensitive value {pointer:?}; it has {}",
                    there.join(", ")
                ),
            }));
        }
        let upkeep = Upkeep {
            pointer: Some(pointer.clone()),
            record: Some(id),
            ..upkeep
        };
        // The journal that has the record is not sealed before the value is gone: opening the
        // log looks through what is not sealed for what was interrupted.
        let shared = self.shared();
        let _alone = held(&shared.segments);
        self.note(Kind::Redaction, by, upkeep)?;
        let values = side::erase(log, record.seq, &pointer).map_err(|error| {
            shared.owe_erasure(record.seq, &pointer);
            RecordError {
                message: format!(
                    "the redaction is recorded, but not done yet: {error}; it is tried again \
                     until it is, or order it again"
                ),
            }
        })?;
        Ok(Done::Redacted { values })
    }

    fn note(
        &self,
        kind: Kind,
        by: Option<String>,
        upkeep: Upkeep,
    ) -> Result<RecordId, RecordError> {
        self.event_blocking(Event::Upkeep {
            kind,
            by,
            upkeep: Box::new(upkeep),
        })
    }
}

/// The holds of the log in `directory`.
///
/// # Errors
/// [`RecordError`] when they cannot be read.
pub fn holds(directory: &Path) -> Result<Vec<Hold>, RecordError> {
    retention::holds(directory).map_err(failed)
}

/// Moves the log in `directory` aside, whatever state it is in, and begins a new one whose first
/// record names the old one's origin, size and root as its last checkpoint states them.
///
/// # Errors
/// [`OpenError`]; then the old log is where it was.
pub fn new_origin(
    directory: &Path,
    options: LogOptions,
    by: Option<String>,
    because: String,
) -> Result<NewOrigin, OpenError> {
    let io_error = |error: io::Error| OpenError::io(directory, "moved aside", &error);
    if !directory.is_dir() {
        let gone = io::Error::from(io::ErrorKind::NotFound);
        return Err(io_error(gone));
    }
    let lock = files::lock(directory)?;
    let (old_origin, old_size, root) = last_statement(directory);
    let new = beside(directory, "new");
    if fs::symlink_metadata(&new).is_ok() {
        // Perhaps a log, and a log is never deleted.
        return Err(OpenError::new(
            OpenErrorKind::Invalid,
            format!(
                "`{}` is there from an attempt that was stopped: move it to another place, look \
                 at it with `cordon audit verify`, and try again",
                new.display()
            ),
        ));
    }
    let log = Log::open(&new, options)?;
    let origin = log.origin().to_owned();
    let event = Event::Upkeep {
        kind: Kind::LogOrigin,
        by,
        upkeep: Box::new(Upkeep {
            because: Some(because),
            origin: old_origin.clone(),
            root,
            size: old_size,
            ..Upkeep::default()
        }),
    };
    log.event_blocking(event)
        .map_err(|error| OpenError::new(OpenErrorKind::Io, error.to_string()))?;
    log.close();
    drop(log);
    let moved_to = beside(directory, &format!("old-{}", now_us()));
    swap(directory, &new, &moved_to, &|_| Ok(())).map_err(io_error)?;
    drop(lock);
    Ok(NewOrigin {
        origin,
        moved_to,
        old_origin,
        old_size,
    })
}

/// Puts the log `new` in the place of `log`, which is at `aside` from then on. Stopped anywhere,
/// both are whole, and the old one has its own name or `aside`. Calls `step` before each rename.
fn swap(
    log: &Path,
    new: &Path,
    aside: &Path,
    step: &dyn Fn(&str) -> io::Result<()>,
) -> io::Result<()> {
    step("name")?;
    renameat_with(CWD, new, CWD, aside, RenameFlags::NOREPLACE)?;
    step("exchange")?;
    // In one step: there is always a log in its place, the old one or the new one.
    renameat_with(CWD, aside, CWD, log, RenameFlags::EXCHANGE)?;
    step("sync")?;
    files::sync_directory(files::parent(log))
}

/// What the last checkpoint of a log states, as far as it can be read. Not checked: the old log
/// is evidence, and may be damaged.
fn last_statement(log: &Path) -> (Option<String>, Option<u64>, Option<String>) {
    let read = files::read_small(&log.join(CHECKPOINT), 16 * 1024);
    let note = read
        .ok()
        .flatten()
        .and_then(|text| String::from_utf8(text).ok());
    let note = note.unwrap_or_default();
    let mut lines = note.lines();
    let origin = lines.next().map(str::to_owned);
    let size = lines.next().and_then(|size| size.parse().ok());
    let root = lines
        .next()
        .filter(|root| STANDARD.decode(root).is_ok_and(|root| root.len() == 32))
        .map(str::to_owned);
    (origin, size, root)
}

fn beside(directory: &Path, what: &str) -> PathBuf {
    let mut name = directory.as_os_str().to_owned();
    name.push(".");
    name.push(what);
    name.into()
}

fn held_record(hold: &Hold, upkeep: Upkeep) -> Upkeep {
    Upkeep {
        hold: Some(hold.id),
        session: hold.scope.session.clone(),
        user: hold.scope.user.clone(),
        from_us: hold.scope.from_us,
        to_us: hold.scope.to_us,
        ..upkeep
    }
}

fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| int(since.as_micros()))
}

fn failed(error: io::Error) -> RecordError {
    refused(&error.to_string())
}

fn refused(message: &str) -> RecordError {
    RecordError {
        message: message.into(),
    }
}

/// Longest session or user that a hold names, in bytes.
const MAX_NAME: usize = 256;

#[cfg(test)]
mod tests;
