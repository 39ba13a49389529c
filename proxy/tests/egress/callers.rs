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
use tokio::io::AsyncWriteExt;

use crate::common::{
    House, Origin, ask, bounded, decisions, get, house, house_plus, message, socks_name,
};

/// Knows one caller, whose session is whichever it is now; none where none can be opened.
#[derive(Debug)]
struct Desk(Mutex<Option<Caller>>);

impl Desk {
    /// A gateway with one door to it.
    fn open(caller: &Caller, house: &House) -> (Arc<Self>, Gateway, SocketAddr) {
        let desk = Arc::new(Self(Mutex::new(Some(caller.clone()))));
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
        *self.0.lock().unwrap() = caller.cloned();
    }
}

impl Callers for Desk {
    fn asks(&self, _claim: &Claim) -> bool {
        false
    }

    fn identify<'a>(
        &'a self,
        _claim: &'a Claim,
        _credentials: Option<&'a Credentials>,
    ) -> Pin<Box<dyn Future<Output = Result<Caller, Stranger>> + Send + 'a>> {
        let now = self.0.lock().unwrap().clone();
        let now = now.ok_or(Stranger::Unavailable("there is none for you"));
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
