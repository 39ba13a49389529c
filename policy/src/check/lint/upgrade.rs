//! Rules that speak of upgrades and are not about `http_upgrade`.
//!
//! Until that was an action of its own, an upgrade was the `http_read` it began as: such rules
//! still load, and no longer mean it.

use cedar_policy::Effect;

use super::rule::Linted;
use crate::check::{Code, Findings, Severity};

const UPGRADE: &str = "http_upgrade";

pub(super) fn lint(rule: &Linted<'_>, findings: &mut Findings) {
    if rule.actions.contains(UPGRADE) {
        return;
    }
    if rule.looks_at("context", "upgrade") {
        findings.note(|| {
            let message =
                "`context.upgrade` is there for `http_upgrade` alone, which the rule is not about"
                    .into();
            rule.finding_in(Code::UpgradeApart, Severity::Warning, "upgrade", message)
                .with_help("name `Action::\"http_upgrade\"` in its scope")
        });
    } else if rule.effect == Effect::Forbid && rule.actions.contains("http_read") {
        findings.note(|| {
            let message = "the rule forbids to read and does not forbid to upgrade".into();
            rule.finding_in(Code::UpgradeApart, Severity::Note, "action", message)
                .with_help("name `Action::\"http_upgrade\"` too where WebSockets are meant")
        });
    }
}
