//! A session's approvals as its records tell them: what a daemon that was killed knew.
//!
//! Records of one session in, approvals out. The log is the only place where they are kept; what
//! it does not hold in full is let go, which refuses (P04).

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use cordon_audit::{ApprovalStep, Effect, Kind, Record, past, record};
use cordon_policy::SessionFacts;

use super::state::{Approval, Given, REFUSED_FOR, State};

/// What `records` of `session`, in their order, say.
pub fn approvals(session: &Arc<SessionFacts>, records: &[Record]) -> Vec<Approval> {
    let mut known: BTreeMap<String, Approval> = BTreeMap::new();
    for record in records {
        let Some(said) = &record.approval else {
            continue;
        };
        let id = said.reference.as_str();
        match record.kind {
            Kind::Approval => {
                let step = record.state.as_deref().and_then(step);
                if step == Some(ApprovalStep::Requested)
                    && let Some(approval) = requested(session, record, said)
                {
                    known.insert(id.into(), approval);
                } else if let (Some(step), Some(approval)) = (step, known.get_mut(id)) {
                    // More may have come to be wanted meanwhile.
                    let wanted = said.needs.and_then(|needs| usize::try_from(needs).ok());
                    approval.needs = approval.needs.max(wanted.unwrap_or(1));
                    approval.state = after(approval, step, said, time(record));
                }
            }
            // The record of a decision is the record of the use.
            Kind::Decision if record.effect == Some(Effect::Allow) => {
                if let Some(State::Given(given)) = known.get_mut(id).map(|known| &mut known.state) {
                    given.used = given.used.saturating_add(1);
                }
            }
            _other => {}
        }
    }
    known.into_values().collect()
}

fn requested(
    session: &Arc<SessionFacts>,
    record: &Record,
    said: &record::Approval,
) -> Option<Approval> {
    let operation = past::operation(record).ok()?;
    let asked = time(record);
    let digest = operation.approval_digest(&session.id);
    // A record that tells another request than was asked about approves nothing.
    (digest == said.digest).then(|| Approval {
        id: said.reference.as_str().into(),
        session: Arc::clone(session),
        digest: digest.into(),
        operation,
        needs: said
            .needs
            .and_then(|needs| usize::try_from(needs).ok())
            .unwrap_or(1),
        asked,
        deadline: asked + Duration::from_secs(said.ttl_s.unwrap_or(0)),
        shown: None,
        state: State::Pending(None),
    })
}

fn after(
    approval: &Approval,
    step: ApprovalStep,
    said: &record::Approval,
    at: SystemTime,
) -> State {
    match step {
        ApprovalStep::Requested => approval.state.clone(),
        ApprovalStep::Seconded => State::Pending(Some(given(said, at))),
        ApprovalStep::Granted => State::Given(given(said, at)),
        ApprovalStep::Refused => State::Refused {
            by: said.by.first().map_or("", String::as_str).into(),
            until: at + REFUSED_FOR,
        },
        ApprovalStep::Expired => match &approval.state {
            State::Given(given) => State::Expired(Some(given.clone())),
            _ => State::Expired(None),
        },
        ApprovalStep::Withdrawn => State::Withdrawn,
    }
}

fn given(said: &record::Approval, at: SystemTime) -> Given {
    let given_at = said
        .at_us
        .map_or(at, |us| SystemTime::UNIX_EPOCH + Duration::from_micros(us));
    Given {
        by: said.by.iter().map(|by| by.as_str().into()).collect(),
        at: given_at,
        uses: said
            .uses
            .map(|uses| u32::try_from(uses).unwrap_or(u32::MAX)),
        used: 0,
        until: said.ttl_s.map(|ttl| given_at + Duration::from_secs(ttl)),
    }
}

fn time(record: &Record) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(record.ts_us)
}

fn step(word: &str) -> Option<ApprovalStep> {
    use ApprovalStep::{Expired, Granted, Refused, Requested, Seconded, Withdrawn};
    [Requested, Seconded, Granted, Refused, Expired, Withdrawn]
        .into_iter()
        .find(|step| step.as_str() == word)
}
