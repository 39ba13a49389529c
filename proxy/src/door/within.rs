//! A caller's way out for the daemon itself, where it acts for a session: a tunnel that the session's
//! gate decides and records like every other, with TLS inside it.
//!
//! A destination in, a stream that is checked to lead there out. Never dials by itself.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use cordon_policy::{DenyReason, Destination, Host, Operation, Seen, Transport};
use cordon_session::GateError;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
        BufReader, ReadBuf,
    },
    net::UnixStream,
    task::JoinSet,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Caller, Who};
use crate::{Carried, bridge, flow, http, process::MadeBy, roots, session::Session};

/// An open tunnel: what is written goes to the destination inside TLS. It ends with this.
#[derive(Debug)]
pub struct Tunnel {
    stream: TlsStream<UnixStream>,
    /// The proxy's side of it.
    _served: JoinSet<()>,
}

impl Caller {
    /// Whoever comes to a session's own listeners, with the same budgets.
    pub(crate) fn of(session: &Arc<Session>) -> Self {
        Self(Arc::clone(session))
    }

    /// The certificate that the session's inspected tunnels are signed by, in PEM; none where none
    /// can be made.
    pub fn certificate(&self) -> Option<String> {
        Some(self.0.inspector()?.certificate())
    }

    /// Opens a tunnel to a destination: a `connect` of this session, decided and recorded. The
    /// certificate inside must be good for the destination, or of the session's own authority where
    /// policy has the tunnel inspected.
    ///
    /// # Errors
    /// In words, the proxy's where it refused.
    pub async fn reach(&self, destination: &Destination) -> Result<Tunnel, String> {
        let reached = tokio::time::timeout(DEADLINE, self.reached(destination)).await;
        reached.unwrap_or_else(|_late| Err(format!("`{destination}` did not answer in time")))
    }

    async fn reached(&self, destination: &Destination) -> Result<Tunnel, String> {
        let broken = |error: io::Error| format!("`{destination}`: {error}");
        let (near, far) = bridge::pair().map_err(broken)?;
        let mut served = JoinSet::new();
        let who = Who::known(Arc::clone(&self.0), MadeBy::default());
        served.spawn(http::serve(who, near));
        let far = connected(far, destination).await?;
        let config = self.trusting().map_err(|error| error.to_string())?;
        let name = match &destination.host {
            Host::Name(name) => ServerName::try_from(name.to_string())
                .map_err(|error| format!("`{destination}`: {error}"))?,
            Host::Address(address) => ServerName::IpAddress((*address).into()),
        };
        let stream = TlsConnector::from(Arc::new(config)).connect(name, far);
        Ok(Tunnel {
            stream: stream.await.map_err(broken)?,
            _served: served,
        })
    }

    /// A credential of the configuration as the field that carries it, for requests of these methods
    /// to one path of one host.
    ///
    /// # Errors
    /// In words: there is none of this name, it may not go there, or it has no value.
    pub async fn credential(
        &self,
        name: &str,
        host: &Host,
        methods: &[&str],
        path: &str,
    ) -> Result<Carried, String> {
        let credentials = self.0.egress().credentials();
        credentials.field(name, host, methods, path).await
    }

    /// Records that an answer from there says the credential that it was asked with, and goes no
    /// further. In words, for whoever asked.
    pub async fn sent_back(&self, destination: &Destination) -> String {
        let operation = Operation::Connect {
            destination: destination.clone(),
            transport: Transport::HttpConnect,
            seen: Seen::default(),
        };
        let gate = self.0.gate();
        let basis = gate.look(operation.clone()).ok();
        let why = "its answer sends its credential back".to_owned();
        let deny = flow::denied(
            &self.0,
            DenyReason::Credential,
            operation,
            basis.as_ref(),
            why,
        );
        let told = "the server's answer sends its credential back";
        match gate.refuse(deny).await {
            GateError::Denied(denied) => format!("{told} (decision {})", denied.id()),
            GateError::NotRecorded(error) => {
                tracing::warn!(%error, "an answer was refused, and its refusal is not recorded");
                told.to_owned()
            }
        }
    }

    fn trusting(&self) -> Result<ClientConfig, rustls::Error> {
        let mut roots = RootCertStore::clone(&self.0.egress().roots().store());
        if let Some(own) = self.certificate() {
            let own = CertificateDer::pem_slice_iter(own.as_bytes()).flatten();
            roots.add_parsable_certificates(own);
        }
        let builder = ClientConfig::builder_with_provider(roots::provider());
        Ok(builder
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth())
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Asks the proxy for a tunnel.
async fn connected(far: UnixStream, destination: &Destination) -> Result<UnixStream, String> {
    let broken = |error: io::Error| format!("`{destination}`: {error}");
    let mut far = BufReader::new(far);
    let head = format!("CONNECT {destination} HTTP/1.1\r\nhost: {destination}\r\n\r\n");
    far.write_all(head.as_bytes()).await.map_err(broken)?;
    let mut status = String::new();
    let mut lines = (&mut far).take(HEAD_BYTES);
    lines.read_line(&mut status).await.map_err(broken)?;
    let status = status.trim_end().strip_prefix("HTTP/1.1 ");
    match status {
        Some(status) if status.starts_with("200") => {}
        Some(refused) => return Err(format!("`{destination}`: {refused}")),
        None => return Err(format!("`{destination}`: the proxy broke off")),
    }
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        if lines.read_line(&mut line).await.map_err(broken)? == 0 {
            return Err(format!("`{destination}`: the proxy broke off"));
        }
    }
    // The other end of a tunnel of TLS waits for us to speak first.
    match far.buffer() {
        [] => Ok(far.into_inner()),
        _early => Err(format!("`{destination}` spoke before it was spoken to")),
    }
}

/// Time for the decision, the connection and the handshake.
const DEADLINE: Duration = Duration::from_secs(30);

/// Longest answer of the proxy to the request for a tunnel, in bytes.
const HEAD_BYTES: u64 = 16 * 1024;
