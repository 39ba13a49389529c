//! Looks at what a client says first in a tunnel, before its destination hears any of it.
//!
//! A tunnel that stands and its [`Flow`] in; the flow with the bytes to begin with out, or nothing,
//! when it was refused: then the refusal is recorded, takes the allow back, and the destination has
//! not been sent a byte (N12).
//!
//! | first bytes | default | accepted by |
//! |---|---|---|
//! | ClientHello that names the host that was decided | goes on | |
//! | names another host | refused | nothing |
//! | names no host (and the destination is no address) | refused | `@tls("no-sni")` |
//! | carries an encrypted ClientHello, or what looks like one | refused | `@tls("ech")`, `@inspect("tls")` |
//! | not TLS, on a port where TLS is expected | refused | `@tls("not-tls")` |
//! | begins as TLS and is not well-formed | refused | nothing |
//!
//! What is not TLS and begins as an HTTP request goes on as requests, each decided, where rules
//! speak of requests or the session holds placeholders.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use cordon_audit::FlowEnd;
use cordon_policy::{
    Asked, Basis, Decided, Deny, DenyReason, Handshake, LateFact, Operation, RawRequest, Request,
    TlsFacts,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::hello::{Hello, Progress, Reader};
use crate::{
    flow::Flow,
    http::begin::{self, Begin},
    limits, linger,
    relay::{end_with_reset, reset},
    session::Session,
};

/// A tunnel that may go on.
pub(crate) struct Checked {
    pub(crate) client: TcpStream,
    pub(crate) flow: Flow,
    /// What the client has sent so far, for the destination.
    pub(crate) first: Vec<u8>,
    /// What of it is decided one by one.
    pub(crate) inside: Inside,
}

/// How a tunnel goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Inside {
    /// Its bytes move, and nobody looks at them.
    Bytes,
    /// Policy asks for the requests inside its TLS to be decided.
    Tls,
    /// A request came first, without TLS, and rules may say more of requests than of connections.
    Requests,
}

/// Reads and judges the client's first bytes; `None` when the tunnel is over.
///
/// Where TLS is not expected a destination may be the first to speak: then nothing is judged, as
/// no server of TLS does that.
pub(crate) async fn check(
    mut client: TcpStream,
    upstream: &TcpStream,
    preface: &[u8],
    flow: Flow,
) -> Option<Checked> {
    let expected = expects_tls(&flow);
    let mut reader = Reader::default();
    let said = if expected {
        let read = read(&mut client, preface, &mut reader);
        tokio::time::timeout(limits::HELLO_DEADLINE, read)
            .await
            .unwrap_or(Said::Late)
    } else {
        let idle = flow.session().limits().idle;
        read_unless_answered(&mut client, upstream, preface, idle, &mut reader).await
    };
    let mut received = reader.into_received();
    let inspectable = matches!(said, Said::Hello(_));
    let judged = match said {
        Said::Hello(hello) => hold(flow, hello.facts(), expected),
        Said::Other => hold(flow, not_tls(), expected),
        Said::Nothing => Judged::Allow(Box::new(flow), false),
        Said::Late if received.is_empty() => {
            cut(client, upstream, flow, FlowEnd::TimedOut);
            return None;
        }
        Said::Broken => {
            cut(client, upstream, flow, FlowEnd::Reset);
            return None;
        }
        Said::Late => Judged::malformed(flow, &received, LATE),
        Said::Malformed(why) => Judged::malformed(flow, &received, why),
    };
    match judged {
        Judged::Allow(mut flow, inspect) => {
            let inside = if inspectable {
                match inspect {
                    true => Inside::Tls,
                    false => Inside::Bytes,
                }
            } else {
                without_tls(&mut client, &mut received, &mut flow).await
            };
            Some(Checked {
                client,
                flow: *flow,
                first: received,
                inside,
            })
        }
        Judged::Deny(refused) => {
            let _told_by_alert = match *refused {
                Refused::Here(flow, reason, asked) => flow.refuse(reason, asked).await,
                Refused::ByPolicy(flow, deny) => flow.refuse_as(deny).await,
            };
            close(client, &received).await;
            None
        }
    }
}

/// Whether what does not begin as TLS begins as a request (N13). Where no rule says more of requests
/// than of connections, nothing is waited for: then only what is here already is noted, for the day
/// when one does.
async fn without_tls(client: &mut TcpStream, received: &mut Vec<u8>, flow: &mut Flow) -> Inside {
    if received.is_empty() {
        // The other side spoke first, which no server of HTTP does, or nobody says anything.
        return Inside::Bytes;
    }
    if !flow.session().decides_requests() {
        if begin::begin(received) != Begin::Other {
            flow.may_carry_requests();
        }
        return Inside::Bytes;
    }
    match begin::is_http(client, received, limits::HELLO_DEADLINE).await {
        true => Inside::Requests,
        false => Inside::Bytes,
    }
}

