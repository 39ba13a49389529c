//! A session, an origin with TLS behind it, and clients that trust the session's authority.

use std::{
    convert::Infallible,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use cordon_proxy::Authority;
use http_body_util::{BodyExt, Empty, Full, combinators::BoxBody};
use hyper::{
    Request, Response,
    body::{Frame, Incoming},
    client::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, pki_types::CertificateDer};
use serde_json::Value;
use tokio::{
    io::AsyncReadExt,
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream, server};

use crate::{
    common::{House, bounded, connect, house_under, message, status},
    trust,
};

/// Requests to `lab.example` are decided one by one.
pub const INSPECT: &str = r#"
@id("tunnel") @inspect("tls")
permit (principal, action == Action::"connect", resource == Host::"lab.example");
@id("public")
permit (principal, action in [Action::"http_read", Action::"http_write"], resource == Host::"lab.example")
when { context.path like "/public/*" && (context.method == "GET" || context.path == "/public/echo") };
"#;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Version {
    Http1,
    Http2,
}

impl Version {
    fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }

    pub fn name(self) -> hyper::Version {
        match self {
            Self::Http1 => hyper::Version::HTTP_11,
            Self::Http2 => hyper::Version::HTTP_2,
        }
    }
}

/// A request that reached the origin.
#[derive(Debug)]
pub struct Seen {
    pub version: hyper::Version,
    pub fields: String,
}

/// The whole house.
pub struct Inside {
    pub house: House,
    authority: Arc<Authority>,
    port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    _trusted: trust::Authority,
}

impl Inside {
    /// An origin that is `lab.example`, which speaks this version.
    pub async fn start(rules: &str, version: Version) -> Self {
        Self::start_as("lab.example", rules, version).await
    }

    /// An origin with a certificate for `name`.
    pub async fn start_as(name: &str, rules: &str, version: Version) -> Self {
        Self::start_with(name, rules, "", version).await
    }

    /// The same, with this text after the usual configuration.
    pub async fn start_with(name: &str, rules: &str, config: &str, version: Version) -> Self {
        let trusted = trust::Authority::new();
        let house = house_under(rules, &format!("{}{config}", trusted.config()));
        let authority = house.egress.authority(&house.session()).unwrap();
        let acceptor = TlsAcceptor::from(trusted.server(name, &[version.alpn()]));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let (keep, count) = (Arc::clone(&seen), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (acceptor, keep) = (acceptor.clone(), Arc::clone(&keep));
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, version, keep).await;
                    }
                });
            }
        });
        Self {
            house,
            authority,
            port,
            seen,
            connections,
            _trusted: trusted,
        }
    }

    pub fn authority(&self) -> String {
        format!("lab.example:{}", self.port)
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.authority())
    }

    /// What has reached the origin since it was asked last.
    pub fn seen(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The session's authority.
    pub fn root(&self) -> CertificateDer<'static> {
        self.authority.certificate_der().to_vec().into()
    }

    /// An open tunnel, nothing said in it.
    pub async fn tunnel(&self) -> TcpStream {
        let mut stream = connect(self.house.http).await;
        let authority = self.authority();
        let request = format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let (head, _) = bounded(message(&mut stream)).await.unwrap();
        assert_eq!(status(&head), 200, "{head}");
        stream
    }

    /// TLS in a tunnel, trusting the session.
    pub async fn tls(&self, alpn: &[&[u8]]) -> io::Result<TlsStream<TcpStream>> {
        self.tls_trusting(self.root(), alpn).await
    }

    /// TLS in a tunnel, trusting this alone.
    pub async fn tls_trusting(
        &self,
        root: CertificateDer<'static>,
        alpn: &[&[u8]],
    ) -> io::Result<TlsStream<TcpStream>> {
        self.tls_as(trust::client(root, alpn)).await
    }

    /// TLS in a tunnel.
    pub async fn tls_as(&self, config: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
        let stream = self.tunnel().await;
        let name = "lab.example".try_into().unwrap();
        bounded(TlsConnector::from(config).connect(name, stream)).await
    }

    /// A client in a tunnel.
    pub async fn client(&self, version: Version) -> Client {
        let stream = self.tls(&[version.alpn()]).await.unwrap();
        let negotiated = stream.get_ref().1.alpn_protocol();
        assert_eq!(negotiated, Some(version.alpn()));
        let io = TokioIo::new(stream);
        let sender = match version {
            Version::Http1 => {
                let (sender, driver) = http1::handshake(io).await.unwrap();
                tokio::spawn(driver.with_upgrades());
                Sender::Http1(sender)
            }
            Version::Http2 => {
                let executor = TokioExecutor::new();
                let (sender, driver) = http2::handshake(executor, io).await.unwrap();
                tokio::spawn(driver);
                Sender::Http2(sender)
            }
        };
        Client {
            sender,
            authority: self.authority(),
        }
    }

    /// Ends the session and gives back all its records.
    pub async fn end(self) -> Vec<Value> {
        self.house.end().await
    }
}

