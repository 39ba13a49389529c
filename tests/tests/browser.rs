//! The browser of a session: nothing opens before it is on, each page and action is a decision, and a
//! real Chromium beside the sandbox goes out through the session and in no other way.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

use std::{
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use cordon_tests::{
    Origin, World,
    api::{curl, end, hosted, kill_daemon, only_session, send},
    chromium::{Chromium, SHELL, WHOLE},
    for_both,
    origin::http::Reply,
};
use serde_json::{Value, json};

for_both! {
    /// Off until policy lets it be switched on; then each origin and each action is decided, by every
    /// way in, recorded, and in the session's summary. Off is off at once.
    fn p03_a_browser_is_switched_on_and_every_action_decided(world) {
        world.policy.rule(RULES);
        let running = world.session(&["sleep", "600"]).start();
        let id = only_session(world);
        let open = |url: &str| asked(world, &id, "navigations", json!({"url": url}));
        let act = |url: &str, kind: &str| asked(world, &id, "actions", json!({"url": url, "kind": kind}));
        let words = |words: &[&str]| {
            world.cordon(&[&["decide", "--session", &id], words].concat()).code
        };
        let authzen = |action: &str, origin: &str| {
            let question = json!({
                "subject": {"type": "Session", "id": id},
                "action": {"name": action, "properties": {"kind": "click"}},
                "resource": {"type": "Origin", "id": origin},
            });
            send(world, "POST", "/access/v1/evaluation", &question.to_string()).1["decision"].clone()
        };
        let off = open("https://open.test/");
        assert_eq!((off["allowed"].clone(), off["code"].clone()), (json!(false), json!("default_deny")), "{off}");
        assert!(off["reason"].as_str().unwrap().contains("not on"), "{off}");
        assert!(off["decision_id"].is_string(), "{off}");
        assert!(off["allow_with"].is_null(), "no rule switches it on: {off}");
        assert_eq!(words(&["open", "https://open.test"]), 3);
        assert_eq!(authzen("open", "https://open.test"), false);
        world.cordon(&["session", "browser", &id]).expect_code(0).expect_told("browser off");
        world.cordon(&["session", "browser", &id, "pac"]).expect_code(1);
        world.cordon(&["session", "browser", &id, "enable"]).expect_code(0).expect_told("browser on");
        for (url, allowed) in [
            ("https://open.test/x?y", true),
            ("https://www.open.test", true),
            ("http://open.test", false),
            ("https://shut.test/", false),
        ] {
            assert_eq!(open(url)["allowed"], allowed, "{url}");
        }
        assert_eq!(words(&["open", "https://open.test"]), 0);
        assert_eq!(authzen("open", "https://open.test"), true);
        for (kind, allowed) in [
            ("click", true), ("type", true), ("submit", true),
            ("upload", false), ("download", false), ("script", false),
        ] {
            let told = act("https://open.test/form", kind);
            assert_eq!(told["allowed"], allowed, "{kind}: {told}");
        }
        assert_eq!(authzen("act", "https://open.test"), true);
        for url in ["file:///etc/passwd", "javascript:1", "https://open.test\\@shut.test/"] {
            let (code, problem) = post(world, &id, "navigations", json!({"url": url}));
            assert_eq!(code, 400, "{url}: {problem}");
        }
        assert_eq!(post(world, &id, "actions", json!({"url": "https://open.test", "kind": "x"})).0, 400);
        assert_eq!(post(world, &id, "navigations", json!({"url": "https://open.test", "x": 1})).0, 400);
        world.cordon(&["session", "browser", &id, "disable"]).expect_code(0);
        assert_eq!(open("https://open.test/")["allowed"], false);
        let records = world.records(&id);
        let about = |action: &str, effect: &str| {
            let is = |one: &&Value| one["action"] == action && one["effect"] == effect;
            records.iter().filter(is).count()
        };
        assert_eq!(about("browser.enable", "allow"), 1);
        assert_eq!(about("browser.open", "allow"), 4);
        assert_eq!(about("browser.act", "allow"), 4);
        assert_eq!(about("browser.act", "deny"), 3);
        assert!(records.iter().any(|one| one["message"] == "browser switched off"));
        world.cordon(&["session", "end", &id]).expect_code(0);
        let ended = running.finish();
        assert_eq!(ended.allowed("open https://open.test"), 3);
        assert_eq!(ended.denied("upload in https://open.test"), 1);
    }

    /// A look records nothing and says what the decision would say; what no connection could reach is
    /// refused as a page too, and no rule is offered that could not help.
    fn p03_a_look_at_a_page_and_what_no_page_can_be(world) {
        let anywhere = "permit (principal, action == Action::\"open\", resource) when { resource.scheme == \"http\" };";
        let rules = world.write("home/browser.cedar", format!("{RULES}{anywhere}"));
        let id = hosted(world, &[rules.to_str().unwrap()]);
        let settings = enabled(world, &id);
        let recorded = || world.records(&id).len();
        let before = recorded();
        let look = |url: &str| asked(world, &id, "navigations", json!({"url": url, "look": true}));
        let (allowed, denied) = (look("https://open.test/x"), look("https://shut.test/"));
        assert_eq!((&allowed["allowed"], &denied["allowed"]), (&json!(true), &json!(false)));
        assert!(allowed["decision_id"].is_null(), "{allowed}");
        let click = json!({"url": "https://open.test/x", "kind": "click", "look": true});
        assert_eq!(asked(world, &id, "actions", click)["allowed"], true);
        assert_eq!(post(world, &id, "navigations", json!({"url": "file:///x", "look": true})).0, 400);
        assert_eq!(recorded(), before);
        let open = |url: &str| asked(world, &id, "navigations", json!({"url": url}));
        let (own, _password) = of_proxy(&settings);
        for url in [own.as_str(), "http://10.0.0.1/", "http://[::1]:80/"] {
            for told in [look(url), open(url)] {
                assert_eq!((&told["allowed"], &told["code"]), (&json!(false), &json!("address_not_permitted")), "{told}");
                assert!(told["allow_with"].is_null(), "{told}");
            }
        }
        // The controls: another address, a name, and a page that a rule would allow.
        assert_eq!(open("http://93.184.216.34/")["allowed"], true);
        assert_eq!(open("http://any.test/")["allowed"], true);
        assert!(open("https://shut.test/")["allow_with"].is_string());
        end(world, &id);
    }

    /// After the daemon was killed the browser is off, and says why until somebody switches it.
    fn a_browser_that_was_on_when_the_daemon_was_killed_says_why_it_is_off(world) {
        let rules = world.write("home/browser.cedar", RULES);
        let id = hosted(world, &[rules.to_str().unwrap()]);
        let other = hosted(world, &[rules.to_str().unwrap()]);
        enabled(world, &id);
        let restart = || {
            kill_daemon(world);
            world.session(&["true"]).run().expect_code(0);
        };
        let view = |id: &str| curl(world, &format!("/v1/sessions/{id}/browser"), &[]).1;
        let open = || asked(world, &id, "navigations", json!({"url": "https://open.test/"}));
        for _again in 0..2 {
            restart();
            let shown = view(&id);
            assert_eq!(shown["enabled"], false);
            assert!(shown["off_because"].as_str().unwrap().contains("started again"), "{shown}");
            let told = open();
            assert_eq!(told["allowed"], false);
            assert!(told["reason"].as_str().unwrap().contains("started again"), "{told}");
            world.cordon(&["session", "show", &id]).expect_code(0).expect_told("started again");
        }
        assert_eq!(view(&other), json!({"enabled": false}), "it was never on");
        enabled(world, &id);
        assert_eq!(open()["allowed"], true);
        // Switched off by a person it is off by that, also after the next restart.
        world.cordon(&["session", "browser", &id, "disable"]).expect_code(0);
        restart();
        assert_eq!(view(&id), json!({"enabled": false}));
        end(world, &id);
        end(world, &other);
    }

    /// Without a rule for it nothing is switched on, and nothing listens.
    fn p03_a_browser_that_policy_does_not_allow_stays_off(world) {
        let _running = world.session(&["sleep", "600"]).start();
        let id = only_session(world);
        world.cordon(&["session", "browser", &id, "enable"]).expect_code(3);
        let (_, shown) = curl(world, &format!("/v1/sessions/{id}/browser"), &[]);
        assert_eq!(shown, json!({"enabled": false}));
        world.cordon(&["session", "browser", "no-such-session"]).expect_code(64);
        world.cordon(&["session", "end", &id]).expect_code(0);
    }

    /// A Chromium that a runtime starts beside the sandbox: allowed pages load, a denied one says
    /// why, and nothing else leaves, whatever a page tries.
    fn n26_a_browser_beside_the_sandbox_goes_out_through_the_session_alone(world) {
        let open = page_origin(world, "open.test");
        world.policy.allow("open.test");
        world.policy.rule(RULES);
        let shut = world.origin("shut.test");
        let decoy = Origin::http(|_request| Reply::ok("decoy"));
        let (stun, datagrams) = count_datagrams();
        let running = world.session(&["sleep", "600"]).start();
        let id = only_session(world);
        let settings = enabled(world, &id);
        let (server, secret) = of_proxy(&settings);
        let options: Vec<String> = settings["chromium"].as_array().unwrap().iter()
            .map(|option| option.as_str().unwrap().to_owned()).collect();
        let mut browser = Chromium::start(world, SHELL, &options, Some(("browser", &secret)));
        let text = browser.open(&open.url("open.test", "/"));
        assert!(text.contains("hello from open.test"), "{text}");
        let reached = open.requests().len();
        assert!(reached >= 1);
        // What a page fetches is decided like the page: by name, by address, and this very machine.
        for url in [
            shut.url("shut.test", "/"), decoy.url("127.0.0.1", "/"), decoy.url("localhost", "/"),
            format!("{server}/"),
        ] {
            let script = format!("fetch('{url}', {{mode: 'no-cors'}}).then(r => 'status ' + r.status + r.type, e => 'failed')");
            browser.evaluate(&script);
        }
        browser.evaluate(&rtc(&stun));
        browser.evaluate("const hint = document.createElement('link'); hint.rel = 'dns-prefetch'; \
            hint.href = 'https://prefetched.test/'; document.head.append(hint); 'done'");
        let refused = browser.open(&shut.url("shut.test", "/"));
        assert!(refused.contains("reason: default_deny"), "{refused}");
        // Over https the browser shows its own page, as for every proxy; the record has the reason.
        let refused = browser.open(&format!("https://shut.test:{}/", shut.port()));
        assert!(refused.contains("ERR_TUNNEL_CONNECTION_FAILED"), "{refused}");
        assert_eq!((shut.connections(), decoy.connections()), (0, 0));
        assert_eq!(datagrams.load(Ordering::SeqCst), 0);
        // The control: the same page in a browser without these options reaches the decoys.
        let mut free = Chromium::start(world, SHELL, &[], None);
        free.open(&decoy.url("127.0.0.1", "/"));
        assert!(decoy.connections() >= 1);
        free.evaluate(&rtc(&stun));
        assert!(datagrams.load(Ordering::SeqCst) > 0);
        drop(free);
        // The proxy is nobody's destination, also where its address is permitted.
        let records = world.records(&id);
        let refusals = |what: &str| {
            let is = |one: &&Value| one["effect"] == "deny" && one.to_string().contains(what);
            records.iter().filter(is).count()
        };
        assert!(refusals("shut.test") >= 2, "{records:?}");
        assert!(refusals("127.0.0.1") >= 2, "{records:?}");
        // Off: what the browser holds leads nowhere.
        world.cordon(&["session", "browser", &id, "disable"]).expect_code(0);
        let before = open.requests().len();
        let text = browser.open(&open.url("open.test", "/again"));
        assert!(text.contains("ERR_"), "{text}");
        assert_eq!(open.requests().len(), before);
        world.cordon(&["session", "end", &id]).expect_code(0);
        assert!(running.finish().allowed("GET http://open.test") > 0);
    }

    /// The same by a file for automatic configuration, inside TLS that policy inspects, for a session
    /// that a runtime holds; without the password nobody goes out, and no session reaches the port.
    fn n26_the_sessions_proxy_for_a_browser_asks_for_its_password(world) {
        let open = page_origin(world, "open.test");
        world.policy.allow("open.test");
        world.policy.rule(RULES);
        world.policy.rule(UNWALLED);
        let session = json!({"program": "app", "policy": [world.policy_folder()]});
        let (code, session) = curl(world, "/v1/sessions", &["-d", &session.to_string()]);
        assert_eq!(code, 201, "{session}");
        let id = session["id"].as_str().unwrap().to_owned();
        let settings = enabled(world, &id);
        let (server, secret) = of_proxy(&settings);
        assert!(settings["ca_certificate"].as_str().unwrap().contains("BEGIN CERTIFICATE"));
        let pac = world.cordon(&["session", "browser", &id, "pac"]);
        pac.expect_code(0).expect_told("FindProxyForURL");
        assert!(!pac.text().contains("DIRECT") && !pac.text().contains(&secret));
        let options = [format!("--proxy-pac-url=data:application/x-ns-proxy-autoconfig,{}", escaped(&pac.text()))];
        let url = open.url("open.test", "/");
        let mut wrong = Chromium::start(world, WHOLE, &options, Some(("browser", "0000")));
        let text = wrong.open(&url);
        assert!(!text.contains("hello from"), "{text}");
        drop(wrong);
        assert_eq!(open.connections(), 0);
        let mut browser = Chromium::start(world, WHOLE, &options, Some(("browser", &secret)));
        let text = browser.open(&url);
        assert!(text.contains("hello from open.test"), "{text}");
        drop(browser);
        // A session with walls, whose policy allows everything, does not reach it.
        world.policy.rule("permit (principal, action, resource);");
        let code = world.session(&["curl", "-s", "--max-time", "10", "-o", "/dev/null", "-w", "%{http_code}",
            "--proxy-user", &format!("browser:{secret}"), "-x", &server, &url]).run();
        assert!(!code.text().contains("200"), "{code}");
        let (code, _) = curl(world, &format!("/v1/sessions/{id}"), &["-X", "DELETE"]);
        assert_eq!(code, 204);
        let gone = world.as_account("curl").args(["-s", "--max-time", "10", "-x", &server, &url]).status().unwrap();
        assert_eq!(gone.code(), Some(7));
    }
}

const RULES: &str = r#"
permit (principal, action == Action::"enable_browser", resource);
@id("site") permit (principal, action in Action::"browser", resource in Domain::"open.test")
when { resource.scheme == "https" };
@id("no-files") forbid (principal, action == Action::"act", resource)
when { ["upload", "download", "script"].contains(context.kind) };
"#;

const UNWALLED: &str = r#"permit (principal, action == Action::"run_without_sandbox", resource);"#;

fn page_origin(world: &mut World, name: &str) -> Origin {
    let text = format!("<html><body>hello from {name}</body></html>");
    let html = Reply {
        headers: vec!["content-type: text/html".into()],
        ..Reply::ok(text)
    };
    let origin = Origin::http(move |_request| html.clone());
    world.route(name, origin.address());
    origin
}

fn post(world: &World, id: &str, what: &str, body: Value) -> (u16, Value) {
    let path = format!("/v1/sessions/{id}/browser/{what}");
    send(world, "POST", &path, &body.to_string())
}

#[track_caller]
fn asked(world: &World, id: &str, what: &str, body: Value) -> Value {
    let (code, told) = post(world, id, what, body);
    assert_eq!(code, 200, "{told}");
    told
}

/// Switches it on; what it is started with.
fn enabled(world: &World, id: &str) -> Value {
    let (code, told) = send(world, "PUT", &format!("/v1/sessions/{id}/browser"), "{}");
    assert_eq!(
        (code, told["allowed"].clone()),
        (200, json!(true)),
        "{told}"
    );
    told["browser"].clone()
}

fn of_proxy(settings: &Value) -> (String, String) {
    let of = |name: &str| settings["proxy"][name].as_str().unwrap().to_owned();
    (of("server"), of("password"))
}

/// A socket that counts what comes, as a server that browsers ask for their address.
fn count_datagrams() -> (String, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        let mut bytes = [0; 2048];
        while socket.recv(&mut bytes).is_ok() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    (address, count)
}

/// A page that looks for ways to others by UDP, until the browser has tried all.
fn rtc(stun: &str) -> String {
    format!(
        "new Promise(done => {{ const c = new RTCPeerConnection({{iceServers: [{{urls: 'stun:{stun}'}}]}}); \
         c.createDataChannel('x'); \
         c.onicegatheringstatechange = () => c.iceGatheringState === 'complete' && done('complete'); \
         c.createOffer().then(o => c.setLocalDescription(o)); }})"
    )
}

/// As a part of a URL.
fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
