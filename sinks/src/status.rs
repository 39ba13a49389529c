//! How the sinks do: counters that `cordon status` and metrics show.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

/// How all of them do.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct SinksStatus {
    /// Each sink by its name.
    pub sinks: BTreeMap<String, SinkStatus>,
    /// Each place that checkpoints go to, by its kind.
    pub checkpoints: BTreeMap<String, CheckpointStatus>,
}

/// How one sink does.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct SinkStatus {
    /// The next record that it gets.
    pub next: u64,
    /// Records that a checkpoint covers and that it does not have yet.
    pub lag: u64,
    /// Records delivered since the daemon started.
    pub delivered: u64,
    /// Records that it will never get: it refused them, or they were pruned before it took them.
    /// Counted since its cursor was made.
    pub lost: u64,
    /// Failed attempts since the last delivery.
    pub failures: u64,
    /// Why the last attempt failed; absent after a delivery.
    pub error: Option<String>,
}

/// How checkpoints reach one place.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct CheckpointStatus {
    /// Size of the log that the last one there covers.
    pub size: u64,
    /// Failed attempts since the last one that arrived.
    pub failures: u64,
    /// Why the last attempt failed; absent after one that arrived.
    pub error: Option<String>,
}

/// The status that all tasks write to.
#[derive(Debug, Default)]
pub(crate) struct Shared(Mutex<SinksStatus>);

impl Shared {
    pub(crate) fn status(&self) -> SinksStatus {
        self.held().clone()
    }

    pub(crate) fn sink(&self, name: &str, change: impl FnOnce(&mut SinkStatus)) {
        change(self.held().sinks.entry(name.into()).or_default());
    }

    pub(crate) fn checkpoint(&self, place: &str, change: impl FnOnce(&mut CheckpointStatus)) {
        change(self.held().checkpoints.entry(place.into()).or_default());
    }

    /// Counters stay usable whatever a task that held them did.
    fn held(&self) -> MutexGuard<'_, SinksStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
