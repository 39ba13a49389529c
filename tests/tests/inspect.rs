//! Requests inside TLS, decided one by one, by ordinary clients that nobody has configured: what
//! policy allows works, what it denies says why.

use cordon_tests::{
    Origin, Outcome, World, for_both,
    origin::{
        git,
        http::{Reply, Request},
    },
};

/// `open.test` is looked into: below `/public/` may be read, nothing else.
const INSPECT: &str = r#"
@id("look-inside") @inspect("tls")
permit (principal, action == Action::"connect", resource == Host::"open.test");
@id("read-public")
permit (principal, action == Action::"http_read", resource == Host::"open.test")
when { context.path like "/public/*" };
"#;

/// An HTTPS origin that is `open.test`, under [`INSPECT`].
fn inspected(world: &mut World) -> Origin {
    world.policy.rule(INSPECT);
    let authority = world.authority();
    let origin = Origin::https(&authority, "open.test", |_request: &Request| {
        Reply::ok("hello from open.test\n")
    });
    world.route("open.test", origin.address());
    origin
}

/// Runs the command that `client` makes of a URL against an allowed and a denied path of one host,
/// and returns what the denied run left.
#[track_caller]
fn both_paths(world: &mut World, client: fn(&str) -> Vec<String>) -> Outcome {
    let origin = inspected(world);
    let run = |path: &str| {
        let words = client(&format!("https://open.test:{}{path}", origin.port()));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        world.session(&words).run()
    };
    let allowed = run("/public/a");
    allowed.expect_code(0);
    assert!(allowed.text().contains("hello from open.test"), "{allowed}");
    let requests = origin.requests();
    assert_eq!(requests.len(), 1, "{allowed}");
    let via = requests.first().and_then(|request| request.header("via"));
    assert!(via.is_some_and(|via| via.ends_with("cordon")), "{via:?}");

    let denied = run("/private");
    assert!(!denied.text().contains("hello from"), "{denied}");
    assert_eq!(denied.reason("GET https://open.test"), "default_deny");
    assert_eq!(origin.requests().len(), 1, "{denied}");
    denied
}

fn words(command: &str, url: &str) -> Vec<String> {
    let mut words: Vec<String> = command.split(' ').map(str::to_owned).collect();
    words.push(url.to_owned());
    words
}

fn script(interpreter: &str, script: &str, url: &str) -> Vec<String> {
    let flag = if interpreter == "node" { "-e" } else { "-c" };
    [interpreter, flag, script, url].map(str::to_owned).to_vec()
}

