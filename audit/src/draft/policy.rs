//! Fills a record with what happened to policy itself.

use super::fill::{fill_session, resource};
use crate::{
    PolicyChange, PolicyEvent, Record,
    record::{Kind, Policy, Principal},
};

pub(super) fn fill_policy(record: &mut Record, event: &PolicyEvent) {
    record.kind = kind_of(event.change);
    if let Some(session) = &event.session {
        fill_session(record, session);
    }
    if let Some(user) = &event.by {
        record.principal = Some(Principal {
            id: user.clone(),
            kind: "user".into(),
        });
    }
    if let Some(bundle) = &event.bundle {
        record.resource = Some(resource("bundle", bundle.name.clone()));
        record.layers = vec![bundle.layer.as_str().into()];
        record.policy = Some(Policy {
            revision: Some(bundle.revision),
            set: bundle.name.clone(),
            sha256: bundle.digest.clone(),
            source: event.source.clone(),
        });
    } else if let Some(source) = &event.source {
        record.resource = Some(resource("bundle", source.clone()));
    }
    record.message.clone_from(&event.why);
}

fn kind_of(change: PolicyChange) -> Kind {
    match change {
        PolicyChange::Load => Kind::PolicyLoad,
        PolicyChange::Refused => Kind::PolicyRefused,
        PolicyChange::Pending => Kind::PolicyPending,
        PolicyChange::Try => Kind::PolicyTry,
        PolicyChange::Rollout => Kind::PolicyRollout,
        PolicyChange::Promote => Kind::PolicyPromote,
        PolicyChange::Rollback => Kind::PolicyRollback,
    }
}
