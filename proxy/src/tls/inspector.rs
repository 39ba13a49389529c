//! What all inspected tunnels of one session share: its authority, and how TLS is spoken on both
//! sides.

use std::{fmt, io, sync::Arc};

use cordon_policy::{Destination, Host};
use rustls::{
    ClientConfig, ServerConfig,
    crypto::ring::Ticketer,
    pki_types::ServerName,
    server::{ClientHello, ProducesTickets, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::{authority::Authority, prefixed::Prefixed};
use crate::{
    egress::Egress,
    roots::{self},
};

/// One session's means to inspect.
pub(crate) struct Inspector {
    authority: Arc<Authority>,
    /// So that the session's clients can resume.
    tickets: Arc<dyn ProducesTickets>,
    /// Remembers servers' tickets, for this session alone.
    client: ClientConfig,
}

impl Inspector {
    pub(crate) fn new(egress: &Egress, authority: Arc<Authority>) -> Result<Self, rustls::Error> {
        Ok(Self {
            authority,
            tickets: Ticketer::new()?,
            client: egress.roots().client()?,
        })
    }

    /// The authority's certificate in PEM.
    pub(crate) fn certificate(&self) -> String {
        self.authority.certificate()
    }

    /// Speaks TLS with a destination, whose certificate must be good for exactly its host.
    pub(crate) async fn reach(
        &self,
        stream: TcpStream,
        destination: &Destination,
        protocols: &[&[u8]],
    ) -> io::Result<client::TlsStream<TcpStream>> {
        let name = server_name(&destination.host)?;
        // A clone shares the verifier and the remembered tickets.
        let mut config = self.client.clone();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
    }

    /// Speaks TLS with the client in a destination's place; `first` is what it has said.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
        first: Vec<u8>,
        destination: &Destination,
        protocol: Option<&[u8]>,
    ) -> io::Result<server::TlsStream<Prefixed>> {
        let leaf = self
            .authority
            .leaf(&destination.host)
            .map_err(io::Error::other)?;
        let mut config = ServerConfig::builder_with_provider(roots::provider())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Only(leaf)));
        config.alpn_protocols = protocol.iter().map(|name| name.to_vec()).collect();
        config.ticketer = Arc::clone(&self.tickets);
        TlsAcceptor::from(Arc::new(config))
            .accept(Prefixed::new(first, stream))
            .await
    }
}

impl fmt::Debug for Inspector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.authority.fmt(f)
    }
}

fn server_name(host: &Host) -> io::Result<ServerName<'static>> {
    match host {
        Host::Name(name) => ServerName::try_from(name.to_string()).map_err(io::Error::other),
        Host::Address(address) => Ok(ServerName::IpAddress((*address).into())),
    }
}

/// The one certificate of a tunnel; what the client asks for was checked before.
#[derive(Debug)]
struct Only(Arc<CertifiedKey>);

impl ResolvesServerCert for Only {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}
