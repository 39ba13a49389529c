//! The ways out: each lets the allowed name through and refuses the denied one.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream, ToSocketAddrs as _},
};

use super::{
    Finding, Orders,
    network::{PATIENCE, answered, get},
};
use crate::network::{HTTP, SOCKS};

pub(super) fn findings(orders: &Orders) -> Vec<Finding> {
    let ways: [(&str, Way); 4] = [
        ("HTTP proxy", http),
        ("CONNECT", connect),
        ("SOCKS5", socks),
        ("captured TCP", captured),
    ];
    let mut found = Vec::new();
    for (name, way) in ways {
        let allowed = way(&orders.allowed, orders.allowed_port, &orders.answer);
        let allowed_words = format!("an allowed name by {name}");
        found.push(Finding::works("ways out", &allowed_words, allowed));
        let denied = way(&orders.denied, orders.denied_port, &orders.answer);
        let denied_words = format!("a denied name by {name}");
        found.push(Finding::refused("ways out", &denied_words, denied));
    }
    found
}

/// Fetches from a name and port; works when the expected answer came.
type Way = fn(&str, u16, &str) -> io::Result<String>;

fn http(name: &str, port: u16, expected: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&HTTP, PATIENCE)?;
    let host = format!("{name}:{port}");
    get(&mut stream, &host, &format!("http://{host}/"), expected)
}

fn connect(name: &str, port: u16, expected: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&HTTP, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let host = format!("{name}:{port}");
    let request = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let head = head(&mut stream)?;
    let line = head.lines().next().unwrap_or_default();
    if !line.contains(" 200 ") {
        return Err(io::Error::other(line.to_owned()));
    }
    get(&mut stream, &host, "/", expected)
}

/// Reads byte by byte up to the empty line, so that nothing of the tunnel is taken.
fn head(stream: &mut TcpStream) -> io::Result<String> {
    const LONGEST: usize = 16 << 10;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && head.len() < LONGEST {
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// RFC 1928, without authentication, by name.
fn socks(name: &str, port: u16, expected: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&SOCKS, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&[5, 1, 0])?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen)?;
    let length = u8::try_from(name.len()).map_err(io::Error::other)?;
    let mut request = vec![5, 1, 0, 3, length];
    request.extend(name.bytes());
    request.extend(port.to_be_bytes());
    stream.write_all(&request)?;
    let mut reply = [0; 10];
    stream.read_exact(&mut reply)?;
    match reply {
        [5, 0, ..] => get(&mut stream, &format!("{name}:{port}"), "/", expected),
        [_, code, ..] => Err(io::Error::other(format!("SOCKS reply {code}"))),
    }
}

/// As a program does that knows no proxy: look the name up, connect to what came.
fn captured(name: &str, port: u16, expected: &str) -> io::Result<String> {
    let mut addresses = (name, port).to_socket_addrs()?;
    let address = addresses.find(SocketAddr::is_ipv4);
    let address = address.ok_or_else(|| io::Error::other("the name has no address"))?;
    answered(address, expected)
}
