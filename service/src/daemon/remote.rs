//! Gateways to connectors' own endpoints: a client on one side, a server of the Model Context Protocol
//! on the other, and a session's gate between them.
//!
//! What the client says goes to that one endpoint and nowhere else, with the connector's credential
//! and nothing of the client's own. Decides nothing: the relay asks, for each use.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cordon_proxy::{Egress, Hidden, SentBack};
use cordon_runtime::mcp::{Judge, Limits, Relay};
use cordon_session::config::{ConnectorConfig, Endpoint};
use futures_util::future::join_all;
use hyper::{HeaderMap, header::HeaderValue};
use tokio::{
    io::{BufReader, split},
    sync::watch,
    time::Instant,
};
use tracing::debug;

use super::live::Live;
use crate::{
    control::State,
    mcp::{Front, Opening, Side, Stream, Upstream, Way, pump},
};

/// The gateways that are open.
#[derive(Debug, Default)]
pub struct Remotes(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    gateways: BTreeMap<String, Held>,
    /// Names of those that had to make place, the newest last.
    made_place: VecDeque<String>,
}

#[derive(Debug)]
struct Held {
    gateway: Arc<Gateway>,
    used: Instant,
}

/// One of them.
#[derive(Debug)]
pub struct Gateway {
    /// The session that it is for.
    session: String,
    /// The connector that it leads to.
    connector: String,
    /// Its client's side.
    pub front: Front,
    stop: watch::Sender<bool>,
    /// Whether the server was told that it is over.
    gone: watch::Sender<bool>,
}

/// A connector's endpoint, reached as a session.
pub struct Remote {
    egress: Arc<Egress>,
    live: Arc<Live>,
    endpoint: Endpoint,
    credential: Option<String>,
    /// What went out, the newest last: an answer must not say it.
    sent: Mutex<Vec<(HeaderValue, Hidden)>>,
}

impl Remotes {
    /// The gateway of this name, where it is of this session and connector.
    pub fn find(&self, name: &str, session: &str, connector: &str) -> Option<Arc<Gateway>> {
        let mut open = self.lock();
        let held = open.gateways.get_mut(name)?;
        let gateway = &held.gateway;
        let is_its = gateway.session == session && gateway.connector == connector;
        if !is_its || *gateway.stop.borrow() {
            return None;
        }
        held.used = Instant::now();
        Some(Arc::clone(gateway))
    }

    /// Enters one under the name that its client was given. Of too many, the one that was not used
    /// for longest ends.
    pub fn enter(&self, name: String, gateway: Arc<Gateway>) {
        let mut open = self.lock();
        let of_it = |(_, held): &(&String, &Held)| {
            held.gateway.session == gateway.session && !*held.gateway.stop.borrow()
        };
        if open.gateways.iter().filter(of_it).count() >= MOST {
            let all = open.gateways.iter().filter(of_it);
            let oldest = all.min_by_key(|(_, held)| held.used);
            if let Some((name, oldest)) = oldest.map(|(name, held)| (name.clone(), held)) {
                oldest.gateway.stop();
                open.made_place.push_back(name);
            }
            if open.made_place.len() > REMEMBERED {
                open.made_place.pop_front();
            }
        }
        let used = Instant::now();
        open.gateways.insert(name, Held { gateway, used });
    }

    /// Whether one of this name ended because its session had too many.
    pub fn made_place(&self, name: &str) -> bool {
        self.lock().made_place.iter().any(|one| one == name)
    }

    /// Ends those of a session to a connector, at once.
    pub fn close(&self, session: &str, connector: &str) {
        for held in self.lock().gateways.values() {
            let gateway = &held.gateway;
            if gateway.session == session && gateway.connector == connector {
                gateway.stop();
            }
        }
    }

    /// Ends those of a session, and waits a moment until their servers were told.
    pub async fn end(&self, session: &str) {
        let of_it: Vec<Arc<Gateway>> = {
            let open = self.lock();
            let all = open.gateways.values().map(|held| &held.gateway);
            all.filter(|one| one.session == session).cloned().collect()
        };
        let told = join_all(of_it.iter().map(|gateway| async {
            gateway.stop();
            let mut gone = gateway.gone.subscribe();
            let _told = gone.wait_for(|gone| *gone).await;
        }));
        let _late = tokio::time::timeout(FAREWELL, told).await;
    }

