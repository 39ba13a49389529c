//! `X-Cordon-Decision`: what a program reads of a decision without parsing a body.
//!
//! A refusal, or the id of an allow, in; a dictionary of structured fields out, bounded and in ASCII.
//! Its text is ours or a policy author's, never a caller's (N03), and says no more than the body.
//!
//! Source: RFC 9651 (structured fields) sections 3.2, 3.3.3, 3.3.4, 3.3.8.

use cordon_audit::RecordId;

use super::Refusal;

impl Refusal {
    /// The field's value.
    pub(crate) fn field(&self, contact: Option<&str>) -> String {
        let mut members = Vec::new();
        if let Some(id) = self.decision() {
            members.push(of_allow(id));
        }
        // One of our own words, all of which are tokens.
        members.push(format!("reason={}", self.reason()));
        let ids = self.rules().iter().map(|rule| &*rule.id);
        let ids: Vec<_> = ids
            .filter(|id| id.len() <= RULE_BYTES && is_visible(id))
            .take(RULES)
            .map(text)
            .collect();
        if !ids.is_empty() {
            members.push(format!("rules=({})", ids.join(" ")));
        }
        if let Some(says) = self.rules().iter().find_map(|rule| rule.reason.as_deref()) {
            members.push(format!("says={}", text(says)));
        }
        if let Some(approval) = self.approval() {
            members.push(format!("approval={}", text(approval)));
        }
        members.push(format!("help={}", text(self.help())));
        if let Some(contact) = self.whom_to_ask(contact) {
            members.push(format!("ask={}", text(contact)));
        }
        members.join(", ")
    }
}

/// The field's value beside what was allowed.
pub(crate) fn of_allow(id: RecordId) -> String {
    format!("id={}", text(&id.to_string()))
}

/// A string, or a display string where it has more than ASCII; cut after [`TEXT_CHARS`].
fn text(text: &str) -> String {
    let cut = text.char_indices().nth(TEXT_CHARS).map(|(at, _)| at);
    let text = cut.and_then(|at| text.get(..at)).unwrap_or(text);
    if is_visible(text) {
        return format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    }
    let mut shown = String::from("%\"");
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if !matches!(byte, b'%' | b'"') => shown.push(char::from(byte)),
            _ => shown.push_str(&format!("%{byte:02x}")),
        }
    }
    shown.push('"');
    shown
}

fn is_visible(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// Ids that are named at most; the record has all.
const RULES: usize = 4;

/// Longest id that is named.
const RULE_BYTES: usize = 64;

/// Of any text. With all its members at their longest the field stays below 8 KiB, the least that
/// servers and clients in use read of one.
const TEXT_CHARS: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n03_text_of_a_policy_is_one_bounded_value() {
        for (given, expected) in [
            ("plain words", "\"plain words\""),
            ("a \"b\" \\c", "\"a \\\"b\\\" \\\\c\""),
            ("x\r\nset-cookie: y", "%\"x%0d%0aset-cookie: y\""),
            ("\u{e4} 5 % \"", "%\"%c3%a4 5 %25 %22\""),
        ] {
            assert_eq!(text(given), expected, "{given:?}");
        }
        assert_eq!(text(&"x".repeat(5000)).len(), TEXT_CHARS + 2);
        // Cut between characters, never within one.
        assert_eq!(
            text(&"\u{e4}".repeat(5000)),
            format!("%\"{}\"", "%c3%a4".repeat(TEXT_CHARS))
        );
    }
}
