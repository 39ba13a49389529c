//! Writes the records that come by the thousand straight as text: what the network was allowed,
//! and the end of its flow.
//!
//! A decision or an event in, the leaf without the record's place out. What it says is what a
//! [`Record`](crate::Record) of the same says, byte for byte: a test holds the two against each
//! other. Whatever is out of the ordinary (a known secret, a text or list to be cut, what was seen
//! before the decision, observe mode, errors) is left to the record. Never cuts and never masks.

mod process;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use cordon_policy::{
    Allow, Basis, Destination, Host, HttpFacts, Operation, ProcessFacts, Request, RuleRef, Seen,
    SessionFacts, TlsFacts,
};

use super::{
    Identity, MAX_INT, Place, action_of, int,
    json::{Json, key},
};
use crate::{Event, FlowEnd, Kind, Record, RecordId, secrets::Secrets};

/// A leaf that lacks what the writer alone knows.
#[derive(Debug)]
pub(super) struct Plain {
    pub(super) kind: Kind,
    pub(super) session: Arc<SessionFacts>,
    text: Vec<u8>,
    gaps: [usize; GAPS],
}

/// The end of a flow, as [`Event::FlowClosed`](crate::Event) has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closed<'a> {
    pub(super) session: &'a Arc<SessionFacts>,
    pub(super) decision: RecordId,
    pub(super) peer: Option<SocketAddr>,
    pub(super) bytes_out: u64,
    pub(super) bytes_in: u64,
    pub(super) duration: Duration,
    pub(super) status: Option<u16>,
    pub(super) tls: Option<&'a TlsFacts>,
    pub(super) end: FlowEnd,
}

impl<'a> Closed<'a> {
    /// `None` for any other event.
    pub(super) fn of(event: &'a Event) -> Option<Self> {
        let Event::FlowClosed {
            session,
            decision,
            peer,
            bytes_out,
            bytes_in,
            duration,
            status,
            tls,
            end,
        } = event
        else {
            return None;
        };
        Some(Self {
            session,
            decision: *decision,
            peer: *peer,
            bytes_out: *bytes_out,
            bytes_in: *bytes_in,
            duration: *duration,
            status: *status,
            tls: tls.as_deref(),
            end: *end,
        })
    }
}

impl Closed<'_> {
    /// Where the flow went, and what its handshake showed.
    fn net(&self, json: &mut Json<'_>) {
        json.raw("\"net\":{");
        if let Some(peer) = self.peer {
            json.number(key!("dport"), peer.port().into())
                .shown(key!("dst"), peer.ip());
        }
        json.raw("\"proto\":\"tcp\",");
        if let Some(tls) = self.tls {
            json.text_if_any(key!("sni"), tls.sni.as_deref());
            json.raw("\"tls\":{");
            if !tls.alpn.is_empty() {
                json.list(key!("alpn"), tls.alpn.iter());
            }
            json.truth(key!("ech"), tls.ech)
                .truth(key!("inspected"), tls.inspected);
            json.text_if_any(key!("ja4"), tls.ja4.as_deref());
            json.text(key!("kind"), tls.kind.as_str());
            json.text_if_any(key!("version"), tls.version.as_deref());
            json.close();
        }
        json.close();
    }
}

impl Plain {
    /// Of an allow; `None` where it is not ordinary.
    pub(super) fn of_allow(allow: &Allow, secrets: &Secrets) -> Option<Self> {
        let Allow { request, basis } = allow;
        let What {
            destination,
            via,
            http,
            process,
        } = what(request).filter(|_| is_ordinary(basis))?;
        let mut leaf = Leaf::begin(secrets);
        let json = &mut leaf.json;
        json.raw("\"action\":\"")
            .raw(action_of(&request.operation))
            .raw("\",");
        agent(json, &request.session);
        leaf.gap();
        let json = &mut leaf.json;
        json.raw("\"effect\":\"allow\",\"enforced\":\"allowed\",");
        if !basis.policy.is_empty() {
            json.number(key!("eval_ns"), int(basis.evaluation.as_nanos()));
        }
        leaf.gap();
        if let Some(http) = http {
            http.write(&mut leaf.json, destination);
        }
        leaf.gap();
        let json = &mut leaf.json;
        json.raw("\"kind\":\"decision\",");
        said(json, &basis.rules);
        json.raw("\"mode\":\"enforce\",");
        leaf.gap();
        let json = &mut leaf.json;
        net(json, destination, via);
        let obligations = basis.obligations.iter();
        if !basis.obligations.is_empty() {
            let shown = obligations.map(|o| format!("{}={}", o.name, o.value));
            json.list(key!("obligations"), shown);
        }
        leaf.gap();
        let json = &mut leaf.json;
        policy(json, basis);
        principal(json, &request.session);
        if let Some(process) = process {
            process::write(json, process);
        }
        leaf.gap();
        let json = &mut leaf.json;
        json.raw("\"reason\":\"rule\",\"resource\":{")
            .destination(key!("id"), destination)
            .raw("\"type\":\"network\"},");
        json.list(key!("rules"), basis.rules.iter().map(|rule| &*rule.id));
        leaf.gap();
        leaf.json.text(key!("session"), &request.session.id);
        leaf.gap();
        leaf.end(Kind::Decision, &request.session)
    }

