//! Tells people that they are asked: a program, or an address that is posted to.
//!
//! One notice for each new request, a few at a time, each with a deadline. What is in it is what
//! `cordon approve show` shows: no secret and no content. A notice that fails is a message; the
//! request waits all the same.

use std::{collections::HashSet, process::Stdio, sync::Arc};

use cordon_session::{
    approvals::{Approval, State},
    config::ApprovalsConfig,
};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
    sync::Semaphore,
};
use tracing::warn;

use crate::{
    daemon::{Daemon, api::approval_view},
    policy_sources::HttpClient,
};

/// Sends notices.
pub struct Notices {
    told: HashSet<Arc<str>>,
    ways: Arc<Ways>,
    room: Arc<Semaphore>,
}

struct Ways {
    config: ApprovalsConfig,
    http: Option<HttpClient>,
}

/// Notices on their way at a time.
const AT_ONCE: usize = 4;

/// Most of an answer to a notice that is read, in bytes.
const ANSWER_BYTES: usize = 64 * 1024;

impl Notices {
    /// By the daemon's configuration.
    pub fn new(daemon: &Daemon) -> Self {
        let config = daemon.approvals_config.clone();
        let http = config.url.is_some().then(|| {
            let client = HttpClient::new(daemon.extra_ca.as_deref());
            client.inspect_err(|error| warn!(%error, "approvals are not posted"))
        });
        Self {
            told: HashSet::new(),
            ways: Arc::new(Ways {
                config,
                http: http.and_then(Result::ok),
            }),
            room: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Tells of those that wait and have not been told of.
    pub fn tell(&mut self, all: &[Approval]) {
        let waiting = |approval: &&Approval| matches!(approval.state, State::Pending(_));
        let pending: Vec<&Approval> = all.iter().filter(waiting).collect();
        self.told
            .retain(|told| pending.iter().any(|approval| approval.id == *told));
        for approval in pending {
            if !self.told.insert(Arc::clone(&approval.id)) {
                continue;
            }
            let (ways, room) = (Arc::clone(&self.ways), Arc::clone(&self.room));
            let notice = approval_view(approval).for_others();
            let notice = serde_json::to_value(notice).unwrap_or_default();
            tokio::spawn(async move {
                let _place = room.acquire().await;
                ways.tell(&notice).await;
            });
        }
    }
}

impl Ways {
    async fn tell(&self, notice: &Value) {
        let limit = self.config.notify();
        if !self.config.command.is_empty() {
            match tokio::time::timeout(limit, self.run(notice)).await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => warn!(%why, "the command of `[approvals]` failed"),
                Err(_late) => warn!("the command of `[approvals]` was not done in time"),
            }
        }
        if let (Some(url), Some(http)) = (&self.config.url, &self.http) {
            let body = notice.to_string().into_bytes();
            match tokio::time::timeout(limit, http.post(url, body, ANSWER_BYTES)).await {
                Ok(Ok(reply)) if reply.status.is_success() => {}
                Ok(Ok(reply)) => warn!(status = %reply.status, "an approval was not posted"),
                Ok(Err(error)) => warn!(%error, "an approval was not posted"),
                Err(_late) => warn!("an approval was not posted in time"),
            }
        }
    }

    /// With nothing of the daemon's environment but where programs and the user's things are.
    async fn run(&self, notice: &Value) -> Result<(), String> {
        let (program, arguments) = self.config.command.split_first().ok_or("no command")?;
        let kept = [
            "PATH",
            "HOME",
            "DISPLAY",
            "WAYLAND_DISPLAY",
            "XDG_RUNTIME_DIR",
        ];
        let kept = kept.into_iter().chain(["DBUS_SESSION_BUS_ADDRESS"]);
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(kept.filter_map(|name| Some((name, std::env::var_os(name)?))))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .process_group(0)
            .spawn()
            .map_err(|error| format!("`{program}`: {error}"))?;
        let mut group = Group::of(&child);
        if let Some(mut input) = child.stdin.take() {
            // A program that does not read it is told by its arguments alone.
            let _unread = input.write_all(notice.to_string().as_bytes()).await;
        }
        let status = child.wait().await.map_err(|error| error.to_string())?;
        group.done();
        if status.success() {
            Ok(())
        } else {
            Err(format!("`{program}`: {status}"))
        }
    }
}

/// A command with its children; all are ended when it is given up.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        Self(pid.and_then(Pid::from_raw))
    }

    /// It ended by itself: what it left running is its own.
    fn done(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Its first process is not reaped yet, so the number is still its own.
            let _gone = kill_process_group(group, Signal::KILL);
        }
    }
}
