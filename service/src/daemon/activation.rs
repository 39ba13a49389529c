//! Listening sockets that systemd opened and passed on (socket activation).
//!
//! The environment in, sockets by name or by path out. A socket that nothing takes is a mistake of
//! the unit and refused: its clients would wait for ever.

use std::{io, os::unix::net::UnixListener, path::Path};

use cordon_proxy::DoorSocket;
use listenfd::ListenFd;
use rustix::net::sockopt;

use crate::error::Failure;

/// What was passed on and is not taken yet.
#[derive(Debug, Default)]
pub struct Activation {
    sockets: Vec<Passed>,
}

#[derive(Debug)]
struct Passed {
    name: String,
    socket: DoorSocket,
}

impl Activation {
    /// Takes what was passed to this process. To be called before there are threads: the
    /// environment is changed, so that no program started later takes it for its own.
    ///
    /// # Errors
    /// [`Failure`]: what was passed is no listening socket.
    pub fn from_env() -> Result<Self, Failure> {
        let ours = std::process::id().to_string();
        // The crate takes sockets without a `LISTEN_PID` too: those may be somebody else's.
        if std::env::var("LISTEN_PID").is_ok_and(|pid| pid == ours) {
            let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
            Self::taken(ListenFd::from_env(), &names).map_err(|error| {
                Failure::new(format!("sockets of systemd not taken: {error}"))
                    .help("the unit's sockets are `ListenStream=`: TCP or unix")
            })
        } else {
            Ok(Self::default())
        }
    }

    fn taken(mut passed: ListenFd, names: &str) -> io::Result<Self> {
        let mut names = names.split(':');
        let mut sockets = Vec::new();
        for at in 0..passed.len() {
            let socket = match passed.take_unix_listener(at) {
                Ok(socket) => socket.map(DoorSocket::Unix),
                Err(_not_unix) => passed.take_tcp_listener(at)?.map(DoorSocket::Tcp),
            };
            if let Some(socket) = &socket {
                listens(socket)?;
            }
            let name = names.next().unwrap_or_default().to_owned();
            sockets.extend(socket.map(|socket| Passed { name, socket }));
        }
        Ok(Self { sockets })
    }

    /// The socket that the unit calls so (`FileDescriptorName=`).
    pub fn named(&mut self, name: &str) -> Option<DoorSocket> {
        self.take(|passed| passed.name == name)
    }

    /// The unix socket that lies there, ready for the runtime.
    ///
    /// # Errors
    /// When it cannot be made ready.
    pub fn at(&mut self, path: &Path) -> io::Result<Option<tokio::net::UnixListener>> {
        let lies_there = |socket: &UnixListener| {
            let address = socket.local_addr();
            address.is_ok_and(|address| address.as_pathname() == Some(path))
        };
        let found = self.take(|passed| match &passed.socket {
            DoorSocket::Unix(socket) => lies_there(socket),
            DoorSocket::Tcp(_) => false,
        });
        let Some(DoorSocket::Unix(socket)) = found else {
            return Ok(None);
        };
        socket.set_nonblocking(true)?;
        tokio::net::UnixListener::from_std(socket).map(Some)
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// [`Failure`] names what nothing takes.
    pub fn all_taken(&self) -> Result<(), Failure> {
        let Some(left) = self.sockets.first() else {
            return Ok(());
        };
        Err(Failure::new(format!(
            "nothing takes the socket `{}` that systemd passed",
            left.name
        ))
        .help(
            "name it in a `[[gateway.listeners]]` (`systemd = \"NAME\"`); for `cordon serve` its \
             path is the control or the API socket's",
        ))
    }

    fn take(&mut self, fits: impl Fn(&Passed) -> bool) -> Option<DoorSocket> {
        let at = self.sockets.iter().position(fits)?;
        Some(self.sockets.remove(at).socket)
    }
}
/// A unit with `Accept=yes` passes connections.
fn listens(socket: &DoorSocket) -> io::Result<()> {
    let is_listener = match socket {
        DoorSocket::Unix(socket) => sockopt::socket_acceptconn(socket)?,
        DoorSocket::Tcp(socket) => sockopt::socket_acceptconn(socket)?,
    };
    let why = "one of them is a connection, not a listening socket (`Accept=no`)";
    is_listener
        .then_some(())
        .ok_or_else(|| io::Error::other(why))
}
