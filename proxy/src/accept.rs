//! Accepts on a session's own listeners and owns everything that comes of it.
//!
//! One task per listener, one task per client connection; both have an owner that awaits them.

use std::{
    net::{TcpListener as StdListener, UdpSocket as StdUdp},
    sync::Arc,
    time::Duration,
};

use cordon_session::Gate;
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    sync::watch,
    task::JoinSet,
};

use crate::{
    capture::{self, OriginalDestination},
    dns,
    door::{Caller, Who},
    egress::{Egress, EgressError},
    flow::Bytes,
    http,
    process::{MadeBy, Processes},
    publish::{self, Dial, Published},
    session::Session,
    socks,
};

/// The already listening sockets of one session. They belong to its network namespace.
#[derive(Debug)]
pub struct Listeners {
    /// HTTP forward proxy.
    pub http: StdListener,
    /// SOCKS5.
    pub socks: StdListener,
    /// Captured connections; IPv4, and IPv6 where the session has it.
    pub capture: Vec<StdListener>,
    /// DNS responder.
    pub dns: StdUdp,
    /// The session's processes, where they can be asked who made a connection.
    pub processes: Option<Arc<dyn Processes>>,
}

/// One session's part of the egress. Owns its tasks; dropping it cuts every flow off.
#[derive(Debug)]
pub struct SessionProxy {
    session: Arc<Session>,
    stop: watch::Sender<Stage>,
    tasks: JoinSet<()>,
}

/// How far the end of a session's part has come.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Stage {
    /// New connections are accepted.
    Serving,
    /// None are; what is open goes on.
    Draining,
    /// Everything is closed.
    Stopped,
}

impl SessionProxy {
    pub(crate) fn start(
        egress: Arc<Egress>,
        gate: Gate,
        listeners: Listeners,
    ) -> Result<Self, EgressError> {
        Self::start_with(egress, gate, listeners, capture::from_kernel)
    }

    /// As [`Self::start`], with another source of original destinations.
    pub(crate) fn start_with(
        egress: Arc<Egress>,
        gate: Gate,
        listeners: Listeners,
        original: OriginalDestination,
    ) -> Result<Self, EgressError> {
        let session = Session::new(gate, egress).with_processes(listeners.processes);
        let session = Arc::new(session);
        // Every socket first: nothing is served unless all of it can be.
        let http = usable("http", listeners.http)?;
        let socks = usable("socks", listeners.socks)?;
        let capture = listeners
            .capture
            .into_iter()
            .map(|listener| usable("capture", listener))
            .collect::<Result<Vec<_>, _>>()?;
        let dns = usable_udp(listeners.dns)?;

        let (stop, stopped) = watch::channel(Stage::Serving);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(
            http,
            Arc::clone(&session),
            stopped.clone(),
            |session, stream| http::serve(known(session, &stream), stream),
        ));
        tasks.spawn(accept(
            socks,
            Arc::clone(&session),
            stopped.clone(),
            |session, stream| socks::serve(known(session, &stream), stream),
        ));
        for listener in capture {
            tasks.spawn(accept(
                listener,
                Arc::clone(&session),
                stopped.clone(),
                move |session, stream| capture::serve(session, stream, original),
            ));
        }
        tasks.spawn(dns::serve(dns, Arc::clone(&session), stopped));
        Ok(Self {
            session,
            stop,
            tasks,
        })
    }

    /// Serves connections from outside to a port of the session. Each is decided.
    ///
    /// # Errors
    /// [`EgressError::Listener`] when it cannot be handed to the runtime.
    pub fn publish(
        &mut self,
        listener: StdListener,
        published: Published,
        dial: Arc<dyn Dial>,
    ) -> Result<(), EgressError> {
        let listener = usable("publish", listener)?;
        let session = Arc::clone(&self.session);
        let serve =
            move |session, stream| publish::serve(session, stream, published, Arc::clone(&dial));
        self.tasks
            .spawn(accept(listener, session, self.stop.subscribe(), serve));
        Ok(())
    }

    /// The session for whoever comes to it in another way, with the same budgets.
    pub fn caller(&self) -> Caller {
        Caller::of(&self.session)
    }

    /// Bytes moved so far.
    pub fn bytes(&self) -> Bytes {
        self.session.bytes()
    }

    /// Stops accepting, lets open flows end by themselves for `grace`, then closes what is left;
    /// its end is recorded as drained.
    pub async fn drain(self, grace: Duration) -> Bytes {
        self.stop.send_replace(Stage::Draining);
        self.session.drain();
        let quiet = self.session.accounts().quiet();
        if tokio::time::timeout(grace, quiet).await.is_err() {
            self.session.cut();
        }
        self.shutdown().await
    }

    /// Stops accepting, closes every flow (its end is recorded as the session's) and waits until
    /// nothing of the session is left here.
    pub async fn shutdown(mut self) -> Bytes {
        self.session.end();
        self.stop.send_replace(Stage::Stopped);
        while self.tasks.join_next().await.is_some() {}
        self.session.bytes()
    }
}

