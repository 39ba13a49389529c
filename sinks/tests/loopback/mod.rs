//! Receivers on the loopback: an HTTP server that keeps what it got, and a C2SP witness.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signer as _, SigningKey};
use sha2::{Digest as _, Sha256};

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Request {
    pub head: String,
    pub body: Vec<u8>,
}

/// What is answered.
#[derive(Clone, Debug)]
pub struct Answer {
    status: u16,
    body: String,
}

/// Makes an answer from the number of the request and its body.
type Handler = dyn Fn(usize, &[u8]) -> Answer + Send + Sync;

/// An HTTP server.
pub struct Server {
    pub url: String,
    got: Arc<Mutex<Vec<Request>>>,
}

/// A witness: cosigns what is consistent with what it saw, by the sizes that requests state.
pub struct Witness {
    pub server: Server,
    pub key: String,
}

impl Request {
    pub fn header(&self, name: &str) -> String {
        let line = self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        });
        line.unwrap_or_default().to_owned()
    }
}

impl Answer {
    pub fn status(status: u16) -> Self {
        Self {
            status,
            body: String::new(),
        }
    }
}

impl Server {
    pub fn start(handler: impl Fn(usize, &[u8]) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let got = Arc::new(Mutex::new(Vec::new()));
        let (kept, handler): (_, Arc<Handler>) = (Arc::clone(&got), Arc::new(handler));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (kept, handler) = (Arc::clone(&kept), Arc::clone(&handler));
                thread::spawn(move || converse(stream.unwrap(), &kept, &*handler));
            }
        });
        Self { url, got }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.got.lock().unwrap().clone()
    }
}

fn converse(stream: TcpStream, kept: &Mutex<Vec<Request>>, handler: &Handler) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let mut request = Request {
            head,
            body: Vec::new(),
        };
        let length = request.header("content-length").parse().unwrap_or(0);
        request.body.resize(length, 0);
        reader.read_exact(&mut request.body).unwrap();
        let number = kept.lock().unwrap().len();
        let answer = handler(number, &request.body);
        kept.lock().unwrap().push(request);
        let length = answer.body.len();
        let head = format!(
            "HTTP/1.1 {} X\r\nContent-Length: {length}\r\n\r\n",
            answer.status
        );
        writer.write_all((head + &answer.body).as_bytes()).unwrap();
    }
}

impl Witness {
    pub fn start() -> Self {
        let seen = Mutex::new(0_u64);
        let server = Server::start(move |_, body| {
            let text = std::str::from_utf8(body).unwrap();
            let (head, note) = text.split_once("\n\n").unwrap();
            let old: u64 = head.lines().next().unwrap()[4..].parse().unwrap();
            let mut seen = seen.lock().unwrap();
            if old != *seen {
                return Answer {
                    status: 409,
                    body: format!("{seen}\n"),
                };
            }
            let (body, _) = note.split_once("\n\n").unwrap();
            let body = format!("{body}\n");
            *seen = body.lines().nth(1).unwrap().parse().unwrap();
            Answer {
                status: 200,
                body: cosign(&body, 7),
            }
        });
        Self {
            server,
            key: witness_key(7),
        }
    }
}

/// A cosignature line. Source: C2SP tlog-cosignature.
fn cosign(body: &str, key: u8) -> String {
    let time = 1_780_000_000_u64;
    let message = format!("cosignature/v1\ntime {time}\n{body}");
    let signature = signing_key(key).sign(message.as_bytes()).to_bytes();
    let bytes = [&key_id(key)[..], &time.to_be_bytes(), &signature].concat();
    format!("\u{2014} {NAME} {}\n", STANDARD.encode(bytes))
}

/// `name+id+key`.
pub fn witness_key(key: u8) -> String {
    let hex: String = key_id(key).iter().map(|b| format!("{b:02x}")).collect();
    let bytes = [&[4], signing_key(key).verifying_key().as_bytes().as_slice()].concat();
    format!("{NAME}+{hex}+{}", STANDARD.encode(bytes))
}

fn key_id(key: u8) -> [u8; 4] {
    let public = signing_key(key).verifying_key();
    let text = [NAME.as_bytes(), b"\n\x04", public.as_bytes()].concat();
    Sha256::digest(text)[..4].try_into().unwrap()
}

fn signing_key(key: u8) -> SigningKey {
    SigningKey::from_bytes(&[key; 32])
}

const NAME: &str = "witness.example.com";
