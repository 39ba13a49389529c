//! While the command runs: the daemon is watched, and what the guard refuses is reported to it.

use std::{
    ffi::OsString,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use cordon_sandbox::{
    adapter::Steering,
    guard::{Call, Refusal, Ruling, SessionStart, Supervisor, Why},
    launch::{Further, Happened, RunHooks},
    limits::Used,
};
use rustix::net::{RecvFlags, recv};

use super::live::LiveGrants;
use crate::{
    control::{
        Answer, Ask, CarriedResult, Client, ClientError, GrantChanges, LaunchOrder, OrderStream,
    },
    error::Failure,
};

/// The connection to the daemon, which the guard's thread uses too while the command runs.
#[derive(Clone, Debug)]
pub struct SharedClient(Arc<Mutex<Client>>);

/// Watches one run.
#[derive(Debug)]
pub struct Watch {
    client: SharedClient,
    daemon: OwnedFd,
    orders: OrderStream,
    grants: LiveGrants,
    start: SessionStart,
    guards: Vec<JoinHandle<()>>,
    used: Option<Used>,
}

/// What was counted of a session, as far as somebody did.
#[derive(Debug, Default)]
pub struct Counted {
    /// What its processes used.
    pub used: Option<Used>,
    /// What it did to the files of its grants.
    pub changes: Option<Vec<GrantChanges>>,
}

impl SharedClient {
    /// Shares a connection.
    pub fn new(client: Client) -> Self {
        Self(Arc::new(Mutex::new(client)))
    }

    /// Says one thing and waits for its answer.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn ask(&self, ask: &Ask) -> Result<Answer, ClientError> {
        self.ask_with(ask, &[])
    }

    /// As [`SharedClient::ask`], with descriptors beside it.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn ask_with(&self, ask: &Ask, fds: &[BorrowedFd<'_>]) -> Result<Answer, ClientError> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .ask_with(ask, fds)
    }

    fn descriptor(&self) -> std::io::Result<OwnedFd> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_fd()
            .try_clone_to_owned()
    }
}

impl Watch {
    /// Of a session with these grants. Files made from `start` on are the session's own.
    ///
    /// # Errors
    /// When no further descriptor can be had.
    pub fn new(
        client: &SharedClient,
        orders: OrderStream,
        grants: LiveGrants,
        start: SessionStart,
    ) -> Result<Self, Failure> {
        Ok(Self {
            client: client.clone(),
            daemon: client.descriptor()?,
            orders,
            grants,
            start,
            guards: Vec::new(),
            used: None,
        })
    }

    /// After the run: waits until the guard's last report is recorded. What was used and changed.
    pub fn finish(self) -> Counted {
        for guard in self.guards {
            let _panicked = guard.join();
        }
        Counted {
            used: self.used,
            changes: Some(self.grants.changes()),
        }
    }
}

impl RunHooks for Watch {
    fn supervise(&mut self, listener: OwnedFd) -> Result<(), String> {
        let client = self.client.clone();
        let report = move |refusal: &Refusal| report(&client, refusal);
        let client = self.client.clone();
        let deleted = move |paths| {
            if let Err(error) = client.ask(&Ask::Deleted { paths }) {
                eprintln!("cordon: what was deleted in a granted folder was not recorded: {error}");
            }
        };
        let grants = self.grants.guarded().to_vec();
        let mut supervisor =
            Supervisor::new(grants, self.start, listener, self.grants.books(), report)
                .map_err(|error| error.to_string())?
                .acting_as(self.grants.owners())
                .telling_of_deleted(deleted);
        self.grants.add_guard(supervisor.take_control());
        let run = move || {
            if let Err(error) = supervisor.run() {
                // Its listener is closed with it: whatever would be removed fails from now on.
                eprintln!("cordon: {error}; nothing can be removed or renamed any more");
            }
        };
        let guard = thread::Builder::new().name("guard".into()).spawn(run);
        // One for the command, one for each further command.
        self.guards.retain(|guard| !guard.is_finished());
        self.guards.push(guard.map_err(|error| error.to_string())?);
        Ok(())
    }