    /// Of the end of a flow; `None` where it is not ordinary.
    pub(super) fn of_end(closed: Closed<'_>, secrets: &Secrets) -> Option<Self> {
        let mut leaf = Leaf::begin(secrets);
        agent(&mut leaf.json, closed.session);
        leaf.gap();
        leaf.json
            .number(key!("bytes_in"), closed.bytes_in.min(MAX_INT))
            .number(key!("bytes_out"), closed.bytes_out.min(MAX_INT))
            .id(key!("decision"), closed.decision)
            .number(key!("dur_us"), int(closed.duration.as_micros()))
            .word(key!("end"), &closed.end);
        leaf.gap();
        if let Some(status) = closed.status {
            leaf.json.raw("\"http\":{");
            leaf.json.number(key!("status"), status.into()).close();
        }
        leaf.gap();
        leaf.json
            .raw("\"kind\":\"flow.close\",\"mode\":\"enforce\",");
        leaf.gap();
        if closed.peer.is_some() || closed.tls.is_some() {
            closed.net(&mut leaf.json);
        }
        leaf.gap();
        principal(&mut leaf.json, closed.session);
        leaf.gap();
        leaf.gap();
        leaf.json.text(key!("session"), &closed.session.id);
        leaf.gap();
        leaf.end(Kind::FlowClose, closed.session)
    }

    /// Appends the whole leaf.
    pub(super) fn write(&self, place: Place, identity: &Identity, out: &mut Vec<u8>) {
        let [boot, host, id, mono, organisation, queue, seq, ts] = self.gaps;
        let nothing = Secrets::default();
        let mut json = Json::after(std::mem::take(out), &nothing);
        let mut from = 0;
        let mut piece = |json: &mut Json<'_>, to: usize| {
            json.bytes(self.text.get(from..to).unwrap_or_default());
            from = to;
        };
        piece(&mut json, boot);
        let boot_id = Some(identity.boot.as_str());
        json.text_if_any(key!("boot"), boot_id.filter(|id| !id.is_empty()));
        piece(&mut json, host);
        json.text_if_any(key!("host"), identity.host.as_deref());
        piece(&mut json, id);
        json.id(key!("id"), place.id);
        json.text_if_any(key!("instance"), identity.instance.as_deref());
        piece(&mut json, mono);
        json.number(key!("mono_us"), place.mono_us.min(MAX_INT));
        piece(&mut json, organisation);
        json.text_if_any(key!("organisation"), identity.organisation.as_deref());
        piece(&mut json, queue);
        json.number(key!("queue_us"), place.queue_us);
        piece(&mut json, seq);
        json.number(key!("seq"), place.seq);
        piece(&mut json, ts);
        json.number(key!("ts_us"), place.ts_us.min(MAX_INT));
        piece(&mut json, self.text.len());
        *out = json.into_bytes();
    }
}

/// A leaf that is being written.
struct Leaf<'a> {
    json: Json<'a>,
    gaps: [usize; GAPS],
    gap: usize,
}

impl<'a> Leaf<'a> {
    fn begin(secrets: &'a Secrets) -> Self {
        let mut json = Json::after(Vec::with_capacity(ROOM), secrets);
        json.raw("{");
        Self {
            json,
            gaps: [0; GAPS],
            gap: 0,
        }
    }

    /// Here belongs the next of what the writer knows.
    fn gap(&mut self) {
        if let Some(gap) = self.gaps.get_mut(self.gap) {
            *gap = self.json.len();
        }
        self.gap += 1;
    }

    fn end(mut self, kind: Kind, session: &Arc<SessionFacts>) -> Option<Plain> {
        self.json.raw("\"v\":1}");
        // With room for the longest names of host, instance and organisation, all escaped.
        let fits = self.json.len() + REST <= Record::MAX_BYTES;
        let is_ordinary = self.json.is_ordinary() && self.gap == GAPS && fits;
        is_ordinary.then(|| Plain {
            kind,
            session: Arc::clone(session),
            text: self.json.into_bytes(),
            gaps: self.gaps,
        })
    }
}

