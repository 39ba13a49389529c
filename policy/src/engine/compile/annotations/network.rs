//! Which actions an obligation of the network can be carried out for.
//!
//! One parsed rule and the obligation's name in; nothing, or why no enforcement point could act on
//! it, out. What a rule's scope leaves open counts as there.

use cedar_policy::{ActionConstraint, Policy};

use super::Problem;

/// Whether what a rule is about has the place where this obligation is carried out. Obligations
/// that are not of the network pass.
pub(super) fn check(policy: &Policy, name: &str) -> Result<(), Problem> {
    match name {
        "tls" | "inspect" => {
            let about = About::of(policy);
            if about.connect && !about.other {
                return Ok(());
            }
            Err((
                format!("`@{name}` stands on a rule that is not about connections alone"),
                "write it on `permit (…, action == Action::\"connect\", …)`, or `action in \
                 Action::\"network\"`"
                    .into(),
            ))
        }
        "address" => {
            let about = About::of(policy);
            if (about.connect || about.http) && !about.other {
                return Ok(());
            }
            Err((
                "`@address` stands on a rule that is not about the network alone".into(),
                "write it on `permit (…, action in Action::\"network\", …)`".into(),
            ))
        }
        "credential" | "strip" => request_obligation(policy, name),
        _another => Ok(()),
    }
}

/// What a request carries can be changed only where the request can be read.
fn request_obligation(policy: &Policy, name: &str) -> Result<(), Problem> {
    let about = About::of(policy);
    if !about.http || about.other {
        let only_connects = about.connect && !about.other;
        return Err(if only_connects {
            (
                format!(
                    "`@{name}` stands on a rule about connections, whose content is not looked \
                     into: only an HTTP request that can be read carries a credential"
                ),
                format!(
                    "write `@{name}` on a rule with `action in Action::\"http\"`, and for port 443 \
                     `@inspect(\"tls\")` on the rule that permits `connect`"
                ),
            )
        } else {
            (
                format!("`@{name}` stands on a rule that is not about HTTP requests alone"),
                "write it on `permit (…, action in Action::\"http\", …)`".into(),
            )
        });
    }
    let is_inspected = policy.annotation("inspect").is_some();
    if about.connect && !is_inspected {
        return Err((
            format!(
                "`@{name}` stands on a rule that also permits `connect`, and in a connection that \
                 is not looked into (port 443, say) nothing can carry it out"
            ),
            "add `@inspect(\"tls\")`, or write the rule with `action in Action::\"http\"`".into(),
        ));
    }
    Ok(())
}

/// What kinds of request a rule can be about.
#[derive(Default)]
struct About {
    connect: bool,
    http: bool,
    other: bool,
}

impl About {
    fn of(policy: &Policy) -> Self {
        let mut about = Self::default();
        match policy.action_constraint() {
            ActionConstraint::Any => about.other = true,
            ActionConstraint::Eq(action) => about.add(action.id().unescaped()),
            ActionConstraint::In(actions) => {
                for action in &actions {
                    about.add(action.id().unescaped());
                }
            }
        }
        about
    }

    fn add(&mut self, action: &str) {
        match action {
            "network" => (self.connect, self.http) = (true, true),
            "connect" => self.connect = true,
            "http" | "http_read" | "http_write" | "http_delete" | "http_other" | "http_upgrade" => {
                self.http = true;
            }
            _another => self.other = true,
        }
    }
}