pub type SomeBody = BoxBody<Bytes, Infallible>;

pub fn empty() -> SomeBody {
    Empty::new().boxed()
}

/// A body of what is sent here, as long as this is held; sending fails once nobody takes it.
pub fn pieces() -> (mpsc::Sender<Bytes>, SomeBody) {
    let (sender, pieces) = mpsc::channel(1);
    (sender, BodyExt::boxed(Pieces(pieces)))
}

struct Pieces(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.0.poll_recv(cx);
        piece.map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

enum Sender {
    Http1(http1::SendRequest<SomeBody>),
    Http2(http2::SendRequest<SomeBody>),
}

/// An HTTP client inside a tunnel.
pub struct Client {
    sender: Sender,
    authority: String,
}

impl Clone for Client {
    /// Only HTTP/2 can carry several requests at once.
    fn clone(&self) -> Self {
        let Sender::Http2(sender) = &self.sender else {
            panic!("HTTP/1 has one request at a time");
        };
        Self {
            sender: Sender::Http2(sender.clone()),
            authority: self.authority.clone(),
        }
    }
}

impl Client {
    pub fn request(&self, method: &str, path: &str) -> Request<SomeBody> {
        self.request_to(&self.authority, method, path)
    }

    fn request_to(&self, authority: &str, method: &str, path: &str) -> Request<SomeBody> {
        let request = Request::builder().method(method);
        let request = match &self.sender {
            Sender::Http1(_) => request.uri(path).header("host", authority),
            Sender::Http2(_) => request.uri(format!("https://{authority}{path}")),
        };
        request.body(empty()).unwrap()
    }

    /// Sends a request, to the head of its response.
    pub async fn begin(&mut self, mut request: Request<SomeBody>) -> Response<Incoming> {
        let sent = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await.unwrap();
                let host = self.authority.parse().unwrap();
                request.headers_mut().entry("host").or_insert(host);
                bounded(sender.send_request(request)).await
            }
            Sender::Http2(sender) => bounded(sender.send_request(request)).await,
        };
        sent.unwrap()
    }

    /// Sends a request; status and body of its response.
    pub async fn send(&mut self, request: Request<SomeBody>) -> (u16, String) {
        let response = self.begin(request).await;
        let status = response.status().as_u16();
        let body = bounded(response.into_body().collect()).await.unwrap();
        (status, String::from_utf8(body.to_bytes().to_vec()).unwrap())
    }

    pub async fn ask(&mut self, method: &str, path: &str) -> (u16, String) {
        let request = self.request(method, path);
        self.send(request).await
    }

    /// A request that names another host than its tunnel.
    pub async fn ask_host(&mut self, host: &str, path: &str) -> (u16, String) {
        let request = self.request_to(host, "GET", path);
        self.send(request).await
    }
}

/// Every field, also those that are marked as not to be shown.
fn shown(fields: &hyper::HeaderMap) -> String {
    let line = |(name, value): (_, &hyper::header::HeaderValue)| {
        format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()))
    };
    fields.iter().map(line).collect()
}

