//! Many flows of every kind, most of them ended badly, and then: nothing is left.
//!
//! `CORDON_SOAK_REQUESTS` (default 4,000) says how many. A tenth of them is a warm-up, after which
//! descriptors, tasks and memory are counted; they are counted again at the end. Its own
//! program, because it counts what the whole process holds.
//!
//! ```text
//! CORDON_SOAK_REQUESTS=1000000 cargo test --release -p cordon-proxy --test soak -- --nocapture
//! ```

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

#[expect(dead_code, reason = "shared with the other tests of the egress")]
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/held.rs"]
mod held;

use std::{
    alloc::System,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use common::{connect, decisions, flows, get, house_plus, message, socks_name};
use held::Held;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// Memory is counted where it is asked for: pages come and go with an allocator's habits, and hide
/// what each request leaves.
#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes that are allocated and not freed.
fn allocated() -> u64 {
    let told = COUNTED.stats();
    told.bytes_allocated.saturating_sub(told.bytes_deallocated) as u64
}

/// What one request may leave on average, in bytes: a log's tree and index grow with its records.
const LEFT_EACH: u64 = 128;

/// What may come on top once, in bytes: caches that fill.
const LEFT_ONCE: u64 = 512 * 1024;

/// Clients at once.
const CLIENTS: u64 = 16;

/// Resident memory that may come on top after the warm-up, in bytes: what an allocator and a
/// log's caches take their time to reach.
const GROWTH: u64 = 48 * 1024 * 1024;

/// The origin is restarted after so many requests, in the middle of those that are under way.
const RESTART_EVERY: u64 = 1000;

/// What a client that stops reading is sent: more than all buffers between hold.
const LARGE: usize = 16 * 1024 * 1024;

/// How long what has ended may take to be gone.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n24_many_flows_that_end_badly_leave_nothing_behind() {
    let requests: u64 = std::env::var("CORDON_SOAK_REQUESTS").map_or(4000, |n| n.parse().unwrap());
    // Clients that leave while the origin is silent are not waited for long.
    let house = house_plus("[limits]\nhalf_closed_seconds = 0.5\n", "");
    let origin = Rough::start().await;
    let doors = Doors {
        http: house.http,
        socks: house.socks,
        port: origin.address.port(),
    };
    let began = Instant::now();

    // One of each kind first: what opens once and stays is no leak.
    let tasks = Held::now().tasks;
    soak(doors, 0..80, &origin).await;
    origin.restart();
    let at_rest = Held::settled(tasks, usize::MAX, PATIENCE).await;
    soak(doors, 80..requests / 10, &origin).await;
    origin.restart();
    let before = Held::settled(tasks, at_rest.descriptors, PATIENCE).await;
    let mut counts = vec![allocated()];
    let mut after = Held::now();
    for half in [requests / 10..requests / 2, requests / 2..requests] {
        soak(doors, half, &origin).await;
        origin.restart();
        after = Held::settled(tasks, at_rest.descriptors, PATIENCE).await;
        counts.push(allocated());
        eprintln!("{after:?}");
    }
    // The first half may fill caches; what the second leaves is left by each request.
    let [first, second] = [0, 1].map(|at| counts[at + 1].saturating_sub(counts[at]));
    eprintln!(
        "{first} bytes more are allocated after the first half and {second} after the second, {} each",
        second / (requests / 2)
    );
    eprintln!(
        "{requests} requests in {:.0?}: {before:?}, then {after:?}; the origin was restarted {} times",
        began.elapsed(),
        origin.restarts.load(Ordering::Relaxed)
    );
    assert!(
        after.descriptors <= at_rest.descriptors && after.tasks <= tasks,
        "left over: {at_rest:?}, then {after:?}"
    );
    assert!(
        after.resident < before.resident + GROWTH,
        "{before:?}, then {after:?}"
    );
    assert!(
        first < LEFT_ONCE + LEFT_EACH * requests / 2 && second < LEFT_EACH * requests / 2,
        "{first} and {second} bytes are left of {requests} requests"
    );
    if requests <= 20_000 {
        let records = house.end().await;
        let allowed = decisions(&records, "allow").len();
        let refused = decisions(&records, "deny").len();
        // Every allow ended, in the log too: as a flow or as a refusal that took it back.
        assert_eq!(flows(&records).len(), allowed);
        assert!(
            refused as u64 >= requests / 16,
            "{refused} of {requests} refused"
        );
    }
}

#[derive(Clone, Copy)]
struct Doors {
    http: SocketAddr,
    socks: SocketAddr,
    port: u16,
}

async fn soak(doors: Doors, numbers: std::ops::Range<u64>, origin: &Rough) {
    let next = Arc::new(AtomicU64::new(numbers.start));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let next = Arc::clone(&next);
        let origin = origin.generation.clone();
        let end = numbers.end;
        clients.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= end {
                    return;
                }
                if number.is_multiple_of(RESTART_EVERY) {
                    restart(&origin);
                }
                let one = one(doors, number);
                let done = tokio::time::timeout(Duration::from_secs(30), one).await;
                assert!(
                    done.is_ok(),
                    "request {number} of kind {} hangs",
                    number % 16
                );
            }
        });
    }
    while let Some(done) = clients.join_next().await {
        done.unwrap();
    }
}

