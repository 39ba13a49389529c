//! A parent proxy that leads every CONNECT to one origin, whatever it is asked for.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use super::Listener;

/// Carries tunnels until it is dropped, and remembers what it was asked for.
#[derive(Debug)]
pub struct Parent {
    listener: Listener,
    targets: Arc<Mutex<Vec<String>>>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Parent {
    /// Listens on a free port of `127.0.0.1`; every tunnel leads to `origin`.
    pub fn start(origin: SocketAddr) -> Self {
        let targets = Arc::<Mutex<Vec<String>>>::default();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let (seen, fields) = (Arc::clone(&targets), Arc::clone(&heads));
        let listener = Listener::start("127.0.0.1:0", move |client| {
            // A side that is gone is how tunnels end.
            let _over = carry(client, origin, &seen, &fields);
        });
        Self {
            listener,
            targets,
            heads,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// The target of every CONNECT so far.
    pub fn targets(&self) -> Vec<String> {
        self.targets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Parent {
    /// The fields of every CONNECT so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn carry(
    client: TcpStream,
    origin: SocketAddr,
    seen: &Mutex<Vec<String>>,
    heads: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let target = line.split(' ').nth(1).unwrap_or_default();
    let mut targets = seen.lock().unwrap_or_else(PoisonError::into_inner);
    targets.push(target.into());
    drop(targets);
    let mut head = String::new();
    while line != "\r\n" {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        head.push_str(&line);
    }
    heads
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(head);
    let mut client = client;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    #[expect(clippy::disallowed_methods, reason = "it is a proxy of its own")]
    let mut there = TcpStream::connect(origin)?;
    let mut back = there.try_clone()?;
    let answers = thread::spawn(move || {
        io::copy(&mut back, &mut client)?;
        client.shutdown(Shutdown::Write)
    });
    io::copy(&mut reader, &mut there)?;
    there.shutdown(Shutdown::Write)?;
    let _over = answers.join();
    Ok(())
}
