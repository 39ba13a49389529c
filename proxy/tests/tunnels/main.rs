//! Many tunnels at rest: what each of them keeps, and that nothing of them stays.
//!
//! `CORDON_TUNNELS` (default 2,000) says how many: never fewer, because the documentation says so
//! too. Its own program, because it counts what the whole process has allocated. Clients and origin are plain
//! sockets, which take nothing of what is counted.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "helpers of tests fail by panicking, and clients here are plain sockets"
)]

#[expect(dead_code, reason = "shared with the other tests of the egress")]
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/descriptors.rs"]
mod descriptors;
#[path = "../common/held.rs"]
mod held;

use std::{
    alloc::System,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::Duration,
};

use common::{decisions, flows, house_plus};
use descriptors::raise_descriptors;
use held::Held;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What `docs/egress/limits.md` says that a tunnel at rest takes, in bytes.
const DOCUMENTED: u64 = 6 * 1024;

/// Descriptors of one tunnel: the client's, two of the proxy's, the origin's.
const DESCRIPTORS: u64 = 4;

const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes that are allocated and not freed.
fn allocated() -> u64 {
    let told = COUNTED.stats();
    told.bytes_allocated.saturating_sub(told.bytes_deallocated) as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n24_a_tunnel_at_rest_takes_what_is_documented() {
    let count: usize = std::env::var("CORDON_TUNNELS").map_or(2000, |n| n.parse().unwrap());
    let (most, needed) = (raise_descriptors(), 500 + DESCRIPTORS * count as u64);
    assert!(
        most >= needed,
        "{needed} descriptors are needed and {most} allowed: raise the hard limit (`ulimit -Hn`), \
         or measure fewer tunnels by `CORDON_TUNNELS`"
    );
    let house = house_plus(
        "[limits]\nconnections = 20000\nconnections_per_destination = 20000\n",
        "",
    );
    let (origin, accepted) = origin();

    // What opens once and stays, the log's files say, is no tunnel's.
    let tasks = Held::now().tasks;
    let warm = open(house.http, origin, &accepted, 100).await;
    drop(warm);
    let at_rest = Held::settled(tasks, usize::MAX, PATIENCE).await;
    let before = allocated();
    let tunnels = open(house.http, origin, &accepted, count).await;
    let full = Held::now();
    let each = allocated().saturating_sub(before) / count as u64;
    let resident = full.resident.saturating_sub(at_rest.resident) / count as u64;
    eprintln!("{count} tunnels: {each} bytes each, {resident} of resident memory");
    assert!(
        full.descriptors >= 2 * count,
        "they are open: {at_rest:?}, then {full:?}"
    );
    assert!(each < DOCUMENTED, "{each} bytes each");

    drop(tunnels);
    let after = Held::settled(at_rest.tasks, at_rest.descriptors, PATIENCE).await;
    let left = allocated().saturating_sub(before) / count as u64;
    assert!(
        after.tasks <= at_rest.tasks && after.descriptors <= at_rest.descriptors,
        "left over: {at_rest:?}, then {after:?}"
    );
    assert!(left < each / 4, "{left} bytes of {each} stay");
    let records = house.end().await;
    assert_eq!(decisions(&records, "allow").len(), count + 100);
    assert_eq!(flows(&records).len(), count + 100);
}

/// Both ends of a tunnel.
type Ends = (TcpStream, TcpStream);

/// Opens so many tunnels, each after some bytes went through it both ways.
async fn open(
    proxy: SocketAddr,
    origin: SocketAddr,
    accepted: &mpsc::Receiver<TcpStream>,
    count: usize,
) -> Vec<Ends> {
    let mut tunnels = Vec::with_capacity(count);
    for _ in 0..count {
        let one = || one(proxy, origin.port(), accepted);
        tunnels.push(tokio::task::block_in_place(one));
    }
    tunnels
}

fn one(proxy: SocketAddr, port: u16, accepted: &mpsc::Receiver<TcpStream>) -> Ends {
    let mut client = TcpStream::connect(proxy).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let authority = format!("allowed.example:{port}");
    let head = format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n");
    client.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    assert!(
        answer.starts_with(b"HTTP/1.1 200 "),
        "{}",
        answer.escape_ascii()
    );
    let mut server = accepted.recv_timeout(PATIENCE).unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut heard = [0; 4];
    client.write_all(b"ping").unwrap();
    server.read_exact(&mut heard).unwrap();
    server.write_all(&heard).unwrap();
    client.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"ping");
    (client, server)
}

/// A listener whose connections are handed over as they come.
fn origin() -> (SocketAddr, mpsc::Receiver<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (hand_over, accepted) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            if hand_over.send(stream.unwrap()).is_err() {
                return;
            }
        }
    });
    (address, accepted)
}
