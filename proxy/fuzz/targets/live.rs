//! What is read from a socket, or by `hyper` as well: these targets run on a small runtime.

use std::{cell::RefCell, convert::Infallible, net::SocketAddr, sync::Arc};

use cordon_policy::Destination;
use cordon_proxy::fuzzing;
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::Mutex,
};

use super::common::{House, bounded, connect, house_under};

thread_local! {
    static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime starts");
    static HOUSE: RefCell<Option<House>> = const { RefCell::new(None) };
}

/// The screen lets through the same messages however they are cut, and `hyper` reads those same
/// messages and takes the same for the end of HTTP.
pub fn head(bytes: &[u8]) {
    let whole = fuzzing::screen(bytes, usize::MAX);
    for cut in [1, 3, 50] {
        let pieces = fuzzing::screen(bytes, cut);
        assert_eq!(
            pieces.flaw.is_some(),
            whole.flaw.is_some(),
            "cut {cut}: {pieces:?} {whole:?}"
        );
        assert_eq!(pieces.http2, whole.http2, "cut {cut}");
        // Of a body that turns out to be wrong, the part before that may have gone on.
        assert!(pieces.through.starts_with(&whole.through), "cut {cut}");
        assert!(bytes.starts_with(&pieces.through), "cut {cut}");
    }
    let messages = fuzzing::messages(&whole.through);
    let read = RUNTIME.with(|runtime| runtime.block_on(by_hyper(&whole.through)));
    for (index, (method, body, leaves)) in read.iter().enumerate() {
        let Some(ours) = messages.get(index) else {
            panic!("`hyper` reads more than was let through: {read:?} {messages:?}");
        };
        assert_eq!(*method, ours.method);
        if let (Some(ours), Some(theirs)) = (ours.body, body) {
            assert_eq!(ours, *theirs);
        }
        // An upgrade that cannot be granted is refused, and then the connection closes.
        assert!(
            !ours.tunnel || *leaves,
            "what follows would pass unread: {ours:?}"
        );
        if ours.tunnel {
            return;
        }
    }
}

/// Method, length of the body where it was whole, and whether HTTP ends with it.
type Seen = (String, Option<u64>, bool);

async fn by_hyper(bytes: &[u8]) -> Vec<Seen> {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let noted = Arc::clone(&seen);
    let service = service_fn(move |request: Request<Incoming>| {
        let noted = Arc::clone(&noted);
        async move {
            let method = request.method().to_string();
            let leaves = fuzzing::leaves_http(&request);
            let body = request.into_body().collect().await;
            let length = body.ok().map(|body| body.to_bytes().len() as u64);
            noted.lock().await.push((method, length, leaves));
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let serving = http1::Builder::new()
        .half_close(true)
        .max_headers(200)
        .serve_connection(TokioIo::new(server), service);
    let bytes = bytes.to_vec();
    let writing = async move {
        let _refused = client.write_all(&bytes).await;
        let _refused = client.shutdown().await;
        let mut waste = Vec::new();
        let _reset = client.read_to_end(&mut waste).await;
    };
    let _broken = tokio::join!(serving, writing);
    let seen = seen.lock().await;
    seen.clone()
}

/// A parent's answer opens a tunnel exactly when its first final status is 2xx, and what is behind
/// that head is the destination's, every byte of it.
pub fn parent_answer(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(32_000)];
    let expected = model(bytes);
    RUNTIME.with(|runtime| {
        runtime.block_on(bounded(async {
            let (near, mut far) = pair().await;
            far.write_all(bytes).await.expect("it fits");
            far.shutdown().await.expect("it is open");
            match (fuzzing::parent(near).await, expected) {
                (Ok(mut tunnel), Some(rest)) => {
                    let mut read = Vec::new();
                    let _reset = tunnel.read_to_end(&mut read).await;
                    assert_eq!(read, rest);
                }
                (Err(why), None) => assert!(!why.chars().any(char::is_control), "{why:?}"),
                (read, expected) => panic!("{read:?}, but {expected:?}"),
            }
        }));
    });
}

/// What is behind the first final head, where its status is 2xx.
fn model(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes;
    loop {
        let end = rest.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        if bytes.len() - rest.len() + end > 16 * 1024 {
            return None;
        }
        let line = std::str::from_utf8(rest.get(..12)?).ok()?;
        let (version, status) = line.strip_prefix("HTTP/1.")?.split_once(' ')?;
        let ended = matches!(rest.get(12), Some(b' ' | b'\r'));
        let digits = status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit());
        let plain = version.len() == 1 && version.bytes().all(|byte| byte.is_ascii_digit());
        if !(ended && digits && plain) {
            return None;
        }
        rest = &rest[end..];
        match status.as_bytes().first() {
            Some(b'1') => {}
            Some(b'2') => return Some(rest),
            _ => return None,
        }
    }
}

/// Under a policy that denies everything, no bytes open anything; the answer is SOCKS5, or what
/// says that it is not, and is the same in pieces.
pub fn socks(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(2_000)];
    let socks = RUNTIME.with(|runtime| {
        let _entered = runtime.enter();
        HOUSE.with_borrow_mut(|house| {
            let denied = "@id(\"no\") forbid (principal, action, resource);";
            house.get_or_insert_with(|| house_under(denied, "")).socks
        })
    });
    RUNTIME.with(|runtime| {
        let whole = runtime.block_on(bounded(said(socks, bytes, bytes.len().max(1))));
        let pieces = runtime.block_on(bounded(said(socks, bytes, 1 + bytes.len() / 3)));
        match whole.as_slice() {
            [] | [5, 0xff] | [5, 0] => {}
            [0, 0x5b, 0, 0, 0, 0, 0, 0] => assert_eq!(bytes[0], 4),
            [b'H', ..] => assert!(bytes[0].is_ascii_uppercase()),
            [5, 0, 5, 0, ..] => assert!(is_own(bytes), "opened"),
            [5, 0, 5, code, 0, 1, rest @ ..] => {
                assert!((1..=8).contains(code) && rest.len() == 6, "{whole:?}");
            }
            _ => panic!("{whole:?}"),
        }
        // Behind a handshake that went through, HTTP says when it has heard enough.
        let handshake = |said: &[u8]| said[..said.len().min(12)].to_vec();
        assert_eq!(handshake(&pieces), handshake(&whole));
    });
}

/// Whether the command is about the proxy's own page.
fn is_own(bytes: &[u8]) -> bool {
    let methods = usize::from(bytes[1]);
    let command = &bytes[2 + methods..];
    // The third byte is reserved; the reader passes over it.
    let kind = [command[0], command[1], command[3]];
    assert_eq!(kind, [5, 1, 3], "only a name is the proxy's own");
    let name = &command[5..5 + usize::from(command[4])];
    Destination::from_parts(name, 80).is_ok_and(|read| read.host.to_string() == "cordon.internal")
}

async fn said(socks: SocketAddr, bytes: &[u8], cut: usize) -> Vec<u8> {
    let mut client = connect(socks).await;
    client.set_nodelay(true).expect("it is open");
    for piece in bytes.chunks(cut) {
        // Refused early, it is over.
        let _refused = client.write_all(piece).await;
        tokio::task::yield_now().await;
    }
    let _refused = client.shutdown().await;
    let mut answer = Vec::new();
    let _reset = client.read_to_end(&mut answer).await;
    answer
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let near = connect(listener.local_addr().expect("it is bound"));
    let (near, far) = tokio::join!(near, listener.accept());
    (near, far.expect("it is there").0)
}
