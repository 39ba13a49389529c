//! The browser of a session: whether it is on, and the proxy that a browser beside the sandbox is
//! given, which is the session's own with its budgets.
//!
//! Never decides: what goes through the proxy is decided there, like everything that the session
//! reaches.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use cordon_proxy::{Caller, Callers, Credentials, Door, DoorSocket, Egress, Gateway, Stranger};
use cordon_session::config::{Claim, Speaks};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{live::Live, switches::Switches};

/// The browsers of all sessions.
#[derive(Debug, Default)]
pub struct Browsers(Switches<Browser>);

/// A session's browser is on.
#[derive(Debug)]
pub struct Browser {
    way: Way,
    gateway: Gateway,
    egress: Arc<Egress>,
}

/// What a browser beside the sandbox is given.
#[derive(Clone, Debug)]
pub struct Way {
    /// The proxy, on loopback.
    pub address: SocketAddr,
    /// What it asks for.
    pub secret: String,
    /// The authority that inspected tunnels are signed by, in PEM; none where none can be made.
    pub certificate: Option<String>,
}

impl Browsers {
    /// Which are on.
    pub fn switches(&self) -> &Switches<Browser> {
        &self.0
    }

    /// Whether a session's is on.
    pub fn is_on(&self, session: &str) -> bool {
        self.0.look(session, NAME, |_on| ()).is_some()
    }

    /// What it is given; none where it is off.
    pub fn way(&self, session: &str) -> Option<Way> {
        self.0.look(session, NAME, |browser| browser.way.clone())
    }

    /// Off, at once: its connections are cut. False when it was off.
    pub async fn off(&self, session: &str) -> bool {
        match self.0.off(session, NAME) {
            Some(browser) => {
                browser.close().await;
                true
            }
            None => false,
        }
    }
}

impl Browser {
    /// Opens a session's proxy to whoever knows the secret, on loopback.
    ///
    /// # Errors
    /// In words: the session has no way out, or no port is left.
    pub fn open(egress: &Arc<Egress>, live: &Live) -> Result<Self, String> {
        let caller = live.way_out(egress)?;
        let mut random = [0; 24];
        getrandom::fill(&mut random).map_err(|error| error.to_string())?;
        let secret: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let socket = socket.map_err(|error| format!("no port for it: {error}"))?;
        let address = socket.local_addr().map_err(|error| error.to_string())?;
        // Never a destination: a session would be another one (N26).
        egress.protect(address);
        let door = Door {
            name: NAME.into(),
            socket: DoorSocket::Tcp(socket),
            speaks: Speaks::Http,
            tls: None,
            proxy_protocol_from: Vec::new(),
        };
        let one = Arc::new(One {
            caller: caller.clone(),
            secret: Sha256::digest(&secret).into(),
        });
        let started = Gateway::start(vec![door], one, &caller);
        let gateway = started.map_err(|error| {
            egress.unprotect(address);
            error.to_string()
        })?;
        Ok(Self {
            way: Way {
                address,
                secret,
                certificate: caller.certificate(),
            },
            gateway,
            egress: Arc::clone(egress),
        })
    }

    /// Ends it; what goes on is cut.
    pub async fn close(self) {
        // The session's own connections go on: nobody is told to drain.
        self.gateway.drain(Vec::new(), Duration::ZERO).await;
        self.egress.unprotect(self.way.address);
    }
}

/// The one who may come: whoever knows the secret is the session.
#[derive(Debug)]
struct One {
    caller: Caller,
    secret: [u8; 32],
}

impl Callers for One {
    fn asks(&self, _claim: &Claim) -> bool {
        true
    }

    /// 192 random bits are not: locking loopback out would be anybody's to do.
    fn guessable(&self) -> bool {
        false
    }

    fn identify<'a>(
        &'a self,
        _claim: &'a Claim,
        credentials: Option<&'a Credentials>,
    ) -> Pin<Box<dyn Future<Output = Result<Caller, Stranger>> + Send + 'a>> {
        let known = match credentials {
            None => Err(Stranger::NoCredentials),
            Some(offered) => {
                // By digest and in constant time (N18).
                let digest: [u8; 32] = Sha256::digest(&offered.secret).into();
                match bool::from(digest.ct_eq(&self.secret)) && offered.username == NAME {
                    true => Ok(self.caller.clone()),
                    false => Err(Stranger::WrongCredentials),
                }
            }
        };
        Box::pin(std::future::ready(known))
    }
}

/// What the log says when a person switched it off.
pub const SWITCHED_OFF: &str = "browser switched off";

/// What it is called among what can be switched, and the user name that the proxy asks for.
pub const NAME: &str = "browser";
