//! Gateways to connectors' own endpoints: a client on one side, a server of the Model Context Protocol
//! on the other, and a session's gate between them.
//!
//! What the client says goes to that one endpoint and nowhere else, with the connector's credential
//! and nothing of the client's own. Decides nothing: the relay asks, for each use.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cordon_proxy::Egress;
use cordon_runtime::mcp::{Judge, Limits, Relay};
use cordon_session::config::{ConnectorConfig, Endpoint};
use hyper::HeaderMap;
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
pub struct Remotes(Mutex<BTreeMap<String, Held>>);

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
}

/// A connector's endpoint, reached as a session.
pub struct Remote {
    egress: Arc<Egress>,
    live: Arc<Live>,
    endpoint: Endpoint,
    credential: Option<String>,
}

impl Remotes {
    /// The gateway of this name, where it is of this session and connector.
    pub fn find(&self, name: &str, session: &str, connector: &str) -> Option<Arc<Gateway>> {
        let mut open = self.lock();
        let held = open.get_mut(name)?;
        let gateway = &held.gateway;
        if gateway.session != session || gateway.connector != connector {
            return None;
        }
        held.used = Instant::now();
        Some(Arc::clone(gateway))
    }

    /// Enters one under the name that its client was given. Of too many, the one that was not used
    /// for longest ends.
    pub fn enter(&self, name: String, gateway: Arc<Gateway>) {
        let mut open = self.lock();
        let of_it = |held: &Held| held.gateway.session == gateway.session;
        if open.values().filter(|held| of_it(held)).count() >= MOST {
            let oldest = open
                .values()
                .filter(|held| of_it(held))
                .min_by_key(|held| held.used);
            if let Some(oldest) = oldest {
                oldest.gateway.stop.send_replace(true);
            }
        }
        let used = Instant::now();
        open.insert(name, Held { gateway, used });
    }

    /// Ends those of a session to a connector, at once.
    pub fn close(&self, session: &str, connector: &str) {
        for held in self.lock().values() {
            let gateway = &held.gateway;
            if gateway.session == session && gateway.connector == connector {
                gateway.stop.send_replace(true);
            }
        }
    }

    /// One is over.
    pub fn leave(&self, gateway: &Arc<Gateway>) {
        self.lock()
            .retain(|_, held| !Arc::ptr_eq(&held.gateway, gateway));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Held>> {
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
        };
        (Arc::new(gateway), lines)
    }

    /// Runs until the client, the server or the session is done, or it is told to end.
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
                upstream.serve(server_end),
            );
            debug!(connector = %self.connector, ?ended, "a gateway to a connector ended");
        };
        let mut stop = self.stop.subscribe();
        tokio::select! {
            () = work => {}
            _told = stop.wait_for(|stop| *stop) => {}
            _over = state.wait_for(|state| state.is_over() || *state == State::Ending) => {}
        }
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
        })
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
                let (name, value) = field.await?;
                fields.insert(name, value);
            }
            Ok(fields)
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

/// Gateways of one session.
const MOST: usize = 16;

/// What is on its way between the ends, in bytes.
const PIPE_BYTES: usize = 64 * 1024;
