//! How names become addresses: encrypted nameservers, nameservers per domain, aliases.

use std::{net::SocketAddr, sync::Arc};

use hickory_proto::op::Message;
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use crate::common::{
    CONFIG, House, Nameserver, Origin, POLICY, ask, decisions, flows, get, house_from, house_plus,
    nameserver,
};

/// Lets `plain.allowed.example`, which only a nameserver knows, be on loopback.
const PERMIT: &str = "[[network.permit_addresses]]\nhost = \"plain.allowed.example\"\n\
                      addresses = [\"127.0.0.1/32\"]\n";

/// A certificate for `dns.test`, its key, and the file that makes it trusted.
pub(crate) struct Identity {
    pub(crate) acceptor: TlsAcceptor,
    pub(crate) roots: tempfile::NamedTempFile,
}

impl Identity {
    pub(crate) fn new(protocol: Option<&[u8]>) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["dns.test".into()]).unwrap();
        let roots = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(roots.path(), made.cert.pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = protocol.map(<[u8]>::to_vec).into_iter().collect();
        Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            roots,
        }
    }

    /// The usual configuration with this nameserver instead of the usual one.
    fn house(&self, nameserver: &str) -> House {
        let config = CONFIG.replace("NAMESERVER", nameserver);
        let roots = format!(
            "[network]\nextra_roots = [\"{}\"]\n",
            self.roots.path().display()
        );
        house_from(&format!("{roots}{config}{PERMIT}"), POLICY)
    }
}

/// DNS over TLS (RFC 7858).
async fn dot(identity: &Identity) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = identity.acceptor.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            tokio::spawn(async move {
                while let Ok(length) = stream.read_u16().await {
                    let mut query = vec![0; length.into()];
                    stream.read_exact(&mut query).await.unwrap();
                    let answer = reply(&query);
                    stream
                        .write_u16(answer.len().try_into().unwrap())
                        .await
                        .unwrap();
                    stream.write_all(&answer).await.unwrap();
                    stream.flush().await.unwrap();
                }
            });
        }
    });
    address
}

/// DNS over HTTPS (RFC 8484).
async fn doh(identity: &Identity) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = identity.acceptor.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else {
                continue;
            };
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    assert_eq!(request.uri().path(), "/lookup");
                    tokio::spawn(async move {
                        let mut body = request.into_body();
                        let mut query = Vec::new();
                        while let Some(part) = body.data().await {
                            query.extend_from_slice(&part.unwrap());
                        }
                        let response = hyper::Response::builder()
                            .header("content-type", "application/dns-message")
                            .body(())
                            .unwrap();
                        let mut stream = respond.send_response(response, false).unwrap();
                        stream.send_data(reply(&query).into(), true).unwrap();
                    });
                }
            });
        }
    });
    address
}

fn reply(query: &[u8]) -> Vec<u8> {
    nameserver::answer(&Message::from_vec(query).unwrap())
        .to_vec()
        .unwrap()
}

#[tokio::test]
async fn a_nameserver_is_asked_over_tls_when_its_certificate_holds() {
    let identity = Identity::new(None);
    let (origin, address) = (Origin::start().await, dot(&identity).await);
    let request = get(&format!("plain.allowed.example:{}", origin.port()), "/");

    let trusted = identity.house(&format!("tls://{address}#dns.test"));
    assert_eq!(ask(trusted.http, &request).await.0, 200);
    trusted.end().await;

    // Another name than the certificate's: nobody is asked, and nothing else is tried.
    let other = identity.house(&format!("tls://{address}#other.test"));
    let (code, _, body) = ask(other.http, &request).await;
    assert_eq!(code, 502, "{body}");
    let records = other.end().await;
    assert_eq!(flows(&records)[0]["end"], "resolve_failed");
    assert_eq!(origin.reached(), 1);
}

#[tokio::test]
async fn a_nameserver_is_asked_over_https() {
    let identity = Identity::new(Some(b"h2"));
    let (origin, address) = (Origin::start().await, doh(&identity).await);
    let house = identity.house(&format!("https://{address}/lookup#dns.test"));
    let request = get(&format!("plain.allowed.example:{}", origin.port()), "/");
    let (code, _, body) = ask(house.http, &request).await;
    assert_eq!(code, 200, "{body}");
    house.end().await;
}

