//! A server that is a program: a script of the tests that prints its port, or a real server on a
//! port that was free.

use std::{
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A running server; it ends with its owner.
#[derive(Debug)]
pub struct Program {
    child: Child,
    port: u16,
}

/// Longest that a server may take to listen.
const START: Duration = Duration::from_secs(60);

impl Program {
    /// Starts a server whose first line is the port on loopback that it listens on.
    ///
    /// # Panics
    /// When it does not start or says something else.
    pub fn printing_its_port(mut command: Command) -> Self {
        let name = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("it is text");
        let port = line
            .trim()
            .parse()
            .unwrap_or_else(|error| panic!("{name}: `{line}`: {error}"));
        Self { child, port }
    }

    /// Starts a server that `command` makes for a free port of `127.0.0.1`, and waits until it
    /// accepts.
    ///
    /// # Panics
    /// When it does not start, ends, or does not listen within a minute.
    pub fn on_a_port(command: impl FnOnce(u16) -> Command) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let port = free.local_addr().expect("it is bound").port();
        drop(free);
        Self::on_port(port, command(port))
    }

    /// Starts a server that listens on this port of `127.0.0.1`, and waits until it accepts.
    ///
    /// # Panics
    /// As [`Program::on_a_port`].
    #[expect(
        clippy::disallowed_methods,
        reason = "a test asks whether its own server listens"
    )]
    pub fn on_port(port: u16, mut command: Command) -> Self {
        let name = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let end = Instant::now() + START;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = child.try_wait().expect("it is our child");
            assert!(ended.is_none(), "{name}: {ended:?}");
            assert!(Instant::now() < end, "{name} does not listen");
            std::thread::yield_now();
        }
        Self { child, port }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // A server that ended by itself is as gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
