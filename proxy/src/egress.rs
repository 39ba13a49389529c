//! What all sessions of the node share: resolver, configuration, buffers, bounds.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex, PoisonError, RwLock, Weak},
};

use cordon_policy::{
    Destination, Host, NormalizedHost,
    address::{AddressClass, classify},
};
use cordon_session::{Config, Gate};
use thiserror::Error;
use tokio::sync::Semaphore;

use crate::{
    accept::{Listeners, SessionProxy},
    credentials::Credentials,
    limits,
    parent::{Parent, ParentError},
    relay::Buffers,
    resolve::{Found, Resolver},
    roots::{Roots, RootsError},
    tls::{Authority, AuthorityError},
};

/// The node's way out. Make one, attach each session's listeners to it.
#[derive(Debug)]
pub struct Egress {
    config: Config,
    roots: Roots,
    parents: Vec<Arc<Parent>>,
    resolver: Resolver,
    buffers: Buffers,
    connections: Arc<Semaphore>,
    credentials: Credentials,
    /// Authorities of sessions by session id, as long as somebody holds them.
    authorities: Mutex<HashMap<String, Weak<Authority>>>,
    /// Listeners of the daemon itself: never a destination, whatever configuration says (N26).
    own: RwLock<Vec<SocketAddr>>,
}

/// Why the egress or a session's part of it did not start.
#[derive(Debug, Error)]
pub enum EgressError {
    /// The nameservers of `resolve.nameservers` cannot be used.
    #[error("nameservers of the configuration not usable: {0}")]
    Resolver(String),
    /// A parent proxy of `network.parents` cannot be used.
    #[error(transparent)]
    Parent(#[from] ParentError),
    /// Certificates of the configuration cannot be used.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// The system gave no random numbers, which placeholders are made of.
    #[error("no random numbers to be had: {0}")]
    Random(String),
    /// A listener could not be handed to the runtime.
    #[error("listener `{listener}` of the session not usable")]
    Listener {
        /// Which.
        listener: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Egress {
    /// Makes the node's egress. Opens nothing; the system's resolver configuration is read now
    /// and again whenever it changes.
    ///
    /// # Errors
    /// [`EgressError::Resolver`] when the configured nameservers cannot be used,
    /// [`EgressError::Roots`] when a file of certificates cannot, [`EgressError::Parent`] when a
    /// parent proxy cannot.
    pub fn new(config: &Config) -> Result<Self, EgressError> {
        let roots = Roots::new(config)?;
        Ok(Self {
            config: config.clone(),
            parents: Parent::all(config, &roots)?,
            resolver: Resolver::new(&config.resolve, &roots)
                .map_err(|error| EgressError::Resolver(error.to_string()))?,
            buffers: Buffers::new(limits::buffer_bytes(&config.limits)),
            roots,
            connections: Arc::new(Semaphore::new(limits::connections_per_node(&config.limits))),
            credentials: Credentials::new(&config.credentials)
                .map_err(|error| EgressError::Random(error.to_string()))?,
            authorities: Mutex::default(),
            own: RwLock::new(Vec::new()),
        })
    }

    /// Variables of a session that hold placeholders in place of secrets, with their values. They
    /// are the same for as long as this is there, and worth nothing elsewhere.
    pub fn placeholders(&self, session: &str) -> Vec<(String, String)> {
        self.credentials.variables(session)
    }

    pub(crate) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Names a TCP listener of the daemon, so that no session can ever reach it, not even where
    /// `permit_addresses` covers it. An unspecified address stands for every local one.
    pub fn protect(&self, listener: SocketAddr) {
        self.own
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(listener);
    }

    /// The certificate authority of a session, that its inspected tunnels are certified by. Made
    /// when it is first asked for; it is the same as long as somebody holds it.
    ///
    /// # Errors
    /// [`AuthorityError`] when none can be made.
    pub fn authority(&self, session: &str) -> Result<Arc<Authority>, AuthorityError> {
        let mut known = self
            .authorities
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(authority) = known.get(session).and_then(Weak::upgrade) {
            return Ok(authority);
        }
        let authority = Arc::new(Authority::new(session)?);
        known.retain(|_session, authority| authority.strong_count() > 0);
        known.insert(session.to_owned(), Arc::downgrade(&authority));
        Ok(authority)
    }

    /// Starts serving one session on its own listeners. The listener is the identity: whoever
    /// connects to it is that session, and nobody else can reach it.
    ///
    /// Call within the runtime.
    ///
    /// # Errors
    /// [`EgressError::Listener`] when a socket cannot be used; nothing is served then.
    pub fn attach(
        self: &Arc<Self>,
        gate: Gate,
        listeners: Listeners,
    ) -> Result<SessionProxy, EgressError> {
        SessionProxy::start(Arc::clone(self), gate, listeners)
    }

    /// A listener that was named by [`Egress::protect`] is closed.
    pub fn unprotect(&self, listener: SocketAddr) {
        let mut own = self.own.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = own.iter().position(|one| *one == listener) {
            own.swap_remove(at);
        }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Whom Cordon trusts as a TLS client.
    pub(crate) fn roots(&self) -> &Roots {
        &self.roots
    }

    pub(crate) fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// Where a name of the configuration itself leads to (a parent proxy): no session asks for it.
    pub(crate) async fn look_up(&self, name: &NormalizedHost) -> io::Result<Found> {
        match self.config.override_for(name) {
            Some(addresses) => Ok(Found {
                addresses: addresses.to_vec(),
                names: Vec::new(),
            }),
            None => self.resolver.look_up(name, limits::RESOLVE_DEADLINE).await,
        }
    }

    /// The parent proxy that carries connections to `destination`, where one does.
    pub(crate) fn parent_for(&self, destination: &Destination) -> Option<Arc<Parent>> {
        let at = self.config.network.parent_for(destination)?;
        self.parents.get(at).map(Arc::clone)
    }

    pub(crate) fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    pub(crate) fn connections(&self) -> &Arc<Semaphore> {
        &self.connections
    }

    /// Whether a destination that is asked for by its address can be reached at all, whatever policy
    /// says. Where a name leads is known once it is looked up.
    pub fn can_reach(&self, destination: &Destination) -> bool {
        let Host::Address(address) = &destination.host else {
            return true;
        };
        let address = address.to_canonical();
        !self.is_own(SocketAddr::new(address, destination.port.get()))
            && (classify(address) == AddressClass::Global
                || self.config.network.permits(&destination.host, &[], address))
    }

    /// Whether `address` is one of the daemon's own listeners.
    pub(crate) fn is_own(&self, address: SocketAddr) -> bool {
        let own = self.own.read().unwrap_or_else(PoisonError::into_inner);
        own.iter().any(|listener| {
            listener.port() == address.port() && reaches(address.ip(), listener.ip())
        })
    }
}

/// Whether connecting to `address` arrives at a local listener bound to `listener`.
fn reaches(address: IpAddr, listener: IpAddr) -> bool {
    // Connecting to the unspecified address means connecting to this machine.
    address == listener
        || address.is_unspecified()
        || (listener.is_unspecified() && is_local(address))
}

/// Whether `address` is one of this machine's: only such a one can be bound to.
fn is_local(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}
