//! What of an operation concerns the network: where it leads to, and what was seen of it.

use crate::{Destination, Operation, Seen};

impl Operation {
    /// What was seen of its connection so far, to be filled in; `None` where it has none.
    pub fn seen_mut(&mut self) -> Option<&mut Seen> {
        match self {
            Self::Connect { seen, .. } => Some(seen),
            Self::HttpRequest { facts, .. } => Some(&mut facts.seen),
            Self::ReachAddress { .. }
            | Self::OpenOrigin { .. }
            | Self::ActInOrigin { .. }
            | Self::StartSession { .. }
            | Self::ExecInSession { .. }
            | Self::PublishPort { .. }
            | Self::GrantFolder { .. }
            | Self::DeletePath { .. }
            | Self::ReadPath { .. }
            | Self::WritePath { .. }
            | Self::EnableConnector { .. }
            | Self::UseScope { .. }
            | Self::InstallExtension { .. }
            | Self::LoadExtension { .. }
            | Self::UsePermission { .. }
            | Self::CallTool { .. }
            | Self::EnableBrowser
            | Self::Approve { .. }
            | Self::PublishPolicy { .. }
            | Self::ManageSession { .. }
            | Self::ReadLog { .. } => None,
        }
    }

    /// Where it leads to, where it leads to a network destination at all.
    pub fn destination(&self) -> Option<&Destination> {
        match self {
            Self::Connect { destination, .. }
            | Self::HttpRequest { destination, .. }
            | Self::ReachAddress { destination, .. } => Some(destination),
            Self::OpenOrigin { origin } | Self::ActInOrigin { origin, .. } => {
                Some(&origin.destination)
            }
            Self::StartSession { .. }
            | Self::ExecInSession { .. }
            | Self::PublishPort { .. }
            | Self::GrantFolder { .. }
            | Self::DeletePath { .. }
            | Self::ReadPath { .. }
            | Self::WritePath { .. }
            | Self::EnableConnector { .. }
            | Self::UseScope { .. }
            | Self::InstallExtension { .. }
            | Self::LoadExtension { .. }
            | Self::UsePermission { .. }
            | Self::CallTool { .. }
            | Self::EnableBrowser
            | Self::Approve { .. }
            | Self::PublishPolicy { .. }
            | Self::ManageSession { .. }
            | Self::ReadLog { .. } => None,
        }
    }
}
