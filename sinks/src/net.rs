//! Connections to the operator's own receivers, plain or with TLS.
//!
//! A host, a port and the certificates to trust in; a byte stream out. No session reaches this: the
//! addresses come from the configuration alone.

use std::{io, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// Bytes in and out.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A place to connect to.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) host: String,
    pub(crate) port: u16,
    tls: Option<Arc<ClientConfig>>,
}

impl Peer {
    /// A peer; with TLS, the certificates of `ca` are trusted, or the system's.
    pub(crate) fn new(host: &str, port: u16, tls: bool, ca: Option<&Path>) -> Result<Self, String> {
        Ok(Self {
            host: host.trim_matches(['[', ']']).into(),
            port,
            tls: if tls { Some(trusting(ca)?) } else { None },
        })
    }

    /// Reads `host:port`.
    pub(crate) fn parse(address: &str, tls: bool, ca: Option<&Path>) -> Result<Self, String> {
        let parsed = address
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host, port.parse().ok()?)))
            .filter(|(host, port)| !host.is_empty() && *port != 0);
        let (host, port) = parsed.ok_or_else(|| {
            format!("{address:?} is no address; name one as in `siem.example.com:6514`")
        })?;
        Self::new(host, port, tls, ca)
    }

    pub(crate) async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        #[expect(
            clippy::disallowed_methods,
            reason = "a receiver that the operator configured; nothing of a session is dialled here"
        )]
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let Some(config) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::clone(config));
        Ok(Box::new(connector.connect(name, stream).await?))
    }
}

fn trusting(ca: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let fail = |what: &str| format!("`{}` {what}", path.display());
            let certificates = CertificateDer::pem_file_iter(path)
                .map_err(|error| fail(&format!("cannot be read: {error}")))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| fail(&error.to_string()))?;
                roots
                    .add(certificate)
                    .map_err(|error| fail(&error.to_string()))?;
            }
        }
        None => {
            let system = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(system.certs);
        }
    }
    if roots.is_empty() {
        return Err("there is no certificate to trust: name a PEM file with `ca`".into());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