/// What a request of HTTP says of itself.
struct Http<'a> {
    method: &'a str,
    path: &'a str,
    facts: &'a HttpFacts,
}

/// Where a request leads, the way it arrived, what it says in HTTP, and which process made it.
struct What<'a> {
    destination: &'a Destination,
    via: Via,
    http: Option<Http<'a>>,
    process: Option<&'a ProcessFacts>,
}

fn what(request: &Request) -> Option<What<'_>> {
    let (destination, seen, via, http) = match &request.operation {
        Operation::Connect {
            destination,
            transport,
            seen,
        } => (destination, seen, Via::Transport(*transport), None),
        Operation::HttpRequest {
            destination,
            method,
            path,
            facts,
        } => {
            let http = Http {
                method: &method.0,
                path,
                facts,
            };
            (destination, &facts.seen, Via::Http, Some(http))
        }
        _other => return None,
    };
    let Seen {
        tls,
        names,
        address_unverified,
        process,
    } = seen;
    let nothing_else_seen = tls.is_none() && names.is_empty() && !address_unverified;
    nothing_else_seen.then_some(What {
        destination,
        via,
        http,
        process: process.as_deref(),
    })
}

#[derive(Clone, Copy)]
enum Via {
    Transport(cordon_policy::Transport),
    Http,
}

impl Http<'_> {
    fn write(&self, json: &mut Json<'_>, destination: &Destination) {
        let facts = self.facts;
        json.raw("\"http\":{");
        if let Some(length) = facts.content_length {
            json.number(key!("content_length"), length.min(MAX_INT));
        }
        json.text_if_any(key!("content_type"), facts.content_type.as_deref());
        if facts.credential {
            json.raw("\"credential\":true,");
        }
        json.host(key!("host"), &destination.host)
            .text(key!("method"), self.method)
            .text(key!("path"), self.path);
        if !facts.query_keys.is_empty() {
            json.list(key!("query_keys"), facts.query_keys.iter());
        }
        json.text(key!("scheme"), facts.scheme.as_str());
        json.text_if_any(key!("upgrade"), facts.upgrade.as_deref());
        json.close();
    }
}

fn net(json: &mut Json<'_>, destination: &Destination, via: Via) {
    json.raw("\"net\":{")
        .number(key!("dport"), destination.port.get().into());
    if let Host::Address(address) = &destination.host {
        json.shown(key!("dst"), address);
    }
    json.host(key!("host"), &destination.host)
        .raw("\"proto\":\"tcp\",");
    match via {
        Via::Transport(transport) => json.word(key!("via"), &transport),
        Via::Http => json.raw("\"via\":\"http\","),
    };
    json.close();
}

/// Whether all that it says is said here. Names every field, so that a new one has to be thought of.
fn is_ordinary(basis: &Basis) -> bool {
    let Basis {
        rules: _,
        policy: _,
        digest: _,
        revision: _,
        errors,
        obligations: _,
        observed,
        shadow,
        approval,
        evaluation: _,
    } = basis;
    errors.is_empty() && observed.is_none() && shadow.is_none() && approval.is_none()
}

/// The layers of the determining rules, and what they say to the caller.
fn said(json: &mut Json<'_>, rules: &[RuleRef]) {
    if !rules.is_empty() {
        json.list(key!("layers"), rules.iter().map(|rule| rule.layer.as_str()));
    }
    let message = rules.iter().find_map(|rule| rule.reason.as_deref());
    json.text_if_any(key!("message"), message);
}

fn policy(json: &mut Json<'_>, basis: &Basis) {
    if basis.policy.is_empty() {
        return;
    }
    json.raw("\"policy\":{");
    if let Some(revision) = basis.revision {
        json.number(key!("revision"), revision.min(MAX_INT));
    }
    json.text(key!("set"), &basis.policy)
        .text(key!("sha256"), &basis.digest)
        .close();
}

fn agent(json: &mut Json<'_>, session: &SessionFacts) {
    if let Some(name) = &session.agent {
        json.raw("\"agent\":{").text(key!("name"), name).close();
    }
}

fn principal(json: &mut Json<'_>, session: &SessionFacts) {
    json.raw("\"principal\":{")
        .text(key!("id"), &session.user)
        .raw("\"type\":\"user\"},");
}

/// Places of what the writer knows: before what follows on `boot`, `host`, `id` with `instance`,
/// `mono_us`, `organisation`, `queue_us`, `seq` and `ts_us`, which is their order in a leaf.
const GAPS: usize = 8;

/// Bytes that such a record takes, mostly.
const ROOM: usize = 896;

/// Bytes that the writer adds at most.
const REST: usize = 5 * 1024;

#[cfg(test)]
mod tests;
