//! An origin that speaks no protocol: it greets, then echoes, and counts.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::Listener;

/// A listener that greets and echoes until it is dropped.
#[derive(Debug)]
pub struct Echo {
    listener: Listener,
    connections: Arc<AtomicUsize>,
    bytes: Arc<AtomicUsize>,
}

impl Echo {
    /// Listens on a free port of `127.0.0.1`.
    pub fn start(greeting: &'static str) -> Self {
        Self::start_on("127.0.0.1:0", greeting)
    }

    /// Listens on an address and port of your choice.
    pub fn start_on(address: &str, greeting: &'static str) -> Self {
        let connections = Arc::new(AtomicUsize::new(0));
        let bytes = Arc::new(AtomicUsize::new(0));
        let (seen, received) = (Arc::clone(&connections), Arc::clone(&bytes));
        let listener = Listener::start(address, move |mut stream| {
            seen.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(greeting.as_bytes());
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                received.fetch_add(length, Ordering::SeqCst);
                if stream.write_all(&buffer[..length]).is_err() {
                    break;
                }
            }
        });
        Self {
            listener,
            connections,
            bytes,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address().port()
    }

    /// Connections that reached it.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Bytes that reached it.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::SeqCst)
    }
}
