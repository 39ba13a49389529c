//! The host's side of the check: listeners that count who reaches them.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr as UnixAddress, UnixListener, UnixStream},
    },
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// A service that counts. Its thread ends with this process.
#[derive(Clone, Debug)]
pub struct Counter {
    /// What it is, in words.
    pub what: String,
    hits: Arc<AtomicUsize>,
}

impl Counter {
    fn new(what: String) -> Self {
        Self {
            what,
            hits: Arc::default(),
        }
    }

    fn hit(&self) {
        self.hits.fetch_add(1, Ordering::SeqCst);
    }

    /// How often it was reached.
    pub fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }

    /// Reaches it once by `knock`, from the host, and forgets that: what nobody can reach proves
    /// nothing.
    ///
    /// # Errors
    /// When it was not counted.
    pub fn control(&self, knock: impl FnOnce() -> io::Result<()>) -> io::Result<String> {
        knock()?;
        let deadline = Instant::now() + PATIENCE;
        while self.hits() == 0 {
            if Instant::now() > deadline {
                return Err(io::Error::other("it was not counted"));
            }
            thread::yield_now();
        }
        self.hits.store(0, Ordering::SeqCst);
        Ok("counted".into())
    }
}

/// Longer than any request of the probe, in bytes.
const LONGEST_REQUEST: usize = 16 << 10;

/// How long a knock of our own may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// An HTTP service and a UDP socket on one port.
#[derive(Debug)]
pub struct Service {
    /// Where.
    pub address: SocketAddr,
    /// Connections.
    pub tcp: Counter,
    /// Datagrams.
    pub udp: Counter,
}

impl Service {
    /// On `ip`, answering `answer` to every request.
    ///
    /// # Errors
    /// When no port is free for both.
    pub fn start(ip: IpAddr, answer: &str) -> io::Result<Self> {
        let mut last = io::Error::other("no port");
        for _try in 0..16 {
            let listener = TcpListener::bind((ip, 0))?;
            let address = listener.local_addr()?;
            match UdpSocket::bind(address) {
                Ok(socket) => return Self::serve(address, listener, socket, answer),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn serve(
        address: SocketAddr,
        listener: TcpListener,
        socket: UdpSocket,
        answer: &str,
    ) -> io::Result<Self> {
        let tcp = Counter::new(format!("TCP connections to {address}"));
        let udp = Counter::new(format!("UDP datagrams to {address}"));
        let (counter, reply) = (tcp.clone(), reply(answer));
        spawn("tcp", move || {
            for stream in listener.incoming().flatten() {
                counter.hit();
                // A caller that breaks off has been counted.
                let _gone = respond(stream, &reply);
            }
        })?;
        let counter = udp.clone();
        spawn("udp", move || {
            while socket.recv(&mut [0; 64]).is_ok() {
                counter.hit();
            }
        })?;
        Ok(Self { address, tcp, udp })
    }

    /// A TCP connection from the host.
    ///
    /// # Errors
    /// As [`Counter::control`].
    pub fn control_tcp(&self) -> io::Result<String> {
        let knock = || TcpStream::connect_timeout(&self.address, PATIENCE).map(drop);
        self.tcp.control(knock)
    }

    /// A datagram from the host.
    ///
    /// # Errors
    /// As [`Counter::control`].
    pub fn control_udp(&self) -> io::Result<String> {
        let own: SocketAddr = match self.address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let address = self.address;
        self.udp
            .control(|| UdpSocket::bind(own)?.send_to(b"x", address).map(drop))
    }
}

fn reply(answer: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}",
        answer.len()
    )
}

fn respond(mut stream: TcpStream, reply: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = Vec::new();
    let mut part = [0; 1024];
    // Left unread, it would turn the answer into a reset.
    while !request.ends_with(b"\r\n\r\n") && request.len() < LONGEST_REQUEST {
        match stream.read(&mut part)? {
            0 => return Ok(()),
            n => request.extend_from_slice(part.get(..n).unwrap_or_default()),
        }
    }
    stream.write_all(reply.as_bytes())
}

/// A unix socket by path.
///
/// # Errors
/// When it cannot be bound.
pub fn unix_service(path: &Path) -> io::Result<Counter> {
    let listener = UnixListener::bind(path)?;
    count_unix(listener, format!("connections to {}", path.display()))
}

/// A unix socket by abstract name.
///
/// # Errors
/// When it cannot be bound.
pub fn abstract_service(name: &str) -> io::Result<Counter> {
    let listener = UnixListener::bind_addr(&UnixAddress::from_abstract_name(name)?)?;
    count_unix(
        listener,
        format!("connections to the abstract socket {name}"),
    )
}

/// Connects to the abstract socket from the host.
///
/// # Errors
/// What connect(2) says.
pub fn knock_abstract(name: &str) -> io::Result<()> {
    let address = UnixAddress::from_abstract_name(name)?;
    UnixStream::connect_addr(&address).map(drop)
}

fn count_unix(listener: UnixListener, what: String) -> io::Result<Counter> {
    let counter = Counter::new(what);
    let counted = counter.clone();
    spawn("unix", move || {
        for _stream in listener.incoming().flatten() {
            counted.hit();
        }
    })?;
    Ok(counter)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.into()).spawn(work)?;
    Ok(())
}

/// Loopback of both families where there is one, and the address that the host has towards the
/// world, where it has one.
pub fn addresses() -> Vec<IpAddr> {
    let mut found = vec![
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ];
    found.extend(towards_the_world());
    found.retain(|ip| TcpListener::bind((*ip, 0)).is_ok());
    found
}

/// By a route lookup; nothing is sent.
fn towards_the_world() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(198, 51, 100, 1), 9)).ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_loopback() && !own.is_unspecified()).then_some(own)
}
