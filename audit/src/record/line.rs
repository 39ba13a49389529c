//! A record as one line for a person.
//!
//! Whatever came from outside is escaped, so that it is one line and nothing else (A06).

use super::{Effect, Record};
use crate::{rfc3339, text::escape};

impl Record {
    /// One line for a person: time, outcome, what, why. Whatever came from outside is escaped,
    /// so that it is one line and nothing else.
    pub fn summary_line(&self) -> String {
        let mut line = format!(
            "{} {:<6} ",
            rfc3339(self.ts_us),
            self.effect.map_or("-", Effect::as_str)
        );
        let mut add = |label: &str, text: &str| {
            if !line.ends_with(' ') {
                line.push(' ');
            }
            line.push_str(label);
            line.push_str(&escape(text).to_string());
        };
        add("", self.action.as_deref().unwrap_or(self.kind.as_str()));
        if let Some(http) = &self.http {
            if let (Some(method), Some(path)) = (&http.method, &http.path) {
                add("", method);
                add("path=", path);
            }
            if let Some(status) = http.status {
                add("status=", &status.to_string());
            }
        }
        if let Some(resource) = &self.resource {
            add("", &resource.id);
            if let Some(mode) = &resource.mode {
                add("mode=", mode);
            }
        }
        if let Some(raw) = &self.raw {
            add("door=", &raw.door);
            add("text=", &raw.text);
            add("problem=", &raw.problem);
        }
        let dst = self.net.as_ref().and_then(|net| net.dst.as_deref());
        let fields = [
            ("dst=", dst.map(str::to_owned)),
            ("out=", self.bytes_out.map(|n| n.to_string())),
            ("in=", self.bytes_in.map(|n| n.to_string())),
            ("end=", self.end.clone()),
            ("state=", self.state.clone()),
            ("exit=", self.exit_code.map(|n| n.to_string())),
            ("lost=", self.lost.map(|n| n.to_string())),
            ("cut=", self.cut_bytes.map(|n| n.to_string())),
            ("reason=", self.reason.clone()),
            (
                "rules=",
                self.rules
                    .as_ref()
                    .filter(|r| !r.is_empty())
                    .map(|r| r.join(",")),
            ),
        ];
        for (label, text) in fields {
            if let Some(text) = text {
                add(label, &text);
            }
        }
        add("id=", &self.id.to_string());
        line
    }
}
