//! Two thousand sessions at once through the whole program: each with a listener of its own, a
//! request that is allowed and one that is denied, on a connection that stays open. And ten thousand
//! tunnels at rest in one.
//!
//! `CORDON_SESSIONS` (default 2,000) says how many sessions. The gateway serves them, because it has sessions
//! without sandboxes; what a session takes in the daemon is the same.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Mutex, PoisonError},
    thread,
    time::Instant,
};

use cordon_tests::{World, for_both, gateway::Gateway, process};

/// Resident memory of the program for one session with a kept connection each way, in bytes, in a
/// debug build.
const MEMORY: u64 = 128 * 1024;

/// Resident memory of the program for one tunnel at rest, in bytes, in a debug build.
const TUNNEL: u64 = 12 * 1024;

/// Tunnels at rest; fewer only where the hard limit of descriptors ends it: each side of this test
/// has two for one.
const TUNNELS: u32 = 10_000;

/// Each of these takes most of the descriptors that this process may have.
static ALONE: Mutex<()> = Mutex::new(());

/// Clients that ask at once.
const THREADS: usize = 16;

for_both! {
    fn n24_two_thousand_sessions_are_served_at_once_by_one_process(world) {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let count: usize = std::env::var("CORDON_SESSIONS").map_or(2000, |n| n.parse().unwrap());
        // Its clients, and the origin's end of each.
        let (most, needed) = (process::raise_descriptors(), 1000 + 3 * count as u64);
        assert!(most >= needed, "{needed} descriptors are needed and {most} allowed: `ulimit -Hn`");
        let origin = world.allowed_origin("open.test");
        let shut = world.origin("shut.test");
        world.config = callers(count);
        let gateway = Gateway::start(world, &[]);
        let listeners = listening(&gateway);
        assert_eq!(listeners.len(), count);
        let (before, began) = (resident(&gateway), Instant::now());
        let (open, refused) = (origin.url("open.test", "/"), shut.url("shut.test", "/"));
        // Several at once, because each waits for the log to be on disk.
        let served = |listeners: &[SocketAddr]| -> Vec<TcpStream> {
            let clients = listeners.iter().map(|address| {
                let mut client = connect(*address);
                for (url, expected) in [(&refused, "403"), (&open, "200")] {
                    assert_eq!(ask(&mut client, url), expected, "{address} {url}");
                }
                client
            });
            clients.collect()
        };
        let mut clients: Vec<TcpStream> = thread::scope(|scope| {
            let parts = listeners.chunks(count.div_ceil(THREADS));
            let parts: Vec<_> = parts.map(|part| scope.spawn(|| served(part))).collect();
            parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
        });
        let each = resident(&gateway).saturating_sub(before) / count as u64;
        eprintln!("{count} sessions in {:.1?}: {} KiB each", began.elapsed(), each / 1024);
        assert!(each < MEMORY, "{} KiB each", each / 1024);
        // The first is served like the last, now that all are there.
        let (first, last) = (clients.first_mut().unwrap(), origin.url("open.test", "/again"));
        assert_eq!(ask(first, &last), "200");
        assert_eq!(origin.requests().len(), count + 1);
        assert!(shut.requests().is_empty());

        drop(clients);
        gateway.stop().expect_code(0);
        for (filters, expected) in [
            (["--kind", "session.start"].as_slice(), count),
            (&["--effect", "allow", "--host", "open.test"], count + 1),
            (&["--effect", "deny", "--host", "shut.test"], count),
        ] {
            assert_eq!(recorded(world, filters), expected, "{filters:?}");
        }
    }
}