/// One request of the kind that its number says. What comes of it is for the origin's moods to
/// decide; that it comes to an end is what counts.
async fn one(doors: Doors, number: u64) {
    let authority = format!("allowed.example:{}", doors.port);
    let path = [
        "/", "/reset", "/short", "/silent", "/chunks", "/stall", "/large",
    ][usize::try_from(number % 7).unwrap()];
    match number % 16 {
        // Kept connections.
        0..=6 => {
            let mut client = connect(doors.http).await;
            for path in ["/", path] {
                send(&mut client, &get(&authority, path)).await;
                if leaves(path, &mut client).await || heard(&mut client).await.is_none() {
                    return;
                }
            }
        }
        7 | 8 => {
            let mut client = connect(doors.http).await;
            let head = format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n");
            send(&mut client, head.as_bytes()).await;
            if heard(&mut client)
                .await
                .is_some_and(|head| head.contains(" 200 "))
            {
                send(&mut client, &origin_form(path)).await;
                if !leaves(path, &mut client).await {
                    let _broken = heard(&mut client).await;
                }
            }
        }
        9 | 10 => {
            let (reply, mut tunnel) = socks_name(doors.socks, b"allowed.example", doors.port).await;
            if reply == 0 {
                send(&mut tunnel, &origin_form(path)).await;
                let _half = tunnel.shutdown().await;
                if !leaves(path, &mut tunnel).await {
                    let _broken = tunnel.read_to_end(&mut Vec::new()).await;
                }
            }
        }
        // Leaves in the middle of a request.
        11 => {
            let mut client = connect(doors.http).await;
            send(&mut client, &get(&authority, "/")[..20]).await;
            reset(client);
        }
        // Leaves in the middle of an answer.
        12 => {
            let mut client = connect(doors.http).await;
            send(&mut client, &get(&authority, "/chunks")).await;
            let _first = client.read_u8().await;
            reset(client);
        }
        13 => {
            let mut client = connect(doors.http).await;
            send(
                &mut client,
                &get(&format!("denied.example:{}", doors.port), "/"),
            )
            .await;
            assert!(heard(&mut client).await.unwrap().contains(" 403 "));
        }
        14 => {
            let (reply, _) = socks_name(doors.socks, b"denied.example", doors.port).await;
            assert_eq!(reply, 2);
        }
        _ => {
            let mut client = connect(doors.http).await;
            send(&mut client, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
            assert!(heard(&mut client).await.unwrap().contains(" 400 "));
        }
    }
}

/// Whether this path is one whose answer the client does not wait for to the end: it leaves at
/// once, or in the middle of what has stalled on the origin's side or on its own.
async fn leaves(path: &str, client: &mut TcpStream) -> bool {
    let some = match path {
        "/silent" => 0,
        "/stall" | "/large" => 40,
        _ => return false,
    };
    let _broken = client.read_exact(&mut vec![0; some]).await;
    true
}

/// Sends as far as it can be sent: the other side may be gone.
async fn send(stream: &mut TcpStream, bytes: &[u8]) {
    let _gone = stream.write_all(bytes).await;
}

/// The head of an answer; its body is read.
async fn heard(stream: &mut TcpStream) -> Option<String> {
    message(stream).await.map(|(head, _body)| head)
}

fn origin_form(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").into_bytes()
}

fn reset(stream: TcpStream) {
    let _unset = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}

/// An origin with moods, by path, which can be restarted on its port.
struct Rough {
    address: SocketAddr,
    restarts: Arc<AtomicU64>,
    generation: watch::Sender<u64>,
}

impl Rough {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (generation, again) = watch::channel(0);
        let restarts = Arc::new(AtomicU64::new(0));
        tokio::spawn(Self::run(listener, again, Arc::clone(&restarts)));
        Self {
            address,
            restarts,
            generation,
        }
    }

    /// Breaks every connection and listens anew on the same port.
    fn restart(&self) {
        restart(&self.generation);
    }

    async fn run(
        mut listener: TcpListener,
        mut again: watch::Receiver<u64>,
        restarts: Arc<AtomicU64>,
    ) {
        let address = listener.local_addr().unwrap();
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    if let Ok((stream, _)) = accepted {
                        connections.spawn(moods(stream));
                    }
                }
                Some(_done) = connections.join_next() => {}
                changed = again.changed() => {
                    connections.shutdown().await;
                    drop(listener);
                    if changed.is_err() {
                        return;
                    }
                    listener = TcpListener::bind(address).await.unwrap();
                    restarts.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

fn restart(generation: &watch::Sender<u64>) {
    generation.send_modify(|generation| *generation += 1);
}

async fn moods(mut stream: TcpStream) {
    while let Some((head, _)) = message(&mut stream).await {
        let answer: &[u8] = match head.split(' ').nth(1).unwrap_or_default() {
            path if path.ends_with("/reset") => return reset(stream),
            path if path.ends_with("/silent") => {
                // Until the other side gives up.
                let _gone = stream.read_u8().await;
                return;
            }
            path if path.ends_with("/stall") => {
                send(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await;
                let _gone = stream.read_u8().await;
                return;
            }
            path if path.ends_with("/large") => {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n");
                send(&mut stream, head.as_bytes()).await;
                let chunk = vec![0; 64 * 1024];
                for _ in 0..LARGE / chunk.len() {
                    if stream.write_all(&chunk).await.is_err() {
                        return;
                    }
                }
                continue;
            }
            path if path.ends_with("/short") => {
                send(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await;
                return;
            }
            path if path.ends_with("/chunks") => {
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nagain\r\n0\r\n\r\n"
            }
            _ => b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        };
        if stream.write_all(answer).await.is_err() {
            return;
        }
    }
}
