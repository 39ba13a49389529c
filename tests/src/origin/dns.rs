//! A canary in place of the host's resolver: it answers nothing and keeps what it is asked.

use std::{
    net::{IpAddr, Ipv4Addr, UdpSocket},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// Listens where the host's `resolv.conf` points while a scenario runs.
#[derive(Debug)]
pub struct DnsCanary {
    address: Ipv4Addr,
    asked: Arc<Mutex<Vec<String>>>,
    stop: Arc<()>,
}

impl DnsCanary {
    /// Binds port 53 of a loopback address that no other test uses; `None` without the privilege.
    pub fn start() -> Option<Self> {
        let bound = (1..=250).find_map(|last| {
            let address = Ipv4Addr::new(127, 53, 53, last);
            Some((address, UdpSocket::bind((address, 53)).ok()?))
        });
        let Some((address, socket)) = bound else {
            eprintln!("not run: only root can listen on port 53");
            return None;
        };
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .expect("a tenth of a second is a timeout");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(());
        let (keep, alive) = (Arc::clone(&asked), Arc::downgrade(&stop));
        thread::spawn(move || {
            let mut buffer = [0; 1500];
            while alive.strong_count() > 0 {
                if let Ok((length, _peer)) = socket.recv_from(&mut buffer) {
                    let name = question(&buffer[..length]);
                    keep.lock().expect("no thread panics with it").push(name);
                }
            }
        });
        Some(Self {
            address,
            asked,
            stop,
        })
    }

    /// Its address, for `resolv.conf`.
    pub fn address(&self) -> IpAddr {
        self.address.into()
    }

    /// A `resolv.conf` that asks it, and gives up soon.
    pub fn resolv_conf(&self) -> String {
        format!(
            "nameserver {}\noptions timeout:1 attempts:1\n",
            self.address
        )
    }

    /// The names it was asked for.
    pub fn asked(&self) -> Vec<String> {
        let _running = &self.stop;
        self.asked.lock().expect("no thread panics with it").clone()
    }
}

/// The name in the question section of a message (RFC 1035 section 4.1.2).
fn question(message: &[u8]) -> String {
    let mut labels = Vec::new();
    let mut rest = message.get(12..).unwrap_or_default();
    while let Some((&length, tail)) = rest.split_first() {
        let length = usize::from(length);
        if length == 0 || length > tail.len() {
            break;
        }
        let (label, after) = tail.split_at(length);
        labels.push(String::from_utf8_lossy(label).into_owned());
        rest = after;
    }
    labels.join(".").to_ascii_lowercase()
}
