//! Listeners for callers outside any sandbox: who calls is found out first, then served as that
//! caller's session.
//!
//! A caller is known by the listener, by where the connection comes from (a trusted peer may say so
//! in a PROXY protocol header), by a certificate, or by credentials. What these make of it is asked
//! of [`Callers`]; whoever is nobody is refused, and the refusal is recorded. Never decides what a
//! caller may do.

mod entry;
mod places;
pub(crate) mod proxy_protocol;
mod tls;
mod who;
mod within;

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener as StdTcpListener},
    os::unix::net::UnixListener as StdUnixListener,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use cordon_session::{
    Gate, GateError,
    config::{Claim, Speaks},
};
use ipnet::IpNet;
use tokio::{
    net::{TcpListener, TcpStream, UnixListener},
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};

pub(crate) use self::who::Who;
use self::{entry::Entry, places::Places, who::Failures};
pub use self::{
    tls::{TlsError, names, tls},
    within::Tunnel,
};
use crate::{accept::undelayed, bridge::as_tcp, egress::Egress, limits, metrics, session::Session};

/// One listener of a gateway.
#[derive(Debug)]
pub struct Door {
    /// What callers and records call it.
    pub name: String,
    /// Its socket, listening.
    pub socket: DoorSocket,
    /// What is spoken on it.
    pub speaks: Speaks,
    /// TLS first, where it is a proxy over HTTPS.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Peers whose connections begin with a PROXY protocol header.
    pub proxy_protocol_from: Vec<IpNet>,
}

/// A listening socket.
#[derive(Debug)]
pub enum DoorSocket {
    /// TCP.
    Tcp(StdTcpListener),
    /// A unix socket: whoever may open it is its caller.
    Unix(StdUnixListener),
}

/// Knows who calls.
pub trait Callers: fmt::Debug + Send + Sync {
    /// Whether somebody that fits this claim is known by credentials first.
    fn asks(&self, claim: &Claim) -> bool;

    /// Whether somebody could guess a secret, so that wrong ones from an address lock it out for a
    /// while.
    fn guessable(&self) -> bool {
        true
    }

    /// Who fits the claim, and the credentials where there are some. Their session is opened if
    /// need be.
    fn identify<'a>(
        &'a self,
        claim: &'a Claim,
        credentials: Option<&'a Credentials>,
    ) -> Pin<Box<dyn Future<Output = Result<Caller, Stranger>> + Send + 'a>>;
}

/// A caller's session. Clones are the same session.
#[derive(Clone, Debug)]
pub struct Caller(Arc<Session>);

/// Why somebody is nobody's session.
#[derive(Debug)]
pub enum Stranger {
    /// No configured caller fits.
    Unknown,
    /// One may fit, with credentials.
    NoCredentials,
    /// The credentials are nobody's who may come this way.
    WrongCredentials,
    /// Policy does not let that caller's session start; recorded.
    Refused(GateError),
    /// No session can be opened for that caller now, in words that they are told.
    Unavailable(&'static str),
}

/// Proxy credentials as somebody sent them. The secret is never shown.
pub struct Credentials {
    /// The name.
    pub username: String,
    /// The secret.
    pub secret: Vec<u8>,
}

/// Open listeners, and what goes on behind them.
#[derive(Debug)]
pub struct Gateway {
    addresses: Vec<(String, Option<SocketAddr>)>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<JoinSet<()>>,
}

impl Caller {
    /// Opens a session for a caller.
    pub fn new(egress: &Arc<Egress>, gate: Gate) -> Self {
        Self(Arc::new(Session::new(gate, Arc::clone(egress))))
    }

    /// Its gate.
    pub fn gate(&self) -> &Gate {
        self.0.gate()
    }

    /// From now on its connections take no further request; what goes on may end.
    pub fn drain(&self) {
        self.0.drain();
    }

    /// Resolves once nothing of it is left, connections that rest among it, after it was told to
    /// [`Self::drain`].
    pub async fn quiet(&self) {
        self.0.quiet().await;
    }