for_both! {
    fn curl(world) {
        let denied = both_paths(world, |url| words("curl -sS", url));
        denied.expect_code(0);
        assert!(denied.text().contains("reason: default_deny"), "{denied}");
    }

    /// It offers HTTP/2 and takes what the origin has.
    fn curl_with_http2(world) {
        both_paths(world, |url| words("curl -sS --http2", url));
    }

    fn curl_through_the_capture(world) {
        both_paths(world, |url| words("curl -sS --noproxy *", url));
    }

    fn curl_over_socks(world) {
        both_paths(world, |url| words("curl -sS -x socks5h://127.0.0.1:1080", url));
    }

    fn wget(world) {
        both_paths(world, |url| words("wget -q -O -", url)).expect_code(8);
    }

    fn python_urllib(world) {
        let denied = both_paths(world, |url| script("/usr/bin/python3", PYTHON_URLLIB, url));
        denied.expect_code(1).expect_stderr("HTTP Error 403");
    }

    fn python_requests(world) {
        let denied = both_paths(world, |url| script("/usr/bin/python3", PYTHON_REQUESTS, url));
        denied.expect_code(1).expect_stderr("403");
    }

    fn node_fetch(world) {
        let denied = both_paths(world, |url| script("node", NODE_FETCH, url));
        denied.expect_code(1).expect_stderr("403");
        denied.expect_stderr("default_deny");
    }

    fn java_http_client(world) {
        world.project_file("Get.java", JAVA);
        let denied = both_paths(world, |url| words("java Get.java", url));
        denied.expect_code(1).expect_stderr("default_deny");
    }

    /// Without any client trusting anything else: its own session's authority is in no other.
    fn nothing_is_trusted_where_nothing_is_inspected(world) {
        let shown = ["sh", "-c", "ls /etc/cordon 2>/dev/null; echo \"${SSL_CERT_FILE-none}\""];
        world.session(&shown).run().expect_code(0).expect_stdout("none");
        let _origin = inspected(world);
        let outcome = world.session(&shown).run();
        outcome.expect_code(0);
        assert!(outcome.text().contains("/etc/cordon/ca-certificates.pem"), "{outcome}");
    }

    /// What git is answered is one permission and what it then sends another, on one connection.
    fn git_over_https(world) {
        let repository = git::bare_repository(world);
        let projects = repository.parent().map(std::path::Path::to_owned);
        let authority = world.authority();
        let origin = Origin::https(&authority, "open.test", move |request: &Request| {
            projects
                .as_deref()
                .map_or_else(|| Reply::status("500 No", ""), |p| git::answer(p, request))
        });
        world.route("open.test", origin.address());
        world.policy.rule(GIT);
        let url = format!("https://open.test:{}/project.git", origin.port());
        let command = "git clone -q \"$1\" /tmp/clone && cat /tmp/clone/README";
        let clone = |world: &World| world.session(&["sh", "-c", command, "sh", &url]).run();
        clone(world).expect_code(0).expect_stdout("hello");
        world.policy.rule(NO_FETCH);
        let denied = clone(world);
        denied.expect_code(128).expect_stderr("403");
        assert_eq!(denied.reason("POST https://open.test"), "rule", "{denied}");
        assert_eq!(denied.allowed("GET https://open.test"), 1, "{denied}");
    }

    /// N12: a name for the tunnel and another inside it.
    fn n12_a_fronted_request_reaches_nobody(world) {
        let origin = inspected(world);
        let url = format!("https://open.test:{}/public/a", origin.port());
        let fronted = world.session(&["curl", "-sS", "-H", "Host: hidden.test", &url]).run();
        fronted.expect_code(0);
        assert!(fronted.text().contains("names another host"), "{fronted}");
        assert!(origin.requests().is_empty(), "{fronted}");
        world.session(&["curl", "-sS", &url]).run().expect_stdout("hello from open.test");
    }

    /// N12, without a look inside: the name of the handshake is the name of the tunnel, by OpenSSL
    /// and by curl, through the proxy and past it.
    fn n12_a_handshake_that_names_another_host_reaches_nobody(world) {
        world.policy.allow("front.test");
        let authority = world.authority();
        let origin = Origin::https(&authority, "hidden.test", |_request: &Request| Reply::ok("secret"));
        world.route("front.test", origin.address());
        let port = origin.port().to_string();
        let target = format!("front.test:{port}");
        let openssl = |name: &str| {
            let command = "echo | openssl s_client -proxy 127.0.0.1:3128 -connect \"$1\" \
                           -servername \"$2\" 2>&1";
            world.session(&["sh", "-c", command, "sh", &target, name]).run()
        };
        let fronted = openssl("hidden.test");
        assert!(fronted.text().contains("alert access denied"), "{fronted}");
        assert_eq!(fronted.reason("front.test"), "tls_mismatch", "{fronted}");
        let honest = openssl("front.test");
        assert!(honest.text().contains("CN=") || honest.text().contains("Server certificate"), "{honest}");

        let connect_to = format!("hidden.test:{port}:front.test:{port}");
        let url = format!("https://hidden.test:{port}/");
        let fronted = world.session(&["curl", "-sS", "--noproxy", "*", "--connect-to", &connect_to, &url]).run();
        assert_ne!(fronted.code, 0, "{fronted}");
        assert_eq!(fronted.reason("front.test"), "tls_mismatch", "{fronted}");
        assert!(origin.requests().is_empty(), "{fronted}");
    }
}

/// All of HTTP, looked into.
const GIT: &str = r#"
@id("look-inside") @inspect("tls")
permit (principal, action == Action::"connect", resource == Host::"open.test");
@id("all-of-http")
permit (principal, action in Action::"http", resource == Host::"open.test");
"#;

/// Beside [`GIT`].
const NO_FETCH: &str = r#"
@id("no-fetch") @reason("nothing is fetched from here")
forbid (principal, action == Action::"http_write", resource == Host::"open.test")
when { context.path like "*/git-upload-pack" };
"#;

const PYTHON_URLLIB: &str =
    "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())";

const PYTHON_REQUESTS: &str = "import sys, requests
answer = requests.get(sys.argv[1])
answer.raise_for_status()
print(answer.text)";

const NODE_FETCH: &str = "fetch(process.argv[1]).then(async answer => {
  if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
  console.log((await answer.text()).trimEnd());
}).catch(error => { console.error(String(error), String(error.cause)); process.exit(1) })";

const JAVA: &str = r#"import java.net.URI;
import java.net.http.*;

class Get {
    public static void main(String[] words) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(words[0])).build();
        var answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
        if (answer.statusCode() != 200) {
            System.err.println(answer.statusCode() + " " + answer.body());
            System.exit(1);
        }
        System.out.print(answer.body());
    }
}
"#;
