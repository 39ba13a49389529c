//! Clients of the web that everybody has: curl, wget, Python, Node; and a program that knows none.

use cordon_tests::{for_both, origin::raw::Echo};

use crate::{over_http, over_https, script, words};

for_both! {
    /// The refusal carries its reason in the body.
    fn curl_over_http(world) {
        let denied = over_http(world, |url| words("curl -sS", url));
        denied.expect_code(0);
        assert!(denied.text().contains("default_deny"), "{denied}");
    }

    /// curl reports the refused tunnel with the proxy's status.
    fn curl_over_https(world) {
        let denied = over_https(world, |url| words("curl -sS", url));
        denied.expect_code(56).expect_stderr("403");
    }

    /// Captured, and refused in HTTP all the same.
    fn curl_over_http_without_proxy(world) {
        let denied = over_http(world, |url| words("curl -sS --noproxy *", url));
        denied.expect_code(0);
        assert!(denied.text().contains("default_deny"), "{denied}");
    }

    /// Captured, and refused by a TLS alert.
    fn curl_over_https_without_proxy(world) {
        let denied = over_https(world, |url| words("curl -sS --noproxy *", url));
        denied.expect_code(35);
    }

    /// By SOCKS, with the name left to the proxy.
    fn curl_over_socks(world) {
        let denied = over_http(world, |url| {
            words("curl -sS -x socks5h://127.0.0.1:1080", url)
        });
        denied.expect_code(97);
    }

    /// wget's code for an answer of 400 and above is 8.
    fn wget_over_http(world) {
        over_http(world, |url| words("wget -q -O -", url)).expect_code(8);
    }

    fn wget_over_https(world) {
        let denied = over_https(world, |url| words("wget -nv -O -", url));
        assert_ne!(denied.code, 0, "{denied}");
        denied.expect_stderr("Denied by cordon: default_deny");
    }

    fn wget_without_proxy(world) {
        over_http(world, |url| words("wget -q -O - --no-proxy", url)).expect_code(8);
    }

    fn python_urllib(world) {
        let denied = over_http(world, |url| script("/usr/bin/python3", PYTHON_URLLIB, url));
        denied.expect_code(1).expect_stderr("HTTP Error 403: Denied by cordon: default_deny");
    }

    fn python_urllib_over_https(world) {
        let denied = over_https(world, |url| script("/usr/bin/python3", PYTHON_URLLIB, url));
        denied.expect_code(1).expect_stderr("403 Denied by cordon: default_deny");
    }

    fn python_requests(world) {
        let denied = over_http(world, |url| {
            script("/usr/bin/python3", PYTHON_REQUESTS, url)
        });
        denied.expect_code(1).expect_stderr("default_deny");
    }

    fn python_requests_over_https(world) {
        let denied = over_https(world, |url| {
            script("/usr/bin/python3", PYTHON_REQUESTS, url)
        });
        denied.expect_code(1).expect_stderr("default_deny");
    }

    /// Node's fetch knows no proxy by itself: this is the capture.
    fn node_fetch(world) {
        let denied = over_http(world, |url| script("node", NODE_FETCH, url));
        denied.expect_code(1).expect_stderr("403");
    }

    fn node_fetch_over_https(world) {
        let denied = over_https(world, |url| script("node", NODE_FETCH, url));
        denied.expect_code(1).expect_stderr("fetch failed");
    }

    /// A program that opens sockets and asks nobody is decided by name all the same.
    fn a_program_that_knows_no_proxy(world) {
        let open = Echo::start("good day\n");
        let shut = Echo::start("good day\n");
        world.route("open.test", open.address());
        world.route("shut.test", shut.address());
        world.policy.allow("open.test");
        cordon_tests::fixtures::probe(world);
        let connect = |name: &str, port: u16| {
            world
                .session(&[
                    "/usr/bin/python3",
                    "probe.py",
                    "tcp",
                    name,
                    &port.to_string(),
                ])
                .run()
        };
        let allowed = connect("open.test", open.port());
        allowed.expect_code(0).expect_stdout("connected good day");
        allowed.expect_allowed(&format!("open.test:{}", open.port()));
        let denied = connect("shut.test", shut.port());
        assert_ne!(denied.text(), "connected good day", "{denied}");
        denied.expect_denied(&format!("shut.test:{}", shut.port()), "default_deny");
        assert_eq!((open.connections(), shut.connections()), (1, 0));
    }
}

pub(crate) const PYTHON_URLLIB: &str =
    "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())";

pub(crate) const PYTHON_REQUESTS: &str = "import sys, requests
answer = requests.get(sys.argv[1])
answer.raise_for_status()
print(answer.text)";

pub(crate) const NODE_FETCH: &str = "fetch(process.argv[1]).then(async answer => {
  if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
  console.log((await answer.text()).trimEnd());
}).catch(error => { console.error(String(error), String(error.cause)); process.exit(1) })";