    /// From now on flows that break off were drained.
    pub fn end(&self) {
        self.0.cut();
    }
}

impl Gateway {
    /// Starts serving. What strangers ask is recorded in `strangers`. Call within the runtime.
    ///
    /// # Errors
    /// When a socket cannot be used; nothing is served then.
    pub fn start(
        doors: Vec<Door>,
        callers: Arc<dyn Callers>,
        strangers: &Caller,
    ) -> io::Result<Self> {
        let failures = Arc::new(Failures::default());
        let node = &strangers.0.egress().config().limits;
        let places = Places::new(limits::strangers(node));
        let (stop, stopped) = watch::channel(false);
        let mut addresses = Vec::new();
        let mut ready = Vec::new();
        for door in doors {
            let socket = Listening::new(door.socket)?;
            addresses.push((door.name.clone(), socket.address()?));
            let entry = Entry {
                name: door.name,
                speaks: door.speaks,
                tls: door.tls.map(Into::into),
                trusted: door.proxy_protocol_from,
                callers: Arc::clone(&callers),
                strangers: Arc::clone(&strangers.0),
                failures: Arc::clone(&failures),
                places: Arc::clone(&places),
            };
            ready.push((socket, Arc::new(entry)));
        }
        let mut tasks = JoinSet::new();
        for (socket, entry) in ready {
            tasks.spawn(accept(socket, entry, stopped.clone()));
        }
        Ok(Self {
            addresses,
            stop,
            tasks,
        })
    }

    /// The listeners by name, with the address of those on TCP.
    pub fn addresses(&self) -> &[(String, Option<SocketAddr>)] {
        &self.addresses
    }

    /// Stops accepting, tells `callers` to take no more, waits until all connections are over, at
    /// most for `grace`, then cuts off what is left. `true` when nothing had to be cut.
    pub async fn drain(mut self, callers: Vec<Caller>, grace: Duration) -> bool {
        self.stop.send_replace(true);
        for caller in &callers {
            caller.drain();
        }
        let mut left = Vec::new();
        while let Some(connections) = self.tasks.join_next().await {
            left.extend(connections);
        }
        let all = async {
            for connections in &mut left {
                while connections.join_next().await.is_some() {}
            }
        };
        let clean = tokio::time::timeout(grace, all).await.is_ok();
        for caller in &callers {
            caller.end();
        }
        for mut connections in left {
            connections.shutdown().await;
        }
        clean
    }
}

/// Accepts until told to stop; gives back the connections that still are.
async fn accept(
    socket: Listening,
    entry: Arc<Entry>,
    mut stop: watch::Receiver<bool>,
) -> JoinSet<()> {
    let mut connections = JoinSet::new();
    let node = Arc::clone(entry.strangers.egress().connections());
    loop {
        let accepted = tokio::select! {
            biased;
            _stopped = stop.wait_for(|stop| *stop) => break,
            Some(_done) = connections.join_next() => continue,
            accepted = socket.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, mostly: waiting lets some close, spinning would not.
                tracing::warn!(%error, listener = %entry.name, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let room = tokio::select! {
            biased;
            _stopped = stop.wait_for(|stop| *stop) => break,
            room = room(&node) => room,
        };
        // Only a closed semaphore errs, and nobody closes this one; never go on without room.
        let Ok(room) = room else { break };
        let (place, put_out) = entry.places.enter();
        let entry = Arc::clone(&entry);
        connections.spawn(async move {
            tokio::select! {
                biased;
                () = entry.serve(stream, peer, place) => {}
                () = put_out.happens() => metrics::PROXY.limits_hit.inc(),
            }
            drop(room);
        });
    }
    connections
}

/// Room of the node for one connection; who has to wait for it is counted.
async fn room(node: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, AcquireError> {
    match Arc::clone(node).try_acquire_owned() {
        Ok(room) => Ok(room),
        Err(_none_now) => {
            metrics::PROXY.connections_waited.inc();
            Arc::clone(node).acquire_owned().await
        }
    }
}

#[derive(Debug)]
enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listening {
    fn new(socket: DoorSocket) -> io::Result<Self> {
        match socket {
            DoorSocket::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                undelayed(&listener);
                Ok(Self::Tcp(TcpListener::from_std(listener)?))
            }
            DoorSocket::Unix(listener) => {
                listener.set_nonblocking(true)?;
                Ok(Self::Unix(UnixListener::from_std(listener)?))
            }
        }
    }

    fn address(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Some),
            Self::Unix(_) => Ok(None),
        }
    }

    async fn accept(&self) -> io::Result<(TcpStream, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((stream, Some(peer)))
            }
            Self::Unix(listener) => {
                let (stream, _unnamed) = listener.accept().await?;
                Ok((as_tcp(stream.into_std()?)?, None))
            }
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}
