//! Further commands of a running session: started on an order, under the same walls, ended with
//! the session at the latest.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::process::{Pid, WaitStatus};

use super::{
    TerminalPair, check,
    command::{self, Stdio},
    spec::{FurtherSpec, Slot, Spec},
};
use crate::channel::{Channel, Report};

/// Those that run, by the number of the order that started each.
#[derive(Debug, Default)]
pub(super) struct Further {
    running: HashMap<Pid, u64>,
}

impl Further {
    /// Starts one and reports it; a failure of its own is reported too.
    ///
    /// # Errors
    /// When the launcher cannot be told.
    pub(super) fn start(
        &mut self,
        channel: &Channel,
        spec: &Spec,
        order: u64,
        descriptors: Vec<OwnedFd>,
    ) -> io::Result<()> {
        match self.try_start(spec, order, descriptors) {
            Ok(controller) => {
                let controller = controller.as_ref().map(AsFd::as_fd);
                channel.report(&Report::Began(order), controller)
            }
            Err(error) => channel.report(&Report::Refused(order, error.to_string()), None),
        }
    }

    /// Reports the end of one, if it was one.
    ///
    /// # Errors
    /// When the launcher cannot be told.
    pub(super) fn ended(
        &mut self,
        channel: &Channel,
        pid: Pid,
        status: WaitStatus,
    ) -> io::Result<()> {
        if status.stopped() {
            return Ok(());
        }
        let Some(order) = self.running.remove(&pid) else {
            return Ok(());
        };
        let report = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Report::Finished(order, code),
            (None, signal) => Report::Killed(order, signal.unwrap_or_default()),
        };
        channel.report(&report, None)
    }

    fn try_start(
        &mut self,
        spec: &Spec,
        order: u64,
        descriptors: Vec<OwnedFd>,
    ) -> io::Result<Option<OwnedFd>> {
        if self.running.len() >= MOST {
            return Err(io::Error::other("too many further commands run already"));
        }
        let mut descriptors = descriptors.into_iter();
        let missing = || io::Error::other("the order lacks its descriptor");
        let further = FurtherSpec::read(descriptors.next().ok_or_else(missing)?)?;
        let mut streams = [None, None, None];
        for (stream, slot) in streams.iter_mut().zip(further.stdio) {
            if let Slot::Descriptor(_) = slot {
                *stream = Some(descriptors.next().ok_or_else(missing)?);
            }
        }
        check::files_can_be_confined(&streams)?;
        let terminal = match further.stdio.contains(&Slot::Terminal) {
            true => Some(TerminalPair::open()?),
            false => None,
        };
        let (controller, session_end) = terminal.map_or((None, None), |pair| {
            (Some(pair.controller), Some(pair.session_end))
        });
        let stdio = Stdio::new(streams, session_end, further.stdio)?;
        let spec = Spec {
            arguments: further.arguments,
            ..spec.clone()
        };
        let pid = command::start_further(&spec, stdio)?;
        self.running.insert(pid, order);
        Ok(controller)
    }
}

/// How many may run at a time.
const MOST: usize = 64;