impl Drop for SessionProxy {
    fn drop(&mut self) {
        self.session.end();
    }
}

/// A client that came to a listener of the session itself.
fn known(session: Arc<Session>, stream: &TcpStream) -> Who {
    let made_by = MadeBy::of(&session, stream, stream.local_addr().ok());
    Who::known(session, made_by)
}

async fn accept<S, F>(
    listener: TcpListener,
    session: Arc<Session>,
    mut stop: watch::Receiver<Stage>,
    serve: S,
) where
    S: Fn(Arc<Session>, TcpStream) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            biased;
            _stopped = stop.wait_for(|stage| *stage >= Stage::Draining) => break,
            Some(_done) = connections.join_next() => continue,
            stream = next(&listener, &session) => stream,
        };
        // Only now, so that a listener at rest takes no room from others. Room is given back by
        // the connections themselves, so nothing here needs to go on meanwhile.
        let room = tokio::select! {
            biased;
            _stopped = stop.wait_for(|stage| *stage >= Stage::Draining) => break,
            room = session.room() => room,
        };
        let served = serve(Arc::clone(&session), stream);
        connections.spawn(async move {
            served.await;
            drop(room);
        });
    }
    drop(listener);
    let all_done = async { while connections.join_next().await.is_some() {} };
    tokio::select! {
        biased;
        _stopped = stop.wait_for(|stage| *stage == Stage::Stopped) => {}
        () = all_done => {}
    }
    connections.shutdown().await;
}

async fn next(listener: &TcpListener, session: &Session) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _peer)) => return stream,
            Err(error) => {
                // Out of descriptors, mostly: waiting lets some close, spinning would not.
                tracing::warn!(%error, session = %session.gate().session().id, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Has small writes of what is accepted go out at once: what Linux accepts has the options of its
/// listener, so this need not be asked for each connection.
pub(crate) fn undelayed(listener: &StdListener) {
    // Delayed they cost latency only; the connection works either way.
    let _delayed = SockRef::from(listener).set_tcp_nodelay(true);
}

fn usable(name: &'static str, listener: StdListener) -> Result<TcpListener, EgressError> {
    undelayed(&listener);
    listener
        .set_nonblocking(true)
        .and_then(|()| TcpListener::from_std(listener))
        .map_err(|source| EgressError::Listener {
            listener: name,
            source,
        })
}

fn usable_udp(socket: StdUdp) -> Result<UdpSocket, EgressError> {
    socket
        .set_nonblocking(true)
        .and_then(|()| UdpSocket::from_std(socket))
        .map_err(|source| EgressError::Listener {
            listener: "dns",
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "a client of the test's own")]
    async fn what_is_accepted_is_not_delayed() {
        for wanted in [false, true] {
            let listener = StdListener::bind("127.0.0.1:0").unwrap();
            if wanted {
                undelayed(&listener);
            }
            listener.set_nonblocking(true).unwrap();
            let listener = TcpListener::from_std(listener).unwrap();
            let address = listener.local_addr().unwrap();
            let client = tokio::spawn(async move {
                tokio::io::AsyncReadExt::read_u8(&mut TcpStream::connect(address).await.unwrap())
                    .await
            });
            let (stream, _peer) = listener.accept().await.unwrap();
            assert_eq!(stream.nodelay().unwrap(), wanted);
            drop(stream);
            assert!(client.await.unwrap().is_err());
        }
    }
}
