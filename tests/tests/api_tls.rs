//! The decision API over TLS, and the bounds that hold for its socket too: who is slow, who never
//! says who they are, who holds too much, and certificates that are good no more.

use std::{
    fs,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use cordon_tests::{
    Authority, World,
    api::{Remote, end, hosted},
    for_both,
    link::{Link, is_closed, tcp},
    process::eventually,
};
use serde_json::json;

/// Whose token is `secret`, or `other`.
const CALLERS: &str = "\
    [[api.callers]]\nname = \"bob\"\ntoken_sha256 = \"2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\"\n\
[[api.callers]]\nname = \"eve\"\ntoken_sha256 = \"d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa\"\n";

const BOB: &[&str] = &["authorization: Bearer secret"];
const EVE: &[&str] = &["authorization: Bearer other"];

/// What everybody who is known may see.
const OPEN: &str = "/v1/approvals";

for_both! {
    /// A head and a body have to be there in time, however steadily they come, and an answer has to
    /// be taken; over the socket and over TLS.
    fn who_is_slow_is_let_go(world) {
        let limits = "[api.limits]\nhead_seconds = 1\nbody_seconds = 1\nanswer_seconds = 2\n";
        let remote = Remote::configured(world, "", &format!("{CALLERS}{limits}"));
        let id = hosted(world, &[]);
        let ca = fs::read_to_string(remote.ca()).unwrap();
        let both: [&dyn Fn() -> Link; 2] = [&|| Link::unix(world), &|| Link::tls(remote.port(), &ca, None).unwrap()];
        for open in both {
            let begun = Instant::now();
            let mut link = open();
            link.send("GET /v1/approvals HTTP/1.1\r\nhost: localhost\r\n").unwrap();
            assert_eq!(link.rest(), b"", "a head that does not end");
            let took = begun.elapsed();
            assert!(took >= Duration::from_secs(1), "{took:?}");

            let head = format!("POST {OPEN}/x HTTP/1.1\r\nhost: localhost\r\n{}\r\ncontent-length: 1000\r\n\r\n", BOB[0]);
            let mut link = open();
            link.send(format!("{head}{{")).unwrap();
            let said = link.answer().unwrap();
            assert_eq!((said.status, &said.json()["type"]), (408, &json!("urn:cordon:problem:too-slow")));
            assert!(said.head.contains("connection: close"), "{}", said.head);
            assert_eq!(link.rest(), b"", "and it closes");
            let mut link = open();
            link.send(head).unwrap();
            let steady = (0..100).take_while(|_| {
                thread::sleep(Duration::from_millis(50));
                link.send(" ").is_ok()
            });
            assert!(steady.count() < 100, "steady is not fast");

            let asked = "GET /v1/openapi.json HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer secret\r\n\r\n".repeat(200);
            let mut link = open();
            link.send(&asked).unwrap();
            thread::sleep(Duration::from_secs(4));
            let length = link.answer().unwrap().body.len();
            assert!(link.rest().len() < 198 * length, "who took nothing for so long gets no more");
            // The controls: who takes it gets all of it, in time for each part.
            let mut link = open();
            link.send(&asked).unwrap();
            for n in 0..200 {
                if n % 60 == 59 {
                    thread::sleep(Duration::from_secs(1));
                }
                assert_eq!(link.answer().unwrap().body.len(), length);
            }
            let mut link = open();
            assert_eq!(link.call("POST", &format!("{OPEN}/x"), BOB, "{\"answer\": \"deny\"}").unwrap().status, 404);
        }
        // A stream of events that is not read ends too.
        let mut link = Link::unix(world);
        let several = json!({
            "subject": {"type": "Session", "id": id}, "action": {"name": "connect"}, "context": {"port": 443},
            "evaluations": (0..50).map(|n| json!({"resource": {"type": "Host", "id": format!("{n}.test")}})).collect::<Vec<_>>(),
        });
        for _ in 0..16 {
            assert_eq!(link.call("POST", "/access/v1/evaluations", &[], &several.to_string()).unwrap().status, 200);
        }
        let stream = format!("GET /v1/sessions/{id}/events HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\nlast-event-id: 0\r\n\r\n");
        let mut link = Link::unix(world);
        link.send(&stream).unwrap();
        thread::sleep(Duration::from_secs(4));
        let events = |bytes: &[u8]| String::from_utf8_lossy(bytes).matches("event: decision").count();
        let took = events(&link.rest());
        assert!((1..800).contains(&took), "{took}");
        let mut link = Link::unix(world);
        link.send(&stream).unwrap();
        end(world, &id);
        assert!(events(&link.rest()) >= 800, "the control ends with the session");
    }

    /// Those who never say who they are take places from each other alone.
    fn strangers_keep_nobody_out(world) {
        let remote = Remote::configured(world, "", CALLERS);
        let id = hosted(world, &[]);
        let ca = fs::read_to_string(remote.ca()).unwrap();
        let known = || Link::tls(remote.port(), &ca, None).unwrap();
        let mut kept = known();
        assert_eq!(kept.call("GET", OPEN, BOB, "").unwrap().status, 200);
        let mut silent: Vec<TcpStream> = Vec::new();
        let mut agreed: Vec<Link> = Vec::new();
        for _ in 0..3 {
            silent.extend((0..50).map(|_| tcp(remote.port())));
            agreed.extend((0..50).map(|_| known()));
            assert_eq!(known().call("GET", OPEN, BOB, "").unwrap().status, 200, "a new connection");
            assert_eq!(kept.call("GET", OPEN, BOB, "").unwrap().status, 200, "and one that is known");
        }
        eventually("the oldest are put out", || silent[..100].iter_mut().all(is_closed));
        let mut newest = agreed.pop().unwrap();
        assert_eq!(newest.call("GET", OPEN, EVE, "").unwrap().status, 200, "the newest has its place");
        assert!(agreed[0].call("GET", OPEN, EVE, "").is_err());
        // To be told that one is not known is not to be known.
        let mut wrong = known();
        assert_eq!(wrong.call("GET", OPEN, &["authorization: Bearer wrong"], "").unwrap().status, 401);
        let _more: Vec<Link> = (0..64).map(|_| known()).collect();
        assert!(wrong.call("GET", OPEN, EVE, "").is_err(), "it was the oldest");
        end(world, &id);
    }

    /// One caller has so many connections, and takes none of another's.
    fn a_caller_has_so_many_connections(world) {
        let remote = Remote::configured(world, "", &format!("{CALLERS}[api.limits]\nconnections_per_caller = 2\n"));
        let id = hosted(world, &[]);
        let ca = fs::read_to_string(remote.ca()).unwrap();
        let open = || Link::tls(remote.port(), &ca, None).unwrap();
        let [mut first, mut second, mut third] = [(); 3].map(|()| open());
        for link in [&mut first, &mut second] {
            assert_eq!(link.call("GET", OPEN, BOB, "").unwrap().status, 200);
        }
        let said = third.call("GET", OPEN, BOB, "").unwrap();
        assert_eq!((said.status, &said.json()["type"]), (503, &json!("urn:cordon:problem:busy")));
        assert_eq!(third.rest(), b"", "and it closes");
        assert_eq!(open().call("GET", OPEN, EVE, "").unwrap().status, 200);
        drop(first);
        eventually("a place is free again", || open().call("GET", OPEN, BOB, "").unwrap().status == 200);
        end(world, &id);
    }

    /// A certificate is taken as long as its authority stands by it, and that is looked at again.
    fn p06_a_certificate_that_is_revoked_is_refused(world) {
        let authority = world.authority();
        let clients = world.write("config/clients.pem", authority.certificate());
        let list = world.write("config/clients.crl", authority.revocation_list(&[2], 2999));
        let more = format!("client_ca = {clients:?}\ncrl = [{list:?}]");
        let callers = "[[api.callers]]\nname = \"bob\"\ncertificate = \"bob.test\"\n";
        let remote = Remote::configured(world, &more, callers);
        let id = hosted(world, &[]);
        let ca = fs::read_to_string(remote.ca()).unwrap();
        let shows = |shown: Option<&(String, String)>| {
            let shown = shown.map(|(key, certificate)| (certificate.as_str(), key.as_str()));
            let said = Link::tls(remote.port(), &ca, shown).and_then(|mut link| link.call("GET", OPEN, &[], ""));
            said.ok().map(|said| said.status)
        };
        let [good, revoked] = [1, 2].map(|number| authority.client_pem("bob.test", number, 2999));
        let unnamed = authority.client_pem("eve.test", 3, 2999);
        let expired = authority.client_pem("bob.test", 4, 2021);
        let other = Authority::new().client_pem("bob.test", 1, 2999);
        for (what, shown, expected) in [
            ("good", Some(&good), Some(200)),
            ("revoked", Some(&revoked), None),
            ("of nobody who is named", Some(&unnamed), Some(401)),
            ("expired", Some(&expired), None),
            ("of another authority", Some(&other), None),
            ("none", None, None),
        ] {
            assert_eq!(shows(shown), expected, "{what}");
        }
        // The list changes: for those who come, and for those who are there.
        let mut kept = Link::tls(remote.port(), &ca, Some((&good.1, &good.0))).unwrap();
        assert_eq!(kept.call("GET", OPEN, &[], "").unwrap().status, 200);
        world.write("config/clients.crl", authority.revocation_list(&[1], 2999));
        eventually("the new list counts", || shows(Some(&revoked)) == Some(200));
        assert_eq!(shows(Some(&good)), None);
        assert!(kept.call("GET", OPEN, &[], "").is_err(), "what was there has ended");
        // What cannot be read leaves it as it was; what is out of date refuses everybody.
        world.write("config/clients.crl", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n");
        eventually("it is told", || told(world, "those of before stay"));
        assert_eq!((shows(Some(&good)), shows(Some(&revoked))), (None, Some(200)));
        world.write("config/clients.crl", authority.revocation_list(&[], 2022));
        eventually("a list that is out of date counts", || shows(Some(&revoked)).is_none());
        world.write("config/clients.crl", authority.revocation_list(&[], 2999));
        eventually("the control", || shows(Some(&good)) == Some(200));
        end(world, &id);
    }
}

/// Whether the daemon has said so.
fn told(world: &World, words: &str) -> bool {
    let log = fs::read_to_string(world.state().join("daemon.log"));
    log.unwrap_or_default().contains(words)
}
