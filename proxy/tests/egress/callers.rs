//! Callers of a gateway whose sessions come and go while they are connected.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use cordon_proxy::{Caller, Callers, Credentials, Door, DoorSocket, Gateway, Stranger};
use cordon_session::config::{Claim, Speaks};
use http_body_util::Full;
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::common::{
    House, Origin, ask, bounded, decisions, get, get_through, house, house_plus, message,
    socks_name,
};

/// Knows one caller, whose session is whichever it is now; none where none can be opened. Knows them
/// without credentials, and nobody by some.
#[derive(Debug)]
struct Desk {
    now: Mutex<Option<Caller>>,
    asks: bool,
}

impl Desk {
    /// A gateway with one door to it.
    fn open(caller: &Caller, house: &House) -> (Arc<Self>, Gateway, SocketAddr) {
        Self::open_where(false, caller, house)
    }

    /// As [`Self::open`], where somebody else may be known by credentials first.
    fn open_where(asks: bool, caller: &Caller, house: &House) -> (Arc<Self>, Gateway, SocketAddr) {
        let now = Mutex::new(Some(caller.clone()));
        let desk = Arc::new(Self { now, asks });
        let door = Door {
            name: "door".into(),
            socket: DoorSocket::Tcp(std::net::TcpListener::bind("127.0.0.1:0").unwrap()),
            speaks: Speaks::Mixed,
            tls: None,
            proxy_protocol_from: Vec::new(),
        };
        let callers = Arc::clone(&desk);
        let gateway = Gateway::start(vec![door], callers, &house.caller()).unwrap();
        let address = gateway.addresses().first().unwrap().1.unwrap();
        (desk, gateway, address)
    }

    fn is_now(&self, caller: Option<&Caller>) {
        *self.now.lock().unwrap() = caller.cloned();
    }
}

impl Callers for Desk {
    fn asks(&self, _claim: &Claim) -> bool {
        self.asks
    }

    fn identify<'a>(
        &'a self,
        _claim: &'a Claim,
        credentials: Option<&'a Credentials>,
    ) -> Pin<Box<dyn Future<Output = Result<Caller, Stranger>> + Send + 'a>> {
        let now = self.now.lock().unwrap().clone();
        let now = match (now, credentials) {
            (_, Some(_)) => Err(Stranger::WrongCredentials),
            (None, None) if self.asks => Err(Stranger::NoCredentials),
            (None, None) => Err(Stranger::Unavailable("there is none for you")),
            (Some(caller), None) => Ok(caller),
        };
        Box::pin(std::future::ready(now))
    }
}

#[tokio::test]
async fn n19_an_http2_connection_ends_with_its_callers_session() {
    // It rests for longer than the test waits.
    let house = house_plus("[limits]\nhead_seconds = 60\n", "");
    let origin = Origin::start().await;
    let (first, second) = (house.caller(), house.caller());
    let (desk, gateway, address) = Desk::open(&first, &house);
    let stream = TokioIo::new(house.client(address).await);
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
            .await
            .unwrap();
    let ended = tokio::spawn(connection);
    let target = format!("http://allowed.example:{}/", origin.port());
    let request = Request::get(target).body(Full::<Bytes>::default());
    let answer = bounded(client.send_request(request.unwrap()))
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    drop(answer);
    desk.is_now(Some(&second));
    first.drain();
    bounded(ended).await.unwrap().unwrap();
    bounded(first.quiet()).await;
    assert!(gateway.drain(vec![second], Duration::from_secs(10)).await);
    house.end().await;
}

#[tokio::test]
async fn n19_a_kept_connection_of_a_session_that_ends_is_told_to_come_anew() {
    let (house, origin) = (house(), Origin::start().await);
    let (first, second) = (house.caller(), house.caller());
    let (desk, gateway, address) = Desk::open(&first, &house);
    let request = get(&format!("allowed.example:{}", origin.port()), "/");
    let mut kept = house.client(address).await;
    kept.write_all(&request).await.unwrap();
    let (head, _) = bounded(message(&mut kept)).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    desk.is_now(Some(&second));
    first.drain();
    kept.write_all(&request).await.unwrap();
    let (head, body) = bounded(message(&mut kept)).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert!(head.contains("connection: close"), "{head}");
    let body = String::from_utf8(body).unwrap();
    assert!(body.contains("help: open a new connection"), "{body}");
    assert_eq!(ask(address, &request).await.0, 200);
    bounded(first.quiet()).await;
    assert!(gateway.drain(vec![second], Duration::from_secs(10)).await);
    let records = house.end().await;
    let denied = decisions(&records, "deny");
    assert_eq!(denied.len(), 1, "{denied:?}");
    assert_eq!(denied[0]["reason"], "unavailable");
}

