//! The endpoint of `cordon mcp wrap --listen`: Streamable HTTP on loopback for one client.
//!
//! Whoever asks shows the endpoint's token; no page of a browser gets through.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode, header},
    response::Response,
    routing::post,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use subtle::ConstantTimeEq;
use tokio::{io::DuplexStream, net::TcpListener, sync::Semaphore};

use crate::{
    error::Failure,
    mcp::{Front, Refusal},
};

/// An endpoint that is bound and not yet served.
pub struct Endpoint {
    listener: TcpListener,
    address: SocketAddr,
    token: String,
}

/// What all its connections share.
struct Shared {
    token: String,
    /// As the `Host` of a request may name it.
    hosts: [String; 2],
    front: Front,
}

impl Endpoint {
    /// Binds it, with a token of its own.
    ///
    /// # Errors
    /// The address is not this machine's own, or is taken.
    pub async fn bind(address: SocketAddr) -> Result<Self, Failure> {
        if !address.ip().is_loopback() {
            let why = format!("`{address}` can be reached from elsewhere");
            return Err(Failure::new(why)
                .help("`--listen 127.0.0.1:0` is this machine's own, on any free port")
                .usage());
        }
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|error| Failure::new(error.to_string()))?;
        let token = random.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self {
            listener,
            address,
            token,
        })
    }

    /// Where it is, for the client's settings.
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// What the client shows as `Authorization: Bearer`.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Serves until the client has ended its session, or `lines`, the relay's end, is closed.
    pub async fn serve(self, lines: DuplexStream) {
        let name = match self.address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let port = self.address.port();
        let (front, for_relay) = Front::new();
        let shared = Arc::new(Shared {
            token: self.token,
            hosts: [format!("{name}:{port}"), format!("localhost:{port}")],
            front,
        });
        let router = Router::new()
            .route("/mcp", post(posted).get(listened).delete(ended))
            .layer(DefaultBodyLimit::max(BODY_BYTES))
            .with_state(Arc::clone(&shared));
        tokio::select! {
            () = accept(&self.listener, router) => {}
            () = shared.front.serve(for_relay, lines) => {}
        }
    }
}

async fn accept(listener: &TcpListener, router: Router) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            // A client that breaks off asks again.
            let _gone = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_DEADLINE)
                .max_buf_size(64 * 1024)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            drop(place);
        });
    }
}

impl Shared {
    /// Whether whoever asks may.
    fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let text = |name: header::HeaderName| headers.get(name).and_then(|v| v.to_str().ok());
        // Only browsers send one, for pages that know no token, or should not.
        if headers.contains_key(header::ORIGIN) {
            return Err(Refusal(
                StatusCode::FORBIDDEN,
                "no page of a browser asks here",
            ));
        }
        let host = text(header::HOST).unwrap_or_default();
        if !self.hosts.iter().any(|known| known == host) {
            return Err(Refusal(
                StatusCode::FORBIDDEN,
                "the request names another host",
            ));
        }
        let shown = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        let shown = shown.unwrap_or_default();
        if !bool::from(shown.as_bytes().ct_eq(self.token.as_bytes())) {
            return Err(Refusal(
                StatusCode::UNAUTHORIZED,
                "`Authorization: Bearer` with the endpoint's token is missing",
            ));
        }
        Ok(())
    }
}

async fn posted(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    shared.check(&headers)?;
    shared.front.posted(&headers, &body).await
}

async fn listened(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    shared.check(&headers)?;
    shared.front.listened(&headers)
}

async fn ended(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
) -> Result<StatusCode, Refusal> {
    shared.check(&headers)?;
    shared.front.ended(&headers)
}

/// Largest message of a client, in bytes: what the relay takes as a line.
const BODY_BYTES: usize = 4 * 1024 * 1024;

/// Open connections.
const CONNECTIONS: usize = 64;

/// Time for one request head.
const HEAD_DEADLINE: Duration = Duration::from_secs(60);