    /// One is over.
    pub fn leave(&self, gateway: &Arc<Gateway>) {
        gateway.gone.send_replace(true);
        let mut open = self.lock();
        open.gateways
            .retain(|_, held| !Arc::ptr_eq(&held.gateway, gateway));
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gateway {
    /// One for a session and a connector; with what it sends on.
    pub fn new(session: &str, connector: &str) -> (Arc<Self>, tokio::sync::mpsc::Receiver<String>) {
        let (front, lines) = Front::new();
        let gateway = Self {
            session: session.into(),
            connector: connector.into(),
            front,
            stop: watch::Sender::new(false),
            gone: watch::Sender::new(false),
        };
        (Arc::new(gateway), lines)
    }

    /// Ends it, at once.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Runs until the client, the server or the session is done, or it is told to end. The server
    /// is told, where policy still lets it be reached.
    pub async fn run(
        &self,
        lines: tokio::sync::mpsc::Receiver<String>,
        limits: Limits,
        judge: &impl Judge,
        remote: Remote,
    ) {
        let mut state = remote.live.watch();
        let (client_end, client) = tokio::io::duplex(PIPE_BYTES);
        let (server_end, server) = tokio::io::duplex(PIPE_BYTES);
        let [client, server] = [client, server].map(|pipe| {
            let (lines, sink) = split(pipe);
            let lines = BufReader::new(lines);
            Side { lines, sink }
        });
        let upstream = Arc::new(Upstream::new(remote));
        let work = async {
            let relay = Relay::new(limits);
            let (ended, (), ()) = tokio::join!(
                pump(relay, judge, client, server),
                self.front.serve(lines, client_end),
                Arc::clone(&upstream).serve(server_end),
            );
            debug!(connector = %self.connector, ?ended, "a gateway to a connector ended");
        };
        let mut stop = self.stop.subscribe();
        tokio::select! {
            () = work => {}
            _told = stop.wait_for(|stop| *stop) => {}
            _over = state.wait_for(|state| state.is_over() || *state == State::Ending) => {}
        }
        self.stop();
        upstream.goodbye().await;
    }
}

impl Remote {
    /// Where a connector is, for a session; none where it has no endpoint of the protocol.
    pub fn new(
        egress: &Arc<Egress>,
        live: &Arc<Live>,
        connector: &ConnectorConfig,
    ) -> Option<Self> {
        Some(Self {
            egress: Arc::clone(egress),
            live: Arc::clone(live),
            endpoint: connector.endpoint()?,
            credential: connector.credential.clone(),
            sent: Mutex::default(),
        })
    }
}

impl Remote {
    /// A value that is exchanged for another may still come back for a while.
    fn remember(&self, value: HeaderValue, hidden: Hidden) {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        if sent.iter().any(|(known, _)| *known == value) {
            return;
        }
        if sent.len() >= VALUES {
            sent.remove(0);
        }
        sent.push((value, hidden));
    }

    /// A message without what went out.
    fn cleaned(&self, message: Vec<u8>) -> Result<Vec<u8>, SentBack> {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.iter_mut()
            .try_fold(message, |message, (_, hidden)| hidden.clean(message))
    }
}

impl Way for Remote {
    fn open(&self) -> Opening<'_, Stream> {
        Box::pin(async {
            let caller = self.live.way_out(&self.egress)?;
            let tunnel = caller.reach(&self.endpoint.destination).await?;
            Ok(Box::new(tunnel) as Stream)
        })
    }

    fn fields(&self) -> Opening<'_, HeaderMap> {
        Box::pin(async {
            let mut fields = HeaderMap::new();
            if let Some(name) = &self.credential {
                let Endpoint {
                    destination, path, ..
                } = &self.endpoint;
                let caller = self.live.way_out(&self.egress)?;
                let field = caller.credential(name, &destination.host, &METHODS, path);
                let carried = field.await?;
                fields.insert(carried.name, carried.value.clone());
                self.remember(carried.value, carried.hidden);
            }
            Ok(fields)
        })
    }

    fn clean(&self, message: Vec<u8>) -> Opening<'_, Vec<u8>> {
        Box::pin(async move {
            match self.cleaned(message) {
                Ok(message) => Ok(message),
                Err(SentBack) => {
                    let caller = self.live.way_out(&self.egress)?;
                    Err(caller.sent_back(&self.endpoint.destination).await)
                }
            }
        })
    }

    fn target(&self) -> (&str, &str) {
        (&self.endpoint.authority, &self.endpoint.path)
    }

    /// What a server says beside the protocol is told to nobody.
    fn is_ours(&self) -> bool {
        false
    }
}

/// What Streamable HTTP asks with.
const METHODS: [&str; 3] = ["POST", "GET", "DELETE"];

/// Values of a credential that answers are looked through for.
const VALUES: usize = 4;

/// Gateways of one session.
pub const MOST: usize = 16;

/// Names of gateways that made place for others, for telling their clients.
const REMEMBERED: usize = 256;

/// Time for the servers of a session to be told that it is over.
const FAREWELL: Duration = Duration::from_secs(2);

/// What is on its way between the ends, in bytes.
const PIPE_BYTES: usize = 64 * 1024;
