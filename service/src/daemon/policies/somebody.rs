//! Somebody who acts on sessions from outside: opens, changes or reads them, answers what they ask.
//!
//! A name and groups in; the request of an act for policy to decide out.

use std::{sync::Arc, time::SystemTime};

use cordon_policy::{Backend, Operation, Request, SessionFacts};

use super::Policies;

/// Somebody who acts for themselves, not in the name of a session.
#[derive(Clone, Debug, Default)]
pub struct Somebody {
    /// Login name, or the name that the configuration gives to a token or certificate.
    pub user: String,
    /// Groups that policy may name.
    pub groups: Vec<String>,
}

impl Somebody {
    /// A request that they make for themselves.
    pub(super) fn asks(&self, operation: Operation) -> Request {
        Request {
            session: Arc::new(SessionFacts {
                id: "administration".into(),
                user: self.user.clone(),
                groups: self.groups.clone(),
                agent: None,
                platform: std::env::consts::OS.into(),
                backend: Backend::None,
            }),
            operation,
            at: SystemTime::now(),
        }
    }
}

impl Policies {
    /// Somebody who is this daemon's own user.
    pub fn own_user(&self) -> Somebody {
        Somebody {
            user: self.user.name.clone(),
            groups: self.user.groups.clone(),
        }
    }
}
