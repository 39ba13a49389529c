//! The processes of a session, as its proxy asks for them.

use std::{net::SocketAddr, sync::Arc};

use cordon_policy::ProcessFacts;
use cordon_proxy::Processes;
use cordon_sandbox::callers::Callers;

/// Asks the kernel.
#[derive(Debug)]
pub struct Asked(pub Arc<Callers>);

impl Processes for Asked {
    fn find(
        &self,
        from: SocketAddr,
        to: SocketAddr,
        work_out_digests: bool,
    ) -> Option<ProcessFacts> {
        self.0.find(from, to, work_out_digests)
    }
}
