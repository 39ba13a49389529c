//! Delivers the log to what others run: every record to each sink, at least once and in order, and
//! signed checkpoints to places where the log's host cannot change them.
//!
//! A log's directory and the configuration in; deliveries, and a cursor file per sink, out. A crate
//! of its own because it speaks HTTP and TLS, which the log itself never does. Ships only what a
//! signed checkpoint covers: that is durable, so no power cut takes back what was sent.

#![forbid(unsafe_code)]

mod backfill;
mod backoff;
mod checkpoints;
mod cursor;
mod feed;
mod http;
mod net;
mod runner;
mod sigv4;
mod status;
mod target;
mod traces;

use std::{path::PathBuf, sync::Arc, time::Duration};

use cordon_audit::{export, prove};
use cordon_session::config::{CheckpointConfig, SinkConfig};
use thiserror::Error;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

pub use backfill::{Backfilled, backfill, backfill_manifest};
pub use status::{CheckpointStatus, SinkStatus, SinksStatus};
pub use traces::Traces;

use checkpoints::Shipper;
use runner::Runner;
use status::Shared;
use target::Target;

/// Where things lie.
#[derive(Clone, Debug)]
pub struct Places {
    /// The log's directory.
    pub log: PathBuf,
    /// Where cursors are kept; made when it is missing.
    pub state: PathBuf,
}

/// Why a sink cannot be served as it is configured.
#[derive(Debug, Error)]
#[error("sink `{name}` not started: {message}")]
pub struct SinkError {
    /// Which.
    pub name: String,
    /// What, why, and what to do.
    pub message: String,
}

/// The running sinks. They end with [`Sinks::stop`].
#[derive(Debug)]
pub struct Sinks {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// How the sinks do, for whoever has nothing to do with their end.
#[derive(Clone, Debug)]
pub struct SinksMonitor(Arc<Shared>);

/// How often the newest checkpoint is looked at; the log writes one a second at most.
const LOOK: Duration = Duration::from_millis(250);

impl Sinks {
    /// Reads secrets, certificates and cursors, then starts a task for each sink. A receiver that
    /// cannot be reached is no error: it gets everything once it can.
    ///
    /// # Errors
    /// [`SinkError`]: a file cannot be read, an address is none, a cursor is damaged.
    pub fn start(
        places: &Places,
        sinks: &[SinkConfig],
        checkpoints: &CheckpointConfig,
    ) -> Result<Self, SinkError> {
        let (stop, stopped) = watch::channel(false);
        let (covered, sizes) = watch::channel(0);
        let shared = Arc::new(Shared::default());
        let mut tasks = JoinSet::new();
        if !sinks.is_empty() || !checkpoints.is_empty() {
            cursor::make_directory(&places.state)
                .map_err(|error| SinkError::new("all", &error.to_string()))?;
            let mut runners = Vec::new();
            for config in sinks {
                let target = Target::new(config)?;
                let runner = Runner::new(places, config, target, Arc::clone(&shared))?;
                runners.push(runner);
            }
            let shipper = if checkpoints.is_empty() {
                None
            } else {
                Some(Shipper::new(
                    places,
                    checkpoints,
                    sinks,
                    Arc::clone(&shared),
                )?)
            };
            for runner in runners {
                tasks.spawn(runner.run(sizes.clone(), stopped.clone()));
            }
            if let Some(shipper) = shipper {
                tasks.spawn(shipper.run(sizes, stopped.clone()));
            }
            tasks.spawn(watch_checkpoint(places.log.clone(), covered, stopped));
        }
        Ok(Self {
            shared,
            stop,
            tasks,
        })
    }

    /// Tells how they do.
    pub fn monitor(&self) -> SinksMonitor {
        SinksMonitor(Arc::clone(&self.shared))
    }

    /// Ends them: what is under way is delivered or given up within `grace`; the cursors tell the
    /// next start where to go on.
    pub async fn stop(mut self, grace: Duration) {
        self.stop.send_replace(true);
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, ended).await.is_err() {
            self.tasks.shutdown().await;
        }
    }
}

impl SinksMonitor {
    /// How they do now.
    pub fn status(&self) -> SinksStatus {
        self.0.status()
    }
}

impl SinkError {
    pub(crate) fn new(name: &str, message: &str) -> Self {
        Self {
            name: name.into(),
            message: message.into(),
        }
    }
}

/// Tells how many records the newest checkpoint covers, whenever that changes.
async fn watch_checkpoint(
    log: PathBuf,
    covered: watch::Sender<u64>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
        let size = prove::checkpoint(&log)
            .ok()
            .and_then(|note| prove::checkpoint_size(&note));
        if let Some(size) = size {
            covered.send_if_modified(|seen| std::mem::replace(seen, size) != size);
        }
    }
}

/// What events say that they come from; asked for once there is a checkpoint.
fn source(log: &std::path::Path) -> Result<export::Source, String> {
    export::source_of(log).map_err(|error| error.to_string())
}