/// Ends a tunnel in which nothing moved. Neither side gets a clean end: none is what happened.
fn cut(client: TcpStream, upstream: &TcpStream, flow: Flow, end: FlowEnd) {
    flow.close(end);
    end_with_reset(upstream);
    reset(client);
}

/// What the client said first.
enum Said {
    Hello(Box<Hello>),
    Malformed(&'static str),
    /// Something that is not TLS, or the other side spoke first.
    Other,
    /// It closed its side without a word.
    Nothing,
    /// A side was reset before a word. A socket tells that once and an ended stream from then on,
    /// so whoever hears it must act on it.
    Broken,
    /// It did not come to an end in time.
    Late,
}

async fn read(client: &mut TcpStream, preface: &[u8], reader: &mut Reader) -> Said {
    let mut progress = reader.push(preface);
    // Not within the future: that is moved about, and mostly all is there already.
    let mut buffer = Vec::new();
    loop {
        match progress {
            Progress::Hello(hello) => return Said::Hello(hello),
            Progress::NotTls => return Said::Other,
            Progress::Malformed(why) => return Said::Malformed(why),
            Progress::More => buffer.resize(2048, 0),
        }
        progress = match client.read(&mut buffer).await {
            Ok(0) if reader.received().is_empty() => return Said::Nothing,
            Err(_reset) if reader.received().is_empty() => return Said::Broken,
            Ok(0) | Err(_) => return Said::Malformed("the client left within its ClientHello"),
            Ok(read) => reader.push(buffer.get(..read).unwrap_or_default()),
        };
    }
}

/// As [`read`], where the other side may speak first and may take its time.
async fn read_unless_answered(
    client: &mut TcpStream,
    upstream: &TcpStream,
    preface: &[u8],
    idle: Duration,
    reader: &mut Reader,
) -> Said {
    let mut first = [0; 512];
    let preface = if preface.is_empty() {
        // Not readiness: a socket may be called readable and have nothing.
        let mut theirs = [0; begin::SETTINGS_HEAD];
        let spoke = tokio::select! {
            biased;
            spoke = client.read(&mut first) => Ok(spoke),
            spoke = upstream.peek(&mut theirs) => match spoke {
                Err(_reset) => return Said::Broken,
                // It need not wait for its client, nor its client for it.
                Ok(said) if begin::is_settings(theirs.get(..said).unwrap_or_default()) => {
                    tokio::time::timeout(idle, client.read(&mut first)).await
                }
                Ok(_greeting) => return Said::Other,
            },
            () = tokio::time::sleep(idle) => return Said::Late,
        };
        match spoke {
            Ok(Ok(0)) => return Said::Nothing,
            Ok(Ok(read)) => first.get(..read).unwrap_or_default(),
            Ok(Err(_reset)) => return Said::Broken,
            Err(_elapsed) => return Said::Late,
        }
    } else {
        preface
    };
    let read = read(client, preface, reader);
    let deadline = tokio::time::timeout(limits::HELLO_DEADLINE, read);
    deadline.await.unwrap_or(Said::Late)
}

/// Whether anything but TLS is refused: by the port, or because requests inside are to be decided.
fn expects_tls(flow: &Flow) -> bool {
    if asks_to_inspect(flow.basis()) {
        return true;
    }
    let port = match flow.operation() {
        Some(Operation::Connect { destination, .. }) => destination.port.get(),
        _other => return false,
    };
    flow.session().egress().config().tls.expects(port)
}

fn asks_to_inspect(basis: Option<&Basis>) -> bool {
    basis.is_some_and(|basis| basis.asks("inspect", "tls"))
}

/// What came of looking.
enum Judged {
    /// Goes on; whether it is to be inspected.
    Allow(Box<Flow>, bool),
    Deny(Box<Refused>),
}

/// A refusal that is still to be recorded.
enum Refused {
    /// For a reason of this module.
    Here(Flow, DenyReason, Asked),
    /// By the rules in force.
    ByPolicy(Flow, Decided<Deny>),
}

impl Judged {
    fn malformed(flow: Flow, received: &[u8], problem: &str) -> Self {
        let kept = received.get(..64).unwrap_or(received);
        let asked = Asked::Raw(RawRequest {
            session: Arc::clone(flow.session().gate().session()),
            door: DOOR,
            text: kept.escape_ascii().to_string(),
            at: SystemTime::now(),
            problem: problem.into(),
        });
        Self::Deny(Box::new(Refused::Here(flow, DenyReason::Malformed, asked)))
    }
}

/// Holds what was seen against what is required of every tunnel, then asks policy where a rule in
/// force looks at it.
fn hold(mut flow: Flow, mut facts: TlsFacts, expected: bool) -> Judged {
    let session = Arc::clone(flow.session());
    let first = flow.basis().cloned().unwrap_or_default();
    facts.inspected = facts.kind == Handshake::Hello && asks_to_inspect(Some(&first));
    flow.saw(facts.clone());
    let Some(operation) = flow.operation() else {
        return Judged::malformed(flow, &[], "the allow was taken back already");
    };
    let mut basis = first;
    if session.gate().reads(LateFact::Tls) {
        match session.gate().review(operation.clone()) {
            Ok(reviewed) => basis = reviewed,
            Err(deny) => return Judged::Deny(Box::new(Refused::ByPolicy(flow, deny))),
        }
    }
    match floor(&operation, &facts, &basis, expected) {
        Some(reason) => {
            let asked = asked(&session, operation);
            Judged::Deny(Box::new(Refused::Here(flow, reason, asked)))
        }
        None => Judged::Allow(Box::new(flow), facts.inspected),
    }
}

fn asked(session: &Session, operation: Operation) -> Asked {
    Asked::Request(Request {
        session: Arc::clone(session.gate().session()),
        operation,
        at: SystemTime::now(),
    })
}

/// Why a tunnel may not go on, whatever the rules say, unless a permit accepts it by name.
fn floor(
    operation: &Operation,
    tls: &TlsFacts,
    basis: &Basis,
    expected: bool,
) -> Option<DenyReason> {
    let Operation::Connect { destination, .. } = operation else {
        return None;
    };
    let accepts = |word| basis.asks("tls", word);
    if tls.kind == Handshake::NoHello {
        return (expected && !accepts("not-tls")).then_some(DenyReason::NotTls);
    }
    if !tls.sni_matches(destination) {
        return match tls.sni {
            Some(_) => Some(DenyReason::TlsMismatch),
            None => (!accepts("no-sni")).then_some(DenyReason::TlsHidden),
        };
    }
    (tls.ech && !tls.inspected && !accepts("ech")).then_some(DenyReason::TlsHidden)
}

fn not_tls() -> TlsFacts {
    TlsFacts {
        kind: Handshake::NoHello,
        ..TlsFacts::default()
    }
}

/// Tells a client that spoke TLS why, as far as TLS can, and closes. Anyone else gets a reset.
pub(super) async fn close(mut client: TcpStream, received: &[u8]) {
    if received.first() != Some(&HANDSHAKE) {
        return reset(client);
    }
    // A client that is gone needs no answer.
    let _gone = client.write_all(&ACCESS_DENIED).await;
    linger::close(client).await;
}

const DOOR: &str = "tls";

const HANDSHAKE: u8 = 22;

/// A fatal `access_denied` alert in a TLS 1.2 record, which every version reads.
///
/// Source: RFC 8446 section 6.2.
const ACCESS_DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

const LATE: &str = "the ClientHello was not complete in time";

#[cfg(test)]
mod tests {
    use cordon_policy::{Destination, Obligation, Seen, Transport};

