//! What the session did before, as Cedar values.

use cedar_policy::RestrictedExpression;

use super::{Context, Unaskable, facts::string, seen::boolean};
use crate::{DestinationPast, MAX_LENGTH, Operation, Past, SessionPast};

pub(super) fn add(
    context: &mut Context,
    operation: &Operation,
    past: &Past,
) -> Result<(), Unaskable> {
    if is_administration(operation) {
        return Ok(());
    }
    context.push(("session".into(), session(&past.session)?));
    if leads_somewhere(operation) {
        context.push(("destination".into(), destination(&past.destination)?));
    }
    Ok(())
}

/// Who does these acts for themselves, in no session.
fn is_administration(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::Approve { .. }
            | Operation::ManageSession { .. }
            | Operation::PublishPolicy { .. }
            | Operation::ReadLog { .. }
    )
}

fn leads_somewhere(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::Connect { .. }
            | Operation::HttpRequest { .. }
            | Operation::OpenOrigin { .. }
            | Operation::ActInOrigin { .. }
    )
}

fn session(past: &SessionPast) -> Result<RestrictedExpression, Unaskable> {
    let labels = past.labels.iter().map(|label| string(label));
    record(vec![
        ("labels".into(), RestrictedExpression::new_set(labels)),
        count("requests", past.requests),
        count("destinations", past.destinations),
        count("bytes_sent", past.bytes_sent),
        count("bytes_received", past.bytes_received),
        count("deletes", past.deletes),
        count("tool_calls", past.tool_calls),
    ])
}

fn destination(past: &DestinationPast) -> Result<RestrictedExpression, Unaskable> {
    record(vec![
        boolean("seen", past.seen),
        count("requests", past.requests),
        count("bytes_sent", past.bytes_sent),
        count("bytes_received", past.bytes_received),
    ])
}

fn record(fields: Context) -> Result<RestrictedExpression, Unaskable> {
    RestrictedExpression::new_record(fields).map_err(|error| Unaskable::Fact(error.to_string()))
}

/// Bounded far below where a rule's own arithmetic would overflow.
fn count(name: &str, count: u64) -> (String, RestrictedExpression) {
    let count = i64::try_from(count.min(MAX_LENGTH)).unwrap_or(i64::MAX);
    (name.to_owned(), RestrictedExpression::new_long(count))
}