    fn watched(&self) -> Option<BorrowedFd<'_>> {
        Some(self.daemon.as_fd())
    }

    /// Readable is either an answer for the guard's thread, or the end.
    fn on_watched(&mut self) -> Result<(), String> {
        let mut byte = [0; 1];
        match recv(
            &self.daemon,
            &mut byte,
            RecvFlags::PEEK | RecvFlags::DONTWAIT,
        ) {
            Ok((0, _)) => Err("the daemon went away, and nothing runs unrecorded".into()),
            Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(format!("the daemon cannot be reached: {error}")),
        }
    }

    fn orders(&self) -> Option<BorrowedFd<'_>> {
        Some(self.orders.as_fd())
    }

    fn on_orders(&mut self, sandbox: &mut dyn Steering) -> Result<(), String> {
        let gone = |error| format!("the daemon went away, and nothing runs unrecorded: {error}");
        self.orders.fill().map_err(gone)?;
        while let Some((ordered, descriptors)) = self.orders.next().map_err(gone)? {
            let grants = &mut self.grants;
            let result = match ordered.order {
                LaunchOrder::Mount { grant } => Some(grants.mount(&grant)),
                LaunchOrder::Changes => Some(CarriedResult::Changes {
                    grants: grants.changes(),
                }),
                LaunchOrder::Unmount { grant, kill } => Some(grants.unmount(&grant, kill)),
                LaunchOrder::Remount { grant, mode, kill } => {
                    Some(grants.remount(&grant, mode, kill))
                }
                order => carry_out(ordered.id, order, descriptors, sandbox),
            };
            if let Some(result) = result {
                self.orders.carried(ordered.id, result, &[]).map_err(gone)?;
            }
            if self.grants.is_unguarded() {
                return Err(
                    "the guard of its files does not answer, so the session is ended".into(),
                );
            }
        }
        Ok(())
    }

    fn used(&mut self, most: Used) {
        self.used = Some(most);
    }

    fn happened(&mut self, number: u64, what: Happened) -> Result<(), String> {
        let mut terminal = None;
        let result = match what {
            Happened::Paused | Happened::Resumed => CarriedResult::Done,
            Happened::Began(other_end) => {
                terminal = other_end;
                CarriedResult::Began
            }
            Happened::Ended(outcome) => CarriedResult::Ended {
                code: outcome.code(),
            },
            Happened::Sampled(used) => CarriedResult::Sampled(used),
            Happened::Refused(why) => CarriedResult::Failed { why },
        };
        let beside: Vec<_> = terminal.iter().map(AsFd::as_fd).collect();
        self.orders
            .carried(number, result, &beside)
            .map_err(|error| format!("the daemon went away, and nothing runs unrecorded: {error}"))
    }
}

/// Does what the daemon decided and recorded. `None` where what came of it is told later.
fn carry_out(
    number: u64,
    order: LaunchOrder,
    descriptors: Vec<OwnedFd>,
    sandbox: &mut dyn Steering,
) -> Option<CarriedResult> {
    match order {
        LaunchOrder::Ping => Some(CarriedResult::Done),
        LaunchOrder::End { now } => {
            sandbox.end(now);
            Some(CarriedResult::Done)
        }
        LaunchOrder::Sample => {
            sandbox.sample(number);
            None
        }
        LaunchOrder::Pause => {
            sandbox.pause(number);
            None
        }
        LaunchOrder::Resume => {
            sandbox.resume(number);
            None
        }
        LaunchOrder::Mount { .. }
        | LaunchOrder::Unmount { .. }
        | LaunchOrder::Remount { .. }
        | LaunchOrder::Changes => Some(CarriedResult::Failed {
            why: "grants are changed elsewhere".into(),
        }),
        LaunchOrder::Exec {
            arguments,
            terminal,
        } => {
            let further = Further {
                arguments: arguments.into_iter().map(OsString::from_vec).collect(),
                terminal,
                streams: descriptors,
            };
            let started = sandbox.exec(number, &further);
            started.err().map(|error| CarriedResult::Failed {
                why: error.to_string(),
            })
        }
    }
}

/// The refusal has happened; if it cannot be recorded, the connection is gone and the session
/// with it.
fn report(client: &SharedClient, refusal: &Refusal) -> Ruling {
    let path = refusal
        .host
        .clone()
        .unwrap_or_else(|| refusal.inside.clone());
    let why = refusal.why.to_string();
    let ask = match refusal.why {
        _ if [Call::Connect, Call::Bind].contains(&refusal.call) => {
            Ask::RefusedSocket { path, why }
        }
        Why::Protected(_) => Ask::ProtectedWrite { path, why },
        Why::NotKept => {
            let removes = [Call::Unlink, Call::Rmdir, Call::Rename].contains(&refusal.call);
            let written = !removes;
            Ask::NotKept { path, written, why }
        }
        Why::WasThere | Why::WouldReplace | Why::NamesStay | Why::Outside | Why::Blind => {
            Ask::RefusedDelete { path, why }
        }
    };
    match client.ask(&ask) {
        Ok(Answer::Permitted) if matches!(refusal.why, Why::Protected(_)) => Ruling::Permitted,
        Ok(_noted) => Ruling::Refused,
        Err(error) => {
            eprintln!("cordon: a refusal of the guard's was not recorded: {error}");
            Ruling::Refused
        }
    }
}
