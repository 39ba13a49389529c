//! Fills a record with a step of an approval, and a decision's record with the one it rests on.

use std::time::SystemTime;

use cordon_policy::{ApprovalRef, Request};

use super::{MAX_INT, fill::fill_request, int};
use crate::{
    ApprovalEvent, Record,
    record::{Approval, Kind},
};

pub(super) fn fill_approval(record: &mut Record, event: &ApprovalEvent) {
    let request = Request {
        session: event.session.clone(),
        operation: event.operation.clone(),
        at: event.at,
    };
    fill_request(record, &request);
    record.kind = Kind::Approval;
    record.state = Some(event.step.as_str().into());
    record.message.clone_from(&event.why);
    let mut approval = event.approval.clone();
    for number in [&mut approval.needs, &mut approval.ttl_s, &mut approval.uses] {
        *number = number.map(|number| number.min(MAX_INT));
    }
    record.approval = Some(approval);
}

/// What a decision says about its approval.
pub(super) fn approval_of(approval: &ApprovalRef) -> Approval {
    let given = approval.given.as_ref();
    Approval {
        at_us: given.map(|given| {
            let since = given.at.duration_since(SystemTime::UNIX_EPOCH);
            int(since.unwrap_or_default().as_micros())
        }),
        by: given.map_or_else(Vec::new, |given| {
            given.by.iter().map(ToString::to_string).collect()
        }),
        digest: approval.digest.to_string(),
        reference: approval.id.to_string(),
        scope: given.map(|given| given.scope.as_str().into()),
        ..Approval::default()
    }
}
