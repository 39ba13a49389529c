//! HTTP clients of languages and their libraries: Go, Java, Python's aiohttp and httpx, axios.

use cordon_tests::{World, for_both};

use crate::{clients, fixture, over_http, over_https, words};

/// Python with the libraries; a session with grants is in the folder above them.
const PYTHON: &str = "mnt/clients/python/bin/python";

/// Both schemes with a client from `fixtures/clients`; what the denied runs said has `reason`.
#[track_caller]
fn over_both(
    world: &mut World,
    file: &str,
    client: fn(&str) -> Vec<String>,
    http: &str,
    https: &str,
) {
    if !clients() {
        return;
    }
    fixture(world, file);
    // Before the first session, because the daemon that it starts reads its configuration once.
    world.authority();
    let denied = over_http(world, client);
    assert_ne!(denied.code, 0, "{denied}");
    denied.expect_stderr(http);
    let denied = over_https(world, client);
    assert_ne!(denied.code, 0, "{denied}");
    denied.expect_stderr(https);
}

for_both! {
    /// Go's own client reads the proxy variables; the reason is in the body.
    fn go(world) {
        over_both(world, "client.go", |url| words("mnt/clients/go-client", url), "default_deny", "Forbidden");
    }

    /// Java's client reads none of them, so it is captured. The first run of each is the slow one:
    /// it is compiled.
    fn java(world) {
        let java = |url: &str| words("java -XX:TieredStopAtLevel=1 mnt/project/Client.java", url);
        over_both(world, "Client.java", java, "default_deny", "access_denied");
    }

    fn python_aiohttp(world) {
        let client = |url: &str| words(&format!("{PYTHON} mnt/project/fetch_aiohttp.py"), url);
        over_both(world, "fetch_aiohttp.py", client, "default_deny", "ALERT_ACCESS_DENIED");
    }

    fn python_httpx(world) {
        let client = |url: &str| words(&format!("{PYTHON} mnt/project/fetch_httpx.py"), url);
        over_both(world, "fetch_httpx.py", client, "default_deny", "403");
    }

    fn node_axios(world) {
        let client = |url: &str| words("node mnt/project/axios.js", url);
        over_both(world, "axios.js", client, "default_deny", "403");
    }
}