#[tokio::test]
async fn n11_a_domain_with_its_own_nameservers_is_asked_there_alone() {
    let own = Nameserver::start();
    let split = format!(
        "[[resolve.split]]\ndomain = \"plain.allowed.example\"\nnameservers = [\"{}\"]\n{PERMIT}",
        own.address
    );
    let (house, origin) = (house_plus(&split, ""), Origin::start().await);
    let to = |name: &str| get(&format!("{name}:{}", origin.port()), "/");
    assert_eq!(ask(house.http, &to("plain.allowed.example")).await.0, 200);
    assert!(house.nameserver.asked().is_empty());
    assert!(!own.asked().is_empty());
    // Below the domain too, and nowhere else when it is not known there.
    assert_eq!(ask(house.http, &to("x.plain.allowed.example")).await.0, 502);
    assert!(house.nameserver.asked().is_empty());
    // Others are asked as usual.
    let before = own.asked().len();
    assert_eq!(ask(house.http, &to("xplain.allowed.example")).await.0, 502);
    assert!(!house.nameserver.asked().is_empty());
    assert_eq!(own.asked().len(), before);
    house.end().await;
}

#[tokio::test]
async fn answers_are_kept_and_so_is_that_there_is_none() {
    let (house, origin) = (house_plus(PERMIT, ""), Origin::start().await);
    let to = |name: &str| get(&format!("{name}:{}", origin.port()), "/");
    for name in ["plain.allowed.example", "nowhere.allowed.example"] {
        ask(house.http, &to(name)).await;
        let asked = house.nameserver.asked().len();
        assert!(asked > 0);
        ask(house.http, &to(name)).await;
        assert_eq!(house.nameserver.asked().len(), asked, "{name}");
    }
    house.end().await;
    // With a cache of none everything is asked again.
    let config = CONFIG.replace("[resolve]\n", "[resolve]\ncache_entries = 0\n");
    let house = house_from(&format!("{config}{PERMIT}"), POLICY);
    ask(house.http, &to("plain.allowed.example")).await;
    let asked = house.nameserver.asked().len();
    ask(house.http, &to("plain.allowed.example")).await;
    assert!(house.nameserver.asked().len() > asked);
    house.end().await;
}

/// Lets `alias.allowed.example`, which leads to a tracker, be on loopback.
const ALIAS: &str = "[[network.permit_addresses]]\nhost = \"alias.allowed.example\"\n\
                     addresses = [\"127.0.0.1/32\"]\n";

const NO_TRACKERS: &str = "@id(\"no-trackers\") forbid (principal, action in Action::\"network\", \
     resource) when { context has names && context.names.contains(\"elsewhere.example\") };";

#[tokio::test]
async fn n09_names_that_an_allowed_name_leads_to_are_facts_for_policy() {
    let origin = Origin::start().await;
    let target = format!("alias.allowed.example:{}", origin.port());
    let connect = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n");
    for (rules, code) in [("", 200), (NO_TRACKERS, 403)] {
        let house = house_plus(ALIAS, rules);
        let before = origin.reached();
        let plain = get(&target, "/");
        assert_eq!(ask(house.http, &plain).await.0, code, "{rules}");
        assert_eq!(ask(house.http, connect.as_bytes()).await.0, code, "{rules}");
        assert_eq!(origin.reached() - before, if code == 200 { 2 } else { 0 });
        // A name that leads nowhere else is not affected.
        let other = get(&format!("allowed.example:{}", origin.port()), "/");
        assert_eq!(ask(house.http, &other).await.0, 200);
        let records = house.end().await;
        let denied = decisions(&records, "deny");
        assert_eq!(denied.len(), if code == 403 { 2 } else { 0 });
        for record in denied {
            assert!(record.to_string().contains("no-trackers"), "{record}");
        }
    }
}

#[tokio::test]
async fn n19_a_later_rule_about_names_ends_what_they_led_to() {
    let (house, origin) = (house_plus(ALIAS, ""), Origin::start().await);
    let name = b"alias.allowed.example";
    let (code, mut tunnel) = crate::common::socks_name(house.socks, name, origin.port()).await;
    assert_eq!(code, 0);
    assert_eq!(crate::common::get_through(&mut tunnel).await, 200);
    house.forbid_too(NO_TRACKERS);
    let mut rest = Vec::new();
    // Closed or reset, but over.
    let _reset = crate::common::bounded(tunnel.read_to_end(&mut rest)).await;
    let records = house.end().await;
    assert_eq!(flows(&records)[0]["end"], "revoked");
}
