//! The network past the ways out: nothing of the host or the world answers directly.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use rustix::net::{AddressFamily, SocketType, ipproto, socket};

use super::{Finding, Orders};

/// How long one attempt may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

pub(super) fn findings(orders: &Orders) -> Vec<Finding> {
    let wall = "direct network";
    let mut found: Vec<Finding> = Vec::new();
    for address in &orders.host {
        let tcp = format!("TCP to a service of the host at {address}");
        found.push(Finding::refused(
            wall,
            &tcp,
            answered(*address, &orders.answer),
        ));
        let udp = format!("UDP to a service of the host at {address}");
        found.push(Finding::refused(wall, &udp, datagram(*address)));
    }
    for (name, address) in ELSEWHERE {
        let tcp = format!("TCP to {name}");
        let port = |port| SocketAddr::new(address, port);
        found.push(Finding::refused(wall, &tcp, answered(port(80), "")));
        let udp = format!("UDP to {name}");
        found.push(Finding::refused(wall, &udp, datagram(port(9))));
    }
    found.push(Finding::refused(
        wall,
        "ICMP (ping)",
        ping(SocketType::DGRAM),
    ));
    found.push(Finding::refused(
        wall,
        "ICMP by a raw socket",
        ping(SocketType::RAW),
    ));
    found.push(Finding::refused(wall, "packets past IP", packets()));
    found.push(Finding::works(
        wall,
        "a name query to a server elsewhere is answered by the session's own",
        names_stay_inside(&orders.denied),
    ));
    found.push(Finding::works(
        "loopback",
        "a service of the session's own answers on loopback",
        own_loopback(),
    ));
    found
}

/// Documentation addresses: nothing is there, and nothing may try.
const ELSEWHERE: [(&str, IpAddr); 2] = [
    ("198.51.100.1", IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1))),
    (
        "2001:db8::1",
        IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    ),
];

/// Works when a service gives a whole answer; a captured connection that policy ends does not.
pub(super) fn answered(address: SocketAddr, expected: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    let host = address.to_string();
    get(&mut stream, &host, "/", expected)
}

/// One request, and whether what is expected is in the answer.
pub(super) fn get(
    stream: &mut TcpStream,
    host: &str,
    target: &str,
    expected: &str,
) -> io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut text = Vec::new();
    stream.take(LONGEST_ANSWER).read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().next().unwrap_or_default();
    if text.is_empty() {
        return Err(io::Error::other("closed without an answer"));
    }
    if line.contains(" 200 ") && text.contains(expected) {
        return Ok(line.into());
    }
    Err(io::Error::other(line.to_owned()))
}

const LONGEST_ANSWER: u64 = 64 << 10;

/// Works when the kernel takes a datagram for it. Whether one arrives is counted outside.
fn datagram(address: SocketAddr) -> io::Result<usize> {
    let own: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(own)?;
    socket.connect(address)?;
    socket.send(b"cordon")?;
    // What the namespace has nobody for comes back as an error to the next call.
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    match socket.recv(&mut [0; 64]) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(io::Error::other("no answer"))
        }
        other => other,
    }
}

pub(super) fn ping(kind: SocketType) -> io::Result<()> {
    socket(AddressFamily::INET, kind, Some(ipproto::ICMP))?;
    Ok(())
}

pub(super) fn packets() -> io::Result<()> {
    socket(AddressFamily::PACKET, SocketType::RAW, None)?;
    Ok(())
}

/// Asks a server elsewhere for a name that nobody may reach; a synthetic address says that the
/// query went no further than the session.
fn names_stay_inside(name: &str) -> io::Result<String> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect((Ipv4Addr::new(198, 51, 100, 53), 53))?;
    socket.send(&query(name))?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer)?;
    let answer = answer.get(..length).unwrap_or_default();
    // One answer, whose address is what comes last.
    let count = answer.get(6..8);
    let last: Option<[u8; 4]> = answer.last_chunk().copied();
    match (count, last) {
        (Some([0, 1]), Some([198, 18..=19, c, d])) => Ok(format!("synthetic 198.18.{c}.{d}")),
        _ => Err(io::Error::other("answered with something else")),
    }
}

/// RFC 1035: one question for an address.
fn query(name: &str) -> Vec<u8> {
    let mut bytes = vec![0xc0, 0x7d, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap_or(0));
        bytes.extend(label.bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

fn own_loopback() -> io::Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut ours = TcpStream::connect_timeout(&listener.local_addr()?, PATIENCE)?;
    let (mut theirs, from) = listener.accept()?;
    ours.write_all(b"own")?;
    let mut got = [0; 3];
    theirs.set_read_timeout(Some(PATIENCE))?;
    theirs.read_exact(&mut got)?;
    if &got == b"own" && from == ours.local_addr()? {
        return Ok("answered by itself".into());
    }
    Err(io::Error::other("something else was connected"))
}
