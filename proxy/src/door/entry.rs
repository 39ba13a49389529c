//! One connection from its first byte to the session that it belongs to.

use std::{net::SocketAddr, os::fd::AsFd, sync::Arc, time::Duration};

use cordon_session::config::{Claim, Speaks};
use ipnet::IpNet;
use rustix::net::{RecvFlags, recv};
use tokio::{io::Interest, net::TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{
    Callers,
    places::{Place, Places},
    proxy_protocol, tls,
    who::{Failures, Who},
};
use crate::{
    bridge::bridge, http, limits, linger, refuse::Fault, session::Session, socks, status::Reached,
    tunnel,
};

const DOOR: &str = "gateway";

/// What the connections of one listener share.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) speaks: Speaks,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) trusted: Vec<IpNet>,
    pub(super) callers: Arc<dyn Callers>,
    pub(super) strangers: Arc<Session>,
    pub(super) failures: Arc<Failures>,
    pub(super) places: Arc<Places>,
}

impl Entry {
    /// Serves one connection to its end.
    pub(super) async fn serve(
        &self,
        mut stream: TcpStream,
        peer: Option<SocketAddr>,
        place: Place,
    ) {
        let mut source = peer.map(|peer| peer.ip().to_canonical());
        if source.is_some_and(|ip| self.trusted.iter().any(|net| net.contains(&ip))) {
            let read = Box::pin(proxy_protocol::read(&mut stream));
            match tokio::time::timeout(limits::HANDSHAKE_DEADLINE, read).await {
                Ok(Ok(told)) => source = told.map(|ip| ip.to_canonical()).or(source),
                Ok(Err(problem)) => return self.fault(&[], problem).await,
                Err(_elapsed) => {
                    let problem = "no PROXY protocol header in time from a peer that must send one";
                    return self.fault(&[], problem.into()).await;
                }
            }
        }
        let claim = Claim {
            listener: self.name.clone(),
            source,
            certificate: Vec::new(),
        };
        let Some(acceptor) = &self.tls else {
            return self.identified(stream, (claim, None), place).await;
        };
        Box::pin(self.secured(acceptor, stream, claim, place)).await;
    }

    /// As [`Self::serve`], inside TLS.
    async fn secured(
        &self,
        acceptor: &TlsAcceptor,
        stream: TcpStream,
        mut claim: Claim,
        place: Place,
    ) {
        let local = stream.local_addr().ok();
        let handshake = acceptor.accept(stream);
        let secured = match tokio::time::timeout(limits::HANDSHAKE_DEADLINE, handshake).await {
            Ok(Ok(secured)) => secured,
            Ok(Err(error)) => {
                return self
                    .fault(&[], format!("TLS handshake failed: {error}"))
                    .await;
            }
            Err(_elapsed) => {
                return self.fault(&[], "no TLS handshake in time".into()).await;
            }
        };
        let handshake = secured.get_ref().1;
        claim.certificate = tls::names(handshake.peer_certificates());
        let reached = local.map(|local| Reached::inside_tls(handshake.server_name(), local));
        let identified = |inner| self.identified(inner, (claim, reached), place);
        Box::pin(bridge(secured, identified)).await;
    }

    /// Serves a connection of which everything is known that comes before HTTP and SOCKS.
    async fn identified(&self, stream: TcpStream, claim: (Claim, Option<Reached>), place: Place) {
        let who = Who::asked(
            Arc::clone(&self.callers),
            claim,
            Arc::clone(&self.strangers),
            Arc::clone(&self.failures),
            place,
        );
        match self.speaks {
            Speaks::Http => http::serve(who, stream).await,
            // Boxed: what SOCKS takes is more than a tunnel at rest does.
            Speaks::Socks => Box::pin(socks::serve(who, stream)).await,
            Speaks::Mixed => match first_byte(&stream, self.strangers.limits().head).await {
                Some(4 | 5) => Box::pin(socks::serve(who, stream)).await,
                Some(_) => http::serve(who, stream).await,
                None => Box::pin(linger::close(stream)).await,
            },
        }
    }

    async fn fault(&self, seen: &[u8], problem: String) {
        let recorded = tunnel::fault(&self.strangers, DOOR, seen, Fault::Caller, problem);
        Box::pin(recorded).await;
    }
}

/// The first byte of a connection, left where it is. None where it says nothing in time.
async fn first_byte(stream: &TcpStream, deadline: Duration) -> Option<u8> {
    let mut byte = [0];
    let peek = stream.async_io(Interest::READABLE, || {
        let (read, _whole) = recv(stream.as_fd(), &mut byte, RecvFlags::PEEK)?;
        Ok(read)
    });
    let read = tokio::time::timeout(deadline, peek).await.ok()?.ok()?;
    byte.first().copied().filter(|_| read == 1)
}