    use super::*;

    fn basis(obligations: &[(&str, &str)]) -> Basis {
        let obligations = obligations.iter().map(|(name, value)| Obligation {
            name: (*name).into(),
            value: (*value).into(),
        });
        Basis {
            obligations: obligations.collect(),
            ..Basis::default()
        }
    }

    #[test]
    fn n12_the_floor_is_the_table_above() {
        let hello = |sni: Option<&str>, ech| TlsFacts {
            sni: sni.map(str::to_owned),
            ech,
            ..TlsFacts::default()
        };
        let (mismatch, hidden) = (Some(DenyReason::TlsMismatch), Some(DenyReason::TlsHidden));
        let plain = not_tls();
        let inspected = TlsFacts {
            inspected: true,
            ..hello(Some("a.test"), true)
        };
        for (target, tls, word, expected) in [
            ("a.test:443", hello(Some("a.test"), false), "", None),
            (
                "a.test:443",
                hello(Some("b.test"), false),
                "no-sni,ech,not-tls",
                mismatch,
            ),
            ("a.test:443", hello(Some("x.a.test"), false), "", mismatch),
            ("a.test:443", hello(None, false), "", hidden),
            ("a.test:443", hello(None, false), "ech", hidden),
            ("a.test:443", hello(None, false), "ech, no-sni", None),
            ("a.test:443", hello(Some("a.test"), true), "", hidden),
            ("a.test:443", hello(Some("a.test"), true), "no-sni", hidden),
            ("a.test:443", hello(Some("a.test"), true), "ech", None),
            ("a.test:443", hello(Some("b.test"), true), "ech", mismatch),
            ("a.test:443", inspected, "", None),
            ("a.test:443", plain.clone(), "", Some(DenyReason::NotTls)),
            ("a.test:443", plain, "not-tls", None),
            ("192.0.2.1:443", hello(None, false), "", None),
            (
                "192.0.2.1:443",
                hello(Some("a.test"), false),
                "no-sni",
                mismatch,
            ),
        ] {
            let operation = Operation::Connect {
                destination: Destination::from_authority(target.as_bytes()).unwrap(),
                transport: Transport::HttpConnect,
                seen: Seen::default(),
            };
            let found = floor(&operation, &tls, &basis(&[("tls", word)]), true);
            assert_eq!(found, expected, "{target} {tls:?} {word:?}");
        }
    }
}
