//! Who inside a session made a connection.
//!
//! Both ends of a connection in, [`ProcessFacts`] out: the kernel of the session's network
//! namespace names the socket, the session's own `/proc` the processes that have it open. Costs
//! some 10 µs and a µs for each descriptor that the session's processes have open. Never changes
//! anything, and decides nothing.
//!
//! It tells programs apart that mean well. A hostile one can have its words said by another
//! (`LD_PRELOAD`, an interpreter), and a thread with descriptors of its own is not seen.

mod diag;
mod digest;
mod table;
#[cfg(test)]
mod testing;

use std::{
    ffi::CString,
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use cordon_policy::{Holder, ProcessFacts};
use rustix::process::Pid;

pub use digest::Digests;
use digest::Running;
use table::{FIRST, Holds, Process, Table};

/// The processes of one session, to be asked.
#[derive(Debug)]
pub struct Callers {
    diagnostics: Mutex<OwnedFd>,
    table: OnceLock<Table>,
    digests: Arc<Digests>,
}

impl Callers {
    /// With the session's [`Listeners::diagnostics`](crate::network::Listeners::diagnostics).
    pub fn new(diagnostics: OwnedFd, digests: Arc<Digests>) -> Self {
        Self {
            diagnostics: Mutex::new(diagnostics),
            table: OnceLock::new(),
            digests,
        }
    }

    /// Reaches the session's processes through the first of them. Until then none is found.
    ///
    /// # Errors
    /// When it is gone, or is not this user's.
    pub fn reach(&self, first: Pid) -> io::Result<()> {
        let table = Table::open(first)?;
        // A session has one first process.
        let _reached_before = self.table.set(table);
        Ok(())
    }

    /// Who has the socket open that is bound to `from` and connected to `to`. With
    /// `work_out_digests` every program's digest is there that can be, else those that are known.
    /// `None` when the connection is gone or the session cannot be looked into.
    pub fn find(
        &self,
        from: SocketAddr,
        to: SocketAddr,
        work_out_digests: bool,
    ) -> Option<ProcessFacts> {
        let table = self.table.get()?;
        // One at a time: each question has its answer.
        let diagnostics = self
            .diagnostics
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let inode = diag::inode(&diagnostics, from, to).ok()??;
        drop(diagnostics);
        let socket = CString::new(format!("socket:[{inode}]")).ok()?;
        let mut facts = ProcessFacts {
            holders: Vec::new(),
            complete: true,
        };
        let Some(pids) = table.processes().ok()? else {
            facts.complete = false;
            return Some(facts);
        };
        let mut left = MOST_DESCRIPTORS;
        for pid in pids {
            let Some(process) = table.process(pid) else {
                continue;
            };
            match process.holds(&socket, &mut left) {
                Holds::No => {}
                Holds::Unknown => facts.complete = false,
                Holds::Yes if facts.holders.len() == MOST_HOLDERS => facts.complete = false,
                Holds::Yes => match self.holder(table, process, work_out_digests) {
                    Some(holder) => facts.holders.push(holder),
                    None => facts.complete = false,
                },
            }
        }
        Some(facts)
    }

    fn holder(&self, table: &Table, process: Process, work_out: bool) -> Option<Holder> {
        let executable = process.executable()?;
        let (pid, stat) = (process.pid, process.stat()?);
        let running = Running::of(process);
        let digest = match work_out {
            true => running.and_then(|running| self.digests.worked_out(&running)),
            false => running.and_then(|running| self.digests.of(&running)),
        };
        Some(Holder {
            pid,
            start_us: stat.start_us,
            executable,
            digest,
            ancestors: ancestors(table, stat.parent),
        })
    }
}

/// Up to the session's first process. What was started by a process that has ended since is that
/// one's child now.
fn ancestors(table: &Table, mut parent: u32) -> Vec<String> {
    let mut found = Vec::new();
    while parent > FIRST && found.len() < MOST_ANCESTORS {
        let Some(process) = table.process(parent) else {
            break;
        };
        let (Some(executable), Some(stat)) = (process.executable(), process.stat()) else {
            break;
        };
        found.push(executable);
        parent = stat.parent;
    }
    found
}

/// Descriptors of all processes together that are looked at for one connection.
const MOST_DESCRIPTORS: usize = 65_536;

/// Processes that are told to hold one connection.
const MOST_HOLDERS: usize = 8;

/// Parents that are told of a process.
const MOST_ANCESTORS: usize = 16;
