//! The least that a forward proxy of this `hyper` can do, for `tests/bench` to stand beside Cordon.
//!
//! An address to listen on in, plain requests and tunnels to wherever a client names by address out.
//! Decides nothing, records nothing, resolves nothing, bounds nothing, times nothing out: never to
//! be used as a proxy.
//!
//! ```text
//! cargo run --release -p cordon --example bare -- 127.0.0.1:3128
//! ```

use std::{net::SocketAddr, sync::Arc};

use http_body_util::{BodyExt, Empty, combinators::BoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1 as client,
    header,
    server::conn::http1 as server,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Mutex,
};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

type Failed = Box<dyn std::error::Error + Send + Sync>;
type Body = BoxBody<Bytes, hyper::Error>;

/// The upstream connection of one client connection.
type Upstream = Arc<Mutex<Option<client::SendRequest<Incoming>>>>;

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let address = std::env::args()
        .nth(1)
        .ok_or("give the address to listen on")?;
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let upstream = Upstream::default();
            let service = service_fn(move |request| answer(request, Arc::clone(&upstream)));
            let serving = server::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            // Whoever leaves in the middle is nobody's business here.
            let _left = serving.await;
        });
    }
}

async fn answer(request: Request<Incoming>, upstream: Upstream) -> Result<Response<Body>, Failed> {
    if request.method() == Method::CONNECT {
        return tunnel(request).await;
    }
    let mut upstream = upstream.lock().await;
    let sender = match upstream.as_mut() {
        Some(sender) => sender,
        None => upstream.insert(open(&request).await?),
    };
    sender.ready().await?;
    let response = sender.send_request(origin_form(request)?).await?;
    Ok(response.map(BodyExt::boxed))
}

async fn open(request: &Request<Incoming>) -> Result<client::SendRequest<Incoming>, Failed> {
    let stream = dial(request).await?;
    let (sender, connection) = client::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

fn origin_form(mut request: Request<Incoming>) -> Result<Request<Incoming>, Failed> {
    let path = request.uri().path_and_query().ok_or("no path")?.clone();
    *request.uri_mut() = path.into();
    request.headers_mut().remove(header::PROXY_AUTHORIZATION);
    Ok(request)
}

async fn tunnel(request: Request<Incoming>) -> Result<Response<Body>, Failed> {
    let mut upstream = dial(&request).await?;
    tokio::spawn(async move {
        if let Ok(upgraded) = hyper::upgrade::on(request).await {
            let mut client = TokioIo::new(upgraded);
            let _cut_off = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
        }
    });
    let nothing = Empty::new().map_err(|never| match never {}).boxed();
    let mut response = Response::new(nothing);
    *response.status_mut() = StatusCode::OK;
    Ok(response)
}

#[expect(
    clippy::disallowed_methods,
    reason = "it decides nothing, which is its point"
)]
async fn dial(request: &Request<Incoming>) -> Result<TcpStream, Failed> {
    let authority = request.uri().authority().ok_or("no authority")?;
    let address: SocketAddr = authority.as_str().parse()?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
