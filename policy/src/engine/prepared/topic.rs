//! What two requests of one session must share to be one question to Cedar.
//!
//! An operation in, a key out: equal keys have the same action, resource and entities, and, but
//! for an HTTP request and the time, the same context. What is borrowed is looked for; what is
//! kept owns its text.

use std::{
    borrow::Cow,
    ffi::OsStr,
    mem::{Discriminant, discriminant},
    path::Path,
};

use crate::engine::target::http_action;
use crate::{Destination, GrantMode, GrantSource, Host, Operation, Seen, Transport};

/// A key among the questions of one session.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Topic<'a> {
    Path {
        operation: Discriminant<Operation>,
        /// Its bytes: a `Path` compares `/a/./b` equal to `/a/b`, and only one is canonical.
        path: Cow<'a, OsStr>,
        mode: GrantMode,
        source: Option<GrantSource>,
        /// Inside, where it is not the path's own.
        name: Option<Cow<'a, str>>,
    },
    Connect {
        destination: Cow<'a, Destination>,
        transport: Transport,
        seen: Cow<'a, Seen>,
    },
    /// What else it says comes from the client, has no end, and stays out of it.
    Http {
        action: &'static str,
        host: Cow<'a, Host>,
    },
    /// Everything else, by all that it says.
    Other(Cow<'a, Operation>),
}

impl<'a> Topic<'a> {
    pub(crate) fn of(operation: &'a Operation) -> Self {
        let by_path = |path: &'a Path, mode, source, name: Option<&'a str>| Self::Path {
            operation: discriminant(operation),
            path: Cow::Borrowed(path.as_os_str()),
            mode,
            source,
            name: name.map(Cow::Borrowed),
        };
        match operation {
            Operation::GrantFolder {
                path,
                mode,
                source,
                name,
            } => by_path(path, *mode, Some(*source), name.as_deref()),
            Operation::DeletePath { path, mode }
            | Operation::ReadPath { path, mode }
            | Operation::WritePath { path, mode } => by_path(path, *mode, None, None),
            Operation::Connect {
                destination,
                transport,
                seen,
            } => Self::Connect {
                destination: Cow::Borrowed(destination),
                transport: *transport,
                seen: Cow::Borrowed(seen),
            },
            Operation::HttpRequest {
                destination,
                method,
                facts,
                ..
            } => Self::Http {
                action: http_action(&method.0, facts),
                host: Cow::Borrowed(&destination.host),
            },
            Operation::StartSession { .. }
            | Operation::ExecInSession { .. }
            | Operation::PublishPort { .. }
            | Operation::ReachAddress { .. }
            | Operation::EnableConnector { .. }
            | Operation::UseScope { .. }
            | Operation::InstallExtension { .. }
            | Operation::LoadExtension { .. }
            | Operation::UsePermission { .. }
            | Operation::CallTool { .. }
            | Operation::EnableBrowser
            | Operation::OpenOrigin { .. }
            | Operation::ActInOrigin { .. }
            | Operation::Approve { .. }
            | Operation::PublishPolicy { .. }
            | Operation::ManageSession { .. }
            | Operation::ReadLog { .. } => Self::Other(Cow::Borrowed(operation)),
        }
    }

    /// Whether requests with this key have the same context, but for the time.
    pub(crate) fn fixes_context(&self) -> bool {
        !matches!(self, Self::Http { .. })
    }

    pub(crate) fn into_owned(self) -> Topic<'static> {
        match self {
            Self::Path {
                operation,
                path,
                mode,
                source,
                name,
            } => Topic::Path {
                operation,
                path: Cow::Owned(path.into_owned()),
                mode,
                source,
                name: name.map(|name| Cow::Owned(name.into_owned())),
            },
            Self::Connect {
                destination,
                transport,
                seen,
            } => Topic::Connect {
                destination: Cow::Owned(destination.into_owned()),
                transport,
                seen: Cow::Owned(seen.into_owned()),
            },
            Self::Http { action, host } => Topic::Http {
                action,
                host: Cow::Owned(host.into_owned()),
            },
            Self::Other(operation) => Topic::Other(Cow::Owned(operation.into_owned())),
        }
    }
}
