//! Makes a record out of a decision or an event, and a leaf out of a record.
//!
//! Everything is known here but the record's place (`seq`, `id`, times), which the writer gives.
//! The values of known secrets are taken out here, and then all texts are bounded.

use std::{fmt::Write as _, net::SocketAddr, sync::Arc};

use cordon_policy::{Asked, Decision, Deny, DenyReason, SessionFacts, TlsFacts};
use serde::Serialize;

use crate::{
    Event, Record, RecordId,
    record::{Commitment, Effect, Enforced, Facts, Http, Kind, Mode, Net, Principal},
    secrets::Secrets,
    text,
};

mod access;
mod approval;
mod blank;
mod bounds;
mod fill;
mod json;
mod plain;
mod policy;

pub use fill::action_of;

use self::{
    blank::blank,
    bounds::{LIMITS, bound, mask},
    fill::{
        facts, fill_basis, fill_raw, fill_request, fill_rules, fill_session, fill_tls, host_name,
        service,
    },
    plain::{Closed, Plain},
};

/// A record that has no place yet.
#[derive(Debug)]
pub(crate) struct Draft(Form);

#[derive(Debug)]
enum Form {
    /// Boxed, because it is large and moved about.
    Record(Box<Record>),
    /// Written already, but for its place: what comes by the thousand.
    Plain(Plain),
}

/// The session that a record belongs to.
#[derive(Clone, Debug)]
pub(crate) enum Owner {
    Facts(Arc<SessionFacts>),
    Named(String),
}

/// What the writer alone knows about a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) seq: u64,
    pub(crate) id: RecordId,
    pub(crate) ts_us: u64,
    pub(crate) mono_us: u64,
    pub(crate) queue_us: u64,
}

/// Who writes the log: the same in every record.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity {
    pub(crate) boot: String,
    pub(crate) host: Option<String>,
    pub(crate) instance: Option<String>,
    pub(crate) organisation: Option<String>,
}

impl Draft {
    /// Of a decision; `secrets` is what must not be in it.
    pub(crate) fn of_decision(decision: &Decision, secrets: &Secrets) -> Self {
        let plain = match decision {
            Decision::Allow(allow) => Plain::of_allow(allow.verdict(), secrets),
            Decision::Deny(_) => None,
        };
        match plain {
            Some(plain) => Self(Form::Plain(plain)),
            None => Self::of_decision_with(decision, secrets, Vec::new()),
        }
    }

    /// Of a decision with values that stay outside and are committed to.
    pub(crate) fn of_decision_with(
        decision: &Decision,
        secrets: &Secrets,
        commitments: Vec<Commitment>,
    ) -> Self {
        let mut record = blank(Kind::Decision);
        match decision {
            Decision::Allow(decided) => {
                let allow = decided.verdict();
                fill_request(&mut record, &allow.request);
                fill_basis(&mut record, &allow.basis);
                record.effect = Some(Effect::Allow);
                record.enforced = Some(Enforced::Allowed);
                record.reason = Some("rule".into());
                if let Some(observed) = &allow.basis.observed {
                    // What policy says is the effect; that it was let through is another field.
                    record.mode = Mode::Observe;
                    record.effect = Some(effect_of(observed.reason));
                    record.enforced = Some(Enforced::Observed);
                    record.reason = Some(word(&observed.reason));
                    fill_rules(&mut record, &observed.rules);
                }
            }
            Decision::Deny(decided) => fill_deny(&mut record, decided.verdict()),
        }
        record.sd = commitments;
        Self::bounded(record, secrets)
    }

    /// Of an event; `secrets` is what must not be in it.
    pub(crate) fn of_event(event: &Event, secrets: &Secrets) -> Self {
        match Closed::of(event).and_then(|end| Plain::of_end(end, secrets)) {
            Some(plain) => Self(Form::Plain(plain)),
            None => Self::of_event_with(event, secrets, Vec::new()),
        }
    }

