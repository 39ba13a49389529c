//! Which process asked, straight as text: what [`Process`](crate::record::Process) says.

use cordon_policy::ProcessFacts;

use super::{
    super::json::{Json, key},
    MAX_INT,
};

/// The first holder, with the others beside it; nothing where none was found.
pub(super) fn write(json: &mut Json<'_>, facts: &ProcessFacts) {
    let Some((first, others)) = facts.holders.split_first() else {
        return;
    };
    json.raw("\"process\":{");
    if !first.ancestors.is_empty() {
        json.list(key!("ancestors"), first.ancestors.iter());
    }
    json.text(key!("exe"), &first.executable);
    json.text_if_any(key!("exe_sha256"), first.digest.as_deref());
    json.number(key!("pid"), first.pid.into());
    if !others.is_empty() {
        json.list(
            key!("shared"),
            others.iter().map(|holder| &*holder.executable),
        );
    }
    json.number(key!("start_us"), first.start_us.min(MAX_INT));
    if !facts.complete {
        json.truth(key!("uncertain"), true);
    }
    json.close();
}
