//! Answers the session's DNS queries out of nothing.
//!
//! A query in, a synthetic address out; the same name has the same address as long as the session
//! lives. Nothing is ever looked up outside and nothing leaves the machine (N11): only when the
//! session connects to a synthetic address is its name decided, and only then resolved.

mod names;

use std::{net::Ipv4Addr, str::FromStr, sync::Arc};

use cordon_policy::NormalizedHost;
use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, RData, Record, RecordType, rdata},
};
use tokio::{net::UdpSocket, sync::watch};

pub(crate) use names::SyntheticNames;

use crate::{accept::Stage, limits, pace::Pace, refuse::Fault, session::Session, tunnel};

/// Answers until the session ends.
pub(crate) async fn serve(
    socket: UdpSocket,
    session: Arc<Session>,
    mut stop: watch::Receiver<Stage>,
) {
    let answering = async {
        // What does not fit the socket's queue meanwhile is lost, as datagrams are.
        let pace = Pace::new(limits::DNS_QUERIES_PER_SECOND, limits::DNS_QUERY_BURST);
        // One byte more than the longest query, so that a longer one is seen to be longer.
        let mut buffer = vec![0; limits::DNS_QUERY_BYTES + 1];
        loop {
            pace.wait().await;
            // An error here is an earlier answer that its client did not wait for.
            let Ok((read, client)) = socket.recv_from(&mut buffer).await else {
                continue;
            };
            let query = buffer.get(..read).unwrap_or_default();
            if let Some(response) = respond(&session, query).await {
                // A client that is gone asks again or does not.
                let _gone = socket.send_to(&response, client).await;
            }
        }
    };
    tokio::select! {
        _stopped = stop.wait_for(|stage| *stage == Stage::Stopped) => {}
        () = answering => {}
    }
}

/// The response to one query, or nothing where there is nobody to answer.
async fn respond(session: &Session, query: &[u8]) -> Option<Vec<u8>> {
    let (response, trouble) = reply(session.names(), query)?;
    match trouble {
        None => {}
        Some(Trouble::NoHost(raw, problem)) => {
            // Recorded; the answer is the same whether that worked or not: there is none.
            tunnel::fault(session, "dns", raw.as_bytes(), Fault::Malformed, problem).await;
        }
        Some(Trouble::Full) => {
            let names = limits::DNS_NAMES_PER_SESSION;
            tracing::warn!(session = %session.gate().session().id, names, "no synthetic address left");
        }
    }
    response.to_vec().ok()
}

/// What there is to tell about a query, beside the answer.
pub(crate) enum Trouble {
    /// The name is that of no host: the name, and what is wrong with it.
    NoHost(String, String),
    /// No synthetic address is left.
    Full,
}

/// The response to one query, out of the names alone.
pub(crate) fn reply(names: &SyntheticNames, query: &[u8]) -> Option<(Message, Option<Trouble>)> {
    if query.len() > limits::DNS_QUERY_BYTES {
        return None;
    }
    let query = Message::from_vec(query).ok()?;
    // Answering a response could be made into a loop.
    if query.metadata.message_type != MessageType::Query {
        return None;
    }
    let mut response = Message::response(query.metadata.id, query.metadata.op_code);
    response.metadata.recursion_desired = query.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.add_queries(query.queries.iter().cloned());
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(1232);
        response.set_edns(edns);
    }
    let answer = match (query.metadata.op_code, query.queries.as_slice()) {
        (OpCode::Query, [question]) => answer(names, question),
        (OpCode::Query, _) => Answer::Code(ResponseCode::FormErr),
        _ => Answer::Code(ResponseCode::NotImp),
    };
    let mut trouble = None;
    match answer {
        Answer::Record(record) => {
            response.add_answer(*record);
        }
        Answer::NoData => {}
        Answer::Code(code) => response.metadata.response_code = code,
        Answer::Trouble(code, what) => {
            response.metadata.response_code = code;
            trouble = Some(what);
        }
    }
    Some((response, trouble))
}

/// What a question gets.
enum Answer {
    Record(Box<Record>),
    /// The name exists, without a record of that type.
    NoData,
    Code(ResponseCode),
    /// As before, and there is something to tell.
    Trouble(ResponseCode, Trouble),
}

fn answer(names: &SyntheticNames, question: &Query) -> Answer {
    if question.query_class() != DNSClass::IN {
        return Answer::Code(ResponseCode::NotImp);
    }
    let host = match host(question.name()) {
        Ok(host) => host,
        Err(problem) => {
            let raw = question.name().to_ascii();
            return Answer::Trouble(ResponseCode::NXDomain, Trouble::NoHost(raw, problem));
        }
    };
    match question.query_type() {
        RecordType::A | RecordType::ANY => forward(names, question.name(), host),
        RecordType::PTR => reverse(names, question.name()),
        _ => Answer::NoData,
    }
}

fn forward(names: &SyntheticNames, name: &Name, host: NormalizedHost) -> Answer {
    let address = if is_localhost(&host) {
        Some(Ipv4Addr::LOCALHOST)
    } else {
        names.address_of(host)
    };
    match address {
        Some(address) => record(name, RData::A(rdata::A(address))),
        None => Answer::Trouble(ResponseCode::ServFail, Trouble::Full),
    }
}

/// Names of our own synthetic addresses only; of any other address nothing is known here.
fn reverse(names: &SyntheticNames, name: &Name) -> Answer {
    let known = name
        .parse_arpa_name()
        .ok()
        .filter(|network| network.prefix_len() == network.max_prefix_len())
        .and_then(|network| names.name_of(network.addr()))
        .and_then(|host| Name::from_ascii(format!("{host}.")).ok());
    match known {
        Some(host) => record(name, RData::PTR(rdata::PTR(host))),
        None => Answer::Code(ResponseCode::NXDomain),
    }
}

fn record(name: &Name, data: RData) -> Answer {
    let record = Record::from_rdata(name.clone(), limits::DNS_TTL_SECONDS, data);
    Answer::Record(Box::new(record))
}

/// The host that a question is about, in its one spelling, or what is wrong with it.
fn host(name: &Name) -> Result<NormalizedHost, String> {
    let mut text = String::with_capacity(name.len());
    for label in name {
        // A label may hold any byte, a dot too: joining it would make another name of it.
        let label = std::str::from_utf8(label)
            .ok()
            .filter(|label| !label.contains('.'))
            .ok_or("a label of the name holds a dot or is not ASCII; ask for a host name")?;
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(label);
    }
    NormalizedHost::from_str(&text).map_err(|error| error.to_string())
}

/// Source: RFC 6761 section 6.3.
fn is_localhost(host: &NormalizedHost) -> bool {
    let name = host.as_str();
    name == "localhost" || name.ends_with(".localhost")
}