    /// Of an event with values that stay outside and are committed to.
    pub(crate) fn of_event_with(
        event: &Event,
        secrets: &Secrets,
        commitments: Vec<Commitment>,
    ) -> Self {
        let mut record = blank(Kind::Start);
        match event {
            Event::ServiceStarted => record.service = Some(service()),
            Event::ServiceStopped => record.kind = Kind::Stop,
            Event::Policy(event) => policy::fill_policy(&mut record, event),
            Event::SessionStarted { session, origin } => {
                record.kind = Kind::SessionStart;
                fill_session(&mut record, session);
                record.parent.clone_from(&origin.parent);
                record.facts = Some(Facts {
                    image: origin.image.clone(),
                    ..facts(session)
                });
            }
            Event::SessionChanged {
                session,
                state,
                why,
            } => {
                record.kind = Kind::SessionState;
                fill_session(&mut record, session);
                record.state = Some(word(state));
                record.message.clone_from(why);
            }
            Event::SessionEnded {
                session,
                end,
                exit_code,
                totals,
            } => {
                record.kind = Kind::SessionEnd;
                fill_session(&mut record, session);
                record.end = Some(word(end));
                record.exit_code = *exit_code;
                record.summary.clone_from(totals);
            }
            Event::Access(event) => access::fill_access(&mut record, event),
            Event::Approval(event) => approval::fill_approval(&mut record, event),
            Event::Exported { user, export } => {
                record.kind = Kind::Export;
                record.principal = Some(Principal {
                    id: user.clone(),
                    kind: "user".into(),
                });
                record.export = Some(export.clone());
            }
            Event::FlowClosed {
                session,
                decision,
                peer,
                bytes_out,
                bytes_in,
                duration,
                status,
                tls,
                end,
            } => {
                record.kind = Kind::FlowClose;
                fill_session(&mut record, session);
                record.decision = Some(*decision);
                record.net = flow_net(*peer, tls.as_deref());
                record.bytes_out = Some((*bytes_out).min(MAX_INT));
                record.bytes_in = Some((*bytes_in).min(MAX_INT));
                record.dur_us = Some(int(duration.as_micros()));
                record.http = status.map(|status| Http {
                    status: Some(status),
                    ..Http::default()
                });
                record.end = Some(word(end));
            }
            Event::KeyRotated { key } => {
                record.kind = Kind::KeyRotate;
                record.key = Some(key.clone());
            }
            Event::Upkeep { kind, by, upkeep } => {
                record.kind = *kind;
                record.principal = by.clone().map(|id| Principal {
                    id,
                    kind: "user".into(),
                });
                record.upkeep = Some(upkeep.clone());
            }
        }
        record.sd = commitments;
        Self::bounded(record, secrets)
    }

    pub(crate) fn kind(&self) -> Kind {
        match &self.0 {
            Form::Record(record) => record.kind,
            Form::Plain(plain) => plain.kind,
        }
    }

    /// What could not be recorded, or was cut off an unfinished write.
    pub(crate) fn of_gap(lost: u64, cut_bytes: u64) -> Self {
        let mut record = blank(Kind::LogGap);
        record.lost = (lost > 0).then_some(lost.min(MAX_INT));
        record.cut_bytes = (cut_bytes > 0).then_some(cut_bytes.min(MAX_INT));
        Self(Form::Record(record))
    }

    pub(crate) fn session(&self) -> Option<Owner> {
        match &self.0 {
            Form::Record(record) => record.session.clone().map(Owner::Named),
            Form::Plain(plain) => Some(Owner::Facts(Arc::clone(&plain.session))),
        }
    }

    /// Appends the leaf to `out`: the bytes that are hashed and kept, at most
    /// [`Record::MAX_BYTES`].
    pub(crate) fn write_leaf(
        &mut self,
        place: Place,
        identity: &mut Identity,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        match &mut self.0 {
            Form::Plain(plain) => {
                plain.write(place, identity, out);
                Ok(())
            }
            Form::Record(record) => {
                // Lent to the record, because it is the same in each.
                record.exchange(identity);
                let written = record.write(place, out);
                record.exchange(identity);
                written
            }
        }
    }

    /// Of a record as it is.
    #[cfg(test)]
    pub(crate) fn of_record(record: Record, secrets: &Secrets) -> Self {
        Self::bounded(Box::new(record), secrets)
    }

