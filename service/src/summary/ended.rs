//! What the record of a session's end says of its use and its files, for the summary.

use std::path::PathBuf;

use cordon_audit::record::{self, ChangeTotals, Totals};
use cordon_sandbox::limits::Used;

use crate::control::GrantChanges;

pub(super) fn used(used: &record::Used) -> Used {
    Used {
        cpu_us: used.cpu_us,
        memory_bytes: used.memory_bytes,
        processes: used.processes,
        read_bytes: used.read_bytes,
        written_bytes: used.written_bytes,
    }
}

/// One line for each grant. Where it was mounted, and which files were deleted first, the record
/// of the end does not tell.
pub(super) fn changes(totals: &Totals) -> Vec<GrantChanges> {
    let lines = totals.changes.iter().flatten();
    lines.map(line).collect()
}

fn line(of: &ChangeTotals) -> GrantChanges {
    GrantChanges {
        path: of.path.clone().into(),
        inside: PathBuf::new(),
        created: of.created,
        created_bytes: of.created_bytes,
        changed: of.changed,
        changed_bytes: of.changed_bytes,
        changed_bytes_before: of.changed_bytes_before,
        deleted: of.deleted,
        deleted_bytes: of.deleted_bytes,
        replaced: of.replaced,
        replaced_bytes: of.replaced_bytes,
        moved: of.moved,
        first_deleted: Vec::new(),
    }
}
