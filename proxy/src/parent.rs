//! Parent proxies: asks one for a connection to a checked target.
//!
//! A TCP connection to the parent in, a socket that stands for
//! the target out. What goes into its messages is
//! made of checked parts alone (N03); what it answers is bounded and never shown. Never falls back
//! to another way.

mod credentials;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod http;
mod link;
mod socks;

use std::{fmt, net::SocketAddr, sync::Arc};

use cordon_policy::{Destination, Host, NormalizedHost};
use cordon_session::{
    Config,
    config::{ParentConfig, ParentResolve, ParentScheme, ParentUrl},
};
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub(crate) use self::link::Held;

use self::{credentials::Credentials, link::Link};
use crate::{refuse::Trouble, roots::Roots};

/// One parent proxy, ready to be asked.
#[derive(Debug)]
pub(crate) struct Parent {
    url: ParentUrl,
    resolve: ParentResolve,
    credentials: Option<Credentials>,
    tls: Option<Tls>,
}

struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

/// What a parent is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'a> {
    /// An address that was classified here.
    Address(SocketAddr),
    /// A name that the parent resolves.
    Name(&'a NormalizedHost, u16),
}

/// Why a parent does not carry a connection.
#[derive(Debug)]
pub(crate) struct Unconnected {
    pub(crate) trouble: Trouble,
    pub(crate) problem: String,
}

/// Why a parent of the configuration cannot be used.
#[derive(Debug, Error)]
#[error("parent proxy `{url}` of the configuration not usable: {problem}")]
pub struct ParentError {
    /// Which.
    pub url: String,
    /// What is wrong, and what to do.
    pub problem: String,
}

impl Parent {
    /// All parents of the configuration, in its order. Reads their credentials; asks nobody.
    ///
    /// # Errors
    /// [`ParentError`] names the one that cannot be used.
    pub(crate) fn all(config: &Config, roots: &Roots) -> Result<Vec<Arc<Self>>, ParentError> {
        let parents = config.network.parents.iter();
        parents
            .map(|parent| {
                let made = Self::new(parent, roots).map_err(|problem| ParentError {
                    url: parent.url.to_string(),
                    problem,
                })?;
                Ok(Arc::new(made))
            })
            .collect()
    }

    fn new(config: &ParentConfig, roots: &Roots) -> Result<Self, String> {
        let credentials = Credentials::of(config)?;
        if config.url.scheme == ParentScheme::Http && credentials.is_some() {
            tracing::warn!(parent = %config.url, "credentials go to this parent in the clear");
        }
        let tls = match config.url.scheme {
            ParentScheme::Https => Some(Tls::new(&config.url.place.host, roots)?),
            ParentScheme::Http | ParentScheme::Socks5 => None,
        };
        Ok(Self {
            url: config.url.clone(),
            resolve: config.resolve,
            credentials,
            tls,
        })
    }

    /// Where it is.
    pub(crate) fn place(&self) -> &Destination {
        &self.url.place
    }

    /// Who turns names into addresses.
    pub(crate) fn resolves(&self) -> ParentResolve {
        self.resolve
    }

    /// Asks it for a connection to `target`. The caller bounds the time.
    ///
    /// # Errors
    /// [`Unconnected`], in words of our own.
    pub(crate) async fn open(
        &self,
        stream: TcpStream,
        target: Target<'_>,
    ) -> Result<(TcpStream, Option<Held>), Unconnected> {
        let mut link = match &self.tls {
            None => Link::Tcp(stream),
            Some(tls) => {
                let secured = tls.connector.connect(tls.name.clone(), stream).await;
                Link::Tls(Box::new(secured.map_err(|error| {
                    self.failed(Trouble::Broken, &format!("TLS with it failed: {error}"))
                })?))
            }
        };
        let credentials = self.credentials.as_ref();
        let asked = match self.url.scheme {
            ParentScheme::Http | ParentScheme::Https => {
                http::connect(&mut link, target, credentials).await
            }
            ParentScheme::Socks5 => socks::connect(&mut link, target, credentials).await,
        };
        match asked {
            Ok(()) => link.into_socket().map_err(|error| {
                let problem = format!("no descriptors left: {error}");
                self.failed(Trouble::Broken, &problem)
            }),
            Err((trouble, problem)) => Err(self.failed(trouble, &problem)),
        }
    }

    /// Says that it, and not the destination, is the trouble.
    pub(crate) fn failed(&self, trouble: Trouble, problem: &str) -> Unconnected {
        Unconnected {
            trouble,
            problem: format!(
                "the parent proxy `{}` did not carry it: {problem}",
                self.url
            ),
        }
    }
}

impl Tls {
    fn new(host: &Host, roots: &Roots) -> Result<Self, String> {
        let name = match host {
            Host::Name(name) => {
                ServerName::try_from(name.to_string()).map_err(|error| error.to_string())?
            }
            Host::Address(address) => ServerName::from(*address),
        };
        let config = roots.client().map_err(|error| error.to_string())?;
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            name,
        })
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish()
    }
}

impl fmt::Display for Target<'_> {
    /// As an authority: made of a checked name or an address, and a number (N03).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// What kept a parent from carrying a connection: what kind of trouble, and in words.
type Refused = (Trouble, String);