    /// Masked before it is cut: a cut could leave a part of a secret, and the digest of a text
    /// with a secret in it would help to guess it.
    fn bounded(mut record: Box<Record>, secrets: &Secrets) -> Self {
        mask(&mut record, secrets);
        let (text_limit, list_limit) = LIMITS[0];
        bound(&mut record, text_limit, list_limit);
        Self(Form::Record(record))
    }
}

impl Owner {
    /// The session's id.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Facts(facts) => &facts.id,
            Self::Named(id) => id,
        }
    }
}

/// Where a flow went, and what its handshake showed.
fn flow_net(peer: Option<SocketAddr>, tls: Option<&TlsFacts>) -> Option<Net> {
    if peer.is_none() && tls.is_none() {
        return None;
    }
    let mut net = Net {
        dport: peer.map(|peer| peer.port()),
        dst: peer.map(|peer| peer.ip().to_string()),
        proto: "tcp".into(),
        ..Net::default()
    };
    if let Some(tls) = tls {
        fill_tls(&mut net, tls);
    }
    Some(net)
}

fn fill_deny(record: &mut Record, deny: &Deny) {
    match &deny.asked {
        Asked::Request(request) => fill_request(record, request),
        Asked::Raw(raw) => fill_raw(record, raw),
    }
    fill_basis(record, &deny.basis);
    record.effect = Some(effect_of(deny.reason));
    record.enforced = Some(Enforced::Blocked);
    record.reason = Some(word(&deny.reason));
}

fn effect_of(reason: DenyReason) -> Effect {
    match reason {
        DenyReason::ApprovalRequired => Effect::Ask,
        DenyReason::EvaluationError => Effect::Error,
        DenyReason::DefaultDeny
        | DenyReason::Rule
        | DenyReason::GrantMode
        | DenyReason::Malformed
        | DenyReason::AddressNotPermitted
        | DenyReason::ProtectedFolder
        | DenyReason::Unavailable
        | DenyReason::TlsMismatch
        | DenyReason::TlsHidden
        | DenyReason::NotTls
        | DenyReason::Limit
        | DenyReason::Credential => Effect::Deny,
    }
}

impl Identity {
    /// This host, and whose log it is.
    pub(crate) fn new(instance: &str, organisation: Option<String>) -> Self {
        let cut = |text: String| text::prefix(&text, MAX_NAME).to_owned();
        Self {
            boot: boot_id(),
            host: Some(cut(host_name())),
            instance: Some(text::prefix(instance, MAX_NAME).to_owned()),
            organisation: organisation.map(cut),
        }
    }
}

impl Record {
    /// Appends its leaf.
    fn write(&mut self, place: Place, out: &mut Vec<u8>) -> Result<(), String> {
        self.seq = place.seq;
        self.id = place.id;
        self.ts_us = place.ts_us.min(MAX_INT);
        self.mono_us = place.mono_us.min(MAX_INT);
        self.queue_us = Some(place.queue_us);
        let start = out.len();
        // Escaping can make a text six times as long; cut harder until the leaf fits. The first
        // bounds are those that a draft has been cut to already.
        for (at, (text_limit, list_limit)) in LIMITS.into_iter().enumerate() {
            if at > 0 {
                bound(self, text_limit, list_limit);
            }
            out.truncate(start);
            serde_json::to_writer(&mut *out, &*self).map_err(|error| error.to_string())?;
            if out.len() - start <= Self::MAX_BYTES {
                return Ok(());
            }
        }
        out.truncate(start);
        Err("the record is larger than a leaf may be".into())
    }

    fn exchange(&mut self, identity: &mut Identity) {
        std::mem::swap(&mut self.boot, &mut identity.boot);
        std::mem::swap(&mut self.host, &mut identity.host);
        std::mem::swap(&mut self.instance, &mut identity.instance);
        std::mem::swap(&mut self.organisation, &mut identity.organisation);
    }
}

fn boot_id() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    read.map(|text| text.trim().to_owned()).unwrap_or_default()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// The word that a fixed vocabulary has for a value.
fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(_) | Err(_) => String::new(),
    }
}

pub(crate) fn int(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(MAX_INT).min(MAX_INT)
}

/// Largest integer that every JSON reader keeps exactly.
const MAX_INT: u64 = (1 << 53) - 1;

/// Longest name of a host, an instance or an organisation, in bytes.
const MAX_NAME: usize = 255;

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;