/// Who was told whose it is before the session drained comes too late.
#[tokio::test]
async fn n19_nothing_is_asked_of_a_session_that_is_over() {
    let (house, origin) = (house(), Origin::start().await);
    let caller = house.caller();
    let (_desk, gateway, address) = Desk::open(&caller, &house);
    caller.drain();
    bounded(caller.quiet()).await;
    let request = get(&format!("allowed.example:{}", origin.port()), "/");
    let (code, _, body) = ask(address, &request).await;
    assert_eq!(code, 503, "{body}");
    assert!(body.contains("help: open a new connection"), "{body}");
    let (code, _) = socks_name(address, b"allowed.example", origin.port()).await;
    assert_eq!(code, 2);
    assert_eq!(origin.reached(), 0);
    assert!(gateway.drain(Vec::new(), Duration::from_secs(10)).await);
    let records = house.end().await;
    assert!(decisions(&records, "allow").is_empty());
    let denied = decisions(&records, "deny");
    assert_eq!(denied.len(), 2, "{denied:?}");
    assert!(denied.iter().all(|deny| deny["reason"] == "unavailable"));
}

#[tokio::test]
async fn a_session_that_cannot_be_opened_is_a_recorded_refusal_in_its_own_words() {
    let (house, origin) = (house(), Origin::start().await);
    let (desk, gateway, address) = Desk::open(&house.caller(), &house);
    desk.is_now(None);
    let request = get(&format!("allowed.example:{}", origin.port()), "/");
    let (code, head, body) = ask(address, &request).await;
    assert_eq!(code, 503, "{body}");
    assert!(head.contains("connection: close"), "{head}");
    assert!(body.contains("refused: there is none for you"), "{body}");
    assert!(body.contains("help: try again later"), "{body}");
    let (code, _) = socks_name(address, b"allowed.example", origin.port()).await;
    assert_eq!(code, 2);
    assert!(gateway.drain(Vec::new(), Duration::from_secs(10)).await);
    let records = house.end().await;
    let denied = decisions(&records, "deny");
    assert_eq!(denied.len(), 2, "{denied:?}");
    assert!(denied.iter().all(|deny| deny["reason"] == "unavailable"));
}

/// The methods that a SOCKS client offers, and what it is answered.
async fn offered(address: SocketAddr, methods: &[u8], house: &House) -> (TcpStream, [u8; 2]) {
    let mut stream = house.client(address).await;
    let mut offer = vec![5, u8::try_from(methods.len()).unwrap()];
    offer.extend(methods);
    stream.write_all(&offer).await.unwrap();
    let mut answer = [0; 2];
    bounded(stream.read_exact(&mut answer)).await.unwrap();
    (stream, answer)
}

#[tokio::test]
async fn n18_over_socks_too_somebody_may_be_known_without_credentials() {
    let (house, origin) = (house(), Origin::start().await);
    let caller = house.caller();
    let (desk, gateway, address) = Desk::open_where(true, &caller, &house);
    let request = get(&format!("allowed.example:{}", origin.port()), "/");
    assert_eq!(ask(address, &request).await.0, 200);
    let (code, mut through) = socks_name(address, b"allowed.example", origin.port()).await;
    assert_eq!((code, get_through(&mut through).await), (0, 200));
    drop(through);
    // Who has some is asked for them.
    let (_asked, method) = offered(address, &[0, 2], &house).await;
    assert_eq!(method, [5, 2]);
    let (_unknown, method) = offered(address, &[1], &house).await;
    assert_eq!(method, [5, 0xff]);
    desk.is_now(None);
    let (_nobody, method) = offered(address, &[0], &house).await;
    assert_eq!(method, [5, 0xff]);
    drop((_asked, _unknown, _nobody));
    assert!(gateway.drain(vec![caller], Duration::from_secs(10)).await);
    let records = house.end().await;
    let denied = decisions(&records, "deny");
    let mut reasons: Vec<_> = denied.iter().map(|deny| deny["reason"].as_str()).collect();
    // Who left before it said a name is no request either.
    reasons.sort_unstable();
    let expected = [Some("credential"), Some("malformed"), Some("malformed")];
    assert_eq!(reasons, expected);
}
