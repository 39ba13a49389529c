//! The summary of a session that ends, from what was counted while it ran.

use std::path::PathBuf;

use cordon_policy::{Asked, Operation};
use cordon_session::tally::{Line, Lines};

use super::{AllowedLine, DeniedLine, GrantLine, Summary, asked};

impl Summary {
    /// Of the counts of a session. What they do not know (command, policy, time) is left empty.
    pub fn counted(session: &str, lines: &Lines) -> Self {
        let mut summary = Self {
            session: session.into(),
            bytes_in: lines.bytes_in,
            bytes_out: lines.bytes_out,
            records: usize::try_from(lines.records).unwrap_or(usize::MAX),
            more: lines.more.allow + lines.more.ask + lines.more.deny + lines.more.error,
            ..Self::default()
        };
        for line in &lines.lines {
            summary.add(line);
        }
        // As in a summary made from records.
        summary
            .allowed
            .sort_by(|a, b| (&a.what, &a.rule).cmp(&(&b.what, &b.rule)));
        summary
            .denied
            .sort_by(|a, b| (&a.what, &a.rule).cmp(&(&b.what, &b.rule)));
        summary
    }

    fn add(&mut self, line: &Line) {
        let what = match &*line.asked {
            Asked::Request(request) => request.operation.to_string(),
            Asked::Raw(raw) => asked::malformed(raw.door, &raw.text),
        };
        if let Some(reason) = line.refused {
            self.denied.push(DeniedLine {
                what,
                count: line.count,
                reason: reason.code().into(),
                rule: line.why.clone(),
                observed: line.observed,
                allow_with: match &*line.asked {
                    Asked::Request(request) => asked::allow_with(request, reason),
                    Asked::Raw(_) => None,
                },
            });
            return;
        }
        match &*line.asked {
            Asked::Request(request) => match &request.operation {
                Operation::StartSession { .. } => {}
                Operation::GrantFolder {
                    path, mode, source, ..
                } => {
                    let grant = GrantLine {
                        path: path.clone(),
                        inside: PathBuf::new(),
                        mode: mode.to_string(),
                        source: asked::word(source),
                        rule: line.rule.clone(),
                        copied_up_to: None,
                    };
                    // One line each: the same folder can be granted at two places.
                    let times = usize::try_from(line.count).unwrap_or(usize::MAX);
                    self.grants
                        .extend(std::iter::repeat_n(grant, times.min(MAX_GRANTS)));
                }
                _other => self.allowed.push(AllowedLine {
                    what,
                    count: line.count,
                    unreached: line.unreached,
                    rule: line.rule.clone(),
                }),
            },
            Asked::Raw(_) => {}
        }
    }
}

/// Grants of one folder that are listed.
const MAX_GRANTS: usize = 64;