for_both! {
    /// All of them stand at once, cost little, and each still leads where it did.
    fn n24_ten_thousand_tunnels_at_rest_are_held(world) {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let most = process::raise_descriptors().saturating_sub(1000) / 2;
        let count = TUNNELS.min(u32::try_from(most).unwrap_or(u32::MAX));
        let origin = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = origin.local_addr().unwrap();
        world.policy.allow("open.test");
        world.route("open.test", address);
        world.config.push_str(
            "[limits]\nconnections = 20000\nconnections_per_destination = 20000\n\
             connections_per_node = 20000\nnew_connections_per_second = 100000\n\
             [[gateway.listeners]]\nname = \"one\"\naddress = \"127.0.0.1:0\"\nspeaks = \"http\"\n\
             [[gateway.callers]]\nname = \"ann\"\nlistener = \"one\"\n",
        );
        let gateway = Gateway::start(world, &[]);
        let listener = listening(&gateway)[0];
        let head = format!("CONNECT open.test:{0} HTTP/1.1\r\nhost: open.test:{0}\r\n\r\n", address.port());
        let accepting = thread::spawn(move || {
            let ends = (0..count).map(|_| {
                let (mut end, _) = origin.accept().unwrap();
                end.set_read_timeout(Some(process::DEADLINE)).unwrap();
                let mut number = [0; 4];
                end.read_exact(&mut number).unwrap();
                (u32::from_be_bytes(number), end)
            });
            ends.collect::<BTreeMap<u32, TcpStream>>()
        });
        let opened = |number: u32| {
            let mut client = connect(listener);
            client.write_all(head.as_bytes()).unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                client.read_exact(&mut byte).unwrap();
                answer.extend(byte);
            }
            assert!(answer.starts_with(b"HTTP/1.1 200 "), "{number}: {}", answer.escape_ascii());
            client.write_all(&number.to_be_bytes()).unwrap();
            (number, client)
        };
        let (before, began) = (resident(&gateway), Instant::now());
        let numbers: Vec<u32> = (0..count).collect();
        let mut clients: Vec<(u32, TcpStream)> = thread::scope(|scope| {
            let parts = numbers.chunks(numbers.len().div_ceil(THREADS));
            let opened = &opened;
            let parts: Vec<_> = parts
                .map(|part| scope.spawn(move || part.iter().map(|n| opened(*n)).collect::<Vec<_>>()))
                .collect();
            parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
        });
        let mut ends = accepting.join().unwrap();
        assert_eq!(ends.len(), clients.len(), "every one arrived, once");
        let each = resident(&gateway).saturating_sub(before) / u64::from(count);
        eprintln!("{count} tunnels in {:.1?}: {each} bytes each", began.elapsed());
        assert!(each < TUNNEL, "{each} bytes each");
        for (number, client) in clients.iter_mut().step_by(97) {
            let end = ends.get_mut(number).unwrap();
            end.write_all(&number.to_be_bytes()).unwrap();
            let mut told = [0; 4];
            client.read_exact(&mut told).unwrap();
            assert_eq!(u32::from_be_bytes(told), *number);
        }
        drop((clients, ends));
        gateway.stop().expect_code(0);
    }
}

/// As many listeners as callers, each the identity of one.
fn callers(count: usize) -> String {
    let mut text = "[limits]\nconnections_per_node = 20000\n".to_owned();
    for n in 0..count {
        write!(
            text,
            "[[gateway.listeners]]\nname = \"l{n}\"\naddress = \"127.0.0.1:0\"\nspeaks = \"http\"\n\
             [[gateway.callers]]\nname = \"c{n}\"\nlistener = \"l{n}\"\n"
        )
        .unwrap();
    }
    text
}

fn listening(gateway: &Gateway) -> Vec<SocketAddr> {
    let places = gateway.places();
    places.iter().map(|place| place.parse().unwrap()).collect()
}

fn connect(address: SocketAddr) -> TcpStream {
    #[expect(clippy::disallowed_methods, reason = "the test is the client here")]
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(process::DEADLINE)).unwrap();
    stream
}

/// The status of one request on a connection that stays open.
fn ask(client: &mut TcpStream, url: &str) -> String {
    let host = url.strip_prefix("http://").unwrap();
    let host = host.split('/').next().unwrap();
    write!(client, "GET {url} HTTP/1.1\r\nhost: {host}\r\n\r\n").unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.split_once("content-length: ").unwrap().1;
    let length = length.split("\r\n").next().unwrap().parse().unwrap();
    client.read_exact(&mut vec![0; length]).unwrap();
    head.split(' ').nth(1).unwrap().to_owned()
}

fn resident(gateway: &Gateway) -> u64 {
    let status =
        fs::read_to_string(format!("/proc/{}/status", gateway.pid().as_raw_nonzero())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib * 1024
}

/// Records of this kind in the log.
fn recorded(world: &World, filters: &[&str]) -> usize {
    let query = ["audit", "query", "--limit", "100000", "--format", "jsonl"];
    let shown = world.cordon(&[&query, filters].concat());
    shown.expect_code(0);
    shown.text().lines().count()
}
