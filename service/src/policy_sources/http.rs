//! GET and POST over HTTP/1.1, with TLS by the system's and the configured certificates.
//!
//! An address in, a bounded answer out. Follows no redirect, keeps no connection, sends no cookie.

use std::{io, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use cordon_session::config::HttpUrl;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    HeaderMap, Method, Request, StatusCode,
    body::Bytes,
    client::conn::http1,
    header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::FetchError;

/// Time for one answer, from the look-up of the name to its last byte.
const DEADLINE: Duration = Duration::from_secs(30);

/// Makes requests. One for the daemon.
pub struct HttpClient {
    tls: TlsConnector,
}

/// An answer, whole.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its header fields.
    pub fields: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

impl HttpClient {
    /// Trusts the system's certificates and those in `extra_pem`.
    ///
    /// # Errors
    /// [`FetchError`] when `extra_pem` holds something else.
    pub fn new(extra_pem: Option<&str>) -> Result<Self, FetchError> {
        let mut roots = RootCertStore::empty();
        // One that cannot be read is left out: it then vouches for nobody.
        let system = rustls_native_certs::load_native_certs();
        let _ignored = roots.add_parsable_certificates(system.certs);
        for certificate in CertificateDer::pem_slice_iter(extra_pem.unwrap_or_default().as_bytes())
        {
            let added = certificate
                .map_err(|error| error.to_string())
                .and_then(|der| roots.add(der).map_err(|error| error.to_string()));
            added.map_err(|error| {
                FetchError::new(
                    format!("a certificate of `tls.extra_ca_certificates` is not usable: {error}"),
                    "it takes PEM certificates of authorities",
                )
            })?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| FetchError::new(format!("TLS not usable: {error}"), "report this"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            tls: TlsConnector::from(Arc::new(config)),
        })
    }

    /// One GET.
    ///
    /// # Errors
    /// [`FetchError`]: no answer in time, one that is too long, or none that is HTTP.
    pub async fn get(
        &self,
        url: &HttpUrl,
        fields: &[(HeaderName, HeaderValue)],
        limit_bytes: usize,
    ) -> Result<Reply, FetchError> {
        let mut request = request(Method::GET, url, Vec::new())?;
        for (name, value) in fields {
            request.headers_mut().insert(name, value.clone());
        }
        self.within(url, request, limit_bytes).await
    }

    /// One POST of JSON.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn post(
        &self,
        url: &HttpUrl,
        json: Vec<u8>,
        limit_bytes: usize,
    ) -> Result<Reply, FetchError> {
        let mut request = request(Method::POST, url, json)?;
        let media = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, media);
        self.within(url, request, limit_bytes).await
    }

    async fn within(
        &self,
        url: &HttpUrl,
        request: Request<Full<Bytes>>,
        limit_bytes: usize,
    ) -> Result<Reply, FetchError> {
        let answered = tokio::time::timeout(DEADLINE, self.exchange(url, request, limit_bytes));
        answered.await.unwrap_or_else(|_elapsed| {
            Err(unreachable(
                url,
                &format!("no answer within {} s", DEADLINE.as_secs()),
            ))
        })
    }

    async fn exchange(
        &self,
        url: &HttpUrl,
        request: Request<Full<Bytes>>,
        limit_bytes: usize,
    ) -> Result<Reply, FetchError> {
        let stream = connect(url)
            .await
            .map_err(|error| unreachable(url, &error.to_string()))?;
        if !url.tls {
            return talk(stream, url, request, limit_bytes).await;
        }
        let name = ServerName::try_from(url.host.clone())
            .map_err(|error| unreachable(url, &error.to_string()))?;
        let stream = self
            .tls
            .connect(name, stream)
            .await
            .map_err(|error| unreachable(url, &error.to_string()))?;
        talk(stream, url, request, limit_bytes).await
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the daemon's own way to a source that its configuration names; never a session's"
)]
async fn connect(url: &HttpUrl) -> io::Result<TcpStream> {
    TcpStream::connect((url.host.as_str(), url.port)).await
}

async fn talk<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    url: &HttpUrl,
    request: Request<Full<Bytes>>,
    limit_bytes: usize,
) -> Result<Reply, FetchError> {
    let broken = |error: hyper::Error| unreachable(url, &error.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, limit_bytes)
            .collect()
            .await
            .map_err(|error| {
                FetchError::new(
                    format!("`{url}`: {error}"),
                    &format!("an answer may have {limit_bytes} bytes"),
                )
            })?;
        Ok(Reply {
            status: head.status,
            fields: head.headers,
            body: body.to_bytes().into(),
        })
    };
    tokio::pin!(answer);
    // The connection is driven here, so nothing outlives this call.
    tokio::select! {
        biased;
        answered = &mut answer => answered,
        driven = connection => match driven {
            Ok(()) => answer.await,
            Err(error) => Err(broken(error)),
        },
    }
}

fn request(
    method: Method,
    url: &HttpUrl,
    body: Vec<u8>,
) -> Result<Request<Full<Bytes>>, FetchError> {
    Request::builder()
        .method(method)
        .uri(url.path.as_str())
        .header(HOST, url.authority())
        .header(USER_AGENT, concat!("cordon/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| unreachable(url, &error.to_string()))
}

fn unreachable(url: &HttpUrl, why: &str) -> FetchError {
    FetchError::new(
        format!("`{url}` not reached: {why}"),
        "check the address and the network; what is in force stays so",
    )
}

/// `user:password` as the value of an `Authorization` field.
pub fn basic(login: &str) -> Result<HeaderValue, FetchError> {
    let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(login)))
        .map_err(|_| FetchError::new("credentials are no header value", "write `user:password`"))?;
    value.set_sensitive(true);
    Ok(value)
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpClient").finish_non_exhaustive()
    }
}
