//! A nameserver on loopback that counts what it is asked. Answers from a small table, NXDOMAIN
//! for the rest.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex},
    time::Duration,
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata},
};

/// Names that resolve, and where to.
const TABLE: [(&str, &str); 8] = [
    ("public.allowed.example.", "203.0.113.9"),
    ("rebound.allowed.example.", "127.0.0.1"),
    ("metadata.allowed.example.", "169.254.169.254"),
    ("six.allowed.example.", "::ffff:127.0.0.1"),
    ("translated.allowed.example.", "64:ff9b::7f00:1"),
    ("here.lab.example.", "127.0.0.1"),
    ("plain.allowed.example.", "127.0.0.1"),
    ("tracker.elsewhere.example.", "127.0.0.1"),
];

/// Names that lead to another name.
const ALIASES: [(&str, &str); 2] = [
    ("alias.allowed.example.", "middle.allowed.example."),
    ("middle.allowed.example.", "tracker.elsewhere.example."),
];

/// Runs until dropped.
pub struct Nameserver {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Nameserver {
    pub fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::downgrade(&asked);
        // Wakes up now and then only to see whether the test is over.
        let pause = Some(Duration::from_millis(200));
        socket.set_read_timeout(pause).unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Some(seen) = seen.upgrade() {
                let Ok((read, from)) = socket.recv_from(&mut buffer) else {
                    continue;
                };
                let query = Message::from_vec(buffer.get(..read).unwrap()).unwrap();
                let question = query.queries.first().unwrap().clone();
                seen.lock().unwrap().push(question.name().to_ascii());
                let answer = answer(&query).to_vec().unwrap();
                socket.send_to(&answer, from).unwrap();
            }
        });
        Self { address, asked }
    }

    /// Every name it was asked for, in order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// What it answers, over whatever transport.
pub fn answer(query: &Message) -> Message {
    let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
    answer.add_queries(query.queries.iter().cloned());
    let question = query.queries.first().unwrap();
    let mut name = question.name().to_ascii().to_ascii_lowercase();
    let mut at = question.name().clone();
    while let Some((_, target)) = ALIASES.iter().find(|(alias, _)| *alias == name) {
        let target = Name::from_ascii(target).unwrap();
        let data = RData::CNAME(rdata::CNAME(target.clone()));
        answer.add_answer(Record::from_rdata(at, 60, data));
        name = target.to_ascii();
        at = target;
    }
    let Some((_, address)) = TABLE.iter().find(|(known, _)| *known == name) else {
        answer.metadata.response_code = ResponseCode::NXDomain;
        answer.add_authority(authority());
        return answer;
    };
    let data = match address.parse::<IpAddr>().unwrap() {
        IpAddr::V4(address) if question.query_type() == RecordType::A => {
            Some(RData::A(rdata::A(address)))
        }
        IpAddr::V6(address) if question.query_type() == RecordType::AAAA => {
            Some(RData::AAAA(rdata::AAAA(address)))
        }
        _ => None,
    };
    match data {
        Some(data) => answer.add_answer(Record::from_rdata(at, 60, data)),
        None => answer.add_authority(authority()),
    };
    answer
}

/// Without it nobody may keep that there is no answer (RFC 2308 section 5).
fn authority() -> Record {
    let zone = Name::from_ascii("example.").unwrap();
    let soa = rdata::SOA::new(zone.clone(), zone.clone(), 1, 60, 60, 60, 60);
    Record::from_rdata(zone, 60, RData::SOA(soa))
}
