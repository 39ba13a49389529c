//! A small HTTP/1.1 origin, plain or with TLS, that keeps every request it sees.

use std::{
    fmt,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{Authority, Listener};

/// One request as it arrived.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Method.
    pub method: String,
    /// Request target as sent.
    pub target: String,
    /// Header lines as sent, without their ends.
    pub headers: Vec<String>,
    /// The body, decoded.
    pub body: Vec<u8>,
}

/// What to answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status code with its phrase.
    pub status: String,
    /// Header lines without their ends; the length is added.
    pub headers: Vec<String>,
    /// Body.
    pub body: Vec<u8>,
}

/// An origin that runs until it is dropped.
pub struct Origin {
    listener: Listener,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    requests: Mutex<Vec<Request>>,
}

impl Origin {
    /// A plain origin on `127.0.0.1`.
    pub fn http(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::http_on("127.0.0.1:0", answer)
    }

    /// A plain origin on an address and port of your choice.
    pub fn http_on(
        address: &str,
        answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::serve(address, answer, |stream: TcpStream| Some(stream))
    }

    /// An origin with TLS, under a certificate for `name` that `authority` signs.
    pub fn https(
        authority: &Authority,
        name: &str,
        answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let config = authority.server(name);
        Self::serve("127.0.0.1:0", answer, move |stream: TcpStream| {
            let session = rustls::ServerConnection::new(Arc::clone(&config)).ok()?;
            Some(rustls::StreamOwned::new(session, stream))
        })
    }

    fn serve<S: Read + Write>(
        address: &str,
        answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
        wrap: impl Fn(TcpStream) -> Option<S> + Send + Sync + 'static,
    ) -> Self {
        let seen = Arc::new(Seen::default());
        let keep = Arc::clone(&seen);
        let parts = Arc::new((answer, wrap));
        let listener = Listener::start(address, move |stream| {
            keep.connections.fetch_add(1, Ordering::SeqCst);
            let (answer, wrap) = &*parts;
            if let Some(stream) = wrap(stream) {
                let _ = converse(stream, |request| {
                    let reply = answer(&request);
                    keep.requests
                        .lock()
                        .expect("no thread panics with it")
                        .push(request);
                    reply
                });
            }
        });
        Self { listener, seen }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address().port()
    }

    /// `http://NAME:PORT/PATH`.
    pub fn url(&self, name: &str, path: &str) -> String {
        format!("http://{name}:{}{path}", self.port())
    }

    /// Connections that reached it, whatever they then said.
    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// Requests that reached it.
    pub fn requests(&self) -> Vec<Request> {
        self.seen
            .requests
            .lock()
            .expect("no thread panics with it")
            .clone()
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "origin on {}", self.address())
    }
}

impl Request {
    /// The value of a header, by its name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The path without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

impl Reply {
    /// 200 with a body.
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::status("200 OK", body)
    }

    /// Any status with a body.
    pub fn status(status: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: status.into(),
            headers: vec!["Content-Type: text/plain".into()],
            body: body.into(),
        }
    }
}

/// Answers requests on one connection until the peer closes it.
fn converse(stream: impl Read + Write, mut answer: impl FnMut(Request) -> Reply) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some(mut request) = head(&mut reader)? {
        if request
            .header("expect")
            .is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
        {
            reader
                .get_mut()
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        request.body = body(&mut reader, &request)?;
        let bodiless = request.method == "HEAD";
        let close = request
            .header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let reply = answer(request);
        let mut bytes = format!("HTTP/1.1 {}\r\n", reply.status).into_bytes();
        for line in &reply.headers {
            bytes.extend_from_slice(line.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", reply.body.len()).as_bytes());
        if !bodiless {
            bytes.extend_from_slice(&reply.body);
        }
        let stream = reader.get_mut();
        stream.write_all(&bytes)?;
        stream.flush()?;
        if close {
            break;
        }
    }
    Ok(())
}

fn head(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let Some(first) = line(reader)? else {
        return Ok(None);
    };
    let mut words = first.split(' ');
    let mut request = Request {
        method: words.next().unwrap_or_default().into(),
        target: words.next().unwrap_or_default().into(),
        ..Request::default()
    };
    while let Some(header) = line(reader)? {
        if header.is_empty() {
            return Ok(Some(request));
        }
        request.headers.push(header);
    }
    Ok(None)
}

fn line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    if reader.read_until(b'\n', &mut bytes)? == 0 {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&bytes);
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn body(reader: &mut impl BufRead, request: &Request) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(length) = request.header("content-length") {
        reader
            .take(length.parse().unwrap_or(0))
            .read_to_end(&mut bytes)?;
    } else if request.header("transfer-encoding").is_some() {
        while let Some(size) = line(reader)? {
            let size = u64::from_str_radix(size.split(';').next().unwrap_or("0"), 16).unwrap_or(0);
            reader.take(size).read_to_end(&mut bytes)?;
            line(reader)?;
            if size == 0 {
                break;
            }
        }
    }
    Ok(bytes)
}