async fn serve(
    stream: server::TlsStream<TcpStream>,
    version: Version,
    keep: Arc<Mutex<Vec<Seen>>>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        keep.lock().unwrap().push(Seen {
            version: request.version(),
            fields: shown(request.headers()),
        });
        async move { Ok::<_, Infallible>(answer(request).await) }
    });
    let io = TokioIo::new(stream);
    // How it ends is what the clients see.
    match version {
        Version::Http1 => {
            let served = hyper::server::conn::http1::Builder::new().serve_connection(io, service);
            let _ended = served.with_upgrades().await;
        }
        Version::Http2 => {
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ended = server.serve_connection(io, service).await;
        }
    }
}

type Answer = Response<BoxBody<Bytes, hyper::Error>>;

async fn answer(mut request: Request<Incoming>) -> Answer {
    let text = |text: &'static str| Full::new(Bytes::from(text)).map_err(|e| match e {}).boxed();
    match request.uri().path() {
        "/public/echo" => {
            let body = request
                .into_body()
                .map_frame(|frame| match frame.into_trailers() {
                    Ok(mut trailers) => {
                        trailers.insert("grpc-status", "0".parse().unwrap());
                        Frame::trailers(trailers)
                    }
                    Err(frame) => frame,
                });
            Response::new(BodyExt::boxed(body))
        }
        "/public/endless" => {
            // A first part, and then nothing for ever.
            let first = Full::new(Bytes::from("first")).map_err(|never| match never {});
            Response::new(BodyExt::boxed(Endless(Some(first))))
        }
        "/public/close" => Response::builder()
            .header("connection", "close")
            .body(text("last"))
            .unwrap(),
        // Answers at once with what it was sent, and reads on; says how much came at last.
        path if path.ends_with("/reads-on") => {
            let in_head = !path.contains("/body/");
            let sent = request.headers().get("authorization").cloned().unwrap();
            let (said, body) = pieces();
            let first = Bytes::copy_from_slice(sent.as_bytes());
            tokio::spawn(async move {
                if !in_head && said.send(first).await.is_err() {
                    return;
                }
                let mut body = request.into_body();
                let mut bytes = 0;
                while let Some(Ok(frame)) = body.frame().await {
                    bytes += frame.data_ref().map_or(0, Bytes::len);
                }
                let _gone = said.send(format!(" {bytes} bytes").into()).await;
            });
            let body = body.map_err(|never| match never {});
            let mut answer = Response::new(BodyExt::boxed(body));
            if in_head {
                answer.headers_mut().insert("x-sent", sent);
            }
            answer
        }
        path if path.ends_with("/fields") => {
            let fields = shown(request.headers());
            let sent = request.headers().get("authorization").cloned();
            let body = Full::new(Bytes::from(fields))
                .map_err(|e| match e {})
                .boxed();
            let mut answer = Response::new(body);
            if let Some(mut sent) = sent {
                sent.set_sensitive(false);
                answer.headers_mut().insert("x-sent", sent);
            }
            answer
        }
        "/public/ws" => {
            let upgraded = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut stream = TokioIo::new(upgraded.await.unwrap());
                let mut buffer = [0; 64];
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    let heard = buffer.get(..read).unwrap();
                    stream.write_all(heard).await.unwrap();
                }
            });
            Response::builder()
                .status(101)
                .header("connection", "upgrade")
                .header("upgrade", "websocket")
                .header("sec-websocket-accept", "yes")
                .body(text(""))
                .unwrap()
        }
        _ => Response::new(text("hello")),
    }
}

/// A body whose end never comes.
struct Endless<B>(Option<B>);

impl<B: hyper::body::Body + Unpin> hyper::body::Body for Endless<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let Some(mut first) = self.0.take() else {
            return std::task::Poll::Pending;
        };
        std::pin::Pin::new(&mut first).poll_frame(cx)
    }
}
